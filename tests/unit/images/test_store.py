"""The folder keeps what `wellhead.testing.stores` asks of every store; and the rules of names and copies."""

from pathlib import Path

import pytest

from wellhead.errors import ConfigurationError, RefusedError
from wellhead.images import oci, store
from wellhead.images.layout import Layout
from wellhead.images.oci import Descriptor
from wellhead.testing.stores import CONNECTOR, StoreSuite, release


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
