"""The store: hashed in, hashed out, safe for several writers."""

import hashlib
import io
import json
import os
import tarfile
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from wellhead.errors import ConfigurationError, RefusedError
from wellhead.ids import Digest
from wellhead.images import engine_tar, layout, naming, oci
from wellhead.images.layout import Layout
from wellhead.images.oci import Descriptor
from wellhead.images.store import missing, read_file
from wellhead.testing import stores as suite


@pytest.fixture
def store(tmp_path: Path) -> Layout:
    return Layout.create(tmp_path / "store")


def blob(store: Layout, digest: str) -> Path:
    return store.path / "blobs/sha256" / digest.removeprefix("sha256:")


def test_what_is_put_is_found_and_putting_again_changes_nothing(store: Layout) -> None:
    found = store.put(b"content", oci.CONFIG)
    before = blob(store, found.digest).stat().st_ino
    assert store.put(b"content", oci.CONFIG) == found
    assert blob(store, found.digest).stat().st_ino == before
    assert store.get(found.digest, "it") == b"content"
    assert json.loads((store.path / "oci-layout").read_bytes()) == {"imageLayoutVersion": "1.0.0"}


def test_a_folder_without_a_marker_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Layout.open(tmp_path)
    assert caught.value.code.name == "WH-IMG-010"
    assert Layout.open(Layout.create(tmp_path).path).names() == ()


def test_creating_a_store_that_exists_keeps_what_is_in_it(store: Layout) -> None:
    store.name("dev/tiny:1.0.0", store.put(b"{}", oci.INDEX))
    assert Layout.create(store.path).names() == ("dev/tiny:1.0.0",)


def test_a_changed_or_missing_blob_is_refused(store: Layout) -> None:
    found = store.put(b"content", oci.CONFIG)
    blob(store, found.digest).write_bytes(b"c0ntent")
    with pytest.raises(RefusedError, match="the config was changed") as caught:
        store.get(found.digest, "the config")
    assert caught.value.code.name == "WH-IMG-012"
    with pytest.raises(RefusedError) as caught:
        store.get(Digest("sha256:" + "0" * 64), "the config")
    assert caught.value.code.name == "WH-IMG-011"


@pytest.mark.parametrize("digest", ["sha256:../../../etc/passwd", "sha256:abc", "md5:0", "", "sha256:" + "A" * 64])
def test_what_is_no_digest_never_becomes_a_path(store: Layout, digest: str) -> None:
    with pytest.raises(RefusedError) as caught:
        store.get(Digest(digest), "it")
    assert caught.value.code.name == "WH-IMG-014"


def test_a_document_larger_than_any_is_refused_before_it_is_read(
    store: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = store.put(b"x" * 100, oci.CONFIG)
    monkeypatch.setattr(oci, "MAX_DOCUMENT_BYTES", 99)
    with pytest.raises(RefusedError) as caught:
        store.get(found.digest, "it")
    assert caught.value.code.name == "WH-IMG-013"


def test_a_layer_larger_than_any_is_refused(store: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    found = store.put(b"x" * 100, oci.LAYER)
    monkeypatch.setattr(oci, "MAX_LAYER_BYTES", 99)
    with pytest.raises(RefusedError) as caught:
        list(store.chunks(found, "it"))
    assert caught.value.code.name == "WH-IMG-013"


@pytest.mark.parametrize("content", [b"[]", b"1", b"{", b"\xff"])
def test_a_document_that_is_no_object_is_refused(store: Layout, content: bytes) -> None:
    found = store.put(content, oci.CONFIG)
    with pytest.raises(RefusedError) as caught:
        store.document(found.digest, "it")
    assert caught.value.code.name == "WH-IMG-014"


def test_a_file_that_is_not_what_it_claims_is_not_taken(store: Layout, tmp_path: Path) -> None:
    file = tmp_path / "layer"
    file.write_bytes(b"other")
    claimed = Descriptor(oci.LAYER, oci.digest_of(b"th"), 5)
    with pytest.raises(RefusedError):
        store.adopt(claimed, read_file(file))
    assert list((store.path / "blobs/sha256").iterdir()) == []


def test_the_end_of_a_broken_blob_is_never_given_away(store: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "_CHUNK", 10)
    found = store.put(b"0123456789" * 3, oci.LAYER)
    assert b"".join(store.chunks(found, "it")) == b"0123456789" * 3
    blob(store, found.digest).write_bytes(b"0123456789" * 2 + b"012345678X")
    chunks = store.chunks(found, "it")
    assert [next(chunks), next(chunks)] == [b"0123456789"] * 2
    with pytest.raises(RefusedError):
        next(chunks)


def test_a_blob_of_another_length_is_refused_at_once(store: Layout) -> None:
    found = store.put(b"0123456789", oci.LAYER)
    with blob(store, found.digest).open("ab") as out:
        out.write(b"more")
    with pytest.raises(RefusedError):
        next(store.chunks(found, "it"))


def test_many_writers_lose_no_name(store: Layout) -> None:
    def write(number: int) -> None:
        found = Layout.open(store.path).put(b'{"n": %d}' % number, oci.INDEX)
        Layout.open(store.path).name(f"dev/c{number:02}:1.0.0", found)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(40)))
    assert store.names() == tuple(f"dev/c{number:02}:1.0.0" for number in range(40))
    assert [file.name for file in (store.path / "blobs/sha256").iterdir() if file.name.startswith(".")] == []


