"""One file of releases: the same bytes each time, and nothing of it is written anywhere but where it belongs."""

import gzip
import hashlib
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


def gnu_sparse() -> bytes:
    """A member of 512 bytes in the form of old GNU tars, that says of itself to be of 8 MiB."""
    header = bytearray(_claimed(512).tobuf(tarfile.GNU_FORMAT))
    header[156:157] = tarfile.GNUTYPE_SPARSE
    # Where its bytes belong, and how long it is with the zeros.
    header[386:410] = b"%011o\0%011o\0" % (0, 512)
    header[483:495] = b"%011o\0" % (8 * 1024 * 1024)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + bytes(512)


def pax_sparse(name: str = "", **headers: str) -> bytes:
    """The same in the forms of POSIX tars; its map stands in a header, or before its bytes."""
    info = _claimed(1024)
    info.name = name or info.name
    info.pax_headers = {name.replace("_", "."): text for name, text in headers.items()}
    return info.tobuf(tarfile.PAX_FORMAT) + b"1\n0\n512\n".ljust(512, b"\0") + bytes(512)


def _claimed(size: int) -> tarfile.TarInfo:
    zeros = hashlib.sha256(bytes(8 * 1024 * 1024)).hexdigest()
    info = tarfile.TarInfo(f"blobs/sha256/{zeros}")
    info.size = size
    return info


@pytest.mark.parametrize(
    "member",
    [
        gnu_sparse(),
        pax_sparse(GNU_sparse_map="0,512", GNU_sparse_size="8388608"),
        pax_sparse(GNU_sparse_major="1", GNU_sparse_minor="0", GNU_sparse_realsize="8388608"),
    ],
    ids=["gnu", "pax 0.1", "pax 1.0"],
)
def test_what_says_to_be_larger_than_its_bytes_is_not_unfolded(member: bytes, file: Path, tmp_path: Path) -> None:
    # In place of the two empty blocks a tar ends with.
    whole = file.read_bytes()
    with tarfile.open(file) as archive:
        end = max(one.offset_data + -(-one.size // 512) * 512 for one in archive)
    file.write_bytes(whole[:end] + member + bytes(1024))
    with pytest.raises(ConfigurationError, match="no plain file") as caught:
        bundle.unpack(file, tmp_path / "target")
    assert caught.value.code.name == "WH-IMG-050"
    assert max(one.stat().st_size for one in (tmp_path / "target/blobs/sha256").iterdir()) < 8 * 1024 * 1024


def test_a_member_that_leads_back_to_itself_is_refused(file: Path, tmp_path: Path) -> None:
    file.write_bytes(_claimed(-512).tobuf(tarfile.GNU_FORMAT) + bytes(1024))
    with pytest.raises(ConfigurationError, match="no plain file") as caught:
        bundle.unpack(file, tmp_path / "target")
    assert caught.value.code.name == "WH-IMG-050"


@pytest.mark.parametrize(
    ("name", "headers"),
    [
        ("oci-layout", {"size": "9" * 30}),
        ("oci-layout", {"GNU_sparse_map": "0,x"}),
        (bundle.RECORDS, {"GNU_sparse_major": "1", "GNU_sparse_minor": "0"}),
    ],
)
def test_a_header_that_cannot_be_read_is_told(name: str, headers: dict[str, str], file: Path, tmp_path: Path) -> None:
    member = pax_sparse(name, **headers).replace(b"1\n0\n512\n", b"1\nx\n512\n")
    file.write_bytes(member + bytes(1024))
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
