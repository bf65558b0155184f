"""Two readings of one stream laid beside each other: what a reader would see otherwise, told by key where there is one.

    Parquet files ─▶ columns both have, of one type ─▶ a share of the keys at a time ─▶ joined ─▶ counted

Pure over files, and columnar. A share is as many keys as fit into `SHARE_BYTES`; all files are scanned for each share,
so that memory is bounded by it and not by the table.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from polars import selectors

from wellhead.errors import Code, ConfigurationError

NOT_COMPARABLE = Code("WH-CMP-010", "Two readings of a stream cannot be compared.")

#: Uncompressed bytes of both readings that are joined at a time.
SHARE_BYTES = 128 * 1024 * 1024
#: Of one value in memory, the longer texts left aside.
_VALUE_BYTES = 16
#: Polars' own decimals end here, where Arrow's go on.
_WIDEST_DECIMAL = 38
MASKED = "(masked)"

Kind = Literal["changed", "present_only", "candidate_only"]


@dataclass(frozen=True, slots=True)
class Reading:
    """One reading of a stream: its payload's schema, its files, and what else of it readers rest on.

    ``traits`` are such as primary key and cursor: what differs of them is a difference of the schema.
    """

    schema: pa.Schema
    files: tuple[Path, ...]
    traits: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Terms:
    """How two readings are compared.

    Attributes:
        key: columns that name a row; empty where none do.
        ignore: columns left out of everything.
        masked: columns whose values are never shown.
        extra: columns beside the payload's that are compared as well.
        cursor: column that tells when a row was last changed; empty where there is none.
        since: rows whose cursor is not before this moment are left out: they came while the readings were made.
        examples: rows to show.
    """

    key: tuple[str, ...] = ()
    ignore: frozenset[str] = frozenset()
    masked: frozenset[str] = frozenset()
    extra: tuple[str, ...] = ()
    cursor: str = ""
    since: datetime | None = None
    examples: int = 5


@dataclass(frozen=True, slots=True)
class SchemaChange:
    """A column, or another trait of the stream, that is not the same in both; None where it is not there at all."""

    name: str
    present: str | None
    candidate: str | None


@dataclass(frozen=True, slots=True)
class Example:
    """One row that differs; ``columns`` holds (present, candidate) of the columns that do, or one of the two."""

    kind: Kind
    key: Mapping[str, Any]
    columns: Mapping[str, tuple[Any, Any]]


@dataclass(frozen=True, slots=True)
class Comparison:
    """What two readings of a stream come to; pairs are (present, candidate).

    Attributes:
        schema: what differs of it.
        rows: all rows, those too new to compare as well.
        too_new: rows that came while the readings were made, and were left out.
        by_key: whether rows were matched by key; else by a hash of what they hold.
        present_only: keys, or rows where there is no key, that only the present reading has.
        candidate_only: those that only the candidate's has.
        repeated: keys that come more than once.
        changed: keys whose rows differ.
        columns: how many keys differ in each column, of those that come once in both.
        uncompared: columns of types that cannot be compared.
        examples: a few of the differences.
    """

    schema: tuple[SchemaChange, ...]
    rows: tuple[int, int]
    too_new: tuple[int, int]
    by_key: bool
    present_only: int
    candidate_only: int
    repeated: tuple[int, int]
    changed: int
    columns: Mapping[str, int]
    uncompared: tuple[str, ...]
    examples: tuple[Example, ...]

    @property
    def is_equal(self) -> bool:
        """Say whether a reader would see the same."""
        return not (self.schema or self.present_only or self.candidate_only or self.changed)


def compare(present: Reading, candidate: Reading, terms: Terms, *, share_bytes: int = SHARE_BYTES) -> Comparison:
    """Compare two readings of one stream; the order of their rows does not count.

    Raises:
        ConfigurationError: a column holds what cannot be compared (WH-CMP-010).
    """
    try:
        return _Comparing(present, candidate, terms, share_bytes).compare()
    except pl.exceptions.PolarsError as failure:
        raise ConfigurationError(
            f"the two readings cannot be compared: {failure}",
            code=NOT_COMPARABLE,
            hint="leave the column out with --ignore COLUMN",
        ) from failure


def schema_changes(present: Reading, candidate: Reading, ignore: Collection[str]) -> tuple[SchemaChange, ...]:
    """Return the columns and traits that differ, in the present schema's order and then the candidate's."""
    columns = [{item.name: _told(item) for item in side.schema} for side in (present, candidate)]
    return tuple(
        SchemaChange(name, was.get(name), now.get(name))
        for was, now in (columns, (present.traits, candidate.traits))
        for name in dict.fromkeys((*was, *now))
        if name not in ignore and was.get(name) != now.get(name)
    )


def _told(item: pa.Field) -> str:
    return str(item.type) if item.nullable else f"{item.type}, never null"


#: Names of our own columns; the payload's are renamed to c0, c1 …, so that none of theirs can meet ours.
_COUNT, _DIGEST, _COUNT_B, _DIGEST_B = "rows", "digest", "rows:b", "digest:b"
_HASHES = ("hash0", "hash1")
_NEW = "new"


class _Comparing:
    def __init__(self, present: Reading, candidate: Reading, terms: Terms, share_bytes: int) -> None:
        self._terms = terms
        self._schema = schema_changes(present, candidate, terms.ignore)
        sides = (_types(present, terms.extra), _types(candidate, terms.extra))
        both = [name for name in sides[0] if name in sides[1] and name not in terms.ignore]
        types = {name: _common(sides[0][name], sides[1][name]) for name in both}
        #: Compared columns by the name they have here.
        self._columns = {f"c{at}": name for at, name in enumerate(name for name in both if types[name] is not None)}
        self._uncompared = tuple(name for name in both if types[name] is None)
        here = {name: short for short, name in self._columns.items()}
        self._key = tuple(here[name] for name in terms.key) if terms.key and here.keys() >= set(terms.key) else ()
        self._values = [short for short in self._columns if short not in self._key]
        chosen = {short: kind for short, name in self._columns.items() if (kind := types[name]) is not None}
        cursor = here.get(terms.cursor, "")
        is_new = _is_new(cursor, chosen[cursor], terms.since) if cursor else pl.lit(value=False)
        self._sides = tuple(
            _scan(side.files, self._columns, chosen).with_columns(is_new.alias(_NEW)) for side in (present, candidate)
        )
        size = sum(_bytes(file, len(self._columns)) for side in (present, candidate) for file in side.files)
        self._shares = max(1, -(-size // share_bytes))
        self._present_only = self._candidate_only = self._changed = 0
        self._repeated = [0, 0]
        self._counts = dict.fromkeys(self._values, 0)
        self._examples: list[Example] = []

    def compare(self) -> Comparison:
        sums = [
            side.select(pl.len().alias(_COUNT), pl.col(_NEW).sum()).collect(engine="streaming").row(0)
            for side in self._sides
        ]
        for share in range(self._shares):
            (self._by_key if self._key else self._by_content)(share)
        return Comparison(
            schema=self._schema,
            rows=(sums[0][0], sums[1][0]),
            too_new=(sums[0][1], sums[1][1]),
            by_key=bool(self._key),
            present_only=self._present_only,
            candidate_only=self._candidate_only,
            repeated=(self._repeated[0], self._repeated[1]),
            changed=self._changed,
            columns={self._columns[short]: count for short, count in self._counts.items() if count},
            uncompared=self._uncompared,
            examples=tuple(self._examples),
        )

    def _share(self, side: pl.LazyFrame, names: Sequence[str], share: int) -> pl.LazyFrame:
        """Return the rows of one share: rows with equal values under ``names`` are in the same one."""
        if self._shares == 1 or not names:
            return side if share == 0 else side.limit(0)
        return side.filter(pl.struct(names).hash(seed=_SEED_OF_SHARES) % self._shares == share)

    def _by_key(self, share: int) -> None:
        key, values = list(self._key), self._values
        present, candidate = (self._share(side, key, share) for side in self._sides)
        # A key the candidate saw in a newer state was changed between the readings: its older state tells nothing.
        moved = candidate.filter(pl.col(_NEW)).select(key).unique()
        one, other = (
            side.filter(~pl.col(_NEW))
            .join(moved, on=key, how="anti", nulls_equal=True)
            .group_by(key)
            .agg(
                pl.len().alias(_COUNT),
                # A multiset's digest: 40 bits of each row's hash, which sixteen million rows cannot overflow.
                (pl.struct(values or key).hash(seed=_SEED_OF_ROWS) // 2**24).sum().alias(_DIGEST),
                pl.col(values).first(),
            )
            .collect(engine="streaming")
            for side in (present, candidate)
        )
        self._repeated[0] += int((one[_COUNT] > 1).sum())
        self._repeated[1] += int((other[_COUNT] > 1).sum())
        joined = one.join(
            other.with_columns(pl.lit(value=True).alias(_NEW)),
            on=key,
            how="full",
            nulls_equal=True,
            coalesce=True,
            suffix=":b",
        )
        missing, added = joined[_COUNT_B].is_null(), joined[_COUNT].is_null()
        is_single = (joined[_COUNT] == 1) & (joined[_COUNT_B] == 1)
        differs = {
            name: is_single.fill_null(value=False) & joined[name].ne_missing(joined[f"{name}:b"]) for name in values
        }
        others = ~is_single & ((joined[_COUNT] != joined[_COUNT_B]) | (joined[_DIGEST] != joined[_DIGEST_B]))
        changed = others.fill_null(value=False)
        for name, mask in differs.items():
            self._counts[name] += int(mask.sum())
            changed = changed | mask
        self._present_only += int(missing.sum())
        self._candidate_only += int(added.sum())
        self._changed += int(changed.sum())
        self._show("changed", joined.filter(changed))
        self._show("present_only", joined.filter(missing))
        self._show("candidate_only", joined.filter(added))

    def _show(self, kind: Kind, rows: pl.DataFrame) -> None:
        """Keep the first few rows of each kind; ``rows`` has both sides' values."""
        room = self._terms.examples - sum(example.kind == kind for example in self._examples)
        for row in rows.sort(self._key).head(max(0, room)).to_dicts():
            pairs = {name: (row[name], row[f"{name}:b"]) for name in self._values}
            told = {
                self._columns[name]: (self._shown(name, was), self._shown(name, now))
                for name, (was, now) in pairs.items()
                if kind == "changed" and (was != now or row[_COUNT] != 1 or row[_COUNT_B] != 1)
            }
            key = {self._columns[name]: self._shown(name, row[name]) for name in self._key}
            self._examples.append(Example(kind, key, told))

    def _shown(self, name: str, value: Any) -> Any:
        return MASKED if self._columns[name] in self._terms.masked else value

    def _by_content(self, share: int) -> None:
        names = list(self._columns)
        hashes = [pl.struct(names).hash(seed=seed).alias(name) for seed, name in enumerate(_HASHES, _SEED_OF_ROWS)]
        present, candidate = (
            self._share(side.filter(~pl.col(_NEW)), names, share).with_columns(hashes) for side in self._sides
        )
        one, other = (
            side.group_by(_HASHES).agg(pl.len().cast(pl.Int64).alias(_COUNT)).collect(engine="streaming")
            for side in (present, candidate)
        )
        self._repeated[0] += int((one[_COUNT] > 1).sum())
        self._repeated[1] += int((other[_COUNT] > 1).sum())
        joined = one.join(other, on=_HASHES, how="full", coalesce=True, suffix=":b")
        more = joined[_COUNT].fill_null(0) - joined[_COUNT_B].fill_null(0)
        self._present_only += int(more.clip(lower_bound=0).sum())
        self._candidate_only += int((-more).clip(lower_bound=0).sum())
        self._show_content("present_only", present, joined.filter(more > 0))
        self._show_content("candidate_only", candidate, joined.filter(more < 0))

    def _show_content(self, kind: Kind, side: pl.LazyFrame, rows: pl.DataFrame) -> None:
        room = self._terms.examples - sum(example.kind == kind for example in self._examples)
        wanted = rows.sort(_HASHES).head(max(0, room)).select(_HASHES)
        if wanted.is_empty():
            return
        found = side.join(wanted.lazy(), on=_HASHES, how="semi").unique(_HASHES).collect(engine="streaming")
        for row in found.sort(_HASHES).to_dicts():
            held = {self._columns[name]: self._shown(name, row[name]) for name in self._columns}
            told = {name: (value, None) if kind == "present_only" else (None, value) for name, value in held.items()}
            self._examples.append(Example(kind, {}, told))


