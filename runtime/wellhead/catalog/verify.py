"""From a trusted key down to the bytes of a release: every link is checked at every launch, and a broken one is named.

    trust.yaml ─▶ signature ─▶ statement ─▶ index ─▶ image manifest ─▶ config = the image id the Engine must show
             │                       │        │           └─▶ layers, hashed when an Engine gets them
             │                       └────────┼─▶ connector manifest
             └─ what a rule requires ─────────┴─▶ SBOM, provenance ─▶ builder; lowest layer ─▶ base image

Invariant 12: what was verified is what runs. Layers are not read here, but hashed on their way into an Engine, so that
a launch from a loaded image costs a few small files.
"""

from __future__ import annotations

import fnmatch
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from wellhead.catalog import cosign, signature
from wellhead.catalog.keys import KeyId, PrivateKey
from wellhead.catalog.signature import Statement
from wellhead.catalog.trust import Rule, Trust
from wellhead.errors import Code, ConfigurationError, RefusedError, counted
from wellhead.ids import ConnectorId, Digest
from wellhead.images import base, naming, oci, provenance, sbom
from wellhead.images.oci import ImageDigests
from wellhead.images.store import Shelf, Store
from wellhead.manifest import load
from wellhead.manifest.model import Manifest

NOT_SIGNED = Code("WH-CAT-030", "A release has no signature.")
OTHER_RELEASE = Code("WH-CAT-031", "A signature belongs to another release.")
OTHER_VERSION = Code("WH-CAT-032", "A release is of another version than the catalog says.")
OTHER_IMAGE = Code("WH-CAT-033", "A release holds an image that was not signed.")
OTHER_MANIFEST = Code("WH-CAT-034", "A release holds a manifest that was not signed.")
BAD_CONFIG = Code("WH-CAT-035", "An image asks for what no connector may have.")
OTHER_STARTED = Code("WH-CAT-036", "The Engine shows another image than the one that was signed.")
NO_SBOM = Code("WH-CAT-037", "A release lacks the SBOM its namespace must bring.")
NO_PROVENANCE = Code("WH-CAT-038", "A release lacks the provenance its namespace must bring.")
OTHER_BUILDER = Code("WH-CAT-039", "A release was built by somebody trust.yaml does not allow.")
OTHER_BASE = Code("WH-CAT-026", "A release stands on a base image trust.yaml does not allow.")
OTHER_SIZE = Code("WH-CAT-027", "A document of a release has another size or type than the one that names it says.")

#: What is judged of an image config, and no Engine may find under a name in other letters.
_CONFIG = oci.fields("config", "rootfs")
_ROOTFS = oci.fields("diff_ids")
_SETTINGS = oci.fields("Volumes", "Healthcheck", "OnBuild", "User")


@dataclass(frozen=True, slots=True)
class VerifiedRelease:
    """A release every link of which held; `manifest` is the signed one.

    ``statement`` is what was signed, and None where trust.yaml allows a release nobody signed.
    """

    connector: ConnectorId
    version: str
    index_digest: Digest
    manifest: Manifest
    manifest_sha256: str
    images: Mapping[str, ImageDigests]
    key_ids: tuple[KeyId, ...]
    statement: Statement | None = None

    def require_image(self, platform: str, image_id: str) -> None:
        """Refuse an image id the signature does not cover; the Engine's store decides which of the two digests it is.

        Raises:
            RefusedError: WH-CAT-036.
        """
        expected = self.images.get(platform)
        if expected is None or image_id not in (expected.config, expected.manifest):
            raise RefusedError(
                f"the Engine shows {image_id} for {self.connector} {self.version} on {platform}, and signed was "
                f"{expected.config if expected else 'nothing'}",
                code=OTHER_STARTED,
                hint="remove the image from the Engine; the next run loads it from the store again",
            )


def signature_name(connector: ConnectorId, index_digest: Digest) -> str:
    """Return the name under which a store keeps the signature of a release."""
    return naming.name_of(connector, naming.about(index_digest, ".wh"))


def release_name(connector: ConnectorId, version: str) -> str:
    """Return the name under which a store keeps a release."""
    return naming.name_of(connector, version)


