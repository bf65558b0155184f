"""Every link from the trusted key to the bytes is broken once, and the refusal names it."""

import base64
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from securesystemslib.dsse import Envelope
from securesystemslib.signer import CryptoSigner, SSlibKey  # type: ignore[attr-defined]

from wellhead.catalog import keys, signature, trust, verify
from wellhead.errors import RefusedError
from wellhead.ids import ConnectorId, Digest
from wellhead.images import engine_tar, oci

PLATFORM = "linux/amd64"


def documents(shop: Any, built: Any) -> dict[str, str]:
    """Return the digest of each small blob of a signed release by what it is."""
    index = shop.store.document(built.index_digest, "index")
    children = oci.parts(index, "the index").manifests
    (artifact,) = [child for child in children if child.annotations.get(oci.ROLE_ANNOTATION) == "manifest"]
    contents = shop.store.document(artifact.digest, "artifact")["layers"]
    signed = shop.store.named(verify.signature_name(built.connector, built.index_digest))
    return {
        "index": built.index_digest,
        "image manifest": built.images[PLATFORM].manifest,
        "config": built.images[PLATFORM].config,
        "manifest artifact": artifact.digest,
        "manifest json": contents[0]["digest"],
        "manifest yaml": contents[1]["digest"],
        "signature manifest": signed.digest,
        "envelope": shop.store.document(signed.digest, "signature")["layers"][0]["digest"],
    }


def refusal(shop: Any, built: Any, version: str | None = None) -> RefusedError:
    with pytest.raises(RefusedError) as caught:
        shop.verify(built, version)
    assert caught.value.exit_code == 76
    assert caught.value.hint
    return caught.value


def test_a_good_release_passes_and_says_who_signed(shop: Any) -> None:
    built = shop.publish()
    release = shop.verify(built)
    assert release.key_ids == (shop.key.public.id,)
    assert release.images == built.images
    assert release.manifest.metadata.id == "dev/tiny"
    assert release.manifest_sha256 == built.manifest_sha256
    release.require_image(PLATFORM, built.images[PLATFORM].config)
    release.require_image(PLATFORM, built.images[PLATFORM].manifest)
    assert verify.verify_layers(shop.store, release) > 0


@pytest.mark.parametrize(
    ("what", "named"),
    [
        ("index", "the release index"),
        ("image manifest", "the image manifest of linux/amd64"),
        ("config", "the image config of linux/amd64"),
        ("manifest artifact", "the connector manifest's artifact"),
        ("manifest json", "the connector manifest (canonical JSON)"),
        ("manifest yaml", "the connector manifest (manifest.yaml)"),
        ("signature manifest", "the signature's manifest"),
        ("envelope", "the signature's envelope"),
    ],
)
def test_a_changed_byte_is_refused_and_named(shop: Any, flip: Callable[[Path], None], what: str, named: str) -> None:
    built = shop.publish()
    flip(shop.blob(documents(shop, built)[what]))
    error = refusal(shop, built)
    assert named in error.message
    assert error.code.name == "WH-IMG-012"


@pytest.mark.parametrize(
    "what", ["index", "image manifest", "config", "manifest artifact", "manifest json", "manifest yaml", "envelope"]
)
def test_a_missing_blob_is_refused(shop: Any, what: str) -> None:
    built = shop.publish()
    shop.blob(documents(shop, built)[what]).unlink()
    assert refusal(shop, built).code.name == "WH-IMG-011"


def test_a_changed_layer_is_found_by_verify_and_on_the_way_into_an_engine(
    shop: Any, flip: Callable[[Path], None]
) -> None:
    built = shop.publish()
    release = shop.verify(built)
    whole = b"".join(engine_tar.chunks(shop.store, built.index_digest, PLATFORM))
    found = oci.image(shop.store, built.index_digest, PLATFORM)
    flip(shop.blob(found.layers[0].digest))
    with pytest.raises(RefusedError, match="layer 1 of linux/amd64"):
        verify.verify_layers(shop.store, release)
    seen = bytearray()
    with pytest.raises(RefusedError) as caught:
        seen.extend(byte for chunk in engine_tar.chunks(shop.store, built.index_digest, PLATFORM) for byte in chunk)
    assert caught.value.code.name == "WH-IMG-012"
    assert len(seen) < len(whole) - 1024


def test_an_envelope_whose_signature_was_changed_is_refused(shop: Any) -> None:
    built = shop.publish()
    rewrite(shop, built, lambda envelope: swap(envelope, "sig"))
    assert refusal(shop, built).code.name == "WH-CAT-021"


def test_an_envelope_whose_payload_was_changed_is_refused(shop: Any) -> None:
    built = shop.publish()
    statement = dataclasses.replace(shop.statement(built), version="1.0.1")
    rewrite(shop, built, lambda envelope: envelope | {"payload": base64.b64encode(statement.payload()).decode()})
    assert refusal(shop, built, "1.0.1").code.name == "WH-CAT-021"


