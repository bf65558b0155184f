"""The columns and rows a user asked for, applied by the host where the connector did not push them down.

Pure and columnar: a batch in, a batch out.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from wellhead.errors import Code, ConfigurationError
from wellhead_sdk.wire.messages import Filter

UNKNOWN_COLUMN = Code("WH-RUN-020", "A stream selection names a column the stream does not have.")
BAD_FILTER = Code("WH-RUN-021", "A filter's value does not fit its column.")

_COMPARE = {
    "=": pc.equal,
    "!=": pc.not_equal,
    "<": pc.less,
    "<=": pc.less_equal,
    ">": pc.greater,
    ">=": pc.greater_equal,
}


def asked(columns: Sequence[str], filters: Sequence[Filter]) -> tuple[str, ...]:
    """Return the columns to ask a connector for: a filter it leaves to us needs its column here as well."""
    if not columns:
        return ()
    return tuple(dict.fromkeys([*columns, *(condition.column for condition in filters)]))


def left(columns: Sequence[str], filters: Sequence[Filter], *, is_pushed_down: bool) -> tuple[str, ...]:
    """Return the columns the host still has to choose, or none where exactly they come."""
    return () if is_pushed_down and asked(columns, filters) == tuple(columns) else tuple(columns)


def check(schema: pa.Schema, columns: Sequence[str], filters: Sequence[Filter], stream: str) -> None:
    """Refuse names the stream does not have, all at once.

    Raises:
        ConfigurationError: WH-RUN-020.
    """
    wanted = [*columns, *(condition.column for condition in filters)]
    unknown = sorted({name for name in wanted if name not in schema.names})
    if unknown:
        raise ConfigurationError(
            f"stream {stream!r} has no column {', '.join(map(repr, unknown))}",
            code=UNKNOWN_COLUMN,
            hint=f"its columns are {', '.join(schema.names)}",
        )


def narrow(batch: pa.RecordBatch, columns: Sequence[str], filters: Sequence[Filter]) -> pa.RecordBatch:
    """Keep the rows that meet every filter, then the wanted columns in the wanted order.

    A null never meets a comparison, as in SQL.

    Raises:
        ConfigurationError: WH-RUN-021, a value cannot be compared with its column.
    """
    for condition in filters:
        batch = batch.filter(_mask(batch.column(condition.column), condition))
    if columns:
        keep = [*columns, *(name for name in ("_op", "_pos") if name in batch.schema.names and name not in columns)]
        batch = batch.select(keep)
    return batch


def _mask(column: pa.Array, condition: Filter) -> pa.Array:
    try:
        match condition.op:
            case "is_null":
                wanted = bool(condition.values[0])
                return pc.is_null(column) if wanted else pc.is_valid(column)
            case "in":
                return pc.is_in(
                    column, pa.array([_like(value, column.type) for value in condition.values], column.type)
                )
            case operator:
                return _COMPARE[operator](column, pa.scalar(_like(condition.values[0], column.type), column.type))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError, ValueError, OverflowError) as exc:
        raise ConfigurationError(
            f"filter {condition.column} {condition.op} {list(condition.values)!r} does not fit the type {column.type}",
            code=BAD_FILTER,
            hint="write the value as the column's type, times as RFC 3339",
        ) from exc


def _like(value: Any, kind: pa.DataType) -> Any:
    """Parse a text into what the column holds; a number keeps its exact value or is refused."""
    if isinstance(value, float) and pa.types.is_integer(kind) and not value.is_integer():
        raise ValueError("Arrow would cut the fraction off, and the filter would keep other rows")
    if isinstance(value, float) and pa.types.is_decimal(kind):
        return Decimal(repr(value))
    if isinstance(value, str) and not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        return pa.scalar(value).cast(kind).as_py()
    return value