#: Different seeds, so that the keys of one share do not fall into the same places of a join's table.
_SEED_OF_SHARES, _SEED_OF_ROWS = 11, 23


def _types(reading: Reading, extra: Sequence[str]) -> dict[str, pl.DataType | None]:
    """Return the type of each column that may be compared, None for one that cannot be."""
    found: dict[str, pl.DataType | None] = {}
    names = [*reading.schema.names, *extra]
    empty = pl.from_arrow(_readable(reading.schema).empty_table())
    sides = [empty.schema] if isinstance(empty, pl.DataFrame) else []
    sides += [pl.scan_parquet(file, glob=False).collect_schema() for file in reading.files]
    for schema in sides:
        for name, kind in schema.items():
            if name in names:
                known = found.get(name, kind)
                found[name] = None if known is None else _common(known, kind)
    for item in reading.schema:
        # What Polars cannot hold is not compared, whatever it takes the file's column for.
        if not _is_readable(item.type):
            found[item.name] = None
    return {name: found.get(name) for name in names if name in found}


def _is_readable(kind: pa.DataType) -> bool:
    if pa.types.is_decimal(kind):
        return bool(kind.precision <= _WIDEST_DECIMAL)
    return all(_is_readable(kind.field(at).type) for at in range(kind.num_fields))


