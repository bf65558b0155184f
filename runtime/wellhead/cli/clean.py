"""``wellhead clean``: remove what runs left on this machine."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from wellhead.cli import output
from wellhead.cli.options import Config, Json
from wellhead.errors import Code, ConfigurationError, counted

if TYPE_CHECKING:
    from wellhead.app import App
    from wellhead.connections import ConnectionFile
    from wellhead.engine.reaper import Reaped

STILL_RUNNING = Code("WH-CLI-060", "Something runs that cleaning would end.")
LEFT = Code("WH-CLI-061", "Something could not be removed.")


def clean(
    force: Annotated[
        bool, typer.Option("--force", help="Everything of Wellhead, other projects' and running too.")
    ] = False,
    images: Annotated[
        bool, typer.Option("--images", help="Images, too, of this project's releases that nothing refers to.")
    ] = False,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Remove what dead runs left on this machine, and revoke what they borrowed; states, tables and releases stay.

    The outbound network and the gateway's image go as well, once nothing of any project is left that uses them.

    With --images, the image of a release goes that was collected or that nothing refers to, as `catalog gc --dry-run`
    has it: a run that needs it again loads it from the store. One that a container was made from stays, running or not,
    and one whose layers are in Docker alone, after `catalog import --engine`. Images of other projects stay; where one
    has the same release, its next run loads it from its own store.
    """
    from wellhead import app as services
    from wellhead import connections
    from wellhead.engine import folders, reaper
    from wellhead.ids import RunId
    from wellhead.lifecycle import scratch
    from wellhead.registry import revocations, runs

    with services.opened(config) as host:
        # Read before anything is removed: a folder that is missing must not count as connections that need nothing.
        files = connections.load_all(host.settings, os.environ, must_be_there=True) if images else []
        with host.database.read() as tx:
            known = {run.run_id: run for run in runs.latest(tx, limit=1_000_000)}
            pending = revocations.all_of(tx)
        silent_s = host.settings.lease.ttl_s
        now = host.clock.now()
        alive = [run for run in known.values() if run.status == "running" and not runs.is_silent(run, silent_s, now)]
        if alive and not force:
            raise ConfigurationError(
                f"{counted(len(alive), 'run')} may still go on",
                code=STILL_RUNNING,
                hint="wait for them, or cancel them with `wellhead runs cancel RUN`; where the process is gone, clean "
                f"again after {output.moment(max(runs.silent_until(run, silent_s) for run in alive))}; --force ends "
                "every run of every project on this machine",
                details=tuple(
                    f"{run.run_id} of {run.connection.name} on {run.host_id}: counts as dead from "
                    f"{output.moment(runs.silent_until(run, silent_s))} on, unless it speaks before"
                    for run in alive
                ),
            )
        root = folders.default_root()
        # A run this registry does not know belongs to another project on the same Engine.
        reaped = reaper.reap(host.engine, lambda labels: not force and RunId(labels.run_id) not in known, root)
        if force or not host.engine.containers():
            kept = reaper.clean(host.engine, root)
            reaped = replace(reaped, networks=reaped.networks + kept.networks, images=kept.images)
        swept = tuple(str(path) for path in scratch.sweep(host.host().scratch))
        reaped = replace(reaped, folders=reaped.folders + swept)
        if images:
            removed = _unneeded_images(host, files)
            reaped = replace(reaped, images=reaped.images + removed.images, left=reaped.left + removed.left)
        for item in pending:
            host.secrets.revoke_accessor(item.accessor)
            with host.database.transaction() as tx:
                revocations.remove(tx, item.accessor)
        revoked = len(pending)
    document = {**output.plain(reaped), "revoked": revoked}
    if as_json and not reaped.left:
        output.print_json(document)
    elif not as_json:
        output.console().print(
            f"removed {counted(len(reaped.containers), 'container')}, {counted(len(reaped.networks), 'network')}, "
            f"{counted(len(reaped.folders), 'folder')}, {counted(len(reaped.images), 'image')}; "
            f"revoked {counted(revoked, 'token')}",
            markup=False,
        )
    if reaped.left:
        error = ConfigurationError(
            f"{counted(len(reaped.left), 'thing')} could not be removed",
            code=LEFT,
            hint="`docker ps -a` and `docker network ls` show them",
            details=reaped.left,
        )
        if as_json:
            output.fail(document, error)
        raise error


def _unneeded_images(host: App, files: list[ConnectionFile]) -> Reaped:
    from wellhead.engine import reaper
    from wellhead.lifecycle import collect

    services = host.host()
    here = collect.project(services, files)
    return reaper.remove_images(host.engine, collect.unneeded_images(services, here))
