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
import json
import os
import re
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wellhead.errors import Code, ConfigurationError, Place, RefusedError
from wellhead.ids import ConnectorId, Digest

if TYPE_CHECKING:
    from wellhead.images.store import Shelf

NO_STORE = Code("WH-IMG-010", "The release store is missing or is no OCI layout.")
NO_BLOB = Code("WH-IMG-011", "The release store lacks something a release needs.")
BROKEN_BLOB = Code("WH-IMG-012", "Bytes in the release store are not what their digest says.")
TOO_LARGE = Code("WH-IMG-013", "Something in the release store is larger than allowed.")
BAD_DOCUMENT = Code("WH-IMG-014", "A document of the release store has the wrong form.")
NAME_TAKEN = Code("WH-IMG-016", "A store knows a version with other bytes.")
NO_PLATFORM = Code("WH-IMG-015", "A release has no image for this platform.")

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
EMPTY = "application/vnd.oci.empty.v1+json"
CONNECTOR_MANIFEST = "application/vnd.wellhead.connector.manifest.v1+json"
CONNECTOR_YAML = "application/vnd.wellhead.connector.manifest.v1+yaml"
ENVELOPE = "application/vnd.dsse.envelope.v1+json"

NAME_ANNOTATION = "org.opencontainers.image.ref.name"
#: Says what a child of a release index is; never `artifactType` on the descriptor, which old mirror tools drop.
ROLE_ANNOTATION = "wellhead.role"

#: No document of a release comes near; a hostile one must not fill memory.
MAX_DOCUMENT_BYTES = 4 * 1024 * 1024
#: Compressed size of a layer.
MAX_LAYER_BYTES = 2 * 1024 * 1024 * 1024

#: Longer than any publisher needs from its first blob to its name.
WRITTEN_S = 24 * 3600.0
#: What others leave here besides blobs: scratch files, and folders of exports and imports that were killed.
_SCRATCH = (".new-", ".export-", ".import-")

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
#: A connector's id and a tag, as every registry takes them.
_NAME = re.compile(r"([a-z0-9]+(?:[._-][a-z0-9]+)*/[a-z0-9]+(?:[._-][a-z0-9]+)*):([A-Za-z0-9_][A-Za-z0-9._-]{0,127})")
_ABOUT = re.compile(r"sha256-([0-9a-f]{64})(?:\..+)?")
#: An index of images is two deep; what is nested deeper was made to keep us busy.
DEPTH = 4
_CHUNK = 1024 * 1024
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_UNKNOWN_PLATFORM = {"architecture": "unknown", "os": "unknown"}


@dataclass(frozen=True, slots=True)
class Descriptor:
    """What names a blob from another document."""

    media_type: str
    digest: Digest
    size: int
    platform: str | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """Return it as OCI writes it."""
        written: dict[str, Any] = {"mediaType": self.media_type, "digest": self.digest, "size": self.size}
        if self.platform is not None:
            system, architecture = self.platform.split("/")
            written["platform"] = {"architecture": architecture, "os": system}
        if self.annotations:
            written["annotations"] = dict(sorted(self.annotations.items()))
            if ROLE_ANNOTATION in self.annotations:
                written["platform"] = _UNKNOWN_PLATFORM
        return written


@dataclass(frozen=True, slots=True)
class Parts:
    """What an index, a manifest or a list is made of and refers to; what it does not say is empty or None.

    ``kind`` is what it says of itself that it is, or else what its config is.
    """

    config: Descriptor | None
    layers: tuple[Descriptor, ...]
    manifests: tuple[Descriptor, ...]
    subject: Descriptor | None
    kind: str | None
    annotations: Mapping[str, str]

    @property
    def children(self) -> tuple[Descriptor, ...]:
        """Return what it is made of, in its order; what it refers to (``subject``) is no part of it."""
        return (*([self.config] if self.config is not None else []), *self.layers, *self.manifests)


