"""Rows and tables to record batches of the right size and schema, by columns.

Nothing is dropped on the way: a row that does not fit the schema, or is larger than a batch may be, is handed to
``reject`` with its reason.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import partial
from math import isinf
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from wellhead_sdk.errors import Data, Fatal
from wellhead_sdk.wire import arrow
from wellhead_sdk.wire.messages import MAX_BATCH_BYTES, MAX_BATCH_ROWS, MAX_SAMPLE_BYTES, TARGET_BATCH_BYTES

#: Rows converted before anything is known of their size.
FIRST_CUT_ROWS = 512
#: A table at least this large travels as it comes; smaller ones are gathered.
GATHER_BYTES = TARGET_BATCH_BYTES // 4
_SAMPLED_ROWS = 8

#: Says of a value whether it would quietly become another one.
Changes: TypeAlias = Callable[[Any], bool]


@dataclass(frozen=True, slots=True)
class Reject:
    """A row set aside, as JSON bytes, with the column at fault where it is one."""

    reason: str
    row: bytes
    key: Mapping[str, Any]
    column: str = ""
    text: str = ""


class Batcher:
    """Gathers one stream's rows and hands out finished batches in order, each encoded at most once.

    ``ship`` gets (batch, IPC bytes); ``reject`` gets rows that cannot travel. Not safe for threads.
    """

    def __init__(
        self,
        schema: pa.Schema,
        primary_key: Sequence[str],
        ship: Callable[[pa.RecordBatch, bytes], None],
        reject: Callable[[Reject], None],
        unknown: Callable[[str], None],
    ) -> None:
        """Take the exact schema of every batch.

        Args:
            schema: what rows and tables are held to.
            primary_key: columns that name a rejected row.
            ship: takes each finished batch.
            reject: takes each row that cannot travel.
            unknown: is told once of each field that rows have and the schema lacks.
        """
        self.schema = schema
        self._struct = pa.struct(list(schema))
        self._exact = _exact_kinds(schema)
        self._changers = {field.name: found for field in schema if (found := _changer(field.type)) is not None}
        self._watched = {name: changes for name, changes in self._changers.items() if name not in self._exact}
        self._narrow = [field.name for field in schema if _is_narrow(field.type)]
        self._names = frozenset(schema.names)
        self._required = tuple(field.name for field in schema if not field.nullable)
        self._key = tuple(name for name in primary_key if name in self._names)
        self._ship = ship
        self._reject = reject
        self._unknown = unknown
        self._told: set[str] = set()
        self._rows: list[dict[str, Any]] = []
        self._rows_size = 0
        self._cut_rows = FIRST_CUT_ROWS
        self._gathered: list[pa.RecordBatch] = []
        self._gathered_size = 0
        self.failure: Exception | None = None
        """Why rows that were taken are lost; whoever is to say that all were sent has to look here first."""

    @property
    def is_empty(self) -> bool:
        """Say whether nothing waits to be cut."""
        return not self._rows and not self._gathered

    def add_row(self, row: dict[str, Any]) -> None:
        """Take one row; only every so many are looked at, which is what makes single rows affordable."""
        if len(self._rows) % _SAMPLED_ROWS == 0:
            self._look_at((row,), stands_for=_SAMPLED_ROWS)
        # Until it is converted the author may fill the same dict anew.
        self._rows.append(dict(row))
        if len(self._rows) >= self._cut_rows or self._rows_size >= TARGET_BATCH_BYTES:
            self._convert()
            self._cut()

    def add_rows(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Take rows; those beyond the cut are shipped at once.

        Raises:
            Fatal: one of them is no mapping; none was taken.
        """
        taken = self._as_dicts(rows)
        done = kept = 0
        while done < len(taken):
            part = taken[done : done + self._cut_rows - len(self._rows)] if len(taken) > 1 else taken
            step = max(1, len(part) // _SAMPLED_ROWS)
            self._look_at(part[::step], stands_for=step)
            self._rows.extend(part)
            done += len(part)
            kept += len(part)
            if len(self._rows) >= self._cut_rows or self._rows_size >= TARGET_BATCH_BYTES:
                self._convert()
                self._cut()
                kept = 0
        if kept:
            # As above; what is converted by now needs no copy.
            self._rows[-kept:] = map(dict, self._rows[-kept:])

    def add_batch(self, batch: pa.RecordBatch) -> None:
        """Take a record batch; its columns are chosen by name and cast where the schema says otherwise.

        Raises:
            Data: a column is missing, cannot be cast, or holds nulls it must not.
        """
        self._convert()
        if batch.num_rows == 0:
            return
        self._gathered.append(self._conform(batch))
        self._gathered_size += self._gathered[-1].nbytes
        if self._gathered_size >= GATHER_BYTES:
            self._cut()

    def flush(self) -> None:
        """Ship everything gathered, however small."""
        self._convert()
        self._cut()

    # rows to columns

    def _as_dicts(self, rows: Sequence[Any]) -> Sequence[dict[str, Any]]:
        # A set of types is made in a fraction of the time that looking at each row takes.
        if set(map(type, rows)) <= {dict}:
            return rows
        for index, row in enumerate(rows):
            if not isinstance(row, Mapping):
                self.failure = Fatal(
                    f"out.emit takes dicts; number {index} of this list is {type(row).__name__}",
                    hint="leave out what is no record, or hand it to out.reject, which counts it",
                )
                raise self.failure
        return [dict(row) for row in rows]

    def _look_at(self, sample: Sequence[dict[str, Any]], *, stands_for: int) -> None:
        """Estimate the size of rows, and notice fields the schema lacks, from a few that stand for so many each."""
        size = 0
        for row in sample:
            size += 16 * len(row) + sum(len(value) for value in row.values() if isinstance(value, str | bytes))
            if not row.keys() <= self._names:
                for name in sorted(row.keys() - self._names - self._told):
                    self._told.add(name)
                    self._unknown(name)
        self._rows_size += size * stands_for

    def _convert(self) -> None:
        if not self._rows:
            return
        rows, self._rows, self._rows_size = self._rows, [], 0
        try:
            batch = self._columns(rows)
        except Exception as exc:
            self.failure = exc
            raise
        if batch.num_rows == 0:
            return
        row_bytes = max(1.0, batch.nbytes / batch.num_rows)
        # At most doubled each time: rows may grow at any moment, and the list of dicts is what costs memory.
        self._cut_rows = max(1, min(int(TARGET_BATCH_BYTES / row_bytes), 2 * self._cut_rows, MAX_BATCH_ROWS))
        self._gathered.append(batch)
        self._gathered_size += batch.nbytes

    def _columns(self, rows: list[dict[str, Any]]) -> pa.RecordBatch:
        try:
            # pyarrow cuts 1.9 to 1 for an integer column and drops the time of a date column without a word.
            exact = all({type(row.get(name)) for row in rows} <= kinds for name, kinds in self._exact.items())
            exact = exact and not any(changes(row.get(name)) for name, changes in self._watched.items() for row in rows)
            batch = pa.RecordBatch.from_struct_array(pa.array(rows, self._struct)) if exact else self._repaired(rows)
            if exact and any(pc.any(pc.is_inf(batch.column(name))).as_py() for name in self._narrow):
                batch = self._repaired(rows)
        except (pa.ArrowException, ValueError, TypeError, OverflowError):
            batch = self._repaired(rows)
        if self._required and any(batch.column(name).null_count for name in self._required):
            batch = self._without_missing(batch)
        return pa.record_batch(batch.columns, schema=self.schema)

    def _repaired(self, rows: list[dict[str, Any]]) -> pa.RecordBatch:
        """Convert column by column, setting aside the rows that one column cannot take."""
        faults: dict[int, tuple[str, str]] = {}
        columns: list[list[Any]] = []
        for field in self.schema:
            values: list[Any] = []
            changes = self._changers.get(field.name, _never)
            for index, row in enumerate(rows):
                try:
                    values.append(_scalar(row.get(field.name), field.type, changes))
                except (pa.ArrowException, ValueError, TypeError, OverflowError) as exc:
                    faults.setdefault(index, (field.name, f"{_shown(row.get(field.name))}: {exc}"))
                    values.append(None)
            columns.append(values)
        for index, (column, text) in sorted(faults.items()):
            self._set_aside("unrepresentable", rows[index], column, text)
        good = [index for index in range(len(rows)) if index not in faults]
        arrays = [
            pa.array([values[index] for index in good], field.type)
            for field, values in zip(self.schema, columns, strict=True)
        ]
        return pa.record_batch(arrays, schema=_nullable(self.schema))

    def _without_missing(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Set aside the rows that lack a value they must have."""
        keep = pa.array([True] * batch.num_rows)
        for name in self._required:
            missing = pc.is_null(batch.column(name))
            for index in pc.indices_nonzero(pc.and_(keep, missing)).to_pylist():
                self._set_aside("missing", batch.slice(index, 1).to_pylist()[0], name, "null")
            keep = pc.and_not(keep, missing)
        return batch.filter(keep)

    def _set_aside(self, reason: str, row: Mapping[str, Any], column: str, text: str) -> None:
        key = {name: row.get(name) for name in self._key}
        self._reject(Reject(reason, row_json(row), key, column, text[:MAX_SAMPLE_BYTES]))

    # tables to the schema

    def _conform(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        if batch.schema.equals(self.schema, check_metadata=True):
            columns = batch.columns
        else:
            columns = [self._column(batch, field) for field in self.schema]
        for field, column in zip(self.schema, columns, strict=True):
            if not field.nullable and column.null_count:
                raise Data(
                    f"column {field.name!r} holds {column.null_count} nulls and must hold none", reason="missing"
                )
        return pa.record_batch(columns, schema=self.schema)

    def _column(self, batch: pa.RecordBatch, field: pa.Field) -> pa.Array:
        index = batch.schema.get_field_index(field.name)
        if index < 0:
            raise Data(f"the emitted table has no column {field.name!r}", reason="missing_column")
        column = batch.column(index)
        if column.type == field.type:
            return column
        try:
            cast = column.cast(field.type)
            is_same = not _may_lose(column.type, field.type) or _is_same(column, cast)
        except pa.ArrowException as exc:
            raise Data(
                f"column {field.name!r} cannot become {field.type} from {column.type}: {type(exc).__name__}",
                reason="unrepresentable",
            ) from exc
        if not is_same:
            raise Data(
                f"column {field.name!r} holds values that {field.type} would change, as they are {column.type}",
                reason="unrepresentable",
                hint="round or cut them before they are emitted, or let the schema say their own type",
            )
        return cast

    # cutting

    def _cut(self) -> None:
        gathered, self._gathered, self._gathered_size = self._gathered, [], 0
        try:
            if gathered:
                self._send(gathered[0] if len(gathered) == 1 else pa.concat_batches(gathered))
        except Exception as exc:
            self.failure = exc
            raise

    def _send(self, batch: pa.RecordBatch) -> None:
        for part in _parts(batch):
            if part.nbytes <= MAX_BATCH_BYTES:
                encoded = arrow.to_ipc(part)
                if len(encoded) <= MAX_BATCH_BYTES:
                    self._ship(part, encoded)
                    continue
            if part.num_rows > 1:
                half = part.num_rows // 2
                self._send(part.slice(0, half))
                self._send(part.slice(half))
            else:
                self._set_aside("too_large", part.to_pylist()[0], "", "")


def _parts(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """Cut ``batch`` into pieces of about the target size; what is not half as large again stays whole."""
    pieces = max(round(batch.nbytes / TARGET_BATCH_BYTES), -(-batch.num_rows // MAX_BATCH_ROWS), 1)
    rows = -(-batch.num_rows // pieces)
    for start in range(0, batch.num_rows, rows):
        yield batch.slice(start, rows)


def _scalar(value: Any, kind: pa.DataType, changes: Changes) -> Any:
    """Return ``value`` in a form ``kind`` takes: texts are parsed where they stand for times or numbers.

    A list or an object in a text column is kept as JSON, and an exact decimal becomes a float where one is the same.
    """
    if value is None:
        return None
    if isinstance(value, dict | list) and (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        return _json(value)
    if isinstance(value, Decimal) and pa.types.is_floating(kind):
        if value.is_finite() and Decimal(repr(float(value))) != value:
            raise ValueError(f"no {kind} is exactly this decimal")
        value = float(value)
    if isinstance(value, str) and _is_parsed(kind):
        return pa.scalar(value, pa.string()).cast(kind).as_py()
    if changes(value):
        raise ValueError(f"a {type(value).__name__} does not fit {kind} unchanged")
    pa.array([value], kind)
    return value


def _exact_kinds(schema: pa.Schema) -> dict[str, set[type]]:
    """Return, for the flat columns pyarrow would change values for, the Python types it takes as they are."""
    kinds: dict[str, set[type]] = {}
    for field in schema:
        if pa.types.is_integer(field.type):
            kinds[field.name] = {int, type(None)}
        elif pa.types.is_floating(field.type):
            kinds[field.name] = {float, int, type(None)}
        elif pa.types.is_date(field.type):
            kinds[field.name] = {date, type(None)}
    return kinds


#: Microseconds in the units that are coarser than what Python counts in.
_COARSE = {"s": 1_000_000, "ms": 1_000}


def _is_narrow(kind: pa.DataType) -> bool:
    """Say whether a Python float may be beyond what ``kind`` holds; pyarrow makes an infinity of it."""
    return bool(pa.types.is_float16(kind) or pa.types.is_float32(kind))


def _changer(kind: pa.DataType) -> Changes | None:
    """Return what says of a value whether pyarrow would quietly make another one of it for ``kind``; None if never."""
    if pa.types.is_struct(kind):
        parts = {field.name: found for field in kind if (found := _changer(field.type)) is not None}
        return partial(_struct_changes, parts) if parts else None
    if pa.types.is_map(kind):
        key, item = _changer(kind.key_type), _changer(kind.item_type)
        return None if key is item is None else partial(_map_changes, key or _never, item or _never)
    if pa.types.is_nested(kind):
        part = None if pa.types.is_union(kind) else _changer(kind.value_type)
        return None if part is None else partial(_list_changes, _unchanged(kind.value_type), part)
    return _flat_changer(kind)


def _flat_changer(kind: pa.DataType) -> Changes | None:
    coarse = _COARSE.get(getattr(kind, "unit", ""), 1)
    if pa.types.is_integer(kind):
        return lambda value: isinstance(value, bool) or (isinstance(value, float | Decimal) and value != int(value))
    if _is_narrow(kind):
        largest = _LARGEST[kind.bit_width]
        return lambda value: (
            isinstance(value, bool) or (isinstance(value, float) and abs(value) > largest and not isinf(value))
        )
    if pa.types.is_floating(kind):
        return lambda value: isinstance(value, bool)
    if pa.types.is_date(kind):
        return lambda value: isinstance(value, datetime)
    if pa.types.is_time(kind):
        return lambda value: isinstance(value, time) and (value.tzinfo is not None or value.microsecond % coarse != 0)
    if pa.types.is_timestamp(kind) and coarse > 1:
        return lambda value: isinstance(value, datetime) and value.microsecond % coarse != 0
    if pa.types.is_duration(kind) and coarse > 1:
        return lambda value: isinstance(value, timedelta) and bool(value % timedelta(microseconds=coarse))
    return None


def _unchanged(kind: pa.DataType) -> frozenset[type]:
    """Return the Python types of which no value is changed for ``kind``, so that a list of them is seen at a glance."""
    if pa.types.is_integer(kind):
        return frozenset({int, type(None)})
    if pa.types.is_floating(kind) and not _is_narrow(kind):
        return frozenset({float, int, type(None)})
    return frozenset({type(None)})


def _never(_: Any) -> bool:
    return False


def _struct_changes(parts: Mapping[str, Changes], value: Any) -> bool:
    return isinstance(value, dict) and any(changes(value.get(name)) for name, changes in parts.items())


def _map_changes(key: Changes, item: Changes, value: Any) -> bool:
    pairs = value.items() if isinstance(value, dict) else value or ()
    return any(key(one) or item(other) for one, other in pairs)


def _list_changes(unchanged: frozenset[type], part: Changes, value: Any) -> bool:
    return isinstance(value, list | tuple) and not unchanged.issuperset(map(type, value)) and any(map(part, value))


#: By bits: what the largest finite float of this width is, and how far one may be from the number it stands for.
_LARGEST = {16: 65504.0, 32: 3.4028234663852886e38}
_PRECISION = {16: 1e-3, 32: 1e-6, 64: 1e-12}


def _may_lose(held: pa.DataType, wanted: pa.DataType) -> bool:
    """Say whether a cast may succeed and still change values, as that of a time to a day does.

    Where a float is asked for, the schema itself asks for its precision; what becomes infinite is looked for.
    """
    types = pa.types
    if types.is_list(held) and types.is_list(wanted):
        return _may_lose(held.value_type, wanted.value_type)
    return all(types.is_primitive(kind) or types.is_decimal(kind) for kind in (held, wanted))


def _is_same(column: pa.Array, cast: pa.Array) -> bool:
    held, wanted = column.type, cast.type
    if pa.types.is_list(held):
        return _is_same(column.flatten(), cast.flatten())
    if pa.types.is_floating(wanted) and (pa.types.is_floating(held) or pa.types.is_decimal(held)):
        before = pc.sum(pc.is_inf(column)).as_py() if pa.types.is_floating(held) else 0
        return bool((pc.sum(pc.is_inf(cast)).as_py() or 0) == (before or 0))
    back = cast.cast(held)
    if pa.types.is_floating(held) and pa.types.is_decimal(wanted):
        # 19.99 is the float that stands for it, not the number itself, and Arrow's way back may end beside it.
        allowed = pc.multiply(pc.abs(column), pa.scalar(_PRECISION[held.bit_width], held))
        return bool(pc.all(pc.less_equal(pc.abs(pc.subtract(back, column)), allowed)).as_py() in (True, None))
    return bool(back.equals(column))


def _is_parsed(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(types.is_temporal(kind) or types.is_decimal(kind) or types.is_integer(kind) or types.is_floating(kind))


def _nullable(schema: pa.Schema) -> pa.Schema:
    """Return ``schema`` where every column may hold nulls, so that the rows at fault can be found first."""
    return pa.schema([field.with_nullable(True) for field in schema])


def row_json(row: Mapping[str, Any]) -> bytes:
    """Return a row as JSON for a dead letter: bytes as hex, what JSON has no word for as text."""
    return json.dumps(row, ensure_ascii=False, default=_json_text).encode(errors="surrogatepass")


def _json_text(value: Any) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)


def _json(value: Any) -> str:
    """Return a value as JSON: an exact decimal keeps its digits and stays a number, a time is its text."""
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    except TypeError:
        pass
    match value:
        case Decimal() if value.is_finite():
            return str(value)
        case dict():
            return (
                "{"
                + ",".join(f"{json.dumps(str(key), ensure_ascii=False)}:{_json(one)}" for key, one in value.items())
                + "}"
            )
        case list() | tuple():
            return "[" + ",".join(map(_json, value)) + "]"
        case _:
            return json.dumps(str(value), ensure_ascii=False)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}…"


def sample_of(row: bytes) -> tuple[bytes, bytes, int]:
    """Return the SHA-256, the first 4 KiB and the size of a row set aside."""
    return hashlib.sha256(row).digest(), row[:MAX_SAMPLE_BYTES], len(row)


def as_batches(records: Any) -> Iterator[pa.RecordBatch]:
    """Return the record batches in an Arrow table, batch or reader.

    Raises:
        Fatal: it is none of these.
    """
    match records:
        case pa.RecordBatch():
            yield records
        case pa.Table():
            yield from records.to_batches()
        case pa.RecordBatchReader():
            yield from records
        case _:
            raise Fatal(f"out.emit takes dicts, lists of dicts and Arrow tables, not {type(records).__name__}")