def attach(store: Store, statement: Statement, *keys: PrivateKey) -> bytes:
    """Sign a release, put the signature beside it, in both forms, and return ours; an earlier one is replaced."""
    envelope = signature.sign(statement, *keys)
    shelf = store.shelf(statement.connector)
    size = len(shelf.get(statement.index_digest, "the release index"))
    index = oci.Descriptor(oci.INDEX, statement.index_digest, size)
    document = {
        "schemaVersion": 2,
        "mediaType": oci.MANIFEST,
        "artifactType": oci.ENVELOPE,
        "config": shelf.put(b"{}", oci.EMPTY).document(),
        "layers": [shelf.put(envelope, oci.ENVELOPE).document()],
        "subject": index.document(),
    }
    artifact = shelf.put(oci.canonical(document), oci.MANIFEST)
    store.name(signature_name(statement.connector, statement.index_digest), artifact)
    for digest in (statement.index_digest, *(image.manifest for image in statement.images.values())):
        cosign.attach(store, statement.connector, digest, *keys)
    return envelope


def verify_release(
    store: Store, index_digest: Digest, connector: ConnectorId, version: str, trust: Trust
) -> VerifiedRelease:
    """Check a release from the trusted key down, without its layers.

    Args:
        store: where the release lies.
        index_digest: as resolution gave it.
        connector: which connector was asked for.
        version: which version the catalog says this is.
        trust: from trust.yaml.

    Raises:
        RefusedError: exit 76, naming the broken link: nobody trusted for the namespace (WH-CAT-010), unsigned releases
            allowed where they must not be (011), no signature (030), an envelope of the wrong form (020), too few keys
            (021), revoked (022) or expired ones (023), a signature that lasts no longer (024) or is of the future
            (025), a signature of another connector or release (031) or version (032), another image (033) or manifest
            (034), an image config that no connector may have (035), no SBOM (037) or provenance (038) where the rule
            requires them, another builder (039) or base image (026) than it allows, a descriptor that lies (027), or
            bytes missing or changed in the store (WH-IMG-011 to 014).
        ConfigurationError: a newer Wellhead has published it, and its manifest says what this one does not know
            (WH-DOC-003).
    """
    rule = trust.rule(connector)
    shelf = store.shelf(connector)
    statement: Statement | None = None
    key_ids: tuple[KeyId, ...] = ()
    if not rule.allow_unsigned:
        envelope = _envelope(store, connector, index_digest)
        statement, key_ids = signature.verify(envelope, rule, trust.clock.now())
        _require_same(statement, connector, version, index_digest)
    children = oci.read(shelf, index_digest, "the release index").manifests
    images = _images(shelf, connector, children, rule)
    if statement is not None:
        _require_signed(images, statement)
    manifest, sha256 = _manifest(shelf, children, connector, version)
    if statement is not None and sha256 != statement.manifest_sha256:
        raise _other_manifest(f"its bytes do not have the signed hash {statement.manifest_sha256}")
    _require_evidence(shelf, children, rule, connector, version, images, statement)
    return VerifiedRelease(connector, version, index_digest, manifest, sha256, images, key_ids, statement)


def is_newer(
    kept: Store, given: Store, connector: ConnectorId, version: str, index_digest: Digest, trust: Trust
) -> bool:
    """Say whether one store has a later signature of a release than another store, and one that counts here.

    A release may have been signed anew: the older signature may end tomorrow. One that does not count here, as it has
    ended already, is older than any that does.
    """
    name = signature_name(connector, index_digest)
    before, offered = kept.named(name), given.named(name)
    if before is None or (offered is not None and offered.digest == before.digest):
        return False
    known = _counting(kept, connector, version, index_digest, trust)
    if known is None:
        return False
    said = _counting(given, connector, version, index_digest, trust)
    return said is None or known.issued_at > said.issued_at


def _counting(
    store: Store, connector: ConnectorId, version: str, index_digest: Digest, trust: Trust
) -> Statement | None:
    """Return what was signed of a release; None where that does not count here."""
    try:
        return verify_release(store, index_digest, connector, version, trust).statement
    except ConfigurationError:
        return None


@dataclass(frozen=True, slots=True)
class Inside:
    """What a verified release holds, as far as it says.

    ``components`` are as its SBOM lists them, ``lowest`` is the base layer by platform.
    """

    components: Sequence[Mapping[str, Any]]
    made: provenance.Provenance | None
    lowest: Mapping[str, Digest]
    layer_bytes: Mapping[str, int]


