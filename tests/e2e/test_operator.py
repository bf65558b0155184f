"""What an operator does, with the commands he has: look, approve, go back, clean, and keep things elsewhere."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests import kills
from tests.lender import Lender
from tests.project import FIXTURES, WELLHEAD, Outcome, Project

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]


def _answer(outcome: Outcome, exit_code: int = 0) -> Any:
    assert outcome.exit_code == exit_code, outcome.stderr
    return json.loads(outcome.stdout)


@pytest.fixture
def own(project: Project) -> Project:
    """A project whose store is its own as well, so that it may be added to and broken; blobs are shared by links."""
    store = project.root / ".wellhead" / "own-store"
    document = _settings(project)
    shutil.copytree(document["store"]["path"], store, copy_function=os.link)
    project.configure(store={"path": str(store)})
    return project


def _settings(project: Project) -> dict[str, Any]:
    found: dict[str, Any] = YAML(typ="safe").load(project.root / "wellhead.yaml")
    return found


def test_doctor_finds_a_machine_well_and_a_lost_layer(own: Project) -> None:
    findings = _answer(own.call("doctor", "--json"))
    assert {finding["name"] for finding in findings} >= {"docker", "registry", "store", "trust", "secrets", "disk"}
    assert [finding for finding in findings if not finding["ok"]] == []
    blobs = own.root / ".wellhead" / "own-store" / "blobs" / "sha256"
    # The largest blob of a store is a layer, the base that all of its images stand on.
    max(blobs.iterdir(), key=lambda blob: blob.stat().st_size).unlink()
    (ill,) = [finding for finding in _answer(own.call("doctor", "--json"), 78) if not finding["ok"]]
    assert ill["name"] == "store"
    assert "dev/generator 1.0.0" in ill["said"]
    assert "publish the same sources again" in ill["mend"]
    verified = own.call("verify", "dev/generator")
    assert (verified.exit_code, verified.stderr.split()[0]) == (76, "WH-IMG-011")


def test_a_connection_is_checked_without_a_row_being_read(project: Project) -> None:
    project.connect("numbers", "dev/generator", ["rows"])
    checked = _answer(project.call("connection", "check", "numbers", "--json"))
    assert checked["release"] == {"id": "dev/generator", "version": "1.0.0"}
    (probe,) = _answer(project.call("runs", "list", "--json"))
    assert (probe["kind"], probe["status"], probe["outcome"]["exit_code"]) == ("probe", "succeeded", 0)
    assert not project.table("numbers", "rows").exists()


def test_an_approval_opens_a_host_until_it_is_taken_back(shipped: Project, tmp_path: Path) -> None:
    project = shipped.copy(tmp_path)
    where = {"host": "db.example.com", "database": "x"}
    secrets = {slot: f"env://{slot.upper()}_OF_NOBODY" for slot in ("username", "password")}
    project.connect("orders", "wellhead/postgres", ["public.orders"], config=where, secrets=secrets)
    project.configure(secrets={"store": "local"})
    refused = project.run("orders")
    assert (refused.exit_code, refused.error_code) == (76, "WH-RUN-082")
    project.must("connection", "approve", "orders", "db.example.com:5432")
    # The next thing that is missing: the plan stands.
    assert project.run("orders").error_code != "WH-RUN-082"
    project.must("connection", "approve", "orders", "db.example.com:5432", "--revoke")
    assert project.run("orders").error_code == "WH-RUN-082"


def test_an_approval_does_not_pass_to_another_connector(shipped: Project, tmp_path: Path) -> None:
    project = shipped.copy(tmp_path)
    project.configure(secrets={"store": "local"})
    secrets = {slot: f"env://{slot.upper()}_OF_NOBODY" for slot in ("username", "password")}
    first = {"config": {"host": "db.example.com", "database": "x"}, "secrets": secrets}
    streams = [{"name": "orders", "path": "orders"}]
    second = {"config": {"base_url": "https://db.example.com:5432/v1", "streams": streams}}
    project.connect("orders", "wellhead/postgres", ["public.orders"], **first)
    project.must("connection", "approve", "orders", "db.example.com:5432")
    project.connect("orders", "wellhead/http-json", ["orders"], **second)
    refused = project.run("orders")
    assert (refused.exit_code, refused.error_code) == (76, "WH-RUN-082")
    assert "db.example.com:5432" in refused.stderr
    # What was approved for the former connector still is, until it is taken back.
    project.connect("orders", "wellhead/postgres", ["public.orders"], **first)
    assert project.run("orders").error_code != "WH-RUN-082"
    project.must("connection", "approve", "orders", "db.example.com:5432", "--revoke")
    assert project.run("orders").error_code == "WH-RUN-082"


def _newer(folder: Path, version: str) -> Path:
    """Return the generator's sources under another version."""
    newer = folder / "generator"
    shutil.copytree(FIXTURES / "generator", newer)
    for name in ("manifest.yaml", "pyproject.toml"):
        file = newer / name
        file.write_text(file.read_text().replace("1.0.0", version))
    return newer


def test_a_connection_goes_back_is_held_and_let_go(own: Project, tmp_path: Path) -> None:
    newer = _newer(tmp_path, "1.1.0")
    own.connect("numbers", "dev/generator", [{"name": "rows", "mode": "incremental"}], config={"rows": 10})
    own.must("publish", newer)
    assert own.run("numbers").document["release"]["version"] == "1.1.0"
    back = _answer(own.call("rollback", "connection", "numbers", "--reason", "too slow", "--json"))
    assert [(each["before"], each["to"]) for each in back] == [("1.1.0", "1.0.0")]
    held = own.run("numbers").document
    assert (held["status"], held["release"]["version"], held["held"]) == ("succeeded", "1.0.0", True)
    (hold,) = _answer(own.call("hold", "list", "--json"))
    assert (hold["hold"]["version"], hold["hold"]["reason"]) == ("1.0.0", "too slow")
    own.must("hold", "release", "numbers")
    assert own.run("numbers").document["release"]["version"] == "1.1.0"
    assert own.count("numbers", "rows") == 10


