"""The end of a run, written down: the run's row, its receipt, and the report that the scheduler reads."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

import google_crc32c

from wellhead.catalog import keys
from wellhead.catalog import receipt as receipts
from wellhead.egress.network import GATEWAY_ENDED
from wellhead.errors import (
    Code,
    ConfigurationError,
    FatalError,
    RefusedError,
    ThrottledError,
    TransientError,
    WellheadError,
    counted,
)
from wellhead.ids import WHOLE_STREAM, ConnectionKey, StreamKey, StreamName, UnitKey
from wellhead.lifecycle.host import Run
from wellhead.lifecycle.plan import Plan
from wellhead.lifecycle.report import ErrorReport, Report, Status, StreamReport, error_document, reported
from wellhead.lifecycle.stop import Reason
from wellhead.registry import egress_audit, run_state, runs
from wellhead.registry.database import Database
from wellhead.telemetry.logs import Level

if TYPE_CHECKING:
    from wellhead.lifecycle.read import Tally
    from wellhead.sinks.base import Sink

DENIED_EGRESS = Code("WH-RUN-055", "A run was denied connections, and `egress.on_denied` is `fail`.")

NOTHING_REACHED = Code("WH-RUN-056", "All a run wanted to reach was denied, and will be the next time.")

RECEIPT_VERSION = 1

LOG_EVENT = "connector.run.log_incomplete"
#: Connections, or names that were denied, are missing from what a fence recorded.
HOLE_EVENT = "connector.run.egress_incomplete"

#: Of the denied contacts, how many an error names; `runs show` has them all.
MAX_DENIALS = 5

#: Denials that a later try may not meet with; every other one stays until a person changes something.
PASSING = frozenset({"resolver_failed", "too_many_connections", "gateway_closed", "client_left"})
#: The denial of a name that no resolver knows.
UNKNOWN_NAME = "no_address"

#: Exit status of a run in which some streams failed and others did not.
PARTIAL = 3


@dataclass(frozen=True, slots=True)
class Ending:
    """How the attempts of a run came out."""

    tallies: dict[StreamName, Tally]
    failed: dict[StreamName, WellheadError]
    attempts: int
    stopped: Reason | None
    error: WellheadError | None
    retry_at: datetime | None
    identity: dict[str, object]
    leases: tuple[dict[str, object], ...]
    is_done: bool = False
    """Whether every stream was read to its end, so that a stop that came after that stopped nothing."""


def earlier(database: Database, connection: ConnectionKey, logical_run_id: str | None) -> Report | None:
    """Return the result of a run that already succeeded under this logical id, so that calling twice is safe."""
    if logical_run_id is None:
        return None
    with database.read() as tx:
        found = runs.by_logical_id(tx, connection, logical_run_id)
    if found is None or found.status != "succeeded" or found.outcome is None or found.outcome.receipt is None:
        return None
    receipt = found.outcome.receipt
    return Report(
        run_id=found.run_id,
        logical_run_id=logical_run_id,
        connection=connection.name,
        status=Status.ALREADY_DONE,
        exit_code=0,
        release=receipt["release"],
        held=receipt["held"],
        attempts=found.attempt,
        bronze_path=receipt["bronze_path"],
        streams=tuple(
            StreamReport(
                name=stream["name"],
                mode=stream["mode"],
                rows=stream["rows"],
                dead_letters=stream["dead_letters"],
                bytes=stream["bytes"],
                checkpoint=stream["checkpoint"],
                content_crc32c=int(stream["content_crc32c"], 16),
                table=stream["table"],
            )
            for stream in receipt["streams"]
        ),
        egress=receipt["egress"]["counts"],
    )


def close(here: Run, plan: Plan | None, logical_run_id: str | None, ending: Ending) -> Report:
    """Judge the ending, store it with its receipt, and return the report.

    A run that lost its lease stores nothing: its row belongs to whoever found it dead.
    """
    with here.host.database.read() as tx:
        contacts = egress_audit.of_run(tx, here.claim.run_id)
        states = {(unit.stream.stream, unit.unit): unit for unit in run_state.all_of(tx, here.claim.connection)}
        events = runs.events(tx, here.claim.run_id)
    if ending.error is not None and ending.stopped is None:
        ending = replace(ending, error=lasting(ending.error, contacts))
    status, exit_code, error = _judge(ending)
    egress = {
        "allowed": sum(contact.verdict == "allow" for contact in contacts),
        "denied": sum(contact.verdict == "deny" for contact in contacts),
    }
    refused = refused_by_policy(contacts)
    if refused and here.host.settings.egress.on_denied == "fail" and status in (Status.SUCCEEDED, Status.PARTIAL):
        error = RefusedError(
            f"the fence denied {counted(refused, 'connection')} to hosts outside the policy",
            code=DENIED_EGRESS,
            hint=f"`wellhead runs show {here.claim.run_id}` lists them; what was read is committed",
        )
        status, exit_code = Status.REFUSED, RefusedError.exit_code
    is_open = status in (Status.SUCCEEDED, Status.PARTIAL) or (
        status is Status.FAILED and error is not None and error.code == GATEWAY_ENDED
    )
    if is_open and any(_is_unnoticed_hole(event) for event in events):
        # An attempt after it found streams or units read to their end, and so could not make up for it.
        error = TransientError(
            "the egress gateway ended while the connector read, and the connector went on to its end: rows may be "
            "missing, and connections are missing from the record",
            code=GATEWAY_ENDED,
            hint="what was read is committed; compare it with the source, and look at the Engine's log",
        )
        status, exit_code = Status.FAILED, error.exit_code
    report = Report(
        run_id=here.claim.run_id,
        logical_run_id=logical_run_id,
        connection=here.claim.connection.name,
        status=status,
        exit_code=exit_code,
        release=None
        if plan is None
        else {
            "id": plan.release.connector,
            "version": plan.release.version,
            "digest": plan.release.index_digest,
        },
        held=plan is not None and plan.is_held,
        retry_at=ending.retry_at,
        attempts=ending.attempts,
        bronze_path=None if plan is None else str(plan.bronze_path),
        streams=() if plan is None else _streams(here, plan, ending, states),
        egress=egress,
        timings=here.timeline.seconds(),
        error=None if error is None else _with_denials(error_of(here, error), contacts),
    )
    if ending.stopped is not Reason.FENCED:
        _store(here, plan, ending, report, [_contact(contact) for contact in contacts])
    return report


def unrecorded(
    here: Run, plan: Plan | None, logical_run_id: str | None, ending: Ending, failure: WellheadError
) -> Report:
    """Return the report of a run whose end could not be stored; what is committed stands all the same."""
    here.log.write(Level.ERROR, "end_not_recorded", code=str(failure.code), error=failure.message)
    error = ending.error or failure
    return Report(
        run_id=here.claim.run_id,
        logical_run_id=logical_run_id,
        connection=here.claim.connection.name,
        status=Status.FAILED,
        exit_code=error.exit_code,
        attempts=ending.attempts,
        bronze_path=None if plan is None else str(plan.bronze_path),
        timings=here.timeline.seconds(),
        error=error_of(here, error),
    )


def refused_by_policy(contacts: Sequence[egress_audit.Contact]) -> int:
    """Count what was denied for what it was, and not for what befell the gateway, the resolver or the client."""
    mishaps = PASSING | {UNKNOWN_NAME}
    return sum(contact.verdict == "deny" and contact.reason not in mishaps for contact in contacts)


def _is_unnoticed_hole(event: runs.Event) -> bool:
    details = event.details
    return event.event == HOLE_EVENT and details["code"] is not None and not details["is_noticed"]


def lasting(error: WellheadError, contacts: Sequence[egress_audit.Contact]) -> WellheadError:
    """Return what lies behind a source that "is not available": a denial that trying again would only meet again.

    Where one connection was let through, or one denial may pass by itself, the connector knows best. An error that is
    not the connector's, such as an Engine that does not answer, says itself what it is.
    """
    if not isinstance(error, TransientError) or isinstance(error, ThrottledError) or not contacts:
        return error
    # Where there are contacts the session was imported; before the start it would cost too much.
    from wellhead.session.failures import TRANSIENT

    if error.code != TRANSIENT:
        return error
    if any(contact.verdict == "allow" or contact.reason in PASSING for contact in contacts):
        return error
    is_unknown = all(contact.reason == UNKNOWN_NAME for contact in contacts)
    kind = ConfigurationError if is_unknown else RefusedError
    why = "no resolver knows the name" if is_unknown else "the fence denies it"
    names = dict.fromkeys(f"{contact.host}:{contact.port}" for contact in contacts)
    return kind(
        f"nothing was reached of {', '.join(list(names)[:MAX_DENIALS])}: {why} ({error.message})",
        code=NOTHING_REACHED,
        hint="see that the connection's file names the right host" if is_unknown else None,
    )


def explained(here: Run, error: WellheadError) -> WellheadError:
    """Return the error of a probe as a run tells its own: by what the fence denied, and without secrets.

    Only right once the probe's fence is down: what it saw is recorded then.
    """
    with here.host.database.read() as tx:
        contacts = egress_audit.of_run(tx, here.claim.run_id)
    if here.stop.reason is None:
        error = lasting(error, contacts)
    told = _with_denials(error_of(here, error), contacts)
    return error.reworded(told.message, told.hint, told.details)


def _judge(ending: Ending) -> tuple[Status, int, WellheadError | None]:
    error = ending.error
    if ending.stopped is Reason.FENCED:
        return Status.FAILED, TransientError.exit_code, error
    if ending.stopped is not None and (isinstance(error, TransientError) or (error is None and not ending.is_done)):
        return Status.STOPPED, ending.stopped.exit_code, error
    if ending.retry_at is not None:
        return Status.PARKED, TransientError.exit_code, error
    if isinstance(error, RefusedError):
        return Status.REFUSED, error.exit_code, error
    if error is not None:
        return Status.FAILED, error.exit_code, error
    if ending.failed:
        return Status.PARTIAL, PARTIAL, None
    return Status.SUCCEEDED, 0, None


def _streams(
    here: Run, plan: Plan, ending: Ending, states: dict[tuple[StreamName, UnitKey], run_state.UnitState]
) -> tuple[StreamReport, ...]:
    from wellhead.lifecycle.read import Tally

    reports = []
    sink = _sink(here, plan)
    for selection in plan.connection.streams:
        name = StreamName(selection.name)
        tally = ending.tallies.get(name, Tally())
        failure = ending.failed.get(name)
        unit = states.get((name, WHOLE_STREAM))
        chain = b"".join(crc.to_bytes(4, "big") for crc in tally.crc32c)
        reports.append(
            StreamReport(
                name=selection.name,
                mode=selection.mode,
                rows=tally.rows,
                dead_letters=tally.rejected,
                bytes=tally.bytes,
                checkpoint=None if unit is None or not unit.state else _shown(here, unit.state),
                content_crc32c=google_crc32c.value(chain),
                table=None if sink is None else str(sink.table(StreamKey(here.claim.connection, name))),
                error=None if failure is None else error_of(here, failure),
            )
        )
    return tuple(reports)


def _sink(here: Run, plan: Plan) -> Sink | None:
    """Open the sink to name its tables; None where it cannot be: what ended the run is to be recorded all the same."""
    try:
        return here.host.sink(plan.connection.sink)
    except WellheadError as error:
        here.log.write(Level.WARNING, "tables_not_named", code=str(error.code), error=error.message)
        return None


def _shown(here: Run, state: bytes) -> str:
    """Return a state as text where it is short text, else its hash; a connector may have put anything into it."""
    try:
        text = state.decode()
    except UnicodeDecodeError:
        text = ""
    if not text or len(text) > 200 or not text.isprintable():
        return f"sha256:{hashlib.sha256(state).hexdigest()}"
    return here.redactor.known(text)


def error_of(here: Run, error: WellheadError) -> ErrorReport:
    """Return an error as it may be shown: its text can quote what the connector said."""
    clean = here.redactor.text
    hint = None if error.hint is None else clean(error.hint)
    return reported(error.reworded(clean(error.message), hint, tuple(clean(detail) for detail in error.details)))


def _with_denials(error: ErrorReport, contacts: Sequence[egress_audit.Contact]) -> ErrorReport:
    """Add what the fence denied: a connector only sees a line that closes, and blames the source."""
    denied = dict.fromkeys(
        f"the fence denied {contact.host}:{contact.port}"
        + (f" at {contact.address}" if contact.address else "")
        + f": {contact.reason}"
        for contact in contacts
        if contact.verdict == "deny"
    )
    if not denied:
        return error
    mend = "if what was denied is meant to be reached, open it: `wellhead connection approve` for a host"
    mend += ", network.grants in wellhead.yaml for a private address, network.hosts for a name no resolver knows"
    hint = mend if error.hint is None else f"{error.hint}; {mend}"
    return replace(error, hint=hint, details=(*error.details, *list(denied)[:MAX_DENIALS]))


def _contact(contact: egress_audit.Contact) -> dict[str, object]:
    document = asdict(contact)
    document["at"] = contact.at.isoformat()
    return document


def _store(here: Run, plan: Plan | None, ending: Ending, report: Report, contacts: list[dict[str, object]]) -> None:
    with here.host.database.read() as tx:
        image_id = runs.get(tx, here.claim.run_id).image_id
    document = report.document()
    receipt: dict[str, Any] = {
        "receipt_version": RECEIPT_VERSION,
        **{name: document[name] for name in ("run_id", "logical_run_id", "connection", "release", "held", "status")},
        "bronze_path": report.bronze_path,
        "image_id": image_id,
        "manifest_sha256": None if plan is None else plan.release.manifest_sha256,
        "signed_by": None if plan is None else list(plan.release.key_ids),
        "streams": document["streams"],
        "egress": {"counts": report.egress, "contacts": contacts},
        "identity": ending.identity,
        "secrets": list(ending.leases),
        "finished_at": here.host.clock.now().isoformat(),
    }
    error = report.error
    failure = None if error is None else runs.Failure(error.category, error.code, error.message, error.hint)
    outcome = runs.Outcome(
        status=report.status.value,
        exit_code=report.exit_code,
        failure=failure,
        retry_at=report.retry_at,
        streams={stream["name"]: stream for stream in document["streams"]},
        metrics=_metrics(ending, report),
        timings=report.timings,
        receipt=_signed(here, receipt),
    )
    event = "connector.run.succeeded" if report.exit_code == 0 else "connector.run.failed"
    loss = here.log.loss
    with here.host.database.transaction() as tx:
        try:
            runs.finish(tx, here.claim.run_id, outcome)
        except FatalError as failure_to_close:
            here.log.write(Level.ERROR, "run_already_closed", error=failure_to_close.message)
        runs.note_event(tx, here.claim.run_id, event, {"status": report.status.value, "exit_code": report.exit_code})
        if loss is not None:
            runs.note_event(tx, here.claim.run_id, LOG_EVENT, {"loss": loss})
    if error is not None:
        here.log.write(Level.ERROR, error.message, code=error.code, error=error_document(error))


def _signed(here: Run, document: dict[str, Any]) -> dict[str, Any]:
    """Sign a receipt with the host's key; a run whose host cannot sign has ended all the same."""
    try:
        return receipts.sign(document, keys.host_pair(here.host.folder / "keys"))
    except (OSError, WellheadError) as error:
        here.log.write(Level.WARNING, "receipt_not_signed", error=str(error))
        return document


def _metrics(ending: Ending, report: Report) -> dict[str, float]:
    frames = [tally.progress for tally in ending.tallies.values()]
    return {
        "requests_total": sum(frame.requests_total for frame in frames),
        "requests_failed_total": sum(frame.requests_failed_total for frame in frames),
        "bytes_ingested_total": sum(frame.bytes_ingested_total for frame in frames)
        or sum(stream.bytes for stream in report.streams),
        "pages_processed_total": sum(frame.pages_processed_total for frame in frames),
        "retries_total": sum(frame.retries_total for frame in frames) + max(0, ending.attempts - 1),
        "duration_seconds": report.timings.get("total", 0.0),
    }
