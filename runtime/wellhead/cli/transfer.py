"""``wellhead catalog export`` and ``import``, and ``wellhead mirror``: releases on their way to other places."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wellhead.cli import output
from wellhead.cli.options import Config, Json
from wellhead.errors import counted

File = Annotated[Path, typer.Argument(metavar="FILE", help="One tar, an OCI layout.")]


def export(
    file: File,
    connectors: Annotated[
        list[str] | None, typer.Argument(metavar="[NAMESPACE/NAME[@VERSION]...]", help="Default: every release.")
    ] = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Write releases, their signatures, public keys and records into one file, byte for byte."""
    from wellhead import app as services
    from wellhead.lifecycle import transfer

    with services.opened(config) as app:
        host = app.host()
        releases = transfer.wanted(host, connectors or ())
        keys = app.trusted_keys({release.connector_id for release in releases})
        done = transfer.export(host, releases, keys, file)
    if as_json:
        rows = [{"connector": connector, "version": version} for connector, version in done.releases]
        output.print_json({"file": str(file), "bytes": done.size, "releases": rows})
        return
    output.console().print(f"{file}: {counted(len(done.releases), 'release')}, {done.size / 1e6:.1f} MB", markup=False)
    for connector, version in done.releases:
        output.console().print(f"  {connector} {version}", markup=False)


def import_(
    file: File,
    into_engine: Annotated[
        bool, typer.Option("--engine", help="Load the images into the Docker Engine and keep no layers in the store.")
    ] = False,
    move_channels: Annotated[
        bool, typer.Option("--move-channels", help="Move channels that point elsewhere here, too.")
    ] = False,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Take in releases from one file; their signatures must be of keys that trust.yaml names here."""
    from wellhead import app as services
    from wellhead.lifecycle import transfer

    with services.opened(config) as app:
        taken = transfer.take_in(
            app.host(), file, who=output.who(), into_engine=into_engine, move_channels=move_channels
        )
    if as_json:
        output.print_json(output.plain(taken))
        return
    for item in taken:
        state = "imported" if item.is_new else "known"
        pointed = f"; channels {', '.join(item.channels)} point to it" if item.channels else ""
        line = f"{item.connector} {item.version} {state}: signed by {', '.join(item.key_ids)}{pointed}"
        output.console().print(line, markup=False)


def mirror(
    source: Annotated[str, typer.Argument(metavar="FROM", help="A folder, a registry's https://…, or a name below.")],
    target: Annotated[str, typer.Argument(metavar="TO", help="As FROM; `store` is the project's own store.")],
    connectors: Annotated[
        list[str] | None, typer.Argument(metavar="[NAMESPACE/NAME...]", help="Default: every connector of FROM.")
    ] = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Copy releases with everything said about them from one store to another, byte for byte.

    Stores that need a password have a name under `mirrors` in wellhead.yaml. A copy is as trustworthy as its source:
    signatures are checked when a release is imported, prefetched or run. A signature in TO stays where it is the later
    one and counts by this project's trust.yaml.
    """
    from wellhead import app as services
    from wellhead.catalog import verify
    from wellhead.ids import ConnectorId, Digest
    from wellhead.images import naming, store

    rows = []
    done: dict[ConnectorId, set[Digest]] = {}
    with services.opened(config) as app:
        here, there = app.store_of(source), app.store_of(target, make=True)
        wanted = [store.releases(here, ConnectorId(name)) for name in connectors or ()] or [store.releases(here)]
        for connector, version in [pair for pairs in wanted for pair in pairs]:
            found = here.named(naming.name_of(connector, version))
            is_newer = found is not None and verify.is_newer(there, here, connector, version, found.digest, app.trust)
            # Of each connector its own: a registry keeps what one has from the others.
            known = done.setdefault(connector, set())
            copied = store.copy_release(here, there, connector, version, replaces=not is_newer, done=known)
            rows.append(
                {"connector": connector, "version": version, "names": len(copied.names), "moved_bytes": copied.bytes}
            )
        told = f"{here.where} to {there.where}"
    if as_json:
        output.print_json(rows)
        return
    output.print_table(
        told,
        ("connector", "version", "names", "moved"),
        [(r["connector"], r["version"], r["names"], f"{int(str(r['moved_bytes'])) / 1e6:.1f} MB") for r in rows],
        empty=f"Nothing of that name is in {source}.",
    )
