"""What is signed of a release, and how: an in-toto statement in a DSSE envelope, checked offline with public keys.

The statement's subject is the release index; its predicate repeats id, version, the manifest's hash and every image's
digests, so that a signature can never be shown for another connector, version or image.

Sources: github.com/secure-systems-lab/dsse (protocol.md), in-toto.io/Statement/v1.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from wellhead.catalog.keys import KeyId, PrivateKey
from wellhead.catalog.trust import Signers
from wellhead.errors import Code, RefusedError
from wellhead.ids import ConnectorId, Digest
from wellhead.images.layout import ImageDigests, canonical

BAD_ENVELOPE = Code("WH-CAT-020", "A release's signature envelope has the wrong form.")
NOT_SIGNED_BY_US = Code("WH-CAT-021", "No trusted key signed a release.")

PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT = "https://in-toto.io/Statement/v1"
#: Names the meaning of the predicate's fields; raised when one of them means something else.
PREDICATE = "urn:wellhead:release:v1"


@dataclass(frozen=True, slots=True)
class Statement:
    """What a signer vouches for."""

    connector: ConnectorId
    version: str
    index_digest: Digest
    manifest_sha256: str
    images: Mapping[str, ImageDigests]

    def payload(self) -> bytes:
        """Return the bytes that are signed."""
        return canonical(
            {
                "_type": STATEMENT,
                "subject": [{"name": self.connector, "digest": {"sha256": self.index_digest.removeprefix("sha256:")}}],
                "predicateType": PREDICATE,
                "predicate": {
                    "connector": self.connector,
                    "version": self.version,
                    "manifest_sha256": self.manifest_sha256,
                    "images": {
                        platform: {"manifest": image.manifest, "config": image.config}
                        for platform, image in self.images.items()
                    },
                },
            }
        )


def pre_authentication(payload_type: str, payload: bytes) -> bytes:
    """Return the bytes a DSSE signature is made over; the type is part of them."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def sign(statement: Statement, *keys: PrivateKey) -> bytes:
    """Return the envelope with one signature a key."""
    payload = statement.payload()
    signed = pre_authentication(PAYLOAD_TYPE, payload)
    return canonical(
        {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": PAYLOAD_TYPE,
            "signatures": [
                {"keyid": key.public.id, "sig": base64.b64encode(key.sign(signed)).decode()} for key in keys
            ],
        }
    )


def verify(envelope: bytes, signers: Signers) -> tuple[Statement, tuple[KeyId, ...]]:
    """Return what the envelope says and which trusted keys signed it.

    Every trusted key is tried on every signature: the key id in an envelope is a hint, and anybody can write it.

    Raises:
        RefusedError: wrong form (WH-CAT-020), or too few trusted keys signed these bytes (WH-CAT-021).
    """
    payload_type, payload, signatures = _opened(envelope)
    signed = pre_authentication(payload_type, payload)
    agreed = {key.id for key in signers.keys for signature in signatures if key.verifies(signature, signed)}
    if len(agreed) < signers.threshold:
        raise RefusedError(
            f"the release is signed by {len(agreed)} trusted keys, and {signers.threshold} must have signed",
            code=NOT_SIGNED_BY_US,
            hint="the signature was changed, or made with a key that trust.yaml does not name for this namespace",
        )
    # Only now: nothing of an unverified payload is read.
    if payload_type != PAYLOAD_TYPE:
        raise _malformed(f"it holds {payload_type}")
    return _statement(payload), tuple(sorted(agreed))


def _opened(envelope: bytes) -> tuple[str, bytes, list[bytes]]:
    try:
        match json.loads(envelope):
            case {"payload": str(payload), "payloadType": str(kind), "signatures": [*signatures]}:
                raw = [base64.b64decode(signature["sig"], validate=True) for signature in signatures]
                return kind, base64.b64decode(payload, validate=True), raw
    except (ValueError, KeyError, TypeError, binascii.Error, RecursionError) as exc:
        raise _malformed("it cannot be decoded") from exc
    raise _malformed("fields are missing")


def _statement(payload: bytes) -> Statement:
    try:
        return _read(json.loads(payload))
    except (ValueError, KeyError, TypeError) as exc:
        raise _malformed("its statement lacks fields") from exc


def _read(document: Any) -> Statement:
    match document:
        case {
            "_type": str(kind),
            "subject": [{"digest": {"sha256": str(subject)}}],
            "predicateType": str(predicate_kind),
            "predicate": {
                "connector": str(connector),
                "version": str(version),
                "manifest_sha256": str(manifest_sha256),
                "images": dict(images),
            },
        } if kind == STATEMENT and predicate_kind == PREDICATE:
            return Statement(
                ConnectorId(connector),
                version,
                Digest(f"sha256:{subject}"),
                manifest_sha256,
                {name: ImageDigests(Digest(item["manifest"]), Digest(item["config"])) for name, item in images.items()},
            )
    raise _malformed("its statement is of another kind")


def _malformed(why: str) -> RefusedError:
    return RefusedError(
        f"the signature of the release has the wrong form: {why}",
        code=BAD_ENVELOPE,
        hint="publish the release again with this version of Wellhead",
    )
