"""``wellhead run``: one command for a scheduler, one screen for a person."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import StrEnum
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from wellhead.cli import output
from wellhead.cli.options import Config, Connection, Json
from wellhead.errors import RefusedError, WellheadError, counted

if TYPE_CHECKING:
    from wellhead.lifecycle.report import Report
    from wellhead.lifecycle.stop import Stop
    from wellhead.telemetry.logs import Level


class IfRunning(StrEnum):
    """What to do where the connection is being run already."""

    WAIT = "wait"
    SKIP = "skip"
    FAIL = "fail"


def run(
    connection: Connection,
    logical_run_id: Annotated[
        str | None,
        typer.Option(metavar="ID", help="The scheduler's own id; a run that succeeded under it is not repeated."),
    ] = None,
    if_running: Annotated[IfRunning, typer.Option(help="What to do where it is being run already.")] = IfRunning.SKIP,
    streams: Annotated[str | None, typer.Option(metavar="A,B", help="Only these of the selected streams.")] = None,
    since: Annotated[
        datetime | None, typer.Option(help="Lower bound of the first incremental read; UTC where no zone is given.")
    ] = None,
    full_refresh: Annotated[bool, typer.Option("--full-refresh", help="Read everything into a new table.")] = False,
    max_wait: Annotated[
        float | None, typer.Option(metavar="S", min=0, help="Longest throttling to sit out before parking, in seconds.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but the result.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show the run's log while it runs.")] = False,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Run one connection once; safe to call twice."""
    import os

    from wellhead import app as services
    from wellhead import connections
    from wellhead.lifecycle import run as lifecycle
    from wellhead.lifecycle.stop import Stop

    stop = Stop()
    with (
        stopping_on_signals(stop),
        _as_document(connection, logical_run_id, as_json=as_json),
        services.opened(config) as host,
    ):
        file = connections.load(host.settings, connection, os.environ)
        order = lifecycle.Order(
            logical_run_id=logical_run_id,
            if_running=if_running.value,
            streams=tuple(name.strip() for name in streams.split(",") if name.strip()) if streams else (),
            since=None if since is None else since.replace(tzinfo=since.tzinfo or UTC),
            full_refresh=full_refresh,
            max_wait_s=max_wait,
        )
        with Display(quiet=quiet, verbose=verbose) as display:
            report = lifecycle.run(host.host(), file, order, stop, lifecycle.Watch(display.step, display.line))
    if as_json:
        output.print_json(report.document())
    if not quiet:
        _tell(report, as_json=as_json)
    raise typer.Exit(report.exit_code)


@contextmanager
def _as_document(connection: str, logical_run_id: str | None, *, as_json: bool) -> Iterator[None]:
    """Let what keeps a run from beginning be a JSON document as well; a scheduler reads nothing else."""
    try:
        yield
    except WellheadError as error:
        if as_json:
            from wellhead.lifecycle.report import Report, Status, reported

            status = Status.REFUSED if isinstance(error, RefusedError) else Status.FAILED
            report = Report("", logical_run_id, connection, status, error.exit_code, error=reported(error))
            output.fail(report.document(), error)
        raise


@contextmanager
def stopping_on_signals(stop: Stop) -> Iterator[None]:
    """Turn the first SIGTERM or SIGINT into a wish to drain; a second one ends the process as it always does."""
    from wellhead.lifecycle.stop import Reason

    reasons = {signal.SIGTERM: Reason.TERMINATED, signal.SIGINT: Reason.INTERRUPTED}
    before = {number: signal.getsignal(number) for number in reasons}

    def ask(number: int, _frame: FrameType | None) -> None:
        stop.request(reasons[signal.Signals(number)])
        signal.signal(number, signal.SIG_DFL)

    for number in reasons:
        signal.signal(number, ask)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Display:
    """A spinner with the step on a terminal; nothing moves elsewhere."""

    def __init__(self, *, quiet: bool, verbose: bool) -> None:
        self._verbose = verbose
        self._status = output.stderr().status("claim") if output.is_terminal() and not quiet and not verbose else None

    def __enter__(self) -> Display:
        if self._status is not None:
            self._status.start()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._status is not None:
            self._status.stop()

    def step(self, name: str) -> None:
        """Show which step has begun."""
        if self._status is not None:
            self._status.update(name)
        elif self._verbose:
            self._say(f"step {name}")

    def line(self, level: Level, text: str) -> None:
        """Show a line of the run's log."""
        if self._verbose:
            self._say(f"{level.name.lower():<7} {text}")

    def _say(self, text: str) -> None:
        """Print a line, until nobody reads them any more (``| head``): that does not end the run."""
        try:
            output.stderr().print(text, markup=False)
        except OSError:
            self._verbose = False


def _tell(report: Report, *, as_json: bool) -> None:
    """Print the last screen: to standard output for a person, to standard error beside a JSON document."""
    from rich.markup import escape

    out = output.stderr() if as_json else output.console()
    colour = "green" if report.exit_code == 0 else "yellow" if report.exit_code in (3, 75) else "red"
    release = "" if report.release is None else f"{report.release['id']} {report.release['version']}"
    held = " (held)" if report.held else ""
    out.print(
        f"[{colour}]{report.status.value}[/]  {report.connection}  {escape(release)}{held}  run {report.run_id or '-'}"
    )
    for stream in report.streams:
        line = f"  {stream.name}  {counted(stream.rows, 'row')}"
        if stream.dead_letters:
            line += f"  {counted(stream.dead_letters, 'dead letter')} (wellhead deadletters list {report.connection})"
        out.print(line, markup=False)
        if stream.error is not None:
            output.print_problem(
                stream.error.code, stream.error.message, place=stream.error.place, hint=stream.error.hint
            )
    if report.egress.get("denied"):
        denied = counted(report.egress["denied"], "connection")
        out.print(f"  {denied} denied (wellhead runs show {report.run_id})", markup=False)
    if report.log_loss is not None:
        out.print(f"  {report.log_loss}", markup=False)
    if report.retry_at is not None:
        out.print(f"  come back at {output.moment(report.retry_at)}", markup=False)
    if report.error is not None:
        output.print_problem(
            report.error.code,
            report.error.message,
            place=report.error.place,
            details=report.error.details,
            hint=report.error.hint,
            run_id=report.run_id,
        )
    tables = [stream.table for stream in report.streams if stream.table and stream.error is None]
    if tables and report.exit_code in (0, 3):
        out.print(f"  Bronze  {report.bronze_path}", markup=False)
        out.print(f"  duckdb -c \"FROM '{tables[0]}/*' LIMIT 10\"", markup=False)
