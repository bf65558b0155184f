"""Documents of the right kind with wrong insides: every node of each is taken away or replaced, and nothing crashes."""

from __future__ import annotations

import copy
import dataclasses
import io
import json
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import requests

from wellhead.catalog import signature, verify
from wellhead.errors import WellheadError
from wellhead.ids import ConnectorId, Digest
from wellhead.images import bundle, engine_tar, layer, naming, oci, saved, sbom, store
from wellhead.images.layout import Layout
from wellhead.images.oci import Descriptor
from wellhead.images.registry import Registry
from wellhead.images.transport import Credentials, Transport

pytestmark = pytest.mark.slow

TINY = ConnectorId("dev/tiny")
RELEASE = "dev/tiny:1.0.0"
#: One of each kind of JSON, and what is of the right kind and still cannot be meant.
INSTEAD: tuple[Any, ...] = (None, True, -1, 1.5, 10**30, "text", "\ud800", [], [None], {}, {"text": 1})
GONE = object()


def mutants(document: Any) -> Iterator[tuple[str, Any]]:
    """Yield the document with each of its nodes gone or replaced, and what was done to it."""
    for path in _paths(document):
        for instead in (GONE, *INSTEAD):
            changed = copy.deepcopy(document)
            holder = changed
            for step in path[:-1]:
                holder = holder[step]
            if instead is GONE:
                del holder[path[-1]]
            else:
                holder[path[-1]] = instead
            yield f"{'.'.join(map(str, path))}: {'gone' if instead is GONE else repr(instead)}", changed


