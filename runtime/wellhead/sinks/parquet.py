"""A sink of Parquet files; `parquet_file` writes them, and is imported with the first."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from wellhead.sinks.segments import Folder

if TYPE_CHECKING:
    import pyarrow as pa

    from wellhead.sinks.parquet_file import Encoder


class Parquet(Folder):
    """A folder of Parquet files; its tables are read by globbing ``*.parquet``."""

    suffix = ".parquet"

    def encoder(self, path: Path, schema: pa.Schema) -> Encoder:
        """Open a Parquet file."""
        from wellhead.sinks.parquet_file import Encoder

        return Encoder(path, schema)
