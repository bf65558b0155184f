"""What the catalog says: tables, their columns and keys. Schemas come from here, never from looking at rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
import pyarrow as pa

from wellhead_postgres import columns
from wellhead_postgres.columns import Rule, SourceType
from wellhead_sdk import Stream

# Domains are followed to their base type; the innermost modifier counts, as PostgreSQL itself does when it sends rows.
_COLUMNS = """
WITH RECURSIVE resolved AS (
    SELECT a.attrelid, a.attnum, t.oid AS type, a.atttypmod AS modifier,
           t.typtype, t.typbasetype, t.typtypmod, t.typname,
           a.attnotnull OR (t.typtype = 'd' AND t.typnotnull) AS required
    FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
    WHERE a.attrelid = ANY (%(oids)s) AND a.attnum > 0 AND NOT a.attisdropped
      AND has_column_privilege(a.attrelid, a.attnum, 'SELECT')
  UNION ALL
    SELECT r.attrelid, r.attnum, t.oid, CASE WHEN r.modifier >= 0 THEN r.modifier ELSE r.typtypmod END,
           t.typtype, t.typbasetype, t.typtypmod, t.typname, r.required
    FROM resolved r JOIN pg_type t ON t.oid = r.typbasetype WHERE r.typtype = 'd'
)
SELECT r.attrelid, a.attname, r.typname, r.type, r.modifier, r.typtype, NOT r.required,
       format_type(a.atttypid, a.atttypmod)
FROM resolved r JOIN pg_attribute a ON a.attrelid = r.attrelid AND a.attnum = r.attnum
WHERE r.typtype <> 'd' ORDER BY r.attrelid, r.attnum
"""

_KEYS = """
SELECT i.indrelid, array_agg(a.attname::text ORDER BY k.position)
FROM pg_index i CROSS JOIN LATERAL unnest(i.indkey) WITH ORDINALITY AS k(attnum, position)
JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
WHERE i.indrelid = ANY (%(oids)s) AND i.indisprimary AND i.indisvalid GROUP BY i.indrelid
"""

# Parts of a partitioned table are read through it; what may not be read is not offered.
_TABLES = """
SELECT c.oid, n.nspname, c.relname, greatest(c.reltuples, 0)::int8, greatest(c.relpages, 0)::int8
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %(schema)s AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition
  AND (%(table)s::text IS NULL OR c.relname = %(table)s)
  AND has_any_column_privilege(c.oid, 'SELECT')
ORDER BY c.relname
"""

# The server's own sample of the key; absent until the table has been analysed.
_BOUNDS = """
SELECT histogram_bounds::text::text[] FROM pg_stats
WHERE schemaname = %(schema)s AND tablename = %(table)s AND attname = %(column)s AND NOT inherited
"""

_PAGE_BYTES = 8192


@dataclass(frozen=True, slots=True)
class Column:
    """One column and how it travels."""

    name: str
    rule: Rule
    nullable: bool
    is_enum: bool = False

    @property
    def field(self) -> pa.Field:
        """The column as Arrow knows it."""
        return columns.field(self.name, self.rule, nullable=self.nullable)


@dataclass(frozen=True, slots=True)
class Table:
    """One table or view; the estimates are the server's, 0 where it never looked."""

    schema: str
    name: str
    columns: tuple[Column, ...]
    primary_key: tuple[str, ...] = ()
    estimated_rows: int = 0
    estimated_bytes: int = 0

    @property
    def stream_name(self) -> str:
        """How the table is offered."""
        return f"{self.schema}.{self.name}"

    @property
    def arrow(self) -> pa.Schema:
        """The Arrow schema of all columns."""
        return pa.schema([column.field for column in self.columns])

    @property
    def row_bytes(self) -> int:
        """About how large a row is."""
        return max(1, self.estimated_bytes // self.estimated_rows) if self.estimated_rows else 200

    def column(self, name: str) -> Column:
        """Return the column called ``name``; the SDK has checked that it is one."""
        return next(column for column in self.columns if column.name == name)

    def stream(self) -> Stream:
        """Return the table as the stream it is offered as; any orderable time or number may serve as its cursor."""
        return Stream(
            self.stream_name,
            self.arrow,
            primary_key=self.primary_key,
            cursor=tuple(column.name for column in self.columns if column.rule.cursor_type),
            estimated_rows=self.estimated_rows or None,
            estimated_bytes=self.estimated_bytes or None,
        )


def find(connection: psycopg.Connection[Any], schema: str, table: str | None = None) -> Iterator[Table]:
    """Yield the tables of ``schema`` that may be read, by name; only ``table`` if it is given."""
    found = connection.execute(_TABLES, {"schema": schema, "table": table}).fetchall()
    oids = {"oids": [row[0] for row in found]}
    keys = {oid: tuple(names) for oid, names in connection.execute(_KEYS, oids)}
    columns_of: dict[int, list[Column]] = {}
    for oid, name, type_name, type_oid, modifier, category, nullable, display in connection.execute(_COLUMNS, oids):
        source = SourceType(type_name, type_oid, modifier, category, display)
        column = Column(name, columns.rule_for(source), nullable, is_enum=category == "e")
        columns_of.setdefault(oid, []).append(column)
    for oid, schema_name, name, rows, pages in found:
        offered = tuple(columns_of.get(oid, ()))
        key = keys.get(oid, ())
        yield Table(
            schema_name,
            name,
            offered,
            key if set(key) <= {column.name for column in offered} else (),
            rows,
            pages * _PAGE_BYTES,
        )


def key_bounds(connection: psycopg.Connection[Any], table: Table) -> list[str]:
    """Return texts that cut the single-column key into parts of about equal size; none where nothing is known."""
    (key,) = table.primary_key
    row = connection.execute(_BOUNDS, {"schema": table.schema, "table": table.name, "column": key}).fetchone()
    return list(row[0]) if row and row[0] else []
