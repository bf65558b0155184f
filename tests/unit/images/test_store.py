"""The folder keeps what `wellhead.testing.stores` asks of every store; and the rules of names and copies."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import pytest
from hypothesis import given, strategies
from pydantic import Field, TypeAdapter, ValidationError

from wellhead.errors import ConfigurationError, RefusedError
from wellhead.ids import ConnectorId, Digest
from wellhead.images import naming, oci, store
from wellhead.images.layout import Layout
from wellhead.images.oci import Descriptor
from wellhead.manifest.model import CONNECTOR_ID
from wellhead.testing.stores import CONNECTOR, StoreSuite, release, remark


class TestLayout(StoreSuite):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path / "store"

    def open(self) -> Layout:
        return Layout.create(self.folder)

    def break_blob(self, found: Descriptor) -> None:
        file = self.folder / "blobs/sha256" / found.digest.removeprefix("sha256:")
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)


def blobs(store: Layout) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in (store.path / "blobs/sha256").iterdir()}


def damage(store: Layout, digest: str | None = None) -> None:
    """Change a bit of one blob, or of every one, and keep its length."""
    for file in (store.path / "blobs/sha256").iterdir():
        if digest is None or file.name == digest.removeprefix("sha256:"):
            content = bytearray(file.read_bytes())
            content[len(content) // 2] ^= 1
            file.write_bytes(content)


def signed_release(store: Layout, version: str, layers: tuple[bytes, ...] = (b"layer bytes",)) -> Descriptor:
    index = release(store, version, layers)
    store.name(f"{CONNECTOR}:{naming.about(index.digest, '.wh')}", remark(store, index, b"signed"))
    store.name(f"{CONNECTOR}:{version}", index)
    return index


def test_publishing_again_makes_whole_what_was_changed(tmp_path: Path) -> None:
    kept = Layout.create(tmp_path / "a")
    signed_release(kept, "1.0.0")
    before = blobs(kept)
    damage(kept)
    assert blobs(kept) != before
    signed_release(Layout.open(kept.path), "1.0.0")
    assert blobs(kept) == before


def test_fetching_again_makes_whole_what_was_changed(tmp_path: Path) -> None:
    source, target = Layout.create(tmp_path / "a"), Layout.create(tmp_path / "b")
    signed_release(source, "1.0.0", (b"one", b"two" * 1000))
    assert store.copy_release(source, target, CONNECTOR, "1.0.0").bytes > 3000
    damage(target)
    assert store.copy_release(source, target, CONNECTOR, "1.0.0").bytes > 3000
    assert blobs(target) == blobs(source)
    assert store.copy_release(source, target, CONNECTOR, "1.0.0").bytes == 0


@given(strategies.from_regex(CONNECTOR_ID, fullmatch=True))
def test_every_id_a_manifest_may_have_is_one_a_store_takes(connector: str) -> None:
    assert naming.split(naming.name_of(ConnectorId(connector), "1.0.0")) == (connector, "1.0.0")


@pytest.mark.parametrize("wrong", ["acme/x-", "acme/-x", "acme-/x", "acme/a.b", f"acme/{'x' * 64}", "acme/x\n"])
def test_an_id_that_a_registry_refuses_is_none_for_a_manifest(wrong: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Annotated[str, Field(pattern=CONNECTOR_ID)]).validate_python(wrong)


def test_what_is_named_otherwise_than_a_version_is_no_release(tmp_path: Path) -> None:
    kept = Layout.create(tmp_path / "a")
    for tag in ("1.0.0", "1.1.0-rc.1", "latest", "1.0", "v1.0.0"):
        kept.name(f"{CONNECTOR}:{tag}", release(kept, tag))
    assert store.releases(kept) == ((CONNECTOR, "1.0.0"), (CONNECTOR, "1.1.0-rc.1"))


def test_what_cannot_be_read_is_not_claimed(tmp_path: Path) -> None:
    kept = Layout.create(tmp_path / "a")
    found = kept.put(b"content", oci.CONFIG)
    assert kept.claims(found)
    damage(kept, found.digest)
    assert not kept.claims(found)
    (kept.path / "blobs/sha256" / found.digest.removeprefix("sha256:")).unlink()
    assert not kept.claims(found)


def test_a_version_that_means_other_bytes_in_a_cache_is_fetched_anew(tmp_path: Path) -> None:
    remote, local = Layout.create(tmp_path / "a"), Layout.create(tmp_path / "b", is_cache=True)
    refused = signed_release(local, "1.0.0", (b"of a publisher the registry refused",))
    meant = signed_release(remote, "1.0.0", (b"what was registered",))
    held = store.hold(remote, local, CONNECTOR, "1.0.0", meant.digest)
    found = held.named(f"{CONNECTOR}:1.0.0")
    assert found is not None
    assert found.digest == meant.digest != refused.digest
    assert store.missing(held, found) == ()


def test_a_version_that_means_other_bytes_in_a_cache_does_not_outlast_the_release(tmp_path: Path) -> None:
    local = Layout.create(tmp_path / "b", is_cache=True)
    signed_release(local, "1.0.0", (b"of a publisher the registry refused",))
    gone, left = local.drop(CONNECTOR, {"1.0.0": oci.digest_of(b"registered")}, datetime(2020, 1, 1, tzinfo=UTC))
    assert (gone, left) == (frozenset({"1.0.0"}), frozenset())
    assert store.releases(local) == ()


def test_what_was_copied_in_the_same_call_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = Layout.create(tmp_path / "a"), Layout.create(tmp_path / "b")
    for version in ("1.0.0", "1.1.0"):
        signed_release(source, version, (b"base", version.encode()))
    asked: list[str] = []
    claims = Layout.claims

    def counted(self: Layout, found: Descriptor) -> bool:
        asked.append(found.digest)
        return claims(self, found)

    done: set[Digest] = set()
    store.copy_release(source, target, CONNECTOR, "1.0.0", done=done)
    monkeypatch.setattr(Layout, "claims", counted)
    store.copy_release(source, target, CONNECTOR, "1.1.0", done=done)
    assert oci.digest_of(b"1.1.0") in asked
    assert oci.digest_of(b"base") not in asked
    assert store.releases(target) == ((CONNECTOR, "1.0.0"), (CONNECTOR, "1.1.0"))


def test_what_an_index_calls_its_config_is_no_document_of_the_release(tmp_path: Path) -> None:
    kept = Layout.create(tmp_path / "a")
    index = release(kept, "1.0.0")
    other = release(kept, "1.1.0")
    document = {**kept.document(index.digest, "it"), "config": other.document()}
    hostile = kept.put(oci.canonical(document), oci.INDEX)
    kept.name(f"{CONNECTOR}:1.0.0", hostile)
    kept.name(f"{CONNECTOR}:{naming.about(other.digest, '.wh')}", remark(kept, other, b"of another"))
    target = Layout.create(tmp_path / "b")
    assert store.copy_release(kept, target, CONNECTOR, "1.0.0").names == (f"{CONNECTOR}:1.0.0",)
    # It is copied all the same: what an artifact is made of is needed by whoever reads it.
    assert store.missing(target, hostile) == ()
    kept.drop(CONNECTOR, {"1.0.0": hostile.digest}, datetime(2020, 1, 1, tzinfo=UTC))
    kept.drop(CONNECTOR, {"1.0.0": hostile.digest}, datetime(2100, 1, 1, tzinfo=UTC))
    assert f"{CONNECTOR}:{naming.about(other.digest, '.wh')}" in kept.names()


def test_a_release_that_is_not_there_cannot_be_copied(tmp_path: Path) -> None:
    source, target = Layout.create(tmp_path / "a"), Layout.create(tmp_path / "b")
    with pytest.raises(ConfigurationError) as caught:
        store.copy_release(source, target, CONNECTOR, "1.0.0")
    assert caught.value.code.name == "WH-IMG-017"


def test_a_version_with_other_bytes_is_not_copied_over_and_nothing_is_moved(tmp_path: Path) -> None:
    source, target = Layout.create(tmp_path / "a"), Layout.create(tmp_path / "b")
    source.name(f"{CONNECTOR}:1.0.0", release(source, "1.0.0", (b"ours",)))
    target.name(f"{CONNECTOR}:1.0.0", release(target, "1.0.0", (b"theirs",)))
    before = sorted(file.name for file in (target.path / "blobs/sha256").iterdir())
    with pytest.raises(RefusedError) as caught:
        store.copy_release(source, target, CONNECTOR, "1.0.0")
    assert caught.value.code.name == "WH-IMG-016"
    assert sorted(file.name for file in (target.path / "blobs/sha256").iterdir()) == before


def test_a_release_is_named_only_when_all_of_it_is_there(tmp_path: Path) -> None:
    source, target = Layout.create(tmp_path / "a"), Layout.create(tmp_path / "b")
    content = b"the last layer"
    source.name(f"{CONNECTOR}:1.0.0", release(source, "1.0.0", (b"the first", content)))
    (source.path / "blobs/sha256" / oci.digest_of(content).removeprefix("sha256:")).unlink()
    with pytest.raises(RefusedError):
        store.copy_release(source, target, CONNECTOR, "1.0.0")
    assert target.names() == ()


def test_what_a_release_lacks_is_named(tmp_path: Path) -> None:
    kept = Layout.create(tmp_path / "a")
    lost = b"the last layer"
    found = release(kept, "1.0.0", (b"the first", lost))
    assert store.missing(kept, found) == ()
    (kept.path / "blobs/sha256" / oci.digest_of(lost).removeprefix("sha256:")).unlink()
    assert [part.digest for part in store.missing(kept, found)] == [oci.digest_of(lost)]


def test_a_document_may_not_be_made_of_itself_without_end(tmp_path: Path) -> None:
    source = Layout.create(tmp_path / "a")
    document = source.put(b'{"manifests": []}', oci.INDEX)
    for _ in range(20):
        nested = {"schemaVersion": 2, "mediaType": oci.INDEX, "manifests": [document.document()]}
        document = source.put(oci.canonical(nested), oci.INDEX)
    source.name(f"{CONNECTOR}:1.0.0", document)
    with pytest.raises(RefusedError) as caught:
        store.copy_release(source, Layout.create(tmp_path / "b"), CONNECTOR, "1.0.0")
    assert caught.value.code.name == "WH-IMG-014"
