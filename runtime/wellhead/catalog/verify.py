"""From a trusted key down to the bytes of a release: every link is checked at every launch, and a broken one is named.

    trust.yaml ─▶ signature ─▶ statement ─▶ index ─▶ image manifest ─▶ config = the image id the Engine must show
                                     └────▶ connector manifest            └─▶ layers, hashed when an Engine gets them

Invariant 12: what was verified is what runs. Layers are not read here, but hashed on their way into an Engine, so that
a launch from a loaded image costs a few small files.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from wellhead.catalog import cosign, signature
from wellhead.catalog.keys import KeyId, PrivateKey
from wellhead.catalog.signature import Statement
from wellhead.catalog.trust import Trust
from wellhead.errors import Code, RefusedError
from wellhead.ids import ConnectorId, Digest
from wellhead.images import base, layout
from wellhead.images.layout import ImageDigests
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


@dataclass(frozen=True, slots=True)
class VerifiedRelease:
    """A release every link of which held; `manifest` is the signed one."""

    connector: ConnectorId
    version: str
    index_digest: Digest
    manifest: Manifest
    manifest_sha256: str
    images: Mapping[str, ImageDigests]
    key_ids: tuple[KeyId, ...]

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
    return layout.name_of(connector, layout.about(index_digest, ".wh"))


def release_name(connector: ConnectorId, version: str) -> str:
    """Return the name under which a store keeps a release."""
    return layout.name_of(connector, version)


def attach(store: Store, statement: Statement, *keys: PrivateKey) -> bytes:
    """Sign a release, put the signature beside it, in both forms, and return ours; an earlier one is replaced."""
    envelope = signature.sign(statement, *keys)
    shelf = store.shelf(statement.connector)
    size = len(shelf.get(statement.index_digest, "the release index"))
    index = layout.Descriptor(layout.INDEX, statement.index_digest, size)
    document = {
        "schemaVersion": 2,
        "mediaType": layout.MANIFEST,
        "artifactType": layout.ENVELOPE,
        "config": shelf.put(b"{}", layout.EMPTY).document(),
        "layers": [shelf.put(envelope, layout.ENVELOPE).document()],
        "subject": index.document(),
    }
    artifact = shelf.put(layout.canonical(document), layout.MANIFEST)
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
        RefusedError: exit 76, naming the broken link: nobody trusted for the namespace (WH-CAT-010), no signature
            (030), an envelope of the wrong form or not signed by a trusted key (020, 021), a signature of another
            connector or release (031) or version (032), another image (033) or manifest (034), an image config that no
            connector may have (035), or bytes missing or changed in the store (WH-IMG-011 to 014).
    """
    signers = trust.signers(connector)
    statement, key_ids = signature.verify(_envelope(store, connector, index_digest), signers)
    _require_same(statement, connector, version, index_digest)
    shelf = store.shelf(connector)
    index = shelf.document(index_digest, "the release index")
    children = [layout.descriptor(child) for child in _list(index.get("manifests"))]
    images = {child.platform: child for child in children if child.platform is not None}
    if set(images) != set(statement.images):
        raise _other_image(f"it has {', '.join(sorted(images))}, signed were {', '.join(sorted(statement.images))}")
    for platform, child in images.items():
        _check_image(shelf, platform, child, statement)
    manifest = _manifest(shelf, children, statement)
    return VerifiedRelease(
        connector, version, index_digest, manifest, statement.manifest_sha256, statement.images, key_ids
    )


def verify_layers(shelf: Shelf, release: VerifiedRelease) -> int:
    """Read every layer of a verified release and return how many bytes were hashed.

    Raises:
        RefusedError: a layer is missing, changed or too large (WH-IMG-011 to 013).
    """
    read = 0
    for platform in release.images:
        for number, item in enumerate(layout.image(shelf, release.index_digest, platform).layers, 1):
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
    document = shelf.document(found.digest, "the signature's manifest")
    layers = [layout.descriptor(item) for item in _list(document.get("layers"))]
    if len(layers) != 1:
        raise RefusedError(
            f"the signature's manifest {found.digest} has {len(layers)} envelopes",
            code=signature.BAD_ENVELOPE,
            hint="publish the release again",
        )
    return shelf.get(layers[0].digest, "the signature's envelope")


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


def _check_image(shelf: Shelf, platform: str, child: layout.Descriptor, statement: Statement) -> None:
    signed = statement.images[platform]
    if child.digest != signed.manifest:
        raise _other_image(f"its image manifest for {platform} is {child.digest}, signed was {signed.manifest}")
    document = shelf.document(child.digest, f"the image manifest of {platform}")
    config = layout.descriptor(document.get("config"))
    if config.digest != signed.config:
        raise _other_image(f"its image config for {platform} is {config.digest}, signed was {signed.config}")
    settings = shelf.document(config.digest, f"the image config of {platform}").get("config")
    require_sealed(settings if isinstance(settings, dict) else {}, f"the image of {statement.connector} for {platform}")


def require_sealed(settings: Mapping[str, Any], what: str) -> None:
    """Refuse an image config that would loosen the sandbox: VOLUME, HEALTHCHECK, ONBUILD, or another USER than 65532.

    Args:
        settings: the ``config`` object of an image config.
        what: how the message names the image.

    Raises:
        RefusedError: WH-CAT-035, naming the instruction and its value.
    """
    volumes = settings.get("Volumes") or {}
    wrong = []
    if volumes:
        wrong.append(f"VOLUME {' '.join(sorted(volumes))}: a volume is a way to keep state")
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


def _manifest(shelf: Shelf, children: list[layout.Descriptor], statement: Statement) -> Manifest:
    found = [child for child in children if child.annotations.get(layout.ROLE_ANNOTATION) == "manifest"]
    if len(found) != 1:
        raise _other_manifest(f"there are {len(found)} in the index")
    document = shelf.document(found[0].digest, "the connector manifest's artifact")
    contents = {item.media_type: item for item in map(layout.descriptor, _list(document.get("layers")))}
    if set(contents) != {layout.CONNECTOR_MANIFEST, layout.CONNECTOR_YAML}:
        raise _other_manifest("its artifact has other contents")
    written = shelf.get(contents[layout.CONNECTOR_YAML].digest, "the connector manifest (manifest.yaml)")
    if hashlib.sha256(written).hexdigest() != statement.manifest_sha256:
        raise _other_manifest(f"its bytes do not have the signed hash {statement.manifest_sha256}")
    # The JSON form stands in the signed index by its digest, and is read in a tenth of the YAML's time.
    read = shelf.get(contents[layout.CONNECTOR_MANIFEST].digest, "the connector manifest (canonical JSON)")
    manifest = load.from_canonical_json(read)
    if (manifest.metadata.id, manifest.metadata.version) != (statement.connector, statement.version):
        raise _other_manifest(f"it is of {manifest.metadata.id} {manifest.metadata.version}")
    return manifest


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


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
