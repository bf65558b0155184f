"""``_event_id``: 128 bits that name a record, the same in every replay, computed over whole columns.

docs/explain/envelope.md states the canonical bytes for readers who want to compute them elsewhere; this module and that
page change together or not at all, since ids that were handed out must stay. In short:

    SHA-256( SHA-256(prefix) ‖ fixed block of the row ‖ variable block of the row ), its first 16 bytes in hex

SHA-256 because anybody can compute it and because rows may be written by strangers, who must not be able to forge the
id of another's row.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from wellhead.errors import Code, ConfigurationError
from wellhead.sinks import digests

UNSUPPORTED = Code("WH-SNK-001", "A column's type has no canonical bytes.")

MAGIC = b"wellhead event id 2\n"
ID_BYTES = 16
#: Rows whose canonical bytes are in memory at a time: they stay in the processor's cache, and a batch of 4 MiB does not
#: become five copies of 4 MiB.
SLICE_ROWS = 16384

Column = np.ndarray[Any, np.dtype[Any]]

Kind = Literal["position", "key", "content"]
_KIND_BYTE: dict[Kind, bytes] = {"position": b"p", "key": b"k", "content": b"c"}


@dataclass(frozen=True, slots=True)
class Identity:
    """What an id is made of: the stream, the kind, and the names of the key columns or of the position."""

    stream_key: str
    kind: Kind
    key: tuple[str, ...] = ()


def ids(identity: Identity, batch: pa.RecordBatch, op: pa.Array | None, first_ordinal: int) -> pa.Array:
    """Return one id a row, as utf8 of 32 hex digits.

    Args:
        identity: what the ids rest on.
        batch: for ``position`` the position alone, else the payload.
        op: the operation of each row; None where all are reads.
        first_ordinal: number of the first row within unit and generation; counts for ``content`` alone.

    Raises:
        ConfigurationError: a column's type has no canonical bytes (WH-SNK-001).
    """
    shown = np.empty((batch.num_rows, 2 * ID_BYTES), np.uint8)
    for at in range(0, batch.num_rows, SLICE_ROWS):
        ops = None if op is None else op.slice(at, SLICE_ROWS)
        _, rows = canonical(identity, batch.slice(at, SLICE_ROWS), ops, first_ordinal + at)
        shown[at : at + SLICE_ROWS] = digests.sha256(rows)[:, : 2 * ID_BYTES]
    offsets = np.arange(0, shown.size + 1, 2 * ID_BYTES, dtype=np.int32)
    return pa.Array.from_buffers(pa.utf8(), batch.num_rows, [None, pa.py_buffer(offsets), pa.py_buffer(shown)])


def canonical(
    identity: Identity, batch: pa.RecordBatch, op: pa.Array | None, first_ordinal: int
) -> tuple[bytes, pa.LargeBinaryArray]:
    """Return the prefix all rows share and the canonical bytes of each row, which begin with the prefix's digest."""
    rest = sorted(set(batch.schema.names) - set(identity.key), key=str.encode)
    names = [*identity.key, *rest]
    fields = [_field(name, batch.column(name)) for name in names]
    if identity.kind != "position":
        fields.append(_op(op, batch.num_rows))
    if identity.kind == "content":
        ordinals = pa.array(np.arange(first_ordinal, first_ordinal + batch.num_rows, dtype=np.int64))
        fields.append(_field("", ordinals))
    prefix = MAGIC + _KIND_BYTE[identity.kind] + _sized(identity.stream_key.encode())
    prefix += struct.pack("<II", len(identity.key), len(fields))
    prefix += b"".join(_sized(field.name.encode()) + _sized(field.kind.encode()) for field in fields)
    return prefix, _joined(hashlib.sha256(prefix).digest(), fields, batch.num_rows)


@dataclass(frozen=True, slots=True)
class _Field:
    """One column, cut into its share of the fixed block and, for values of varying length, of the variable block.

    ``present`` is None where no value is null; ``fixed`` holds one value a row in the bytes of the page, None where the
    type has none.
    """

    name: str
    kind: str
    present: np.ndarray[Any, np.dtype[np.bool_]] | None
    fixed: Column | None
    variable: pa.LargeBinaryArray | None = None


