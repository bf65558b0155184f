"""What every store of releases offers, and how releases travel from one to another, byte for byte.

    Store   names: ``namespace/name:tag``, each meaning one document
      └─ Shelf   one connector's content, found by digest and hashed both ways

A layout folder and an OCI registry keep these promises (`wellhead.testing.stores` has the suite). Tags that are
versions are written once; tags that begin with ``sha256-`` belong to what is said about a release and may be replaced:

    1.4.2                  the release index
    sha256-<hex>.wh        our signature of the index with that digest
    sha256-<hex>.sig       the same in cosign's form
    sha256-<hex>           the list of what refers to it, for registries without the referrers API
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import semver

from wellhead.errors import Code, ConfigurationError, RefusedError
from wellhead.ids import ConnectorId, Digest
from wellhead.images import layout, naming, oci
from wellhead.images.oci import Descriptor

NO_NAME = Code("WH-IMG-017", "A store has nothing of that name.")

#: Opens a blob's bytes from the start; called again when an upload has to begin anew.
Source = Callable[[], Iterable[bytes]]

_CHUNK = 1024 * 1024


class Shelf(Protocol):
    """One connector's content in a store."""

    def put(self, content: bytes, media_type: str, **fields: Any) -> Descriptor:
        """Store a small document or blob and return its descriptor; storing it again changes nothing."""

    def adopt(self, found: Descriptor, read: Source) -> Descriptor:
        """Store a large blob that ``found`` describes, hashing it on its way.

        Raises:
            RefusedError: WH-IMG-012, ``read`` gave something else; nothing is kept.
        """

    def holds(self, found: Descriptor) -> bool:
        """Say whether the content is there, without reading it."""

    def claims(self, found: Descriptor) -> bool:
        """Say whether the content is there; what is there is not removed for as long as a publisher may need.

        A store that can tell says no of what was changed, so that it is written again.
        """

    def get(self, digest: Digest, what: str) -> bytes:
        """Return a document's bytes, checked against its digest.

        Raises:
            RefusedError: missing (WH-IMG-011), changed (WH-IMG-012) or too large (WH-IMG-013).
        """

    def document(self, digest: Digest, what: str) -> dict[str, Any]:
        """Return a JSON document; raises like `get`, and WH-IMG-014 if it is no object."""

    def chunks(self, found: Descriptor, what: str) -> Iterator[bytes]:
        """Yield a blob's bytes; the last chunk is given away only after the whole was found to be what it should be.

        Raises:
            RefusedError: missing, changed or too large, before the reader has seen the end.
        """


class Store(Protocol):
    """Names and the shelves they point into."""

    @property
    def where(self) -> str:
        """Return the folder or address, as messages name it; never with a password."""

    def shelf(self, connector: ConnectorId) -> Shelf:
        """Return what the store keeps of one connector."""

    def name(self, name: str, found: Descriptor) -> None:
        """Let ``name`` mean ``found``, which the connector's shelf holds, and list it with what it refers to.

        Raises:
            RefusedError: WH-IMG-016, a version's name means something else already.
        """

    def named(self, name: str) -> Descriptor | None:
        """Return what ``name`` means; None if it means nothing."""

    def names(self, connector: ConnectorId | None = None) -> tuple[str, ...]:
        """Return every name, or every name of one connector, sorted."""

    def referrers(self, connector: ConnectorId, digest: Digest) -> tuple[Descriptor, ...]:
        """Return what says of itself that it refers to ``digest``: signatures, reports."""


def read_file(path: Path) -> Source:
    """Return what reads a file in chunks, from its start each time."""

    def read() -> Iterator[bytes]:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                yield chunk

    return read


def releases(store: Store, connector: ConnectorId | None = None) -> tuple[tuple[ConnectorId, str], ...]:
    """Return the connector and version of every release a store has a name for; no other tag is one, as ``latest``."""
    parted = (naming.split(name) for name in store.names(connector))
    return tuple((found, tag) for found, tag in parted if semver.Version.is_valid(tag))


@dataclass(frozen=True, slots=True)
class Copied:
    """What one copy moved; ``bytes`` counts only what the target did not hold."""

    names: tuple[str, ...]
    bytes: int


def copy_release(
    source: Store,
    target: Store,
    connector: ConnectorId,
    version: str,
    *,
    replaces: bool = True,
    done: set[Digest] | None = None,
) -> Copied:
    """Copy a release with everything said about it, children before parents and names last; as `copy_index` does.

    Raises:
        ConfigurationError: WH-IMG-017, the source has no such release.
        RefusedError: the target knows the version with other bytes (WH-IMG-016), or something is missing, changed or
            too large in the source (WH-IMG-011 to 013).
    """
    release = naming.name_of(connector, version)
    found = source.named(release)
    if found is None:
        raise ConfigurationError(
            f"{source.where} has no release {connector} {version}",
            code=NO_NAME,
            hint="`wellhead catalog list` shows what is published",
        )
    return copy_index(source, target, connector, found.digest, release, replaces=replaces, done=done)


