"""What is signed of a release, and how: an in-toto statement in a DSSE envelope, checked offline with public keys.

The statement's subject is the release index; its predicate repeats id, version, the manifest's hash and every image's
digests, so that a signature can never be shown for another connector, version or image. It also says when it was made
and until when it lasts: the index itself holds no time, so that a release can be made again.

Sources: github.com/secure-systems-lab/dsse (protocol.md), in-toto.io/Statement/v1.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from wellhead.catalog.keys import KeyId, PrivateKey
from wellhead.catalog.trust import Rule, Signer
from wellhead.errors import Code, RefusedError
from wellhead.ids import ConnectorId, Digest
from wellhead.images.oci import ImageDigests, canonical

BAD_ENVELOPE = Code("WH-CAT-020", "A release's signature envelope has the wrong form.")
NOT_SIGNED_BY_US = Code("WH-CAT-021", "Too few trusted keys signed a release.")
REVOKED = Code("WH-CAT-022", "A release is signed with a revoked key.")
KEY_EXPIRED = Code("WH-CAT-023", "A release is signed with a key that had expired.")
TOO_OLD = Code("WH-CAT-024", "A release's signature lasts no longer.")
TOO_EARLY = Code("WH-CAT-025", "A release's signature was made in the future.")

PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT = "https://in-toto.io/Statement/v1"
#: Names the meaning of the predicate's fields; raised when one of them means something else.
PREDICATE = "urn:wellhead:release:v2"
#: How far the clocks of a signer and of a host may differ.
SKEW = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Statement:
    """What a signer vouches for; times are aware UTC, whole seconds, and `expires_at` None means it lasts."""

    connector: ConnectorId
    version: str
    index_digest: Digest
    manifest_sha256: str
    images: Mapping[str, ImageDigests]
    publisher: str
    builder: str
    issued_at: datetime
    expires_at: datetime | None = None

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
                    "publisher": self.publisher,
                    "builder": self.builder,
                    "issued_at": self.issued_at.isoformat(timespec="seconds"),
                    "expires_at": None if self.expires_at is None else self.expires_at.isoformat(timespec="seconds"),
                },
            }
        )


def pre_authentication(payload_type: str, payload: bytes) -> bytes:
    """Return the bytes a DSSE signature is made over; the type is part of them."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def sign(statement: Statement, *keys: PrivateKey) -> bytes:
    """Return the envelope with one signature a key."""
    return envelope(PAYLOAD_TYPE, statement.payload(), keys)


def envelope(payload_type: str, payload: bytes, keys: Iterable[PrivateKey]) -> bytes:
    """Return ``payload`` in a DSSE envelope with one signature a key."""
    signed = pre_authentication(payload_type, payload)
    return canonical(
        {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": payload_type,
            "signatures": [
                {"keyid": key.public.id, "sig": base64.b64encode(key.sign(signed)).decode()} for key in keys
            ],
        }
    )


def verify(envelope: bytes, rule: Rule, now: datetime) -> tuple[Statement, tuple[KeyId, ...]]:
    """Return what the envelope says and which trusted keys signed it.

    Every trusted key is tried on every signature: the key id in an envelope is a hint, and anybody can write it.

    Raises:
        RefusedError: wrong form (WH-CAT-020); too few trusted keys signed these bytes (021), or enough only with keys
            that are revoked (022) or had expired (023); the statement lasts no longer (024) or is of the future (025).
    """
    try:
        payload_type, payload, signatures = opened(envelope)
    except ValueError as exc:
        raise _malformed(str(exc)) from exc
    signed = pre_authentication(payload_type, payload)
    agreed = {
        signer.key.id: signer
        for signer in rule.signers
        if any(signer.key.verifies(signature, signed) for signature in signatures)
    }
    if len(agreed) < rule.threshold:
        raise RefusedError(
            f"the release is signed by {len(agreed)} trusted keys, and {rule.threshold} must have signed",
            code=NOT_SIGNED_BY_US,
            hint="the signature was changed, or made with a key that trust.yaml does not name for this namespace",
        )
    # Only now: nothing of an unverified payload is read.
    if payload_type != PAYLOAD_TYPE:
        raise _malformed(f"it holds {payload_type}")
    statement = _statement(payload)
    counted = _counted(agreed.values(), statement.issued_at, rule.threshold)
    _require_current(statement, rule, now)
    return statement, counted