def _readable(schema: pa.Schema) -> pa.Schema:
    return pa.schema([item for item in schema if _is_readable(item.type)])


def _common(one: pl.DataType | None, other: pl.DataType | None) -> pl.DataType | None:
    """Return the type in which two columns are compared, None where there is none that loses nothing."""
    if one is None or other is None:
        return None
    match one, other:
        case (pl.Categorical() | pl.Enum() | pl.String(), pl.Categorical() | pl.Enum() | pl.String()):
            return pl.String()
        case pl.Datetime(), pl.Datetime():
            # Polars would take the coarser unit, and cut off what differs.
            unit = min(one.time_unit, other.time_unit, key=("ns", "us", "ms").index)
            return pl.Datetime(unit, one.time_zone) if one.time_zone == other.time_zone else None
        case _ if one == other:
            return one
        case (pl.Null(), known) | (known, pl.Null()):
            return known
        case _ if _family(one) is not None and _family(one) == _family(other):
            empty = [pl.DataFrame(schema={"x": kind}) for kind in (one, other)]
            return pl.concat(empty, how="vertical_relaxed").schema["x"]
        case _:
            return None


def _family(kind: pl.DataType) -> str | None:
    if kind.is_integer() or kind.is_decimal():
        return "exact"
    return "float" if kind.is_float() else None


