"""Receipts of runs, signed with the key of the host that ran them: DSSE, with a payload type of their own.

A receipt is kept as the document it is, with the signature as one more field; the envelope is made of both when
somebody asks for it, and holds the same bytes each time.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from wellhead.catalog import signature
from wellhead.catalog.keys import KeyId, PrivateKey, PublicKey
from wellhead.errors import Code, RefusedError
from wellhead.images.oci import canonical, parsed

NOT_SIGNED = Code("WH-CAT-090", "A receipt is not signed.")
CHANGED = Code("WH-CAT-091", "A receipt was changed, or another key signed it.")
OTHER_RUN = Code("WH-CAT-092", "A receipt and the registry disagree.")
BAD_RECEIPT = Code("WH-CAT-093", "What should be a receipt is no signed envelope.")

PAYLOAD_TYPE = "application/vnd.wellhead.receipt.v1+json"
#: Where the signature stands in a kept receipt.
FIELD = "signature"


def sign(document: Mapping[str, Any], key: PrivateKey) -> dict[str, Any]:
    """Return a receipt with the signature of a host's key; ``document`` holds plain JSON values."""
    said = {name: value for name, value in document.items() if name != FIELD}
    made = key.sign(signature.pre_authentication(PAYLOAD_TYPE, canonical(said)))
    return said | {FIELD: {"keyid": str(key.public.id), "sig": base64.b64encode(made).decode()}}


def envelope(document: Mapping[str, Any]) -> bytes:
    """Return a kept receipt as a DSSE envelope.

    Raises:
        RefusedError: WH-CAT-090, it is not signed.
    """
    signed = document.get(FIELD)
    if not isinstance(signed, dict):
        raise RefusedError(
            f"the receipt of run {document.get('run_id')} is not signed",
            code=NOT_SIGNED,
            hint="runs of earlier versions signed none; the log of the run says why another one did not",
        )
    payload = canonical({name: value for name, value in document.items() if name != FIELD})
    return canonical(
        {"payload": base64.b64encode(payload).decode(), "payloadType": PAYLOAD_TYPE, "signatures": [signed]}
    )


def verify(content: bytes, key: PublicKey) -> tuple[dict[str, Any], KeyId]:
    """Return what an envelope says, and the id of ``key``, which signed it.

    Raises:
        RefusedError: it is no envelope (WH-CAT-093), or a bit of it was changed or another key signed it (WH-CAT-091).
    """
    try:
        kind, payload, signatures = signature.opened(content)
    except ValueError as exc:
        raise RefusedError(
            f"the receipt is damaged, or none: {exc}",
            code=BAD_RECEIPT,
            hint="ask the host that ran it for `wellhead receipt show RUN --json`, and keep that as it comes",
        ) from exc
    signed = signature.pre_authentication(kind, payload)
    if kind != PAYLOAD_TYPE or not any(key.verifies(made, signed) for made in signatures):
        raise RefusedError(
            f"the receipt does not hold what {key.id} signed: its payload, type or signature was changed",
            code=CHANGED,
            hint="ask the host that ran it for `wellhead receipt show RUN --json`, or name its key with --key",
        )
    return parsed(payload, "the receipt"), key.id


def require_same(said: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    """Refuse a receipt that says other things than the registry.

    Args:
        said: the verified receipt.
        known: field → what the registry's columns say of it.

    Raises:
        RefusedError: WH-CAT-092, naming every field and both values.
    """
    other = {
        name: f"{name}: signed {said.get(name)!r}, registry {value!r}"
        for name, value in known.items()
        if said.get(name) != value
    }
    if other:
        raise RefusedError(
            f"the receipt of run {said.get('run_id')} and the registry disagree on {', '.join(other)}",
            code=OTHER_RUN,
            hint="what the host signed is what happened; find out who can write to the registry",
            details=tuple(other.values()),
        )