def read(shelf: Shelf, digest: Digest, what: str) -> Parts:
    """Return what a document on a shelf is made of; raises as `Shelf.document` and `parts`."""
    return parts(shelf.document(digest, what), f"{what} ({digest})")


def parts(document: Mapping[str, Any], what: str) -> Parts:
    """Take a document apart; null counts as absent, as some registries write an empty list.

    Args:
        document: as `parsed` returned it.
        what: how the message names it, with its digest or address.

    Raises:
        RefusedError: WH-IMG-014, naming the field that is of another form.
    """
    config, subject = (_optional(document, field, what) for field in ("config", "subject"))
    layers, manifests = (_descriptors(document, field, what) for field in ("layers", "manifests"))
    kind = document.get("artifactType")
    if kind is not None and not isinstance(kind, str):
        raise wrong_form(what, "artifactType", "is no text")
    annotations = _texts(document.get("annotations"), what, "annotations")
    return Parts(config, layers, manifests, subject, kind or (config.media_type if config else None), annotations)


def items(document: Mapping[str, Any], field: str, what: str) -> list[Any]:
    """Return a list a document holds, empty for null; raises as `parts`."""
    found = document.get(field)
    if found is None:
        return []
    if not isinstance(found, list):
        raise wrong_form(what, field, "is no list")
    return found


def descriptor(document: Any, what: str, field: str) -> Descriptor:
    """Read a descriptor out of a parsed document.

    Args:
        document: what should be one.
        what: how the message names the document it stands in.
        field: where it stands there.

    Raises:
        RefusedError: WH-IMG-014, it has not the form of one.
    """
    match document:
        case {"mediaType": str(media_type), "digest": str(digest), "size": int(size)} if (
            _DIGEST.fullmatch(digest) and size >= 0 and not isinstance(size, bool)
        ):
            pass
        case _:
            raise wrong_form(what, field, "is no descriptor: it needs mediaType, digest and size")
    annotations = _texts(document.get("annotations"), what, f"{field}.annotations")
    platform = document.get("platform")
    named = None
    if platform is not None and platform != _UNKNOWN_PLATFORM:
        match platform:
            case {"os": str(system), "architecture": str(architecture)} if "/" not in system + architecture:
                named = f"{system}/{architecture}"
            case _:
                raise wrong_form(what, f"{field}.platform", "does not name os and architecture")
    return Descriptor(media_type, Digest(digest), size, named, annotations)


def _descriptors(document: Mapping[str, Any], field: str, what: str) -> tuple[Descriptor, ...]:
    found = enumerate(items(document, field, what))
    return tuple(descriptor(item, what, f"{field}[{number}]") for number, item in found)


def _optional(document: Mapping[str, Any], field: str, what: str) -> Descriptor | None:
    found = document.get(field)
    return None if found is None else descriptor(found, what, field)


def _texts(found: Any, what: str, field: str) -> Mapping[str, str]:
    """Return annotations: an object that holds nothing but text."""
    if found is None:
        return {}
    if not isinstance(found, dict) or not all(isinstance(text, str) for text in found.values()):
        raise wrong_form(what, field, "is no object of texts")
    return found


def wrong_form(what: str, field: str, why: str) -> RefusedError:
    """Return the refusal of a document one field of which has not the form it must have."""
    return RefusedError(
        f"{what} has the wrong form: {field} {why}",
        code=BAD_DOCUMENT,
        hint="publish the release again; if it stays so, find out who else writes to the store",
        place=Place(field=field),
    )


def name_of(connector: ConnectorId, tag: str) -> str:
    """Return the name of a connector's tag.

    Raises:
        ConfigurationError: WH-IMG-014, no registry would take it, such as a version with build metadata.
    """
    name = f"{connector}:{tag}"
    split(name)
    return name


def split(name: str) -> tuple[ConnectorId, str]:
    """Return the connector and the tag of a name; raises like `name_of`."""
    found = _NAME.fullmatch(name)
    if found is None:
        raise ConfigurationError(
            f"{name!r} is no name of a release",
            code=BAD_DOCUMENT,
            hint="a name is NAMESPACE/NAME:VERSION, in lower case and without build metadata",
        )
    return ConnectorId(found[1]), found[2]