def _op(op: pa.Array | None, rows: int) -> _Field:
    if op is None:
        return _Field("_op", "op", None, np.full(rows, ord("r"), np.uint8))
    letters = np.frombuffer("".join(_plain(op).to_pylist()).encode("ascii"), np.uint8)
    return _Field("_op", "op", None, letters)


def _sized(content: bytes) -> bytes:
    return struct.pack("<I", len(content)) + content


def _joined(digest: bytes, fields: Sequence[_Field], rows: int) -> pa.LargeBinaryArray:
    # As columns of a packed structure: NumPy then moves whole values, and not bytes.
    columns: list[Column] = [np.frombuffer(digest, f"V{len(digest)}")]
    for field in fields:
        columns.append(np.ones(1, np.uint8) if field.present is None else field.present)
        columns += [] if field.fixed is None else [field.fixed]
    block = np.empty(rows, np.dtype([(f"{at}", column.dtype) for at, column in enumerate(columns)]))
    for at, column in enumerate(columns):
        block[f"{at}"] = column
    width = block.dtype.itemsize
    offsets = np.arange(0, width * rows + 1, width, dtype=np.int64)
    content = pa.py_buffer(block.view(np.uint8))
    fixed = pa.Array.from_buffers(pa.large_binary(), rows, [None, pa.py_buffer(offsets), content])
    variable = [field.variable for field in fields if field.variable is not None]
    if not variable:
        return fixed
    empty = pa.scalar(b"", pa.large_binary())
    return pc.binary_join_element_wise(fixed, *variable, empty, null_handling="replace", null_replacement=b"")


def _field(name: str, column: pa.Array) -> _Field:
    column = _plain(column)
    form = _kind(name, column.type)
    present = column.is_valid().to_numpy(zero_copy_only=False) if column.null_count else None
    if pa.types.is_nested(column.type):
        nested = [None if value is None else _nested(value, column.type) for value in column.to_pylist()]
        column = pa.array(nested, pa.large_binary())
    if not _is_variable(column.type):
        return _Field(name, form, present, _fixed(name, column))
    content = column.cast(pa.large_binary())
    lengths = pc.binary_length(content)
    if present is not None:
        lengths = lengths.fill_null(0)
    return _Field(name, form, present, lengths.to_numpy(zero_copy_only=False).astype("<u4"), content)


def _plain(column: pa.Array) -> pa.Array:
    if isinstance(column, pa.ExtensionArray):
        return _plain(column.storage)
    if pa.types.is_dictionary(column.type):
        return _plain(column.dictionary_decode())
    if pa.types.is_run_end_encoded(column.type):
        return _plain(pc.run_end_decode(column))
    return column


