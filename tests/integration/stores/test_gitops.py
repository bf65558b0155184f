"""Records and locks where a registry is the store: what it has is verified anew, and that it is away is no drift."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests import oci_registry, tiny
from tests.oci_registry import OciRegistry
from tests.project import Project, Warm
from wellhead.catalog import records, trust, verify
from wellhead.images import store

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def server() -> Iterator[OciRegistry]:
    with oci_registry.passwords() as running:
        yield running


@pytest.fixture
def project(server: OciRegistry, tmp_path: Path) -> Project:
    """A project whose releases lie in the registry alone, and are recorded."""
    server.wipe()
    project = Warm(tmp_path / "project")
    project.root.mkdir()
    project.must("init")
    built = tiny.stored(project, "1.0.0")
    trusted = trust.load(project.root / "trust.yaml")
    release = verify.verify_release(tiny.store(project), built.index_digest, tiny.TINY, "1.0.0", trusted)
    records.add(project.root / "manifests", records.of(release, datetime(2026, 1, 1, tzinfo=UTC)))
    records.offer(project.root / "manifests", tiny.TINY, "stable", "1.0.0")
    store.copy_release(tiny.store(project), server.open(), tiny.TINY, "1.0.0")
    project.configure(store={**server.settings(), "path": str(tmp_path / "empty")})
    project.connect("flights", "dev/tiny", ["rows"], version="^1")
    return project


def test_what_a_registry_has_is_registered_locked_and_checked(project: Project, server: OciRegistry) -> None:
    assert project.must("catalog", "sync", "manifests").stdout.endswith("1 release, 1 offer applied\n")
    project.must("lock")
    project.must("lock", "--check")
    [digest] = [one.record.digest.rpartition(":")[2] for one in records.read(project.root / "manifests").records]
    blob = server.blob(digest)
    blob.write_bytes(blob.read_bytes().replace(b"arm64", b"arm65"))
    checked = project.call("lock", "--check")
    assert (checked.exit_code, checked.stderr.split()[0]) == (78, "WH-CAT-110")
    assert f"what {server.address} has is refused (WH-IMG-012)" in checked.stderr


def test_a_registry_that_is_away_is_no_drift(project: Project, server: OciRegistry) -> None:
    project.must("catalog", "sync", "manifests")
    project.must("lock")
    before = (project.root / "wellhead.lock").read_bytes()
    server.stop()
    try:
        asked = [project.call(*command) for command in (["lock", "--check"], ["lock"])]
    finally:
        server.start()
    assert [(one.exit_code, one.stderr.split()[0]) for one in asked] == [(75, "WH-IMG-040")] * 2
    assert (project.root / "wellhead.lock").read_bytes() == before
