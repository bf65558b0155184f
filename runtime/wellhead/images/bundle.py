"""Releases in one file: an uncompressed tar of an OCI layout, byte for byte, with what the catalog knows about them.

    oci-layout, index.json, blobs/sha256/<hex>    as any tool reads them
    wellhead/catalog.json                         releases and channels, as the exporting registry knew them
    wellhead/keys/<id>.pub                        public keys, for people to compare; none is ever trusted from here

The same releases give the same file. On the way in every blob is hashed, and no other path is ever written.
"""

from __future__ import annotations

import io
import os
import re
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

from wellhead import replacement
from wellhead.errors import Code, ConfigurationError, RefusedError
from wellhead.ids import Digest
from wellhead.images import layout, oci
from wellhead.images.layout import Layout
from wellhead.images.oci import Descriptor

BAD_BUNDLE = Code("WH-IMG-050", "A file is no export of releases, or was damaged.")
UNWRITABLE = Code("WH-IMG-051", "An export cannot be written.")

RECORDS = "wellhead/catalog.json"
KEYS = "wellhead/keys/"

_BLOB = re.compile(r"blobs/sha256/([0-9a-f]{64})")
_KEY = re.compile(r"wellhead/keys/[A-Za-z0-9._-]{1,128}\.pub")
_CHUNK = 1024 * 1024
#: The last two are what tarfile lets through where a number in a header is none, or larger than any file.
_UNREADABLE = (OSError, tarfile.TarError, ValueError, OverflowError)


def pack(source: Layout, extra: Mapping[str, bytes], file: Path) -> int:
    """Write everything in ``source`` and the ``extra`` members into ``file`` and return its size in bytes.

    Raises:
        ConfigurationError: WH-IMG-051; a file that was there before is as it was.
    """
    try:
        real = replacement.target(file)
        with layout.beside(real) as (scratch, out):
            _write(source, extra, out)
            out.flush()
            os.fsync(out.fileno())
            size: int = out.tell()
            scratch.rename(real)
    except OSError as exc:
        raise ConfigurationError(
            f"{file} cannot be written: {exc.strerror}",
            code=UNWRITABLE,
            hint="name a file in a folder you may write to, with room for the releases",
        ) from exc
    return size


def keys(file: Path) -> tuple[str, ...]:
    """Return the ids of the public keys a file that `pack` wrote holds, for people; nothing else of it is read.

    Raises:
        ConfigurationError: WH-IMG-050, it cannot be read or is no such file.
    """
    found = []
    try:
        with tarfile.open(file, "r:") as archive:
            for member in archive:
                if _KEY.fullmatch(member.name) is None and member.name != RECORDS:
                    break
                found += [member.name] if member.name != RECORDS else []
    except _UNREADABLE as exc:
        raise _damaged(file, str(exc)) from exc
    return tuple(name.removeprefix(KEYS).removesuffix(".pub").replace("-", ":", 1) for name in found)


def unpack(file: Path, folder: Path) -> tuple[Layout, bytes]:
    """Read a file that `pack` wrote into a new layout in ``folder``; return it and the catalog's records.

    Raises:
        ConfigurationError: WH-IMG-050, it cannot be read or is no such file.
        RefusedError: a blob is not what its name says (WH-IMG-012), or larger than any (WH-IMG-013).
    """
    target = Layout.create(folder)
    index = records = None
    try:
        # No compression is looked for: what is small here must not unfold there.
        with tarfile.open(file, "r:") as archive:
            for member in archive:
                # A sparse file is one too, for tarfile: some bytes here, and as many zeros there as it says.
                if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or member.issparse() or member.size < 0:
                    raise _damaged(file, f"it holds {member.name!r}, which is no plain file")
                blob = _BLOB.fullmatch(member.name)
                if blob is not None:
                    _take(archive, member, Digest(f"sha256:{blob[1]}"), target)
                elif member.name == "index.json":
                    index = _document(archive, member)
                elif member.name == RECORDS:
                    records = _document(archive, member)
                elif member.name != "oci-layout" and _KEY.fullmatch(member.name) is None:
                    raise _damaged(file, f"it holds {member.name!r}")
    except _UNREADABLE as exc:
        raise _damaged(file, str(exc)) from exc
    if index is None or records is None:
        raise _damaged(file, f"it has no {'index.json' if index is None else RECORDS}")
    what = f"index.json of {file}"
    for found in oci.parts(oci.parsed(index, what), what).manifests:
        name = found.annotations.get(oci.NAME_ANNOTATION)
        if name is not None:
            target.name(name, Descriptor(found.media_type, found.digest, found.size))
    return target, records


def _write(source: Layout, extra: Mapping[str, bytes], out: IO[bytes]) -> None:
    blobs = source.path / "blobs" / "sha256"
    names = sorted(path.name for path in blobs.iterdir() if not path.name.startswith("."))
    files = [source.path / "oci-layout", source.path / "index.json", *(blobs / name for name in names)]
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        # First, so that a reader can list what comes without reading to the end.
        for name, content in sorted(extra.items()):
            archive.addfile(_member(name, len(content)), io.BytesIO(content))
        for path in files:
            with path.open("rb") as opened:
                archive.addfile(_member(str(path.relative_to(source.path)), path.stat().st_size), opened)


def _member(name: str, size: int) -> tarfile.TarInfo:
    # No owner and no time: the same releases give the same file.
    info = tarfile.TarInfo(name)
    info.size = size
    info.mode = 0o644
    return info


def _take(archive: tarfile.TarFile, member: tarfile.TarInfo, digest: Digest, target: Layout) -> None:
    if member.size > oci.MAX_LAYER_BYTES:
        raise oci.too_large(member.name, oci.MAX_LAYER_BYTES)

    def read() -> Iterator[bytes]:
        with _opened(archive, member) as file:
            while chunk := file.read(_CHUNK):
                yield chunk

    target.adopt(Descriptor("", digest, member.size), read)


def _document(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    if member.size > oci.MAX_DOCUMENT_BYTES:
        raise oci.too_large(member.name, oci.MAX_DOCUMENT_BYTES)
    with _opened(archive, member) as file:
        return file.read()


def _opened(archive: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    file = archive.extractfile(member)
    if file is None:
        raise RefusedError(f"{member.name} is no file", code=BAD_BUNDLE, hint="export the releases again")
    return file


def _damaged(file: Path, why: str) -> ConfigurationError:
    return ConfigurationError(
        f"{file} is no export of releases: {why}",
        code=BAD_BUNDLE,
        hint="write it with `wellhead catalog export`, and compare its checksum on both sides",
    )
