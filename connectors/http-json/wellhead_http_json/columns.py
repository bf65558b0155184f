"""Turns decoded JSON records into columns without changing a value: what a type cannot hold exactly is refused.

pyarrow alone would not do: it makes 1 of `Decimal("1.5")` for an integer column and 1.0 of true for a float column. So
each value is first taken by a function of its column's type, which knows JSON's kinds.
"""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import pyarrow as pa

from wellhead_http_json.config import RECORD


@dataclass(frozen=True, slots=True)
class Refused:
    """A record set aside, with the column and text at fault where it is one column's."""

    record: bytes = field(repr=False)
    reason: str
    key: Mapping[str, Any]
    column: str = ""
    text: str = field(default="", repr=False)


_TIME = re.compile(r"\d\d:\d\d(:\d\d(\.\d{1,6})?)?")


def json_text(value: Any) -> str:
    """Return ``value`` as JSON that says exactly what was decoded: a fraction keeps its digits."""
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    except TypeError:
        pass
    match value:
        case Decimal():
            return str(value)
        case dict():
            return "{" + ",".join(f"{json_text(key)}:{json_text(one)}" for key, one in value.items()) + "}"
        case list():
            return "[" + ",".join(json_text(one) for one in value) + "]"
        case _:
            raise TypeError(f"{type(value).__name__} does not come from JSON")


def convert(
    records: Sequence[Any], schema: pa.Schema, declared: Mapping[str, str], primary_key: Sequence[str]
) -> tuple[pa.RecordBatch, list[Refused]]:
    """Return the records as a batch of ``schema``, and those that do not fit.

    Args:
        records: elements of the answer's list; whatever is no object is refused.
        schema: columns wanted.
        declared: every column the stream declares; the fields beyond them are what is undeclared.
        primary_key: names a refused record.
    """
    refused = [Refused(_bytes(one), "malformed", {}, text="not an object") for one in records if type(one) is not dict]
    objects = [one for one in records if type(one) is dict]
    arrays: list[pa.Array] = []
    faults: dict[int, tuple[str, Any]] = {}
    for column in schema:
        values = _values(objects, column.name, declared)
        try:
            arrays.append(_array(values, column.type))
        except _REFUSALS:
            for index, value in enumerate(values):
                if index not in faults and not _fits(value, column.type):
                    faults[index] = (column.name, value)
            if not faults:
                raise  # each value fits and the column does not: not a matter of records
    if not faults:
        return pa.record_batch(arrays, schema=schema), refused
    for index, (name, value) in sorted(faults.items()):
        key = {part: objects[index].get(part) for part in primary_key}
        refused.append(Refused(_bytes(objects[index]), "unrepresentable", key, name, json_text(value)))
    kept = [one for index, one in enumerate(objects) if index not in faults]
    batch, _ = convert(kept, schema, declared, primary_key)
    return batch, refused


def _values(objects: list[dict[str, Any]], name: str, declared: Mapping[str, str]) -> list[Any]:
    if name in declared:
        return [one.get(name) for one in objects]
    if name == RECORD and not declared:
        return [json_text(one) for one in objects]
    # The column of undeclared fields, the only one that is not a field itself.
    rest = ({key: value for key, value in one.items() if key not in declared} for one in objects)
    return [json_text(one) if one else None for one in rest]


def _array(values: list[Any], kind: pa.DataType) -> pa.Array:
    take = _taker(kind)
    taken = [None if value is None else take(value) for value in values]
    if pa.types.is_date(kind) or pa.types.is_timestamp(kind):
        return pa.array(taken, pa.string()).cast(kind)
    return pa.array(taken, kind)


#: What taking and converting raise for a value that does not fit; half a surrogate raises a ValueError.
_REFUSALS = (pa.ArrowException, ValueError, TypeError, OverflowError)


def _fits(value: Any, kind: pa.DataType) -> bool:
    try:
        _array([value], kind)
    except _REFUSALS:
        return False
    return True


def _taker(kind: pa.DataType) -> Callable[[Any], Any]:
    if pa.types.is_string(kind):
        return _text
    if pa.types.is_time(kind):
        return _time
    if pa.types.is_temporal(kind):
        return _only(str)
    if pa.types.is_boolean(kind):
        return _only(bool)
    if pa.types.is_integer(kind):
        return _only(int)
    if pa.types.is_decimal(kind):
        return _only(int, Decimal)
    return _float


def _text(value: Any) -> str:
    return value if type(value) is str else json_text(value)


def _float(value: Any) -> float:
    if type(value) not in (int, Decimal):
        raise TypeError("not a number")
    found = float(value)
    if found in (float("inf"), float("-inf")):
        raise OverflowError("no float is that large")
    return found


def _time(value: Any) -> datetime.time:
    # Python would drop a seventh digit and keep a zone that the column cannot hold.
    if type(value) is not str or _TIME.fullmatch(value) is None:
        raise ValueError("not HH:MM[:SS[.ffffff]]")
    return datetime.time.fromisoformat(value)


def _only(*kinds: type) -> Callable[[Any], Any]:
    def take(value: Any) -> Any:
        # type() and not isinstance: true is an int to Python, not to JSON.
        if type(value) not in kinds:
            raise TypeError(f"{type(value).__name__} in a column of another type")
        return value

    return take


def _bytes(record: Any) -> bytes:
    return json_text(record).encode("utf-8", "backslashreplace")
