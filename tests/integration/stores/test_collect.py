"""Collecting in Debian's registry: where it deletes, and where it does not."""

import dataclasses
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests import oci_registry
from tests.oci_registry import OciRegistry
from tests.unit.lifecycle.test_collect import gc, stored, versions
from tests.unit.lifecycle.test_transfer import TINY, export, host, publish
from wellhead.catalog import keys, verify
from wellhead.catalog.keys import PrivateKey
from wellhead.errors import TransientError
from wellhead.ids import Digest
from wellhead.images import naming, oci, store
from wellhead.images.registry import Registry
from wellhead.lifecycle import transfer
from wellhead.lifecycle.host import Host
from wellhead.registry import definitions

pytestmark = pytest.mark.real

VERSIONS = ("1.0.0", "1.1.0", "1.2.0", "1.3.0")


@pytest.fixture
def key(tmp_path: Path) -> PrivateKey:
    return keys.new_pair(tmp_path / "keys", "publisher")


def with_registry(folder: Path, key: PrivateKey, server: OciRegistry, scope: ExitStack) -> Host:
    """A host whose store is the registry, with four releases in it."""
    remote = server.open()
    scope.callback(remote.close)
    here = dataclasses.replace(host(folder / "here", key.public, scope), remote=lambda: remote)
    for version in VERSIONS:
        publish(here, version, key)
        store.copy_release(here.layout(), remote, TINY, version)
    return here


@pytest.fixture(params=["passwords", "tokens"])
def deleting(request: pytest.FixtureRequest, tmp_path: Path, key: PrivateKey) -> Iterator[tuple[Host, OciRegistry]]:
    lend = {"passwords": oci_registry.passwords, "tokens": oci_registry.tokens}[request.param]
    with ExitStack() as scope, lend(deletes=True) as server:
        yield with_registry(tmp_path, key, server, scope), server


def digests(here: Host) -> dict[str, Digest]:
    with here.database.read() as tx:
        return {row.version: row.index_digest for row in definitions.all_of(tx)}


def require_whole(here: Host, version: str, opened: Registry) -> None:
    found = digests(here)[version]
    release = verify.verify_release(opened, found, TINY, version, here.trust())
    verify.verify_layers(opened.shelf(TINY), release)
    assert opened.referrers(TINY, found) != ()
    assert opened.named(f"{TINY}:{naming.about(release.images['linux/amd64'].manifest, '.sig')}") is not None


def test_a_registry_that_deletes_loses_what_nothing_refers_to_and_nothing_else(
    deleting: tuple[Host, OciRegistry],
) -> None:
    here, server = deleting
    known = digests(here)
    parts = {version: server.open().shelf(TINY).parts(digest) for version, digest in known.items()}
    done = gc(here)
    assert (versions(done), done.left) == (["1.0.0", "1.1.0"], {})
    opened = server.open()
    assert [version for _, version in store.releases(opened, TINY)] == ["1.2.0", "1.3.0"] == stored(here)
    for version in ("1.0.0", "1.1.0"):
        for part in parts[version]:
            assert not opened.shelf(TINY).holds(oci.Descriptor(oci.MANIFEST, part, 0))
            assert not any(part.removeprefix("sha256:") in name for name in opened.names(TINY))
    for version in ("1.2.0", "1.3.0"):
        require_whole(here, version, opened)


def test_what_was_collected_in_a_registry_can_be_imported_into_it_again(
    deleting: tuple[Host, OciRegistry], key: PrivateKey
) -> None:
    here, server = deleting
    file = export(here, key, "dev/tiny@1.0.0")
    gc(here)
    transfer.take_in(here, file, who="somebody")
    require_whole(here, "1.0.0", server.open())


def test_a_registry_that_deletes_nothing_has_to_collect_itself(tmp_path: Path, key: PrivateKey) -> None:
    with ExitStack() as scope, oci_registry.passwords() as server:
        here = with_registry(tmp_path, key, server, scope)
        done = gc(here)
        assert versions(done) == ["1.0.0", "1.1.0"]
        assert set(done.left) == {"dev/tiny 1.0.0", "dev/tiny 1.1.0"}
        assert all("deletes nothing (405" in why and "collect it itself" in why for why in done.left.values())
        assert stored(here) == ["1.2.0", "1.3.0"]
        assert [version for _, version in store.releases(server.open(), TINY)] == list(VERSIONS)
        assert versions(gc(here)) == []


def test_other_bytes_under_the_version_are_left_in_the_registry(deleting: tuple[Host, OciRegistry]) -> None:
    here, server = deleting
    known, remote = digests(here), server.open()
    remote.shelf(TINY).delete(known["1.0.0"])
    remote.name(f"{TINY}:1.0.0", oci.Descriptor(oci.INDEX, known["1.3.0"], 0))
    done = gc(here)
    assert done.left == {"dev/tiny 1.0.0": f"{remote.where} has other bytes under this version"}
    require_whole(here, "1.3.0", server.open())


def test_a_registry_that_goes_away_leaves_the_rest_to_the_next_collection(tmp_path: Path, key: PrivateKey) -> None:
    with ExitStack() as scope, oci_registry.passwords(deletes=True) as server:
        here = with_registry(tmp_path, key, server, scope)
        remote = here.remote()
        assert remote is not None
        removing = remote.removing

        def cut(*given: object) -> Iterator[tuple[str, bool]]:
            for number, answer in enumerate(removing(*given)):  # type: ignore[arg-type]
                yield answer
                if number == 0:
                    server.stop()

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(remote, "removing", cut)
            with pytest.raises(TransientError):
                gc(here)
        server.start()
        with here.database.read() as tx:
            rows = {row.version: row for row in definitions.all_of(tx)}
        assert (rows["1.0.0"].collecting_until, rows["1.1.0"].collecting_until is not None) == (None, True)
        assert versions(gc(here)) == ["1.1.0"]
        assert [version for _, version in store.releases(server.open(), TINY)] == ["1.2.0", "1.3.0"]
