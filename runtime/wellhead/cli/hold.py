"""``wellhead hold``: the versions that a rollback fixed."""

from __future__ import annotations

import typer

from wellhead.cli import output
from wellhead.cli.options import Config, Connection, Json

app = typer.Typer(no_args_is_help=True, help="Holds: versions that a rollback fixed.")


@app.command("list")
def list_holds(config: Config = None, as_json: Json = False) -> None:
    """List every connection that is held."""
    from wellhead import app as services
    from wellhead.registry import connections

    with services.opened(config) as host, host.database.read() as tx:
        held = [row for row in connections.all_of(tx) if row.hold is not None]
    if as_json:
        output.print_json([{"connection": str(row.connection), "hold": output.plain(row.hold)} for row in held])
        return
    output.print_table(
        "",
        ("connection", "version", "who", "since", "until", "reason"),
        [
            (
                row.connection.name,
                row.hold.version,
                row.hold.who,
                output.moment(row.hold.since),
                output.moment(row.hold.until) or "released",
                row.hold.reason,
            )
            for row in held
            if row.hold is not None
        ],
        empty="Nothing is held.",
    )


@app.command()
def release(connection: Connection, config: Config = None) -> None:
    """Let range and channel decide again."""
    from wellhead import app as services
    from wellhead.connections import key_of
    from wellhead.registry import connections

    with services.opened(config) as host, host.database.transaction() as tx:
        hold = connections.release_hold(tx, key_of(host.settings, connection))
    output.console().print(f"{connection} is no longer held at {hold.version}", markup=False)
