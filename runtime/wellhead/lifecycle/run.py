"""The order of a run. Nothing else knows it.

    claim → plan → recover → lend → fence → launch → authenticate → discover → for each stream (read → emit → commit →
    checkpoint → publish) → report

Each step takes values and returns values; what is opened is a context manager, and leaving closes upward: drain the
connector → stop it → unfence → revoke → give the lease back. Fenced before started (invariant 9); stopped before
revoked (invariant 10). A probe opens through the same page, with a claim that may never commit.
"""

from __future__ import annotations

import random
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING

from wellhead.connections import ConnectionFile
from wellhead.egress.network import GATEWAY_ENDED
from wellhead.errors import (
    AuthError,
    Code,
    ConfigurationError,
    DataError,
    FatalError,
    RefusedError,
    UsageError,
    WellheadError,
)
from wellhead.ids import ConnectorId, StreamKey, StreamName
from wellhead.lifecycle import fence, launch, lend, recover, retry, rollout
from wellhead.lifecycle.claim import AlreadyDoneError, Claim, HeldError, claimed, probing
from wellhead.lifecycle.host import Host, Run
from wellhead.lifecycle.plan import Plan, freeze
from wellhead.lifecycle.record import Ending, close, earlier, explained, unrecorded
from wellhead.lifecycle.report import Report, Status
from wellhead.lifecycle.stop import Reason, Stop
from wellhead.lifecycle.timeline import Timeline
from wellhead.registry import generations, runs
from wellhead.registry.database import FENCED, Database
from wellhead.secrets.base import Loan
from wellhead.telemetry.logs import Level, RunLog
from wellhead.telemetry.redact import Redactor
from wellhead_sdk.wire.messages import Committed, Identity, OfferedStream

if TYPE_CHECKING:
    from wellhead.lifecycle.read import Tally
    from wellhead.lifecycle.stream import StreamOrder
    from wellhead.session.client import Session
    from wellhead.sinks.base import Sink

UNEXPECTED = Code("WH-RUN-054", "The program met a condition it does not know.")
UNKNOWN_STREAM = Code("WH-RUN-053", "A stream was named that the connection does not select.")

#: How often a waiting run looks whether the connection is free.
WAIT_STEP_S = 0.5


@dataclass(frozen=True, slots=True)
class Order:
    """What one call of ``wellhead run`` asks for."""

    logical_run_id: str | None = None
    if_running: str = "skip"
    """``wait``, ``skip`` or ``fail``."""
    streams: tuple[str, ...] = ()
    """Of those the connection selects; empty means all."""
    since: datetime | None = None
    full_refresh: bool = False
    max_wait_s: float | None = None


@dataclass(slots=True)
class Progress:
    """What the attempts of one run share."""

    tallies: dict[StreamName, Tally] = field(default_factory=dict)
    done: set[StreamName] = field(default_factory=set)
    failed: dict[StreamName, WellheadError] = field(default_factory=dict)
    attempts: int = 0
    idle_attempts: int = 0
    is_done: bool = False
    """Whether every stream was read to its end."""
    retry_at: datetime | None = None
    """When the source wants us back, where the run ends for that."""
    refreshed_secrets: bool = False
    identity: Identity = field(default_factory=Identity)
    loans: list[Loan] = field(default_factory=list)

    @property
    def commits(self) -> int:
        """Count what was committed, so that an attempt can tell whether it moved anything."""
        return sum(tally.rows + tally.rejected for tally in self.tallies.values())


@dataclass(frozen=True, slots=True)
class Watch:
    """Who is told what goes on while it goes on."""

    step: Callable[[str], None] = lambda _step: None
    line: Callable[[Level, str], None] | None = None


