"""The container's entry point."""

from __future__ import annotations

from wellhead_generator.connector import Generator
from wellhead_sdk import serve

if __name__ == "__main__":
    serve(Generator)