def _is_variable(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(
        types.is_string(kind)
        or types.is_large_string(kind)
        or types.is_string_view(kind)
        or types.is_binary(kind)
        or types.is_large_binary(kind)
        or types.is_binary_view(kind)
        or types.is_fixed_size_binary(kind)
    )


def _kind(name: str, kind: pa.DataType) -> str:
    """Name a type so that widening it (int32 to int64, a higher precision) keeps the ids."""
    types = pa.types
    if types.is_null(kind):
        return "null"
    if types.is_boolean(kind):
        return "bool"
    if types.is_integer(kind):
        return "int"
    if types.is_floating(kind):
        return "float"
    if types.is_decimal(kind):
        return f"decimal({kind.scale})"
    if types.is_date(kind):
        return "date"
    if types.is_timestamp(kind):
        return f"timestamp({kind.unit})" if kind.tz is None else f"instant({kind.unit})"
    if types.is_time(kind):
        return f"time({kind.unit})"
    if types.is_duration(kind):
        return f"duration({kind.unit})"
    if types.is_interval(kind):
        return "interval"
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        return "text"
    if _is_variable(kind):
        return "bytes"
    if types.is_struct(kind):
        return "struct(" + ",".join(f"{field.name}:{_kind(name, _storage(field.type))}" for field in kind) + ")"
    if types.is_map(kind):
        key, item = _kind(name, _storage(kind.key_type)), _kind(name, _storage(kind.item_type))
        return f"list(struct(key:{key},value:{item}))"
    if types.is_nested(kind) and hasattr(kind, "value_type"):
        return f"list({_kind(name, _storage(kind.value_type))})"
    raise ConfigurationError(
        f"column {name!r} has the type {kind}, which has no canonical bytes",
        code=UNSUPPORTED,
        hint="let the connector offer another Arrow type, such as text",
    )


def _storage(kind: pa.DataType) -> pa.DataType:
    if isinstance(kind, pa.BaseExtensionType):
        return _storage(kind.storage_type)
    return _storage(kind.value_type) if pa.types.is_dictionary(kind) else kind


def _fixed(name: str, column: pa.Array) -> Column | None:
    """Return each value in little-endian bytes, zeros for null."""
    types, kind = pa.types, column.type
    if types.is_null(kind):
        return None
    if types.is_boolean(kind):
        return _numbers(column.cast(pa.uint8()), "u1")
    if types.is_integer(kind):
        return _numbers(column, "<u8" if types.is_uint64(kind) else "<i8")
    if types.is_floating(kind):
        numbers = column.cast(pa.float64()).fill_null(0.0).to_numpy(zero_copy_only=False)
        # One bit pattern for all that is not a number, whichever the source's machine made.
        return np.where(np.isnan(numbers), np.nan, numbers).astype("<f8")
    if types.is_decimal(kind):
        wide = kind.bit_width > 128
        column = column.cast(pa.decimal256(76, kind.scale) if wide else pa.decimal128(38, kind.scale))
        return _raw(column, 32 if wide else 16)
    if types.is_date(kind):
        return _numbers(column.cast(pa.date32()).cast(pa.int32()), "<i8")
    if types.is_time32(kind):
        return _numbers(column.cast(pa.int32()), "<i8")
    if types.is_timestamp(kind) or types.is_time64(kind) or types.is_duration(kind):
        return _numbers(column.cast(pa.int64()), "<i8")
    if types.is_interval(kind):
        return _raw(column, 16)
    raise AssertionError(f"{name}: {kind} passed _kind")


def _numbers(column: pa.Array, form: str) -> Column:
    numbers: Column = (column.fill_null(0) if column.null_count else column).to_numpy(zero_copy_only=False)
    return numbers.astype(form)


def _raw(column: pa.Array, width: int) -> Column:
    values = np.frombuffer(column.buffers()[1] or b"", f"V{width}", len(column), column.offset * width)
    if column.null_count:
        # What lies under a null is whatever the builder left there.
        values = values.copy()
        values[column.is_null().to_numpy(zero_copy_only=False)] = bytes(width)
    return values


def _nested(value: Any, kind: pa.DataType) -> bytes:
    kind = _storage(kind)
    types = pa.types
    if types.is_struct(kind):
        return b"".join(_element(value[field.name], field.type) for field in kind)
    if types.is_map(kind):
        pair = pa.struct([pa.field("key", kind.key_type), pa.field("value", kind.item_type)])
        return _elements(({"key": key, "value": item} for key, item in value), len(value), pair)
    return _elements(value, len(value), kind.value_type)


def _elements(values: Iterable[Any], count: int, kind: pa.DataType) -> bytes:
    return struct.pack("<I", count) + b"".join(_element(value, kind) for value in values)


def _element(value: Any, kind: pa.DataType) -> bytes:
    kind = _storage(kind)
    if value is None:
        return b"\x00"
    if pa.types.is_nested(kind):
        return b"\x01" + _sized(_nested(value, kind))
    field = _field("", pa.array([value], kind))
    content: bytes = b"" if field.variable is None else field.variable[0].as_py()
    return b"\x01" + (b"" if field.fixed is None else field.fixed.tobytes()) + content
