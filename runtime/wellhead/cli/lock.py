"""``wellhead lock``: write down what every connection gets, and find out when that is no longer so."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from wellhead.cli import output
from wellhead.cli.options import Config, Json
from wellhead.errors import ConfigurationError


def lock(
    check: Annotated[
        bool,
        typer.Option("--check", help="Write nothing; end with 78 where lock, database, store and connections differ."),
    ] = False,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Write wellhead.lock: the release of every enabled connection, with the digests of all its platforms."""
    from wellhead import app as services
    from wellhead import connections
    from wellhead.errors import counted
    from wellhead.lifecycle import lock as lifecycle

    with services.opened(config) as app:
        file = app.settings.path(lifecycle.FILE)
        files = connections.load_all(app.settings, os.environ)
        if not files and _names_connections(file):
            # That a folder is missing does not say that its connections are none any more.
            files = connections.load_all(app.settings, os.environ, must_be_there=True)
        found = (lifecycle.check if check else lifecycle.write)(app.host(), files, file)
    if as_json:
        output.print_json(found.model_dump(mode="json"))
        return
    releases = sum(map(len, found.connectors.values()))
    told = f"{counted(len(found.connections), 'connection')}, {counted(releases, 'release')}"
    output.console().print(f"{lifecycle.FILE}: {told}{', all as locked' if check else ''}", markup=False)


def _names_connections(file: Path) -> bool:
    from wellhead.catalog import lock as locks

    try:
        return file.exists() and bool(locks.read(file).connections)
    except ConfigurationError:
        # What cannot be read may name some.
        return True
