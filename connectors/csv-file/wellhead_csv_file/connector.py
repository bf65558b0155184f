"""The conversation: which file, which columns, and its records as batches with a checkpoint behind each.

Columns are learned at login, the edition to read is fixed by the plan, and every step opens the file by its name anew:
each therefore requires that the file is still the one the step before saw, or that one grown at its end, and so does
every block before it is sent. A state is the offset behind the last block, so an interrupted read
goes on there; in a file that has changed since, offsets mean nothing any more and the plan is stale.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from wellhead_csv_file import table
from wellhead_csv_file.blocks import BLOCK_BYTES, Text, blocks, changed
from wellhead_csv_file.config import CsvFileConfig
from wellhead_csv_file.edition import Edition
from wellhead_csv_file.table import Layout, Parsed
from wellhead_sdk import (
    CheckpointType,
    Configuration,
    Connector,
    Out,
    Plan,
    PlanStale,
    Pushdown,
    ReadRequest,
    Replay,
    Stream,
    SyncMode,
    Unit,
)
from wellhead_sdk.column_types import column_type
from wellhead_sdk.connector import WHOLE_STREAM
from wellhead_sdk.errors import counted

_BOM = "\ufeff".encode()


@dataclass(frozen=True, slots=True)
class CsvFile:
    """A file that was found readable: its first record told the columns, ``body`` is where the records begin.

    ``edition`` is the file all this was learned from.
    """

    config: CsvFileConfig
    path: Path
    names: tuple[str, ...]
    body: int
    edition: Edition

    @property
    def stream(self) -> str:
        """The stream's name."""
        return self.config.stream or self.path.stem

    def open(self, edition: Edition | None = None) -> Text:
        """Open the given edition of the file for reading, or the one it is now.

        Raises:
            Configuration: there is no such file any more, or it may not be read.
            Transient: it holds that edition no longer.
        """
        try:
            return Text(self.path, self.config.encoding, edition)
        except OSError as exc:
            raise _unreadable(self.config.path, exc) from exc


class CsvFileConnector(Connector):
    """Offers one stream: the file's records, read whole and in order."""

    Config = CsvFileConfig

    def authenticate(self, config: CsvFileConfig, secrets: Mapping[str, str]) -> CsvFile:  # noqa: ARG002 - a file asks for none
        """Open the file and read its first record.

        Raises:
            Configuration: it is not there, not readable, empty, or its columns cannot be told apart.
        """
        path = Path(config.path)
        try:
            with Text(path, config.encoding) as text:
                names, body = _columns(text, config)
        except OSError as exc:
            raise _unreadable(config.path, exc) from exc
        unknown = sorted(config.columns.keys() - set(names))
        if unknown:
            raise Configuration(
                f"{config.path} has no column {', '.join(unknown)}",
                fields={f"columns.{name}": "no such column" for name in unknown},
                hint=f"its columns are {', '.join(names)}",
            )
        return CsvFile(config, path, names, body, text.edition)

    def probes(self, session: CsvFile) -> Mapping[str, Callable[[], str]]:
        """Return the test that the file can be read and parsed."""

        def readable() -> str:
            width, size = counted(len(session.names), "column"), counted(session.edition.size, "byte")
            return f"{session.path.name}: {width}, {size}"

        return {"file": readable}

    def discover(self, session: CsvFile) -> Iterable[Stream]:
        """Yield the file as a stream without key or cursor."""
        layout = _layout(session, _types(session))
        yield Stream(
            session.stream,
            layout.schema,
            sync_modes=(SyncMode.FULL_REFRESH,),
            replay=Replay.POSITION,
            estimated_bytes=session.edition.size,
        )

    def plan(self, session: CsvFile, request: ReadRequest) -> Plan:  # noqa: ARG002 - it has one stream
        """Plan the file as it is now, in one piece.

        Raises:
            Transient: it is not the one whose columns were learned.
        """
        return Plan((Unit(WHOLE_STREAM, asdict(_edition_now(session))),))

    def check_plan(self, session: CsvFile, request: ReadRequest, units: Sequence[Unit]) -> None:
        """Refuse to go on in a file that is no longer the one that was planned."""
        if [unit.descriptor for unit in units] != [asdict(_edition_now(session))]:
            raise PlanStale(
                f"{session.config.path} has changed since its read was planned",
                stream=request.stream,
                hint="it is read anew from its beginning; nothing has to be done",
            )

    def pushdown(self, session: CsvFile, request: ReadRequest) -> Pushdown:  # noqa: ARG002
        """Say that columns nobody wants are not converted; filters are left to the host."""
        return Pushdown(columns=True)

    def read(self, session: CsvFile, request: ReadRequest, out: Out) -> None:
        """Emit the file's records from the state's offset on, one batch and one checkpoint a block.

        Raises:
            Transient: the file is not the planned one, or stopped being it on the way.
        """
        state = request.cursor or {"offset": session.body, "records": 0}
        offset, records = int(state["offset"]), int(state["records"])
        layout = _layout(session, {field.name: field.type for field in request.schema}, tuple(request.schema.names))
        with ExitStack() as scope:
            text = scope.enter_context(session.open(_planned(request.unit)))
            text.skip(offset)
            # Parsed one block ahead: while a batch is on its way, the next is being made. Closed before the file is.
            ahead = scope.enter_context(closing(_ahead(table.parse(block, layout) for block in blocks(text, offset))))
            for block in ahead:
                # All of the block was read by now: in one edition, or none of it is sent and no checkpoint covers it.
                text.require(text.edition)
                _emit(block, records, out)
                records += block.rows.num_rows + len(block.refused)
                out.count(bytes=block.end - offset)
                offset = block.end
                out.checkpoint({"offset": offset, "records": records}, type=CheckpointType.OFFSET)