def copy_index(
    source: Store,
    target: Store,
    connector: ConnectorId,
    digest: Digest,
    release: str,
    *,
    layers: bool = True,
    replaces: bool = True,
    done: set[Digest] | None = None,
) -> Copied:
    """Copy the release with that index, whatever its tag says by now, and let ``release`` name it in the target.

    Without ``layers`` only the documents are copied: enough to verify a release whose image an Engine has. Without
    ``replaces`` what is said about it in the target stays, and what is not said there yet is added. ``done`` is what
    the caller has copied to the connector's shelf in the target already, which is not looked at again, and grows.

    Raises:
        RefusedError: as `copy_release`.
    """
    known = target.named(release)
    is_cache = isinstance(target, layout.Layout) and target.is_cache
    if known is not None and known.digest != digest and not is_cache:
        raise naming.taken(release, known.digest, digest, target.where)
    shelf, into = source.shelf(connector), target.shelf(connector)
    index = Descriptor(oci.INDEX, digest, len(shelf.get(digest, f"the release index of {release}")))
    done = set() if done is None else done
    done |= set() if layers else _layers(shelf, index)
    moved = _copy(shelf, into, index, done)
    said = _said(source, connector, shelf, index)
    if not replaces:
        said = [name for name in said if target.named(name) is None]
    for name in said:
        found = source.named(name)
        if found is not None:
            moved += _copy(shelf, into, found, done)
            target.name(name, found)
    # Last: a name that is there says that everything below it is.
    target.name(release, index)
    return Copied((*said, release), moved)


def missing(shelf: Shelf, found: Descriptor, depth: int = 0) -> tuple[Descriptor, ...]:
    """Return what a shelf lacks of a document and all below it, without reading what is large.

    Raises:
        RefusedError: a document that is there is changed, too large or nested too deep (WH-IMG-012 to 014).
    """
    if not shelf.holds(found):
        return (found,)
    if found.media_type not in (oci.INDEX, oci.MANIFEST):
        return ()
    if depth > oci.DEPTH:
        raise _too_deep(found)
    below = oci.read(shelf, found.digest, "a document").children
    return tuple(each for child in below for each in missing(shelf, child, depth + 1))


def require_whole(store: Store, connector: ConnectorId, digest: Digest) -> None:
    """Refuse a release of which a copy would end half-way.

    Raises:
        RefusedError: something of it, or of what is said about it, is missing, changed, too large or of the wrong form
            (WH-IMG-011 to 014).
    """
    shelf = store.shelf(connector)
    index = Descriptor(oci.INDEX, digest, len(shelf.get(digest, "the release index")))
    said = [(name, store.named(name)) for name in _said(store, connector, shelf, index)]
    for what, found in (("the release index", index), *said):
        if found is None:
            continue
        oci.read(shelf, found.digest, what)
        gone = missing(shelf, found)
        if gone:
            raise RefusedError(
                f"{what} ({found.digest}) names {gone[0].digest} with {gone[0].size} bytes, which {store.where} does "
                "not have",
                code=oci.NO_BLOB,
                hint="publish the release again, or ask whoever gave it to you for the whole of it",
            )


def hold(
    remote: Store | None, local: layout.Layout, connector: ConnectorId, version: str, digest: Digest
) -> layout.Layout:
    """Return ``local`` with that release in it; ``remote`` is asked only where it is not there yet.

    The folder in front of a registry is a cache: a version that means other bytes there is fetched anew.

    Raises:
        TransientError: WH-IMG-040, the registry is away and the release was never fetched.
        RefusedError: what the registry has is not that release (WH-IMG-011 to 014).
    """
    if remote is not None:
        release = naming.name_of(connector, version)
        known = local.named(release)
        if known is None or known.digest != digest:
            copy_index(remote, local, connector, digest, release)
    return local


def _copy(source: Shelf, target: Shelf, found: Descriptor, done: set[Digest], depth: int = 0) -> int:
    """Copy a document and all below it, children first and each once; return how many bytes the target lacked."""
    if found.digest in done:
        return 0
    done.add(found.digest)
    if found.media_type not in (oci.INDEX, oci.MANIFEST):
        if target.claims(found):
            return 0
        target.adopt(found, lambda: source.chunks(found, f"blob {found.digest}"))
        return found.size
    if depth > oci.DEPTH:
        raise _too_deep(found)
    content = source.get(found.digest, f"document {found.digest}")
    what = f"document {found.digest}"
    below = oci.parts(oci.parsed(content, what), what).children
    moved = sum(_copy(source, target, child, done, depth + 1) for child in below)
    if not target.claims(found):
        target.put(content, found.media_type)
        moved += len(content)
    return moved


def _too_deep(found: Descriptor) -> RefusedError:
    return RefusedError(
        f"document {found.digest} is nested more than {oci.DEPTH} deep",
        code=oci.BAD_DOCUMENT,
        hint="publish the release again",
    )


def _layers(shelf: Shelf, index: Descriptor) -> set[Digest]:
    """Return the digests of the layers of a release's images."""
    # Of an index, as where a release is verified: what it calls config or layers is no image of it.
    images = [item for item in oci.read(shelf, index.digest, "the release index").manifests if item.platform]
    made = [oci.read(shelf, item.digest, f"the image manifest of {item.platform}") for item in images]
    return {item.digest for one in made for item in one.layers}


def _said(store: Store, connector: ConnectorId, shelf: Shelf, index: Descriptor) -> list[str]:
    """Return the names of what a store says about a release."""
    hashes = _manifests(shelf, index)
    return [name for name in store.names(connector) if _is_about(name, hashes)]


def _manifests(shelf: Shelf, index: Descriptor) -> frozenset[str]:
    """Return the hashes of a release's index and of the documents it lists: what can be signed of it."""
    listed = oci.read(shelf, index.digest, "the release index").manifests
    return frozenset(item.digest.removeprefix("sha256:") for item in (index, *listed))


def _is_about(name: str, hashes: frozenset[str]) -> bool:
    tag = naming.split(name)[1]
    # The list of what refers to a document is written anew where its entries are named.
    return "." in tag and naming.subject_hash(tag) in hashes
