"""``wellhead alerts``: what a person should judge."""

from __future__ import annotations

from typing import Annotated

import typer

from wellhead.cli import output
from wellhead.cli.options import Config, Json

#: The registry counts no further.
_HIGHEST = 2**63 - 1

app = typer.Typer(no_args_is_help=True, help="What a person should judge: drift, violations, halted rollouts.")


@app.command("list")
def list_alerts(
    connection: Annotated[
        str | None, typer.Argument(metavar="[CONNECTION]", help="Only what concerns this connection.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Those that were acknowledged, too.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many, newest first.")] = 50,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """List what nobody has acknowledged yet, newest first."""
    from wellhead import app as services
    from wellhead.connections import key_of
    from wellhead.registry import alerts

    with services.opened(config) as host, host.database.read() as tx:
        key = None if connection is None else key_of(host.settings, connection)
        found = alerts.latest(tx, connection=key, only_open=not every, limit=limit)
    if as_json:
        output.print_json([output.plain(one) for one in found])
        return
    output.print_table(
        "",
        ("number", "raised", "severity", "kind", "message", "acknowledged"),
        [
            (
                one.number,
                output.moment(one.raised_at),
                one.alert.severity,
                one.alert.kind,
                one.alert.message,
                one.acknowledged_by,
            )
            for one in found
        ],
        empty="Nothing waits for a person.",
    )


@app.command()
def acknowledge(
    numbers: Annotated[
        list[int], typer.Argument(metavar="NUMBER…", min=1, max=_HIGHEST, help="As `alerts list` prints them.")
    ],
    config: Config = None,
) -> None:
    """Say that you have judged alerts; they stay, with your name."""
    from wellhead import app as services
    from wellhead.registry import alerts

    with services.opened(config) as host, host.database.transaction() as tx:
        for number in numbers:
            alerts.acknowledge(tx, number, output.who())
    output.console().print(f"acknowledged {', '.join(map(str, numbers))}", markup=False)
