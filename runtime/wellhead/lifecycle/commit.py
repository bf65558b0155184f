"""The commit: one registry transaction that makes a segment, its dead letters and its checkpoint true together.

    segment fsynced ──▶ [ epoch is ours · unit is where we left it · segment row · dead letters · state ] ──▶ Checkpoint

Before it nothing of the segment exists for anybody; after it everything does, even if this process dies at once.
"""

from __future__ import annotations

from dataclasses import dataclass

from wellhead import failpoints
from wellhead.errors import TransientError
from wellhead.ids import WHOLE_STREAM
from wellhead.lifecycle.claim import Claim
from wellhead.registry import checkpoints, deadletters, generations, run_state, segments
from wellhead.registry.database import OUTCOME_UNKNOWN, Database, Transaction


@dataclass(frozen=True, slots=True)
class Work:
    """What one commit makes true; ``segment`` is None where no row was written."""

    segment: segments.NewSegment | None
    rejected: tuple[deadletters.Rejected, ...]
    checkpoint: run_state.Checkpoint


@dataclass(frozen=True, slots=True)
class Committed:
    """The unit after the commit, and the segment's row to publish."""

    unit: run_state.UnitState
    segment: segments.Segment | None


def commit(database: Database, claim: Claim, before: run_state.UnitState, work: Work) -> Committed:
    """Commit ``work`` on top of ``before``.

    An answer that was lost is not a failure: the unit's row tells whether the commit is there.

    Raises:
        TransientError: another run took over, the row moved on, or the registry is away. Nothing of ``work`` is true
            then, and nothing later of this unit may be committed in this attempt.
    """
    try:
        with database.transaction() as tx:
            committed = _write(tx, claim, before, work)
            failpoints.reach("in_transaction")
    except TransientError as error:
        if error.code != OUTCOME_UNKNOWN:
            raise
        found = _look(database, claim, before, work)
        if found is None:
            raise
        committed = found
    failpoints.reach("committed")
    return committed


def _write(tx: Transaction, claim: Claim, before: run_state.UnitState, work: Work) -> Committed:
    # Invariant 2: one transaction is the commit.
    claim.prove(tx)
    _keep(tx, before, work.checkpoint.state_version)
    unit = run_state.advance(tx, before, epoch=claim.epoch, checkpoint=work.checkpoint)
    row = None if work.segment is None else segments.commit(tx, work.segment)
    if work.rejected:
        place = deadletters.Place(
            before.stream, before.unit, before.generation, claim.epoch, unit.commit_no, claim.run_id
        )
        deadletters.set_aside(tx, place, work.rejected)
    if work.checkpoint.complete:
        _complete(tx, claim, unit)
    return Committed(unit, row)


def _keep(tx: Transaction, before: run_state.UnitState, state_version: int) -> None:
    """Keep the last checkpoint of a format that is being left: an older release may have to go on from it."""
    if before.unit == WHOLE_STREAM and before.state and before.state_version != state_version:
        checkpoints.keep(
            tx,
            checkpoints.Kept(before.stream, before.state_version, before.state, before.generation, before.rows_total),
        )


def _complete(tx: Transaction, claim: Claim, unit: run_state.UnitState) -> None:
    """Complete the generation with its last unit, in that unit's own transaction."""
    generation = generations.current(tx, unit.stream)
    if generation is None or generation.number != unit.generation:
        # Passed over in silence, the run would end as succeeded over a table that nothing has changed.
        raise TransientError(
            f"generation {unit.generation} of {unit.stream} was given up while it was read",
            code=run_state.MOVED_ON,
            hint="somebody began another or reset the stream; the next attempt reads the registry first",
        )
    if generation.status != "open":
        return
    if not run_state.all_complete(tx, unit.stream, unit.generation):
        return
    if unit.unit != WHOLE_STREAM:
        run_state.finish_partitions(
            tx,
            unit.stream,
            generation=unit.generation,
            epoch=claim.epoch,
            final_state=generation.final_state,
            final_state_version=generation.final_state_version,
        )
    generations.mark_complete(tx, unit.stream, unit.generation)


def _look(database: Database, claim: Claim, before: run_state.UnitState, work: Work) -> Committed | None:
    with database.transaction() as tx:
        # Locks the connection's row: a commit that is still on its way through the server ends before we look.
        # Invariant 14: a lost answer means unknown.
        claim.prove(tx)
        rows = run_state.all_of(tx, claim.connection)
        unit = next((row for row in rows if row.stream == before.stream and row.unit == before.unit), None)
        if unit is None or unit.epoch != claim.epoch or unit.commit_no != before.commit_no + 1:
            return None
        if work.segment is None:
            return Committed(unit, None)
        rows_of_generation = segments.of_generation(tx, before.stream, before.generation)
        row = next((found for found in rows_of_generation if found.name == work.segment.name), None)
        return None if row is None else Committed(unit, row)
