"""Record batches and schemas as the bytes that travel, and the checks that make foreign bytes safe to touch.

A batch is a self-contained Arrow IPC stream: schema, one record batch, end. It is never compressed, and holds no type
where a few bytes stand for many (dictionary, run-end, view): a connector pays for what it makes the host hold.
"""

from __future__ import annotations

import hashlib
import struct

import google_crc32c
import pyarrow as pa

from wellhead_sdk.wire.messages import MAX_BATCH_ROWS

#: What closes an Arrow IPC stream: the continuation marker and a length of zero.
_END_OF_STREAM = b"\xff\xff\xff\xff\0\0\0\0"


class ArrowError(ValueError):
    """Bytes that are not what this protocol calls a batch or a schema; the text says why."""


def to_ipc(batch: pa.RecordBatch) -> bytes:
    """Return ``batch`` as a self-contained, uncompressed Arrow IPC stream."""
    # The stream's own writer grows its buffer by doubling; these are the same bytes at a third of the time.
    return b"".join((batch.schema.serialize(), batch.serialize(), _END_OF_STREAM))


def from_ipc(data: bytes) -> pa.RecordBatch:
    """Return the one record batch in ``data``, every offset and every text of it checked; its buffers lie in ``data``.

    Raises:
        ArrowError: not an Arrow stream, not exactly one batch, compressed, too many rows, a type that may not travel,
            or contents that contradict themselves.
    """
    try:
        messages = list(pa.ipc.MessageReader.open_stream(pa.py_buffer(data)))
        if [message.type for message in messages] != ["schema", "record batch"]:
            kinds = ", ".join(message.type for message in messages) or "nothing"
            raise ArrowError(f"expected one schema and one record batch, found {kinds}")
        schema = pa.ipc.read_schema(messages[0])
        check_types(schema)
        # Looked up before decoding: a compressed buffer names its own size, and decoding would allocate it.
        if _is_compressed(messages[1].metadata.to_pybytes()):
            raise ArrowError("the batch is compressed")
        batch = pa.ipc.read_record_batch(messages[1], schema)
        if batch.num_rows > MAX_BATCH_ROWS:
            raise ArrowError(f"{batch.num_rows} rows, at most {MAX_BATCH_ROWS} travel in one batch")
        batch.validate(full=True)
    except ArrowError:
        raise
    except (pa.ArrowException, OSError, ValueError, struct.error) as exc:
        raise ArrowError(f"not a valid Arrow batch: {exc}") from exc
    return batch


def check_types(schema: pa.Schema) -> None:
    """Refuse a schema with repeated column names or with a type where a few bytes stand for many.

    Raises:
        ArrowError: naming the column and its type.
    """
    if len(set(schema.names)) != len(schema.names):
        twice = next(name for name in schema.names if schema.names.count(name) > 1)
        raise ArrowError(f"two columns are named {twice!r}")
    for field in schema:
        if (refused := _refused_type(field.type)) is not None:
            raise ArrowError(f"column {field.name!r}: the type {refused} may not travel")


def _refused_type(kind: pa.DataType) -> pa.DataType | None:
    if isinstance(kind, pa.BaseExtensionType):
        return _refused_type(kind.storage_type)
    types = pa.types
    if (
        types.is_dictionary(kind)
        or types.is_run_end_encoded(kind)
        or types.is_union(kind)
        or types.is_string_view(kind)
        or types.is_binary_view(kind)
        or types.is_list_view(kind)
        or types.is_large_list_view(kind)
    ):
        return kind
    children = (kind.field(index).type for index in range(kind.num_fields))
    return next((refused for child in children if (refused := _refused_type(child)) is not None), None)


def _is_compressed(metadata: bytes) -> bool:
    """Say whether a record batch message declares BodyCompression.

    Source: Arrow's Message.fbs; ``Message.header`` is field 2, ``RecordBatch.compression`` field 3. pyarrow has no
    accessor for it.
    """
    message = int(struct.unpack_from("<I", metadata, 0)[0])
    header = _flatbuffer_field(metadata, message, 2)
    if header is None:
        raise ArrowError("the record batch has no header")
    batch = header + int(struct.unpack_from("<I", metadata, header)[0])
    return _flatbuffer_field(metadata, batch, 3) is not None


def _flatbuffer_field(data: bytes, table: int, index: int) -> int | None:
    """Return where field ``index`` of the table at ``table`` lies, or None where it is absent."""
    vtable = table - int(struct.unpack_from("<i", data, table)[0])
    if 4 + 2 * index >= int(struct.unpack_from("<H", data, vtable)[0]):
        return None
    offset = int(struct.unpack_from("<H", data, vtable + 4 + 2 * index)[0])
    return table + offset if offset else None


def schema_bytes(schema: pa.Schema) -> bytes:
    """Return ``schema`` as an encapsulated Arrow IPC schema message."""
    encoded: bytes = schema.serialize().to_pybytes()
    return encoded


def schema_from_bytes(data: bytes) -> pa.Schema:
    """Return the schema in ``data``.

    Raises:
        ArrowError: not a schema message, or a type that may not travel.
    """
    try:
        schema = pa.ipc.read_schema(pa.py_buffer(data))
    except (pa.ArrowException, OSError, ValueError) as exc:
        raise ArrowError(f"not an Arrow schema: {exc}") from exc
    check_types(schema)
    return schema


def fingerprint(encoded_schema: bytes) -> str:
    """Return the lower-case hex SHA-256 of an encoded schema."""
    return hashlib.sha256(encoded_schema).hexdigest()


def crc32c(data: bytes) -> int:
    """Return the CRC-32C (Castagnoli) of ``data``."""
    return int(google_crc32c.value(data))