def test_a_state_that_moved_on_goes_back_and_exactly_what_was_announced_is_read_again(
    own: Project, tmp_path: Path
) -> None:
    def read(rows: int) -> str:
        own.connect("numbers", "dev/generator", [{"name": "rows", "mode": "incremental"}], config={"rows": rows})
        outcome = own.run("numbers")
        assert outcome.exit_code == 0, outcome.stderr
        return str(outcome.document["release"]["version"])

    newer = _newer(tmp_path, "1.1.0")
    with (newer / "manifest.yaml").open("a") as manifest:
        manifest.write("compatibility:\n  state: {writes: 2, reads: [1, 2]}\n")
    code = newer / "wellhead_generator" / "connector.py"
    code.write_text(
        re.sub(r"(class Generator\(.*\n(?:    \"\"\".*\"\"\"\n)?)", r"\1\n    state_version = 2\n", code.read_text())
    )
    assert read(50) == "1.0.0"
    own.must("publish", newer)
    assert [read(80), read(100)] == ["1.1.0", "1.1.0"]
    refused = own.call("rollback", "connection", "numbers", "--to", "1.0.0")
    assert (refused.exit_code, refused.stderr.split()[0]) == (78, "WH-CAT-062")
    assert "reads 50 rows again" in refused.stderr
    assert read(100) == "1.1.0"
    [back] = _answer(own.call("rollback", "connection", "numbers", "--to", "1.0.0", "--state", "restore", "--json"))
    assert [stream["rows_again"] for stream in back["restored"]] == [50]
    assert read(100) == "1.0.0"
    assert own.rows("numbers", "rows", "count(*), count(distinct _event_id), count(distinct id)") == [(150, 100, 100)]


@contextmanager
def _going_on(project: Project) -> Iterator[subprocess.Popen[bytes]]:
    """Run a connection that takes its time, from its start on to its end."""
    project.connect("slow", "dev/generator", ["rows"], config={"rows": 100, "page_rows": 1, "page_sleep_ms": 150})
    command = [sys.executable, str(WELLHEAD), "run", "slow", "--json"]
    with subprocess.Popen(command, cwd=project.root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as child:
        while not any(run["image_id"] for run in _answer(project.call("runs", "list", "--json"))):
            assert child.poll() is None
        yield child


def test_clean_removes_what_a_killed_run_left_and_leaves_other_projects_alone(
    project: Project, workshop: Project, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    project.configure(lease={"ttl_s": 3})
    project.connect("numbers", "dev/generator", ["rows"])
    with _going_on(workshop.copy(tmp_path / "other")) as other:
        assert project.run("numbers", env=kills.kill_at("container_started")).was_killed
        early = _answer(project.call("clean", "--json"))
        # Whether the killed run's lease is over by now is chance; what goes on is spared, and goes later.
        assert len(early["containers"]) + len(early["going_on"]) == 1
        _wait_until_silent(project)
        cleaned = _answer(project.call("clean", "--json"))
        assert len(early["containers"] + cleaned["containers"]) == 1
        assert cleaned["going_on"] == []
        assert (cleaned["left"], cleaned["images"]) == ([], [])
        assert other.wait(60) == 0
    assert project.run("numbers").exit_code == 0


def test_clean_leaves_a_run_of_its_own_project_alone_that_goes_on(project: Project) -> None:
    with _going_on(project) as child:
        cleaned = _answer(project.call("clean", "--json"))
        told = project.must("clean").stderr
        assert child.wait(60) == 0
    assert (cleaned["containers"], cleaned["networks"], cleaned["folders"], cleaned["left"]) == ([], [], [], [])
    assert (cleaned["revoked"], len(cleaned["going_on"])) == (0, 1)
    assert "of slow on " in told


def _wait_until_silent(project: Project) -> None:
    deadline = time.monotonic() + 30
    while not all(run["silent"] for run in _answer(project.call("runs", "list", "--json"))):
        assert time.monotonic() < deadline


def test_a_registry_on_postgresql_serves_runs_and_commands(project: Project, lender: Lender) -> None:
    lender.postgres.psql("create database operators_registry")
    kills.use_postgres(project, lender.postgres, "operators_registry")
    project.must("publish", FIXTURES / "generator")
    project.connect("numbers", "dev/generator", [{"name": "rows", "mode": "incremental"}], config={"rows": 50})
    assert project.run("numbers").document["streams"][0]["rows"] == 50
    assert project.run("numbers").document["streams"][0]["rows"] == 0
    assert [run["status"] for run in _answer(project.call("runs", "list", "--json"))] == ["succeeded", "succeeded"]
    assert project.count("numbers", "rows") == 50
    counted = lender.psql("operators_registry", "select count(*) from segments where status = 'published'")
    assert int(counted) >= 1
    assert not (project.root / ".wellhead" / "registry.db-wal").exists()


def test_a_run_writes_lines_of_json(project: Project) -> None:
    sink = {"type": "jsonl", "path": "lines"}
    project.connect("numbers", "dev/generator", ["rows"], config={"rows": 20}, sink=sink)
    report = project.run("numbers").document
    files = sorted(Path(report["streams"][0]["table"]).glob("*.jsonl"))
    rows = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    assert [row["data"]["id"] for row in rows] == list(range(20))
    assert {row["_run_id"] for row in rows} == {report["run_id"]}