def is_version(tag: str) -> bool:
    """Say whether a tag names a release, and not what is said about one."""
    return not tag.startswith("sha256-")


def about(digest: Digest, suffix: str = "") -> str:
    """Return the tag of what is said about ``digest``."""
    return f"sha256-{digest.removeprefix('sha256:')}{suffix}"


def subject_hash(tag: str) -> str | None:
    """Return the hash of what a tag is about; None where it names something itself."""
    found = _ABOUT.fullmatch(tag)
    return None if found is None else found[1]


def taken(name: str, known: Digest, new: Digest, where: str) -> RefusedError:
    """Return the refusal to let a version mean something else."""
    return RefusedError(
        f"{where} knows {name} as {known}, and this one is {new}",
        code=NAME_TAKEN,
        hint="a release never changes: give the new bytes a new version",
    )


def parsed(content: bytes, what: str) -> dict[str, Any]:
    """Return a JSON document.

    Raises:
        RefusedError: WH-IMG-014, it is no object, or holds half a character.
    """
    try:
        document = json.loads(content)
        if _SURROGATE.search(content):
            # Escaped, half a character can be read, but neither printed nor written again.
            canonical(document)
    except (ValueError, RecursionError) as exc:
        raise RefusedError(f"{what} is not JSON", code=BAD_DOCUMENT, hint="publish the release again") from exc
    if not isinstance(document, dict):
        raise RefusedError(f"{what} is not an object", code=BAD_DOCUMENT, hint="publish the release again")
    return document


def with_referrer(
    before: Mapping[str, Any] | None, what: str, found: Descriptor, made: Parts, replaced: Digest | None
) -> bytes:
    """Return the list of what refers to a document, with ``found`` in it and ``replaced`` not.

    Source: OCI distribution specification 1.1, "Referrers Tag Schema".

    Args:
        before: the list as it is; its entries are kept as others wrote them.
        what: how a message names that list.
        found: what refers to the document.
        made: what ``found`` is made of.
        replaced: what it takes the place of.

    Raises:
        RefusedError: WH-IMG-014, the list has the wrong form.
    """
    entry: dict[str, Any] = {"mediaType": found.media_type, "digest": found.digest, "size": found.size}
    entry |= {"artifactType": made.kind} if made.kind else {}
    entry |= {"annotations": made.annotations} if made.annotations else {}
    gone = {found.digest, replaced}
    known = zip(items(before or {}, "manifests", what), parts(before or {}, what).manifests, strict=True)
    kept = [written for written, item in known if item.digest not in gone]
    return canonical({"schemaVersion": 2, "mediaType": INDEX, "manifests": [*kept, entry]})


def canonical(document: Any) -> bytes:
    """Return ``document`` as the JSON bytes every document of ours is stored as: sorted keys, no spaces."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def digest_of(content: bytes) -> Digest:
    """Return the digest that names ``content``."""
    return Digest(f"sha256:{hashlib.sha256(content).hexdigest()}")


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep removed."""

    files: int
    bytes: int