def test_an_envelope_of_another_type_is_refused_even_if_signed(shop: Any) -> None:
    built = shop.publish()
    payload = shop.statement(built).payload()
    signed = shop.key.sign(signature.pre_authentication("text/plain", payload))
    put(shop, built, {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": "text/plain",
        "signatures": [{"keyid": shop.key.public.id, "sig": base64.b64encode(signed).decode()}],
    })  # fmt: skip
    assert refusal(shop, built).code.name == "WH-CAT-020"


@pytest.mark.parametrize(
    "envelope",
    [
        {},
        [],
        {"payload": "e30=", "payloadType": "x"},
        {"payload": "?", "payloadType": "x", "signatures": []},
        {"payload": "e30=", "payloadType": "x", "signatures": [{}]},
        {"payload": "e30=", "payloadType": "x", "signatures": [{"sig": "??"}]},
    ],
)
def test_what_is_no_envelope_is_refused(shop: Any, envelope: Any) -> None:
    built = shop.publish()
    put(shop, built, envelope)
    assert refusal(shop, built).code.name == "WH-CAT-020"


def test_an_envelope_without_signatures_is_refused(shop: Any) -> None:
    built = shop.publish()
    rewrite(shop, built, lambda envelope: envelope | {"signatures": []})
    assert refusal(shop, built).code.name == "WH-CAT-021"


def test_a_release_without_a_signature_is_refused(shop: Any) -> None:
    assert refusal(shop, shop.make()).code.name == "WH-CAT-030"


def test_an_attacker_who_signs_everything_again_with_his_own_key_is_refused(shop: Any) -> None:
    shop.publish()
    attacker = keys.new_pair(shop.folder / "attacker", "publisher")
    evil = shop.make(content=b"import os\n")
    verify.attach(shop.store, shop.statement(evil), attacker)
    shop.store.name(verify.release_name(evil.connector, evil.version), shop.store.named(
        verify.signature_name(evil.connector, evil.index_digest)
    ))  # fmt: skip
    assert refusal(shop, evil).code.name == "WH-CAT-021"


def test_an_attacker_who_claims_the_trusted_key_id_is_refused(shop: Any) -> None:
    evil = shop.make(content=b"import os\n")
    attacker = keys.new_pair(shop.folder / "attacker", "publisher")
    verify.attach(shop.store, shop.statement(evil), attacker)
    rewrite(shop, evil, lambda envelope: envelope | {
        "signatures": [envelope["signatures"][0] | {"keyid": shop.key.public.id}]
    })  # fmt: skip
    assert refusal(shop, evil).code.name == "WH-CAT-021"


def test_the_signature_of_another_connector_is_refused(shop: Any) -> None:
    good = shop.publish("dev/other")
    evil = shop.make("dev/tiny", content=b"import os\n")
    theirs = shop.store.named(verify.signature_name(good.connector, good.index_digest))
    shop.store.name(verify.signature_name(evil.connector, evil.index_digest), theirs)
    assert refusal(shop, evil).code.name == "WH-CAT-031"


def test_a_whole_release_of_another_connector_is_refused(shop: Any) -> None:
    other = shop.publish("dev/other")
    theirs = shop.store.named(verify.signature_name(other.connector, other.index_digest))
    shop.store.name(verify.signature_name(ConnectorId("dev/tiny"), other.index_digest), theirs)
    error = refusal(shop, dataclasses.replace(other, connector=ConnectorId("dev/tiny")))
    assert error.code.name == "WH-CAT-031"
    assert "dev/other" in error.message


def test_an_older_version_under_a_newer_tag_is_refused(shop: Any) -> None:
    old = shop.publish(version="1.0.0")
    error = refusal(shop, old, "2.0.0")
    assert error.code.name == "WH-CAT-032"
    assert "2.0.0" in error.message
    assert "1.0.0" in error.message


def test_a_connector_of_a_namespace_nobody_is_trusted_for_is_refused(shop: Any) -> None:
    assert refusal(shop, shop.publish("acme/tiny")).code.name == "WH-CAT-010"


def test_a_missing_trust_file_trusts_nobody(shop: Any) -> None:
    built = shop.publish()
    shop.trust = trust.load(shop.folder / "none.yaml")
    assert refusal(shop, built).code.name == "WH-CAT-010"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"manifest_sha256": "0" * 64}, "WH-CAT-034"),
        ({"images": {}}, "WH-CAT-033"),
        (
            {"images": {"linux/amd64": oci.ImageDigests(Digest("sha256:" + "1" * 64), Digest("sha256:" + "2" * 64))}},
            "WH-CAT-033",
        ),
    ],
)
def test_a_statement_about_other_contents_is_refused(shop: Any, change: dict[str, Any], code: str) -> None:
    built = shop.make()
    verify.attach(shop.store, dataclasses.replace(shop.statement(built), **change), shop.key)
    assert refusal(shop, built).code.name == code


