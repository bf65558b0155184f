"""One Parquet file as it is written: zstd-1, row groups of about 16 MiB, dictionaries only where values repeat.

Nothing is written that no reader uses: an event id is random, so no minimum of it tells anything, and its lengths are
all the same, which the encoding with lengths apart keeps in no bytes at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

#: In memory, envelope included: about 70,000 rows of 200 bytes. Large enough to scan well; this much is held for each
#: open unit, so that the host stays small.
ROW_GROUP_BYTES = 16 * 1024 * 1024

#: A dictionary costs time for every value and pays only where few differ: measured 1.4 times faster without it.
_SAMPLE_ROWS = 4096
_MAX_DISTINCT_SHARE = 0.1

#: What Parquet's writer takes for a value that has a place in statistics.
_MAX_STATISTICS_BYTES = 4096

_EVENT_ID = "_event_id"


class Encoder:
    """One Parquet file; how it is laid out is settled by its first batch."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        """Refuse what Parquet cannot hold before the first row comes."""
        self._schema = schema
        self._held: list[pa.RecordBatch] = []
        self._held_bytes = 0
        self._file: pa.NativeFile | None = pa.OSFile(str(path), "wb")
        self._writer: pq.ParquetWriter | None = None
        try:
            pq.ParquetWriter(pa.BufferOutputStream(), schema).close()
        except pa.ArrowException:
            self.discard()
            path.unlink()
            raise

    def write(self, batch: pa.RecordBatch) -> None:
        """Add rows."""
        if self._writer is None:
            self._writer = self._open(_repeating(batch), _long(batch))
        size = batch.nbytes
        if self._held_bytes + size > ROW_GROUP_BYTES:
            # Encoding takes several times what it encodes: two of the largest batches at once are too many.
            self._end_row_group(self._writer)
        self._held.append(batch)
        self._held_bytes += size
        if self._held_bytes >= ROW_GROUP_BYTES:
            self._end_row_group(self._writer)

    def close(self, footer: Mapping[str, str]) -> None:
        """Write the last row group and the footer, whose keys get the prefix ``wellhead.``."""
        writer = self._writer = self._open([], []) if self._writer is None else self._writer
        self._end_row_group(writer)
        writer.add_key_value_metadata({f"wellhead.{key}": value for key, value in footer.items()})
        writer.close()
        self.discard()

    def discard(self) -> None:
        """Close the file; one that `close` did not end is no readable Parquet."""
        self._held.clear()
        if self._writer is not None:
            # Else the writer tries to end the file when it is collected, and complains that it is closed.
            self._writer.is_open = False
        if self._file is not None:
            self._file.close()
            self._file = None

    def _end_row_group(self, writer: pq.ParquetWriter) -> None:
        # The writer makes a row group of each table it is given.
        rows = pa.Table.from_batches(self._held, self._schema)
        self._held.clear()
        self._held_bytes = 0
        if rows.num_rows:
            writer.write_table(rows, row_group_size=rows.num_rows)

    def _open(self, dictionary: list[str], long: list[str]) -> pq.ParquetWriter:
        return pq.ParquetWriter(
            self._file,
            self._schema,
            compression="zstd",
            compression_level=1,
            use_dictionary=dictionary,
            column_encoding={_EVENT_ID: "DELTA_LENGTH_BYTE_ARRAY"} if _EVENT_ID in self._schema.names else None,
            write_statistics=[name for name in self._schema.names if name != _EVENT_ID and name not in long],
        )


def _repeating(batch: pa.RecordBatch) -> list[str]:
    return [
        field.name
        for field, column in zip(batch.schema, batch.columns, strict=True)
        if field.name != _EVENT_ID and (pa.types.is_dictionary(field.type) or _repeats(column.slice(0, _SAMPLE_ROWS)))
    ]


def _long(batch: pa.RecordBatch) -> list[str]:
    """Return the columns whose values are too long for statistics: made, they would be copied twice and left out."""
    return [
        field.name
        for field, column in zip(batch.schema, batch.columns, strict=True)
        if column.nbytes > _MAX_STATISTICS_BYTES * len(column)
    ]


def _repeats(sample: pa.Array) -> bool:
    kind = sample.type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_integer(kind)) or not len(sample):
        return False
    return int(pc.count_distinct(sample).as_py()) <= max(1, len(sample) * _MAX_DISTINCT_SHARE)
