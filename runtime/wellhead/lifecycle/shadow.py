"""Two releases over one range: what another release would have read, told before any connection is moved to it.

    lease ─▶ both planned ─▶ states copied ─▶ the present one: probe, read ─▶ the candidate: probe, read ─▶ compared
                                                   │                               │
                              scratch/…/present/{registry.db, bronze}   scratch/…/candidate/{registry.db, bronze}

Each half is a run's own reading, on a registry and a sink that are thrown away: it commits, and nothing of it is true
for anybody. What a half needs of the real registry is what every probe needs: its row, the accessor of its token, what
its fence saw. The lease keeps true runs from moving the states on between the halves. The source is never told that
something was committed, so only sources that can be read twice are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from wellhead.catalog.resolve import Decision
from wellhead.connections import ConnectionFile, StreamSelection
from wellhead.errors import Code, ConfigurationError, RefusedError, TransientError, WellheadError, counted
from wellhead.ids import WHOLE_STREAM, ConnectorId, Digest, RunId, StreamKey, StreamName
from wellhead.lifecycle import claim, discover, plan, resolution, state
from wellhead.lifecycle import run as lifecycle
from wellhead.lifecycle.claim import Claim
from wellhead.lifecycle.host import Host, Run
from wellhead.lifecycle.plan import Plan
from wellhead.lifecycle.record import DENIED_EGRESS, error_of, refused_by_policy
from wellhead.lifecycle.report import ErrorReport, error_document
from wellhead.lifecycle.scratch import scratch
from wellhead.lifecycle.stop import Reason, Stop
from wellhead.manifest.model import Manifest
from wellhead.registry import connections, egress_audit, generations, run_state, runs
from wellhead.registry.database import Database, Transaction
from wellhead.sinks import envelope
from wellhead.sinks.parquet import Parquet
from wellhead_sdk.wire.messages import Committed, OfferedStream, Replay

if TYPE_CHECKING:
    from wellhead.compat.readings import Comparison, Reading

SCHEMA_VERSION = 1
COMPARED_EVENT = "connector.shadow.compared"

READ_ONCE = Code("WH-RUN-090", "A source that can be read only once was to be read twice.")
UNREADABLE = Code("WH-RUN-091", "A release cannot begin where the connection stands.")
DIFFERENT = Code("WH-RUN-092", "Two releases do not read the same.")

Begin = Literal["start", "checkpoint"]


@dataclass(frozen=True, slots=True)
class Order:
    """What one call of ``wellhead shadow`` asks for."""

    version: str
    """Of the candidate."""
    full: bool = False
    """Let both read from the start, whatever the connection has read."""
    streams: tuple[str, ...] = ()
    """Of those the connection selects; empty means all."""
    ignore: frozenset[str] = frozenset()
    """Columns left out of the comparison."""
    examples: int = 5
    """Rows to show of each kind of difference and stream."""


@dataclass(frozen=True, slots=True)
class Side:
    """One release, the run it read in, and how often the policy denied it something; no run where it came to none."""

    version: str
    digest: Digest
    run_id: RunId | None = None
    denied: int = 0


@dataclass(frozen=True, slots=True)
class StreamShadow:
    """What one stream comes to; pairs are (present, candidate), ``comparison`` is None where one could not be read."""

    name: str
    begin: Begin
    dead_letters: tuple[int, int]
    errors: tuple[ErrorReport | None, ErrorReport | None]
    comparison: Comparison | None

    @property
    def is_equal(self) -> bool:
        """Say whether both read the same, and set as many records aside."""
        one, other = self.dead_letters
        return self.comparison is not None and self.comparison.is_equal and one == other


@dataclass(frozen=True, slots=True)
class Shadow:
    """The end of a shadow; ``stopped`` says why there is nothing to tell."""

    run_id: RunId
    connection: str
    connector: str
    present: Side
    candidate: Side
    streams: tuple[StreamShadow, ...] = ()
    stopped: Reason | None = None

    @property
    def is_equal(self) -> bool:
        """Say whether every stream was compared and is the same, and neither alone wanted to leave its fence."""
        return self.stopped is None and not self.differences

    @property
    def differences(self) -> tuple[str, ...]:
        """Return the streams that differ, and ``egress`` where the fence denied something to one alone."""
        streams = tuple(stream.name for stream in self.streams if not stream.is_equal)
        return streams if bool(self.present.denied) == bool(self.candidate.denied) else (*streams, "egress")

    @property
    def exit_code(self) -> int:
        """Return 0 where both read the same, 78 where they do not, and what a stopped run returns."""
        if self.stopped is not None:
            return self.stopped.exit_code
        return 0 if self.is_equal else ConfigurationError.exit_code

    def require_equal(self) -> None:
        """Refuse to call it equal where it is not.

        Raises:
            ConfigurationError: WH-RUN-092.
        """
        if self.stopped is None and self.differences:
            raise ConfigurationError(
                f"{self.connector} {self.candidate.version} does not read what {self.present.version} reads: "
                f"{', '.join(self.differences)}",
                code=DIFFERENT,
                hint="see that each difference is meant; --ignore COLUMN leaves out what is never the same twice",
            )

    def document(self) -> dict[str, Any]:
        """Return the one JSON document of ``shadow --json``; its shape changes only with `SCHEMA_VERSION`."""
        status = "stopped" if self.stopped is not None else "equal" if self.is_equal else "different"
        return {
            "schema_version": SCHEMA_VERSION,
            "run_id": self.run_id,
            "connection": self.connection,
            "connector": self.connector,
            "present": asdict(self.present),
            "candidate": asdict(self.candidate),
            "status": status,
            "exit_code": self.exit_code,
            "streams": [_document(stream) for stream in self.streams],
        }


def _document(stream: StreamShadow) -> dict[str, Any]:
    found = stream.comparison
    return {
        "name": stream.name,
        "equal": stream.is_equal,
        "begin": stream.begin,
        "dead_letters": _pair(stream.dead_letters),
        "errors": _pair(tuple(error_document(error) for error in stream.errors)),
        "comparison": None
        if found is None
        else {
            "schema": [asdict(change) for change in found.schema],
            "rows": _pair(found.rows),
            "too_new": _pair(found.too_new),
            "matched_by": "key" if found.by_key else "content",
            "present_only": found.present_only,
            "candidate_only": found.candidate_only,
            "changed": found.changed,
            "columns": dict(found.columns),
            "repeated": _pair(found.repeated),
            "uncompared": list(found.uncompared),
            "examples": [
                {
                    "kind": example.kind,
                    "key": dict(example.key),
                    "columns": {name: _pair(values) for name, values in example.columns.items()},
                }
                for example in found.examples
            ],
        },
    }


def _pair(values: tuple[Any, ...]) -> dict[str, Any]:
    present, candidate = values
    return {"present": present, "candidate": candidate}


def shadow(host: Host, file: ConnectionFile, order: Order, stop: Stop, watch: lifecycle.Watch) -> Shadow:
    """Read the same range with the connection's present release and with another, and compare.

    Args:
        host: the services of this host.
        file: the connection.
        order: which release, and how to compare.
        stop: set by signals; the half that reads drains, and nothing is compared.
        watch: told each step of each half.

    Raises:
        HeldError: the connection is being run.
        UsageError: a stream is not selected, or no version was named.
        ConfigurationError: the candidate cannot read the stored state (WH-RUN-091), or the source cannot be read twice
            (WH-RUN-090).
        WellheadError: whatever keeps either half from reading; everything is cleaned then as well.
    """
    lifecycle.check_streams(file, order.streams)
    file = _appending(file, order.streams)
    with claim.holding(
        host.database, file, host=host.id, ttl_s=host.settings.lease.ttl_s, stop=stop, clock=host.clock
    ) as held:
        try:
            done = _shadow(host, file, order, stop, watch, held)
        except WellheadError as error:
            _close(host, held, stop, error)
            raise
        except BaseException:
            stop.request(Reason.INTERRUPTED)
            _close(host, held, stop, None)
            raise
        _close(host, held, stop, None, done)
        return done


def _shadow(host: Host, file: ConnectionFile, order: Order, stop: Stop, watch: lifecycle.Watch, held: Claim) -> Shadow:
    present = plan.own(host, file, _exactly(host, file, _present(host, file)), host.platform)
    candidate = plan.beside(host, file, _exactly(host, file, order.version), present)
    with host.database.read() as tx:
        begun = () if order.full else _begun(tx, file)
    for planned in (present, candidate):
        _require_twice(planned, Replay(planned.manifest.capabilities.replay), "the source")
        _require_readable(planned, begun)
    done = Shadow(held.run_id, file.connection.name, file.connection.connector, _side(present), _side(candidate))
    with scratch(host.scratch) as area:
        since = host.clock.now()
        try:
            one = _half(host, file, present, begun, area / "present", stop, watch)
            done = replace(done, present=replace(done.present, run_id=one.run_id, denied=one.denied))
            if stop.reason is None:
                other = _half(host, file, candidate, begun, area / "candidate", stop, watch)
                done = replace(done, candidate=replace(done.candidate, run_id=other.run_id, denied=other.denied))
        except TransientError:
            # A connector that is ended in the middle of a call breaks it off: that is not why it ended.
            if stop.reason is None:
                raise
        if stop.reason is not None:
            return replace(done, stopped=stop.reason)
        watch.step("compare")
        names = {item.generation.stream.stream for item in begun}
        streams = tuple(
            _compared(selection, one, other, order, since, "checkpoint" if selection.name in names else "start")
            for selection in file.connection.streams
        )
        return replace(done, streams=streams)


def _appending(file: ConnectionFile, names: Sequence[str]) -> ConnectionFile:
    """Return the connection with the wanted streams alone; there is no table that a full refresh could replace."""
    streams = tuple(
        stream.model_copy(update={"write": "append"})
        for stream in file.connection.streams
        if not names or stream.name in names
    )
    return replace(file, connection=file.connection.model_copy(update={"streams": streams}))


def _present(host: Host, file: ConnectionFile) -> str:
    """Return the release the connection ran last, or the one it would begin with."""
    with host.database.read() as tx:
        resolved = connections.get(tx, file.key).resolved
    return resolution.choose(host, file, host.platform).require().version if resolved is None else resolved.version


def _exactly(host: Host, file: ConnectionFile, version: str) -> Decision:
    return resolution.exactly(host, file, host.platform, version)


def _side(planned: Plan) -> Side:
    return Side(planned.release.version, planned.release.index_digest)


@dataclass(frozen=True, slots=True)
class _Begun:
    """A stream that a true run would go on with: its generation, and the one unit that holds its state."""

    generation: generations.Generation
    unit: run_state.UnitState


def _begun(tx: Transaction, file: ConnectionFile) -> tuple[_Begun, ...]:
    """Return what both halves go on from; streams that are not among them are read from the start by both.

    A first read in parts is not gone on with: whether its plan still holds depends on the release, and then the two
    would not read the same range.
    """
    found = []
    for selection in file.connection.streams:
        stream = StreamKey(file.key, StreamName(selection.name))
        current = generations.current(tx, stream)
        if current is None or selection.mode != "incremental" or current.basis.mode != "incremental":
            continue
        if current.status == "open" and current.basis.write != "append":
            continue
        if state.is_of_another(tx, current, ConnectorId(file.connection.connector)):
            continue
        units = run_state.load(tx, stream, current.number)
        if [unit.unit for unit in units] == [WHOLE_STREAM] and units[0].state:
            found.append(_Begun(current, units[0]))
    return tuple(found)


def _require_readable(planned: Plan, begun: Sequence[_Begun]) -> None:
    reads = planned.manifest.compatibility.state.reads
    for item in begun:
        if item.unit.state_version not in reads:
            stream = item.unit.stream.stream
            raise ConfigurationError(
                f"{planned.release.connector} {planned.release.version} reads state of version "
                f"{', '.join(map(str, sorted(reads)))}, and {stream} has version {item.unit.state_version}",
                code=UNREADABLE,
                hint="--full lets both releases read from the start",
            )


def _require_twice(planned: Plan, replay: Replay, what: str) -> None:
    if replay is Replay.POSITION:
        return
    why = {
        Replay.REDELIVERY: "hands out again what was not acknowledged, so a second reader would take it from the first",
        Replay.NONE: "hands out each record once, and a true run would never see what a shadow has read",
    }[replay]
    raise ConfigurationError(
        f"{what} of {planned.release.connector} {planned.release.version} cannot be read twice: it {why}",
        code=READ_ONCE,
        hint="try the release on a connection of its own, such as a test queue, with `channel: candidate`",
    )


@dataclass(slots=True)
class _Half:
    """What one release has read."""

    run_id: RunId
    planned: Plan
    offered: dict[str, OfferedStream]
    progress: lifecycle.Progress
    errors: dict[StreamName, ErrorReport]
    files: dict[str, tuple[Path, ...]] = field(default_factory=dict)
    denied: int = 0


def _half(
    host: Host,
    file: ConnectionFile,
    planned: Plan,
    begun: Sequence[_Begun],
    area: Path,
    stop: Stop,
    watch: lifecycle.Watch,
) -> _Half:
    """Read all streams with one release into ``area``; its container, fence and token are gone when this returns."""
    sink = Parquet(area / "bronze")
    release = planned.release

    def freeze(here: Run) -> Plan:
        plan.store(here, planned)
        return planned

    try:
        with (
            _registry(area / "registry.db", file, begun, host) as (database, right),
            # A half sees no other sink than this one, whatever it does.
            lifecycle.probe(replace(host, sink=lambda _selection: sink), file, stop, watch, freeze) as opened,
        ):
            here, _, session, _ = opened
            names = [stream.name for stream in file.connection.streams]
            with here.timeline.step("discover"):
                offered = discover.discover(
                    here, session, names, connector_id=release.connector, version=release.version
                )
            for stream in offered:
                _require_twice(planned, stream.replay, f"stream {stream.name!r}")
            into = lifecycle.Destination(database, right, sink, acknowledge=_keep_from_source)
            half = _Half(
                here.claim.run_id, planned, {stream.name: stream for stream in offered}, lifecycle.Progress(), {}
            )
            with here.timeline.step("read"), lifecycle.deadline(planned.deadlines.total_s, stop):
                for stream in offered:
                    if stop.reason is None:
                        lifecycle.read(here, planned, lifecycle.Order(), session, stream, half.progress, into)
            half.errors = {name: error_of(here, error) for name, error in half.progress.failed.items()}
        # The fence is down by now, and all that it saw is recorded.
        half.denied = _denied(host, half.run_id)
    except WellheadError as error:
        error.details = (*error.details, f"{release.connector} {release.version} was reading")
        raise
    for name in half.offered:
        stream_key = StreamKey(file.key, StreamName(name))
        half.files[name] = tuple(sink.path / found for found in sink.published_files(stream_key))
    return half


def _denied(host: Host, run_id: RunId) -> int:
    """Return how often the policy denied something to a half.

    Raises:
        RefusedError: that ends a true run here, too.
    """
    with host.database.read() as tx:
        denied = refused_by_policy(egress_audit.of_run(tx, run_id))
    if denied and host.settings.egress.on_denied == "fail":
        raise RefusedError(
            f"the fence denied {counted(denied, 'connection')} to hosts outside the policy",
            code=DENIED_EGRESS,
            hint=f"`wellhead runs show {run_id}` lists them",
        )
    return denied


def _keep_from_source(_committed: Committed) -> None:
    """Tell the source nothing: what a shadow has committed, nobody has."""


@contextmanager
def _registry(
    path: Path, file: ConnectionFile, begun: Sequence[_Begun], host: Host
) -> Iterator[tuple[Database, Claim]]:
    """Lend a registry in which the connection stands where it truly does, and the right to commit to it."""
    database = Database.open(f"sqlite:///{path}", clock=host.clock)
    try:
        database.migrate()
        run_id = RunId("shadow")
        with database.transaction() as tx:
            claim.onboard(tx, file)
            lease = connections.claim_lease(tx, file.key, run_id=run_id, host_id=host.id, ttl_s=0.0)
            for item in begun:
                # Its rows are in the true sink, and what is read here goes elsewhere on purpose.
                generations.adopt(tx, replace(item.generation, basis=replace(item.generation.basis, sink=None)))
                run_state.adopt(tx, item.unit)
        yield database, Claim(run_id, file.key, host.id, lease.epoch)
    finally:
        database.close()


def _compared(
    selection: StreamSelection, one: _Half, other: _Half, order: Order, since: datetime, begin: Begin
) -> StreamShadow:
    # Polars takes longer to import than a run to start, and more memory: not before both have read.
    from wellhead.compat import readings

    name = StreamName(selection.name)
    errors = (one.errors.get(name), other.errors.get(name))
    comparison = None
    if errors == (None, None):
        offered = one.offered[name]
        terms = readings.Terms(
            key=selection.primary_key or offered.primary_key,
            ignore=order.ignore,
            masked=_personal(one.planned.manifest, name) | _personal(other.planned.manifest, name),
            extra=(envelope.OP,),
            cursor=selection.cursor_field or next(iter(offered.cursor_fields), ""),
            since=since,
            examples=order.examples,
        )
        comparison = readings.compare(_reading(selection, one), _reading(selection, other), terms)
    return StreamShadow(
        name=name,
        begin=begin,
        dead_letters=(_rejected(one, name), _rejected(other, name)),
        errors=errors,
        comparison=comparison,
    )


def _rejected(half: _Half, name: StreamName) -> int:
    tally = half.progress.tallies.get(name)
    return 0 if tally is None else tally.rejected


def _reading(selection: StreamSelection, half: _Half) -> Reading:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from wellhead.compat.readings import Reading

    offered, files = half.offered[selection.name], half.files[selection.name]
    fields = {item.name: item for item in offered.schema if not selection.columns or item.name in selection.columns}
    for file in files:
        # A source that changed while it was read has more to say than it offered.
        fields |= {item.name: item for item in pq.read_schema(file) if item.name not in envelope.NAMES}
    for name in (envelope.OP, envelope.POSITION):
        fields.pop(name, None)
    return Reading(
        schema=pa.schema(list(fields.values())),
        files=files,
        traits={
            "(primary key)": ", ".join(selection.primary_key or offered.primary_key),
            "(cursor)": ", ".join(offered.cursor_fields),
            "(event time)": offered.event_time_field,
            "(position)": "yes" if offered.has_position else "no",
        },
    )


def _personal(manifest: Manifest, stream: str) -> frozenset[str]:
    """Return the columns of a stream that say something about people."""
    return frozenset(
        column
        for entry in manifest.streams
        if entry.name == stream or (entry.pattern is not None and re.search(entry.pattern, stream))
        for column in entry.fields
    )


def _close(host: Host, held: Claim, stop: Stop, error: WellheadError | None, done: Shadow | None = None) -> None:
    """Close the shadow's own row; one that lost its lease has none any more."""
    if stop.reason is Reason.FENCED:
        return
    status, exit_code, failure = "succeeded", 0, None
    if error is not None:
        status, exit_code = "refused" if isinstance(error, RefusedError) else "failed", error.exit_code
        failure = runs.Failure(error.category, str(error.code), error.message, error.hint)
    elif stop.reason is not None:
        status, exit_code = "stopped", stop.reason.exit_code
    with host.database.transaction() as tx:
        runs.finish(tx, held.run_id, runs.Outcome(status, exit_code, failure))
        if done is not None and done.stopped is None:
            details = {
                "present": [done.present.version, done.present.run_id],
                "candidate": [done.candidate.version, done.candidate.run_id],
                "is_equal": done.is_equal,
            }
            runs.note_event(tx, held.run_id, COMPARED_EVENT, details)