def _counted(agreed: Iterable[Signer], issued_at: datetime, threshold: int) -> tuple[KeyId, ...]:
    """Return the keys that counted when the statement was made; raises REVOKED or KEY_EXPIRED if they are too few."""
    counted, refused = [], []
    for signer in agreed:
        if signer.revoked_from is not None and issued_at >= signer.revoked_from:
            refused.append((REVOKED, f"{signer.key.id} is revoked"))
        elif signer.expires is not None and issued_at >= signer.expires:
            refused.append((KEY_EXPIRED, f"{signer.key.id} expired on {signer.expires:%Y-%m-%d}"))
        else:
            counted.append(signer.key.id)
    if len(counted) < threshold:
        raise RefusedError(
            f"the release was signed on {issued_at:%Y-%m-%d %H:%M:%SZ}, and {' and '.join(why for _, why in refused)}",
            code=refused[0][0],
            hint="publish it again with a key that counts, or take another version; `wellhead prefetch` "
            "fetches a newer signature, if the registry has one",
        )
    return tuple(sorted(counted))


def _require_current(statement: Statement, rule: Rule, now: datetime) -> None:
    if statement.issued_at > now + SKEW:
        raise RefusedError(
            f"the release says it was signed on {statement.issued_at:%Y-%m-%d %H:%M:%SZ}, which is yet to come",
            code=TOO_EARLY,
            hint="set the clock of this host or of the signer, and publish the release again",
        )
    ends = [at for at in (statement.expires_at, rule.max_age and statement.issued_at + rule.max_age) if at]
    if ends and now >= min(ends):
        raise RefusedError(
            f"the release's signature of {statement.issued_at:%Y-%m-%d} lasted until {min(ends):%Y-%m-%d %H:%M:%SZ}",
            code=TOO_OLD,
            hint="publish the release again to sign it anew, or take a newer version; `wellhead prefetch` "
            "fetches a newer signature, if the registry has one",
        )


def opened(envelope: bytes) -> tuple[str, bytes, list[bytes]]:
    """Return the type, the payload and the signatures of an envelope, none of them verified.

    Raises:
        ValueError: it has another form; the text is a clause about it, for whoever knows what is in the envelope.
    """
    try:
        match json.loads(envelope):
            case {"payload": str(payload), "payloadType": str(kind), "signatures": [*signatures]}:
                raw = [base64.b64decode(signature["sig"], validate=True) for signature in signatures]
                kind.encode()
                return kind, base64.b64decode(payload, validate=True), raw
    except (ValueError, KeyError, TypeError, binascii.Error, RecursionError) as exc:
        raise ValueError("it cannot be decoded") from exc
    raise ValueError("fields are missing")


def _statement(payload: bytes) -> Statement:
    try:
        return _read(json.loads(payload))
    except (ValueError, KeyError, TypeError, RecursionError) as exc:
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
                "publisher": str(publisher),
                "builder": str(builder),
                "issued_at": str(issued_at),
                "expires_at": expires_at,
            },
        } if kind == STATEMENT and predicate_kind == PREDICATE:
            return Statement(
                ConnectorId(connector),
                version,
                Digest(f"sha256:{subject}"),
                manifest_sha256,
                {name: ImageDigests(Digest(item["manifest"]), Digest(item["config"])) for name, item in images.items()},
                publisher,
                builder,
                _time(issued_at),
                None if expires_at is None else _time(expires_at),
            )
    raise _malformed("its statement is of another kind")


def _time(text: str) -> datetime:
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError(f"{text} names no time zone")
    return at


def _malformed(why: str) -> RefusedError:
    return RefusedError(
        f"the signature of the release has the wrong form: {why}",
        code=BAD_ENVELOPE,
        hint="publish the release again with this version of Wellhead",
    )
