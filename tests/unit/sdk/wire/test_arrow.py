"""What may travel as a batch, and what is refused before it can cost the host anything."""

import contextlib

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wellhead_sdk.wire import arrow
from wellhead_sdk.wire.messages import MAX_BATCH_ROWS

BATCH = pa.record_batch({"id": pa.array([1, 2, 3]), "name": pa.array(["a", None, "ü"])})


def stream_of(*batches: pa.RecordBatch, compression: str | None = None) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batches[0].schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as writer:
        for batch in batches:
            writer.write_batch(batch)
    encoded: bytes = sink.getvalue().to_pybytes()
    return encoded


def test_a_batch_comes_back_equal_with_its_metadata() -> None:
    schema = pa.schema([pa.field("id", pa.int64(), False, {"wellhead.source_type": "oid"})], {"k": "v"})
    batch = pa.record_batch([pa.array([1, 2])], schema=schema)
    back = arrow.from_ipc(arrow.to_ipc(batch))
    assert back.equals(batch)
    assert back.schema.equals(schema, check_metadata=True)


def test_a_slice_carries_its_own_rows_only() -> None:
    large = pa.record_batch({"x": pa.array(range(100_000))})
    assert len(arrow.to_ipc(large.slice(500, 10))) < 1000
    assert arrow.from_ipc(arrow.to_ipc(large.slice(500, 10))).column(0).to_pylist() == list(range(500, 510))


@given(values=st.lists(st.none() | st.text(st.characters(exclude_categories=["Cs"])), max_size=20))
def test_texts_survive(values: list[str | None]) -> None:
    batch = pa.record_batch({"x": pa.array(values, pa.string())})
    assert arrow.from_ipc(arrow.to_ipc(batch)).to_pydict() == {"x": values}


@pytest.mark.parametrize("compression", ["lz4", "zstd"])
def test_a_compressed_batch_is_refused_before_it_is_unpacked(compression: str) -> None:
    bomb = pa.record_batch({"x": pa.array([0] * 100_000)})
    with pytest.raises(arrow.ArrowError, match="compressed"):
        arrow.from_ipc(stream_of(bomb, compression=compression))


def test_two_batches_are_refused() -> None:
    with pytest.raises(arrow.ArrowError, match="record batch, record batch"):
        arrow.from_ipc(stream_of(BATCH, BATCH))


def test_a_schema_alone_is_no_batch() -> None:
    with pytest.raises(arrow.ArrowError, match="found schema"):
        arrow.from_ipc(arrow.schema_bytes(BATCH.schema))


def test_more_rows_than_a_batch_may_hold_are_refused() -> None:
    with pytest.raises(arrow.ArrowError, match="rows"):
        arrow.from_ipc(stream_of(pa.record_batch({"x": pa.nulls(MAX_BATCH_ROWS + 1)})))


@pytest.mark.parametrize(
    "kind",
    [
        pa.dictionary(pa.int8(), pa.string()),
        pa.run_end_encoded(pa.int32(), pa.int64()),
        pa.string_view(),
        pa.binary_view(),
        pa.list_view(pa.int8()),
        pa.dense_union([pa.field("a", pa.int8())]),
        pa.list_(pa.struct([("x", pa.string_view())])),
    ],
    ids=str,
)
def test_types_where_few_bytes_stand_for_many_are_refused(kind: pa.DataType) -> None:
    with pytest.raises(arrow.ArrowError, match="column 'x'"):
        arrow.schema_from_bytes(arrow.schema_bytes(pa.schema([("x", kind)])))


def test_a_dictionary_batch_is_refused_within_a_batch_too() -> None:
    with pytest.raises(arrow.ArrowError):
        arrow.from_ipc(stream_of(pa.record_batch({"x": pa.array(["a"]).dictionary_encode()})))


def test_two_columns_of_one_name_are_refused() -> None:
    with pytest.raises(arrow.ArrowError, match="two columns"):
        arrow.schema_from_bytes(arrow.schema_bytes(pa.schema([("x", pa.int8()), ("x", pa.int8())])))


def test_text_that_is_no_utf8_is_refused() -> None:
    broken = pa.Array.from_buffers(pa.string(), 1, [None, pa.py_buffer(b"\0\0\0\0\2\0\0\0"), pa.py_buffer(b"\xff\xfe")])
    with pytest.raises(arrow.ArrowError, match="UTF8"):
        arrow.from_ipc(stream_of(pa.record_batch({"x": broken})))


def test_an_offset_outside_its_data_is_refused() -> None:
    good = stream_of(pa.record_batch({"x": pa.array(["ab"])}))
    at = good.rindex(b"\0\0\0\0\2\0\0\0")
    with pytest.raises(arrow.ArrowError):
        arrow.from_ipc(good[:at] + b"\0\0\0\0\xff\xff\xff\x7f" + good[at + 8 :])


@given(data=st.data())
def test_a_changed_byte_is_refused_or_yields_a_valid_batch(data: st.DataObject) -> None:
    good = bytearray(arrow.to_ipc(BATCH))
    at = data.draw(st.integers(0, len(good) - 1))
    good[at] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(arrow.ArrowError):
        arrow.from_ipc(bytes(good)).validate(full=True)


def test_the_checksum_is_castagnolis() -> None:
    assert arrow.crc32c(b"123456789") == 0xE3069283  # check value of CRC-32C, RFC 3720
