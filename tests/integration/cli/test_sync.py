"""`wellhead catalog sync` through the real program: what it prints, how it ends, and what it leaves alone."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests import tiny
from tests.project import Project, Warm
from wellhead.catalog import records, trust, verify

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose store has two recorded releases, and whose registry knows neither."""
    project = Warm(tmp_path_factory.mktemp("project"))
    project.must("init")
    trusted = trust.load(project.root / "trust.yaml")
    for version in ("1.0.0", "1.1.0"):
        built = tiny.stored(project, version)
        release = verify.verify_release(tiny.store(project), built.index_digest, tiny.TINY, version, trusted)
        records.add(project.root / "manifests", records.of(release, datetime(2026, 1, 1, tzinfo=UTC)))
        records.offer(project.root / "manifests", tiny.TINY, "stable", version)
    return project


@pytest.fixture
def project(made: Project, tmp_path: Path) -> Project:
    return made.copy(tmp_path)


def registry(project: Project) -> bytes:
    return (project.root / ".wellhead" / "registry.db").read_bytes()


def listed(project: Project) -> list[tuple[str, list[str]]]:
    rows = json.loads(project.must("catalog", "list", "--json").stdout)
    return [(row["version"], row["channels"]) for row in rows]


def test_a_folder_is_applied_once_and_runs_can_resolve_what_it_lists(project: Project) -> None:
    before = registry(project)
    dry = project.must("catalog", "sync", "manifests", "--dry-run")
    assert dry.stdout.splitlines()[-1] == "manifests: 2 releases, 2 offers would be applied"
    assert registry(project) == before
    assert listed(project) == []
    done = project.must("catalog", "sync", "manifests")
    assert done.stdout.splitlines()[:-1] == dry.stdout.splitlines()[:-1]
    assert done.stdout.splitlines()[-1] == "manifests: 2 releases, 2 offers applied"
    assert listed(project) == [("1.0.0", []), ("1.1.0", ["stable"])]
    after = registry(project)
    assert project.must("catalog", "sync", "manifests").stdout == "manifests: nothing to do\n"
    assert registry(project) == after
    project.connect("flights", "dev/tiny", ["rows"], version="^1")
    assert project.must("explain", "flights").stdout.startswith("dev/tiny 1.1.0: highest of '^1' in channel stable")
    project.must("lock")
    project.must("lock", "--check")


def test_the_plan_is_one_json_document(project: Project) -> None:
    said = project.must("catalog", "sync", "manifests", "--dry-run", "--json").document
    assert said["dry_run"] is True
    assert [one["version"] for one in said["releases"]] == ["1.0.0", "1.1.0"]
    assert said["channels"] == [
        {"connector": "dev/tiny", "channel": "stable", "version": version} for version in ("1.0.0", "1.1.0")
    ]
    assert (said["left"], said["policies"]) == ([], [])


def test_a_rollout_in_progress_is_left_alone_and_said(project: Project) -> None:
    project.must("catalog", "sync", "manifests")
    project.must("channel", "halt", "dev/tiny", "1.1.0", "--reason", "too slow")
    project.must("channel", "promote", "dev/tiny", "1.1.0", "--percent", "10")
    before = registry(project)
    said = project.must("catalog", "sync", "manifests").stdout.splitlines()
    assert said[0] == "channel stable of dev/tiny: left as it is: 1.1.0 is being rolled out to 10 %"
    assert said[-1] == "manifests: nothing to do"
    assert registry(project) == before


@pytest.mark.parametrize(
    ("file", "pattern", "new", "exit_code", "code", "place"),
    [
        ("dev/tiny/1.0.0.yaml", "oci-index:sha256:.*", f"oci-index:sha256:{'0' * 64}", 76, "WH-CAT-124", ":6 (digest)"),
        ("dev/tiny/1.0.0.yaml", "oci-index:", "md5:", 78, "WH-DOC-003", ":6 (digest)"),
        ("dev/tiny/1.0.0.yaml", "version: 1.0.0", "version: 1.0.1", 78, "WH-CAT-122", ":4 (version)"),
        ("channels.yaml", "1.1.0", "1.2.0", 78, "WH-CAT-125", ":6 (channels.dev/tiny.stable.1)"),
    ],
    ids=["another digest", "an unknown scheme", "another version", "an unknown release"],
)
def test_what_is_wrong_is_named_by_its_place_and_nothing_is_applied(
    file: str, pattern: str, new: str, exit_code: int, code: str, place: str, project: Project
) -> None:
    path = project.root / "manifests" / file
    text, count = re.subn(pattern, new, path.read_text())
    assert count == 1
    path.write_text(text)
    before = registry(project)
    synced = project.call("catalog", "sync", "manifests")
    assert (synced.exit_code, synced.stderr.split()[0]) == (exit_code, code), synced.stderr
    assert f"manifests/{file}{place}" in synced.stderr
    assert registry(project) == before


def test_a_folder_without_records_is_told(project: Project) -> None:
    synced = project.call("catalog", "sync", "nowhere")
    assert (synced.exit_code, synced.stderr.split()[0]) == (78, "WH-CAT-121")
