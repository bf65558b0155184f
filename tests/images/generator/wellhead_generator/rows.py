"""Rows as a pure function of (profile, seed, index), computed over whole columns.

The same index gives the same row in every process, page size, partition and style, so a test can say exactly what must
be in Bronze without asking the connector. There is no numpy in a connector's image; pyarrow's kernels are enough.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

Profile = Literal["narrow", "mixed", "wide"]

#: The time of row 0; each row is one millisecond younger than the one before it.
EPOCH = datetime(2024, 1, 1, tzinfo=UTC)
_EPOCH_US = int(EPOCH.timestamp()) * 1_000_000
_STEP_US = 1_000

WIDE_COLUMNS = tuple(f"c{number:02d}" for number in range(40))
LABELS = tuple(f"label-{number}" for number in range(16))

_NARROW = (
    pa.field("id", pa.int64(), nullable=False),
    pa.field("updated_at", pa.timestamp("us", "UTC"), nullable=False),
    pa.field("value", pa.int64()),
)
_MIXED = (
    *_NARROW,
    pa.field("amount", pa.float64()),
    pa.field("active", pa.bool_()),
    pa.field("label", pa.string()),
    pa.field("note", pa.string()),
)
_WIDE = (*_MIXED, *(pa.field(name, pa.int64()) for name in WIDE_COLUMNS))
_FIELDS: dict[str, tuple[pa.Field, ...]] = {"narrow": _NARROW, "mixed": _MIXED, "wide": _WIDE}

#: The column that a change of schema adds; its value repeats the id.
ADDED = pa.field("added", pa.int64())

#: One change of the `events` stream: `_op` and `_pos` are the protocol's reserved columns.
EVENTS = pa.schema(
    [
        pa.field("key", pa.int64(), nullable=False),
        pa.field("at", pa.timestamp("us", "UTC"), nullable=False),
        pa.field("value", pa.int64()),
        pa.field("_op", pa.string(), nullable=False),
        pa.field("_pos", pa.string(), nullable=False),
    ]
)

# The multipliers and shifts of SplitMix64 (Steele, Lea, Flood 2014), on wrapping signed integers.
_GAMMA = -7046029254386353131
_MIX_1 = -4658895280553007687
_MIX_2 = -7723592293110705685


@dataclass(frozen=True, slots=True)
class Rows:
    """An endless table; ``batch`` cuts any range out of it."""

    profile: Profile = "mixed"
    seed: int = 0

    @property
    def schema(self) -> pa.Schema:
        """The columns of this profile, in order."""
        return pa.schema(_FIELDS[self.profile])

    def batch(self, start: int, stop: int) -> pa.RecordBatch:
        """Return the rows with ``start <= id < stop``."""
        index = pc.add(_count(stop - start), start)
        value = _mixed(pc.add(index, self.seed))
        columns = [index, _times(index), value]
        if self.profile != "narrow":
            columns += _details(index, value)
        if self.profile == "wide":
            columns += [pc.add(value, number) for number in range(len(WIDE_COLUMNS))]
        return pa.RecordBatch.from_arrays(columns, schema=self.schema)

    def dicts(self, start: int, stop: int) -> list[dict[str, Any]]:
        """Return the same rows the way most authors have them: one dict each."""
        batch = self.batch(start, stop)
        columns: list[list[Any]] = [column.to_pylist() for column in batch.select(_untimed(batch.schema)).columns]
        # Arrow makes a zoned timestamp in 3 µs, plain arithmetic in 0.2: a source of dicts must not be the limit.
        columns.insert(1, [EPOCH + timedelta(milliseconds=index) for index in range(start, stop)])
        names = batch.schema.names
        return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]

    def pages(self, start: int, stop: int, page_rows: int) -> Iterator[pa.RecordBatch]:
        """Cut ``start..stop`` into batches of at most ``page_rows``."""
        for first in range(start, stop, page_rows):
            yield self.batch(first, min(first + page_rows, stop))


def with_added(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return the batch as the source sends it after its schema grew by one column."""
    return pa.RecordBatch.from_arrays([*batch.columns, batch.column("id")], schema=pa.schema([*batch.schema, ADDED]))


def events(seed: int, start: int, stop: int) -> pa.RecordBatch:
    """Return changes ``start..stop`` of a log over a hundred keys; each key is created, updated and deleted in turn."""
    index = pc.add(_count(stop - start), start)
    turn = pc.bit_wise_and(pc.divide(index, 100), 3)
    op = pa.array(["c", "u", "u", "d"]).take(turn)
    value = pc.if_else(pc.equal(turn, 3), pa.scalar(None, pa.int64()), _mixed(pc.add(index, seed)))
    key = pc.subtract(index, pc.multiply(pc.divide(index, 100), 100))
    position = pc.utf8_lpad(index.cast(pa.string()), 20, "0")
    return pa.RecordBatch.from_arrays([key, _times(index), value, op, position], schema=EVENTS)


def partitions(rows: int, count: int) -> list[tuple[int, int]]:
    """Cut ``0..rows`` into ``count`` ranges whose sizes differ by at most one row."""
    edges = [rows * number // count for number in range(count + 1)]
    return list(itertools.pairwise(edges))


@functools.lru_cache(maxsize=4)
def _count(rows: int) -> pa.Array:
    return pa.array(range(rows), pa.int64())


def _mixed(index: pa.Array) -> pa.Array:
    word = pc.multiply(index, _GAMMA)
    word = pc.multiply(pc.bit_wise_xor(word, pc.shift_right(word, 30)), _MIX_1)
    word = pc.multiply(pc.bit_wise_xor(word, pc.shift_right(word, 27)), _MIX_2)
    return pc.bit_wise_xor(word, pc.shift_right(word, 31))


def _times(index: pa.Array) -> pa.Array:
    return pc.add(pc.multiply(index, _STEP_US), _EPOCH_US).cast(pa.timestamp("us", "UTC"))


def _details(index: pa.Array, value: pa.Array) -> list[pa.Array]:
    cents = pc.bit_wise_and(value, 0xFFFFFF)
    # Every 16th amount is missing, so that nulls travel too.
    amount = pc.if_else(
        pc.equal(pc.bit_wise_and(index, 15), 15),
        pa.scalar(None, pa.float64()),
        pc.divide(cents.cast(pa.float64()), 100.0),
    )
    label = pa.array(LABELS).take(pc.bit_wise_and(pc.shift_right(value, 8), 15))
    note = pc.binary_join_element_wise("row", index.cast(pa.string()), cents.cast(pa.string()), "-")
    return [amount, pc.equal(pc.bit_wise_and(value, 1), 1), label, note]


def _untimed(schema: pa.Schema) -> list[str]:
    return [name for name in schema.names if name != "updated_at"]
