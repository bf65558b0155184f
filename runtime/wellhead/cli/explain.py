"""``wellhead explain``: why this release and no other."""

from __future__ import annotations

import os

from wellhead.cli import output
from wellhead.cli.options import Config, Connection, Json


def explain(connection: Connection, config: Config = None, as_json: Json = False) -> None:
    """Say which release a connection would get now, and why each other one was not chosen."""
    from wellhead import app as services
    from wellhead import connections
    from wellhead.errors import ConfigurationError
    from wellhead.lifecycle import standing
    from wellhead.lifecycle.configuration import configured
    from wellhead.lifecycle.resolution import choose
    from wellhead.manifest import load
    from wellhead.registry import definitions

    with services.opened(config) as app:
        file = connections.load(app.settings, connection, os.environ)
        host = app.host()
        decision = choose(host, file, host.platform)
        warning, origin, misfit = None, None, None
        if decision.chosen is not None:
            with host.database.read() as tx:
                release = definitions.get(tx, decision.request.connector, decision.chosen.version)
            warning = standing.told(release)
            try:
                manifest = load.of_release(release.connector_id, release.version, release.manifest)
                origin = configured(host, file, manifest).origin
            except ConfigurationError as error:
                # Why this release was chosen is asked all the more where the connection cannot run on it.
                misfit = error
    if as_json:
        waiting = [{"version": item.version, "reason": item.reason} for item in decision.waiting]
        rest = {
            "waiting": waiting,
            "warning": warning,
            "config": None if origin is None else origin.document(),
            "cannot_run": None if misfit is None else misfit.message,
        }
        output.print_json({**decision.document(), **rest})
        return
    chosen = decision.require()
    by = {
        "pin": f"pinned to {decision.request.range}",
        "hold": f"held at {decision.request.held}",
        "channel": f"highest of {decision.request.range!r} in channel {decision.request.channel}",
    }[decision.rule]
    output.console().print(f"{file.connection.connector} {chosen.version}: {by}", markup=False)
    output.console().print(f"  {chosen.digest}", markup=False)
    if warning is not None:
        output.console().print(f"  {warning}", markup=False)
    for line in () if origin is None else origin.told():
        output.console().print(f"  {line}", markup=False)
    if misfit is not None:
        output.console().print(f"  cannot run: {misfit.message}", markup=False)
    for item in decision.waiting:
        output.console().print(f"  {item.version} waits: {item.reason}", markup=False)
    output.print_table(
        "",
        ("not chosen", "because"),
        [(item.version, item.reason) for item in decision.rejected],
        empty="No other release is known.",
    )
