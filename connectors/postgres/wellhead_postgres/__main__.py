"""The image's entry point."""

from wellhead_postgres.connector import Postgres
from wellhead_sdk import serve

serve(Postgres)