class Layout:
    """One layout folder; safe for several processes at once."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, path: Path) -> Layout:
        """Open the layout at ``path``, making it if it is missing or an empty folder."""
        blobs = path / "blobs" / "sha256"
        blobs.mkdir(parents=True, exist_ok=True)
        marker = path / "oci-layout"
        if not marker.exists():
            _replace(path / "index.json", canonical({"schemaVersion": 2, "mediaType": INDEX, "manifests": []}))
            # Last, so that a folder with a marker is complete.
            _replace(marker, canonical({"imageLayoutVersion": "1.0.0"}))
        return cls(path)

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
        found = Descriptor(media_type, digest_of(content), len(content), **fields)
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
        """Say whether the content is there; if so it counts as just written, so that it is not swept before its name.

        What is there and cannot be marked, because somebody else owns it, is written again by whoever asked.
        """
        blob = self._blob(found.digest)
        with self._unswept(fcntl.LOCK_SH):
            try:
                if blob.stat().st_size != found.size:
                    return False
                os.utime(blob)
            except OSError:
                return False
            return True

    def adopt(self, found: Descriptor, read: Callable[[], Iterable[bytes]]) -> Descriptor:
        """Store a large blob that ``found`` describes, hashing it while it is written.

        Raises:
            RefusedError: WH-IMG-012, ``read`` gave something else; nothing is kept.
        """
        target = self._blob(found.digest)
        if self.claims(found):
            return found
        with beside(target) as (scratch, out):
            for chunk in checked(read(), found, f"blob {found.digest}"):
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
            if size > MAX_DOCUMENT_BYTES:
                raise too_large(what, MAX_DOCUMENT_BYTES)
            content: bytes = file.read(MAX_DOCUMENT_BYTES + 1)
        if digest_of(content) != digest:
            raise broken(digest, what)
        return content

    def document(self, digest: Digest, what: str) -> dict[str, Any]:
        """Return a JSON document, checked against its digest; raises like `get`, and WH-IMG-014 if it is no object."""
        return parsed(self.get(digest, what), f"{what} ({digest})")

    def chunks(self, found: Descriptor, what: str) -> Iterator[bytes]:
        """Yield a blob's bytes; the last chunk is given away only after the whole was found to be what it should be.

        Raises:
            RefusedError: missing, changed or too large, before the reader has seen the end.
        """
        with self._opened(found.digest, what) as (file, size):
            if size > MAX_LAYER_BYTES:
                raise too_large(what, MAX_LAYER_BYTES)
            if size != found.size:
                raise broken(found.digest, what)
            yield from checked(iter(lambda: file.read(_CHUNK), b""), found, what)

    def name(self, name: str, found: Descriptor) -> None:
        """Let ``name`` mean ``found``, and list it with what it refers to.

        Raises:
            RefusedError: WH-IMG-016, a version's name means something else already.
        """
        connector, tag = split(name)
        made = read(self, found.digest, name)
        with self._locked():
            named = self._names()
            known = named.get(name)
            if known is not None and known.digest != found.digest and is_version(tag):
                raise taken(name, known.digest, found.digest, self.where)
            meant = {name: found}
            if made.subject is not None:
                listed = f"{connector}:{about(made.subject.digest)}"
                before = named.get(listed)
                document = None if before is None else self.document(before.digest, listed)
                list_of_all = with_referrer(document, listed, found, made, known.digest if known else None)
                meant[listed] = self.put(list_of_all, INDEX)
            for key, item in meant.items():
                named[key] = Descriptor(item.media_type, item.digest, item.size, None, {NAME_ANNOTATION: key})
            self._write_names(named)

    def named(self, name: str) -> Descriptor | None:
        """Return what ``name`` means; None if it means nothing."""
        return self._names().get(name)

    def names(self, connector: ConnectorId | None = None) -> tuple[str, ...]:
        """Return every name, or every name of one connector, sorted."""
        return tuple(name for name in sorted(self._names()) if connector is None or name.startswith(f"{connector}:"))

    def referrers(self, connector: ConnectorId, digest: Digest) -> tuple[Descriptor, ...]:
        """Return what says of itself that it refers to ``digest``."""
        name = f"{connector}:{about(digest)}"
        found = self.named(name)
        return () if found is None else read(self, found.digest, name).manifests

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
            # Under another digest it is none of those that were meant.
            left |= {
                version
                for version, digest in releases.items()
                if (known := named.get(f"{connector}:{version}")) is not None and known.digest != digest
            }
            gone = {version: digest for version, digest in releases.items() if version not in left}
            own = {name: item for name, item in named.items() if split(name)[0] == connector}
            stay = [item.digest for name, item in own.items() if is_version(tag := split(name)[1]) and tag not in gone]
            said_of = self._parts(gone.values()) - self._parts(stay)
            dropped = {
                name
                for name in own
                if (tag := split(name)[1]) in gone or (not is_version(tag) and subject_hash(tag) in said_of)
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
            connector, tag = split(name)
            if is_version(tag):
                parts.setdefault(connector, set()).update(self._parts([item.digest]))
        kept = {}
        for name, item in named.items():
            connector, tag = split(name)
            said_of = None if is_version(tag) else subject_hash(tag)
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
                listed = read(self, digest, "a release index").children
                found |= {child.digest.removeprefix("sha256:") for child in listed}
        return found

    def _reach(self, item: Descriptor, name: str, found: set[Digest], depth: int = 0) -> None:
        if item.digest in found:
            return
        found.add(item.digest)
        if item.media_type in (INDEX, MANIFEST) and depth <= DEPTH and subject_hash(split(name)[1]) is None:
            for child in read(self, item.digest, f"a document of {name}").children:
                self._reach(child, name, found, depth + 1)
        elif item.media_type == MANIFEST:
            found.update(child.digest for child in read(self, item.digest, name).children)

    def _write_names(self, named: Mapping[str, Descriptor]) -> None:
        manifests = [named[key].document() for key in sorted(named)]
        content = canonical({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests})
        _replace(self.path / "index.json", content)

    def _names(self) -> dict[str, Descriptor]:
        file = self.path / "index.json"
        try:
            content = file.read_bytes()
        except OSError as exc:
            raise RefusedError(
                f"{file} cannot be read: {exc.strerror}", code=BAD_DOCUMENT, hint="restore it, or publish again"
            ) from exc
        index = parsed(content, str(file))
        if "manifests" not in index:
            raise wrong_form(str(file), "manifests", "is missing")
        found = parts(index, str(file)).manifests
        return {item.annotations[NAME_ANNOTATION]: item for item in found if NAME_ANNOTATION in item.annotations}

    def _blob(self, digest: Digest) -> Path:
        require_digest(digest)
        return self.path / "blobs" / "sha256" / digest.removeprefix("sha256:")

    @contextmanager
    def _opened(self, digest: Digest, what: str) -> Iterator[tuple[Any, int]]:
        try:
            file = self._blob(digest).open("rb")
        except OSError as exc:
            raise RefusedError(
                f"{what} ({digest}) is not in the release store {self.path}: {exc.strerror}",
                code=NO_BLOB,
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


def _is_older(path: Path, moment: datetime) -> bool:
    """Say whether a file is there and was written before; a publisher's scratch file may have become its blob."""
    try:
        return path.stat().st_mtime < moment.timestamp()
    except FileNotFoundError:
        return False


