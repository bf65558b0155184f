"""``wellhead channel``: which releases are on offer, to whom, and since when."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wellhead.cli import options, output
from wellhead.cli.options import Config, Json
from wellhead.errors import Code, UsageError

if TYPE_CHECKING:
    from wellhead.catalog.channels import Guard, Rollout

NOTHING_TO_WATCH = Code("WH-CLI-107", "A rollout was asked for of what everybody gets at once.")
BAD_GUARD = Code("WH-CLI-100", "A guard of a rollout cannot be understood.")

app = typer.Typer(no_args_is_help=True, help="Which releases a channel offers, and to whom.")

Connector = Annotated[str, typer.Argument(metavar="NAMESPACE/NAME", help="Connector, as `catalog list` names it.")]
Version = Annotated[str, typer.Argument(help="Which release.")]
Channel = Annotated[str, typer.Option("--channel", "--to", help="Which channel.")]
Why = Annotated[str, typer.Option("--reason", help="Why; kept with the channel.")]


@app.command("list")
def list_channels(connector: Connector, config: Config = None, as_json: Json = False) -> None:
    """List what each channel of a connector offers now, and to what share of its connections."""
    from wellhead import app as services
    from wellhead.catalog import channels as offered
    from wellhead.ids import ConnectorId
    from wellhead.lifecycle.rollout import pointers
    from wellhead.registry import channels

    with services.opened(config) as host:
        with host.database.read() as tx:
            history = channels.history(tx, ConnectorId(connector))
        now = host.clock.now()
    rows: list[dict[str, Any]] = []
    for name in sorted({row.channel for row in history}):
        own = [row for row in history if row.channel == name]
        since = {row.version: row for row in own}
        rows += [
            {
                "channel": name,
                "version": version,
                "percent": share,
                "since": since[version].at.isoformat(),
                "who": since[version].who,
                "reason": since[version].reason,
            }
            for version, share in offered.offers(pointers(own), now).items()
        ]
    if as_json:
        output.print_json(rows)
        return
    output.print_table(
        "",
        ("channel", "version", "offered to", "since", "by", "reason"),
        [
            (row["channel"], row["version"], f"{row['percent']:g} %", row["since"][:19], row["who"], row["reason"])
            for row in rows
        ],
        empty=f"No channel offers a release of {connector}. `wellhead publish DIR` publishes one.",
    )


@app.command()
def promote(
    connector: Connector,
    version: Version,
    channel: Channel = "stable",
    percent: Annotated[float, typer.Option(min=0.01, max=100, help="Share of the connections that get it now.")] = 100,
    step: Annotated[float, typer.Option(min=0, max=100, help="By how much the share grows, in percent.")] = 0,
    every: Annotated[str, typer.Option(metavar="DURATION", help="How often it grows: 90s, 30m, 2h, 1d.")] = "1h",
    guard: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="How much worse than the other versions it may be before it is halted, as a share: failures, "
            "dead_letters, zero_rows; and min_runs, before which nothing is judged.",
        ),
    ] = None,
    reason: Why = "promoted by hand",
    config: Config = None,
) -> None:
    """Offer a release in a channel: the same bytes, to everybody or to a share that grows."""
    from wellhead import app as services
    from wellhead.ids import ConnectorId
    from wellhead.lifecycle import rollout

    options.new_channel(channel)
    plan = _rollout(percent, step, options.seconds(every), guard or [])
    with services.opened(config) as host:
        order = rollout.Order(ConnectorId(connector), version, channel, output.who(), reason, plan)
        rollout.promote(host.database, host.clock, order)
    to_whom = "everybody" if plan is None else f"{percent:g} % of its connections"
    grows = "" if plan is None or not step else f", {step:g} % more every {every}"
    output.console().print(f"{connector} {version}: channel {channel} offers it to {to_whom}{grows}", markup=False)


@app.command()
def halt(
    connector: Connector,
    version: Version,
    channel: Channel = "stable",
    reason: Why = "halted by hand",
    config: Config = None,
) -> None:
    """Take a release out of a channel; who got it goes back to what was on offer before."""
    from wellhead import app as services
    from wellhead.ids import ConnectorId
    from wellhead.lifecycle import rollout

    with services.opened(config) as host:
        rollout.halt(host.database, host.clock, ConnectorId(connector), version, channel, output.who(), reason)
    output.console().print(f"{connector} {version}: channel {channel} no longer offers it", markup=False)


def _rollout(percent: float, step: float, every_s: float, guards: list[str]) -> Rollout | None:
    from wellhead.catalog.channels import EVERYBODY, Rollout

    if percent >= EVERYBODY:
        if guards or step:
            raise UsageError(
                "a guard watches, and a step widens, what only a share is offered",
                code=NOTHING_TO_WATCH,
                hint="add --percent, such as --percent 10; or leave --guard and --step out",
            )
        return None
    return Rollout(percent, step, every_s, _guard(guards))


def _guard(said: list[str]) -> Guard:
    from dataclasses import fields, replace

    from wellhead.catalog.channels import Guard

    guard = Guard()
    names = {field.name for field in fields(Guard)}
    for item in said:
        name, _, value = item.partition("=")
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        # NaN keeps no bound, and a share above 1 is none: with either nothing would ever be halted.
        is_meant = 0 <= number < math.inf and number.is_integer() if name == "min_runs" else 0 <= number <= 1
        if name not in names or not is_meant:
            raise UsageError(
                f"--guard {item!r} cannot be understood",
                code=BAD_GUARD,
                hint="write failures, dead_letters or zero_rows with a share from 0 to 1, such as failures=0.05, or "
                "min_runs with a whole number",
            )
        values: dict[str, Any] = {name: int(number) if name == "min_runs" else number}
        guard = replace(guard, **values)
    return guard
