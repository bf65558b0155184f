"""``wellhead clean``: remove what runs left on this machine."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from wellhead.cli import output
from wellhead.cli.options import Config, Json
from wellhead.errors import Code, ConfigurationError

STILL_RUNNING = Code("WH-CLI-060", "Something runs that cleaning would end.")
LEFT = Code("WH-CLI-061", "Something could not be removed.")


def clean(
    force: Annotated[
        bool, typer.Option("--force", help="Everything of Wellhead, other projects' and running too.")
    ] = False,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Remove what dead runs left on this machine, and revoke what they borrowed; states, tables and releases stay.

    The outbound network and the gateway's image go as well, once nothing of any project is left that uses them.
    """
    from wellhead import app as services
    from wellhead.engine import folders, reaper
    from wellhead.ids import RunId
    from wellhead.registry import revocations, runs

    with services.opened(config) as host:
        with host.database.read() as tx:
            known = {run.run_id: run for run in runs.latest(tx, limit=1_000_000)}
            pending = revocations.all_of(tx)
        silent_s = host.settings.lease.ttl_s
        alive = {
            run.run_id
            for run in known.values()
            if run.status == "running" and (host.clock.now() - run.heartbeat_at).total_seconds() < silent_s
        }
        if alive and not force:
            raise ConfigurationError(
                f"{len(alive)} runs go on: {', '.join(sorted(alive))}",
                code=STILL_RUNNING,
                hint="wait for them, cancel them with `wellhead runs cancel`, or give --force",
            )
        root = folders.default_root()
        # A run this registry does not know belongs to another project on the same Engine.
        reaped = reaper.reap(host.engine, lambda labels: not force and RunId(labels.run_id) not in known, root)
        if force or not host.engine.containers():
            kept = reaper.clean(host.engine, root)
            reaped = replace(reaped, networks=reaped.networks + kept.networks, images=kept.images)
        for item in pending:
            host.secrets.revoke_accessor(item.accessor)
            with host.database.transaction() as tx:
                revocations.remove(tx, item.accessor)
        revoked = len(pending)
    if as_json:
        output.print_json({**output.plain(reaped), "revoked": revoked})
    else:
        output.console().print(
            f"removed {len(reaped.containers)} containers, {len(reaped.networks)} networks, "
            f"{len(reaped.folders)} folders, {len(reaped.images)} images; revoked {revoked} tokens",
            markup=False,
        )
    if reaped.left:
        raise ConfigurationError(
            f"{len(reaped.left)} things could not be removed",
            code=LEFT,
            hint="`docker ps -a` and `docker network ls` show them",
            details=reaped.left,
        )
