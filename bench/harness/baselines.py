"""What one would write without Wellhead: one process, bounded memory, no envelope, no commit, no fence."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pa_parquet
from adbc_driver_postgresql import dbapi

from bench.harness.compare import Sample
from wellhead_generator import rows

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


def generator_to_parquet(made: rows.Rows, count: int, page_rows: int, style: str, target: Path) -> Sample:
    """Write the generator's own rows, page by page; dicts are made into Arrow as Arrow itself does it."""
    began = time.perf_counter()
    written = _write_batches(_pages(made, count, page_rows, style), made.schema, target)
    return Sample(time.perf_counter() - began, written)


def _pages(made: rows.Rows, count: int, page_rows: int, style: str) -> Iterator[pa.RecordBatch]:
    if style == "columnar":
        yield from made.pages(0, count, page_rows)
        return
    for first in range(0, count, page_rows):
        page = made.dicts(first, min(first + page_rows, count))
        yield pa.RecordBatch.from_pylist(page, schema=made.schema)


def _write(reader: pa.RecordBatchReader, target: Path) -> int:
    return _write_batches(reader, reader.schema, target)


def _write_batches(batches: Iterable[pa.RecordBatch], schema: pa.Schema, target: Path) -> int:
    written = 0
    with pa_parquet.ParquetWriter(target, schema, compression="zstd", compression_level=1) as writer:
        for batch in batches:
            writer.write_batch(batch)
            written += batch.num_rows
    return written
