"""``wellhead runs``: what ran, how it ended, and what it said."""

from __future__ import annotations

import sys
from datetime import datetime
from typing import Annotated

import typer

from wellhead.cli import output
from wellhead.cli.options import Config, Json
from wellhead.errors import Code, ConfigurationError, counted
from wellhead.ids import RunId, is_run_id

NO_LOG = Code("WH-CLI-010", "A run left no log on this host.")
NOT_RUNNING = Code("WH-CLI-011", "A run that has ended cannot be cancelled.")

app = typer.Typer(no_args_is_help=True, help="What ran, how it ended, and what it said.")

Run = Annotated[str, typer.Argument(metavar="RUN", help="Run id, as `runs list` prints it.")]


@app.command("list")
def list_runs(
    connection: Annotated[
        str | None, typer.Argument(metavar="[CONNECTION]", help="Only this connection's runs.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many, newest first.")] = 20,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """List runs, newest first; one whose process is gone is called silent once its lease is over."""
    from wellhead import app as services
    from wellhead.connections import key_of
    from wellhead.registry import runs

    with services.opened(config) as host, host.database.read() as tx:
        key = key_of(host.settings, connection) if connection else None
        found = runs.latest(tx, key, limit=limit)
        ttl_s, now = host.settings.lease.ttl_s, host.clock.now()
    silent = {run.run_id for run in found if runs.is_silent(run, ttl_s, now)}
    if as_json:
        output.print_json([{**_document(run), "silent": run.run_id in silent} for run in found])
        return
    output.print_table(
        "",
        ("run", "connection", "kind", "status", "exit", "version", "started", "took"),
        [
            (
                run.run_id,
                run.connection.name,
                run.kind,
                "silent" if run.run_id in silent else run.status,
                run.outcome.exit_code if run.outcome else None,
                run.version,
                output.moment(run.started_at),
                _took(run.started_at, run.finished_at),
            )
            for run in found
        ],
        empty="No runs yet.",
    )
    if silent:
        output.stderr().print(
            "silent: the process is gone and its lease is over. `wellhead clean` removes what it left on this machine; "
            "the connection's next run closes its row and goes on from its last commit.",
            markup=False,
        )


@app.command()
def show(run: Run, config: Config = None, as_json: Json = False) -> None:
    """Show one run whole: its plan, its counts, its egress, its receipt."""
    from wellhead import app as services
    from wellhead.registry import egress_audit, runs

    with services.opened(config) as host, host.database.read() as tx:
        found = runs.get(tx, RunId(run))
        events = runs.events(tx, found.run_id)
        audit = egress_audit.of_run(tx, found.run_id)
        is_silent = runs.is_silent(found, host.settings.lease.ttl_s, host.clock.now())
    if as_json:
        document = {**_document(found), "silent": is_silent}
        document["plan"] = found.plan
        document["receipt"] = found.outcome.receipt if found.outcome else None
        document["events"] = [{"at": item.at, "event": item.event, "details": item.details} for item in events]
        document["egress"] = [output.plain(record) for record in audit]
        output.print_json(document)
        return
    out = output.console()
    out.print(f"run         {found.run_id}  ({found.kind}, attempt {found.attempt})", markup=False)
    out.print(f"connection  {found.connection}", markup=False)
    out.print(f"release     {found.connector_id} {found.version or '-'}  {found.index_digest or ''}", markup=False)
    out.print(f"host        {found.host_id}", markup=False)
    out.print(f"image       {found.image_id or '-'}", markup=False)
    spoke = f", silent since {output.moment(found.heartbeat_at)}" if is_silent else ""
    out.print(f"status      {found.status}{spoke}", markup=False)
    out.print(
        f"started     {output.moment(found.started_at)}  took {_took(found.started_at, found.finished_at)}",
        markup=False,
    )
    if found.outcome is not None:
        for name, stream in (found.outcome.streams or {}).items():
            letters = counted(stream["dead_letters"], "dead letter")
            out.print(f"stream      {name}: {counted(stream['rows'], 'row')}, {letters}", markup=False)
        for step, seconds in (found.outcome.timings or {}).items():
            out.print(f"step        {step:<14} {seconds:8.3f} s", markup=False)
        if found.outcome.failure is not None:
            failure = found.outcome.failure
            output.print_problem(failure.code, failure.message, place=None, hint=failure.hint)
    for record in audit:
        place = f"{record.host}:{record.port} {record.address or '-'}"
        moved = f"{record.bytes_sent:,} bytes out, {record.bytes_received:,} in, {record.duration_ms:,} ms"
        out.print(f"egress      {record.verdict:<5} {place}  {record.reason}  {moved}", markup=False)
    for item in events:
        out.print(f"event       {output.moment(item.at)}  {item.event}", markup=False)


@app.command()
def logs(run: Run, config: Config = None) -> None:
    """Print what one run and its connector said, redacted as it was stored."""
    from wellhead import app as services

    with services.opened(config) as host:
        file = host.log_file(RunId(run))
        # Only an id is a name in the folder of logs: what leads out of it is no run's.
        if not is_run_id(run) or not file.is_file():
            raise ConfigurationError(
                f"run {run} left no log in {host.folder / 'logs'}",
                code=NO_LOG,
                hint="logs are kept on the host that ran it; `wellhead runs show` names that host",
            )
        with file.open("r", encoding="utf-8") as lines:
            for line in lines:
                sys.stdout.write(line)


@app.command()
def cancel(run: Run, config: Config = None) -> None:
    """Ask a run to drain and end; its host notices within a third of the lease."""
    from wellhead import app as services
    from wellhead.lifecycle.claim import CANCEL_EVENT
    from wellhead.registry import runs

    with services.opened(config) as host, host.database.transaction() as tx:
        found = runs.get(tx, RunId(run))
        if found.status != "running":
            raise ConfigurationError(
                f"run {run} has already ended: {found.status}",
                code=NOT_RUNNING,
                hint="nothing is left to cancel",
            )
        runs.note_event(tx, found.run_id, CANCEL_EVENT, {"who": output.who()})
    output.stderr().print(f"asked run {run} to end", markup=False)


def _document(run: object) -> dict[str, object]:
    document: dict[str, object] = output.plain(run)
    document.pop("plan", None)
    return document


def _took(started: datetime, finished: datetime | None) -> str:
    return "running" if finished is None else f"{(finished - started).total_seconds():.1f} s"
