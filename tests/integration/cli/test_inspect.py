"""`wellhead inspect FILE`: what an export holds, before it is imported."""

from __future__ import annotations

import json
import shutil
import tarfile
from pathlib import Path

import pytest

from tests import tiny
from tests.project import Project, Warm

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with two releases; nobody changes it."""
    made = Warm(tmp_path_factory.mktemp("project"))
    made.must("init")
    for version in ("1.0.0", "1.4.0"):
        tiny.publish(made, version)
    return made


def test_a_file_is_inspected_without_being_imported(project: Project, tmp_path: Path) -> None:
    file = tmp_path / "releases.tar"
    project.must("catalog", "export", file, "dev/tiny@1.0.0", "dev/tiny@1.4.0")
    other = Warm(tmp_path / "island")
    other.root.mkdir()
    other.must("init")
    shutil.copy(project.root / "trust.yaml", other.root / "trust.yaml")
    said = other.must("inspect", file, "--json").document
    assert [(row["version"], row["channels"], row["known"], row["refused"]) for row in said["releases"]] == [
        ("1.0.0", [], False, None),
        ("1.4.0", ["stable"], False, None),
    ]
    assert len(said["keys"]) == 1
    assert said["keys"] == said["releases"][0]["signed"]["by"]
    assert [part["name"] for part in said["releases"][0]["components"]] == ["tiny"]
    assert json.loads(other.must("catalog", "list", "--json").stdout) == []
    assert list((other.root / ".wellhead/store/blobs/sha256").iterdir()) == []
    assert "new, signed by ed25519:" in other.must("inspect", file).stdout
    assert "1.4.0" in project.must("inspect", file).stdout


def test_a_file_a_stranger_signed_is_shown_and_ends_with_76(project: Project, tmp_path: Path) -> None:
    file = tmp_path / "releases.tar"
    project.must("catalog", "export", file, "dev/tiny@1.4.0")
    other = Warm(tmp_path / "island")
    other.root.mkdir()
    other.must("init")
    refused = other.call("inspect", file, "--json")
    assert refused.exit_code == 76
    assert [row["refused"]["code"] for row in refused.document["releases"]] == ["WH-CAT-021"]
    assert "WH-CAT-021" in refused.stderr


def test_a_damaged_file_is_refused(project: Project, tmp_path: Path) -> None:
    file = tmp_path / "releases.tar"
    project.must("catalog", "export", file, "dev/tiny@1.0.0")
    with tarfile.open(file) as archive:
        at = next(member.offset_data for member in archive if member.name.startswith("blobs/"))
    damaged = bytearray(file.read_bytes())
    damaged[at] ^= 1
    file.write_bytes(damaged)
    refused = project.call("inspect", file)
    assert (refused.exit_code, "WH-IMG-012" in refused.stderr) == (76, True)


def test_what_is_no_export_is_said_to_be_none(project: Project, tmp_path: Path) -> None:
    (tmp_path / "releases.tar").write_bytes(b"not a tar")
    refused = project.call("inspect", tmp_path / "releases.tar")
    assert (refused.exit_code, "WH-IMG-050" in refused.stderr) == (78, True)
