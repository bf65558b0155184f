"""The store of releases in any OCI distribution registry; keeps the same contract as the folder.

    https://HOST[:PORT]/PREFIX   +   namespace/name:tag   =   repository PREFIX/namespace/name, that tag

What a registry answers is hashed here and never believed. A registry has no lock: a version's tag is looked at before
and after it is written, and what two publishers write at the same instant is decided by the database both register
in. The list of what refers to a release (a shared tag, where the referrers API is missing) is written last and read
again, for other tools; nothing of ours depends on it.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests

from wellhead import addresses
from wellhead.errors import Code, ConfigurationError, RefusedError, TransientError
from wellhead.ids import ConnectorId, Digest
from wellhead.images import naming, oci, transport
from wellhead.images.oci import INDEX, MANIFEST, Descriptor
from wellhead.images.store import Source
from wellhead.images.transport import Body, Credentials, Transport

BAD_ADDRESS = Code("WH-IMG-046", "The address of a registry has the wrong form.")
LIST_BUSY = Code("WH-IMG-047", "The list of what refers to a release is written by others all the time.")

#: Without these, registries answer with an older form of a manifest, which has another digest.
ACCEPT = ", ".join(
    (
        INDEX,
        MANIFEST,
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    )
)
#: Larger blobs are sent in parts of this size.
PART_BYTES = 16 * 1024 * 1024
_UPLOADS = 4
_LISTINGS = 8
#: A registry that lists more than so many pages of 1000 is not listed to its end.
_PAGES = 1000
_ADDRESS = re.compile(r"(https?://[^/@?#\s]+)((?:/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)*)/?")


class Registry:
    """A store in a registry; for one thread at a time."""

    def __init__(
        self,
        address: str,
        credentials: Credentials | None = None,
        ca_file: Path | None = None,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        """Take the address apart; nothing is sent yet.

        Args:
            address: ``https://HOST[:PORT][/PREFIX]``; plain http for a loopback address alone.
            credentials: None stays anonymous.
            ca_file: PEM file with the authority of the registry's certificate.
            pause: waits that many seconds.

        Raises:
            ConfigurationError: another form (WH-IMG-046), or clear text (WH-IMG-042).
        """
        parts = _ADDRESS.fullmatch(address)
        if parts is None or addresses.split(parts[1]) is None:
            raise ConfigurationError(
                f"{transport.shown(address)} is no address of a registry",
                code=BAD_ADDRESS,
                hint="write https://HOST[:PORT][/PREFIX] in lower case, PORT up to 65535, without user and password",
            )
        self._prefix = parts[2].strip("/")
        self._transport = Transport(parts[1], credentials, ca_file, pause)
        self._pause = pause
        self._shelves: dict[ConnectorId, Repository] = {}
        #: Where a blob was last seen: another repository can have it mounted instead of sent.
        self.seen: dict[Digest, str] = {}

    @property
    def where(self) -> str:
        """Return the address, without credentials."""
        return f"{self._transport.base}/{self._prefix}".rstrip("/")

    def greet(self) -> None:
        """Ask whether the registry is there and accepts us; raises as every request does."""
        self._transport.send("GET", "/v2/", ()).close()

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def shelf(self, connector: ConnectorId) -> Repository:
        """Return the repository of one connector."""
        if connector not in self._shelves:
            naming.name_of(connector, "any")
            repository = f"{self._prefix}/{connector}".lstrip("/")
            self._shelves[connector] = Repository(self._transport, repository, self.seen, self._pause)
        return self._shelves[connector]

    def name(self, name: str, found: Descriptor) -> None:
        """Let ``name`` mean ``found``, and list it with what it refers to.

        Raises:
            RefusedError: WH-IMG-016, a version's name means something else already.
            TransientError: WH-IMG-047, others write the list all the time; the name itself is there.
        """
        connector, tag = naming.split(name)
        shelf = self.shelf(connector)
        content = shelf.get(found.digest, name)
        known = shelf.tagged(tag)
        if known is not None and known.digest != found.digest and naming.is_version(tag):
            raise naming.taken(name, known.digest, found.digest, self.where)
        if known is None or known.digest != found.digest:
            lists_itself = shelf.tag(tag, content, found.media_type)
            now = shelf.tagged(tag)
            if naming.is_version(tag) and (now is None or now.digest != found.digest):
                raise naming.taken(name, now.digest if now else Digest("nothing"), found.digest, self.where)
        else:
            lists_itself = False
        what = f"{name} ({found.digest})"
        made = oci.parts(oci.parsed(content, what), what)
        if made.subject is not None and not lists_itself:
            shelf.list_referrer(made.subject.digest, found, made, known.digest if known else None)

    def named(self, name: str) -> Descriptor | None:
        """Return what ``name`` means, as the registry says; its content is checked when it is read."""
        connector, tag = naming.split(name)
        return self.shelf(connector).tagged(tag)

    def names(self, connector: ConnectorId | None = None) -> tuple[str, ...]:
        """Return every name, or every name of one connector, sorted; all of them needs a registry that has a catalog.

        Repositories that are no connector's, and tags nobody here would write, are left out.
        """
        if connector is not None:
            named = (f"{connector}:{tag}" for tag in self.shelf(connector).tags())
            return tuple(sorted(name for name in named if naming.is_name(name)))
        return tuple(name for found in self._connectors() for name in self.names(found))

    def referrers(self, connector: ConnectorId, digest: Digest) -> tuple[Descriptor, ...]:
        """Return what says of itself that it refers to ``digest``."""
        return self.shelf(connector).referrers(digest)

    def removing(self, connector: ConnectorId, releases: Mapping[str, Digest]) -> Iterator[tuple[str, bool]]:
        """Remove releases one by one, with what is said about them, and yield each version with whether it is gone.

        Manifests go, and with them their tags; the blobs are for the registry's own collection, which knows who else
        has them. A version whose tag means something else than the digest given, or whose manifests another release
        lists, is left there as far as that.

        Args:
            connector: whose releases.
            releases: version → digest of its index.

        Raises:
            ConfigurationError: WH-IMG-048, the registry deletes nothing.
            AuthError: WH-IMG-041, it does not let us delete.
        """
        shelf = self.shelf(connector)
        tags = shelf.tags()
        stay = set()
        for tag in tags:
            known = shelf.tagged(tag) if naming.is_version(tag) and tag not in releases else None
            if known is not None:
                stay |= shelf.parts(known.digest)
        for version, digest in releases.items():
            known = shelf.tagged(version)
            if known is not None and known.digest != digest:
                yield version, False
                continue
            parts = shelf.parts(digest)
            said = [tag for tag in tags if (found := naming.subject_hash(tag)) and f"sha256:{found}" in parts - stay]
            # The index first: a name that is there says that everything below it is.
            shelf.delete(digest)
            for tag in said:
                remark = shelf.tagged(tag)
                if remark is not None:
                    shelf.delete(remark.digest)
            for part in sorted(parts - stay - {digest}):
                shelf.delete(part)
            yield version, True

    def _connectors(self) -> list[ConnectorId]:
        under = f"{self._prefix}/" if self._prefix else ""
        found = []
        for page in pages(self._transport, "/v2/_catalog?n=1000", ("registry:catalog:*",)):
            for repository in page.texts("repositories"):
                rest = repository.removeprefix(under)
                # Whoever shares the registry with us names his own as he likes.
                if repository.startswith(under) and naming.is_name(f"{rest}:any"):
                    found.append(ConnectorId(rest))
        return sorted(found)


class Repository:
    """One connector's shelf in a registry."""

    def __init__(
        self, transport: Transport, repository: str, seen: dict[Digest, str], pause: Callable[[float], None]
    ) -> None:
        self._transport = transport
        self._repository = repository
        self._seen = seen
        self._pause = pause

    def put(self, content: bytes, media_type: str, **fields: Any) -> Descriptor:
        """Store a small document or blob and return its descriptor; storing it again changes nothing."""
        found = Descriptor(media_type, oci.digest_of(content), len(content), **fields)
        if media_type in (INDEX, MANIFEST):
            if not self.holds(found):
                self.tag(found.digest, content, media_type)
        else:
            self._upload(found, lambda: [content])
        return found

    def adopt(self, found: Descriptor, read: Source) -> Descriptor:
        """Store a large blob that ``found`` describes; the registry hashes it, and we do before its end is sent.

        Raises:
            RefusedError: WH-IMG-012, ``read`` gave something else.
        """
        self._upload(found, lambda: oci.checked(read(), found, f"blob {found.digest}"))
        return found

    def holds(self, found: Descriptor) -> bool:
        """Say whether the content is there, without reading it."""
        answer = self._send("HEAD", self._url(found), headers={"Accept": ACCEPT})
        if answer.status_code == 404:
            return False
        if found.media_type not in (INDEX, MANIFEST):
            self._seen[found.digest] = self._repository
        return True

    def claims(self, found: Descriptor) -> bool:
        """Say whether the content is there; a registry keeps no record of who needs what it has."""
        return self.holds(found)

    def get(self, digest: Digest, what: str) -> bytes:
        """Return a document's bytes, checked against its digest; raises as `Shelf.get`."""
        oci.require_digest(digest)
        # A digest does not say whether it is a manifest's or a blob's, and a registry keeps them apart. In this order:
        # asked for a blob as a manifest, Debian's registry answers 500.
        for kind in ("blobs", "manifests"):
            url = f"/v2/{self._repository}/{kind}/{digest}"
            answer = self._send("GET", url, headers={"Accept": ACCEPT})
            if answer.status_code == 404:
                answer.close()
                continue
            content = transport.content(answer, "GET", url, oci.MAX_DOCUMENT_BYTES)
            if content is None:
                raise oci.too_large(what, oci.MAX_DOCUMENT_BYTES)
            if oci.digest_of(content) != digest:
                raise oci.broken(digest, what)
            return content
        raise self._missing(digest, what)

    def document(self, digest: Digest, what: str) -> dict[str, Any]:
        """Return a JSON document; raises as `Shelf.document`."""
        return oci.parsed(self.get(digest, what), f"{what} ({digest})")

    def chunks(self, found: Descriptor, what: str) -> Iterator[bytes]:
        """Yield a blob's bytes, going on where a connection broke; raises as `Shelf.chunks`."""
        if found.size > oci.MAX_LAYER_BYTES:
            raise oci.too_large(what, oci.MAX_LAYER_BYTES)
        return oci.checked(self._read(found, what), found, what)

    def tagged(self, tag: str) -> Descriptor | None:
        """Return what the registry says a tag means; None if it means nothing."""
        url = f"/v2/{self._repository}/manifests/{tag}"
        answer = self._send("HEAD", url, headers={"Accept": ACCEPT})
        if answer.status_code == 404:
            return None
        headers = answer.headers
        said = {
            "mediaType": headers.get("Content-Type", "").partition(";")[0].strip(),
            "digest": headers.get("Docker-Content-Digest"),
            "size": transport.length(answer),
        }
        return oci.descriptor(said, f"the answer to HEAD {transport.shown(answer.url)}", "its headers")

    def tag(self, reference: str, content: bytes, media_type: str) -> bool:
        """Put a manifest under a tag or its digest; say whether the registry itself lists what it refers to.

        Raises:
            TransientError: WH-IMG-052, the registry goes on not to see a part.
        """
        for attempt in range(1, _UPLOADS + 1):
            try:
                answer = self._send(
                    "PUT",
                    f"/v2/{self._repository}/manifests/{reference}",
                    headers={"Content-Type": media_type},
                    body=Body.of(content),
                )
            except TransientError as error:
                # A part that somebody else uploads at this moment can be out of sight although ours was accepted.
                if error.code != transport.PART_UNSEEN or attempt == _UPLOADS:
                    raise
                self._pause(transport.backoff(attempt))
            else:
                answer.close()
                return "OCI-Subject" in answer.headers
        raise AssertionError("the last attempt returns or raises")

    def delete(self, digest: Digest) -> None:
        """Delete a manifest with every tag that means it; nothing happens if it is gone; raises as `removing`."""
        oci.require_digest(digest)
        self._transport.send(
            "DELETE",
            f"/v2/{self._repository}/manifests/{digest}",
            self._scopes("pull,push,delete"),
            once=True,
        ).close()

    def parts(self, index: Digest) -> set[Digest]:
        """Return the digests of a release index and of the manifests it lists; of one that is gone only its own."""
        if not self.holds(Descriptor(INDEX, index, 0)):
            return {index}
        return {index, *(child.digest for child in oci.read(self, index, "a release index").manifests)}

    def tags(self) -> list[str]:
        """Return every tag."""
        listed = pages(self._transport, f"/v2/{self._repository}/tags/list?n=1000", self._scopes())
        return [tag for page in listed for tag in page.texts("tags")]

    def referrers(self, digest: Digest) -> tuple[Descriptor, ...]:
        """Return what refers to ``digest``, by the referrers API or by the list under the fallback tag."""
        oci.require_digest(digest)
        url = f"/v2/{self._repository}/referrers/{digest}"
        found: list[Descriptor] = []
        is_served = False
        for page in pages(self._transport, url, self._scopes()):
            is_served = True
            found += page.entries
        if is_served:
            return tuple(found)
        return self._fallback(digest).entries

    def list_referrer(self, subject: Digest, found: Descriptor, made: oci.Parts, replaced: Digest | None) -> None:
        """Add ``found`` to the list under the fallback tag, and look whether somebody wrote over it.

        Raises:
            RefusedError: WH-IMG-014, the list has the wrong form.
            TransientError: WH-IMG-047.
        """
        for attempt in range(_LISTINGS):
            before = self._fallback(subject)
            content = oci.with_referrer(before.document, before.what, found, made, replaced)
            known = {item.digest for item in before.entries}
            if found.digest not in known or (replaced != found.digest and replaced in known):
                self.tag(naming.about(subject), content, INDEX)
                # Whoever read the list before us writes within a few of his own requests.
                self._pause(random.uniform(0.0, 0.05) * (1 + attempt))  # noqa: S311 - spreads writers only
                known = {item.digest for item in self._fallback(subject).entries}
            if found.digest in known:
                return
        raise TransientError(
            f"{self._repository}: others write the list of what refers to {subject} all the time",
            code=LIST_BUSY,
            hint="publish again; our own signature is in its place, the list is for other tools",
        )

    def _fallback(self, subject: Digest) -> _Listing:
        """Return the list under the fallback tag; an empty one where there is none."""
        what = f"the list of what refers to {subject}"
        for _ in range(_LISTINGS):
            known = self.tagged(naming.about(subject))
            if known is None:
                return _Listing(None, what)
            try:
                return _Listing(self.document(known.digest, what), f"{what} ({known.digest})")
            except RefusedError as error:
                # Registries that drop what a moved tag meant: look where it points now.
                if error.code != oci.NO_BLOB:
                    raise
        raise TransientError(f"{self._repository}: {what} moves all the time", code=LIST_BUSY, hint="try again")

    def _upload(self, found: Descriptor, read: Source) -> None:
        if self.holds(found):
            return
        for attempt in range(1, _UPLOADS + 1):
            try:
                self._upload_once(found, read)
            except TransientError:
                if attempt == _UPLOADS:
                    raise
                # An upload that broke is begun anew: what the registry kept of it is its own to forget.
                self._pause(transport.backoff(attempt))
            else:
                self._seen[found.digest] = self._repository
                return

    def _upload_once(self, found: Descriptor, read: Source) -> None:
        known = self._seen.get(found.digest)
        query, scopes = "", self._scopes("pull,push")
        if known is not None and known != self._repository:
            query, scopes = f"?mount={found.digest}&from={known}", (*scopes, f"repository:{known}:pull")
        begun = self._transport.send(
            "POST", f"/v2/{self._repository}/blobs/uploads/{query}", scopes, body=Body.of(b""), once=True
        )
        begun.close()
        if begun.status_code == 201:
            return
        place = self._location(begun)
        if found.size > PART_BYTES:
            sent = 0
            for part in _parts(read()):
                headers = {"Content-Type": "application/octet-stream"}
                headers["Content-Range"] = f"{sent}-{sent + len(part) - 1}"
                answer = self._send("PATCH", place, headers=headers, body=Body.of(part), once=True)
                answer.close()
                place = self._location(answer)
                sent += len(part)
            body = Body.of(b"")
        else:
            body = Body(read, found.size)
        closing = f"{place}{'&' if '?' in place else '?'}digest={found.digest}"
        headers = {"Content-Type": "application/octet-stream"}
        self._send("PUT", closing, headers=headers, body=body, once=True).close()

    def _read(self, found: Descriptor, what: str) -> Iterator[bytes]:
        url = self._url(found)
        given = 0
        for attempt in range(1, _UPLOADS + 1):
            headers = {"Range": f"bytes={given}-"} if given else {}
            answer = self._send("GET", url, headers=headers)
            if answer.status_code == 404:
                answer.close()
                raise self._missing(found.digest, what)
            # A registry that does not know ranges begins anew.
            skip = given if answer.status_code == 200 else 0
            try:
                with answer, transport.told("GET", url):
                    for chunk in answer.iter_content(256 * 1024):
                        fresh = chunk[skip:]
                        skip = max(0, skip - len(chunk))
                        if fresh:
                            given += len(fresh)
                            yield fresh
                return
            except TransientError:
                if attempt == _UPLOADS:
                    raise
                self._pause(transport.backoff(attempt))

    def _url(self, found: Descriptor) -> str:
        oci.require_digest(found.digest)
        kind = "manifests" if found.media_type in (INDEX, MANIFEST) else "blobs"
        return f"/v2/{self._repository}/{kind}/{found.digest}"

    def _location(self, answer: requests.Response) -> str:
        there = answer.headers.get("Location")
        if not there:
            raise transport.bad_answer("POST", answer.url, "no place for an upload")
        return transport.address("POST", answer.url, there)

    def _scopes(self, actions: str = "pull") -> tuple[str, ...]:
        return (f"repository:{self._repository}:{actions}",)

    def _send(self, method: str, url: str, **options: Any) -> requests.Response:
        return self._transport.send(
            method, url, self._scopes("pull" if method in ("GET", "HEAD") else "pull,push"), **options
        )

    def _missing(self, digest: Digest, what: str) -> RefusedError:
        return RefusedError(
            f"{what} ({digest}) is not in {self._transport.base}/{self._repository}",
            code=oci.NO_BLOB,
            hint="publish the release again, or restore the registry",
        )