def run(host: Host, file: ConnectionFile, order: Order, stop: Stop, watch: Watch) -> Report:
    """Run one connection once; safe to call twice.

    Args:
        host: the services of this host.
        file: the connection as people wrote it.
        order: what is asked for.
        stop: set by signals and by the keeper of the lease; the run drains and ends.
        watch: told each step as it begins.

    Returns:
        How it ended. Every failure of a claimed run is in the report; only what happens before the claim is raised.
    """
    check_streams(file, order.streams)
    timeline = Timeline(host.clock, watch.step)
    if not file.connection.enabled:
        return _ended(file, order, Status.SKIPPED, 0)
    already = earlier(host.database, file.key, order.logical_run_id)
    if already is not None:
        return already
    with ExitStack() as scope:
        scope.enter_context(deadline(host.settings.run.total_s, stop))
        try:
            with timeline.step("claim"):
                claim = _claim(scope, host, file, order, stop)
        except AlreadyDoneError:
            # It succeeded while we waited for the lease.
            return earlier(host.database, file.key, order.logical_run_id) or _ended(file, order, Status.ALREADY_DONE, 0)
        except HeldError as held:
            if stop.reason is not None:
                return _ended(file, order, Status.STOPPED, stop.reason.exit_code)
            if order.if_running != "skip":
                raise
            return _ended(file, order, Status.SKIPPED, 0, held.holder.run_id)
        here = scope.enter_context(_here(host, claim, stop, timeline, watch))
        report = _run(here, file, order)
        return replace(report, log_loss=here.log.loss)


def _ended(file: ConnectionFile, order: Order, status: Status, exit_code: int, run_id: str = "") -> Report:
    """Return the report of a call that did not become a run; ``run_id`` is that of the run it left alone."""
    return Report(run_id, order.logical_run_id, file.connection.name, status, exit_code)


@contextmanager
def probe(
    host: Host, file: ConnectionFile, stop: Stop, watch: Watch, planned: Callable[[Run], Plan] | None = None
) -> Iterator[tuple[Run, Plan, Session, Identity]]:
    """Open a connection without ever committing, for ``connection check``, ``streams``, ``preview`` and ``shadow``.

    Args:
        host: the services of this host.
        file: the connection.
        stop: set by signals; the connector is ended then.
        watch: told each step as it begins.
        planned: gives the plan where it is not the one of the connection's next run.

    Raises:
        WellheadError: whatever keeps it from opening, told as a run tells it; the probe's row says so as well.
    """
    timeline = Timeline(host.clock, watch.step)
    settings = host.settings
    with ExitStack() as scope:
        claim = scope.enter_context(
            probing(host.database, file, host=host.id, ttl_s=settings.lease.ttl_s, stop=stop, clock=host.clock)
        )
        here = scope.enter_context(_here(host, claim, stop, timeline, watch))
        progress, plan, error, is_told = Progress(attempts=1), None, None, False
        try:
            with timeline.step("plan"):
                plan = freeze(here, file, host.platform) if planned is None else planned(here)
            with _opened(here, plan, progress) as session:
                yield here, plan, session, progress.identity
            is_told = True
        except WellheadError as failure:
            error, is_told = failure, True
            raise explained(here, failure) from failure
        finally:
            if not is_told:
                # Whoever looked left in the middle, by Ctrl-C or by an error of his own: nothing succeeded.
                stop.request(Reason.INTERRUPTED)
            close(here, plan, None, _ending(progress, stop, error))


def check_streams(file: ConnectionFile, names: Sequence[str]) -> None:
    """Refuse streams the connection does not select.

    Raises:
        UsageError: WH-RUN-053.
    """
    selected = [stream.name for stream in file.connection.streams]
    unknown = [name for name in names if name not in selected]
    if unknown:
        raise UsageError(
            f"connection {file.connection.name!r} does not select {', '.join(map(repr, unknown))}",
            code=UNKNOWN_STREAM,
            hint=f"it selects {', '.join(selected)}; add the stream to {file.file}",
        )