def _emit(block: Parsed, records: int, out: Out) -> None:
    out.emit(block.rows)
    for refused in block.refused:
        out.reject(
            refused.record,
            reason=refused.reason,
            key={"record": records + refused.position + 1},
            column=refused.column,
            text=refused.text,
        )


def _ahead(parsed: Iterator[Parsed]) -> Generator[Parsed, None, None]:
    with ThreadPoolExecutor(1, "parse") as worker:
        upcoming = worker.submit(next, parsed, None)
        while (block := upcoming.result()) is not None:
            upcoming = worker.submit(next, parsed, None)
            yield block


def _columns(text: Text, config: CsvFileConfig) -> tuple[tuple[str, ...], int]:
    """Return the columns' names and where the records begin."""
    first = next(blocks(text, 0, 64 * 1024), None)
    if first is None:
        raise Configuration(
            f"{config.path} is empty", fields={"path": "is an empty file"}, hint="a file has at least a header"
        )
    mark = len(_BOM) if first.data.startswith(_BOM) else 0
    record, end = _first_record(first.data, mark)
    if config.has_header and _holds_bare_cr(record):
        raise Configuration(
            f"{config.path}: a CR that belongs to no CRLF stands in its header, as where lines end in CR alone",
            fields={"path": "has CR-only line ends"},
            hint=r"save the file with LF or CRLF line ends, as `tr '\r' '\n' < OLD.csv > NEW.csv` does",
        )
    width = len(table.fields(record, config.delimiter))
    names = config.column_names
    if config.has_header and not names:
        names = tuple(table.fields(record, config.delimiter))
    elif not names:
        names = tuple(f"column_{number}" for number in range(1, width + 1))
    _require_names(names, width, config)
    return names, end if config.has_header else mark


def _first_record(data: bytes, start: int) -> tuple[bytes, int]:
    end = start
    while end < len(data):
        end = data.find(b"\n", end) + 1 or len(data)
        if data.count(b'"', start, end) % 2 == 0 and data[start:end].strip():
            break
    return data[start:end].strip(b"\r\n"), end


def _holds_bare_cr(record: bytes) -> bool:
    """Say whether a CR stands outside quotes in ``record``."""
    return any(b"\r" in outside for outside in record.split(b'"')[::2])


def _require_names(names: tuple[str, ...], width: int, config: CsvFileConfig) -> None:
    repeated = sorted({name for name in names if names.count(name) > 1})
    problem = ""
    if len(names) != width:
        problem = f"column_names holds {counted(len(names), 'name')}, the file's first record {counted(width, 'field')}"
    elif repeated:
        problem = f"the names {', '.join(map(repr, repeated))} stand for more than one column"
    elif "" in names:
        problem = f"column {names.index('') + 1} has no name"
    if problem:
        raise Configuration(
            f"{config.path}: {problem}",
            fields={"column_names": problem},
            hint="check delimiter and encoding, or name every column in column_names",
        )


def _types(session: CsvFile) -> dict[str, pa.DataType]:
    """Return each column's type: as configured, else as `types` says."""
    types: dict[str, pa.DataType] = {name: pa.string() for name in session.names}
    if session.config.types == "inferred":
        with session.open(session.edition) as text:
            text.skip(session.body)
            for sample in blocks(text, session.body, BLOCK_BYTES):
                types = table.infer(sample.data, _layout(session, types))
                break
    for name, word in session.config.columns.items():
        types[name] = column_type(word)
    return types


def _layout(session: CsvFile, types: Mapping[str, Any], columns: tuple[str, ...] | None = None) -> Layout:
    whole = {name: pa.string() for name in session.names} | dict(types)
    config = session.config
    return Layout(session.names, whole, columns or session.names, config.delimiter, config.null_values)


def _edition_now(session: CsvFile) -> Edition:
    """Return the file as it is now, which what was learned from the session's edition must hold for."""
    with session.open() as text:
        text.require(session.edition)
        # Growth can complete a first record that was still being written when it was taken for a whole one.
        if _columns(text, session.config) != (session.names, session.body):
            raise changed(session.path, "its first record has grown")
        return text.edition


def _planned(unit: Unit) -> Edition:
    match unit.descriptor:
        case {
            "size": int(size),
            "mtime_ns": int(mtime_ns),
            "inode": int(inode),
            "head": int(head),
            "tail": int(tail),
        }:
            return Edition(size, mtime_ns, inode, head, tail)
        case _:
            raise PlanStale("the read was planned by a release that kept another descriptor")


def _unreadable(path: str, exc: OSError) -> Configuration:
    return Configuration(
        f"cannot read {path}: {exc.strerror}",
        fields={"path": exc.strerror or "cannot be read"},
        hint="name the folder under the connection's `mounts` and make the file readable for user 65532",
    )