def inside(store: Store, release: VerifiedRelease) -> Inside:
    """Return what a verified release is made of; what it does not hold is empty or None.

    Raises:
        RefusedError: something of it is missing, changed or mislabelled in the store.
    """
    shelf = store.shelf(release.connector)
    children = oci.read(shelf, release.index_digest, "the release index").manifests
    roles = {child.annotations.get(oci.ROLE_ANNOTATION) for child in children}
    components: tuple[Mapping[str, Any], ...] = ()
    made = None
    if sbom.ROLE in roles:
        bill = oci.parsed(read_part(shelf, children, sbom.ROLE, sbom.MEDIA_TYPE, NO_SBOM), "the sbom")
        components = sbom.components(bill, f"the sbom of {release.connector} {release.version}")
    if provenance.ROLE in roles:
        written = read_part(shelf, children, provenance.ROLE, provenance.MEDIA_TYPE, NO_PROVENANCE)
        made = provenance.read(written)
    layers = {platform: oci.image(shelf, release.index_digest, platform).layers for platform in release.images}
    return Inside(
        components,
        made,
        {platform: found[0].digest for platform, found in layers.items() if found},
        {platform: sum(item.size for item in found) for platform, found in layers.items()},
    )


def verify_layers(shelf: Shelf, release: VerifiedRelease) -> int:
    """Read every layer of a verified release and return how many bytes were hashed.

    Raises:
        RefusedError: a layer is missing, changed or too large (WH-IMG-011 to 013).
    """
    read = 0
    for platform in release.images:
        for number, item in enumerate(oci.image(shelf, release.index_digest, platform).layers, 1):
            read += sum(len(chunk) for chunk in shelf.chunks(item, f"layer {number} of {platform} ({item.digest})"))
    return read


def _envelope(store: Store, connector: ConnectorId, index_digest: Digest) -> bytes:
    found = store.named(signature_name(connector, index_digest))
    if found is None:
        raise RefusedError(
            f"release {index_digest} of {connector} has no signature in the store {store.where}",
            code=NOT_SIGNED,
            hint="publish it with a key that trust.yaml names, or restore the store",
        )
    shelf = store.shelf(connector)
    layers = _parts(shelf, found, "the signature's manifest").layers
    if len(layers) != 1:
        raise RefusedError(
            f"the signature's manifest {found.digest} has {counted(len(layers), 'envelope')}",
            code=signature.BAD_ENVELOPE,
            hint="publish the release again",
        )
    return _content(shelf, layers[0], "the signature's envelope", oci.ENVELOPE)


def _require_same(statement: Statement, connector: ConnectorId, version: str, index_digest: Digest) -> None:
    if statement.connector != connector or statement.index_digest != index_digest:
        raise RefusedError(
            f"the signature is for {statement.connector} {statement.index_digest}, not for {connector} {index_digest}",
            code=OTHER_RELEASE,
            hint="somebody put another release's signature here; find out who can write to the store",
        )
    if statement.version != version:
        raise RefusedError(
            f"the catalog says {connector} {version}, and signed was version {statement.version}",
            code=OTHER_VERSION,
            hint="somebody gave a release another version; find out who can write to store and registry",
        )


def _images(
    shelf: Shelf, connector: ConnectorId, children: Sequence[oci.Descriptor], rule: Rule
) -> dict[str, ImageDigests]:
    """Return every image of an index, each with a config no connector is refused for and a base the rule allows."""
    images: dict[str, ImageDigests] = {}
    for child in children:
        if child.platform is None:
            continue
        what = f"the image manifest of {child.platform}"
        made = _parts(shelf, child, what)
        if made.config is None:
            raise oci.wrong_form(f"{what} ({child.digest})", "config", "is missing")
        described = _document(shelf, made.config, f"the image config of {child.platform}", oci.CONFIG)
        named = f"the image of {connector} for {child.platform}"
        _require_spelled(described, _CONFIG, named)
        settings = described.get("config")
        require_sealed(settings if isinstance(settings, dict) else {}, named)
        if rule.base_images:
            _require_base(made.layers, described, rule, named)
        if child.platform in images:
            raise _other_image(f"it has two for {child.platform}")
        images[child.platform] = ImageDigests(child.digest, made.config.digest)
    return images


def _require_signed(images: Mapping[str, ImageDigests], statement: Statement) -> None:
    if set(images) != set(statement.images):
        raise _other_image(f"it has {', '.join(sorted(images))}, signed were {', '.join(sorted(statement.images))}")
    for platform, found in images.items():
        signed = statement.images[platform]
        if found.manifest != signed.manifest:
            raise _other_image(f"its image manifest for {platform} is {found.manifest}, signed was {signed.manifest}")
        if found.config != signed.config:
            raise _other_image(f"its image config for {platform} is {found.config}, signed was {signed.config}")


