"""`wellhead lock` and `wellhead lock --check`, in projects whose lock, database or store were changed behind them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests import tiny
from tests.project import Project, Warm
from wellhead.catalog import keys

pytestmark = pytest.mark.slow

Change = Callable[[Project], Any]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with one release for two platforms, and two connections on it."""
    project = Warm(tmp_path_factory.mktemp("project"))
    project.must("init")
    tiny.publish(project, "1.0.0")
    return project


@pytest.fixture
def project(made: Project, tmp_path: Path) -> Project:
    """A locked copy of it."""
    twin = made.copy(tmp_path)
    twin.own_store()
    for name in ("flights", "orders"):
        twin.connect(name, "dev/tiny", ["rows"], version="^1")
    assert twin.must("lock").stdout == "wellhead.lock: 2 connections, 1 release\n"
    return twin


def files(project: Project) -> dict[str, bytes]:
    return {
        str(file.relative_to(project.root)): file.read_bytes() for file in project.root.rglob("*") if file.is_file()
    }


def lock_of(project: Project) -> Any:
    return YAML(typ="safe", pure=True).load((project.root / "wellhead.lock").read_text())


def relock(change: Callable[[Any], Any]) -> Change:
    """Return what edits the lock file."""

    def edit(project: Project) -> None:
        document = lock_of(project)
        change(document)
        (project.root / "wellhead.lock").write_text(json.dumps(document))

    return edit


def release_in(document: Any) -> Any:
    return document["connectors"]["dev/tiny"]["1.0.0"]


def rename(project: Project, change: Callable[[list[Any]], Any]) -> None:
    index = project.root / ".wellhead" / "store" / "index.json"
    document = json.loads(index.read_text())
    change(document["manifests"])
    # Removed first: the file is shared with the project this one is a copy of.
    index.unlink()
    index.write_text(json.dumps(document))


def forget(tag: str) -> Change:
    """Return what takes every name with ``tag`` in it out of the store."""

    def change(project: Project) -> None:
        rename(project, lambda named: named.__setitem__(slice(None), [each for each in named if tag not in str(each)]))

    return change


def swap(project: Project) -> None:
    """Let the store call another release 1.0.0."""
    other = tiny.stored(project, "1.1.0")

    def change(named: list[Any]) -> None:
        (known,) = [each for each in named if "dev/tiny:1.0.0" in str(each)]
        known["digest"] = other.index_digest

    rename(project, change)


def damage(project: Project) -> None:
    digest = release_in(lock_of(project))["digest"].rpartition(":")[2]
    blob = project.root / ".wellhead" / "store" / "blobs" / "sha256" / digest
    content = blob.read_bytes()
    blob.unlink()
    blob.write_bytes(content.replace(b"amd64", b"amd65"))


def distrust(project: Project) -> None:
    key = keys.load_private(project.root / ".wellhead" / "keys" / "dev.key")
    project.must("keys", "revoke", key.public.id)


def resay(column: str, value: Any) -> Change:
    """Return what rewrites one column of the release's row."""
    return lambda project: tiny.sql(project, f"update connector_definitions set {column} = ?", value)


def edit_json(column: str, path: str, value: Any) -> Change:
    return lambda project: tiny.sql(
        project, f"update connector_definitions set {column} = json_set({column}, '{path}', json(?))", json.dumps(value)
    )


