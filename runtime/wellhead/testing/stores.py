# ruff: noqa: S101 - asserting is what a suite is for.
"""What every store of releases must do: subclass `StoreSuite`, say how to open the store, and run pytest.

class TestMine(StoreSuite):
    def open(self): return Mine(...)        # every call stands for another process
    def break_blob(self, found): ...        # change a stored blob's bytes behind the store's back, keeping its length
"""

from __future__ import annotations

from abc import abstractmethod
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from wellhead.errors import ConfigurationError, RefusedError
from wellhead.ids import ConnectorId, Digest
from wellhead.images import layout, naming, oci, store
from wellhead.images.oci import Descriptor
from wellhead.images.store import Source, Store

CONNECTOR = ConnectorId("dev/suite")
OTHER = ConnectorId("dev/other")


def given(content: bytes) -> Source:
    """Return what gives ``content`` in one chunk, each time."""

    def read() -> list[bytes]:
        return [content]

    return read


def release(into: Store, version: str, layers: tuple[bytes, ...] = (b"layer bytes",)) -> Descriptor:
    """Store a release of one image and an artifact, without a name, and return its index."""
    shelf = into.shelf(CONNECTOR)
    config = shelf.put(oci.canonical({"config": {}, "version": version}), oci.CONFIG)
    stored = [
        shelf.adopt(Descriptor(oci.LAYER, oci.digest_of(content), len(content)), given(content)) for content in layers
    ]
    image = {"schemaVersion": 2, "mediaType": oci.MANIFEST, "config": config.document()}
    image["layers"] = [item.document() for item in stored]
    child = shelf.put(oci.canonical(image), oci.MANIFEST, platform="linux/amd64")
    index = {"schemaVersion": 2, "mediaType": oci.INDEX, "manifests": [child.document()]}
    return shelf.put(oci.canonical(index), oci.INDEX)


def remark(into: Store, index: Descriptor, text: bytes) -> Descriptor:
    """Store an artifact that refers to ``index``, without a name."""
    shelf = into.shelf(CONNECTOR)
    document = {
        "schemaVersion": 2,
        "mediaType": oci.MANIFEST,
        "artifactType": "application/vnd.example.remark",
        "config": shelf.put(b"{}", oci.EMPTY).document(),
        "layers": [shelf.put(text, "text/plain").document()],
        "subject": Descriptor(oci.INDEX, index.digest, index.size).document(),
    }
    return shelf.put(oci.canonical(document), oci.MANIFEST)


