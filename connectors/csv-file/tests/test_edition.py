"""A file that changes while it is in use: told from one that grows, and never read as half of each."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from wellhead_csv_file.config import CsvFileConfig
from wellhead_csv_file.connector import CsvFile, CsvFileConnector
from wellhead_csv_file.edition import Edition
from wellhead_sdk import Configuration, PlanStale, ReadRequest, SyncMode, Transient, Unit

HEADER = b"id,name\n"
#: Three blocks of the connector's 4 MiB.
ROWS = b"".join(b"%07d,%s\n" % (number, b"n" * 40) for number in range(200_000))
CONNECTOR = CsvFileConnector()

Change = Callable[[Path], None]


@dataclass
class Tape:
    """Records what a read puts out; ``meanwhile`` happens behind the first batch."""

    meanwhile: Callable[[], object] = lambda: None
    batches: list[pa.RecordBatch] = field(default_factory=list)
    states: list[dict[str, int]] = field(default_factory=list)
    rejected: list[bytes] = field(default_factory=list)

    def emit(self, batch: pa.RecordBatch) -> None:
        self.batches.append(batch)
        happen, self.meanwhile = self.meanwhile, lambda: None
        happen()

    def checkpoint(self, state: dict[str, int], **_: object) -> None:
        self.states.append(state)

    def reject(self, record: bytes, **_: object) -> None:
        self.rejected.append(record)

    def count(self, **_: int) -> None:
        pass

    @property
    def rows(self) -> int:
        return sum(batch.num_rows for batch in self.batches)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    found = tmp_path / "people.csv"
    found.write_bytes(HEADER + ROWS)
    return found


def log_in(file: Path, **config: Any) -> CsvFile:
    return CONNECTOR.authenticate(CsvFileConfig(path=str(file), **config), {})


def request(session: CsvFile, unit: Unit | None = None) -> ReadRequest:
    (stream,) = CONNECTOR.discover(session)
    whole = ReadRequest(stream.name, SyncMode.FULL_REFRESH, stream.schema)
    return whole if unit is None else ReadRequest(stream.name, SyncMode.FULL_REFRESH, stream.schema, unit)


def plan(session: CsvFile) -> Unit:
    (unit,) = CONNECTOR.plan(session, request(session)).units
    return unit


def read(session: CsvFile, asked: ReadRequest, tape: Tape) -> Tape:
    CONNECTOR.read(session, asked, tape)  # type: ignore[arg-type]
    return tape


def touched_later(file: Path) -> None:
    """Set a later time of change: two writes within a tick of the clock have the same."""
    os.utime(file, ns=(0, file.stat().st_mtime_ns + 1_000_000_000))


def replaced(content: bytes) -> Change:
    def change(file: Path) -> None:
        new = file.with_suffix(".new")
        new.write_bytes(content)
        new.replace(file)

    return change


def overwritten(content: bytes) -> Change:
    """Write over the file in place, all of it at once, as editors and shells do."""

    def change(file: Path) -> None:
        file.write_bytes(content)
        touched_later(file)

    return change


def patched(offset: int, content: bytes) -> Change:
    def change(file: Path) -> None:
        with file.open("r+b") as opened:
            opened.seek(offset)
            opened.write(content)
        touched_later(file)

    return change


def grown(content: bytes) -> Change:
    def change(file: Path) -> None:
        with file.open("ab") as opened:
            opened.write(content)
        touched_later(file)

    return change


CHANGES = {
    "replaced by a longer one": (replaced(HEADER + ROWS + ROWS), "another file"),
    "replaced by one with other columns": (replaced(b"name,id\n" + ROWS), "another file"),
    "emptied": (overwritten(b""), "shrunk"),
    "cut off": (overwritten(HEADER + ROWS[:5000]), "shrunk"),
    "overwritten with as much": (overwritten(b"name,id\n" + ROWS), "has not grown"),
    "patched in its middle": (patched(len(ROWS) // 2, b"x"), "has not grown"),
    "overwritten with more": (overwritten(b"name,id\n" + ROWS + ROWS), "overwritten"),
    "overwritten with more behind the same beginning": (overwritten(HEADER + ROWS[5000:] + ROWS), "overwritten"),
}
changes = pytest.mark.parametrize(("change", "told"), CHANGES.values(), ids=CHANGES)


@changes
def test_an_edition_says_what_became_of_it(change: Change, told: str, file: Path) -> None:
    with file.open("rb") as opened:
        edition = Edition.of(opened.fileno())
    change(file)
    with file.open("rb") as opened:
        assert told in edition.difference(opened.fileno())


@pytest.mark.parametrize("size", [0, 1, 5000, 20_000])
def test_an_edition_goes_on_in_a_file_that_only_grew(size: int, tmp_path: Path) -> None:
    file = tmp_path / "x.csv"
    file.write_bytes(ROWS[:size])
    with file.open("rb") as opened:
        edition = Edition.of(opened.fileno())
        grown(ROWS)(file)
        assert edition.difference(opened.fileno()) == ""


@changes
def test_a_file_that_changed_after_its_columns_were_learned_is_not_planned(
    change: Change, told: str, file: Path
) -> None:
    session = log_in(file)
    asked = request(session)
    change(file)
    with pytest.raises(Transient, match=told) as caught:
        CONNECTOR.plan(session, asked)
    assert str(file) in caught.value.message
    assert (caught.value.reason, bool(caught.value.hint)) == ("file_changed", True)


@changes
def test_a_file_that_changed_after_its_plan_gives_no_row_and_no_checkpoint(
    change: Change, told: str, file: Path
) -> None:
    session = log_in(file)
    asked, tape = request(session, plan(session)), Tape()
    change(file)
    with pytest.raises(Transient, match=told):
        read(session, asked, tape)
    assert (tape.batches, tape.rejected, tape.states) == ([], [], [])


IN_PLACE = {name: change for name, (change, told) in CHANGES.items() if told != "another file"}


@pytest.mark.parametrize("change", IN_PLACE.values(), ids=IN_PLACE)
def test_a_file_that_changes_during_its_read_gives_no_checkpoint_behind_the_change(change: Change, file: Path) -> None:
    session = log_in(file)
    tape = Tape(meanwhile=lambda: change(file))
    with pytest.raises(Transient):
        read(session, request(session, plan(session)), tape)
    assert [state["records"] for state in tape.states] == [tape.rows]
    assert len(tape.batches) == 1


def test_a_file_replaced_during_its_read_is_read_to_the_end_it_had(file: Path) -> None:
    session = log_in(file)
    tape = Tape(meanwhile=lambda: replaced(b"name,id\n")(file))
    assert read(session, request(session, plan(session)), tape).rows == 200_000


def test_a_file_may_grow_at_any_moment_and_its_plan_says_how_far_it_is_read(file: Path) -> None:
    session = log_in(file)
    grown(b"1,before the plan\n")(file)
    unit = plan(session)
    grown(b"2,behind it\n")(file)
    tape = Tape(meanwhile=lambda: grown(ROWS)(file))
    assert read(session, request(session, unit), tape).rows == 200_001


@pytest.mark.parametrize("config", [{}, {"has_header": False}])
def test_a_first_record_that_was_still_being_written_is_learned_anew(config: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "people.csv"
    file.write_bytes(b"id,na")
    session = log_in(file, **config)
    asked = request(session)
    grown(b"me,amount\n1,a,2\n")(file)
    with pytest.raises(Transient, match="first record has grown"):
        CONNECTOR.plan(session, asked)


def test_types_are_inferred_from_the_file_whose_columns_were_learned(file: Path) -> None:
    session = log_in(file, types="inferred")
    replaced(b"name,id\n" + ROWS)(file)
    with pytest.raises(Transient, match="another file"):
        list(CONNECTOR.discover(session))


def test_a_file_that_is_gone_after_its_columns_were_learned_is_named_with_the_mend(file: Path) -> None:
    session = log_in(file)
    asked = request(session, plan(session))
    file.unlink()
    with pytest.raises(Configuration, match="No such file") as caught:
        read(session, asked, Tape())
    assert "mounts" in caught.value.hint


def test_a_plan_that_another_release_described_otherwise_is_stale(file: Path) -> None:
    session = log_in(file)
    status = file.stat()
    descriptor = {"size": status.st_size, "mtime_ns": status.st_mtime_ns, "inode": status.st_ino}
    with pytest.raises(PlanStale):
        CONNECTOR.check_plan(session, request(session), [Unit("all", descriptor)])