def _claim(scope: ExitStack, host: Host, file: ConnectionFile, order: Order, stop: Stop) -> Claim:
    while True:
        try:
            return scope.enter_context(
                claimed(
                    host.database,
                    file,
                    host=host.id,
                    ttl_s=host.settings.lease.ttl_s,
                    logical_run_id=order.logical_run_id,
                    stop=stop,
                    clock=host.clock,
                )
            )
        except HeldError:
            if order.if_running != "wait" or stop.wait(WAIT_STEP_S):
                raise


@contextmanager
def _here(host: Host, claim: Claim, stop: Stop, timeline: Timeline, watch: Watch) -> Iterator[Run]:
    redactor = Redactor()
    file = host.log_file(claim.run_id)
    with RunLog(file, redactor, host.clock, run_id=claim.run_id, connection=claim.connection, echo=watch.line) as log:
        yield Run(host, claim, stop, redactor, log, timeline)


@contextmanager
def deadline(total_s: float, stop: Stop) -> Iterator[None]:
    """Ask the run to stop once it took as long as it may."""
    timer = threading.Timer(total_s, stop.request, [Reason.DEADLINE])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()


def _run(here: Run, file: ConnectionFile, order: Order) -> Report:
    progress = Progress()
    plan: Plan | None = None
    error: WellheadError | None = None
    try:
        plan = _planned(here, file)
        _recover(here, file)
        with deadline(max(0.0, plan.deadlines.total_s - here.timeline.elapsed_s), here.stop):
            _attempts(here, plan, order, progress)
    except WellheadError as failure:
        error = failure
    except Exception as failure:  # noqa: BLE001 - the run's outermost block: a defect ends as a report, not as a hang
        here.log.write(Level.ERROR, "unexpected", trace="".join(traceback.format_exception(failure)))
        error = FatalError(
            f"{type(failure).__name__} where none was expected",
            code=UNEXPECTED,
            hint=f"this is a defect of Wellhead; `wellhead runs logs {here.claim.run_id}` has the trace",
        )
    ending = _ending(progress, here.stop, error)
    try:
        report = close(here, plan, order.logical_run_id, ending)
    except WellheadError as failure:
        return unrecorded(here, plan, order.logical_run_id, ending, failure)
    _judge_rollouts(here, ConnectorId(file.connection.connector))
    return report


def _planned(here: Run, file: ConnectionFile) -> Plan:
    try:
        with here.timeline.step("plan"):
            return freeze(here, file, here.host.platform)
    except WellheadError:
        # A connection that is refused, perhaps for weeks, does not keep what was committed out of its tables, nor alive
        # what an earlier run borrowed.
        if here.stop.reason is None:
            _recover_all_the_same(here, file)
        raise


def _recover_all_the_same(here: Run, file: ConnectionFile) -> None:
    """Recover for a connection that is refused; what comes of it does not hide why that is so."""
    try:
        _recover(here, file)
    except WellheadError as failure:
        here.log.write(Level.ERROR, "not_recovered", code=str(failure.code), error=failure.message)
    except OSError as failure:
        # Where its files cannot be written, a sink says so in the system's words.
        here.log.write(Level.ERROR, "not_recovered", error=str(failure))


def _recover(here: Run, file: ConnectionFile) -> None:
    host = here.host
    with here.timeline.step("recover"):
        recover.recover(
            host.database,
            here.claim,
            sink=lambda: host.sink(file.connection.sink),
            secrets=host.secrets,
            reap=host.reap,
            keep_generations=host.settings.run.keep_generations,
            clock=host.clock,
        )


def _judge_rollouts(here: Run, connector: ConnectorId) -> None:
    """Halt a rollout that this run was one failure too many for; the run has ended, whatever comes of that."""
    try:
        for halted in rollout.settle(here.host.database, here.host.clock, connector):
            here.log.write(Level.WARNING, "rollout_halted", version=halted.version, reason=halted.reason)
    except Exception as failure:  # noqa: BLE001 - still the outermost block: what the run did is recorded by now
        here.log.write(Level.ERROR, "rollout_not_judged", trace="".join(traceback.format_exception(failure)))


