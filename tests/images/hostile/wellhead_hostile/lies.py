"""Broken promises of the protocol: each differs from the honest conversation in one point."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace

import pyarrow as pa

from wellhead_hostile import frames
from wellhead_hostile.frames import Said, Talk
from wellhead_sdk.wire import arrow
from wellhead_sdk.wire import messages as m

#: More columns, units or streams than anybody has.
TOO_MANY = 100_000


def gap_in_batch_no(talk: Talk) -> Iterator[Said]:
    """Leave out a number."""
    yield talk.schema()
    yield talk.batch()
    talk.batch_no += 1
    yield talk.batch()
    yield from talk.end()


def repeated_batch_no(talk: Talk) -> Iterator[Said]:
    """Send one batch twice."""
    yield talk.schema()
    batch = talk.batch()
    yield batch
    yield batch
    yield from talk.end()


def wrong_crc(talk: Talk) -> Iterator[Said]:
    """Say a checksum that is one off."""
    yield talk.schema()
    batch = talk.batch()
    yield replace(batch, crc32c=batch.crc32c ^ 1)
    yield from talk.end()


def wrong_row_count(talk: Talk) -> Iterator[Said]:
    """Say one row more than the batch holds."""
    yield talk.schema()
    batch = talk.batch()
    yield replace(batch, rows=batch.rows + 1)
    yield from talk.end()


def totals_mismatch(talk: Talk) -> Iterator[Said]:
    """Claim at the end to have sent one row more."""
    yield from talk.pages(1)
    talk.rows += 1
    yield talk.done()


def no_done(talk: Talk) -> Iterator[Said]:
    """End the stream as if that were all."""
    yield from talk.pages(2)


def rows_after_the_last_offer(talk: Talk) -> Iterator[Said]:
    """Be done with rows that no checkpoint covers."""
    yield from talk.pages(1)
    yield talk.batch()
    yield talk.done()


def no_offer_at_all(talk: Talk) -> Iterator[Said]:
    """Be done without ever having offered a state."""
    yield talk.schema()
    yield talk.batch()
    yield talk.done()


def batch_after_done(talk: Talk) -> Iterator[Said]:
    """Go on after the end."""
    yield from talk.pages(1)
    yield from talk.end()
    yield talk.batch()


def batch_before_schema(talk: Talk) -> Iterator[Said]:
    """Send rows nobody can name."""
    yield talk.batch()
    yield from talk.end()


def schema_in_mid_air(talk: Talk) -> Iterator[Said]:
    """Change the schema between a batch and its checkpoint."""
    yield talk.schema()
    yield talk.batch()
    yield talk.schema(RECORDS_GROWN)
    yield from talk.end()


RECORDS_GROWN = pa.schema([*frames.RECORDS, pa.field("more", pa.int64())])


def batch_of_another_schema(talk: Talk) -> Iterator[Said]:
    """Send columns that were not announced."""
    yield talk.schema()
    yield talk.batch_of(pa.record_batch({"id": pa.array([1]), "sum": pa.array([2.5])}))
    yield from talk.end()


def wrong_fingerprint(talk: Talk) -> Iterator[Said]:
    """Announce a schema under the name of another."""
    yield replace(talk.schema(), fingerprint=talk.schema(RECORDS_GROWN).fingerprint)
    yield talk.batch()
    yield from talk.end()


def batch_of_another_stream(talk: Talk) -> Iterator[Said]:
    """Send rows for a table nobody asked for."""
    yield talk.schema()
    yield replace(talk.batch(), stream="payments")
    yield from talk.end()


def reserved_column(talk: Talk) -> Iterator[Said]:
    """Announce a column that belongs to the envelope."""
    yield talk.schema(RESERVED)
    yield talk.batch_of(pa.record_batch({"id": pa.array([1]), "_event_id": pa.array(["0" * 32])}))
    yield from talk.end()


RESERVED = pa.schema([pa.field("id", pa.int64()), pa.field("_event_id", pa.string())])


def _raw_batch(talk: Talk, data: bytes, rows: int = 10) -> m.BatchFrame:
    """Send bytes that say they are a batch, with a true checksum."""
    talk.credit.spend(len(data))
    talk.batch_no += 1
    talk.rows += rows
    return m.BatchFrame(talk.batch_no, talk.stream, rows, arrow.crc32c(data), data)


def noise_for_arrow(talk: Talk) -> Iterator[Said]:
    """Send a batch that is no Arrow at all."""
    yield talk.schema()
    yield _raw_batch(talk, b"\xff\xff\xff\xff" + b"\x7f" * 4096)
    yield from talk.end()


def cut_arrow(talk: Talk) -> Iterator[Said]:
    """Send the first half of a batch."""
    yield talk.schema()
    whole = talk.batch().arrow_ipc
    talk.batch_no -= 1
    talk.rows -= 10
    yield _raw_batch(talk, whole[: len(whole) // 2])
    yield from talk.end()


def offsets_out_of_range(talk: Talk) -> Iterator[Said]:
    """Send texts that lie beyond their buffer: reading one would read foreign memory."""
    yield talk.schema()
    honest = talk.batch(("x" * 4951,)).arrow_ipc
    talk.batch_no, talk.rows = 0, 0
    # The text's two offsets as they stand in the batch; no other eight bytes of it look like this.
    first, last, beyond = (number.to_bytes(4, "little") for number in (0, 4951, 2**30))
    yield _raw_batch(talk, honest.replace(first + last, first + beyond), 1)
    yield from talk.end()


def text_that_is_not_utf8(talk: Talk) -> Iterator[Said]:
    """Send bytes that no text is made of."""
    yield talk.schema()
    text = pa.array([b"\xff\xfe\xfd"], pa.binary()).view(pa.string())
    yield talk.batch_of(pa.RecordBatch.from_arrays([pa.array([0], pa.int64()), text], schema=frames.RECORDS))
    yield from talk.end()


def two_batches_in_one(talk: Talk) -> Iterator[Said]:
    """Hide a second batch behind the first."""
    yield talk.schema()
    sink = pa.BufferOutputStream()
    batch = pa.record_batch({"id": pa.array([1, 2]), "text": pa.array(["a", "b"])}, schema=frames.RECORDS)
    with pa.ipc.new_stream(sink, frames.RECORDS) as writer:
        writer.write_batch(batch)
        writer.write_batch(batch)
    yield _raw_batch(talk, sink.getvalue().to_pybytes(), 2)
    yield from talk.end()


def compression_bomb(talk: Talk) -> Iterator[Said]:
    """Send a few kilobytes that unpack to four times what any batch may hold."""
    yield talk.schema()
    text = pa.array(["\0" * (64 * 1024 * 1024)], pa.string())
    batch = pa.RecordBatch.from_arrays([pa.array([0], pa.int64()), text], schema=frames.RECORDS)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, frames.RECORDS, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_batch(batch)
    yield _raw_batch(talk, sink.getvalue().to_pybytes(), 1)
    yield from talk.end()


def nulls_bomb(talk: Talk) -> Iterator[Said]:
    """Send a hundred bytes that are ten million rows."""
    schema = pa.schema([pa.field("id", pa.null()), pa.field("text", pa.null())])
    yield talk.schema(schema)
    yield talk.batch_of(pa.RecordBatch.from_arrays([pa.nulls(10_000_000)] * 2, schema=schema))
    yield from talk.end()


def dictionary_column(talk: Talk) -> Iterator[Said]:
    """Send a column whose few bytes stand for many."""
    schema = pa.schema([pa.field("text", pa.dictionary(pa.int8(), pa.string()))])
    yield talk.schema(schema)
    text = pa.DictionaryArray.from_arrays(pa.array([0] * 1000, pa.int8()), pa.array(["x" * 1_000_000]))
    yield talk.batch_of(pa.RecordBatch.from_arrays([text], schema=schema))
    yield from talk.end()


def batch_over_the_cap(talk: Talk) -> Iterator[Said]:
    """Send a batch between the protocol's cap and gRPC's."""
    yield talk.schema()
    yield talk.batch(("x" * (16 * 1024 * 1024 + 1),))
    yield from talk.end()


def message_over_the_cap(talk: Talk) -> Iterator[Said]:
    """Send a message larger than gRPC takes: it looks like throttling and is none."""
    yield talk.schema()
    yield talk.batch(("x" * (20 * 1024 * 1024),))
    yield from talk.end()


def not_protobuf(talk: Talk) -> Iterator[Said]:
    """Send bytes that are no message."""
    yield talk.schema()
    yield b"\xff" * 64
    yield from talk.end()


def empty_frame(talk: Talk) -> Iterator[Said]:
    """Send a message that says nothing."""
    yield talk.schema()
    yield b""
    yield from talk.end()


def credit_overrun(talk: Talk) -> Iterator[Said]:
    """Send half a gigabyte without waiting for leave, in pieces that a writer cannot keep up with."""
    yield talk.schema()
    text = os.urandom(8 * 1024 * 1024 - 4096).hex()
    for _ in range(32):
        talk.credit.grant(m.MAX_BATCH_BYTES)
        yield talk.batch((text,))
    yield from talk.end()


def giant_state(talk: Talk) -> Iterator[Said]:
    """Offer a state twice as large as any may be."""
    yield talk.schema()
    yield talk.batch()
    yield talk.checkpoint(b"s" * (2 * m.MAX_STATE_BYTES))
    yield talk.done()


def offer_of_the_future(talk: Talk) -> Iterator[Said]:
    """Offer a state for batches that were never sent: taking it would lose them."""
    yield talk.schema()
    yield talk.batch()
    yield replace(talk.checkpoint(), through_batch=99)
    yield talk.done()


def offer_of_the_past(talk: Talk) -> Iterator[Said]:
    """Offer a state that goes back behind an earlier one."""
    yield from talk.pages(3)
    yield replace(talk.checkpoint(), through_batch=1)
    yield talk.done()


def offer_with_wrong_rows(talk: Talk) -> Iterator[Said]:
    """Count one row too few in an offer."""
    yield talk.schema()
    yield talk.batch()
    offer = talk.checkpoint()
    yield replace(offer, rows_since_last=offer.rows_since_last - 1)
    yield talk.done()


def unknown_version(answer: m.Description) -> m.Description:
    """Choose a version nobody offered."""
    return replace(answer, protocol_version=99)


def no_version(answer: m.Description) -> m.Description:
    """Find none of the versions good."""
    return replace(answer, protocol_version=0)


def another_identity(answer: m.Description) -> m.Description:
    """Be somebody else."""
    return replace(answer, connector_id="dev/trusted")


def another_release(answer: m.Description) -> m.Description:
    """Be a later version than the signed one."""
    return replace(answer, version="9.9.9")


def another_manifest(answer: m.Description) -> m.Description:
    """Carry another manifest than the signed one."""
    return replace(answer, manifest_sha256="0" * 64)


def stream_flood() -> Iterator[m.OfferedStream]:
    """Offer streams without end."""
    for number in range(TOO_MANY):
        yield m.OfferedStream(f"stream-{number}", frames.RECORDS)


def stream_offered_twice() -> Iterator[m.OfferedStream]:
    """Offer one name with two meanings."""
    yield m.OfferedStream("records", frames.RECORDS, ("id",))
    yield m.OfferedStream("records", RECORDS_GROWN, ("more",))


def unasked_streams() -> Iterator[m.OfferedStream]:
    """Offer everything but what was asked for."""
    yield m.OfferedStream("payments", frames.RECORDS)


def reserved_name_offered() -> Iterator[m.OfferedStream]:
    """Offer a column that belongs to the envelope."""
    yield m.OfferedStream("records", RESERVED)


def unit_flood(plan: m.ReadPlan) -> m.ReadPlan:
    """Cut the stream into more units than anybody can open."""
    return replace(plan, units=tuple(m.Unit(f"u{number}") for number in range(TOO_MANY)))


def units_named_alike(plan: m.ReadPlan) -> m.ReadPlan:
    """Give two units one key."""
    return replace(plan, units=(m.Unit("one"), m.Unit("one")))


def unit_named_as_a_path(plan: m.ReadPlan) -> m.ReadPlan:
    """Name a unit so that its file would lie elsewhere."""
    return replace(plan, units=(m.Unit("../../../../tmp/elsewhere"),))


def no_units(plan: m.ReadPlan) -> m.ReadPlan:
    """Plan nothing for a stream that was asked for."""
    return replace(plan, units=())
