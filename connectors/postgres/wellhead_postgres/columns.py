"""The type table: how each PostgreSQL type is asked for, guarded and held in Arrow.

ADBC decodes binary COPY in C, and is exact for few types. Measured with version 1.13: infinite dates and timestamps
become garbage, timestamps beyond 294247 overflow, ``int[][]`` is flattened, oids turn negative, ``24:00`` becomes
``00:00``; Parquet refuses intervals. So a type is carried natively only where every value survives, a *guard* finds the
rows that hold one of the few values that do not, and everything else travels as PostgreSQL's own text.

    bool int2 int4 int8 float4 float8 text varchar char bytea    as they are
    date timestamp timestamptz time                               as they are, guarded
    numeric(p, s) up to 38 digits                                 text on the wire, decimal128 from there; NaN set aside
    oid                                                           int64
    all others                                                    text, ``wellhead.source_type`` in the field's metadata
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import pyarrow as pa

SOURCE_TYPE = b"wellhead.source_type"

#: Microseconds since 1970 in 64 bits end in the first days of this year; PostgreSQL's own end is 294276.
_LAST_TIMESTAMP = "'294247-01-01'"
_MAX_DECIMAL_DIGITS = 38
#: Types made by users and extensions begin here (FirstNormalObjectId).
_FIRST_USER_OID = 16384


class Comparable(Enum):
    """Which filters PostgreSQL and the host would answer alike."""

    NO = "no"
    EQUALITY = "equality"
    BYTES = "bytes"
    VALUE = "value"


@dataclass(frozen=True, slots=True)
class SourceType:
    """A column's type with domains resolved: name and oid of the base type, its modifier, its kind.

    ``category`` is ``typtype`` of pg_type: b(ase), c(omposite), e(num), r(ange), m(ultirange).
    """

    name: str
    oid: int
    modifier: int = -1
    category: str = "b"
    display: str = ""


@dataclass(frozen=True, slots=True)
class Rule:
    """How one column travels; in the templates ``{}`` stands for the quoted column.

    ``guard`` is true for values that ``arrow`` cannot hold. ``cursor_type`` is the type in which a cursor on the column
    is reckoned, None where the column cannot be one.
    """

    arrow: pa.DataType
    select: str = "{}"
    guard: str | None = None
    is_text_of: str | None = None
    cursor_type: str | None = None
    comparable: Comparable = Comparable.VALUE

    @property
    def shows_text(self) -> bool:
        """Say whether the value as selected, printed, is what PostgreSQL prints and reads."""
        return self.is_text_of is not None or bool(pa.types.is_integer(self.arrow) or pa.types.is_string(self.arrow))

    @property
    def is_decimal(self) -> bool:
        """Say whether what arrives as text becomes a decimal."""
        return bool(pa.types.is_decimal(self.arrow))


_TIMESTAMP_GUARD = f"(NOT isfinite({{0}}) OR {{0}} >= {_LAST_TIMESTAMP})"
_EXACT: dict[str, Rule] = {
    "bool": Rule(pa.bool_()),
    "int2": Rule(pa.int16(), cursor_type="int8"),
    "int4": Rule(pa.int32(), cursor_type="int8"),
    "int8": Rule(pa.int64(), cursor_type="int8"),
    "float4": Rule(pa.float32(), comparable=Comparable.NO),
    "float8": Rule(pa.float64(), comparable=Comparable.NO),
    "oid": Rule(pa.int64(), select="{}::int8"),
    "text": Rule(pa.string(), comparable=Comparable.BYTES),
    "varchar": Rule(pa.string(), comparable=Comparable.BYTES),
    # A cast to text would strip the padding that psql shows, and comparing ignores it.
    "bpchar": Rule(pa.string(), comparable=Comparable.NO),
    "bytea": Rule(pa.binary(), comparable=Comparable.NO),
    "date": Rule(pa.date32(), guard="NOT isfinite({})", cursor_type="date"),
    "timestamp": Rule(pa.timestamp("us"), guard=_TIMESTAMP_GUARD, cursor_type="timestamp"),
    "timestamptz": Rule(pa.timestamp("us", "UTC"), guard=_TIMESTAMP_GUARD, cursor_type="timestamptz"),
    "time": Rule(pa.time64("us"), guard="{} = '24:00'"),
}


def rule_for(source: SourceType) -> Rule:
    """Return how values of ``source`` travel; every type has a way."""
    if source.oid < _FIRST_USER_OID and source.name in _EXACT:
        return _EXACT[source.name]
    if source.name == "numeric" and source.oid < _FIRST_USER_OID and source.modifier >= 0:
        decimal = _decimal(source.modifier)
        if decimal is not None:
            return Rule(decimal, select="{}::text")
    return Rule(
        pa.string(),
        select=_text_of(source),
        is_text_of=source.display or source.name,
        comparable=_comparable(source),
    )


def field(name: str, rule: Rule, *, nullable: bool) -> pa.Field:
    """Return the Arrow field of a column."""
    metadata = {SOURCE_TYPE: rule.is_text_of.encode()} if rule.is_text_of else None
    return pa.field(name, rule.arrow, nullable, metadata)


def _decimal(modifier: int) -> pa.DataType | None:
    """Return the decimal that holds every value of ``numeric(p, s)``; the modifier packs both (numeric.c)."""
    packed = modifier - 4
    precision = packed >> 16 & 0xFFFF
    scale = ((packed & 0x7FF) ^ 1024) - 1024
    if scale < 0:
        precision, scale = precision - scale, 0
    precision = max(precision, scale)
    return pa.decimal128(precision, scale) if precision <= _MAX_DECIMAL_DIGITS else None


def _text_of(source: SourceType) -> str:
    """Return the expression whose text is that of the type's output function, as psql prints it."""
    if source.name == "inet" and source.oid < _FIRST_USER_OID:
        return "textin(inet_out({}))"
    # These have casts to text of their own, which may differ from their output: "char", and whatever users made.
    if source.name == "char" or (source.oid >= _FIRST_USER_OID and source.category == "b"):
        return "CASE WHEN {0} IS NOT NULL THEN format('%s', {0}) END"
    return "{}::text"


def _comparable(source: SourceType) -> Comparable:
    if source.oid < _FIRST_USER_OID and source.name == "numeric":
        return Comparable.VALUE
    if source.name == "uuid" or source.category == "e":
        return Comparable.EQUALITY
    return Comparable.NO
