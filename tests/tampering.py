"""What somebody does who may write to the store, the registry's rows or trust.yaml, one change each.

`CASES` names every change and the refusal it must meet. The unit tests try them on a release of a few bytes, the
end-to-end test through `wellhead run`.
"""

from __future__ import annotations

import base64
import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from wellhead.catalog import keys, signature, trust, verify
from wellhead.ids import ConnectorId, Digest
from wellhead.images import layout, oci

OTHER = ConnectorId("dev/other")
NOBODY = Digest("sha256:" + "4" * 64)
DAY = timedelta(days=1)


@dataclass
class Victim:
    """A signed release, and what is asked of the catalog: `digest` and `version` as the registry's row has them."""

    store: layout.Layout
    connector: ConnectorId
    version: str
    digest: Digest
    platform: str
    key: keys.PrivateKey
    trust_file: Path
    scratch: Path

    def __post_init__(self) -> None:
        rule = trust.Rule((trust.Signer(self.key.public),))
        self.statement, _ = signature.verify(oci.canonical(self.envelope()), rule, datetime.now(UTC))

    # What is there.

    def index(self) -> dict[str, Any]:
        return self.store.document(self.digest, "the index")

    def child(self, role: str) -> dict[str, Any]:
        """Return the descriptor of a child: ``image``, ``manifest``, ``sbom`` or ``provenance``."""
        for found in self.index()["manifests"]:
            if found.get("annotations", {}).get(oci.ROLE_ANNOTATION, "image") == role:
                return dict(found)
        raise LookupError(role)

    def part(self, what: str) -> Digest:
        """Return the digest of one blob of the release by a short name."""
        image = self.store.document(self.child("image")["digest"], "image")
        signed = self.signature_manifest()
        found = {
            "index": self.digest,
            "image": self.child("image")["digest"],
            "config": image["config"]["digest"],
            "layer": image["layers"][-1]["digest"],
            "signature": self.signature_name()[1],
            "envelope": signed["layers"][0]["digest"],
            **{role: self.child(role)["digest"] for role in ("manifest", "sbom", "provenance")},
        }
        for role in ("manifest", "sbom", "provenance"):
            layers = self.store.document(found[role], role)["layers"]
            found |= {f"{role} {item['mediaType'].rpartition('+')[2]}": item["digest"] for item in layers}
        return Digest(found[what])

    def signature_name(self) -> tuple[str, Digest]:
        name = verify.signature_name(self.connector, self.digest)
        found = self.store.named(name)
        assert found is not None
        return name, found.digest

    def signature_manifest(self) -> dict[str, Any]:
        return self.store.document(self.signature_name()[1], "signature")

    def envelope(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(
            self.store.get(Digest(self.signature_manifest()["layers"][0]["digest"]), "envelope")
        )
        return found

    # What is done to it.

    def overwrite(self, what: str, change: Callable[[bytes], bytes]) -> None:
        """Change a blob under its old digest; the file is replaced, since other stores may share it by a link."""
        file = self.store.path / "blobs/sha256" / self.part(what).removeprefix("sha256:")
        self.rewrite(file, change(file.read_bytes()))

    @staticmethod
    def rewrite(file: Path, content: bytes) -> None:
        file.unlink()
        file.write_bytes(content)

    def remove(self, what: str) -> None:
        (self.store.path / "blobs/sha256" / self.part(what).removeprefix("sha256:")).unlink()

    def put_envelope(self, content: bytes, **lies: Any) -> None:
        """Store an envelope under the release's name, with digests that agree and ``lies`` in its descriptor."""
        described = self.store.put(content, oci.ENVELOPE).document() | lies
        self.put_signature({"layers": [described]})

    def put_signature(self, changes: dict[str, Any], **lies: Any) -> None:
        document = {
            "schemaVersion": 2,
            "mediaType": oci.MANIFEST,
            "config": self.store.put(b"{}", oci.EMPTY).document(),
            **changes,
        }
        found = self.store.put(oci.canonical(document), oci.MANIFEST)
        self.store.name(verify.signature_name(self.connector, self.digest), dataclasses.replace(found, **lies))

    def sign(self, key: keys.PrivateKey | None = None, **changes: Any) -> None:
        """Sign another statement, with the trusted key unless it is said otherwise."""
        self.put_envelope(signature.sign(dataclasses.replace(self.statement, **changes), key or self.key))

    def forge(
        self, change: Callable[[dict[str, Any]], Any], key: keys.PrivateKey | None = None, **changes: Any
    ) -> None:
        """Put another index in place of the release's, let the registry's row point to it, and sign it."""
        document = self.index()
        change(document)
        self.digest = self.store.put(oci.canonical(document), oci.INDEX).digest
        self.sign(key, **{"index_digest": self.digest, **changes})

    def replace_part(self, role: str, content: bytes) -> Callable[[dict[str, Any]], None]:
        """Return the change of an index that gives the child ``role`` another document."""
        old = self.store.document(self.child(role)["digest"], role)
        new = self.store.put(content, old["layers"][0]["mediaType"])
        artifact = self.store.put(oci.canonical(old | {"layers": [new.document()]}), oci.MANIFEST)

        def change(document: dict[str, Any]) -> None:
            found = next(one for one in document["manifests"] if one["digest"] == self.child(role)["digest"])
            found |= {"digest": artifact.digest, "size": artifact.size}

        return change

    def reimage(
        self, config: Callable[[bytes], bytes] = lambda was: was, image: Callable[[bytes], bytes] = lambda was: was
    ) -> None:
        """Put another image config, or manifest, in place of the release's, and sign that; both are changed as text."""
        old = self.store.document(self.child("image")["digest"], "image")
        settings = self.store.put(config(self.store.get(self.part("config"), "config")), oci.CONFIG)
        made = self.store.put(image(oci.canonical(old | {"config": settings.document()})), oci.MANIFEST)
        self.forge(
            described("image", digest=made.digest, size=made.size),
            images={self.platform: oci.ImageDigests(made.digest, settings.digest)},
        )

    def attacker(self) -> keys.PrivateKey:
        return keys.new_pair(self.scratch / "attacker", "attacker")

    def rule(self, text: str, more: str = "", expires: str = "") -> None:
        """Let the operator's trust.yaml say this of the namespace."""
        public = self.key.public
        self.trust_file.write_text(
            f"keys:\n  - {{id: '{public.id}', public: '{public.text}'{expires and f', expires: {expires}'}}}\n"
            f"namespaces:\n  dev: {{{text.replace('KEY', public.id)}}}\n{more.replace('KEY', public.id)}"
        )


@dataclass(frozen=True)
class Case:
    """One change; ``where`` is where the message must point, ``is_read`` whether it matters for an image already in."""

    name: str
    do: Callable[[Victim], Any]
    code: str
    where: str
    is_always_read: bool = True


def flipped(what: str) -> Callable[[Victim], None]:
    return lambda victim: victim.overwrite(what, flip)


def removed(what: str) -> Callable[[Victim], None]:
    return lambda victim: victim.remove(what)


def claimed(victim: Victim) -> None:
    """Sign with an attacker's key and claim the trusted one's id."""
    victim.sign(victim.attacker())
    first_signature(lambda was: was | {"keyid": victim.key.public.id})(victim)


def flip(content: bytes) -> bytes:
    """Change one bit in the middle."""
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def grown(content: bytes) -> bytes:
    """Make it larger than any document may be."""
    return content + bytes(oci.MAX_DOCUMENT_BYTES)


def first_signature(change: Callable[[dict[str, Any]], dict[str, Any]]) -> Callable[[Victim], None]:
    def do(victim: Victim) -> None:
        envelope = victim.envelope()
        victim.put_envelope(oci.canonical(envelope | {"signatures": [change(envelope["signatures"][0])]}))

    return do


def in_envelope(change: Callable[[dict[str, Any]], Any]) -> Callable[[Victim], None]:
    return lambda victim: victim.put_envelope(oci.canonical(change(victim.envelope())))


def other_payload(victim: Victim) -> None:
    payload = dataclasses.replace(victim.statement, version="9.9.9").payload()
    victim.put_envelope(oci.canonical(victim.envelope() | {"payload": base64.b64encode(payload).decode()}))
    victim.version = "9.9.9"


def signed_document(victim: Victim, kind: str = signature.PAYLOAD_TYPE, **changes: Any) -> None:
    document = json.loads(victim.statement.payload())
    document["predicate"] |= changes.pop("predicate", {})
    victim.put_envelope(signature.envelope(kind, oci.canonical(document | changes), [victim.key]))


def without(role: str) -> Callable[[dict[str, Any]], None]:
    def change(document: dict[str, Any]) -> None:
        document["manifests"] = [
            child for child in document["manifests"] if child.get("annotations", {}).get(oci.ROLE_ANNOTATION) != role
        ]

    return change


def described(role: str, **lies: Any) -> Callable[[dict[str, Any]], None]:
    def change(document: dict[str, Any]) -> None:
        for child in document["manifests"]:
            if child.get("annotations", {}).get(oci.ROLE_ANNOTATION, "image") == role:
                child |= lies

    return change


def noted(document: dict[str, Any]) -> None:
    document["annotations"]["note"] = "another"


def repointed(victim: Victim) -> None:
    index = victim.store.put(oci.canonical(victim.index()), oci.INDEX)
    victim.store.name(verify.signature_name(victim.connector, victim.digest), index)


def others_signature(victim: Victim) -> None:
    statement = dataclasses.replace(victim.statement, connector=OTHER, index_digest=NOBODY)
    victim.put_envelope(signature.sign(statement, victim.key))


def swapped(one: str, other: str) -> Callable[[Victim], None]:
    def do(victim: Victim) -> None:
        content = victim.store.get(victim.part(other), other)
        victim.overwrite(one, lambda _: content)

    return do


def opening(field: str, more: str) -> Callable[[bytes], bytes]:
    """Return what writes ``more`` first into an object: the one in ``field``, or the whole document."""
    begin = f'"{field}":{{'.encode() if field else b"{"
    return lambda was: was.replace(begin, begin + more.encode() + b",", 1)


def configured(change: Callable[[bytes], bytes]) -> Callable[[Victim], None]:
    return lambda victim: victim.reimage(config=change)


def sbom_of(victim: Victim, version: str) -> bytes:
    bill = json.loads(victim.store.get(victim.part("sbom json"), "sbom"))
    bill["metadata"]["component"]["version"] = version
    return oci.canonical(bill)


def provenance_of(victim: Victim, digest: str) -> bytes:
    made = json.loads(victim.store.get(victim.part("provenance json"), "provenance"))
    made["subject"][0]["digest"]["sha256"] = digest
    return oci.canonical(made)


def ruled(text: str, then: Callable[[Victim], Any] = lambda _: None, **more: str) -> Callable[[Victim], None]:
    def do(victim: Victim) -> None:
        victim.rule(text, **more)
        then(victim)

    return do


DIGITS = "0" * 64
NO_IMAGE = oci.ImageDigests(NOBODY, NOBODY)
BOTH = "keys: ['KEY'], require: [sbom, provenance]"

CASES = [
    # One byte of each document, then what it would take to hide behind a shorter, longer or missing one.
    *(
        Case(f"{what}: one bit", flipped(what), "WH-IMG-012", where)
        for what, where in {
            "index": "the release index",
            "image": "the image manifest of",
            "config": "the image config of",
            "manifest": "the connector manifest's artifact",
            "manifest json": "the connector manifest (canonical JSON)",
            "manifest yaml": "the connector manifest (manifest.yaml)",
            "signature": "the signature's manifest",
            "envelope": "the signature's envelope",
        }.items()
    ),
    *(
        Case(f"{what}: gone", removed(what), "WH-IMG-011", where)
        for what, where in {
            "index": "the release index",
            "image": "the image manifest of",
            "config": "the image config of",
            "envelope": "the signature's envelope",
        }.items()
    ),
    Case(
        "index: cut", lambda victim: victim.overwrite("index", lambda was: was[:-1]), "WH-IMG-012", "the release index"
    ),
    Case("index: empty", lambda victim: victim.overwrite("index", lambda _: b""), "WH-IMG-012", "the release index"),
    Case("index: huge", lambda victim: victim.overwrite("index", grown), "WH-IMG-013", "the release index"),
    Case("layer: one bit", lambda victim: victim.overwrite("layer", flip), "WH-IMG-012", "blob sha256", False),
    Case("layer: cut", lambda victim: victim.overwrite("layer", lambda was: was[:-9]), "WH-IMG-012", "blob", False),
    Case("layer: gone", lambda victim: victim.remove("layer"), "WH-IMG-011", "blob sha256", False),
    # Whole documents under each other's digest.
    Case("image in place of the manifest", swapped("manifest", "image"), "WH-IMG-012", "connector manifest's artifact"),
    Case("manifest in place of the image", swapped("image", "manifest"), "WH-IMG-012", "the image manifest of"),
    Case("SBOM in place of the config", swapped("config", "sbom json"), "WH-IMG-012", "the image config of"),
    # The envelope.
    Case("envelope: another payload", other_payload, "WH-CAT-021", "0 trusted keys"),
    Case("envelope: another type", in_envelope(lambda was: was | {"payloadType": "text/plain"}), "WH-CAT-021", "0 tr"),
    Case(
        "envelope: signature one bit",
        first_signature(lambda was: was | {"sig": base64.b64encode(flip(base64.b64decode(was["sig"]))).decode()}),
        "WH-CAT-021",
        "0 trusted keys",
    ),
    Case("envelope: no signatures", in_envelope(lambda was: was | {"signatures": []}), "WH-CAT-021", "0 trusted keys"),
    Case(
        "envelope: no signature's bytes", first_signature(lambda was: {"keyid": was["keyid"]}), "WH-CAT-020", "decode"
    ),
    Case("envelope: not base64", in_envelope(lambda was: was | {"payload": "?"}), "WH-CAT-020", "decoded"),
    Case("envelope: a list", in_envelope(lambda _: []), "WH-CAT-020", "fields are missing"),
    Case("envelope: not JSON", lambda victim: victim.put_envelope(b"{"), "WH-CAT-020", "decoded"),
    Case("envelope: nested", lambda victim: victim.put_envelope(b"[" * 99_999), "WH-CAT-020", "decoded"),
    Case("envelope: signed as text", lambda victim: signed_document(victim, "text/plain"), "WH-CAT-020", "text/plain"),
    Case(
        "envelope: the trusted key's id over an attacker's signature",
        claimed,
        "WH-CAT-021",
        "0 trusted keys",
    ),
    # The statement, signed by somebody who may, about something else.
    Case("statement: another connector's", others_signature, "WH-CAT-031", "dev/other"),
    Case("statement: another index", lambda victim: victim.sign(index_digest=NOBODY), "WH-CAT-031", NOBODY),
    Case("statement: another version", lambda victim: victim.sign(version="0.9.0"), "WH-CAT-032", "0.9.0"),
    Case("statement: another manifest", lambda victim: victim.sign(manifest_sha256=DIGITS), "WH-CAT-034", DIGITS),
    Case("statement: no images", lambda victim: victim.sign(images={}), "WH-CAT-033", "signed were"),
    Case(
        "statement: another image",
        lambda victim: victim.sign(images={victim.platform: NO_IMAGE}),
        "WH-CAT-033",
        "image manifest for",
    ),
    Case(
        "statement: another config",
        lambda victim: victim.sign(
            images={victim.platform: oci.ImageDigests(victim.statement.images[victim.platform].manifest, NOBODY)}
        ),
        "WH-CAT-033",
        "image config for",
    ),
    Case(
        "statement: another predicate",
        lambda victim: signed_document(victim, predicateType="urn:wellhead:release:v1"),
        "WH-CAT-020",
        "another kind",
    ),
    Case(
        "statement: no zone in its time",
        lambda victim: signed_document(victim, predicate={"issued_at": "2026-01-01T00:00:00"}),
        "WH-CAT-020",
        "lacks fields",
    ),
    Case(
        "statement: of the future",
        lambda victim: victim.sign(issued_at=datetime(2199, 1, 1, tzinfo=UTC)),
        "WH-CAT-025",
        "2199-01-01",
    ),
    Case(
        "statement: over",
        lambda victim: victim.sign(expires_at=victim.statement.issued_at),
        "WH-CAT-024",
        "lasted until",
    ),
    # Names and descriptors, which nobody signs.
    Case("name: the signature's leads to the index", repointed, "WH-CAT-027", "the signature's manifest"),
    Case(
        "name: the list is not JSON",
        lambda victim: victim.rewrite(victim.store.path / "index.json", b"{"),
        "WH-IMG-014",
        "index.json",
    ),
    Case("signature: no envelope", lambda victim: victim.put_signature({"layers": []}), "WH-CAT-020", "0 envelopes"),
    Case(
        "signature: a lie about the envelope's size",
        lambda victim: victim.put_envelope(oci.canonical(victim.envelope()), size=7),
        "WH-CAT-027",
        "what names it says 7",
    ),
    Case(
        "signature: a lie about the envelope's type",
        lambda victim: victim.put_envelope(oci.canonical(victim.envelope()), mediaType="text/plain"),
        "WH-CAT-027",
        "text/plain",
    ),
    Case(
        "signature: a lie about its own size",
        lambda victim: victim.put_signature({"layers": victim.signature_manifest()["layers"]}, size=7),
        "WH-CAT-027",
        "what names it says 7",
    ),
    Case(
        "index: a lie about a size", lambda victim: victim.forge(described("manifest", size=7)), "WH-CAT-027", "says 7"
    ),
    Case(
        "index: a lie about a type",
        lambda victim: victim.forge(described("image", mediaType=oci.INDEX)),
        "WH-CAT-027",
        "is named as",
    ),
    Case("index: no manifest", lambda victim: victim.forge(without("manifest")), "WH-CAT-034", "there are 0"),
    Case(
        "index: no descriptors", lambda victim: victim.forge(described("image", digest=1)), "WH-IMG-014", "descriptor"
    ),
    # An image of somebody who may sign, with a config that an Engine reads in another way than Python does.
    *(
        Case(f"image config: {name}", configured(change), code, where)
        for name, change, code, where in (
            ("a volume", opening("config", '"Volumes":{"/v":{}}'), "WH-CAT-035", "VOLUME /v"),
            ("two", opening("", '"config":{"Volumes":{"/v":{}}}'), "WH-IMG-014", "'config' stands twice"),
            ("volumes twice", opening("config", '"Volumes":{"/v":{}},"Volumes":{}'), "WH-IMG-014", "'Volumes' stands"),
            ("one in capitals", opening("", '"Config":{"Volumes":{"/v":{}}}'), "WH-CAT-035", "'Config' for config"),
            ("volumes in small letters", opening("config", '"volumes":{"/v":{}}'), "WH-CAT-035", "'volumes' for"),
            ("volumes with a long s", opening("config", '"Volume\u017f":{"/v":{}}'), "WH-CAT-035", "'Volume\\u017f'"),
            ("a long s, escaped", opening("config", '"Volume\\u017f":{"/v":{}}'), "WH-CAT-035", "'Volume\\u017f'"),
            ("a check in small letters", opening("config", '"healthcheck":{"Test":["x"]}'), "WH-CAT-035", "'healthch"),
            ("a user in small letters", opening("config", '"user":"0:0"'), "WH-CAT-035", "'user' for User"),
            ("a trigger in other letters", opening("config", '"Onbuild":["RUN x"]'), "WH-CAT-035", "'Onbuild' for"),
            ("another stack of layers", opening("", '"RootFS":{}'), "WH-CAT-035", "'RootFS' for rootfs"),
        )
    ),
    Case(
        "image config: layers in other letters",
        ruled(
            f"keys: ['KEY'], base_images: ['sha256:{DIGITS}']",
            configured(opening("rootfs", '"Diff_IDs":[]')),
        ),
        "WH-CAT-035",
        "'Diff_IDs' for diff_ids",
    ),
    Case(
        "image: another config in other letters",
        lambda victim: victim.reimage(image=opening("", '"Config":{}')),
        "WH-IMG-014",
        "'Config' is written config",
    ),
    Case(
        "image: another digest in other letters",
        lambda victim: victim.reimage(image=opening("config", f'"Digest":"sha256:{DIGITS}"')),
        "WH-IMG-014",
        "config.'Digest' is written digest",
    ),
    # The registry's row, in the hands of somebody with a key of his own.
    Case("row: his release", lambda victim: victim.forge(noted, victim.attacker()), "WH-CAT-021", "0 trusted keys"),
    Case("row: an older release", lambda victim: victim.forge(noted, version="0.9.0"), "WH-CAT-032", "0.9.0"),
    Case("row: a release that is not there", lambda victim: setattr(victim, "digest", NOBODY), "WH-CAT-030", NOBODY),
    # The operator's word.
    Case("key: revoked", ruled("keys: ['KEY']", more="revoked_keys: [{id: 'KEY'}]\n"), "WH-CAT-022", "is revoked"),
    Case(
        "key: revoked before it signed",
        ruled("keys: ['KEY']", more="revoked_keys: [{id: 'KEY', after: 2020-01-01}]\n"),
        "WH-CAT-022",
        "is revoked",
    ),
    Case("key: expired", ruled("keys: ['KEY']", expires="2020-01-01"), "WH-CAT-023", "expired on 2020-01-01"),
    Case(
        "threshold: one key twice",
        lambda victim: two_keys(victim),
        "WH-CAT-021",
        "signed by 1 trusted keys, and 2",
    ),
    Case("namespace: nobody's", lambda victim: victim.trust_file.write_text("{}\n"), "WH-CAT-010", "'dev'"),
    Case("age", ruled("keys: ['KEY'], max_age: 1h", lambda victim: aged(victim)), "WH-CAT-024", "lasted until"),
    # What a rule requires.
    Case("SBOM: none", ruled(BOTH, lambda victim: victim.forge(without("sbom"))), "WH-CAT-037", "0 children"),
    Case(
        "provenance: none", ruled(BOTH, lambda victim: victim.forge(without("provenance"))), "WH-CAT-038", "0 children"
    ),
    Case("SBOM: one bit", ruled(BOTH, lambda victim: victim.overwrite("sbom json", flip)), "WH-IMG-012", "the sbom"),
    Case(
        "provenance: one bit",
        ruled(BOTH, lambda victim: victim.overwrite("provenance json", flip)),
        "WH-IMG-012",
        "the provenance",
    ),
    Case(
        "SBOM: of another release",
        ruled(BOTH, lambda victim: victim.forge(victim.replace_part("sbom", sbom_of(victim, "0.9.0")))),
        "WH-CAT-037",
        "0.9.0",
    ),
    Case(
        "provenance: of another image",
        ruled(BOTH, lambda victim: victim.forge(victim.replace_part("provenance", provenance_of(victim, DIGITS)))),
        "WH-CAT-038",
        "other images",
    ),
    Case(
        "provenance: of another kind",
        ruled(BOTH, lambda victim: victim.forge(victim.replace_part("provenance", b"{}"))),
        "WH-IMG-032",
        "another kind",
    ),
    Case("builder", ruled("keys: ['KEY'], builders: ['https://ci.example/*']"), "WH-CAT-039", "https://ci.example/*"),
    Case("base image", ruled(f"keys: ['KEY'], base_images: ['sha256:{DIGITS}']"), "WH-CAT-026", "no base image"),
]


def two_keys(victim: Victim) -> None:
    """Ask for two keys where one signed twice."""
    first, second = victim.key.public, keys.new_pair(victim.scratch / "second", "second").public
    victim.trust_file.write_text(
        f"keys: [{{id: '{first.id}', public: '{first.text}'}}, {{id: '{second.id}', public: '{second.text}'}}]\n"
        f"namespaces: {{dev: {{keys: ['{first.id}', '{second.id}'], threshold: 2}}}}\n"
    )
    victim.put_envelope(signature.sign(victim.statement, victim.key, victim.key))


def aged(victim: Victim) -> None:
    victim.sign(issued_at=datetime.now(UTC).replace(microsecond=0) - DAY)