def _paths(node: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    below = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in below:
        yield (*at, key)
        yield from _paths(value, (*at, key))


def crashes(document: Any, uses: Callable[[Any], Iterable[Callable[[], Any]]]) -> list[str]:
    """Return what was done to the document where using it ended in anything but success or an error of ours."""
    found = []
    for name, changed in mutants(document):
        for use in uses(changed):
            try:
                use()
            except WellheadError as error:
                # It is told on a terminal and in a JSON document.
                found += [] if error.hint and error.message.encode() else [f"{name}: {error.code} has no hint"]
            except Exception as exc:  # noqa: BLE001 - what is looked for
                found.append(f"{name}: {type(exc).__name__}: {exc}")
    return found


class Memory:
    """A store that keeps nothing on disk, so that thousands of releases are verified in a second."""

    where = "memory"

    def __init__(self, source: Layout) -> None:
        self.blobs = {
            Digest(f"sha256:{file.name}"): file.read_bytes() for file in (source.path / "blobs/sha256").iterdir()
        }
        self.meant = {name: source.named(name) for name in source.names()}

    def shelf(self, connector: ConnectorId) -> Memory:
        return self

    def put(self, content: bytes, media_type: str, **fields: Any) -> Descriptor:
        found = Descriptor(media_type, oci.digest_of(content), len(content), **fields)
        self.blobs[found.digest] = content
        return found

    def adopt(self, found: Descriptor, read: store.Source) -> Descriptor:
        self.blobs[found.digest] = b"".join(oci.checked(read(), found, f"blob {found.digest}"))
        return found

    def holds(self, found: Descriptor) -> bool:
        return found.digest in self.blobs

    claims = holds

    def get(self, digest: Digest, what: str) -> bytes:
        oci.require_digest(digest)
        try:
            return self.blobs[digest]
        except KeyError:
            raise oci.broken(digest, what) from None

    def document(self, digest: Digest, what: str) -> dict[str, Any]:
        return oci.parsed(self.get(digest, what), f"{what} ({digest})")

    def chunks(self, found: Descriptor, what: str) -> Iterator[bytes]:
        return oci.checked([self.get(found.digest, what)], found, what)

    def name(self, name: str, found: Descriptor) -> None:
        naming.split(name)
        self.meant[name] = found

    def named(self, name: str) -> Descriptor | None:
        return self.meant.get(name)

    def names(self, connector: ConnectorId | None = None) -> tuple[str, ...]:
        return tuple(self.meant)

    def referrers(self, connector: ConnectorId, digest: Digest) -> tuple[Descriptor, ...]:
        return ()

    def instead(self, root: Digest, old: Digest, content: bytes) -> Digest:
        """Put ``content`` in the place of a document below ``root``, and return the root that leads to it."""
        if root == old:
            return self.put(content, "").digest
        document = json.loads(self.blobs[root]) if self.blobs[root].startswith(b"{") else {}
        if "schemaVersion" not in document:
            return root
        for item in [document.get("config"), *document.get("layers", []), *document.get("manifests", [])]:
            if item is not None:
                item["digest"] = self.instead(item["digest"], old, content)
                item["size"] = len(self.blobs[item["digest"]])
        return self.put(oci.canonical(document), "").digest


@dataclasses.dataclass
class Sold:
    """A release that was published, and who may have signed it."""

    store: Memory
    built: Any
    trust: Any
    rule: Any

    def digests(self) -> dict[str, Digest]:
        index = oci.read(self.store, self.built.index_digest, "index")
        roles = {child.annotations.get(oci.ROLE_ANNOTATION, "image"): child.digest for child in index.manifests}
        image = oci.read(self.store, roles["image"], "image")
        assert image.config is not None
        inside = {
            f"{role}'s document": oci.read(self.store, roles[role], role).layers[0].digest
            for role in ("sbom", "provenance", "manifest")
        }
        return {"index": self.built.index_digest, "config": image.config.digest, **roles, **inside}

    def loaded(self, index: Digest, top_only: bool) -> None:
        for _ in engine_tar.chunks(self.store, index, "linux/amd64", top_only=top_only):
            pass

    def uses(self, index: Digest) -> Iterator[Callable[[], Any]]:
        """Yield what is done with a release, by whoever does not look at signatures."""
        lowest = oci.image(self.store, self.built.index_digest, "linux/amd64").layers[0].digest
        rule = dataclasses.replace(
            self.rule,
            allow_unsigned=True,
            require=frozenset({"sbom", "provenance"}),
            base_images=frozenset({lowest}),
        )
        trust: Any = SimpleNamespace(rule=lambda _: rule, clock=self.trust.clock)

        def looked_at() -> None:
            found = verify.verify_release(self.store, index, TINY, "1.0.0", trust)
            verify.verify_layers(self.store, found)
            verify.inside(self.store, found)

        def copied() -> None:
            other = copy.copy(self.store)
            other.blobs, other.meant = {}, {}
            store.copy_index(self.store, other, TINY, index, RELEASE)
            store.copy_index(self.store, other, TINY, index, RELEASE, layers=False)

        yield looked_at
        yield copied
        yield lambda: store.missing(self.store, Descriptor(oci.INDEX, index, len(self.store.blobs[index])))
        for top_only in (False, True):
            yield partial(self.loaded, index, top_only)


@pytest.fixture
def sold(shop: Any) -> Sold:
    built = shop.publish()
    shop.store.name(RELEASE, oci.Descriptor(oci.INDEX, built.index_digest, len(shop.store.get(built.index_digest, ""))))
    return Sold(Memory(shop.store), built, shop.trust, shop.trust.rule(TINY))


@pytest.mark.parametrize(
    "what",
    [
        "index",
        "image",
        "config",
        "manifest",
        "sbom",
        "provenance",
        "sbom's document",
        "provenance's document",
        "manifest's document",
    ],
)
def test_a_document_of_a_release_with_wrong_insides_never_crashes(sold: Sold, what: str) -> None:
    victim = sold.digests()[what]
    before = dict(sold.store.blobs)

    def uses(changed: Any) -> Iterator[Callable[[], Any]]:
        sold.store.blobs = dict(before)
        yield from sold.uses(sold.store.instead(sold.built.index_digest, victim, written(changed)))

    assert crashes(json.loads(before[victim]), uses) == []


def written(document: Any) -> bytes:
    """Return JSON in which half a character stands as others may write it: escaped."""
    return json.dumps(document).encode()


def test_a_signature_with_wrong_insides_never_crashes(sold: Sold) -> None:
    name = verify.signature_name(TINY, sold.built.index_digest)
    found = sold.store.named(name)
    assert found is not None
    manifest = sold.store.document(found.digest, "signature")
    envelope = json.loads(sold.store.get(manifest["layers"][0]["digest"], "envelope"))

    def named(document: Any) -> Iterator[Callable[[], Any]]:
        sold.store.name(name, sold.store.put(written(document), oci.MANIFEST))
        yield lambda: verify.verify_release(sold.store, sold.built.index_digest, TINY, "1.0.0", sold.trust)

    def enveloped(document: Any) -> Iterator[Callable[[], Any]]:
        yield from named(manifest | {"layers": [sold.store.put(written(document), oci.ENVELOPE).document()]})
        yield lambda: signature.verify(written(document), sold.rule, sold.trust.clock.now())

    assert crashes(manifest, named) == []
    assert crashes(envelope, enveloped) == []


def test_a_statement_with_wrong_insides_never_crashes(sold: Sold, shop: Any) -> None:
    statement = json.loads(shop.statement(sold.built).payload())

    def uses(document: Any) -> Iterator[Callable[[], Any]]:
        signed = signature.envelope(signature.PAYLOAD_TYPE, written(document), [shop.key])
        yield lambda: signature.verify(signed, sold.rule, shop.now)

    assert crashes(statement, uses) == []


def test_a_folder_with_wrong_insides_never_crashes(sold: Sold, shop: Any) -> None:
    folder: Layout = shop.store
    file = folder.path / "index.json"
    kept = file.read_bytes()

    def uses(document: Any) -> Iterator[Callable[[], Any]]:
        file.write_bytes(written(document))
        yield lambda: [folder.named(name) for name in folder.names()]
        yield lambda: folder.referrers(TINY, sold.built.index_digest)
        yield folder.reachable
        yield lambda: store.releases(folder)

    assert crashes(json.loads(kept), uses) == []


def test_a_list_of_what_refers_to_a_release_with_wrong_insides_never_crashes(sold: Sold, shop: Any) -> None:
    folder: Layout = shop.store
    listed = f"{TINY}:{naming.about(sold.built.index_digest)}"
    known, remark = folder.named(listed), folder.named(verify.signature_name(TINY, sold.built.index_digest))
    assert known is not None
    assert remark is not None
    made = oci.read(folder, remark.digest, "signature")

    def uses(document: Any) -> Iterator[Callable[[], Any]]:
        yield lambda: oci.parts(oci.parsed(written(document), listed), listed)
        yield lambda: oci.with_referrer(oci.parsed(written(document), listed), listed, remark, made, None)

    assert crashes(folder.document(known.digest, listed), uses) == []


@dataclasses.dataclass
class Answers:
    """A registry that answers what it is told to, in place of the network."""

    token: Any
    tags: Any
    catalog: Any
    referrers: Any
    errors: Any
    status: int = 200

    def exchange(self, method: str, url: str, headers: dict[str, str], _body: Any) -> requests.Response:
        if "/token" in url:
            return _answer(url, self.token)
        if "Authorization" not in headers:
            challenge = {"WWW-Authenticate": 'Bearer realm="https://registry.test/token",service="it"'}
            return _answer(url, self.errors, 401, challenge)
        # What http.client does with every header.
        headers["Authorization"].encode("latin-1")
        if self.status != 200:
            return _answer(url, self.errors, self.status)
        return _answer(url, next(getattr(self, name) for name in ("tags", "catalog", "referrers") if name in url))


def _answer(url: str, document: Any, status: int = 200, headers: dict[str, str] | None = None) -> requests.Response:
    answer = requests.Response()
    answer.url, answer.status_code = url, status
    answer.headers.update(headers or {})
    answer._content = written(document)
    answer._content_consumed = True  # type: ignore[attr-defined]
    return answer


SOUND = {
    "token": {"token": "abc", "access_token": "abc", "expires_in": 300, "issued_at": "2026-01-01T00:00:00Z"},
    "tags": {"name": "dev/tiny", "tags": ["1.0.0", "1.1.0"]},
    "catalog": {"repositories": ["dev/tiny", "library/other"]},
    "referrers": {
        "schemaVersion": 2,
        "mediaType": oci.INDEX,
        "manifests": [
            {
                "mediaType": oci.MANIFEST,
                "digest": f"sha256:{'0' * 64}",
                "size": 7,
                "artifactType": "text/plain",
                "annotations": {"a": "b"},
            }
        ],
    },
    "errors": {"errors": [{"code": "DENIED", "message": "no", "detail": {"a": 1}}]},
}


@pytest.mark.parametrize("what", sorted(SOUND))
def test_an_answer_of_a_registry_with_wrong_insides_never_crashes(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def uses(document: Any) -> Iterator[Callable[[], Any]]:
        for status in (200, 400, 403):
            answers = Answers(**{**SOUND, what: document}, status=status)
            monkeypatch.setattr(Transport, "_exchange", lambda _self, *asked, to=answers: to.exchange(*asked))
            registry = Registry("https://registry.test", Credentials("me", "password"))
            yield registry.names
            yield partial(registry.names, TINY)
            yield partial(registry.referrers, TINY, Digest(f"sha256:{'0' * 64}"))

    assert crashes(SOUND[what], uses) == []


@pytest.mark.parametrize(
    ("document", "field"),
    [
        ({"manifests": {}}, "manifests is no list"),
        ({"layers": [1]}, "layers[0] is no descriptor"),
        ({"config": {"mediaType": "a", "digest": 5, "size": 1}}, "config is no descriptor"),
        ({"subject": []}, "subject is no descriptor"),
        ({"annotations": {"a": 1}}, "annotations is no object of texts"),
        ({"artifactType": 1}, "artifactType is no text"),
    ],
)
def test_the_document_and_the_field_are_named_with_a_mend(document: Any, field: str) -> None:
    with pytest.raises(WellheadError) as caught:
        oci.parts(document, "the release index (sha256:00)")
    error = caught.value
    assert (error.code, error.exit_code) == (oci.BAD_DOCUMENT, 76)
    assert error.message.startswith(f"the release index (sha256:00) has the wrong form: {field}")
    assert error.place is not None
    assert error.hint


@pytest.mark.parametrize(
    "said", [{}, {"Content-Length": "abc"}, {"Content-Length": "9" * 5000}, {"Content-Length": "-1"}]
)
def test_headers_that_describe_nothing_are_refused_by_the_address(
    said: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    headers = {"Docker-Content-Digest": f"sha256:{'0' * 64}", "Content-Type": oci.INDEX, **said}
    monkeypatch.setattr(Transport, "_exchange", lambda _self, _method, url, *_: _answer(url, {}, 200, headers))
    with pytest.raises(
        WellheadError, match=r"HEAD https://registry.test/v2/dev/tiny/manifests/1.0.0 has the wrong form"
    ):
        Registry("https://registry.test").named(RELEASE)


def test_what_an_engine_saved_with_wrong_insides_never_crashes(sold: Sold, shop: Any, tmp_path: Path) -> None:
    plain = io.BytesIO()
    layer.write([layer.Entry.file("opt/wellhead/app/tiny.py", b"x = 1\n")], plain)
    unpacked = {"os": "linux", "architecture": "amd64", "rootfs": {"diff_ids": [oci.digest_of(plain.getvalue())]}}
    listed = [{"Config": "config.json", "RepoTags": None, "Layers": ["layer.tar"]}]

    def uses(listed: Any, described: Any) -> Iterator[Callable[[], Any]]:
        saved_as = io.BytesIO()
        with tarfile.open(fileobj=saved_as, mode="w") as tar:
            members = {"manifest.json": written(listed), "config.json": written(described)}
            for name, content in (members | {"layer.tar": plain.getvalue()}).items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
        yield lambda: saved.take([saved_as.getvalue()], sold.built.loaded, tmp_path, sold.store)

    assert crashes(listed, lambda changed: uses(changed, unpacked)) == []
    assert crashes(unpacked, lambda changed: uses(listed, changed)) == []


def test_an_export_with_wrong_insides_never_crashes(shop: Any, tmp_path: Path) -> None:
    built = shop.publish()
    index = shop.store.get(built.index_digest, "index")
    described = {"mediaType": oci.INDEX, "digest": built.index_digest, "size": len(index)}
    described["annotations"] = {oci.NAME_ANNOTATION: RELEASE}
    file = tmp_path / "releases.tar"
    members = {f"blobs/sha256/{built.index_digest.removeprefix('sha256:')}": index, bundle.RECORDS: b"{}"}

    def uses(document: Any) -> Iterator[Callable[[], Any]]:
        with tarfile.open(file, "w") as tar:
            for name, content in (members | {"index.json": written(document)}).items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
        yield lambda: bundle.unpack(file, Path(tempfile.mkdtemp(dir=tmp_path)))

    assert crashes({"schemaVersion": 2, "manifests": [described]}, uses) == []


def test_a_component_without_a_version_is_named() -> None:
    with pytest.raises(WellheadError, match=r"components\[1\]"):
        sbom.components({"components": [{"name": "a", "version": "1"}, {"name": "b"}]}, "the sbom")
