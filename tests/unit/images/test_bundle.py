"""One file of releases: the same bytes each time, and nothing of it is written anywhere but where it belongs."""

import gzip
import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from wellhead.errors import ConfigurationError, RefusedError
from wellhead.images import bundle, naming, oci
from wellhead.images.layout import Layout
from wellhead.testing.stores import CONNECTOR, release, remark

EXTRA = {bundle.RECORDS: b"{}", "wellhead/keys/ed25519-1.pub": b"a key"}


@pytest.fixture
def source(tmp_path: Path) -> Layout:
    store = Layout.create(tmp_path / "source")
    index = release(store, "1.0.0", (b"a layer", b"another"))
    store.name(f"{CONNECTOR}:{naming.about(index.digest, '.wh')}", remark(store, index, b"signed"))
    store.name(f"{CONNECTOR}:1.0.0", index)
    return store


@pytest.fixture
def file(source: Layout, tmp_path: Path) -> Path:
    bundle.pack(source, EXTRA, tmp_path / "bundle.tar")
    return tmp_path / "bundle.tar"


def blobs(store: Layout) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (store.path / "blobs/sha256").iterdir()}


def test_what_was_packed_is_unpacked_byte_for_byte(source: Layout, file: Path, tmp_path: Path) -> None:
    found, records = bundle.unpack(file, tmp_path / "target")
    assert records == b"{}"
    assert found.names() == source.names()
    assert [found.named(name) for name in found.names()] == [source.named(name) for name in source.names()]
    assert blobs(found) == blobs(source)


def test_packing_again_gives_the_same_file(source: Layout, file: Path, tmp_path: Path) -> None:
    assert bundle.pack(source, EXTRA, tmp_path / "again.tar") == file.stat().st_size
    assert (tmp_path / "again.tar").read_bytes() == file.read_bytes()


def test_a_file_that_cannot_be_written_leaves_the_old_one(source: Layout, file: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        bundle.pack(source, EXTRA, tmp_path / "missing" / "bundle.tar")
    assert caught.value.code.name == "WH-IMG-051"


def test_a_file_that_is_a_link_is_written_where_it_leads(source: Layout, file: Path, tmp_path: Path) -> None:
    link = tmp_path / "latest.tar"
    link.symlink_to(file)
    content = file.read_bytes()
    file.write_bytes(b"former")
    bundle.pack(source, EXTRA, link)
    assert (link.is_symlink(), file.read_bytes()) == (True, content)


def test_what_is_no_file_is_not_replaced_by_an_export(source: Layout, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(ConfigurationError, match="no regular file") as caught:
        bundle.pack(source, EXTRA, pipe)
    assert caught.value.code == bundle.UNWRITABLE
    assert pipe.is_fifo()


def rewrite(file: Path, change: Callable[[tarfile.TarInfo, bytes], tuple[tarfile.TarInfo, bytes] | None]) -> None:
    with tarfile.open(file) as archive:
        members = [(member, archive.extractfile(member).read()) for member in archive]  # type: ignore[union-attr]
    with tarfile.open(file, "w") as archive:
        for member, content in members:
            changed = change(member, content)
            if changed is not None:
                changed[0].size = len(changed[1])
                archive.addfile(changed[0], io.BytesIO(changed[1]))


def test_a_changed_byte_is_found(file: Path, tmp_path: Path) -> None:
    rewrite(file, lambda member, content: (member, content.replace(b"a layer", b"b layer")))
    with pytest.raises(RefusedError) as caught:
        bundle.unpack(file, tmp_path / "target")
    assert caught.value.code.name == "WH-IMG-012"


@pytest.mark.parametrize(
    "name",
    ["../outside", "/etc/passwd", "blobs/sha256/../../outside", "blobs/sha256/" + "A" * 64, "wellhead/keys/../x"],
)
def test_a_path_of_its_own_is_never_written(name: str, file: Path, tmp_path: Path) -> None:
    with tarfile.open(file, "a") as archive:
        archive.addfile(tarfile.TarInfo(name))
    with pytest.raises(ConfigurationError) as caught:
        bundle.unpack(file, tmp_path / "target")
    assert caught.value.code.name == "WH-IMG-050"
    assert not (tmp_path / "outside").exists()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE])
def test_what_is_no_file_is_refused(kind: bytes, file: Path, tmp_path: Path) -> None:
    link = tarfile.TarInfo("blobs/sha256/" + "0" * 64)
    link.type, link.linkname = kind, "/etc/passwd"
    with tarfile.open(file, "a") as archive:
        archive.addfile(link)
    with pytest.raises(ConfigurationError) as caught:
        bundle.unpack(file, tmp_path / "target")
    assert caught.value.code.name == "WH-IMG-050"


def test_a_compressed_file_is_not_unfolded(file: Path, tmp_path: Path) -> None:
    file.write_bytes(gzip.compress(file.read_bytes()))
    with pytest.raises(ConfigurationError) as caught:
        bundle.unpack(file, tmp_path / "target")
    assert caught.value.code.name == "WH-IMG-050"


@pytest.mark.parametrize("missing", ["index.json", bundle.RECORDS])
def test_a_file_without_its_lists_is_no_export(missing: str, file: Path, tmp_path: Path) -> None:
    rewrite(file, lambda member, content: None if member.name == missing else (member, content))
    with pytest.raises(ConfigurationError, match=missing) as caught:
        bundle.unpack(file, tmp_path / "target")
    assert caught.value.code.name == "WH-IMG-050"


def test_a_cut_file_is_refused(file: Path, tmp_path: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2 + 100])
    with pytest.raises((ConfigurationError, RefusedError)):
        bundle.unpack(file, tmp_path / "target")


def test_what_is_larger_than_anything_is_not_read(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oci, "MAX_LAYER_BYTES", 5)
    with pytest.raises(RefusedError) as caught:
        bundle.unpack(file, tmp_path / "target")
    assert caught.value.code.name == "WH-IMG-013"
