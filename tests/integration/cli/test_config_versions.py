"""A connection's file and the versions of its config, through the real program."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.project import FIXTURES, Project, Warm
from wellhead.ids import ConnectorId, Digest
from wellhead.registry import channels, definitions
from wellhead.registry.database import Database

pytestmark = pytest.mark.slow

TINY = YAML(typ="safe", pure=True).load((FIXTURES / "tiny" / "manifest.yaml").read_text())
CONNECTOR = ConnectorId("dev/tiny")
STEP = {"from": 1, "to": 2, "rename": {"datacenter": "region"}}
FILE = """\
name: orders
connector: dev/tiny
streams:
  - name: rows
# where it is read from
config:
  datacenter: eu  # nearest to us
"""


def manifest(version: str, config: dict[str, Any]) -> dict[str, Any]:
    return {**TINY, "config": config, "metadata": {**TINY["metadata"], "version": version}}


def schema(name: str) -> dict[str, Any]:
    properties = {name: {"type": "string"}}
    return {"type": "object", "additionalProperties": False, "required": [name], "properties": properties}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose registry knows 1.0.0 and 1.1.0, which calls a parameter otherwise."""
    project = Warm(tmp_path_factory.mktemp("project"))
    project.must("init")
    database = Database.open(f"sqlite:///{project.root}/.wellhead/registry.db")
    manifests = {
        "1.0.0": manifest("1.0.0", {"schema": schema("datacenter")}),
        "1.1.0": manifest("1.1.0", {"schema": schema("region"), "version": 2, "migrations": [STEP]}),
    }
    with database.transaction() as tx:
        for number, (version, said) in enumerate(manifests.items()):
            digest = Digest(f"sha256:{number:064}")
            image = definitions.PlatformImage(digest, digest)
            platforms = dict.fromkeys(("linux/amd64", "linux/arm64"), image)
            day = datetime(2026, 1, 1, tzinfo=UTC)
            definitions.register(
                tx, definitions.Release(CONNECTOR, version, digest, "0" * 64, platforms, said, "k", day)
            )
            channels.point(tx, CONNECTOR, "stable", version=version, index_digest=digest, who="ci", reason="published")
    database.close()
    (project.root / "connections").mkdir(exist_ok=True)
    (project.root / "connections" / "orders.yaml").write_text(FILE)
    return project


@pytest.fixture
def project(made: Project, tmp_path: Path) -> Project:
    """A copy of it."""
    return made.copy(tmp_path)


def text(project: Project) -> str:
    return (project.root / "connections" / "orders.yaml").read_text()


def test_explain_says_which_migration_a_release_takes(project: Project) -> None:
    assert (
        "  config of version 1 is migrated to version 2: 1 → 2: datacenter is called region"
        in project.must("explain", "orders").stdout.splitlines()
    )
    assert project.must("explain", "orders", "--json").document["config"] == {
        "written_for": 1,
        "wanted": 2,
        "migrated": ["1 → 2: datacenter is called region"],
        "kept_at": None,
    }
    assert text(project) == FILE


def test_a_dry_run_shows_what_a_migration_then_does(project: Project) -> None:
    changes = ["+config_version: 2", "-  datacenter: eu  # nearest to us", "+  region: eu      # nearest to us"]
    for options, is_written in ((["--dry-run"], False), ([], True)):
        outcome = project.must("connection", "migrate", "orders", *options)
        lines = [line for line in outcome.stdout.splitlines() if line[:1] in "+-" and line[:3] not in ("+++", "---")]
        assert lines == changes
        assert "1 → 2: datacenter is called region" in outcome.stderr
        assert ("would be" in outcome.stderr) is not is_written
        assert (text(project) != FILE) is is_written
    assert "# where it is read from\nconfig_version: 2\nconfig:\n" in text(project)
    again = project.must("connection", "migrate", "orders")
    assert again.stdout == "orders is written for config version 2, as its release reads it\n"


def test_a_rewritten_file_goes_back_to_what_it_said(project: Project) -> None:
    project.must("connection", "migrate", "orders")
    back = project.must("rollback", "connection", "orders", "--to", "1.0.0")
    assert "config of version 1 as kept at " in back.stdout
    found = project.must("explain", "orders", "--json").document
    assert (found["chosen"], found["config"]["written_for"], found["cannot_run"]) == ("1.0.0", 1, None)
    refused = project.call("connection", "migrate", "orders")
    assert (refused.exit_code, refused.stderr.split()[0]) == (78, "WH-RUN-084")


def test_a_connection_that_comes_back_under_its_name_has_no_way_back(project: Project) -> None:
    project.must("connection", "migrate", "orders")
    migrated = text(project)
    project.must("connection", "remove", "orders", "--yes")
    (project.root / "connections" / "orders.yaml").write_text(migrated)
    refused = project.call("rollback", "connection", "orders", "--to", "1.0.0")
    assert (refused.exit_code, refused.stderr.split()[0]) == (78, "WH-RUN-083")
    assert "no earlier config of this connection is kept" in refused.stderr
    assert json.loads(project.must("hold", "list", "--json").stdout) == []


def test_explain_says_what_a_connection_lacks(project: Project) -> None:
    (project.root / "connections" / "orders.yaml").write_text(FILE.replace("datacenter", "place"))
    lines = project.must("explain", "orders").stdout.splitlines()
    (line,) = [line for line in lines if line.startswith("  cannot run: ")]
    assert "config.place" in line
    assert project.must("explain", "orders", "--json").document["cannot_run"] in line