@pytest.mark.parametrize(
    "index", [b"", b"{", b"{}", b'{"manifests": 1}', b'{"manifests": [{"digest": "x"}]}', b'{"manifests": [1]}']
)
def test_a_broken_index_is_refused(store: Layout, index: bytes) -> None:
    (store.path / "index.json").write_bytes(index)
    with pytest.raises(RefusedError) as caught:
        store.names()
    assert caught.value.code.name == "WH-IMG-014"


def test_an_engine_tar_is_a_docker_archive_and_an_oci_layout(store: Layout) -> None:
    config = store.put(b'{"config": {}}', oci.CONFIG)
    packed = store.put(b"layer bytes", oci.LAYER)
    document = {"schemaVersion": 2, "config": config.document(), "layers": [packed.document(), packed.document()]}
    manifest = store.put(oci.canonical(document), oci.MANIFEST, platform="linux/amd64")
    index = store.put(oci.canonical({"manifests": [manifest.document()]}), oci.INDEX)
    content = b"".join(engine_tar.chunks(store, index.digest, "linux/amd64"))
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        files = {member.name: archive.extractfile(member).read() for member in archive}  # type: ignore[union-attr]
    (listed,) = json.loads(files["manifest.json"])
    assert files[listed["Config"]] == b'{"config": {}}'
    assert [files[name] for name in listed["Layers"]] == [b"layer bytes"] * 2
    (child,) = json.loads(files["index.json"])["manifests"]
    assert child["digest"] == manifest.digest
    blobs = {name: body for name, body in files.items() if name.startswith("blobs/")}
    assert all(name.endswith(hashlib.sha256(body).hexdigest()) for name, body in blobs.items())
    with pytest.raises(ConfigurationError) as caught:
        oci.image(store, index.digest, "linux/arm64")
    assert caught.value.code.name == "WH-IMG-015"


@pytest.mark.parametrize("field", ["layers", "config"])
def test_what_an_index_does_not_list_as_an_image_is_none(store: Layout, field: str) -> None:
    config = store.put(b'{"config": {}}', oci.CONFIG)
    document = {"schemaVersion": 2, "config": config.document(), "layers": []}
    manifest = store.put(oci.canonical(document), oci.MANIFEST, platform="linux/amd64").document()
    index = store.put(oci.canonical({field: [manifest] if field == "layers" else manifest}), oci.INDEX)
    with pytest.raises(ConfigurationError) as caught:
        oci.image(store, index.digest, "linux/amd64")
    assert caught.value.code.name == "WH-IMG-015"


def test_a_list_of_referrers_that_was_changed_begins_anew(store: Layout) -> None:
    index = published(store, "1.0.0")
    said(store, index, b"signature")
    listed = store.named(f"{suite.CONNECTOR}:{naming.about(index.digest)}")
    assert listed is not None
    content = blob(store, listed.digest).read_bytes()
    blob(store, listed.digest).write_bytes(content.replace(b"schemaVersion", b"SchemaVersion"))
    said(store, index, b"another signature")
    assert len(store.referrers(suite.CONNECTOR, index.digest)) == 1