def _ending(progress: Progress, stop: Stop, error: WellheadError | None) -> Ending:
    return Ending(
        tallies=progress.tallies,
        failed=progress.failed,
        attempts=progress.attempts,
        stopped=stop.reason,
        error=error,
        retry_at=progress.retry_at,
        identity=lend.identity_document(progress.identity),
        leases=tuple(lend.leases_of(loan) for loan in progress.loans),
        is_done=progress.is_done,
    )


def _attempts(here: Run, plan: Plan, order: Order, progress: Progress) -> None:
    """Try until the work is done, the budget is used up, or the source wants us back later."""
    while here.stop.reason is None:
        progress.attempts += 1
        before = progress.commits
        try:
            _begin_attempt(here, plan, progress.attempts)
            _attempt(here, plan, order, progress)
        except WellheadError as error:
            progress.idle_attempts = 1 if progress.commits > before else progress.idle_attempts + 1
            if error.code == FENCED:
                # Another run has the connection: trying again could only get in its way.
                here.stop.request(Reason.FENCED)
            if here.stop.reason is not None:
                raise
            if error.code == GATEWAY_ENDED and not _todo(plan, order, progress):
                # All was read behind it: an attempt that has nothing to read cannot make up for it.
                raise
            match _decide(here, progress, order, error):
                case retry.Again(delay_s=delay_s, refresh_secrets=refresh):
                    progress.refreshed_secrets |= refresh
                    here.log.write(
                        Level.WARNING, "attempt_failed", code=str(error.code), error=error.message, again_in_s=delay_s
                    )
                    if here.stop.wait(delay_s):
                        raise
                case retry.Park(retry_at=retry_at):
                    progress.retry_at = retry_at
                    raise
                case retry.GiveUp():
                    raise
        else:
            return


def _begin_attempt(here: Run, plan: Plan, attempt: int) -> None:
    host = here.host
    with host.database.transaction() as tx:
        runs.note_attempt(tx, here.claim.run_id, attempt)
    if attempt > 1:
        # Invariant 5: the attempt before may have committed what it could not publish any more.
        sink = host.sink(plan.connection.sink)
        recover.settle(host.database, here.claim, sink, host.settings.run.keep_generations)


def _decide(here: Run, progress: Progress, order: Order, error: WellheadError) -> retry.Decision:
    history = retry.History(
        progress.attempts, progress.idle_attempts, here.timeline.elapsed_s, progress.refreshed_secrets
    )
    settings = here.host.settings.run
    if order.max_wait_s is not None:
        settings = settings.model_copy(update={"max_wait_s": order.max_wait_s})
    return retry.decide(error, history, settings, here.host.clock.now(), random.random())  # noqa: S311


def _names(plan: Plan, order: Order) -> tuple[str, ...]:
    return order.streams or tuple(stream.name for stream in plan.connection.streams)


def _todo(plan: Plan, order: Order, progress: Progress) -> list[str]:
    return [name for name in _names(plan, order) if name not in progress.done and name not in progress.failed]


def _attempt(here: Run, plan: Plan, order: Order, progress: Progress) -> None:
    todo = _todo(plan, order, progress)
    with _opened(here, plan, progress) as session:
        from wellhead.lifecycle import discover

        with here.timeline.step("discover"):
            offered = discover.discover(
                here, session, todo, connector_id=plan.release.connector, version=plan.release.version
            )
        with here.timeline.step("read"):
            for stream in offered:
                if here.stop.reason is None:
                    read(here, plan, order, session, stream, progress, _truth(here, plan, session))
    progress.is_done = progress.done.issuperset(_names(plan, order))
    if here.stop.reason is None and progress.failed and not progress.done:
        raise next(iter(progress.failed.values()))


