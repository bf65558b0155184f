"""The store of releases: an OCI image layout folder, with every byte hashed on its way in and on its way out.

    oci-layout            marks the folder
    index.json            name → descriptor; replaced whole, under a lock
    blobs/sha256/<hex>    content, named by its hash, never changed

Names are those of `wellhead.images.store`. The store is not trusted: whoever can write here can only make things fail.

What no name leads to is removed by `sweep`, and by nothing else. A publisher has no lock on what it has put here and
not named yet: a blob counts as being written for `WRITTEN_S` seconds after it was put, also where it was there already.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from wellhead.errors import Code, ConfigurationError, RefusedError
from wellhead.ids import ConnectorId, Digest
from wellhead.images import naming, oci
from wellhead.images.oci import Descriptor

NO_STORE = Code("WH-IMG-010", "The release store is missing or is no OCI layout.")

#: Longer than any publisher needs from its first blob to its name.
WRITTEN_S = 24 * 3600.0
#: What others leave here besides blobs: scratch files, and folders of exports and imports that were killed.
_SCRATCH = (".new-", ".export-", ".import-")
_CHUNK = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep removed."""

    files: int
    bytes: int


class Layout:
    """One layout folder; safe for several processes at once.

    With ``is_cache`` it only keeps what a registry has: which bytes a version means is decided there and in the
    database, and a name that means other ones here, as after a publisher who was refused there, is replaced.
    """

    def __init__(self, path: Path, *, is_cache: bool = False) -> None:
        self.path = path
        self.is_cache = is_cache

    @classmethod
    def create(cls, path: Path, *, is_cache: bool = False) -> Layout:
        """Open the layout at ``path``, making it if it is missing or an empty folder.

        Raises:
            ConfigurationError: WH-IMG-010, it cannot be made there.
        """
        blobs = path / "blobs" / "sha256"
        try:
            blobs.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise ConfigurationError(
                f"{path} cannot be a release store: {exc.strerror}",
                code=NO_STORE,
                hint="name a folder that is one, is empty or can be made",
            ) from exc
        marker = path / "oci-layout"
        if not marker.exists():
            _replace(path / "index.json", oci.canonical({"schemaVersion": 2, "mediaType": oci.INDEX, "manifests": []}))
            # Last, so that a folder with a marker is complete.
            _replace(marker, oci.canonical({"imageLayoutVersion": "1.0.0"}))
        return cls(path, is_cache=is_cache)

    @classmethod
    def open(cls, path: Path) -> Layout:
        """Open an existing layout.

        Raises:
            ConfigurationError: WH-IMG-010, there is none.
        """
        if not (path / "oci-layout").is_file():
            raise ConfigurationError(
                f"{path} is not a release store",
                code=NO_STORE,
                hint="`wellhead publish` makes it; check store.path in wellhead.yaml",
            )
        return cls(path)

    def put(self, content: bytes, media_type: str, **fields: Any) -> Descriptor:
        """Store ``content`` and return its descriptor; storing it again changes nothing."""
        found = Descriptor(media_type, oci.digest_of(content), len(content), **fields)
        if not self.claims(found):
            _replace(self._blob(found.digest), content)
        return found

    @property
    def where(self) -> str:
        """Return the folder."""
        return str(self.path)

    def shelf(self, connector: ConnectorId) -> Layout:  # noqa: ARG002
        """Return the folder itself: content lies in it by digest, whosever it is."""
        return self

    def holds(self, found: Descriptor) -> bool:
        """Say whether the content is there, without reading it."""
        try:
            return self._blob(found.digest).stat().st_size == found.size
        except OSError:
            return False

    def claims(self, found: Descriptor) -> bool:
        """Say whether the content is there, whole; then it counts as just written, and is not swept before its name.

        It is read for that: what was changed here, or cannot be marked because somebody else owns it, is written again
        by whoever asked.
        """
        blob = self._blob(found.digest)
        with self._unswept(fcntl.LOCK_SH):
            try:
                if blob.stat().st_size != found.size:
                    return False
                os.utime(blob)
            except OSError:
                return False
        # Marked, it is not swept any more: a sweep need not wait until it is read.
        return _is_whole(blob, found.digest)

    def adopt(self, found: Descriptor, read: Callable[[], Iterable[bytes]]) -> Descriptor:
        """Store a large blob that ``found`` describes, hashing it while it is written.

        Raises:
            RefusedError: WH-IMG-012, ``read`` gave something else; nothing is kept.
        """
        target = self._blob(found.digest)
        if self.claims(found):
            return found
        with beside(target) as (scratch, out):
            for chunk in oci.checked(read(), found, f"blob {found.digest}"):
                out.write(chunk)
            out.flush()
            os.fsync(out.fileno())
            scratch.rename(target)
        return found

    def get(self, digest: Digest, what: str) -> bytes:
        """Return a document's bytes, checked against its digest.

        Args:
            digest: of the blob.
            what: how the message names it, such as ``the image manifest``.

        Raises:
            RefusedError: missing (WH-IMG-011), changed (WH-IMG-012) or too large (WH-IMG-013).
        """
        with self._opened(digest, what) as (file, size):
            if size > oci.MAX_DOCUMENT_BYTES:
                raise oci.too_large(what, oci.MAX_DOCUMENT_BYTES)
            content: bytes = file.read(oci.MAX_DOCUMENT_BYTES + 1)
        if oci.digest_of(content) != digest:
            raise oci.broken(digest, what)
        return content

    def document(self, digest: Digest, what: str) -> dict[str, Any]:
        """Return a JSON document, checked against its digest; raises like `get`, and WH-IMG-014 if it is no object."""
        return oci.parsed(self.get(digest, what), f"{what} ({digest})")

    def chunks(self, found: Descriptor, what: str) -> Iterator[bytes]:
        """Yield a blob's bytes; the last chunk is given away only after the whole was found to be what it should be.

        Raises:
            RefusedError: missing, changed or too large, before the reader has seen the end.
        """
        with self._opened(found.digest, what) as (file, size):
            if size > oci.MAX_LAYER_BYTES:
                raise oci.too_large(what, oci.MAX_LAYER_BYTES)
            if size != found.size:
                raise oci.broken(found.digest, what)
            yield from oci.checked(iter(lambda: file.read(_CHUNK), b""), found, what)

    def name(self, name: str, found: Descriptor) -> None:
        """Let ``name`` mean ``found``, and list it with what it refers to.

        Raises:
            RefusedError: WH-IMG-016, a version's name means something else already, and this is no cache.
        """
        connector, tag = naming.split(name)
        made = oci.read(self, found.digest, name)
        with self._locked():
            named = self._names()
            known = named.get(name)
            if known is not None and known.digest != found.digest and naming.is_version(tag) and not self.is_cache:
                raise naming.taken(name, known.digest, found.digest, self.where)
            meant = {name: found}
            if made.subject is not None:
                listed = f"{connector}:{naming.about(made.subject.digest)}"
                before = named.get(listed)
                # A list that was changed begins anew: nothing of ours depends on it. One that can be read goes on, also
                # where it cannot be marked because somebody else owns it: its entries are others'.
                is_whole = before is not None and _is_whole(self._blob(before.digest), before.digest)
                document = self.document(before.digest, listed) if before is not None and is_whole else None
                list_of_all = oci.with_referrer(document, listed, found, made, known.digest if known else None)
                meant[listed] = self.put(list_of_all, oci.INDEX)
            for key, item in meant.items():
                named[key] = Descriptor(item.media_type, item.digest, item.size, None, {oci.NAME_ANNOTATION: key})
            self._write_names(named)

    def named(self, name: str) -> Descriptor | None:
        """Return what ``name`` means; None if it means nothing."""
        return self._names().get(name)

    def names(self, connector: ConnectorId | None = None) -> tuple[str, ...]:
        """Return every name, or every name of one connector, sorted."""
        return tuple(name for name in sorted(self._names()) if connector is None or name.startswith(f"{connector}:"))

    def referrers(self, connector: ConnectorId, digest: Digest) -> tuple[Descriptor, ...]:
        """Return what says of itself that it refers to ``digest``."""
        name = f"{connector}:{naming.about(digest)}"
        found = self.named(name)
        return () if found is None else oci.read(self, found.digest, name).manifests

    def drop(
        self, connector: ConnectorId, releases: Mapping[str, Digest], written_before: datetime
    ) -> tuple[frozenset[str], frozenset[str]]:
        """Take the names of some releases away, with those of what is said about them; their blobs are for `sweep`.

        Args:
            connector: whose releases.
            releases: version → digest of its index.
            written_before: a release put here since then is left: somebody publishes it at this moment.

        Returns:
            The versions that are not named here any more, and those that were left.
        """
        with self._locked(), self._unswept(fcntl.LOCK_EX):
            named = self._names()
            left = {version for version, digest in releases.items() if self.written_since(digest, written_before)}
            # Under another digest it is none of those that were meant; in a cache nobody can have meant it.
            left |= {
                version
                for version, digest in releases.items()
                if (known := named.get(f"{connector}:{version}")) is not None
                and known.digest != digest
                and not self.is_cache
            }
            gone = {version: digest for version, digest in releases.items() if version not in left}
            own = {name: item for name, item in named.items() if naming.split(name)[0] == connector}
            stay = [
                item.digest
                for name, item in own.items()
                if naming.is_version(tag := naming.split(name)[1]) and tag not in gone
            ]
            said_of = self._parts(gone.values()) - self._parts(stay)
            dropped = {
                name
                for name in own
                if (tag := naming.split(name)[1]) in gone
                or (not naming.is_version(tag) and naming.subject_hash(tag) in said_of)
            }
            self._write_names({name: item for name, item in named.items() if name not in dropped})
            return frozenset(gone), frozenset(left)

    def written_since(self, digest: Digest, moment: datetime) -> bool:
        """Say whether a blob is there and was put here, first or again, since that moment."""
        try:
            return self._blob(digest).stat().st_mtime >= moment.timestamp()
        except FileNotFoundError:
            return False

    def reachable(self) -> frozenset[Digest]:
        """Return the digests of everything a name leads to.

        Raises:
            RefusedError: a document is missing or changed (WH-IMG-011, 012), so that nobody knows what lies below it.
        """
        found: set[Digest] = set()
        for name, item in self._names().items():
            self._reach(item, name, found)
        return frozenset(found)

    def sweep(self, written_before: datetime) -> Swept:
        """Remove what no name leads to and nobody is about to name: blobs, and what killed processes left beside them.

        Names of signatures go as well where what they are about was never named, as after a publisher that died.

        Raises:
            RefusedError: as `reachable`; nothing was removed then.
        """
        with self._locked(), self._unswept(fcntl.LOCK_EX):
            self._forget_orphans(written_before)
            needed = {digest.removeprefix("sha256:") for digest in self.reachable()}
            blobs = self.path / "blobs" / "sha256"
            old = [
                path
                for path in (*blobs.iterdir(), *self.path.iterdir())
                if (path.name.startswith(_SCRATCH) or (path.parent == blobs and path.name not in needed))
                and _is_older(path, written_before)
            ]
            size = 0
            for path in old:
                size += sum(each.stat().st_size for each in (path, *path.rglob("*")) if each.is_file())
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink()
            return Swept(len(old), size)

    def _forget_orphans(self, written_before: datetime) -> None:
        named = self._names()
        parts: dict[ConnectorId, set[str]] = {}
        for name, item in named.items():
            connector, tag = naming.split(name)
            if naming.is_version(tag):
                parts.setdefault(connector, set()).update(self._parts([item.digest]))
        kept = {}
        for name, item in named.items():
            connector, tag = naming.split(name)
            said_of = None if naming.is_version(tag) else naming.subject_hash(tag)
            if said_of is not None and said_of not in parts.get(connector, ()):
                about_it = (item.digest, Digest(f"sha256:{said_of}"))
                if not any(self.written_since(digest, written_before) for digest in about_it):
                    continue
            kept[name] = item
        if len(kept) < len(named):
            self._write_names(kept)

    def _parts(self, indexes: Iterable[Digest]) -> set[str]:
        """Return the hashes of some release indexes and of what they list; of one that is gone only its own."""
        found = set()
        for digest in indexes:
            found.add(digest.removeprefix("sha256:"))
            if self._blob(digest).exists():
                listed = oci.read(self, digest, "a release index").manifests
                found |= {child.digest.removeprefix("sha256:") for child in listed}
        return found

    def _reach(self, item: Descriptor, name: str, found: set[Digest], depth: int = 0) -> None:
        if item.digest in found:
            return
        found.add(item.digest)
        if (
            item.media_type in (oci.INDEX, oci.MANIFEST)
            and depth <= oci.DEPTH
            and naming.subject_hash(naming.split(name)[1]) is None
        ):
            for child in oci.read(self, item.digest, f"a document of {name}").children:
                self._reach(child, name, found, depth + 1)
        elif item.media_type == oci.MANIFEST:
            found.update(child.digest for child in oci.read(self, item.digest, name).children)

    def _write_names(self, named: Mapping[str, Descriptor]) -> None:
        manifests = [named[key].document() for key in sorted(named)]
        content = oci.canonical({"schemaVersion": 2, "mediaType": oci.INDEX, "manifests": manifests})
        _replace(self.path / "index.json", content)

    def _names(self) -> dict[str, Descriptor]:
        file = self.path / "index.json"
        try:
            content = file.read_bytes()
        except OSError as exc:
            raise RefusedError(
                f"{file} cannot be read: {exc.strerror}", code=oci.BAD_DOCUMENT, hint="restore it, or publish again"
            ) from exc
        index = oci.parsed(content, str(file))
        if "manifests" not in index:
            raise oci.wrong_form(str(file), "manifests", "is missing")
        found = oci.parts(index, str(file)).manifests
        return {
            item.annotations[oci.NAME_ANNOTATION]: item for item in found if oci.NAME_ANNOTATION in item.annotations
        }

    def _blob(self, digest: Digest) -> Path:
        oci.require_digest(digest)
        return self.path / "blobs" / "sha256" / digest.removeprefix("sha256:")

    @contextmanager
    def _opened(self, digest: Digest, what: str) -> Iterator[tuple[Any, int]]:
        try:
            file = self._blob(digest).open("rb")
        except OSError as exc:
            raise RefusedError(
                f"{what} ({digest}) is not in the release store {self.path}: {exc.strerror}",
                code=oci.NO_BLOB,
                hint="publish the release again, or restore the store",
            ) from exc
        with file:
            yield file, os.fstat(file.fileno()).st_size

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with (self.path / ".lock").open("a") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            yield

    @contextmanager
    def _unswept(self, kind: int) -> Iterator[None]:
        """Keep blobs from going while they are claimed, and from being claimed while they go; taken after `_locked`."""
        with (self.path / ".sweep").open("a") as held:
            fcntl.flock(held, kind)
            yield


def _is_whole(path: Path, digest: Digest) -> bool:
    """Say whether a file has the bytes its digest names, and can be read."""
    try:
        with path.open("rb") as file:
            return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}" == digest
    except OSError:
        return False


def _is_older(path: Path, moment: datetime) -> bool:
    """Say whether a file is there and was written before; a publisher's scratch file may have become its blob."""
    try:
        return path.stat().st_mtime < moment.timestamp()
    except FileNotFoundError:
        return False


@contextmanager
def beside(target: Path) -> Iterator[tuple[Path, Any]]:
    """Open a scratch file in the folder of ``target``; it is gone at the end unless it was renamed."""
    handle, name = tempfile.mkstemp(prefix=".new-", dir=target.parent)
    scratch = Path(name)
    try:
        with os.fdopen(handle, "wb") as out:
            os.fchmod(out.fileno(), 0o644)
            yield scratch, out
    finally:
        scratch.unlink(missing_ok=True)


def _replace(target: Path, content: bytes) -> None:
    with beside(target) as (scratch, out):
        out.write(content)
        out.flush()
        os.fsync(out.fileno())
        scratch.rename(target)