def _scan(files: Sequence[Path], columns: Mapping[str, str], types: Mapping[str, pl.DataType]) -> pl.LazyFrame:
    """Return all rows of some files with the compared columns alone, under their short names."""
    frames = [pl.LazyFrame(schema=dict(types))]
    for file in files:
        scanned = pl.scan_parquet(file, glob=False)
        has = scanned.collect_schema()
        frames.append(
            scanned.select(
                (selectors.by_name(name) if name in has else pl.lit(None)).cast(types[short]).alias(short)
                for short, name in columns.items()
            )
        )
    return pl.concat(frames, how="vertical")


def _is_new(cursor: str, kind: pl.DataType, since: datetime | None) -> pl.Expr:
    if since is None or not isinstance(kind, pl.Datetime):
        return pl.lit(value=False)
    # A time without a zone is taken as UTC, as the envelope takes it.
    moment = since.astimezone(UTC) if kind.time_zone else since.astimezone(UTC).replace(tzinfo=None)
    return (pl.col(cursor) >= pl.lit(moment)).fill_null(value=False)


def _bytes(file: Path, columns: int) -> int:
    """Estimate what a file's rows take in memory: what it holds uncompressed, or its values' places if that is more."""
    with pq.ParquetFile(file) as opened:
        found = opened.metadata
        held: int = sum(found.row_group(at).total_byte_size for at in range(found.num_row_groups))
        # A dictionary's values are few in the file and one a row in memory.
        return max(held, int(found.num_rows) * columns * _VALUE_BYTES)