@dataclass(frozen=True, slots=True)
class _Listing:
    """A list a registry keeps, or a page of one: ``document`` is None where it has none, ``what`` names it."""

    document: dict[str, Any] | None
    what: str

    @property
    def entries(self) -> tuple[Descriptor, ...]:
        """Return the descriptors it lists; raises as `oci.parts`."""
        return oci.parts(self.document or {}, self.what).manifests

    def texts(self, field: str) -> list[str]:
        """Return the names it lists.

        Raises:
            RefusedError: WH-IMG-014, it lists something else.
        """
        found = oci.items(self.document or {}, field, self.what)
        for number, item in enumerate(found):
            if not isinstance(item, str):
                raise oci.wrong_form(self.what, f"{field}[{number}]", "is no text")
        return found


def pages(sender: Transport, url: str, scopes: tuple[str, ...]) -> Iterator[_Listing]:
    """Yield the pages of a listing; nothing where the registry has none."""
    for _ in range(_PAGES):
        answer = sender.send("GET", url, scopes, headers={"Accept": f"{INDEX}, application/json"})
        if answer.status_code == 404:
            answer.close()
            return
        content = transport.content(answer, "GET", url)
        what = f"the listing {transport.shown(answer.url)}"
        if content is None:
            raise oci.too_large(what, oci.MAX_DOCUMENT_BYTES)
        yield _Listing(oci.parsed(content, what), what)
        following = answer.links.get("next", {}).get("url")
        if not following:
            return
        url = transport.address("GET", answer.url, following)
        if urlsplit(url).netloc != urlsplit(answer.url).netloc:
            raise transport.bad_answer("GET", answer.url, f"a listing that goes on at {transport.shown(url)}")


def _parts(chunks: Any) -> Iterator[bytes]:
    held = bytearray()
    for chunk in chunks:
        held += chunk
        while len(held) >= PART_BYTES:
            yield bytes(held[:PART_BYTES])
            del held[:PART_BYTES]
    if held:
        yield bytes(held)
