"""``wellhead catalog gc``: collect the releases to which nothing refers."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wellhead.cli import options, output
from wellhead.cli.options import Config, Json
from wellhead.errors import Code, UsageError, counted

if TYPE_CHECKING:
    from wellhead.lifecycle.collect import Done, Judged

OTHERS_MAY_USE = Code("WH-CLI-130", "Releases would be deleted in a registry that others may use.")


def gc(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Change nothing; say what stays, and why.")] = False,
    keep: Annotated[
        int,
        typer.Option(min=1, help="How many of a connector's newest releases stay, and how far a channel can go back."),
    ] = 3,
    older_than: Annotated[
        str, typer.Option(metavar="DURATION", help="What was published since then stays: 90s, 30m, 2h, 1d.")
    ] = "30d",
    from_registry: Annotated[
        bool,
        typer.Option(
            "--from-registry", help="Delete in the registry, too; only where no other database's projects use it."
        ),
    ] = False,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Remove the releases to which nothing refers, with their signatures, and what publishers that died left behind.

    A release stays that a channel offers or would go back to, that is being rolled out, that a connection runs, is held
    or pinned at or may get, that a run is at work with, that wellhead.lock names, that another release names as its
    successor, or that alone reads a state that is stored. Of other projects in the same database only what stands there
    is seen: not their lock, nor connections that never ran. Receipts refer to nothing. The row of a release stays: it
    can be published or imported again with the same bytes, and with no others.

    A store that is a registry may serve others, whose references stand in databases of their own: it is collected from
    with --from-registry alone. It deletes manifests, where it allows that, and frees the space by its own collection.
    Images in Docker go with `wellhead clean --images`.
    """
    from wellhead import app as services
    from wellhead import connections
    from wellhead.catalog.garbage import Limits
    from wellhead.lifecycle import collect

    limits = Limits(keep, timedelta(seconds=options.seconds(older_than)))
    with services.opened(config) as app:
        if app.remote is not None and not dry_run and not from_registry:
            raise UsageError(
                f"the store is the registry {app.remote.where}, which others may use",
                code=OTHERS_MAY_USE,
                hint="add --from-registry if all projects that use it share this database; --dry-run changes nothing",
            )
        host = app.host()
        here = collect.project(host, connections.load_all(app.settings, os.environ, must_be_there=True))
        if dry_run:
            judged = collect.survey(host, here, limits)
            done = collect.Done(
                [one.release for one in judged if not one.reasons], [one for one in judged if one.reasons]
            )
        else:
            done = collect.collect(host, here, limits, output.who())
    if as_json:
        output.print_json(_document(done, dry_run))
    else:
        _tell(done, dry_run)


def _document(done: Done, dry_run: bool) -> dict[str, Any]:
    return {
        "dry_run": dry_run,
        "collected": [
            {"connector": row.connector_id, "version": row.version, "digest": row.index_digest}
            for row in done.collected
        ],
        "kept": [
            {
                "connector": one.release.connector_id,
                "version": one.release.version,
                "because": output.plain(list(one.reasons)),
            }
            for one in done.kept
        ],
        "left_in_registry": done.left,
        "files_removed": done.swept.files,
        "bytes_removed": done.swept.bytes,
    }


def _tell(done: Done, dry_run: bool) -> None:
    output.print_table(
        "",
        ("connector", "version", "would be" if dry_run else "", "because"),
        [
            *((row.connector_id, row.version, "collected", "nothing refers to it") for row in done.collected),
            *((one.release.connector_id, one.release.version, "kept", _because(one)) for one in done.kept),
        ],
        empty="No release has files that could be collected.",
    )
    if dry_run:
        return
    out = output.console()
    for name, why in done.left.items():
        out.print(f"{name} is still in the registry: {why}", markup=False)
    files = counted(done.swept.files, "file")
    out.print(
        f"collected {counted(len(done.collected), 'release')}; removed {files}, {done.swept.bytes / 1e6:.1f} MB",
        markup=False,
    )


def _because(judged: Judged) -> str:
    return "; ".join(reason.said for reason in judged.reasons)