def checked(chunks: Iterable[bytes], found: Descriptor, what: str) -> Iterator[bytes]:
    """Yield ``chunks``; the last one only after all together had the size and the digest of ``found``.

    Raises:
        RefusedError: WH-IMG-012, at the first byte too many, or before the last chunk is given away.
    """
    hashed = hashlib.sha256()
    size = 0
    held = b""
    for chunk in chunks:
        size += len(chunk)
        if size > found.size:
            raise broken(found.digest, what)
        hashed.update(chunk)
        if held:
            yield held
        held = chunk
    if size != found.size or f"sha256:{hashed.hexdigest()}" != found.digest:
        raise broken(found.digest, what)
    yield held


@dataclass(frozen=True, slots=True)
class ImageDigests:
    """What an Engine may call the image of one platform: the config's digest, or the manifest's."""

    manifest: Digest
    config: Digest


@dataclass(frozen=True, slots=True)
class Image:
    """One platform's image: its manifest, its config (whose digest is the image id) and its layers, bottom first."""

    platform: str
    manifest: Descriptor
    config: Descriptor
    layers: tuple[Descriptor, ...]


def image(layout: Shelf, index_digest: Digest, platform: str) -> Image:
    """Return the image of one platform out of a release.

    Raises:
        RefusedError: something is missing, changed or of the wrong form (WH-IMG-01x).
        ConfigurationError: WH-IMG-015, the release has no image for it.
    """
    offered = read(layout, index_digest, "the release index").children
    for child in offered:
        if child.platform == platform and child.media_type == MANIFEST:
            what = f"the image manifest of {platform}"
            made = read(layout, child.digest, what)
            if made.config is None:
                raise wrong_form(f"{what} ({child.digest})", "config", "is missing")
            return Image(platform, child, made.config, made.layers)
    platforms = ", ".join(sorted(child.platform for child in offered if child.platform)) or "none"
    raise ConfigurationError(
        f"release {index_digest} has no image for {platform} (it has: {platforms})",
        code=NO_PLATFORM,
        hint="publish a release for this platform",
    )


