"""`wellhead catalog gc` in a project whose releases are old."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from tests import tiny
from tests.project import Project, Warm

pytestmark = pytest.mark.slow

VERSIONS = ("1.0.0", "1.1.0", "1.2.0", "1.3.0", "1.4.0")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with five old releases in one channel."""
    project = Warm(tmp_path_factory.mktemp("project"))
    project.must("init")
    for version in VERSIONS:
        tiny.publish(project, version)
    for path in (project.root / ".wellhead/store/blobs").rglob("*"):
        os.utime(path, (0, 0))
    return project


@pytest.fixture
def project(made: Project, tmp_path: Path) -> Project:
    twin = made.copy(tmp_path)
    shutil.copytree(made.root / ".wellhead/store", twin.root / ".wellhead/store")
    twin.configure(store={"path": ".wellhead/store"})
    return twin


def test_a_dry_run_names_every_reason_and_changes_nothing(project: Project) -> None:
    project.connect("flights", "dev/tiny", ["rows"], version="1.0.0")
    before = project.must("catalog", "list", "--json").document
    said = project.must("catalog", "gc", "--dry-run", "--json").document
    assert said["dry_run"] is True
    assert [row["version"] for row in said["collected"]] == ["1.1.0"]
    because = {row["version"]: [reason["kind"] for reason in row["because"]] for row in said["kept"]}
    assert because == {
        "1.0.0": ["connection", "connection"],
        "1.2.0": ["channel", "newest"],
        "1.3.0": ["channel", "newest"],
        "1.4.0": ["channel", "channel", "newest"],
    }
    told = project.must("catalog", "gc", "--dry-run").stdout
    assert "connection default/default/flights is pinned to it" in told
    assert project.must("catalog", "list", "--json").document == before


def test_what_nothing_refers_to_is_collected_and_stays_in_the_list(project: Project) -> None:
    told = project.must("catalog", "gc", "--keep", "2").stdout
    assert "collected 3 releases; removed" in told
    listed = json.loads(project.must("catalog", "list", "--json").stdout)
    assert [row["version"] for row in listed if row["collected_at"] is not None] == ["1.0.0", "1.1.0", "1.2.0"]
    assert "active, collected" in project.must("catalog", "list").stdout
    refused = project.call("inspect", "dev/tiny@1.0.0")
    assert (refused.exit_code, "WH-REG-022" in refused.stderr) == (78, True)
    project.must("inspect", "dev/tiny@1.4.0")
    project.must("verify", "dev/tiny")


def test_a_release_that_the_lock_names_is_kept(project: Project) -> None:
    project.connect("flights", "dev/tiny", ["rows"], version="1.0.0")
    project.must("lock")
    (project.root / "connections/flights.yaml").unlink()
    said = project.must("catalog", "gc", "--json").document
    assert [row["version"] for row in said["collected"]] == ["1.1.0"]
    (kept,) = [row for row in said["kept"] if row["version"] == "1.0.0"]
    assert kept["because"] == [{"kind": "lock", "said": "wellhead.lock names it"}]


def test_what_was_published_since_then_is_kept(project: Project) -> None:
    said = project.must("catalog", "gc", "--older-than", "36500d", "--json").document
    assert said["collected"] == []
    refused = project.call("catalog", "gc", "--older-than", "soon")
    assert (refused.exit_code, "WH-CLI-101" in refused.stderr) == (2, True)


def test_a_registry_that_others_may_use_is_collected_from_only_if_it_is_said(project: Project) -> None:
    project.configure(store={"registry": "https://127.0.0.1:9/connectors"})
    refused = project.call("catalog", "gc")
    assert (refused.exit_code, "WH-CLI-130" in refused.stderr) == (2, True)
    away = project.call("catalog", "gc", "--from-registry")
    assert (away.exit_code, "WH-IMG-040" in away.stderr) == (75, True)
    listed = json.loads(project.must("catalog", "list", "--json").stdout)
    assert [row["collected_at"] for row in listed] == [None] * len(VERSIONS)
