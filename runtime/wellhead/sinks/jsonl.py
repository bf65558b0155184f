"""JSON lines: one object a record, the envelope's names around ``data``, which holds the payload.

What JSON has no form for is written so that nothing is lost: decimals and floats that are no numbers as text, bytes as
base64, times as RFC 3339, durations as integers of their unit, intervals as [months, days, nanoseconds], maps as pairs.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping
from itertools import pairwise, repeat
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from wellhead.sinks import envelope
from wellhead.sinks.segments import Folder

_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
_BUFFER_BYTES = 1024 * 1024


class Jsonl(Folder):
    """A folder of JSON-lines files; files have no footer, so checkpoints cannot be restored from them."""

    suffix = ".jsonl"

    def encoder(self, path: Path, schema: pa.Schema) -> Encoder:
        """Open a JSON-lines file."""
        return Encoder(path, schema)


class Encoder:
    """One JSON-lines file."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        """Open ``path``."""
        self._file = path.open("wb", buffering=0)
        self._buffer = bytearray()
        self._payload = [name for name in schema.names if name not in envelope.NAMES]

    def write(self, batch: pa.RecordBatch) -> None:
        """Add rows, a line each."""
        around = [values(batch.column(name)) for name in envelope.NAMES]
        inside = [values(batch.column(name)) for name in self._payload]
        data = zip(*inside, strict=True) if inside else repeat((), batch.num_rows)
        for outer, inner in zip(zip(*around, strict=True), data, strict=True):
            record: dict[str, Any] = dict(zip(envelope.NAMES, outer, strict=True))
            record["data"] = dict(zip(self._payload, inner, strict=True))
            self._buffer += _encode(record).encode() + b"\n"
            if len(self._buffer) >= _BUFFER_BYTES:
                self._flush()

    def close(self, footer: Mapping[str, str]) -> None:  # noqa: ARG002 - JSON lines have no place for it
        """Write what is buffered."""
        self._flush()
        self._file.close()

    def discard(self) -> None:
        """Close the file and forget what is buffered."""
        self._file.close()

    def _flush(self) -> None:
        # An unbuffered file may take less than it is given, a full disk for one.
        rest = memoryview(bytes(self._buffer))
        while rest:
            rest = rest[self._file.write(rest) :]
        self._buffer.clear()


def values(column: pa.Array) -> list[Any]:
    """Return a column as values JSON has a form for."""
    types, kind = pa.types, column.type
    if isinstance(column, pa.ExtensionArray):
        return values(column.storage)
    if types.is_dictionary(kind):
        return values(column.dictionary_decode())
    if types.is_floating(kind):
        return [_number(value) for value in column.cast(pa.float64()).to_pylist()]
    if types.is_timestamp(kind):
        # Through Arrow's text, since Python's datetime knows neither nanoseconds nor the year 10000.
        return list(pc.replace_substring(column.cast(pa.utf8()), " ", "T").to_pylist())
    if types.is_decimal(kind) or types.is_date(kind) or types.is_time(kind):
        return list(column.cast(pa.utf8()).to_pylist())
    if types.is_duration(kind):
        return list(column.cast(pa.int64()).to_pylist())
    if types.is_interval(kind):
        return [value and list(value) for value in column.to_pylist()]
    if types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind):
        return [None if value is None else base64.b64encode(value).decode() for value in column.to_pylist()]
    if types.is_struct(kind):
        return _structs(column)
    if types.is_map(kind):
        return _maps(column)
    if types.is_nested(kind):
        return _lists(column)
    return list(column.to_pylist())


def _number(value: float | None) -> float | str | None:
    if value is None or math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _structs(column: pa.StructArray) -> list[dict[str, Any] | None]:
    names = [field.name for field in column.type]
    children = [values(child) for child in column.flatten()]
    return [
        {name: child[row] for name, child in zip(names, children, strict=True)} if is_valid else None
        for row, is_valid in enumerate(column.is_valid().to_pylist())
    ]


def _lists(column: pa.ListArray) -> list[list[Any] | None]:
    items, rows, at = values(column.flatten()), [], 0
    for length in pc.list_value_length(column).to_pylist():
        rows.append(None if length is None else items[at : at + length])
        at += length or 0
    return rows


def _maps(column: pa.MapArray) -> list[list[list[Any]] | None]:
    keys, items = values(column.keys), values(column.items)
    return [
        [[keys[index], items[index]] for index in range(begin, end)] if is_valid else None
        for (begin, end), is_valid in zip(
            pairwise(column.offsets.to_pylist()), column.is_valid().to_pylist(), strict=True
        )
    ]
