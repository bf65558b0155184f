"""The image's entry point."""

from wellhead_http_json.connector import HttpJsonConnector
from wellhead_sdk import serve

serve(HttpJsonConnector)
