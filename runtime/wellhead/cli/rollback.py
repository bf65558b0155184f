"""``wellhead rollback``: go back to an earlier release: a connection, a tenant, a channel or a whole connector."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from wellhead.cli import options, output
from wellhead.cli.options import Config, Connection, Json
from wellhead.errors import counted

if TYPE_CHECKING:
    from wellhead.lifecycle import rollback

BY_HAND = "rolled back by hand"

app = typer.Typer(no_args_is_help=True, help="Go back to an earlier release and hold it.")

To = Annotated[str | None, typer.Option("--to", metavar="VERSION", help="Default: the release before the current one.")]
Reason = Annotated[str, typer.Option(help="Why; shown wherever the hold is.")]
Until = Annotated[datetime | None, typer.Option(help="When the hold ends by itself; UTC where no zone is given.")]


State = Annotated[
    Literal["keep", "restore"],
    typer.Option(help="Where the older release cannot read the state: refuse, or go back to a checkpoint it can read."),
]
Connector = Annotated[str, typer.Argument(metavar="NAMESPACE/NAME", help="Connector, as `catalog list` names it.")]


@app.command("connection")
def one(
    connection: Connection,
    to: To = None,
    reason: Reason = BY_HAND,
    until: Until = None,
    state: State = "keep",
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Hold one connection at an earlier release; nothing else moves."""
    from wellhead import app as services
    from wellhead import connections
    from wellhead.lifecycle import rollback

    with services.opened(config) as host:
        file = connections.load(host.settings, connection, os.environ)
        _tell([rollback.connection(host.host(), file, _order(reason, to, until, state))], as_json=as_json)


@app.command("tenant")
def tenants(
    tenant: Annotated[str, typer.Argument(help="Whose connections.")],
    connector: Connector,
    to: To = None,
    reason: Reason = BY_HAND,
    until: Until = None,
    state: State = "keep",
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Hold every connection a tenant has of one connector at an earlier release."""
    from wellhead import app as services
    from wellhead import connections
    from wellhead.ids import ConnectorId
    from wellhead.lifecycle import rollback

    with services.opened(config) as host:
        files = connections.load_all(host.settings, os.environ, must_be_there=True)
        order = _order(reason, to, until, state)
        _tell(rollback.tenant(host.host(), tenant, ConnectorId(connector), files, order), as_json=as_json)


@app.command("channel")
def channels(
    connector: Connector,
    channel: Annotated[str, typer.Argument(help="Which channel.")],
    to: To = None,
    reason: Reason = BY_HAND,
    state: State = "keep",
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Point a channel back to an earlier release; the connections that resolve within it follow, unheld."""
    from wellhead import app as services
    from wellhead import connections
    from wellhead.ids import ConnectorId
    from wellhead.lifecycle import rollback

    with services.opened(config) as host:
        files = connections.load_all(host.settings, os.environ, must_be_there=True)
        order = _order(reason, to, None, state)
        backs = rollback.channel(host.host(), ConnectorId(connector), channel, files, order)
        _tell(backs, as_json=as_json, held=False)


@app.command("connector")
def every(
    connector: Connector,
    to: To = None,
    reason: Reason = BY_HAND,
    until: Until = None,
    state: State = "keep",
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Hold every connection of one connector at an earlier release, and take its channels back."""
    from wellhead import app as services
    from wellhead import connections
    from wellhead.ids import ConnectorId
    from wellhead.lifecycle import rollback

    with services.opened(config) as host:
        files = connections.load_all(host.settings, os.environ, must_be_there=True)
        order = _order(reason, to, until, state)
        _tell(rollback.connector(host.host(), ConnectorId(connector), files, order), as_json=as_json)


def _order(reason: str, to: str | None, until: datetime | None, state: Literal["keep", "restore"]) -> rollback.Order:
    from wellhead.lifecycle import rollback

    options.require_said("--to", to)
    ends = None if until is None else until.replace(tzinfo=until.tzinfo or UTC)
    return rollback.Order(output.who(), reason, to, ends, state)


def _tell(backs: list[rollback.Back], *, as_json: bool, held: bool = True) -> None:
    if as_json:
        output.print_json([output.plain(back) for back in backs])
        return
    print_line = output.console().print
    for back in backs:
        name = back.connection.name
        print_line(f"{name}: {back.before or 'never run'} → {back.to}{', held' if held else ''}", markup=False)
        for line in back.config:
            print_line(f"  {line}", markup=False)
        for stream in back.restored:
            print_line(
                f"  {stream.stream.stream} goes on from its last checkpoint of version {stream.state_version} and "
                f"reads {counted(stream.rows_again, 'row')} again",
                markup=False,
            )
    if not backs:
        print_line("No connection uses it; its channels were taken back.", markup=False)
    elif held:
        print_line("Let go with: wellhead hold release CONNECTION", markup=False)