def _require_base(layers: Sequence[oci.Descriptor], config: Mapping[str, Any], rule: Rule, named: str) -> None:
    lowest = [item.digest for item in layers[:1]]
    rootfs = config.get("rootfs") or {}
    if not isinstance(rootfs, dict):
        raise oci.wrong_form(f"the config of {named}", "rootfs", "is no object")
    _require_spelled(rootfs, _ROOTFS, named)
    unpacked = oci.items(rootfs, "diff_ids", f"the config of {named}")[:1]
    if not rule.base_images.intersection(str(digest) for digest in (*lowest, *unpacked)):
        raise RefusedError(
            f"{named} stands on {' '.join(lowest) or 'nothing'}, which is no base image trust.yaml allows",
            code=OTHER_BASE,
            hint="publish it from an allowed base, or add this one to base_images once you have checked it",
        )


def _require_evidence(
    shelf: Shelf,
    children: Sequence[oci.Descriptor],
    rule: Rule,
    connector: ConnectorId,
    version: str,
    images: Mapping[str, ImageDigests],
    statement: Statement | None,
) -> None:
    """Refuse a release without what its rule requires, or with what is about something else."""
    if "sbom" in rule.require:
        described = _component(read_part(shelf, children, sbom.ROLE, sbom.MEDIA_TYPE, NO_SBOM))
        if (described.get("name"), described.get("version")) != (connector, version):
            raise RefusedError(
                f"the release's SBOM is of {described.get('name')} {described.get('version')}",
                code=NO_SBOM,
                hint="publish the release again",
            )
    if "provenance" not in rule.require and not rule.builders:
        return
    made = provenance.read(read_part(shelf, children, provenance.ROLE, provenance.MEDIA_TYPE, NO_PROVENANCE))
    if made.subjects != {image.manifest for image in images.values()}:
        raise RefusedError(
            "the release's provenance is about other images",
            code=NO_PROVENANCE,
            hint="publish the release again",
        )
    said = made.builder if statement is None else statement.builder
    if made.builder != said:
        raise RefusedError(
            f"the release's provenance names the builder {made.builder}, and signed was {said}",
            code=OTHER_BUILDER,
            hint="publish the release again",
        )
    if rule.builders and not any(fnmatch.fnmatchcase(made.builder, pattern) for pattern in rule.builders):
        raise RefusedError(
            f"the release was built by {made.builder}, and trust.yaml allows {', '.join(rule.builders)}",
            code=OTHER_BUILDER,
            hint="build it where releases are built (wellhead.yaml there names the builder), or allow this builder",
        )


def read_part(shelf: Shelf, children: Sequence[oci.Descriptor], role: str, media_type: str, missing: Code) -> bytes:
    """Return the one document a child of a release index holds, such as its SBOM.

    Raises:
        RefusedError: ``missing``, there is not exactly one; or it is missing, changed or mislabelled in the store.
    """
    found = [child for child in children if child.annotations.get(oci.ROLE_ANNOTATION) == role]
    if len(found) != 1:
        raise RefusedError(
            f"the release holds {len(found)} children of the kind {role}, and one is required",
            code=missing,
            hint="publish a version that was built with `wellhead build` or `publish` of this version",
        )
    layers = _parts(shelf, found[0], f"the {role}'s artifact").layers
    if len(layers) != 1:
        raise RefusedError(
            f"the {role}'s artifact holds {counted(len(layers), 'document')}",
            code=missing,
            hint="publish the release again",
        )
    return _content(shelf, layers[0], f"the {role}", media_type)


def _component(content: bytes) -> dict[str, Any]:
    """Return what a SBOM is about; empty where it does not say."""
    match oci.parsed(content, "the sbom"):
        case {"metadata": {"component": dict(described)}}:
            return described
        case _:
            return {}