OTHER = f"sha256:{'0' * 64}"
DRIFTS: dict[str, tuple[Change, str]] = {
    # the connections
    "a new version in the channel": (
        lambda project: tiny.publish(project, "1.1.0"),
        "connection default/default/flights is locked to 1.0.0, and would get 1.1.0",
    ),
    "another range": (
        lambda project: project.connect("orders", "dev/tiny", ["rows"], version="~1.0"),
        "orders is locked with constraint ^1, and its file says ~1.0",
    ),
    "another connection": (
        lambda project: project.connect("third", "dev/tiny", ["rows"]),
        "connection default/default/third is not locked",
    ),
    "a connection less": (
        lambda project: (project.root / "connections" / "orders.yaml").unlink(),
        "connection default/default/orders is locked, and no enabled connection has that name",
    ),
    "a disabled connection": (
        lambda project: project.connect("orders", "dev/tiny", ["rows"], version="^1", enabled=False),
        "orders is locked, and no enabled connection",
    ),
    "a connection that gets nothing": (
        lambda project: project.connect("orders", "dev/tiny", ["rows"], version="^2"),
        "connection default/default/orders gets no release",
    ),
    "a blocked release": (
        lambda project: project.must("catalog", "block", "dev/tiny", "1.0.0", "--reason", "leaks"),
        "connection default/default/flights gets no release",
    ),
    # the database
    "no row": (
        lambda project: tiny.sql(project, "delete from connector_definitions"),
        "dev/tiny 1.0.0: the database does not know it",
    ),
    "another digest in the database": (
        resay("index_digest", OTHER),
        f"oci-index:{OTHER} in the database",
    ),
    "another manifest in the database": (
        resay("manifest_sha256", "0" * 64),
        "its manifest is wellhead-manifest:sha256:",
    ),
    "another image id in the database": (
        edit_json("platforms", '$."linux/arm64".config_digest', OTHER),
        "its image id for linux/arm64 is oci-config:",
    ),
    "a platform less in the database": (
        lambda project: tiny.sql(
            project, """update connector_definitions set platforms = json_remove(platforms, '$."linux/arm64"')"""
        ),
        "nothing in the database",
    ),
    "another state version in the database": (
        edit_json("manifest", "$.compatibility", {"state": {"reads": [1, 2], "writes": 2}}),
        "its state version it writes is 1 in the lock, 2 in the database, 1 in the store",
    ),
    # the store
    "no name in the store": (forget("dev/tiny:1.0.0"), "has no release of that name"),
    "no signature in the store": (forget(".wh"), "is refused (WH-CAT-030)"),
    "another release of that name": (swap, "is refused (WH-CAT-032)"),
    "a changed byte in the store": (damage, "is refused (WH-IMG-012)"),
    "a revoked key": (distrust, "is refused (WH-CAT-022)"),
    # the lock
    "another digest in the lock": (
        relock(
            lambda document: (
                release_in(document).update(digest=f"oci-index:{OTHER}"),
                [one.update(digest=f"oci-index:{OTHER}") for one in document["connections"].values()],
            )
        ),
        f"its digest is oci-index:{OTHER} in the lock",
    ),
    "another image in the lock": (
        relock(
            lambda document: release_in(document)["platforms"]["linux/arm64"].update(manifest=f"oci-manifest:{OTHER}")
        ),
        f"its image manifest for linux/arm64 is oci-manifest:{OTHER} in the lock",
    ),
    "a platform less in the lock": (
        relock(lambda document: release_in(document)["platforms"].pop("linux/arm64")),
        "its image id for linux/arm64 is nothing in the lock",
    ),
    "another signer in the lock": (
        relock(lambda document: release_in(document).update(signed_by=["ed25519:0000"])),
        "its list of signers is ed25519:0000 in the lock",
    ),
}


@pytest.mark.parametrize("name", DRIFTS)
def test_every_kind_of_drift_ends_with_78_and_is_named(name: str, project: Project) -> None:
    change, words = DRIFTS[name]
    change(project)
    before = files(project)
    checked = project.call("lock", "--check")
    assert (checked.exit_code, checked.stdout) == (78, "")
    assert checked.stderr.startswith("WH-CAT-110 wellhead.lock is no longer true: ")
    assert words in checked.stderr
    assert files(project) == before


def test_a_check_of_what_is_so_succeeds_and_changes_nothing(project: Project) -> None:
    before = files(project)
    assert project.must("lock", "--check").stdout == "wellhead.lock: 2 connections, 1 release, all as locked\n"
    assert project.must("lock", "--check", "--json").document == lock_of(project)
    assert files(project) == before


def test_a_lock_names_every_platform_and_locking_again_writes_the_same_bytes(project: Project) -> None:
    release = release_in(lock_of(project))
    assert list(release["platforms"]) == list(tiny.PLATFORMS)
    before = files(project)
    project.must("lock")
    assert files(project) == before


def test_a_new_lock_makes_drift_that_was_meant_true(project: Project) -> None:
    tiny.publish(project, "1.1.0")
    project.must("lock")
    assert {one["version"] for one in lock_of(project)["connections"].values()} == {"1.1.0"}
    project.must("lock", "--check")


@pytest.mark.parametrize("name", ["no signature in the store", "another digest in the database", "a blocked release"])
def test_what_is_unsound_is_not_locked_and_the_old_lock_stays(name: str, project: Project) -> None:
    DRIFTS[name][0](project)
    before = files(project)
    locked = project.call("lock")
    assert locked.exit_code == 78
    assert locked.stderr.startswith("WH-CAT-111 cannot lock: ")
    assert DRIFTS[name][1] in locked.stderr
    assert files(project) == before


def test_without_a_lock_there_is_nothing_to_check(project: Project) -> None:
    (project.root / "wellhead.lock").unlink()
    checked = project.call("lock", "--check")
    assert checked.exit_code == 78
    assert checked.stderr.startswith("WH-CAT-112 there is no ")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda document: release_in(document).update(digest=f"sha512-index:{OTHER}"), "unknown scheme 'sha512-index'"),
        (lambda document: document.update(version=2), "version"),
        (lambda document: document["connections"].clear(), "which no connection has"),
    ],
    ids=["an unknown scheme", "a later format", "a contradiction"],
)
def test_a_lock_of_another_form_is_refused_with_its_place(
    change: Callable[[Any], Any], words: str, project: Project
) -> None:
    relock(change)(project)
    checked = project.call("lock", "--check")
    assert checked.exit_code == 78
    assert checked.stderr.startswith("WH-DOC-003 ")
    assert words in checked.stderr


def test_a_lock_that_cannot_be_written_is_told(project: Project) -> None:
    (project.root / "wellhead.lock").unlink()
    (project.root / "wellhead.lock").mkdir()
    locked = project.call("lock")
    assert locked.exit_code == 78
    assert locked.stderr.startswith("WH-CAT-113 cannot write ")
