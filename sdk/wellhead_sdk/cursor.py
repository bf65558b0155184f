"""Incremental reading that neither loses rows that commit late nor emits twice what it has seen.

    low = high - lookback      high        snapshot start
    ─────┼───────────────────────┼───────────────┼──────▶ cursor column
         └── read again, dropping what is in `seen` ──┘

A transaction may commit after a read with a cursor value from before it. So each read begins ``lookback`` below the
highest value known, and drops the rows it emitted already, told by a 128-bit hash of their whole content. ``high`` is
never raised past the start of the snapshot it was read in: what commits later with a value from before that moment is
within ``lookback`` of it. Later than that is outside the promise.

Equal rows are counted, not merged: a table without a key may hold the same row twice.
"""

from __future__ import annotations

import base64
import hashlib
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from wellhead_sdk.errors import Configuration

#: Rows of the window that a state remembers; in base64 they fill 0.7 of the largest state.
MAX_SEEN = 32_768
DEFAULT_LOOKBACK_S = 600.0
HASH_BYTES = 16
#: Rows kept unhashed at the most, by size: most of them leave the window before a state is asked for.
_MAX_UNHASHED_BYTES = 32 * 1024 * 1024
_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}

#: A cursor value as it is compared: the number behind a time, else the value itself.
Plain: TypeAlias = Any


