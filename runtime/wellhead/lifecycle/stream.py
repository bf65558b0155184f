"""Reading one stream: which generation, which units, in parallel; then the table's change of place.

                 ┌ full refresh, first incremental, --full-refresh ─▶ a new generation, the connector plans its units
stream ── is it ─┤ an unfinished generation on the same basis ──────▶ the stored plan, from the stored states
                 └ incremental with a state ────────────────────────▶ unit `all`, from its state

A new generation of an incremental stream takes the place of the rows that are there, since it reads them all again;
what later runs add to it is appended.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

from wellhead import failpoints
from wellhead.connections import StreamSelection
from wellhead.errors import Code, ConfigurationError, FatalError, ThrottledError, TransientError
from wellhead.ids import ConnectorId, StreamKey, UnitKey, is_unit_key
from wellhead.lifecycle import select, state
from wellhead.lifecycle.read import StreamTask, Tally, Tools, read_unit, require_format, require_no_secret
from wellhead.registry import generations, run_state, segments
from wellhead.registry.database import Transaction
from wellhead.session.failures import PLAN_STALE
from wellhead.sinks import envelope
from wellhead_sdk.wire import arrow
from wellhead_sdk.wire.messages import (
    Committed,
    Filter,
    OfferedStream,
    ReadOrder,
    ReadPlan,
    SyncMode,
    Unit,
    Until,
    WriteMode,
)

MODE_UNSUPPORTED = Code("WH-RUN-040", "A stream does not support the mode it was selected with.")
NO_CURSOR = Code("WH-RUN-041", "An incremental stream has no cursor field.")
OTHER_SINK = Code("WH-RUN-043", "A stream would go on from its state in another sink than its table's.")
BAD_UNIT = Code("WH-RUN-042", "The connector planned a unit under a name it may not have.")

#: An unfinished generation older than this is not gone on with: its first half would describe another day.
OLDEST_RESUMABLE = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class StreamOrder:
    """One stream of the plan, with what this run was asked for."""

    key: StreamKey
    selection: StreamSelection
    full_refresh: bool
    since: datetime | None
    state_writes: int
    commit_each: bool
    parallel: int
    credit_bytes: int
    source_ref: str
    source_sha256: str
    connector_id: ConnectorId
    keep_generations: int
    place: generations.Place


@dataclass(frozen=True, slots=True)
class _Opening:
    """Where a read begins; ``units`` is empty where the connector is to plan them."""

    generation: generations.Generation
    units: tuple[run_state.UnitState, ...] = ()

    @property
    def write(self) -> Literal["replace", "append"]:
        """Say where segments go: what is added to a generation that is whole goes straight into the table."""
        return self.generation.basis.write if self.generation.status == "open" else "append"


def read_stream(tools: Tools, order: StreamOrder, offered: OfferedStream, tally: Tally) -> None:
    """Read one stream to its end, or to the wish to stop, and put its table in place.

    Raises:
        ConfigurationError: the stream cannot be read as selected.
        WellheadError: whatever reading a unit raises; the other units of the stream are stopped first.
    """
    filters = filters_of(order.selection)
    _check(order, offered, filters)
    if order.selection.write == "replace" and order.selection.mode == "full_refresh":
        # Refused before an hour of reading; for an incremental stream the table decides whether it is needed.
        tools.sink.check_replace()
    try:
        generation = _read_generation(tools, order, offered, filters, _open(tools, order, offered), tally)
    except ConfigurationError as error:
        if error.code != PLAN_STALE:
            raise
        # What was planned can no longer be served: the half that was read describes a source that is gone.
        generation = _read_generation(tools, order, offered, filters, _begin(tools, order, offered), tally)
    if tools.stop.reason is None:
        finish_table(tools, order.key, generation, order.keep_generations)


def _read_generation(
    tools: Tools,
    order: StreamOrder,
    offered: OfferedStream,
    filters: tuple[Filter, ...],
    opening: _Opening,
    tally: Tally,
) -> int:
    tally.abandoned.clear()
    tally.parked.clear()
    plan = tools.session.read(_order_message(order, offered, filters, opening))
    units = opening.units or _store_plan(tools, order, opening.generation, plan)
    task = _task(tools, order, offered, filters, opening, plan)
    _repeat_checkpoints(tools, task.read_id, units)
    _read_units(tools, order, task, units, tally)
    return opening.generation.number


def filters_of(selection: StreamSelection) -> tuple[Filter, ...]:
    """Return a selection's ``{column: {op: value}}`` as typed triples."""
    return tuple(
        Filter(column, operator, tuple(value) if isinstance(value, list) else (value,))
        for column, conditions in selection.filters.items()
        for operator, value in conditions.items()
    )