def test_an_image_manifest_that_was_not_signed_is_refused(shop: Any) -> None:
    built = shop.make()
    signed = {PLATFORM: oci.ImageDigests(Digest("sha256:" + "3" * 64), built.images[PLATFORM].config)}
    verify.attach(shop.store, dataclasses.replace(shop.statement(built), images=signed), shop.key)
    assert "image manifest" in refusal(shop, built).message


def test_a_config_that_was_not_signed_is_refused(shop: Any) -> None:
    built = shop.make()
    signed = {PLATFORM: oci.ImageDigests(built.images[PLATFORM].manifest, Digest("sha256:" + "3" * 64))}
    verify.attach(shop.store, dataclasses.replace(shop.statement(built), images=signed), shop.key)
    assert "image config" in refusal(shop, built).message


def test_the_id_of_the_started_image_must_be_a_signed_one(shop: Any) -> None:
    release = shop.verify(shop.publish())
    with pytest.raises(RefusedError) as caught:
        release.require_image(PLATFORM, "sha256:" + "4" * 64)
    assert caught.value.code.name == "WH-CAT-036"
    with pytest.raises(RefusedError):
        release.require_image("linux/arm64", release.images[PLATFORM].config)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"User": "65532:65532", "Volumes": {"/var/state": {}}}, "VOLUME /var/state"),
        ({"User": "65532:65532", "Healthcheck": {"Test": ["CMD", "x"]}}, "HEALTHCHECK"),
        ({"User": "65532:65532", "OnBuild": ["RUN x"]}, "ONBUILD"),
        ({"User": "0:0"}, "USER 0:0"),
        ({}, "USER root"),
        ({"User": "65532"}, "USER 65532"),
        ({"User": "65532:65532", "volumes": {"/var/state": {}}}, "'volumes' for Volumes"),
        ({"User": "65532:65532", "healthCheck": {}}, "'healthCheck' for Healthcheck"),
    ],
)
def test_an_image_config_that_loosens_the_sandbox_is_refused(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(RefusedError, match=named) as caught:
        verify.require_sealed(settings, "the image")
    assert caught.value.code.name == "WH-CAT-035"


def test_a_threshold_counts_different_keys(shop: Any) -> None:
    second = keys.new_pair(shop.folder / "keys", "second")
    both = trust.Rule((trust.Signer(shop.key.public), trust.Signer(second.public)), 2)
    statement = shop.statement(shop.make())
    _, agreed = signature.verify(signature.sign(statement, shop.key, second), both, shop.now)
    assert set(agreed) == {shop.key.public.id, second.public.id}
    with pytest.raises(RefusedError):
        signature.verify(signature.sign(statement, shop.key, shop.key), both, shop.now)


def test_securesystemslib_accepts_our_envelopes(shop: Any) -> None:
    envelope = signature.sign(shop.statement(shop.make()), shop.key)
    public = keys.load_public(shop.folder / "keys" / "publisher.pub")
    key = SSlibKey(str(public.id), "ed25519", "ed25519", {"public": public.raw.hex()})
    assert Envelope.from_dict(json.loads(envelope)).verify([key], 1)


def test_we_accept_the_envelopes_of_securesystemslib(shop: Any) -> None:
    signer = CryptoSigner.generate_ed25519()
    statement = shop.statement(shop.make())
    envelope = Envelope(statement.payload(), signature.PAYLOAD_TYPE, {})
    envelope.sign(signer)
    public = keys.PublicKey(bytes.fromhex(signer.public_key.keyval["public"]))
    read, agreed = signature.verify(
        json.dumps(envelope.to_dict()).encode(), trust.Rule((trust.Signer(public),)), shop.now
    )
    assert read == statement
    assert agreed == (public.id,)


def swap(envelope: dict[str, Any], name: str) -> dict[str, Any]:
    """Return the envelope with its first signature's last bit changed."""
    first = envelope["signatures"][0]
    changed = bytearray(base64.b64decode(first[name]))
    changed[-1] ^= 1
    return envelope | {"signatures": [first | {name: base64.b64encode(changed).decode()}]}


def put(shop: Any, built: Any, envelope: Any) -> None:
    """Store an envelope under the release's signature name, with digests that agree."""
    store = shop.store
    document = {
        "schemaVersion": 2,
        "mediaType": oci.MANIFEST,
        "config": store.put(b"{}", oci.EMPTY).document(),
        "layers": [store.put(oci.canonical(envelope), oci.ENVELOPE).document()],
    }
    name = verify.signature_name(built.connector, built.index_digest)
    store.name(name, store.put(oci.canonical(document), oci.MANIFEST))


def rewrite(shop: Any, built: Any, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Replace the envelope by a changed one, as somebody who may write to the store would."""
    put(shop, built, change(json.loads(shop.store.get(Digest(documents(shop, built)["envelope"]), "envelope"))))
