"""Fifty releases from eight processes at once, into each kind of store: nothing is lost and nothing is mixed up."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import oci_registry
from tests.oci_registry import OciRegistry
from tests.parts import ROOT
from wellhead.catalog import keys, trust, verify
from wellhead.ids import ConnectorId, Digest
from wellhead.images import naming, oci, store
from wellhead.images.layout import Layout
from wellhead.images.store import Store

pytestmark = pytest.mark.real

RELEASES = [(f"dev/many{number % 5}", f"1.{number // 5}.0") for number in range(50)]
WRITERS = 8


@pytest.fixture(scope="module")
def server() -> Iterator[OciRegistry]:
    with oci_registry.passwords() as running:
        yield running


# Eight interpreters start at once, beside whatever else the machine does.
@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", ["folder", "registry"])
def test_fifty_releases_of_eight_processes_are_all_there(kind: str, server: OciRegistry, tmp_path: Path) -> None:
    key = keys.new_pair(tmp_path / "keys", "many")
    trust.add(tmp_path / "trust.yaml", "dev", key.public, "tests")
    order = {"key": str(tmp_path / "keys/many.key"), "scratch": str(tmp_path), "folder": str(tmp_path / "shared")}
    if kind == "registry":
        server.wipe()
        order |= {"address": server.address, "password": server.password, "ca": str(server.tls.authority)}
    Layout.create(tmp_path / "shared")
    writers = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.integration.stores.writer", json.dumps(order), str(number), str(WRITERS)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(WRITERS)
    ]
    said = [writer.communicate()[0] for writer in writers]
    assert [writer.returncode for writer in writers] == [0] * WRITERS
    published: dict[str, str] = {}
    for text in said:
        published |= json.loads(text)
    assert len(published) == len(RELEASES)
    opened: Store = server.open() if kind == "registry" else Layout.open(tmp_path / "shared")
    assert {f"{connector}:{version}" for connector, version in store.releases(opened)} == set(published)
    for name, digest in published.items():
        _require_whole(opened, *naming.split(name), Digest(digest), trust.load(tmp_path / "trust.yaml"))


def _require_whole(opened: Store, connector: ConnectorId, version: str, digest: Digest, trusted: trust.Trust) -> None:
    """The tag means the digest its writer saw, every signature is there, and the SBOM is this version's."""
    named = opened.named(f"{connector}:{version}")
    assert named is not None
    assert named.digest == digest
    release = verify.verify_release(opened, digest, connector, version, trusted)
    shelf = opened.shelf(connector)
    verify.verify_layers(shelf, release)
    envelope = opened.named(verify.signature_name(connector, digest))
    assert envelope is not None
    assert [item.digest for item in opened.referrers(connector, digest)] == [envelope.digest]
    for signed in (digest, release.images["linux/amd64"].manifest):
        assert opened.named(f"{connector}:{naming.about(signed, '.sig')}") is not None
    children = oci.read(shelf, digest, "the index").children
    [listed] = [child for child in children if child.annotations.get(oci.ROLE_ANNOTATION) == "sbom"]
    [content] = shelf.document(listed.digest, "the SBOM's artifact")["layers"]
    described = shelf.document(content["digest"], "the SBOM")
    assert described["metadata"]["component"]["version"] == version
    assert described["metadata"]["component"]["name"] == connector
