"""A release tried beside the present one: told by key what differs, and nothing changed by it, however it ends."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.project import FIXTURES, WELLHEAD, Project

pytestmark = [pytest.mark.e2e, pytest.mark.real, pytest.mark.timeout(300)]

#: Tables every run and probe writes to; columns that say who reads a connection, and what its file says by now.
OF_RUNS = {"connector_runs", "run_events", "pending_revocations", "egress_audit"}
OF_READERS = {"lease_epoch", "lease_run", "lease_until", "lease_host", "file_sha256", "status", "updated_at"}
#: Of every seventh row the next release gets another label; of all rows it drops number 30.
CHANGE = """
        at = batch.schema.get_field_index("label")
        ids = batch["id"]
        seventh = pc.equal(ids, pc.multiply(pc.divide(ids, 7), 7))
        labels = pc.if_else(seventh, "another", batch["label"])
        batch = batch.set_column(at, batch.schema.field("label"), labels)
        batch = batch.filter(pc.not_equal(ids, 30))
"""


@pytest.fixture
def beside(project: Project, tmp_path: Path) -> Project:
    """A project with a connection that has read 28 rows of 42, and a release 1.1.0 that nobody follows."""
    project.own_store()
    newer = tmp_path / "generator"
    shutil.copytree(FIXTURES / "generator", newer)
    for name in ("manifest.yaml", "pyproject.toml"):
        file = newer / name
        file.write_text(file.read_text().replace("1.0.0", "1.1.0"))
    code = newer / "wellhead_generator" / "connector.py"
    before, line, after = code.read_text().partition("        batch = self._source.table.batch(start, stop)\n")
    assert line
    imported = before.replace(
        "import wellhead_sdk as sdk\n", "import pyarrow.compute as pc\n\nimport wellhead_sdk as sdk\n"
    )
    code.write_text(imported + line + CHANGE.lstrip("\n") + after)
    project.must("publish", newer, "--channel", "candidate")
    _connect(project, 28)
    assert project.run("numbers").exit_code == 0
    _connect(project, 42)
    return project


def _connect(project: Project, rows: int, **config: Any) -> None:
    stream = {"name": "rows", "mode": "incremental"}
    project.connect("numbers", "dev/generator", [stream], config={"rows": rows, **config})


def _stands(project: Project) -> dict[str, Any]:
    """Return all that a connection is: the registry but for runs and leases, channels and resolution, and its files."""
    with sqlite3.connect(project.root / ".wellhead" / "registry.db") as database:
        database.row_factory = sqlite3.Row
        tables = [row[0] for row in database.execute("select name from sqlite_master where type = 'table'")]
        rows = {
            name: [
                {column: value for column, value in dict(row).items() if column not in OF_READERS}
                for row in database.execute(f"select * from {name}")
            ]
            for name in tables
            if name not in OF_RUNS
        }
    files = {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest()
        for folder in ("bronze", "bronze.staging")
        for path in sorted((project.root / folder).rglob("*"))
        if path.is_file()
    }
    return {**rows, **files}


def _docker(*words: str) -> list[str]:
    return subprocess.run(["docker", *words], capture_output=True, text=True, check=True).stdout.split()


def _left(project: Project) -> dict[str, list[str]]:
    """Return what the project's host has in the Engine and in its scratch folder."""
    host = (project.root / ".wellhead" / "host-id").read_text().strip()
    mine = ["--quiet", "--filter", f"label=wellhead.host_id={host}"]
    scratch = project.root / ".wellhead" / "scratch"
    return {
        "containers": _docker("ps", "--all", *mine),
        "networks": _docker("network", "ls", *mine),
        "scratch": [path.name for path in scratch.iterdir()] if scratch.exists() else [],
    }


NOTHING: dict[str, list[str]] = {"containers": [], "networks": [], "scratch": []}