def engine_tar(layout: Shelf, index_digest: Digest, platform: str, *, top_only: bool = False) -> Iterator[bytes]:
    """Yield one image as a tar that both kinds of Engine store load, hashing every blob on its way.

    With ``top_only`` all layers but the last are hashed and left out: the classic store needs none that it has already,
    and takes nothing where it lacks one.

    The classic store reads ``manifest.json`` and gives the image the config's digest as id, the containerd store reads
    ``index.json`` and gives it the manifest's. A broken blob raises before the tar is complete, so the Engine refuses
    what it has got.

    Raises:
        RefusedError: a blob is missing, changed or too large (WH-IMG-011 to 013).
    """
    found = image(layout, index_digest, platform)
    blobs = {item.digest: item for item in (found.manifest, found.config, *found.layers)}
    config, *layers = (_path(item) for item in (found.config, *found.layers))
    documents = {
        "index.json": canonical({"schemaVersion": 2, "mediaType": INDEX, "manifests": [found.manifest.document()]}),
        "manifest.json": canonical([{"Config": config, "RepoTags": None, "Layers": layers}]),
        "oci-layout": canonical({"imageLayoutVersion": "1.0.0"}),
    }
    for name, content in documents.items():
        yield _header(name, len(content)) + content + _padding(len(content))
    below = {item.digest for item in found.layers} - {item.digest for item in found.layers[-1:]} if top_only else set()
    for item in blobs.values():
        if item.size > MAX_LAYER_BYTES:
            # More than the header of a tar can say.
            raise too_large(f"blob {item.digest}", MAX_LAYER_BYTES)
        chunks = layout.chunks(item, f"blob {item.digest}")
        if item.digest in below:
            for _ in chunks:
                pass
            continue
        yield _header(_path(item), item.size)
        yield from chunks
        yield _padding(item.size)
    yield bytes(2 * tarfile.BLOCKSIZE)


def _header(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size = size
    return info.tobuf(tarfile.USTAR_FORMAT)


def _padding(size: int) -> bytes:
    return bytes(-size % tarfile.BLOCKSIZE)


def _path(found: Descriptor) -> str:
    return f"blobs/sha256/{found.digest.removeprefix('sha256:')}"


def require_digest(digest: Digest) -> None:
    """Refuse what is no digest before it becomes a part of a path or of an address.

    Raises:
        RefusedError: WH-IMG-014.
    """
    if _DIGEST.fullmatch(digest) is None:
        raise RefusedError(f"{digest!r} is not a digest", code=BAD_DOCUMENT, hint="publish the release again")


def too_large(what: str, limit: int) -> RefusedError:
    """Return the refusal of what is larger than ``limit`` bytes."""
    return RefusedError(
        f"{what} has more than the {limit} bytes allowed", code=TOO_LARGE, hint="publish a smaller release"
    )


def broken(digest: Digest, what: str) -> RefusedError:
    """Return the refusal of bytes that are not what their digest says."""
    return RefusedError(
        f"{what} was changed: its bytes do not have the digest {digest}",
        code=BROKEN_BLOB,
        hint="find out who can write to the release store, then publish the release again",
    )


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