def test_a_list_of_referrers_of_another_user_goes_on(store: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    index = published(store, "1.0.0")
    said(store, index, b"signature")

    def denied(*_: object) -> None:
        raise PermissionError(1, "not yours")

    monkeypatch.setattr(os, "utime", denied)
    other = suite.remark(store, index, b"what somebody else says")
    store.name(f"{suite.CONNECTOR}:{naming.about(index.digest, '.wh')}", other)
    assert len(store.referrers(suite.CONNECTOR, index.digest)) == 2


def test_an_engine_tar_of_the_top_layer_leaves_those_below_to_be_hashed(store: Layout) -> None:
    index = suite.release(store, "1.0.0", (b"base", b"dependencies", b"application"))
    platform = "linux/amd64"
    found = oci.image(store, index.digest, platform)

    def files() -> set[str]:
        content = b"".join(engine_tar.chunks(store, index.digest, platform, top_only=True))
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            return {name.removeprefix("blobs/sha256/") for name in archive.getnames() if name.startswith("blobs/")}

    assert files() == {item.digest.removeprefix("sha256:") for item in (found.manifest, found.config, found.layers[-1])}
    engine_tar.require_below(store, index.digest, platform)
    blob(store, found.layers[0].digest).write_bytes(b"baSe")
    with pytest.raises(RefusedError) as caught:
        engine_tar.require_below(store, index.digest, platform)
    assert caught.value.code.name == "WH-IMG-012"


def aged(store: Layout) -> Layout:
    """Make everything in a store look as old as what a publisher that died has left."""
    for path in store.path.rglob("*"):
        os.utime(path, (0, 0))
    return store


def published(store: Layout, version: str, layers: tuple[bytes, ...] = (b"layer bytes",)) -> Descriptor:
    index = suite.release(store, version, layers)
    store.name(f"{suite.CONNECTOR}:{version}", index)
    return index


def said(store: Layout, index: Descriptor, text: bytes) -> None:
    store.name(f"{suite.CONNECTOR}:{naming.about(index.digest, '.sig')}", suite.remark(store, index, text))


LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


def blobs(store: Layout) -> set[str]:
    return {path.name for path in (store.path / "blobs/sha256").iterdir()}


def test_a_sweep_leaves_what_names_lead_to_and_takes_the_rest(store: Layout) -> None:
    index = published(store, "1.0.0")
    said(store, index, b"signature")
    needed = blobs(store)
    store.put(b"of a publisher that died", oci.CONFIG)
    (store.path / "blobs/sha256/.new-abc").write_bytes(b"half a layer")
    (store.path / ".import-x/store").mkdir(parents=True)
    (store.path / ".import-x/store/layer").write_bytes(b"of an import that was killed")
    swept = aged(store).sweep(LONG_AGO)
    assert (swept.files, swept.bytes) == (3, 24 + 12 + 28)
    assert blobs(store) == needed
    assert not (store.path / ".import-x").exists()
    assert store.referrers(suite.CONNECTOR, index.digest) != ()


def test_what_was_just_put_is_not_swept_also_where_it_was_there_already(store: Layout) -> None:
    found = store.put(b"left by a publisher that died", oci.CONFIG)
    aged(store)
    store.adopt(found, suite.given(b"left by a publisher that died"))
    assert store.sweep(LONG_AGO).files == 0
    assert store.holds(found)


def test_a_publisher_at_work_loses_nothing(store: Layout, tmp_path: Path) -> None:
    layers = [f"layer {number}".encode() for number in range(40)]
    for content in layers:
        store.put(content, oci.LAYER)
    aged(store)
    ended = threading.Event()

    def publish() -> None:
        other = Layout.open(store.path)
        for number, content in enumerate(layers):
            published(other, f"1.{number}.0", (content,))
        ended.set()

    publisher = threading.Thread(target=publish)
    publisher.start()
    while not ended.is_set():
        store.sweep(LONG_AGO)
    publisher.join()
    store.sweep(LONG_AGO)
    names = store.names(suite.CONNECTOR)
    assert len(names) == len(layers)
    found = [store.named(name) for name in names]
    assert [missing(store, index) for index in found if index] == [()] * len(layers)


def test_a_store_that_lacks_a_document_is_not_swept(store: Layout) -> None:
    index = published(store, "1.0.0")
    child = oci.read(store, index.digest, "it").children[0]
    layer = store.put(b"nobody needs it", oci.CONFIG)
    aged(store)
    blob(store, child.digest).unlink()
    with pytest.raises(RefusedError) as caught:
        store.sweep(LONG_AGO)
    assert caught.value.code == oci.NO_BLOB
    assert store.holds(layer)


def test_a_dropped_release_takes_along_what_is_said_about_it_and_leaves_others(store: Layout) -> None:
    first, second = published(store, "1.0.0"), published(store, "1.1.0", (b"layer bytes", b"another"))
    said(store, first, b"a signature")
    said(store, second, b"another signature")
    own = store.names(suite.CONNECTOR)
    aged(store)
    gone = store.drop(suite.CONNECTOR, {"1.0.0": first.digest, "9.9.9": oci.digest_of(b"")}, LONG_AGO)
    assert gone == (frozenset({"1.0.0", "9.9.9"}), frozenset())
    hidden = first.digest.removeprefix("sha256:")
    assert store.names(suite.CONNECTOR) == tuple(
        name for name in own if name != f"{suite.CONNECTOR}:1.0.0" and hidden not in name
    )
    store.sweep(LONG_AGO)
    assert not store.holds(first)
    assert missing(store, second) == ()
    assert store.referrers(suite.CONNECTOR, second.digest) != ()


def test_a_release_that_is_being_published_again_or_has_other_bytes_is_not_dropped(store: Layout) -> None:
    first, second = published(store, "1.0.0"), published(store, "1.1.0")
    aged(store)
    store.claims(first)
    named = {"1.0.0": first.digest, "1.1.0": oci.digest_of(b"other bytes")}
    assert store.drop(suite.CONNECTOR, named, LONG_AGO) == (frozenset(), frozenset(named))
    assert [store.named(name) for name in store.names()] == [
        Descriptor(oci.INDEX, found.digest, found.size, None, {oci.NAME_ANNOTATION: name})
        for name, found in zip(store.names(), (first, second), strict=True)
    ]


def test_a_signature_of_what_was_never_named_is_swept(store: Layout) -> None:
    index = published(store, "1.0.0")
    orphan = store.put(oci.canonical({"manifests": []}), oci.INDEX)
    said(store, orphan, b"by a publisher that died before it named the release")
    before = store.names()
    aged(store)
    assert store.sweep(LONG_AGO).files > 0
    assert store.names() == (f"{suite.CONNECTOR}:1.0.0",)
    assert before != store.names()
    assert missing(store, index) == ()
