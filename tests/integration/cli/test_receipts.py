"""`wellhead receipt verify`, where the key or the receipt is not what it should be: each is told as what it is."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from tests.project import Project, Warm
from wellhead.catalog import keys, receipt

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project that ran nothing; nobody changes it."""
    made = Warm(tmp_path_factory.mktemp("project"))
    made.must("init")
    return made


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of another host's keys."""
    folder = tmp_path_factory.mktemp("host") / "keys"
    keys.host_pair(folder)
    return folder


@pytest.fixture
def file(host: Path, tmp_path: Path) -> Path:
    """A receipt the other host signed."""
    signed = receipt.sign({"run_id": "r1", "status": "succeeded"}, keys.host_pair(host))
    (tmp_path / "receipt.json").write_bytes(receipt.envelope(signed))
    return tmp_path / "receipt.json"


def test_a_receipt_of_another_host_is_verified_with_its_key(project: Project, host: Path, file: Path) -> None:
    assert (
        "the registry here does not know the run"
        in project.must("receipt", "verify", file, "--key", host / "host.pub").stdout
    )


def test_where_nothing_ran_the_key_of_another_host_is_asked_for(project: Project, file: Path) -> None:
    refused = project.call("receipt", "verify", file)
    assert (refused.exit_code, refused.stderr.split()[0]) == (78, "WH-CLI-025")
    assert ("--key" in refused.stderr, "keys new" in refused.stderr, "PEM" in refused.stderr) == (True, False, False)


def test_a_key_that_is_not_there_is_told_from_one_that_is_none(project: Project, file: Path) -> None:
    refused = project.call("receipt", "verify", file, "--key", "nosuch.pub")
    assert (refused.exit_code, refused.stderr.split()[0]) == (78, "WH-CAT-001")
    assert "nosuch.pub cannot be read: No such file" in refused.stderr
    refused = project.call("receipt", "verify", file, "--key", file)
    assert (refused.exit_code, refused.stderr.split()[0]) == (78, "WH-CAT-001")
    assert "receipt.json is no public Ed25519 key in PEM form" in refused.stderr


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff", b"{}", b'{"payload": "?", "payloadType": "x", "signatures": []}']
)
def test_a_damaged_receipt_is_told_to_be_one(project: Project, host: Path, file: Path, content: bytes) -> None:
    file.write_bytes(content)
    refused = project.call("receipt", "verify", file, "--key", host / "host.pub")
    assert (refused.exit_code, refused.stderr.split()[0]) == (76, "WH-CAT-093")
    assert ("receipt show RUN --json" in refused.stderr, "release" in refused.stderr) == (True, False)


def test_a_receipt_that_was_changed_is_told_to_be_changed(project: Project, host: Path, file: Path) -> None:
    envelope = json.loads(file.read_bytes())
    envelope["payload"] = base64.b64encode(b'{"run_id":"r1","status":"failed"}').decode()
    file.write_text(json.dumps(envelope))
    refused = project.call("receipt", "verify", file, "--key", host / "host.pub")
    assert (refused.exit_code, refused.stderr.split()[0]) == (76, "WH-CAT-091")


def test_a_receipt_that_cannot_be_read_is_told_to_be_unreadable(project: Project, host: Path, tmp_path: Path) -> None:
    refused = project.call("receipt", "verify", tmp_path, "--key", host / "host.pub")
    assert (refused.exit_code, refused.stderr.split()[0]) == (78, "WH-CLI-026")