def require_sealed(settings: Mapping[str, Any], what: str) -> None:
    """Refuse an image config that would loosen the sandbox: VOLUME, HEALTHCHECK, ONBUILD, or another USER than 65532.

    Args:
        settings: the ``config`` object of an image config.
        what: how the message names the image.

    Raises:
        RefusedError: WH-CAT-035, naming the instruction and its value, or a name in letters that hide it.
    """
    _require_spelled(settings, _SETTINGS, what)
    volumes = settings.get("Volumes")
    wrong = []
    if volumes:
        named = sorted(map(str, volumes)) if isinstance(volumes, dict | list) else [str(volumes)]
        wrong.append(f"VOLUME {' '.join(named)}: a volume is a way to keep state")
    if settings.get("Healthcheck"):
        wrong.append("HEALTHCHECK: the host asks for health over the session")
    if settings.get("OnBuild"):
        wrong.append("ONBUILD: nothing is built from a connector")
    user = str(settings.get("User") or "root")
    if user != base.USER:
        wrong.append(f"USER {user}: connectors run as {base.USER}")
    if wrong:
        raise RefusedError(
            f"{what} has {wrong[0]}",
            code=BAD_CONFIG,
            hint="remove it from the Dockerfile or base image, and publish a new version",
            details=tuple(wrong),
        )


def _require_spelled(document: Mapping[str, Any], names: Mapping[str, str], what: str) -> None:
    """Refuse a name in other letters than it is judged by: an Engine takes it all the same, and does what it says."""
    other = oci.respelled(document, names)
    if other is not None:
        raise RefusedError(
            f"{what} has a config that writes {other!a} for {names[other.casefold()]}",
            code=BAD_CONFIG,
            hint="build the image with Docker or `wellhead build`, which write no such name, and publish a new version",
        )


def _manifest(
    shelf: Shelf, children: Sequence[oci.Descriptor], connector: ConnectorId, version: str
) -> tuple[Manifest, str]:
    """Return the connector manifest of an index and the sha256 of its written form."""
    found = [child for child in children if child.annotations.get(oci.ROLE_ANNOTATION) == "manifest"]
    if len(found) != 1:
        raise _other_manifest(f"there are {len(found)} in the index")
    layers = _parts(shelf, found[0], "the connector manifest's artifact").layers
    contents = {item.media_type: item for item in layers}
    # One of each: of two, another reader may take the other one.
    if len(layers) != 2 or set(contents) != {oci.CONNECTOR_MANIFEST, oci.CONNECTOR_YAML}:
        raise _other_manifest("its artifact has other contents")
    written = _content(shelf, contents[oci.CONNECTOR_YAML], "the connector manifest (manifest.yaml)")
    # The JSON form stands in the signed index by its digest, and is read in a tenth of the YAML's time.
    read = _content(shelf, contents[oci.CONNECTOR_MANIFEST], "the connector manifest (canonical JSON)")
    try:
        manifest = load.from_canonical_json(read)
    except (ValueError, RecursionError) as exc:
        raise _other_manifest("its canonical form is not JSON") from exc
    if (manifest.metadata.id, manifest.metadata.version) != (connector, version):
        raise _other_manifest(f"it is of {manifest.metadata.id} {manifest.metadata.version}")
    return manifest, hashlib.sha256(written).hexdigest()


def _document(shelf: Shelf, found: oci.Descriptor, what: str, media_type: str = oci.MANIFEST) -> dict[str, Any]:
    """Return a JSON document that is just what its descriptor says."""
    document = oci.parsed(_content(shelf, found, what, media_type), f"{what} ({found.digest})")
    said = document.get("mediaType", media_type)
    if said != media_type:
        raise _mislabelled(what, f"calls itself {said}, not {media_type}")
    return document


def _parts(shelf: Shelf, found: oci.Descriptor, what: str) -> oci.Parts:
    """Return what a manifest is made of that is just what its descriptor says."""
    return oci.parts(_document(shelf, found, what), f"{what} ({found.digest})")


def _content(shelf: Shelf, found: oci.Descriptor, what: str, media_type: str | None = None) -> bytes:
    if media_type is not None and found.media_type != media_type:
        raise _mislabelled(what, f"is named as {found.media_type}, not {media_type}")
    content = shelf.get(found.digest, what)
    if len(content) != found.size:
        raise _mislabelled(what, f"has {len(content)} bytes, and what names it says {found.size}")
    return content


def _mislabelled(what: str, why: str) -> RefusedError:
    return RefusedError(
        f"{what} {why}",
        code=OTHER_SIZE,
        hint="find out who can write to the release store, then publish the release again",
    )


def _other_image(why: str) -> RefusedError:
    return RefusedError(
        f"the release holds another image than was signed: {why}",
        code=OTHER_IMAGE,
        hint="find out who can write to the release store, then publish the release again",
    )


def _other_manifest(why: str) -> RefusedError:
    return RefusedError(
        f"the release holds another connector manifest than was signed: {why}",
        code=OTHER_MANIFEST,
        hint="find out who can write to the release store, then publish the release again",
    )
