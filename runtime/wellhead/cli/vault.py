"""``wellhead vault``: the host's login to the secret store, and what its administrator must create."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from wellhead import connections, settings
from wellhead.cli import output
from wellhead.clock import SystemClock
from wellhead.errors import Code, ConfigurationError
from wellhead.secrets import policies
from wellhead.secrets.base import Reference

NO_VAULT = Code("WH-CLI-030", "wellhead.yaml has no vault section.")

app = typer.Typer(no_args_is_help=True, help="Log in to Vault, and print what it must allow.")

Config = Annotated[Path | None, typer.Option("--config", help="wellhead.yaml; default: the nearest one above here.")]


@app.command()
def login(
    wrapped: Annotated[str, typer.Option("--wrapped", help="Wrapping token; '-' reads it from standard input.")],
    config: Config = None,
) -> None:
    """Unwrap a secret id once, keep it with mode 0600, and log in with it."""
    from wellhead.secrets import vault  # hvac costs 0.2 s that `wellhead --help` need not pay

    loaded, section = _load(config)
    token = sys.stdin.readline().strip() if wrapped == "-" else wrapped
    file = vault.VaultStore(section, loaded.root, SystemClock()).login_wrapped(token)
    output.console().print(f"logged in to {section.address}; the secret id is kept in {file}", markup=False)


@app.command()
def policy(
    connection: Annotated[str, typer.Argument(help="Name of the connection.")],
    config: Config = None,
) -> None:
    """Print the policies, the token role and the database roles an administrator must create."""
    loaded, section = _load(config)
    found = connections.load(loaded, connection, os.environ)
    references = [Reference.parse(text) for text in found.connection.secrets.values()]
    schema = found.connection.config.get("schema", "public")
    sys.stdout.write(policies.instructions(section, found.key, references, str(schema)))


def _load(config: Path | None) -> tuple[settings.Settings, settings.VaultSettings]:
    loaded = settings.load(config or settings.find(Path.cwd()))
    if loaded.vault is None:
        raise ConfigurationError(
            f"{loaded.root / settings.FILE_NAME} has no vault section",
            code=NO_VAULT,
            hint="add vault: {address: https://HOST:8200, approle: {role_id: …}}",
        )
    return loaded, loaded.vault
