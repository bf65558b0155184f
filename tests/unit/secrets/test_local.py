from __future__ import annotations

from pathlib import Path

import pytest

from wellhead.clock import SystemClock
from wellhead.errors import ConfigurationError
from wellhead.ids import ConnectionKey, RunId
from wellhead.secrets import base, local
from wellhead.secrets.base import LendRequest, Reference


def _request(**references: str) -> LendRequest:
    parsed = {slot: Reference.parse(text) for slot, text in references.items()}
    return LendRequest(RunId("run"), ConnectionKey("acme", "data", "flights"), parsed)


def _store(**environment: str) -> local.LocalStore:
    return local.LocalStore(environment, SystemClock())


def _no_accessor(accessor: str) -> None:
    raise AssertionError(accessor)


def test_lends_variables_and_private_files_and_forgets_them(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("from-a-file\n")
    file.chmod(0o600)
    with _store(PG_USER="reader").lend(_request(user="env://PG_USER", password=f"file://{file}"), _no_accessor) as loan:
        assert {slot: secret.value for slot, secret in loan.secrets.items()} == {
            "user": "reader",
            "password": "from-a-file",
        }
        assert (loan.accessor, loan.leases, loan.renew_at, loan.rotate_at) == (None, (), None, None)
    assert not loan.secrets
    assert loan.revoked_at is not None


def test_reads_again_when_rotated(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.touch(mode=0o600)
    file.write_text("before")
    with _store().lend(_request(password=f"file://{file}"), _no_accessor) as loan:
        file.write_text("after")
        assert loan.rotate()["password"].value == "after"


def test_refuses_a_file_that_others_can_read(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("from-a-file")
    file.chmod(0o640)
    with (
        pytest.raises(ConfigurationError) as caught,
        _store().lend(_request(password=f"file://{file}"), _no_accessor),
    ):
        pass
    assert caught.value.code is local.EXPOSED


@pytest.mark.parametrize("reference", ["env://MISSING", "env://EMPTY", "file:///nowhere/at/all"])
def test_names_the_slot_of_a_missing_value(reference: str) -> None:
    with (
        pytest.raises(ConfigurationError, match="secret password") as caught,
        _store(EMPTY="").lend(_request(password=reference), _no_accessor),
    ):
        pass
    assert caught.value.code is local.UNREADABLE


def test_refuses_a_vault_reference() -> None:
    with (
        pytest.raises(ConfigurationError) as caught,
        _store().lend(_request(password="vault://kv/pg#password"), _no_accessor),
    ):
        pass
    assert caught.value.code is base.WRONG_STORE
