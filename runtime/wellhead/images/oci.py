"""OCI's documents as values: what an index, a manifest or a list is made of, and what a descriptor promises of a blob.

Whoever hands them out is not trusted: what has another form is refused by the document and its field, and bytes are
held against the digest that names them. Here nothing knows where they are kept.

Sources: OCI image and distribution specifications 1.1.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from wellhead.errors import Code, ConfigurationError, Place, RefusedError
from wellhead.ids import Digest

if TYPE_CHECKING:
    from wellhead.images.store import Shelf

NO_BLOB = Code("WH-IMG-011", "The release store lacks something a release needs.")
BROKEN_BLOB = Code("WH-IMG-012", "Bytes in the release store are not what their digest says.")
TOO_LARGE = Code("WH-IMG-013", "Something in the release store is larger than allowed.")
BAD_DOCUMENT = Code("WH-IMG-014", "A document of the release store has the wrong form.")
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

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
#: An index of images is two deep; what is nested deeper was made to keep us busy.
DEPTH = 4
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_UNKNOWN_PLATFORM = {"architecture": "unknown", "os": "unknown"}


def fields(*names: str) -> Mapping[str, str]:
    """Return the names of fields by what they are in any case, for `respelled`."""
    return {name.casefold(): name for name in names}


_FIELDS = fields("mediaType", "artifactType", "config", "layers", "manifests", "subject", "annotations")
_DESCRIPTOR = fields("mediaType", "digest", "size", "platform", "annotations")


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
    _require_spelled(document, _FIELDS, what, "")
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
    _require_spelled(document, _DESCRIPTOR, what, f"{field}.")
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


def respelled(document: Mapping[str, Any], names: Mapping[str, str]) -> str | None:
    """Return the first name a document writes in other letters than one of ``names`` is, such as ``Config``, or None.

    Engines and registries take a field's name in any case, and the last one counts: they would read another value than
    was judged here. Source: Go, encoding/json, Unmarshal.
    """
    return next((name for name in document if names.get(name.casefold(), name) != name), None)


def _require_spelled(document: Mapping[str, Any], names: Mapping[str, str], what: str, where: str) -> None:
    other = respelled(document, names)
    if other is not None:
        raise wrong_form(what, f"{where}{other!a}", f"is written {names[other.casefold()]}")


def wrong_form(what: str, field: str, why: str) -> RefusedError:
    """Return the refusal of a document one field of which has not the form it must have."""
    return RefusedError(
        f"{what} has the wrong form: {field} {why}",
        code=BAD_DOCUMENT,
        hint="publish the release again; if it stays so, find out who else writes to the store",
        place=Place(field=field),
    )


def parsed(content: bytes, what: str) -> dict[str, Any]:
    """Return a JSON document.

    Raises:
        RefusedError: WH-IMG-014, it is no object, names a field twice, or holds half a character.
    """

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        # Of two, we would read the last, and an Engine both as one: what was judged is not what would run.
        found = dict(pairs)
        if len(found) < len(pairs):
            twice = next(name for name, times in Counter(name for name, _ in pairs).items() if times > 1)
            raise wrong_form(what, ascii(twice[:40]), "stands twice in one object")
        return found

    try:
        document = json.loads(content, object_pairs_hook=once)
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
    # Of an index, as where a release is verified: what it calls config or layers is no image of it.
    offered = read(layout, index_digest, "the release index").manifests
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
        hint="find out who can write to the release store, then publish the release again; what came from a registry, "
        "`wellhead prefetch` fetches again",
    )