class Cursor:
    """One incremental read of one stream: what to ask for, what of the answer is new, what to remember.

    Used by one thread. `take` every batch of the read, emit what it returns, and offer `state` as the checkpoint.
    """

    def __init__(
        self,
        state: dict[str, Any] | None,
        column: pa.Field,
        *,
        snapshot_at: datetime | date | None = None,
        lookback_s: float = DEFAULT_LOOKBACK_S,
    ) -> None:
        """Go on from ``state``, or begin.

        Args:
            state: what `state` returned and the host committed; None to begin.
            column: the cursor column; an integer, a decimal, a date, a timestamp, or a text, which is compared by its
                UTF-8 bytes: ask the source for that collation.
            snapshot_at: the source's own clock when the snapshot began; a time cursor needs it.
            lookback_s: how late a row may commit; has a meaning for times alone, and is at least a day for dates.

        Raises:
            Configuration: the column cannot be a cursor, or is not the one the state was reckoned in.
        """
        self._name: str = column.name
        self._kind: pa.DataType = column.type
        self._lookback = _lookback(column, lookback_s)
        self._cap = self._plain_of(snapshot_at)
        if self._is_time and self._cap is None:
            raise ValueError("a time cursor needs the moment its snapshot began")
        known = state or {}
        self._require_same(known)
        self._high = self._from_json(known.get("high"))
        self._top = self._from_json(known.get("top"))
        self._is_known_whole: bool = known.get("whole", True)
        packed = base64.b64decode(known.get("seen", ""))
        self._seen = Counter(packed[at : at + HASH_BYTES] for at in range(0, len(packed), HASH_BYTES))
        self._window = _Window()
        self._max: Plain = None
        self._is_ordered = True
        #: Rows dropped because they were emitted before.
        self.dropped = 0
        #: Rows emitted that may have been emitted before, because the last window was too large to remember.
        self.reread = 0

    @property
    def low(self) -> Any:
        """The lowest cursor value to ask for, inclusive, as the column's own Python value; None means everything."""
        if self._high is None or not self._is_time:
            return self._high
        return pa.scalar(self._high - self._lookback, self._stored).cast(self._kind).as_py()

    def take(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return the rows of ``batch`` that were not emitted before, in order; a row without a cursor is always new."""
        values = self._plain(batch.column(self._name))
        fresh = self._without_seen(batch, values)
        has_value = pc.is_valid(values)
        if values.null_count:
            batch, values = batch.filter(has_value), values.drop_null()
        if len(values):
            self._follow(values)
            self._window.add(batch, values)
            self._window.trim(self._floor(self._reached()))
        return fresh

    def state(self, *, final: bool = False) -> dict[str, Any]:
        """Return what to remember of everything taken so far.

        Before the end of the read this moves on only where rows come in the order of the cursor; else it stays at the
        state it began from, so that nothing unread is passed.

        Args:
            final: the read is at its end.
        """
        if not final and not self._is_ordered:
            return self._packed(self._high, self._top, self._is_known_whole, self._seen)
        high = self._reached()
        floor = self._floor(high)
        hashes, whole = self._window.remember(floor)
        top = _larger(self._max, self._top)
        if not final and self._top is not None and (self._max is None or self._max <= self._top):
            # Rows of the last window may still come.
            hashes.update(self._seen)
            whole = whole and self._is_known_whole
        return self._packed(high, top, whole, hashes)

    def _require_same(self, known: dict[str, Any]) -> None:
        """Refuse the position of another column: its rows would be passed over, in every run and without a word."""
        # States of earlier releases name no column; a type is that of a position, where there is one.
        column = known.get("column", self._name)
        kind = known.get("type") if "high" in known else str(self._kind)
        if (column, kind) != (self._name, str(self._kind)):
            raise Configuration(
                f"the cursor was {column!r} ({kind}) and is {self._name!r} ({self._kind}) now",
                reason="cursor_changed",
                fields={"cursor_field": f"the stored state is of {column!r} ({kind})"},
                hint="set cursor_field back to the former column, or read everything again with `wellhead state reset "
                "CONNECTION STREAM` or `wellhead run CONNECTION --full-refresh --streams STREAM`",
            )

    # values

    @property
    def _is_time(self) -> bool:
        return bool(pa.types.is_timestamp(self._kind) or pa.types.is_date(self._kind))

    @property
    def _stored(self) -> pa.DataType:
        """The type of the numbers behind a time."""
        return pa.int32() if pa.types.is_date32(self._kind) else pa.int64()

    def _from_json(self, value: Any) -> Plain:
        return Decimal(value) if value is not None and pa.types.is_decimal(self._kind) else value

    def _plain(self, column: pa.Array) -> pa.Array:
        return column.cast(self._stored) if self._is_time else column

    def _plain_of(self, moment: datetime | date | None) -> Plain:
        if moment is None or not self._is_time:
            return None
        return self._plain(pa.array([moment], self._kind))[0].as_py()

    def _reached(self) -> Plain:
        """Return how far the cursor has come: never back, and never past the snapshot's start."""
        if self._max is None:
            return self._high
        reached = self._max if self._cap is None else min(self._max, self._cap)
        return _larger(self._high, reached)

    def _floor(self, high: Plain) -> Plain:
        return high - self._lookback if self._lookback and high is not None else high

    def _follow(self, values: pa.Array) -> None:
        extremes = pc.min_max(values).as_py()
        follows = self._max is None or extremes["min"] >= self._max
        rises = len(values) == 1 or pc.all(pc.greater_equal(values[1:], values[:-1])).as_py()
        self._is_ordered = self._is_ordered and follows and rises
        self._max = _larger(self._max, extremes["max"])

    # what was emitted before

    def _without_seen(self, batch: pa.RecordBatch, values: pa.Array) -> pa.RecordBatch:
        if self._top is None:
            return batch
        in_window = pc.fill_null(pc.less_equal(values, pa.scalar(self._top, values.type)), False)
        at = pc.indices_nonzero(in_window)
        if not len(at):
            return batch
        again: list[int] = []
        for index, row in zip(at.to_pylist(), row_hashes(batch.take(at)), strict=True):
            if self._seen.get(row, 0) > 0:
                self._seen[row] -= 1
                again.append(index)
        if not self._is_known_whole:
            self.reread += len(at) - len(again)
        if not again:
            return batch
        self.dropped += len(again)
        keep = [True] * batch.num_rows
        for index in again:
            keep[index] = False
        return batch.filter(pa.array(keep))

    def _packed(self, high: Plain, top: Plain, whole: bool, hashes: Counter[bytes]) -> dict[str, Any]:
        # Also where no row had a value yet: rows were emitted, and behind another column they would come again.
        known = {"type": str(self._kind), "column": self._name}
        if high is None:
            return known
        rows = sorted(hashes.elements())
        return {
            **known,
            "high": _to_json(high),
            "top": _to_json(top),
            "whole": whole and len(rows) <= MAX_SEEN,
            "seen": base64.b64encode(b"".join(rows[:MAX_SEEN])).decode(),
        }


@dataclass(slots=True)
class _Piece:
    """Rows of the window in order of arrival: as they came, or as their hashes."""

    values: pa.Array
    rows: pa.RecordBatch | None
    hashes: list[bytes]

    @property
    def size_bytes(self) -> int:
        return 0 if self.rows is None else int(self.rows.nbytes)

    def hash(self) -> None:
        if self.rows is not None:
            self.hashes, self.rows = row_hashes(self.rows), None

    def last(self, count: int) -> _Piece:
        start = len(self.values) - count
        if self.rows is None:
            return _Piece(self.values[start:], None, self.hashes[start:])
        return _Piece(self.values[start:], self.rows.slice(start), [])

    def from_value(self, floor: Plain) -> _Piece:
        keep = pc.greater_equal(self.values, pa.scalar(floor, self.values.type))
        if self.rows is None:
            hashes = [row for row, kept in zip(self.hashes, keep.to_pylist(), strict=True) if kept]
            return _Piece(self.values.filter(keep), None, hashes)
        return _Piece(self.values.filter(keep), self.rows.filter(keep), [])


class _Window:
    """The rows a later read will meet again, the last `MAX_SEEN` of them; hashed as late as memory allows."""

    def __init__(self) -> None:
        self._pieces: deque[_Piece] = deque()
        self._count = 0
        self._unhashed_bytes = 0
        self._lost_up_to: Plain = None

    def add(self, rows: pa.RecordBatch, values: pa.Array) -> None:
        self._append(_Piece(values, rows, []))

    def trim(self, floor: Plain) -> None:
        """Forget rows below ``floor``, and the oldest beyond what a state holds; hash the oldest if memory is short."""
        while self._pieces and pc.max(self._pieces[0].values).as_py() < floor:
            self._pop()
        while self._count > MAX_SEEN:
            piece = self._pop()
            spare = self._count + len(piece.values) - MAX_SEEN
            lost = piece.values[:spare]
            self._lost_up_to = _larger(self._lost_up_to, pc.max(lost).as_py())
            if spare < len(piece.values):
                self._append(piece.last(len(piece.values) - spare), left=True)
        for piece in self._pieces:
            if self._unhashed_bytes <= _MAX_UNHASHED_BYTES:
                break
            self._unhashed_bytes -= piece.size_bytes
            piece.hash()

    def remember(self, floor: Plain) -> tuple[Counter[bytes], bool]:
        """Return the hashes of the rows not below ``floor``, and whether they are all there were."""
        if floor is None:
            return Counter(), True
        self._pieces = deque(kept for piece in self._pieces if len((kept := piece.from_value(floor)).values))
        self._count = sum(len(piece.values) for piece in self._pieces)
        self._unhashed_bytes = 0
        hashes: Counter[bytes] = Counter()
        for piece in self._pieces:
            piece.hash()
            hashes.update(piece.hashes)
        return hashes, self._lost_up_to is None or self._lost_up_to < floor

    def _append(self, piece: _Piece, *, left: bool = False) -> None:
        if left:
            self._pieces.appendleft(piece)
        else:
            self._pieces.append(piece)
        self._count += len(piece.values)
        self._unhashed_bytes += piece.size_bytes

    def _pop(self) -> _Piece:
        piece = self._pieces.popleft()
        self._count -= len(piece.values)
        self._unhashed_bytes -= piece.size_bytes
        return piece


def _to_json(value: Plain) -> Plain:
    return str(value) if isinstance(value, Decimal) else value


def _larger(one: Plain, other: Plain) -> Plain:
    if one is None or other is None:
        return other if one is None else one
    return max(one, other)


def _lookback(column: pa.Field, lookback_s: float) -> int:
    """Return the lookback in the column's own unit."""
    kind, types = column.type, pa.types
    if types.is_timestamp(kind):
        return int(lookback_s * _PER_SECOND[kind.unit])
    if types.is_date32(kind):
        return -int(-lookback_s // 86_400)
    if types.is_date64(kind):
        return -int(-lookback_s // 86_400) * 86_400_000
    if types.is_integer(kind) or types.is_decimal(kind) or types.is_string(kind) or types.is_large_string(kind):
        return 0
    raise Configuration(
        f"the column {column.name!r} of type {kind} cannot be a cursor",
        reason="bad_cursor",
        fields={"cursor_field": f"{kind} has no order to follow"},
        hint="choose an integer, a date, a timestamp, a decimal or a text",
    )


# Row hashes


def row_hashes(batch: pa.RecordBatch) -> list[bytes]:
    """Return a 128-bit hash of each row's whole content; rows are equal where every column is.

    The bytes hashed are the row's values as text, led by the length of each value whose text may hold anything, so
    that no two rows share them.
    """
    lengths: list[pa.Array] = []
    values: list[pa.Array] = []
    for column in batch.columns:
        text, is_free = _text(column)
        if is_free:
            lengths.append(pc.fill_null(pc.cast(pc.binary_length(text), pa.string()), _NULL).cast(pa.large_binary()))
        values.append(pc.fill_null(text, b"" if is_free else _NULL.encode()))
    if not values:
        return [bytes(HASH_BYTES)] * batch.num_rows
    joined = pc.binary_join_element_wise(*lengths, *values, pa.scalar(b"\x1f", pa.large_binary()))
    return [hashlib.blake2b(row, digest_size=HASH_BYTES).digest() for row in joined.to_pylist()]


#: Stands for a missing value; the text of no number, time or truth value.
_NULL = "~"


def _text(column: pa.Array) -> tuple[pa.Array, bool]:
    """Return ``column`` as texts, and whether they may hold any byte."""
    kind, types = column.type, pa.types
    if isinstance(column, pa.ExtensionArray):
        return _text(column.storage)
    if types.is_string(kind) or types.is_large_string(kind) or types.is_binary(kind) or types.is_large_binary(kind):
        return column.cast(pa.large_binary()), True
    if types.is_fixed_size_binary(kind):
        return column.cast(pa.binary()).cast(pa.large_binary()), True
    if types.is_timestamp(kind) or types.is_time64(kind) or types.is_duration(kind) or types.is_date64(kind):
        column = column.cast(pa.int64())
    elif types.is_date32(kind) or types.is_time32(kind):
        column = column.cast(pa.int32())
    elif not (types.is_boolean(kind) or types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind)):
        return pa.array(_python_texts(column), pa.large_binary()), True
    return column.cast(pa.string()).cast(pa.large_binary()), False


def _python_texts(column: pa.Array) -> Iterator[bytes | None]:
    """Yield what Python writes for each value of a nested or rare type."""
    for value in column.to_pylist():
        yield None if value is None else repr(value).encode(errors="surrogatepass")
