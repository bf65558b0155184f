"""``wellhead catalog``: the releases we know, and whether what we hold of them is what was signed."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wellhead.cli import collect, output, sync, transfer
from wellhead.cli.options import Config, Json
from wellhead.errors import Code, ConfigurationError

if TYPE_CHECKING:
    from wellhead.lifecycle.standing import Standing

UNKNOWN_CONNECTOR = Code("WH-CLI-021", "No release of a connector is known.")

app = typer.Typer(no_args_is_help=True, help="The releases we know.")
app.command("export")(transfer.export)
app.command("import")(transfer.import_)
app.command("gc")(collect.gc)
app.command("sync")(sync.sync)

Connector = Annotated[str, typer.Argument(metavar="NAMESPACE/NAME", help="The connector.")]
Version = Annotated[str | None, typer.Argument(metavar="[VERSION]", help="Default: what channel stable points to.")]


@app.command("list")
def list_releases(
    connector: Annotated[
        str | None, typer.Argument(metavar="[NAMESPACE/NAME]", help="Only this connector's releases.")
    ] = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """List releases with the channels that point to them."""
    from wellhead import app as services
    from wellhead.ids import ConnectorId
    from wellhead.registry import channels, definitions

    with services.opened(config) as host, host.database.read() as tx:
        releases = definitions.all_of(tx, ConnectorId(connector) if connector else None)
        is_any = bool(releases or definitions.all_of(tx))
        pointers = {name: channels.current(tx, name) for name in {release.connector_id for release in releases}}
    rows: list[dict[str, Any]] = [
        {
            "connector": release.connector_id,
            "version": release.version,
            "status": release.status,
            "collected_at": None if release.collected_at is None else release.collected_at.isoformat(),
            "channels": sorted(
                name for name, at in pointers[release.connector_id].items() if at.version == release.version
            ),
            "digest": release.index_digest,
            "published_at": release.published_at.isoformat(),
        }
        for release in releases
    ]
    if as_json:
        output.print_json(rows)
        return
    output.print_table(
        "",
        ("connector", "version", "status", "channels", "digest", "published"),
        [
            (
                row["connector"],
                row["version"],
                row["status"] if row["collected_at"] is None else f"{row['status']}, collected",
                ", ".join(row["channels"]),
                row["digest"][:19],
                str(row["published_at"])[:19].replace("T", " ") + "Z",
            )
            for row in rows
        ],
        empty=f"No release of {connector} is published. `wellhead catalog list` shows what is."
        if connector and is_any
        else "Nothing is published. `wellhead publish DIR` publishes a connector.",
    )


@app.command()
def show(connector: Connector, version: Version = None, config: Config = None, as_json: Json = False) -> None:
    """Show one release: who signed it, what it may reach, what it needs, and how its channels moved."""
    from wellhead import app as services
    from wellhead.catalog import verify
    from wellhead.registry import catalog_events, channels

    with services.opened(config) as host:
        release = release_of(host, connector, version)
        verified = verify.verify_release(
            host.holding(release.connector_id, release.version, release.index_digest),
            release.index_digest,
            release.connector_id,
            release.version,
            host.trust,
        )
        with host.database.read() as tx:
            history = channels.history(tx, release.connector_id)
            events = catalog_events.all_of(tx, release.connector_id)
    manifest = verified.manifest
    facts = {
        "connector": release.connector_id,
        "version": release.version,
        "title": manifest.metadata.title,
        "status": release.status,
        "status_reason": release.status_reason,
        "digest": release.index_digest,
        "manifest_sha256": release.manifest_sha256,
        "images": output.plain(dict(verified.images)),
        "signed_by": list(verified.key_ids),
        "published_at": release.published_at.isoformat(),
        "sync_modes": list(manifest.capabilities.sync_modes),
        "egress": [f"{entry.host}:{entry.port} ({entry.open})" for entry in manifest.network.egress],
        "secrets": sorted(manifest.secrets.slots),
        "classification": manifest.compliance.classification,
        "state": manifest.compatibility.state.model_dump(),
        "channels": [
            {
                "channel": item.channel,
                "version": item.version,
                "at": item.at.isoformat(),
                "who": item.who,
                "why": item.reason,
            }
            for item in history
        ],
        "events": output.plain(events),
    }
    if as_json:
        output.print_json(facts)
        return
    rows: list[tuple[str, Any]] = [
        (name, ", ".join(map(str, value)) if isinstance(value, list) else value)
        for name, value in facts.items()
        if name not in ("images", "channels", "events", "state") and value not in (None, [], "")
    ]
    rows += [(f"image {platform}", image.config) for platform, image in sorted(verified.images.items())]
    rows += [
        (f"channel {item.channel}", f"{item.version} since {output.moment(item.at)} by {item.who}") for item in history
    ]
    output.print_table("", ("", ""), rows, empty="")


Because = Annotated[str, typer.Option("--reason", help="Why; shown wherever the release is.")]
Instead = Annotated[
    str | None, typer.Option("--replaced-by", metavar="VERSION|NAMESPACE/NAME", help="What to use instead.")
]
LastDay = Annotated[datetime | None, typer.Option("--sunset", formats=["%Y-%m-%d"], help="Last day it should be run.")]
Named = Annotated[str, typer.Argument(help="Which release.")]


@app.command()
def deprecate(
    connector: Connector,
    version: Named,
    reason: Because,
    replaced_by: Instead = None,
    sunset: LastDay = None,
    config: Config = None,
) -> None:
    """Tell everybody who runs a release that it will end; it goes on running."""
    _declare(connector, version, "deprecated", reason, config, replaced_by, sunset)


@app.command()
def yank(
    connector: Connector, version: Named, reason: Because, replaced_by: Instead = None, config: Config = None
) -> None:
    """Give a release to nobody who does not run it or name it already."""
    _declare(connector, version, "yanked", reason, config, replaced_by)


@app.command()
def block(
    connector: Connector, version: Named, reason: Because, replaced_by: Instead = None, config: Config = None
) -> None:
    """Let a release run nowhere any more; whoever asks for it ends with exit code 76."""
    _declare(connector, version, "blocked", reason, config, replaced_by)


@app.command()
def restore(connector: Connector, version: Named, reason: Because = "restored by hand", config: Config = None) -> None:
    """Take deprecation, yank or block back."""
    _declare(connector, version, "active", reason, config)


def _declare(
    connector: str,
    version: str,
    standing: Standing,
    reason: str,
    config: Path | None,
    replaced_by: str | None = None,
    sunset: datetime | None = None,
) -> None:
    from wellhead import app as services
    from wellhead.ids import ConnectorId
    from wellhead.lifecycle import standing as lifecycle

    with services.opened(config) as host:
        order = lifecycle.Order(
            ConnectorId(connector),
            version,
            standing,
            output.who(),
            reason,
            replaced_by,
            None if sunset is None else sunset.date(),
        )
        concerned = lifecycle.declare(host.database, order, host.clock.now().date())
    output.console().print(f"{connector} {version} is {standing}", markup=False)
    for key in concerned:
        output.console().print(f"  {key.name} runs it", markup=False)


def release_of(host: Any, connector: str, version: str | None) -> Any:
    """Return the release of a version, else what channel stable points to, else the newest."""
    from wellhead.ids import ConnectorId
    from wellhead.registry import channels, definitions

    wanted = ConnectorId(connector)
    with host.database.read() as tx:
        if version is not None:
            found = definitions.get(tx, wanted, version)
            definitions.require_kept(found)
            return found
        known = [release for release in definitions.all_of(tx, wanted) if release.collected_at is None]
        stable = channels.current(tx, wanted).get("stable")
        if not known:
            raise ConfigurationError(
                f"no release of {connector} is known",
                code=UNKNOWN_CONNECTOR,
                hint="`wellhead catalog list` shows what is published",
            )
        return next((one for one in known if stable is not None and one.version == stable.version), known[-1])