def _check(order: StreamOrder, offered: OfferedStream, filters: Sequence[Filter]) -> None:
    selection = order.selection
    mode = SyncMode(selection.mode)
    if mode not in offered.sync_modes:
        supported = ", ".join(known.value for known in offered.sync_modes)
        raise ConfigurationError(
            f"stream {offered.name!r} does not support {mode.value}",
            code=MODE_UNSUPPORTED,
            hint=f"set mode to one of: {supported}",
        )
    if mode is SyncMode.INCREMENTAL and not (selection.cursor_field or offered.cursor_fields):
        raise ConfigurationError(
            f"stream {offered.name!r} is incremental and has no cursor field",
            code=NO_CURSOR,
            hint="name one with cursor_field: a column that grows when a row changes",
        )
    named = [*selection.columns, *selection.primary_key]
    if selection.cursor_field:
        named.append(selection.cursor_field)
    select.check(offered.schema, named, filters, offered.name)


def _basis(order: StreamOrder, offered: OfferedStream, write: Literal["replace", "append"]) -> generations.Basis:
    selection = order.selection
    chosen = json.dumps(
        [
            order.source_sha256,
            *(selection.mode, selection.cursor_field, selection.primary_key, selection.columns, selection.filters),
        ],
        sort_keys=True,
    )
    return generations.Basis(
        mode=selection.mode,
        write=write,
        selection_hash=hashlib.sha256(chosen.encode()).hexdigest(),
        schema_fingerprint=arrow.fingerprint(arrow.schema_bytes(offered.schema)),
        state_writes=str(order.state_writes),
        sink=order.place,
    )


def _open(tools: Tools, order: StreamOrder, offered: OfferedStream) -> _Opening:
    with tools.database.transaction() as tx:
        tools.claim.prove(tx)
        current = generations.current(tx, order.key)
        units = () if current is None else _resumable(tx, tools, order, offered, current)
    if current is not None and units:
        return _Opening(current, units)
    return _begin(tools, order, offered)


def _begin(tools: Tools, order: StreamOrder, offered: OfferedStream) -> _Opening:
    """Begin a new generation; an unfinished one before it goes, and so do its files where no reader sees them yet."""
    write = order.selection.write
    if order.selection.mode == "incremental" and write == "replace":
        if tools.sink.published_files(order.key):
            tools.sink.check_replace()
        else:
            write = "append"
    with tools.database.transaction() as tx:
        # A run that lost its lease would give up what its successor is reading, and remove the files below.
        tools.claim.prove(tx)
        current = generations.current(tx, order.key)
        generation = generations.begin(tx, order.key, _basis(order, offered, write), tools.claim.run_id)
        if current is not None and current.status == "open":
            segments.discard(tx, order.key, current.number)
    if current is not None and current.status == "open" and current.basis.write == "replace":
        tools.sink.discard_generation(order.key, current.number)
    return _Opening(generation)


def _resumable(
    tx: Transaction, tools: Tools, order: StreamOrder, offered: OfferedStream, current: generations.Generation
) -> tuple[run_state.UnitState, ...]:
    """Return the units to go on with, or none where a new generation has to begin."""
    if order.full_refresh and current.run_id != tools.claim.run_id:
        return ()
    if current.basis.mode != order.selection.mode:
        # The state of a full refresh says nothing an incremental read could go on from, nor the other way round.
        return ()
    if state.is_of_another(tx, current, order.connector_id):
        return ()
    is_incremental = current.basis.mode == "incremental"
    if current.status == "open":
        is_seen = is_incremental and current.basis.write == "append"
        is_young = tools.clock.now() - current.started_at <= OLDEST_RESUMABLE
        # An incremental stream that readers see goes on from its state whatever else changed: its table keeps its rows.
        if is_seen or (is_young and current.basis == _basis(order, offered, current.basis.write)):
            units = tuple(run_state.load(tx, order.key, current.number))
            _keep_sink(tx, tools, order, current, has_rows=any(unit.rows_generation for unit in units))
            return units
        return ()
    whole = run_state.whole_stream(tx, order.key)
    if not is_incremental or whole is None or whole.retired:
        return ()
    _keep_sink(tx, tools, order, current, has_rows=True)
    run_state.reopen(tx, order.key)
    return (replace(whole, complete=False),)