class StoreSuite:
    """The promises of `wellhead.images.store.Store`, one test each."""

    @abstractmethod
    def open(self) -> Store:
        """Return the store under test, as another process would open it."""

    @abstractmethod
    def break_blob(self, found: Descriptor) -> None:
        """Change one byte of a stored blob of `CONNECTOR` behind the store's back."""

    @pytest.fixture
    def opened(self) -> Store:
        """Return the store under test, empty."""
        return self.open()

    def test_what_is_put_is_found_by_another_process(self, opened: Store) -> None:
        """A document, a small blob, a large one."""
        index = release(opened, "1.0.0")
        shelf = self.open().shelf(CONNECTOR)
        [image] = oci.read(shelf, index.digest, "the index").children
        config, packed = oci.read(shelf, image.digest, "the image").children
        assert shelf.document(config.digest, "the config") == {"config": {}, "version": "1.0.0"}
        assert b"".join(shelf.chunks(packed, "the layer")) == b"layer bytes"
        assert all(shelf.holds(item) and shelf.claims(item) for item in (index, image, config, packed))
        assert release(self.open(), "1.0.0") == index

    def test_what_is_not_there_is_said_to_be_missing(self, opened: Store) -> None:
        """Never an empty answer."""
        shelf = opened.shelf(CONNECTOR)
        missing = Descriptor(oci.LAYER, Digest("sha256:" + "0" * 64), 10)
        assert not shelf.holds(missing)
        assert not shelf.claims(missing)
        with pytest.raises(RefusedError) as caught:
            shelf.get(missing.digest, "it")
        assert caught.value.code.name == "WH-IMG-011"
        with pytest.raises(RefusedError) as caught:
            list(shelf.chunks(missing, "it"))
        assert caught.value.code.name == "WH-IMG-011"

    def test_a_name_means_what_was_named(self, opened: Store) -> None:
        """And is listed, for all and for its connector."""
        index = release(opened, "1.0.0")
        assert opened.named(f"{CONNECTOR}:1.0.0") is None
        opened.name(f"{CONNECTOR}:1.0.0", index)
        again = self.open()
        found = again.named(f"{CONNECTOR}:1.0.0")
        assert found is not None
        assert (found.media_type, found.digest, found.size) == (oci.INDEX, index.digest, index.size)
        assert again.names() == again.names(CONNECTOR) == (f"{CONNECTOR}:1.0.0",)
        assert again.names(OTHER) == ()
        assert store.releases(again) == ((CONNECTOR, "1.0.0"),)

    def test_a_version_is_named_once(self, opened: Store) -> None:
        """The same again changes nothing; other bytes are refused, from whatever process."""
        index = release(opened, "1.0.0")
        opened.name(f"{CONNECTOR}:1.0.0", index)
        opened.name(f"{CONNECTOR}:1.0.0", index)
        other = release(opened, "1.0.0", (b"other bytes",))
        with pytest.raises(RefusedError) as caught:
            self.open().name(f"{CONNECTOR}:1.0.0", other)
        assert caught.value.code.name == "WH-IMG-016"
        found = opened.named(f"{CONNECTOR}:1.0.0")
        assert found is not None
        assert found.digest == index.digest

    @pytest.mark.parametrize("name", ["dev/suite:1.0.0+build", "Dev/suite:1.0.0", "dev/../x:1", "suite:1", "dev/suite"])
    def test_what_is_no_name_is_refused(self, opened: Store, name: str) -> None:
        """A name never becomes another path or another repository."""
        with pytest.raises(ConfigurationError) as caught:
            opened.name(name, release(opened, "1.0.0"))
        assert caught.value.code.name == "WH-IMG-014"

    def test_what_is_said_about_a_release_may_be_replaced_and_is_listed_once(self, opened: Store) -> None:
        """A second signature takes the place of the first; another tool's remark stays."""
        index = release(opened, "1.0.0")
        opened.name(f"{CONNECTOR}:{naming.about(index.digest, '.wh')}", remark(opened, index, b"first"))
        other = remark(opened, index, b"another tool's")
        opened.name(f"{CONNECTOR}:{naming.about(index.digest, '.other')}", other)
        second = remark(self.open(), index, b"second")
        self.open().name(f"{CONNECTOR}:{naming.about(index.digest, '.wh')}", second)
        found = opened.named(f"{CONNECTOR}:{naming.about(index.digest, '.wh')}")
        assert found is not None
        assert found.digest == second.digest
        listed = [item.digest for item in self.open().referrers(CONNECTOR, index.digest)]
        assert sorted(listed) == sorted([other.digest, second.digest])
        assert opened.referrers(CONNECTOR, second.digest) == ()

    def test_writers_at_the_same_time_lose_nothing(self, opened: Store) -> None:  # noqa: ARG002
        """Each signature has a tag of its own, so no list has to be read and written back."""

        def publish(number: int) -> tuple[str, Descriptor]:
            mine = self.open()
            index = release(mine, f"1.0.{number}")
            said = remark(mine, index, str(number).encode())
            mine.name(f"{CONNECTOR}:{naming.about(index.digest, '.wh')}", said)
            mine.name(f"{CONNECTOR}:1.0.{number}", index)
            return f"1.0.{number}", said

        with ThreadPoolExecutor(8) as pool:
            published = dict(pool.map(publish, range(16)))
        fresh = self.open()
        assert {version for _, version in store.releases(fresh)} == set(published)
        for version, said in published.items():
            index_of = fresh.named(f"{CONNECTOR}:{version}")
            assert index_of is not None
            found = fresh.named(f"{CONNECTOR}:{naming.about(index_of.digest, '.wh')}")
            assert found is not None
            assert found.digest == said.digest
            assert [item.digest for item in fresh.referrers(CONNECTOR, index_of.digest)] == [said.digest]

    def test_a_changed_blob_is_refused_before_its_end_is_given_away(self, opened: Store) -> None:
        """The store is not trusted."""
        content = bytes(range(256)) * 8 * 1024 + b"end"
        index = release(opened, "1.0.0", (content,))
        shelf = self.open().shelf(CONNECTOR)
        [image] = oci.read(shelf, index.digest, "the index").children
        _, packed = oci.read(shelf, image.digest, "the image").children
        self.break_blob(packed)
        seen = bytearray()
        with pytest.raises(RefusedError) as caught:
            seen.extend(byte for chunk in shelf.chunks(packed, "the layer") for byte in chunk)
        assert caught.value.code.name == "WH-IMG-012"
        assert len(seen) < len(content)

    def test_a_changed_document_is_refused(self, opened: Store) -> None:
        """A config is as small as a document and is checked like one."""
        index = release(opened, "1.0.0")
        shelf = self.open().shelf(CONNECTOR)
        [image] = oci.read(shelf, index.digest, "the index").children
        config, _ = oci.read(shelf, image.digest, "the image").children
        self.break_blob(config)
        with pytest.raises(RefusedError) as caught:
            shelf.get(config.digest, "the config")
        assert caught.value.code.name == "WH-IMG-012"

    def test_what_is_not_what_it_claims_is_not_taken(self, opened: Store) -> None:
        """Neither too long, nor too short, nor other bytes; and it is not there afterwards."""
        shelf = opened.shelf(CONNECTOR)
        claimed = Descriptor(oci.LAYER, oci.digest_of(b"right"), 5)
        for wrong in (b"wrong", b"right and more", b"rig"):
            with pytest.raises(RefusedError) as caught:
                shelf.adopt(claimed, given(wrong))
            assert caught.value.code.name == "WH-IMG-012"
        assert not self.open().shelf(CONNECTOR).holds(claimed)

    def test_a_document_larger_than_any_is_refused(self, opened: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        """Before it fills memory."""
        found = opened.shelf(CONNECTOR).put(b"x" * 100, oci.CONFIG)
        monkeypatch.setattr(oci, "MAX_DOCUMENT_BYTES", 99)
        with pytest.raises(RefusedError) as caught:
            opened.shelf(CONNECTOR).get(found.digest, "it")
        assert caught.value.code.name == "WH-IMG-013"

    def test_a_layer_larger_than_any_is_refused(self, opened: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        """On its way out, whatever its descriptor claims."""
        found = opened.shelf(CONNECTOR).put(b"x" * 100, oci.LAYER)
        monkeypatch.setattr(oci, "MAX_LAYER_BYTES", 99)
        with pytest.raises(RefusedError) as caught:
            list(opened.shelf(CONNECTOR).chunks(found, "it"))
        assert caught.value.code.name == "WH-IMG-013"

    def test_a_release_travels_to_a_folder_and_back_byte_for_byte(self, opened: Store, tmp_path: Path) -> None:
        """With everything said about it; a second time nothing has to be moved."""
        folder, back = layout.Layout.create(tmp_path / "folder"), layout.Layout.create(tmp_path / "back")
        index = release(folder, "1.0.0", (b"one", b"two" * 1000))
        said = remark(folder, index, b"signed")
        about = f"{CONNECTOR}:{naming.about(index.digest, '.wh')}"
        folder.name(about, said)
        folder.name(f"{CONNECTOR}:1.0.0", index)
        first = store.copy_release(folder, opened, CONNECTOR, "1.0.0")
        assert first.names == (about, f"{CONNECTOR}:1.0.0")
        assert first.bytes > 3000
        assert store.copy_release(folder, self.open(), CONNECTOR, "1.0.0").bytes == 0
        store.copy_release(self.open(), back, CONNECTOR, "1.0.0")
        blobs = [{file.name for file in (one.path / "blobs/sha256").iterdir()} for one in (folder, back)]
        assert blobs[0] == blobs[1]
        assert back.names() == folder.names()
