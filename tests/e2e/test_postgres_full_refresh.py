"""A full refresh that is interrupted again and again: readers see the old rows or the new ones, and never a part."""

from __future__ import annotations

import functools
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
import pytest

from tests.kills import kill_at
from tests.lender import Lender
from tests.parts import wait_until
from tests.project import Project, Table

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

STREAM = "public.orders"
#: About 70 MB, which the connector cuts into a dozen checkpoints; each of them is committed.
ROWS, BODY = 70_000, 960
EAGER = {"WELLHEAD__COMMIT__MAX_BYTES": "1", "WELLHEAD__LEASE__TTL_S": "1", "WELLHEAD__RUN__IDLE_ATTEMPTS": "3"}


@dataclass
class Reader:
    """Reads a table over and over as a stranger does: glob the folder, read the files, ask nobody."""

    files: str
    seen: set[tuple[int, int, int]] = field(default_factory=set)
    readings: int = 0

    def read(self) -> None:
        """Note (generation, rows, different ids) of every generation that is there."""
        asked = f"select _generation, count(*), count(distinct id) from read_parquet('{self.files}') group by 1"
        with duckdb.connect() as database:
            try:
                found = database.execute(asked).fetchall()
            except duckdb.IOException:
                # The folders changed places between the glob and the open: an error, and nothing half.
                return
        # More than one generation in one reading shows as more than one row; the test knows what may be seen.
        self.seen |= {tuple(row) for row in found} if len(found) == 1 else {(-1, len(found), 0)}
        self.readings += 1


@contextmanager
def _reading(project: Project, name: str) -> Iterator[Reader]:
    reader = Reader(f"{project.table(name, STREAM)}/*.parquet")
    over = threading.Event()

    def go_on() -> None:
        while not over.wait(0.05):
            reader.read()

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        yield reader
    finally:
        over.set()
        thread.join()


def _prepared(shipped: Project, lender: Lender, folder: Path, name: str) -> Project:
    """Return a project whose first generation is whole, with every row of the source changed since."""
    project = shipped.copy(folder)
    lender.create(
        name,
        "create table orders (id int primary key, version int not null, body text not null);"
        f"insert into orders select n, 1, rpad(n::text, {BODY}, 'x') from generate_series(1, {ROWS}) n",
    )
    lender.introduce(project, name)
    lender.connect(project, name, name, [STREAM], partitions=1)
    first = project.run(name)
    assert first.exit_code == 0, first.stderr
    lender.psql(name, "update orders set version = 2")
    lender.psql(name, f"delete from orders where id > {ROWS - 10}")
    return project


def _source(lender: Lender, name: str) -> Table:
    text = lender.psql(name, "copy (select id, version, md5(body) from orders order by id) to stdout")
    return [(int(key), int(version), body) for key, version, body in (line.split("\t") for line in text.splitlines())]


def _assert_whole(project: Project, lender: Lender, name: str, reader: Reader) -> None:
    reader.read()
    generations = sorted({generation for generation, _, _ in reader.seen})
    assert reader.seen == {(generations[0], ROWS, ROWS), (generations[-1], ROWS - 10, ROWS - 10)}
    assert len(generations) == 2
    assert reader.readings > 10
    stored = project.rows(name, STREAM, "id, version, md5(body)", "order by id")
    assert stored == _source(lender, name)
    assert project.staged() == []


def test_the_host_killed_at_each_tenth(shipped: Project, lender: Lender, tmp_path: Path) -> None:
    name = "tenths"
    project = _prepared(shipped, lender, tmp_path, name)
    with _reading(project, name) as reader:
        progress = []
        for _ in range(9):
            killed = project.run(name, "--if-running", "wait", env={**EAGER, **kill_at("committed")})
            assert killed.was_killed, killed.stderr
            progress.append(len(_gathered(project)))
        assert {generation for generation, _, _ in reader.seen} == {1}
        # The control: each run goes on where the one before it died.
        assert progress == sorted(set(progress))
        assert progress[-1] >= 9
        last = project.run(name, "--if-running", "wait", env=EAGER)
        assert last.exit_code == 0, last.stderr
        assert last.document["streams"][0]["rows"] < ROWS / 2
    _assert_whole(project, lender, name, reader)


def test_the_connector_killed_in_the_middle(shipped: Project, lender: Lender, tmp_path: Path) -> None:
    name = "middle"
    project = _prepared(shipped, lender, tmp_path, name)
    killed: list[str] = []
    with _reading(project, name) as reader:
        killer = threading.Thread(target=_kill_connector, args=(project, name, (1, 3, 5), killed))
        killer.start()
        outcome = project.run(name, env=EAGER)
        killer.join()
    assert outcome.exit_code == 0, outcome.stderr
    assert len(set(killed)) == 3
    assert outcome.document["attempts"] == 4
    _assert_whole(project, lender, name, reader)


def _gathered(project: Project) -> list[Path]:
    """Return the segments of the second generation that wait for it to become whole."""
    return sorted((project.root / "bronze.staging").rglob("part-all-2-*"))


def _has(project: Project, segments: int) -> bool:
    return len(_gathered(project)) >= segments


def _kill_connector(project: Project, name: str, after: tuple[int, ...], killed: list[str]) -> None:
    """Kill the connector's container once so many segments wait to become the new generation."""
    labels = (f"label=wellhead.connection=default/default/{name}", "label=wellhead.role=connector")
    asked = ["docker", "ps", "--quiet", *(word for label in labels for word in ("--filter", label))]
    for segments in after:
        wait_until(functools.partial(_has, project, segments), what=f"{segments} segments are there")
        # What the one before gathered may suffice: the next one is yet to start then, or that one yet to go.
        wait_until(lambda: bool(_others(asked, killed)), what="the next container runs")
        container = _others(asked, killed)[0]
        subprocess.run(["docker", "kill", container], check=True, capture_output=True)
        killed.append(container)


def _others(asked: list[str], killed: list[str]) -> list[str]:
    listed = subprocess.run(asked, check=True, capture_output=True, text=True).stdout.split()
    return [container for container in listed if container not in killed]