def _keep_sink(
    tx: Transaction, tools: Tools, order: StreamOrder, current: generations.Generation, *, has_rows: bool
) -> None:
    """Refuse to go on from a state into another sink: the table there would begin with the rows that are new.

    What has no row yet, or was begun before sinks were written down, is bound to the present sink.
    """
    before, name = current.basis.sink, order.key.connection.name
    if before == order.place:
        return
    if before is not None and has_rows:
        raise ConfigurationError(
            f"the table of {order.key} is in {before}, and the connection's sink is {order.place}",
            code=OTHER_SINK,
            hint="set sink back, or put the former folder in the new one's place together with the `.staging` beside "
            f"it, which says which sink it is; `wellhead run {name} --full-refresh` or `wellhead state reset {name} "
            f"{order.key.stream}` reads everything anew into the new one",
        )
    generations.bind(tx, order.key, current.number, order.place, tools.claim.run_id)


def _order_message(
    order: StreamOrder, offered: OfferedStream, filters: tuple[Filter, ...], opening: _Opening
) -> ReadOrder:
    selection = order.selection
    units = opening.units
    has_state = any(unit.state for unit in units)
    return ReadOrder(
        read_id=f"{order.key.stream}-{opening.generation.number}",
        stream=offered.name,
        mode=SyncMode(selection.mode),
        write=WriteMode(opening.write),
        generation=opening.generation.number,
        since=None if has_state else order.since,
        until=Until.CAUGHT_UP,
        columns=select.asked(selection.columns, filters),
        filters=filters,
        batch_rows=selection.batch_size,
        units=tuple(
            Unit(unit.unit, unit.descriptor, unit.state, unit.state_version, unit.complete, unit.estimated_rows)
            for unit in units
        ),
        cursor_field=selection.cursor_field or next(iter(offered.cursor_fields), ""),
        primary_key=selection.primary_key or offered.primary_key,
    )


def _store_plan(
    tools: Tools, order: StreamOrder, generation: generations.Generation, plan: ReadPlan
) -> tuple[run_state.UnitState, ...]:
    """Keep the connector's plan before the first Emit, so that a resumed generation asks for the same units."""
    wrong = [unit.key for unit in plan.units if not is_unit_key(unit.key)]
    if wrong or not plan.units or len({unit.key for unit in plan.units}) != len(plan.units):
        raise FatalError(
            f"the connector planned the units {[unit.key for unit in plan.units]!r} for {order.key.stream}",
            code=BAD_UNIT,
            hint="unit keys are unique and match [a-z0-9][a-z0-9-]{0,62}; report this to the connector's owner",
        )
    for unit in plan.units:
        require_no_secret(tools.redactor, unit.key.encode() + b"\n" + unit.descriptor, f"a unit of {order.key.stream}")
    require_no_secret(tools.redactor, plan.final_state, f"the final state of {order.key.stream}")
    require_format(order.state_writes, plan.final_state, plan.final_state_version, order.key.stream)
    planned = [run_state.PlannedUnit(UnitKey(unit.key), unit.descriptor, unit.estimated_rows) for unit in plan.units]
    with tools.database.transaction() as tx:
        tools.claim.prove(tx)
        generations.store_plan(
            tx,
            order.key,
            generation.number,
            final_state=plan.final_state,
            final_state_version=plan.final_state_version,
        )
        return tuple(
            run_state.plan_units(tx, order.key, generation=generation.number, epoch=tools.claim.epoch, units=planned)
        )