@contextmanager
def _opened(here: Run, plan: Plan, progress: Progress) -> Iterator[Session]:
    """Lend, fence, launch and authenticate; leaving stops, unfences and revokes, in this order."""
    with ExitStack() as scope:
        with here.timeline.step("lend"):
            loan = scope.enter_context(lend.lent(here, plan))
            if loan is not None:
                progress.loans.append(loan)
        with here.timeline.step("fence"):
            attachment = scope.enter_context(fence.fenced(here, plan.policy))
        with here.timeline.step("launch"):
            started = scope.enter_context(launch.launched(here, plan, attachment))
            session = scope.enter_context(launch.spoken_to(here, plan, started))
        credentials = plan.credentials(() if loan is None else lend.secrets_of(loan.secrets, plan.sensitive))
        with here.timeline.step("authenticate"):
            progress.identity = lend.cleaned(here, session.authenticate(credentials))
        scope.enter_context(lend.kept(here, plan, loan, session, credentials))
        yield session


@dataclass(frozen=True, slots=True)
class Destination:
    """Where what is read goes: the registry that commits it, the sink that holds it, and who hears of it."""

    database: Database
    claim: Claim
    sink: Sink
    acknowledge: Callable[[Committed], None]
    """Tells the source what is committed."""


def _truth(here: Run, plan: Plan, session: Session) -> Destination:
    host = here.host
    return Destination(host.database, here.claim, host.sink(plan.connection.sink), session.checkpoint)


def read(
    here: Run,
    plan: Plan,
    order: Order,
    session: Session,
    offered: OfferedStream,
    progress: Progress,
    into: Destination,
) -> None:
    """Read one stream to its end; ``progress`` tells what came of it, also where only this stream failed.

    Raises:
        WellheadError: what ends the whole run.
    """
    from wellhead.lifecycle.read import Tally, Tools
    from wellhead.lifecycle.stream import read_stream

    name = StreamName(offered.name)
    tally = progress.tallies.setdefault(name, Tally())
    settings = here.host.settings
    tools = Tools(
        database=into.database,
        claim=into.claim,
        session=session,
        sink=into.sink,
        publish=lambda segment: recover.publish(into.database, into.claim, into.sink, segment),
        commit=settings.commit,
        dead_letters=settings.dead_letters,
        max_wait_s=settings.run.max_wait_s if order.max_wait_s is None else order.max_wait_s,
        stop=here.stop,
        clock=here.host.clock,
        acknowledge=into.acknowledge,
        redactor=here.redactor,
    )
    try:
        read_stream(tools, _stream_order(here, plan, order, name, into.sink), offered, tally)
    except (RefusedError, AuthError):
        raise
    except (ConfigurationError, DataError) as error:
        # One stream that cannot be read does not keep the others from being read: the run ends as partial.
        progress.failed[name] = error
    else:
        if here.stop.reason is None:
            progress.done.add(name)


def _stream_order(here: Run, plan: Plan, order: Order, name: StreamName, sink: Sink) -> StreamOrder:
    from wellhead.lifecycle.stream import StreamOrder

    settings, manifest = here.host.settings.run, plan.manifest
    selection = next(stream for stream in plan.connection.streams if stream.name == name)
    parallel = manifest.capabilities.parallel_units
    return StreamOrder(
        key=StreamKey(here.claim.connection, name),
        selection=selection,
        full_refresh=order.full_refresh,
        since=order.since or selection.since,
        state_writes=manifest.compatibility.state.writes,
        commit_each=manifest.capabilities.ack == "each",
        parallel=parallel,
        credit_bytes=min(settings.unit_in_flight_bytes, settings.in_flight_bytes // parallel),
        source_ref=plan.source_ref,
        source_sha256=plan.source_sha256,
        connector_id=plan.release.connector,
        keep_generations=settings.keep_generations,
        place=generations.Place(f"{plan.connection.sink.type}:{sink.identity()}", str(plan.bronze_path)),
    )
