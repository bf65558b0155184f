"""Turns blocks of records into Arrow batches, and names each record that will not go.

The fast path is one pyarrow call a block. Only where that refuses is the block halved until the records that do not fit
stand alone, so that good records beside them keep the very same conversion and bad ones cost only themselves. pyarrow's
own hook for rows of the wrong width is not used: it breaks on bytes that are no UTF-8.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from wellhead_csv_file.blocks import Block, middle
from wellhead_sdk.errors import counted

#: From 2**53 on, which has 16 digits, a float does not hold every integer.
_LARGE_INTEGER = r"^[ \t]*[-+]?0*[1-9]\d{15,}[ \t]*$"


@dataclass(frozen=True, slots=True)
class Refused:
    """A record set aside: its place among the block's records, why, and the column and text at fault if one is."""

    position: int
    reason: str
    record: bytes = field(repr=False)
    column: str = ""
    text: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a block held: rows in order, refused records, and the offset behind it."""

    rows: pa.RecordBatch
    refused: tuple[Refused, ...]
    end: int


@dataclass(frozen=True, slots=True)
class Layout:
    """How a file's text becomes columns; ``columns`` are those wanted, in order."""

    names: tuple[str, ...]
    types: Mapping[str, pa.DataType]
    columns: tuple[str, ...]
    delimiter: str
    null_values: tuple[str, ...]

    @property
    def schema(self) -> pa.Schema:
        """The schema of every batch."""
        return pa.schema([pa.field(name, self.types[name]) for name in self.columns])


def parse(block: Block, layout: Layout) -> Parsed:
    """Parse a block; every record of it is in the result, as a row or as refused."""
    batches: list[pa.RecordBatch] = []
    refused: list[Refused] = []
    position = 0
    for piece in _pieces(block.data, layout):
        if isinstance(piece, bytes):
            refused.append(_why(piece, position, layout))
            position += 1
        else:
            batches += piece.to_batches()
            position += piece.num_rows
    return Parsed(_joined(batches, layout), tuple(refused), block.end)


def infer(sample: bytes, layout: Layout) -> dict[str, pa.DataType]:
    """Return the types that the sample's records suggest for the columns of ``layout``.

    A column without any value, or with bytes that are no text, is text; so is every column where the sample's records
    are not all of one width. Timestamps get microseconds at least: later ones may have fractions. Integers that int64
    or, among fractions, a float would not hold exactly stay text.
    """
    try:
        found = {one.name: _widened(one.type) for one in _read(sample, layout, {}, layout.names).schema}
    except pa.ArrowInvalid:
        return {name: pa.string() for name in layout.names}
    fractions = {name: pa.string() for name, kind in found.items() if pa.types.is_floating(kind)}
    if fractions:
        texts = _read(sample, layout, fractions, tuple(fractions))
        found |= {name: pa.string() for name in fractions if _holds_large_integers(texts.column(name))}
    return found


def fields(record: bytes, delimiter: str) -> list[str]:
    """Return the fields of one record; bytes that are no UTF-8 show as escapes."""
    text = io.StringIO(record.decode("utf-8", "backslashreplace"), newline="")
    return next(csv.reader(text, delimiter=delimiter), [])


def _pieces(data: bytes, layout: Layout) -> Iterator[pa.Table | bytes]:
    """Yield in order what ``data`` holds: tables of rows, and single records that no table takes."""
    try:
        # The last column is read even if nobody wants it: it is where an open quote shows.
        wanted = layout.columns if layout.names[-1] in layout.columns else (*layout.columns, layout.names[-1])
        table = _read(data, layout, layout.types, wanted)
    except pa.ArrowInvalid:
        table = None
    if table is not None and not _runs_on(table, data, layout):
        yield table.select(layout.columns)
        return
    cut = middle(data)
    if cut == 0:
        yield data
        return
    yield from _pieces(data[:cut], layout)
    yield from _pieces(data[cut:], layout)


def _runs_on(table: pa.Table, data: bytes, layout: Layout) -> bool:
    """Say whether the last field took in the line's end: its quote was never closed, and pyarrow does not mind."""
    name = layout.names[-1]
    last = table.column(name)
    if table.num_rows == 0 or not pa.types.is_string(last.type) or not (last[-1].as_py() or "").endswith("\n"):
        return False
    try:
        # A field may well end in a line end. Only in an open one is a further quote not the begin of another record.
        further = _read(_ended(data) + b'"', layout, {name: last.type}, (name,))
    except pa.ArrowInvalid:
        return False
    return bool(further.num_rows == table.num_rows)


def _ended(data: bytes) -> bytes:
    """Return ``data`` with the line end that a file's last record may lack: an open quote shows by taking it in."""
    return data if data.endswith(b"\n") else data + b"\n"


def _read(data: bytes, layout: Layout, types: Mapping[str, pa.DataType], columns: Sequence[str]) -> pa.Table:
    ended = _ended(data)
    return pa_csv.read_csv(
        pa.BufferReader(ended),
        # One thread: blocks are parsed ahead of their sending, which uses another core already.
        read_options=pa_csv.ReadOptions(use_threads=False, block_size=len(ended) + 1, column_names=layout.names),
        parse_options=pa_csv.ParseOptions(delimiter=layout.delimiter),
        convert_options=pa_csv.ConvertOptions(
            column_types=types,
            include_columns=columns,
            null_values=layout.null_values,
            # As PostgreSQL's COPY has it: nothing is null, "" is an empty text.
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        ),
    )


def _why(record: bytes, position: int, layout: Layout) -> Refused:
    """Say what is wrong with a single record: its width, a quote, or the first column that refuses its field."""
    found = fields(record, layout.delimiter)
    if len(found) != len(layout.names):
        text = f"{counted(len(found), 'field')} where {len(layout.names)} are expected"
        return Refused(position, "malformed", record, text=text)
    for column in layout.columns:
        try:
            _read(record, layout, layout.types, (column,))
        except pa.ArrowInvalid:
            return Refused(position, "unrepresentable", record, column, found[layout.names.index(column)])
    return Refused(position, "malformed", record, text="a quote is opened and never closed")


def _joined(batches: list[pa.RecordBatch], layout: Layout) -> pa.RecordBatch:
    if len(batches) == 1:
        return batches[0]
    if not batches:
        return pa.RecordBatch.from_arrays([pa.array([], one.type) for one in layout.schema], schema=layout.schema)
    return pa.Table.from_batches(batches).combine_chunks().to_batches()[0]


def _holds_large_integers(texts: pa.ChunkedArray) -> bool:
    """Say whether an integer has 16 digits or more: a float may alter it, and is what pyarrow infers all the same."""
    return bool(pc.any(pc.match_substring_regex(texts, _LARGE_INTEGER)).as_py())


def _widened(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_null(kind) or pa.types.is_binary(kind):
        return pa.string()
    if pa.types.is_timestamp(kind) and kind.unit != "ns":
        return pa.timestamp("us", kind.tz)
    return kind
