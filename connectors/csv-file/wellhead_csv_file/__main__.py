"""The image's entry point."""

from wellhead_csv_file.connector import CsvFileConnector
from wellhead_sdk import serve

serve(CsvFileConnector)