def _task(
    tools: Tools,
    order: StreamOrder,
    offered: OfferedStream,
    filters: tuple[Filter, ...],
    opening: _Opening,
    plan: ReadPlan,
) -> StreamTask:
    selection, generation = order.selection, opening.generation
    left = tuple(condition for index, condition in enumerate(filters) if index not in plan.filters_pushed_down)
    read = frozenset(selection.columns or offered.schema.names)
    primary_key = selection.primary_key or offered.primary_key
    event_time, cursor = offered.event_time_field, selection.cursor_field or next(iter(offered.cursor_fields), "")
    context = envelope.EnvelopeContext(
        stream=order.key,
        connector_id=order.connector_id,
        source_ref=order.source_ref,
        run_id=tools.claim.run_id,
        generation=generation.number,
        # A key that is not read whole identifies nothing: then the content does.
        primary_key=primary_key if read.issuperset(primary_key) else (),
        event_time_field=event_time if event_time in read else "",
        cursor_field=cursor if cursor in read else "",
        has_position=offered.has_position,
    )
    return StreamTask(
        stream=offered,
        read_id=f"{order.key.stream}-{generation.number}",
        write=opening.write,
        wanted=selection.columns,
        columns=select.left(selection.columns, filters, is_pushed_down=plan.columns_pushed_down),
        filters=left,
        commit_each=order.commit_each,
        state_writes=order.state_writes,
        context=context,
        footer={
            "wellhead.stream": str(order.key),
            "wellhead.connector": order.connector_id,
            "wellhead.source_ref": order.source_ref,
            "wellhead.generation": str(generation.number),
        },
    )


def _repeat_checkpoints(tools: Tools, read_id: str, units: Sequence[run_state.UnitState]) -> None:
    """Tell the connector again what is committed: the answer to the last Checkpoint may never have reached it."""
    for unit in units:
        if unit.state:
            tools.acknowledge(Committed(read_id, unit.unit, 0, unit.commit_no, unit.state, unit.state_version))


def _read_units(
    tools: Tools, order: StreamOrder, task: StreamTask, units: Sequence[run_state.UnitState], tally: Tally
) -> None:
    todo = [unit for unit in units if not unit.complete]
    if not todo:
        return

    def read(unit: run_state.UnitState) -> None:
        # Many units may wait for a thread: those that have not begun when the run is to end do not begin.
        if tools.stop.reason is None and not tally.abandoned.is_set() and not tally.parked.is_set():
            read_unit(tools, task, unit, order.credit_bytes, tally)

    if len(todo) == 1 or order.parallel == 1:
        for unit in todo:
            read(unit)
        return
    with ThreadPoolExecutor(max_workers=min(order.parallel, len(todo)), thread_name_prefix="unit") as pool:
        reads = [pool.submit(read, unit) for unit in todo]
        done, _ = wait(reads, return_when=FIRST_EXCEPTION)
        first = [error for error in (each.exception() for each in done) if error is not None]
        match min(first, key=_patience, default=None):
            case None:
                pass
            case ThrottledError():
                # A pause is nobody's failure: the others commit what they have read, and end.
                tally.parked.set()
            case TransientError() if tally.parked.is_set():
                pass
            case _:
                # The others end at their next frame; what they have committed stays.
                tally.abandoned.set()
    errors = [error for error in (each.exception() for each in reads) if error is not None]
    if errors:
        raise min(errors, key=_patience)


def _patience(error: BaseException) -> int:
    """Rank errors of units that ended together: first what nobody can sit out, then the pause that was asked for."""
    match error:
        case ThrottledError():
            return 1
        case TransientError():
            return 2
        case _:
            return 0


def finish_table(tools: Tools, stream: StreamKey, generation: int, keep: int) -> None:
    """Let a complete generation's folder take the table's place: no reader sees half of it (invariant 13)."""
    with tools.database.transaction() as tx:
        # Before the exchange too: it removes what is older than the former generations that are kept.
        tools.claim.prove(tx)
        current = generations.current(tx, stream)
    if current is None or current.number != generation:
        return
    if current.status == "complete" and current.basis.write == "replace":
        tools.sink.swap(stream, generation, keep=keep)
        failpoints.reach("generation_swapped")
        with tools.database.transaction() as tx:
            tools.claim.prove(tx)
            generations.mark_swapped(tx, stream, generation)
