"""``wellhead init``: a working project."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from wellhead.cli import output
from wellhead.errors import Code, ConfigurationError, Place
from wellhead.settings import FILE_NAME

EXISTS = Code("WH-CLI-050", "There is a project here already.")
NOT_MADE = Code("WH-CLI-051", "A project cannot be made in a folder.")

_SETTINGS = """\
# yaml-language-server: $schema=.wellhead/schema/wellhead.json
# What the operator of this host decides. Every key is described by the schema above.
environment: development
tenant: default
project: default
connections: connections
trust: trust.yaml
registry: {url: "sqlite:///.wellhead/registry.db"}
secrets:
  # env://NAME and file:///PATH references; for production: store: vault, and the section below.
  store: local
# vault: {address: "https://vault.example:8200", token_file: .wellhead/vault-token}
"""

_EXAMPLE = """\
# yaml-language-server: $schema=../.wellhead/schema/connection.json
# Copy to NAME.yaml, or let `wellhead connection add` write one. Files ending in .example are not read.
name: orders
connector: wellhead/postgres
version: ^1
channel: stable
config: {host: db.example.com, database: shop, schema: public}
secrets:
  username: env://ORDERS_USER
  password: env://ORDERS_PASSWORD
streams:
  - {name: public.orders, mode: incremental, cursor_field: updated_at, primary_key: [id]}
sink: {type: parquet, path: bronze}
"""

_CERTIFIED = """\
name: certified
description: Tenants see certified connectors only.
when: [onboarding, run]
# Releases of the namespace dev/, and all releases in a development project, are for trying.
if: >-
  host.environment == "production"
  && manifest.support.level != "certified"
  && !manifest.metadata.id.startsWith("dev/")
effect: deny
message: the connector is not certified
mend: choose a certified connector, let its publisher have it certified, or change this policy
"""

_CERTIFIED_CASES = """\
cases:
  - {name: a certified connector, expect: pass}
  - {name: a private one, manifest: {support: {level: private}}, expect: deny}
  - {name: one by the community, manifest: {support: {level: community}}, expect: deny}
  - name: a development release
    manifest: {metadata: {id: dev/example}, support: {level: private}}
    expect: pass
  - name: a development project
    manifest: {support: {level: private}}
    host: {environment: development}
    expect: pass
"""

#: Namespace whose releases the development pair may sign.
NAMESPACE = "dev"


def init(
    folder: Annotated[Path, typer.Argument(metavar="[DIR]", help="Where; made if it is missing.")] = Path(),
) -> None:
    """Make a working project: settings, a development key that signs for dev/*, and a registry."""
    file = folder / FILE_NAME
    if file.exists():
        raise ConfigurationError(
            f"{file} exists already",
            code=EXISTS,
            hint="choose another folder, or go on with the project that is here",
            place=Place(str(file)),
        )
    try:
        key_id = _made(folder, file)
    except OSError as exc:
        raise ConfigurationError(
            f"cannot make a project in {folder}: {exc.strerror}",
            code=NOT_MADE,
            hint="name a folder, there or to be made, that you may write to",
            place=Place(str(exc.filename or folder)),
        ) from exc
    out = output.console()
    out.print(f"made a project in {folder.resolve()}", markup=False)
    out.print(f"  {FILE_NAME}, trust.yaml (key {key_id} signs for {NAMESPACE}/*), connections/", markup=False)
    out.print("  manifests/policies/certified.yaml (in production tenants see certified connectors only)", markup=False)
    out.print("next:", markup=False)
    out.print("  wellhead doctor                        is this machine ready?", markup=False)
    out.print("  wellhead publish CONNECTOR_FOLDER      build, check, sign, register", markup=False)
    out.print("  wellhead connection add NAME …         say what to read", markup=False)
    out.print("  wellhead run NAME", markup=False)


def _made(folder: Path, file: Path) -> str:
    """Make the project and return the id of its key; after an error `init` can be called again."""
    import json

    from wellhead.connections import Connection
    from wellhead.settings import Settings

    (folder / "connections").mkdir(parents=True, exist_ok=True)
    schemas = folder / ".wellhead" / "schema"
    schemas.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name, model in (("wellhead", Settings), ("connection", Connection)):
        (schemas / f"{name}.json").write_text(json.dumps(model.model_json_schema(), indent=2) + "\n", "utf-8")
    (folder / "connections" / "orders.yaml.example").write_text(_EXAMPLE, "utf-8")
    policies = folder / Settings.model_fields["policies"].default
    policies.mkdir(parents=True, exist_ok=True)
    for name, text in (("certified.yaml", _CERTIFIED), ("certified.test.yaml", _CERTIFIED_CASES)):
        if not (policies / name).exists():
            (policies / name).write_text(text, "utf-8")
    ignored = folder / ".gitignore"
    if not ignored.exists():
        ignored.write_text(".wellhead/\nbronze/\nbronze.staging/\n", "utf-8")
    try:
        file.write_text(_SETTINGS, "utf-8")
        return _equipped(file)
    except BaseException:
        # By it a project is known: without it the next `init` begins again.
        file.unlink(missing_ok=True)
        raise


def _equipped(file: Path) -> str:
    """Make registry, key and trust.yaml of the project whose settings are in ``file``; return the key's id."""
    from wellhead import app as services
    from wellhead.catalog import keys, trust

    with services.opened(file) as host:
        host.database.migrate()
        # It is there where a project was here before, or where making one was killed.
        there = host.keys_folder / f"{NAMESPACE}.key"
        pair = nullcontext(keys.load_private(there)) if there.exists() else keys.making(host.keys_folder, NAMESPACE)
        with pair as made:
            trusted = host.settings.path(host.settings.trust)
            trust.add(trusted, NAMESPACE, made.public, "development pair of this project")
        return made.public.id
