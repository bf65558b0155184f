"""Receipts of runs: every bit is covered, only the host's key counts, and the registry must say the same."""

import base64
import json
import threading
from pathlib import Path
from typing import Any

import pytest
from securesystemslib.dsse import Envelope
from securesystemslib.signer import SSlibKey  # type: ignore[attr-defined]

from wellhead.catalog import keys, receipt
from wellhead.errors import RefusedError

DOCUMENT: dict[str, Any] = {"run_id": "r1", "status": "succeeded", "streams": [{"name": "a", "rows": 3}], "held": False}


@pytest.fixture
def host(tmp_path: Path) -> keys.PrivateKey:
    return keys.host_pair(tmp_path / "keys")


def test_a_receipt_is_what_its_host_signed(host: keys.PrivateKey) -> None:
    content = receipt.envelope(receipt.sign(DOCUMENT, host))
    assert receipt.verify(content, host.public) == (DOCUMENT, host.public.id)
    key = SSlibKey(str(host.public.id), "ed25519", "ed25519", {"public": host.public.raw.hex()})
    assert Envelope.from_dict(json.loads(content)).verify([key], 1)


def test_signing_again_gives_the_same_receipt(host: keys.PrivateKey) -> None:
    signed = receipt.sign(DOCUMENT, host)
    assert receipt.sign(signed, host) == signed
    assert json.loads(json.dumps(signed)) == signed


@pytest.mark.parametrize(
    ("field", "value"),
    [("status", "failed"), ("streams", []), ("run_id", "r2"), ("more", 1)],
)
def test_a_changed_field_is_refused(host: keys.PrivateKey, field: str, value: Any) -> None:
    changed = receipt.sign(DOCUMENT, host) | {field: value}
    with pytest.raises(RefusedError) as caught:
        receipt.verify(receipt.envelope(changed), host.public)
    assert (caught.value.code.name, caught.value.exit_code) == ("WH-CAT-091", 76)


def test_another_hosts_key_and_another_type_are_refused(host: keys.PrivateKey, tmp_path: Path) -> None:
    content = receipt.envelope(receipt.sign(DOCUMENT, host))
    other = keys.new_pair(tmp_path / "other", "host").public
    with pytest.raises(RefusedError) as caught:
        receipt.verify(content, other)
    assert caught.value.code.name == "WH-CAT-091"
    with pytest.raises(RefusedError):
        receipt.verify(content.replace(b"receipt.v1", b"release.v1"), host.public)


def test_a_release_signed_with_the_hosts_key_is_no_receipt(host: keys.PrivateKey) -> None:
    from wellhead.catalog import signature

    envelope = signature.envelope(signature.PAYLOAD_TYPE, b"{}", [host])
    with pytest.raises(RefusedError) as caught:
        receipt.verify(envelope, host.public)
    assert caught.value.code.name == "WH-CAT-091"


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"payload": "?", "payloadType": "x", "signatures": []}'])
def test_what_is_no_envelope_is_refused(host: keys.PrivateKey, content: bytes) -> None:
    with pytest.raises(RefusedError) as caught:
        receipt.verify(content, host.public)
    assert (caught.value.code.name, caught.value.exit_code) == ("WH-CAT-093", 76)
    assert "release" not in f"{caught.value.message} {caught.value.hint}"


def test_an_unsigned_receipt_is_refused(host: keys.PrivateKey) -> None:
    with pytest.raises(RefusedError) as caught:
        receipt.envelope(DOCUMENT)
    assert caught.value.code.name == "WH-CAT-090"


def test_every_field_the_registry_has_otherwise_is_named(host: keys.PrivateKey) -> None:
    receipt.require_same(DOCUMENT, {"status": "succeeded", "held": False})
    with pytest.raises(RefusedError) as caught:
        receipt.require_same(DOCUMENT, {"status": "failed", "held": False, "run_id": "r9"})
    assert caught.value.code.name == "WH-CAT-092"
    assert "status, run_id" in caught.value.message
    assert caught.value.details[0] == "status: signed 'succeeded', registry 'failed'"


def test_the_hosts_pair_is_made_once_by_many(tmp_path: Path) -> None:
    found: list[keys.PrivateKey] = []
    threads = [threading.Thread(target=lambda: found.append(keys.host_pair(tmp_path))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({pair.public for pair in found}) == 1
    assert len(found) == 8
    assert (tmp_path / "host.key").stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["host.key", "host.pub"]


def test_a_payload_is_read_only_once_it_is_verified(host: keys.PrivateKey) -> None:
    evil = {"payload": base64.b64encode(b"\xff").decode(), "payloadType": receipt.PAYLOAD_TYPE, "signatures": []}
    with pytest.raises(RefusedError) as caught:
        receipt.verify(json.dumps(evil).encode(), host.public)
    assert caught.value.code.name == "WH-CAT-091"
