"""``wellhead rollback``: go back to an earlier release and hold it, for one connection or a whole connector."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from wellhead.cli import output
from wellhead.cli.options import Config, Connection, Json

if TYPE_CHECKING:
    from wellhead.lifecycle import rollback

app = typer.Typer(no_args_is_help=True, help="Go back to an earlier release and hold it.")

To = Annotated[str | None, typer.Option("--to", metavar="VERSION", help="Default: the release before the current one.")]
Reason = Annotated[str, typer.Option(help="Why; shown wherever the hold is.")]
Until = Annotated[datetime | None, typer.Option(help="When the hold ends by itself; UTC where no zone is given.")]


@app.command("connection")
def one(
    connection: Connection,
    to: To = None,
    reason: Reason = "rolled back by hand",
    until: Until = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Hold one connection at an earlier release; nothing else moves."""
    from wellhead import app as services
    from wellhead import connections
    from wellhead.lifecycle import rollback

    with services.opened(config) as host:
        file = connections.load(host.settings, connection, os.environ)
        _tell([rollback.connection(host.host(), file, _order(reason, to, until))], as_json=as_json)


@app.command("connector")
def every(
    connector: Annotated[str, typer.Argument(metavar="NAMESPACE/NAME", help="Connector, as `catalog list` names it.")],
    to: To = None,
    reason: Reason = "rolled back by hand",
    until: Until = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Hold every connection of one connector at an earlier release, and take its channels back."""
    from wellhead import app as services
    from wellhead import connections
    from wellhead.ids import ConnectorId
    from wellhead.lifecycle import rollback

    with services.opened(config) as host:
        files = connections.load_all(host.settings, os.environ)
        order = _order(reason, to, until)
        _tell(rollback.connector(host.host(), ConnectorId(connector), files, order), as_json=as_json)


def _order(reason: str, to: str | None, until: datetime | None) -> rollback.Order:
    from wellhead.lifecycle import rollback

    return rollback.Order(
        output.who(), reason, to, None if until is None else until.replace(tzinfo=until.tzinfo or UTC)
    )


def _tell(backs: list[rollback.Back], *, as_json: bool) -> None:
    if as_json:
        output.print_json([output.plain(back) for back in backs])
        return
    for back in backs:
        name = back.connection.name
        output.console().print(f"{name}: {back.before or 'never run'} → {back.to}, held", markup=False)
    if not backs:
        output.console().print("No connection uses it; its channels were taken back.", markup=False)
    else:
        output.console().print("Let go with: wellhead hold release CONNECTION", markup=False)
