"""What one would write without Wellhead: one process, bounded memory, no envelope, no commit, no fence."""

from __future__ import annotations

import time
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pa_parquet
from adbc_driver_postgresql import dbapi

from bench.harness.compare import Sample

BLOCK_BYTES = 4 * 1024 * 1024


def csv_to_parquet(source: Path, target: Path, types: dict[str, pa.DataType] | None = None) -> Sample:
    """Stream a CSV file into Parquet with pyarrow: `open_csv` parses ahead in threads, `ParquetWriter` writes zstd-1.

    Args:
        source: the file, with a header.
        target: what is written.
        types: column types; what the first block suggests unless given.
    """
    began = time.perf_counter()
    reader = pa_csv.open_csv(
        source,
        read_options=pa_csv.ReadOptions(block_size=BLOCK_BYTES),
        convert_options=pa_csv.ConvertOptions(column_types=types or {}),
    )
    rows = _write(reader, target)
    return Sample(time.perf_counter() - began, rows)


def postgres_to_parquet(uri: str, query: str, target: Path) -> Sample:
    """Stream a query's result into Parquet with ADBC, which decodes binary COPY; connecting is not timed."""
    with dbapi.connect(uri) as connection, connection.cursor() as cursor:
        began = time.perf_counter()
        cursor.execute(query)
        rows = _write(cursor.fetch_record_batch(), target)
        return Sample(time.perf_counter() - began, rows)


def _write(reader: pa.RecordBatchReader, target: Path) -> int:
    rows = 0
    with pa_parquet.ParquetWriter(target, reader.schema, compression="zstd", compression_level=1) as writer:
        for batch in reader:
            writer.write_batch(batch)
            rows += batch.num_rows
    return rows
