"""SELECT statements as text: every name and every value quoted here, nothing executed.

COPY takes no parameters, and only COPY streams a result in binary, so values stand in the text as literals. A literal
is left untyped: PostgreSQL gives it the type of the column it is compared with.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from wellhead_postgres.columns import Comparable
from wellhead_postgres.tables import Column, Table
from wellhead_sdk import Filter
from wellhead_sdk.errors import Configuration

_COMPARISONS = {"=": "=", "!=": "<>", "<": "<", "<=": "<=", ">": ">", ">=": ">="}
#: A function takes 100 arguments at the most, two for each column.
_OBJECT_PAIRS = 50


def name(text: str) -> str:
    """Quote an identifier."""
    return '"' + text.replace('"', '""') + '"'


def literal(text: str) -> str:
    r"""Quote a value; a backslash means itself whatever ``standard_conforming_strings`` says.

    Raises:
        Configuration: it holds a NUL, which PostgreSQL's text cannot.
    """
    if "\0" in text:
        raise Configuration("a value holds a NUL character", reason="invalid_value", hint="remove the character")
    quoted = text.replace("'", "''")
    return f" E'{quoted.replace(chr(92), chr(92) * 2)}'" if "\\" in text else f"'{quoted}'"


def text_of(value: bool | int | float | str) -> str:
    """Return a filter's value as PostgreSQL's input functions read it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def expression(column: Column) -> str:
    """Return what is selected for ``column``."""
    return column.rule.select.format(name(column.name))


def guard(columns: Iterable[Column]) -> str | None:
    """Return an expression that is null for a good row and a JSON object {column: text} for one Arrow cannot hold."""
    guarded = [(column.name, column.rule.guard.format(name(column.name))) for column in columns if column.rule.guard]
    if not guarded:
        return None
    pairs = [f"{literal(column)}, CASE WHEN {bad} THEN {name(column)}::text END" for column, bad in guarded]
    objects = [
        f"jsonb_build_object({', '.join(pairs[at : at + _OBJECT_PAIRS])})" for at in range(0, len(pairs), _OBJECT_PAIRS)
    ]
    any_bad = " OR ".join(bad for _, bad in guarded)
    return f"CASE WHEN {any_bad} THEN jsonb_strip_nulls({' || '.join(objects)})::text END"


def is_pushed_down(table: Table, condition: Filter) -> bool:
    """Say whether PostgreSQL answers ``condition`` exactly as the host would on the Arrow values."""
    comparable = table.column(condition.column).rule.comparable
    if condition.op == "is_null":
        return True
    if condition.op in ("=", "!=", "in"):
        return comparable is not Comparable.NO
    return comparable in (Comparable.BYTES, Comparable.VALUE)


def condition(table: Table, wanted: Filter) -> str:
    """Return a filter as SQL; an unknown operator cannot come here, the SDK checks them."""
    column = table.column(wanted.column)
    quoted = name(column.name)
    if wanted.op == "is_null":
        return f"{quoted} IS {'NULL' if wanted.values[0] else 'NOT NULL'}"
    if column.rule.comparable is Comparable.EQUALITY and column.is_enum:
        # A word that is no label of the enum then matches nothing instead of failing.
        quoted = f"{quoted}::text"
    values = [literal(text_of(value)) for value in wanted.values]
    if wanted.op == "in":
        return f"{quoted} IN ({', '.join(values)})" if values else "false"
    if column.rule.comparable is Comparable.BYTES and wanted.op not in ("=", "!="):
        # The host orders text by bytes; the database's collation may not.
        quoted = f'{quoted} COLLATE "C"'
    return f"{quoted} {_COMPARISONS[wanted.op]} {values[0]}"


def beyond(columns: Sequence[str], operator: str, values: Sequence[str]) -> str:
    """Compare a key, of several columns perhaps, with a position in its order."""
    left, right = ", ".join(map(name, columns)), ", ".join(map(literal, values))
    return f"({left}) {operator} ({right})" if len(columns) > 1 else f"{left} {operator} {right}"


@dataclass(frozen=True, slots=True)
class Select:
    """One SELECT and what stands where in its rows.

    The wanted columns come first, then ``guard_at`` (None where nothing needs guarding); at ``keys_at`` stand the texts
    or integers of the ``key_names`` that order it.
    """

    sql: str
    columns: tuple[Column, ...]
    guard_at: int | None
    keys_at: tuple[int, ...]
    key_names: tuple[str, ...]


def select(
    table: Table,
    columns: Sequence[Column],
    *,
    order: Sequence[str] = (),
    conditions: Sequence[str] = (),
) -> Select:
    """Build the statement.

    Args:
        table: what is read.
        columns: what is wanted of it, in order.
        order: columns to sort by; their values are selected too, as a position to resume from.
        conditions: SQL, ANDed.
    """
    fields = [expression(column) for column in columns]
    check = guard(columns)
    guard_at = len(fields) if check else None
    fields += [check] if check else []
    # Where a wanted column already shows a key's text, or an integer of the same text, it is not selected twice.
    shown = {column.name: at for at, column in enumerate(columns) if column.rule.shows_text}
    keys_at = []
    for key in order:
        keys_at.append(shown.get(key, len(fields)))
        fields += [] if key in shown else [f"{name(key)}::text"]
    sql = f"SELECT {', '.join(fields)} FROM {name(table.schema)}.{name(table.name)} AS source"  # noqa: S608 - quoted
    if conditions:
        sql += " WHERE " + " AND ".join(f"({each})" for each in conditions)
    if order:
        # Qualified: a bare name in ORDER BY means the output column of that name, which may be its text.
        sql += " ORDER BY " + ", ".join(f"source.{name(key)}" for key in order)
    return Select(sql, tuple(columns), guard_at, tuple(keys_at), tuple(order))
