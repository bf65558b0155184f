from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from wellhead.cli import vault
from wellhead.errors import ConfigurationError


def _project(folder: Path, text: str) -> str:
    (folder / "connections").mkdir()
    (folder / "connections" / "flights.yaml").write_text(
        "name: flights\nconnector: wellhead/postgres\nconfig: {schema: sales}\n"
        "secrets: {password: 'vault-dyn://database/creds/ro#password'}\nstreams: [{name: sales.orders}]\n"
    )
    (folder / "wellhead.yaml").write_text(text)
    return str(folder / "wellhead.yaml")


def test_policy_prints_what_the_connection_needs(tmp_path: Path) -> None:
    config = _project(tmp_path, "vault: {address: 'https://vault.example:8200', token_file: token}\n")
    answer = CliRunner().invoke(vault.app, ["policy", "flights", "--config", config], catch_exceptions=False)
    assert answer.exit_code == 0
    assert "bao policy write wellhead-c-default.default.flights" in answer.stdout
    assert 'path "database/creds/ro"' in answer.stdout
    assert 'GRANT USAGE ON SCHEMA \\"sales\\"' in answer.stdout


def test_policy_says_what_a_project_without_vault_lacks(tmp_path: Path) -> None:
    config = _project(tmp_path, "environment: development\n")
    with pytest.raises(ConfigurationError) as caught:
        CliRunner().invoke(vault.app, ["policy", "flights", "--config", config], catch_exceptions=False)
    assert caught.value.code is vault.NO_VAULT
