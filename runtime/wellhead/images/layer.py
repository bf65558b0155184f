"""Image layers as deterministic tars: the same files give the same bytes, on any machine and at any time.

Sorted names, owner 0, one fixed time, modes 0644, 0755 or what is stated; no owner names, no extra headers. A digest
is always taken while the bytes pass.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
import tarfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Self

#: Every file's time; also what SOURCE_DATE_EPOCH is set to for the programs that look at it.
EPOCH = 1_577_836_800
#: Raised whenever this module would write other bytes for the same files.
FORMAT = 1
GZIP_LEVEL = 1


@dataclass(frozen=True, slots=True)
class Entry:
    """One member of a layer; ``name`` is relative, without a leading or trailing slash."""

    name: str
    mode: int
    kind: bytes
    content: Path | bytes = b""
    target: str = ""

    @classmethod
    def folder(cls, name: str, mode: int = 0o755) -> Self:
        """A folder."""
        return cls(name, mode, tarfile.DIRTYPE)

    @classmethod
    def link(cls, name: str, target: str) -> Self:
        """A symbolic link to ``target``, as written."""
        return cls(name, 0o777, tarfile.SYMTYPE, target=target)

    @classmethod
    def file(cls, name: str, content: Path | bytes, *, executable: bool = False) -> Self:
        """A file whose bytes are given, or read from a path when the layer is written."""
        return cls(name, 0o755 if executable else 0o644, tarfile.REGTYPE, content)


def file_hash(path: Path) -> str:
    """Return the sha256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def walk(folder: Path, prefix: PurePosixPath) -> Iterator[Entry]:
    """Yield everything under ``folder`` as entries under ``prefix``, ``prefix`` itself included.

    Links are kept as links; sockets, devices and pipes are left out, as no image can use them.
    """
    yield Entry.folder(str(prefix))
    for root, folders, files in os.walk(folder):
        folders.sort()
        inside = prefix / Path(root).relative_to(folder).as_posix()
        for name in sorted(folders + files):
            path = Path(root, name)
            mode = path.lstat().st_mode
            if stat.S_ISLNK(mode):
                yield Entry.link(str(inside / name), str(path.readlink()))
            elif stat.S_ISDIR(mode):
                yield Entry.folder(str(inside / name))
            elif stat.S_ISREG(mode):
                yield Entry.file(str(inside / name), path, executable=bool(mode & 0o111))


def write(entries: Iterable[Entry], out: BinaryIO) -> None:
    """Write ``entries`` as one tar to ``out``, by name, with every parent folder before its children."""
    named = {entry.name: entry for entry in entries}
    for name in list(named):
        for parent in PurePosixPath(name).parents:
            if str(parent) != ".":
                named.setdefault(str(parent), Entry.folder(str(parent)))
    with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT) as archive:
        for name in sorted(named):
            _add(archive, named[name])


def _add(archive: tarfile.TarFile, entry: Entry) -> None:
    info = tarfile.TarInfo(entry.name)
    info.type = entry.kind
    info.mode = entry.mode
    info.mtime = EPOCH
    info.linkname = entry.target
    if entry.kind != tarfile.REGTYPE:
        archive.addfile(info)
    elif isinstance(entry.content, bytes):
        info.size = len(entry.content)
        archive.addfile(info, io.BytesIO(entry.content))
    else:
        with entry.content.open("rb") as file:
            info.size = os.fstat(file.fileno()).st_size
            archive.addfile(info, file)


@dataclass(frozen=True, slots=True)
class Packed:
    """A layer as it is stored: a gzip file, the digest that names it, and the digest of what is inside (`diff_id`)."""

    path: Path
    digest: str
    size: int
    diff_id: str


def pack(tar: BinaryIO, target: Path) -> Packed:
    """Compress ``tar`` into the file ``target``.

    No name and no time in the gzip header. Level 1, and part of the recipe: level 6 takes three times as long and saves
    a tenth; the bytes also depend on zlib's version, the ``diff_id`` does not.
    """
    inside, outside = hashlib.sha256(), hashlib.sha256()
    compressor = zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, 31)
    with target.open("wb") as out:
        size = 0
        while chunk := tar.read(1024 * 1024):
            inside.update(chunk)
            size += _pour(compressor.compress(chunk), out, outside)
        size += _pour(compressor.flush(), out, outside)
        out.flush()
        os.fsync(out.fileno())
    return Packed(target, f"sha256:{outside.hexdigest()}", size, f"sha256:{inside.hexdigest()}")


def _pour(content: bytes, out: BinaryIO, hashed: hashlib._Hash) -> int:
    hashed.update(content)
    out.write(content)
    return len(content)
