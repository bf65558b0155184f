"""What a run did is signed by its host, and what the registry says of it is held against that."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from tests.project import Project

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]


def ran(project: Project) -> str:
    project.connect("numbers", "dev/generator", ["rows"])
    done = project.run("numbers")
    assert done.exit_code == 0, done.stderr
    return str(done.document["run_id"])


def rewrite(project: Project, run: str, column: str, old: str, new: str) -> None:
    """Replace text in one column of a run's row."""
    with sqlite3.connect(project.root / ".wellhead/registry.db") as database:
        changed = database.execute(
            f"UPDATE connector_runs SET {column} = replace({column}, ?, ?) WHERE run_id = ?",
            (old, new, run),
        )
        assert changed.rowcount == 1


def test_a_receipt_is_verified_here_and_from_a_file(project: Project, tmp_path: Path) -> None:
    run = ran(project)
    assert (project.root / ".wellhead/keys/host.key").stat().st_mode & 0o777 == 0o600
    here = project.call("receipt", "verify", run, "--json")
    assert (here.exit_code, here.document["status"], here.document["registry"]) == (0, "succeeded", True)
    file = tmp_path / "receipt.json"
    file.write_text(project.call("receipt", "show", run, "--json").stdout)
    public = project.root / ".wellhead/keys/host.pub"
    assert project.call("receipt", "verify", file, "--key", public).exit_code == 0
    envelope = json.loads(file.read_text())
    envelope["payload"] = envelope["payload"][:-4] + "AAA="
    file.write_text(json.dumps(envelope))
    changed = project.call("receipt", "verify", file, "--key", public)
    assert (changed.exit_code, changed.stderr.split()[0]) == (76, "WH-CAT-091")
    assert "succeeded" in project.call("receipt", "show", run).stdout


@pytest.mark.parametrize(
    ("column", "code", "named"),
    [
        ("receipt", "WH-CAT-091", "was changed"),
        ("streams", "WH-CAT-092", "streams"),
        ("status", "WH-CAT-092", "status"),
    ],
)
def test_a_row_that_was_rewritten_is_refused(project: Project, column: str, code: str, named: str) -> None:
    run = ran(project)
    old, new = ("succeeded", "failed") if column == "status" else ('"bytes": ', '"bytes": 1')
    rewrite(project, run, column, old, new)
    refused = project.call("receipt", "verify", run)
    assert (refused.exit_code, refused.stderr.split()[0]) == (76, code)
    assert named in refused.stderr


def test_a_release_is_inspected(project: Project) -> None:
    found = project.call("inspect", "dev/generator@1.0.0", "--json").document
    assert found["signed"]["by"]
    assert found["provenance"]["builder"] == "urn:wellhead:builder:local"
    assert {"libc6", "wellhead-sdk", "pyarrow"} <= {part["name"] for part in found["components"]}
    (image,) = found["images"].values()
    assert image["base"].startswith("sha256:")
    told = project.call("inspect", "dev/generator").stdout
    assert "libc6" in told
    assert "signed by" in told
    assert "is whole" in project.call("verify", "dev/generator").stdout
