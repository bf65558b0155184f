"""``wellhead prefetch``: fetch what runs will need while the registry is there."""

from __future__ import annotations

import os
from typing import Annotated, Any

import typer

from wellhead.cli import output
from wellhead.cli.options import Config, Json
from wellhead.errors import Code, UsageError

WHICH = Code("WH-CLI-090", "It is not clear what should be fetched.")


def prefetch(
    names: Annotated[list[str] | None, typer.Argument(metavar="[CONNECTION...]", help="Connections.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Every enabled connection of the project.")] = False,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Fetch the release each connection would get now, with its signatures, and verify it down to every layer."""
    from wellhead import app as services
    from wellhead import connections
    from wellhead.catalog import verify
    from wellhead.ids import ConnectorId, Digest
    from wellhead.images import naming, store
    from wellhead.lifecycle.resolution import choose

    if bool(names) == every:
        raise UsageError("name connections, or give --all", code=WHICH, hint="wellhead prefetch --all")
    rows: list[dict[str, Any]] = []
    done: set[Digest] = set()
    with services.opened(config) as app:
        host = app.host()
        if every:
            files = [file for file in connections.load_all(app.settings, os.environ) if file.connection.enabled]
        else:
            files = [connections.load(app.settings, name, os.environ) for name in names or ()]
        for file in files:
            chosen = choose(host, file, host.platform).require()
            connector = ConnectorId(file.connection.connector)
            moved = 0
            is_done = chosen.digest in done
            if app.remote is not None and not is_done:
                # Also where the release is here already: what is said about it may be newer there.
                release = naming.name_of(connector, chosen.version)
                replaces = not verify.is_newer(
                    app.layout, app.remote, connector, chosen.version, chosen.digest, app.trust
                )
                moved = store.copy_index(
                    app.remote, app.layout, connector, chosen.digest, release, replaces=replaces, done=done
                ).bytes
            if not is_done:
                verified = verify.verify_release(app.layout, chosen.digest, connector, chosen.version, app.trust)
                verify.verify_layers(app.layout, verified)
                done.add(chosen.digest)
            rows.append(
                {
                    "connection": file.connection.name,
                    "connector": connector,
                    "version": chosen.version,
                    "digest": chosen.digest,
                    "fetched_bytes": moved,
                }
            )
    if as_json:
        output.print_json(rows)
        return
    output.print_table(
        "",
        ("connection", "connector", "version", "fetched"),
        [(row["connection"], row["connector"], row["version"], f"{row['fetched_bytes'] / 1e6:.1f} MB") for row in rows],
        empty="No connection is enabled.",
    )
