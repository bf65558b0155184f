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
    from wellhead.registry.runs import Run

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

    What belongs to a run that may still go on is left alone, and the run is named, here or on another host; so is what
    belongs to other projects. The outbound network and the gateway's image go once nothing of any project is left.

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
        going_on = () if force else _going_on(host)

        def is_spared(run_id: RunId) -> bool:
            if force:
                return False
            with host.database.read() as tx:
                # Asked of each, since some may have begun meanwhile.
                run = runs.find(tx, run_id)
            # One that this registry does not know belongs to another project on the same Engine.
            return run is None or _may_go_on(host, run)

        root = folders.default_root()
        reaped = reaper.reap(host.engine, lambda labels: is_spared(RunId(labels.run_id)), root)
        # A run that begins needs the outbound network before anything there is its own.
        if force or not (_going_on(host) or reaper.is_in_use(host.engine, root)):
            reaped = reaped.and_also(reaper.remove_kept(host.engine))
        swept = tuple(str(path) for path in scratch.sweep(host.host().scratch))
        reaped = replace(reaped, folders=reaped.folders + swept)
        if images:
            reaped = reaped.and_also(_unneeded_images(host, files))
        with host.database.read() as tx:
            noted = revocations.all_of(tx)
        pending = [item for item in noted if not is_spared(item.run_id)]
        for item in pending:
            host.secrets.revoke_accessor(item.accessor)
            with host.database.transaction() as tx:
                revocations.remove(tx, item.accessor)
        revoked = len(pending)
    document = {**output.plain(reaped), "revoked": revoked, "going_on": [str(run.run_id) for run in going_on]}
    if as_json and not reaped.left:
        output.print_json(document)
    elif not as_json:
        output.console().print(
            f"removed {counted(len(reaped.containers), 'container')}, {counted(len(reaped.networks), 'network')}, "
            f"{counted(len(reaped.folders), 'folder')}, {counted(len(reaped.images), 'image')}; "
            f"revoked {counted(revoked, 'token')}",
            markup=False,
        )
        _tell(going_on, host.settings.lease.ttl_s)
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


def _going_on(host: App) -> tuple[Run, ...]:
    """Return the runs that have not reported their end and have spoken within their lease."""
    from wellhead.registry import runs

    with host.database.read() as tx:
        return tuple(run for run in runs.open_runs(tx) if _may_go_on(host, run))


def _may_go_on(host: App, run: Run) -> bool:
    from wellhead.registry import runs

    return run.status == "running" and not runs.is_silent(run, host.settings.lease.ttl_s, host.clock.now())


def _tell(going_on: tuple[Run, ...], ttl_s: float) -> None:
    from wellhead.registry import runs

    if not going_on:
        return
    out = output.stderr()
    out.print(f"left alone what belongs to {counted(len(going_on), 'run')} that may still go on:", markup=False)
    for run in going_on:
        until = output.moment(runs.silent_until(run, ttl_s))
        out.print(
            f"  {run.run_id} of {run.connection.name} on {run.host_id}: counts as dead from {until} on, unless it "
            "speaks before",
            markup=False,
        )


def _unneeded_images(host: App, files: list[ConnectionFile]) -> Reaped:
    from wellhead.engine import reaper
    from wellhead.lifecycle import collect

    services = host.host()
    here = collect.project(services, files)
    return reaper.remove_images(host.engine, collect.unneeded_images(services, here))
