"""The types of columns whose values are more than the database checks: texts, times and documents.

SQLite keeps whatever text it is given, PostgreSQL does not, and neither knows half a surrogate pair: what came from a
source is made storable in one place, so that a record's odd character cannot keep a commit from happening. A value that
none of our statements can have written is told as such, with its column; `wellhead.registry.database` finds the row.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar

import sqlalchemy as sa
from sqlalchemy import JSON, Column, DateTime, Dialect, TypeDecorator

if TYPE_CHECKING:
    _Base = TypeDecorator[Any]
else:
    _Base = TypeDecorator


#: What no text of PostgreSQL may hold, and what UTF-8 has no bytes for.
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


class _Storable(_Base):
    """Text in which each character that a database refuses became U+FFFD; the same on both, so that both agree."""

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        """Replace what cannot be stored."""
        return None if value is None else _UNSTORABLE.sub("\ufffd", value)


class String(_Storable):
    """A short text."""

    impl = sa.String
    cache_ok = True


class Text(_Storable):
    """A text of any length."""

    impl = sa.Text
    cache_ok = True


class UnreadableValueError(ValueError):
    """A stored value that is not of its column's type."""

    def __init__(self, column: Column[Any], why: str) -> None:
        super().__init__(f"{column.table.name}.{column.name} {why}")
        self.column = column
        self.why = why


class _Checked(_Base):
    """A type that knows its column, once `watch` has told it, and names it where a value cannot be read."""

    column: Column[Any] | None = None
    told_as: ClassVar[str]

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], Any] | None:
        """Wrap what turns stored values into ours; outside a table, as in a bare expression, nothing is wrapped."""
        process, column = super().result_processor(dialect, coltype), self.column
        if process is None or column is None:
            return process

        def checked(stored: Any) -> Any:
            try:
                return process(stored)
            except (ValueError, TypeError) as exc:
                raise UnreadableValueError(column, f"is not {self.told_as}") from exc

        return checked


class Utc(_Checked):
    """An aware UTC time: ``timestamptz`` on PostgreSQL, fixed-width text that sorts by time on SQLite."""

    impl = DateTime(timezone=True)
    cache_ok = True
    told_as = "a time of the form 2026-01-02 03:04:05.000000"

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuse naive times, which would mean another moment on each machine."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"a time without a zone cannot be stored: {value.isoformat()}")
        utc = value.astimezone(UTC)
        return utc.replace(tzinfo=None) if dialect.name == "sqlite" else utc

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Give SQLite's naive values their zone back."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if dialect.name == "sqlite" else value.astimezone(UTC)


class JsonObject(_Checked):
    """A document whose outermost value is an object: a dict; None only where the column may be empty."""

    impl = JSON
    cache_ok = True
    told_as = "a JSON object"
    _outermost: ClassVar[type] = dict

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:  # noqa: ARG002
        """Refuse what is JSON, and not of this kind."""
        may_be_empty = self.column is None or self.column.nullable
        if not isinstance(value, self._outermost) and not (value is None and may_be_empty):
            raise TypeError(type(value).__name__)
        return value


class JsonArray(JsonObject):
    """A document whose outermost value is an array: a list."""

    cache_ok = True
    told_as = "a JSON array"
    _outermost = list


def watch(column: Column[Any]) -> None:
    """Let a column's type know whose values it reads."""
    if isinstance(column.type, _Checked):
        column.type.column = column