def test_what_another_release_reads_is_told_and_nothing_else_changes(beside: Project) -> None:
    before = _stands(beside)
    outcome = beside.call("shadow", "numbers", "--version", "1.1.0", "--json")
    assert outcome.exit_code == 78, outcome.stderr
    assert "WH-RUN-092" in outcome.stderr
    document = outcome.document
    assert (document["status"], document["present"]["version"], document["candidate"]["version"]) == (
        "different",
        "1.0.0",
        "1.1.0",
    )
    (stream,) = document["streams"]
    found = stream["comparison"]
    assert (stream["begin"], found["matched_by"]) == ("checkpoint", "key")
    assert found["rows"] == {"present": 14, "candidate": 13}
    assert (found["present_only"], found["candidate_only"], found["changed"]) == (1, 0, 2)
    assert found["columns"] == {"label": 2}
    assert [example["key"] for example in found["examples"]] == [{"id": 28}, {"id": 35}, {"id": 30}]
    assert found["examples"][0]["columns"]["label"]["candidate"] == "another"
    assert _stands(beside) == before
    assert _left(beside) == NOTHING
    # The state stands where it stood, so the next run reads what the shadow has read.
    run = beside.run("numbers").document
    assert (run["release"]["version"], run["streams"][0]["rows"]) == ("1.0.0", 14)


def test_both_read_from_the_start_where_that_is_asked_for_and_agree_where_columns_are_ignored(beside: Project) -> None:
    before = _stands(beside)
    full = beside.call("shadow", "numbers", "--version", "1.1.0", "--full", "--json").document["streams"][0]
    assert (full["begin"], full["comparison"]["rows"]) == ("start", {"present": 42, "candidate": 41})
    same = beside.call("shadow", "numbers", "--version", "1.0.0", "--json")
    assert (same.exit_code, same.document["status"]) == (0, "equal")
    told = beside.call("shadow", "numbers", "--version", "1.1.0", "--ignore", "label")
    assert told.exit_code == 78
    assert "only in 1.0.0" in told.stdout
    assert "changed" not in told.stdout
    assert _stands(beside) == before
    assert _left(beside) == NOTHING


@contextmanager
def _reading(project: Project) -> Iterator[subprocess.Popen[bytes]]:
    """Start a shadow that takes its time, and lend it once the first release has rows on disk."""
    _connect(project, 428, page_rows=1, page_sleep_ms=100)
    command = [sys.executable, str(WELLHEAD), "shadow", "numbers", "--version", "1.1.0", "--json"]
    environment = {**os.environ, "WELLHEAD__COMMIT__MAX_BYTES": "2000"}
    with subprocess.Popen(
        command, cwd=project.root, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as child:
        try:
            while not list((project.root / ".wellhead" / "scratch").glob("*/present/bronze/**/*.parquet")):
                assert child.poll() is None
                time.sleep(0.1)
            yield child
        finally:
            child.kill()


def test_a_shadow_that_is_asked_to_end_leaves_nothing(beside: Project) -> None:
    before = _stands(beside)
    with _reading(beside) as child:
        child.send_signal(signal.SIGTERM)
        out, _ = child.communicate(timeout=60)
        assert child.returncode == 143
        document = json.loads(out)
        assert (document["status"], document["streams"]) == ("stopped", [])
    assert _stands(beside) == before
    assert _left(beside) == NOTHING
    assert beside.run("numbers").document["streams"][0]["rows"] == 400


def test_what_a_killed_shadow_left_is_cleaned(beside: Project) -> None:
    beside.configure(lease={"ttl_s": 3})
    before = _stands(beside)
    with _reading(beside) as child:
        child.kill()
        child.wait(60)
    left = _left(beside)
    assert len(left["containers"]) == 1
    assert left["scratch"]
    deadline = time.monotonic() + 30
    while beside.must("clean", "--json").document["going_on"]:
        assert time.monotonic() < deadline
        time.sleep(0.5)
    assert _left(beside) == NOTHING
    assert _stands(beside) == before
    assert beside.run("numbers").document["streams"][0]["rows"] == 400
