"""What every claim does first: end what earlier claims of the connection left half done.

    lost runs closed ─▶ their tokens revoked ─▶ their containers, networks, folders gone
                    ─▶ committed segments published ─▶ complete generations in place ─▶ orphans swept

Nothing here is needed for correctness of what is committed; all of it is needed before anything new is read.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from wellhead import failpoints
from wellhead.clock import Clock
from wellhead.engine import reaper
from wellhead.engine.container import Labels
from wellhead.ids import RunId
from wellhead.lifecycle.claim import Claim
from wellhead.registry import connections, generations, revocations, runs, segments
from wellhead.registry.database import Database, Transaction
from wellhead.secrets.base import SecretStore
from wellhead.sinks import base
from wellhead.sinks.base import Sink

#: A probe whose host has not spoken for so long is dead; its keeper speaks three times a lease.
PROBE_SILENCE = timedelta(minutes=2)
#: A staged file without a row may still be written by a host that is about to be fenced.
ORPHAN_AGE_S = 3600.0


@dataclass(frozen=True, slots=True)
class Recovered:
    """What was mended, for the run's record."""

    lost_runs: tuple[RunId, ...]
    revoked: int
    published: int
    swapped: int


def recover(
    database: Database,
    claim: Claim,
    *,
    sink: Callable[[], Sink],
    secrets: Callable[[], SecretStore],
    reap: Callable[[Callable[[Labels], bool]], reaper.Reaped],
    keep_generations: int,
    clock: Clock,
) -> Recovered:
    """Mend what is left of lower epochs.

    What dead runs borrowed goes also where their sink is gone or refused; ``sink`` opens it.

    Raises:
        TransientError: a token of a dead run cannot be revoked now; nothing new may be lent before.
        ConfigurationError: the sink cannot be opened, or is another than what is committed waits for (WH-REG-032).
    """
    with database.transaction() as tx:
        claim.prove(tx)
        lost = runs.mark_lost(tx, claim.connection, below_epoch=claim.epoch)
        for run in runs.open_runs(tx, claim.connection):
            if run.kind == "probe" and not _runs(tx, run.run_id, clock):
                runs.close_probe(tx, run.run_id)
        pending = [item for item in revocations.all_of(tx) if _is_left(tx, item.run_id, claim, clock)]
    # Stopped before revoked (invariants 7 and 10): a dead run's connector may still be reading with those credentials.
    reap(lambda labels: not _is_dead(database, labels, clock))
    for item in pending:
        secrets().revoke_accessor(item.accessor)
        with database.transaction() as tx:
            revocations.remove(tx, item.accessor)
    place = sink()
    identity = place.identity()
    with database.transaction() as tx:
        claim.prove(tx)
        # A folder binds a connection to the hosts that share it: what is staged elsewhere cannot be published here.
        waiting = segments.unpublished(tx, claim.connection) or generations.to_swap(tx, claim.connection)
        connections.bind_sink(tx, claim.connection, identity, rebind=not waiting)
    published, swapped = settle(database, claim, place, keep_generations)
    _discard(database, claim, place)
    with database.read() as tx:
        known = segments.names(tx, claim.connection)
    place.sweep(claim.connection, committed=known, epoch=claim.epoch, older_than_s=ORPHAN_AGE_S)
    return Recovered(tuple(run.run_id for run in lost), len(pending), published, swapped)


def settle(database: Database, claim: Claim, sink: Sink, keep_generations: int) -> tuple[int, int]:
    """Finish what is committed: publish its files, then let complete generations take their tables' places.

    Invariant 5: what was committed is finished first. Return how many files and how many tables that were.

    Raises:
        TransientError: another run has taken over (WH-REG-010), whose work this is by now.
    """
    published = publish_committed(database, claim, sink)
    return published, _swap(database, claim, sink, keep_generations)


def publish_committed(database: Database, claim: Claim, sink: Sink) -> int:
    """Publish what is committed and not yet in its table, in commit order; return how many files that were."""
    with database.read() as tx:
        waiting = segments.unpublished(tx, claim.connection)
    for segment in waiting:
        publish(database, claim, sink, segment)
    return len(waiting)


def staged(segment: segments.Segment) -> base.Segment:
    """Return a committed row as the sink knows the file."""
    key = base.SegmentKey(
        segment.stream, segment.unit, segment.generation, segment.epoch, segment.commit_no, segment.write
    )
    return base.Segment(
        key,
        segment.name,
        segment.size_bytes,
        segment.crc32c,
        segment.rows,
        segment.min_sequence,
        segment.max_sequence,
    )


def publish(database: Database, claim: Claim, sink: Sink, segment: segments.Segment) -> None:
    """Put one committed file into its table and say so; repeating it changes nothing (invariant 4)."""
    sink.publish(staged(segment))
    failpoints.reach("file_renamed")
    with database.transaction() as tx:
        claim.prove(tx)
        segments.mark_published(tx, [segment.number])


def _swap(database: Database, claim: Claim, sink: Sink, keep: int) -> int:
    with database.transaction() as tx:
        # Before the exchange too: it removes what is older than the former generations that are kept.
        claim.prove(tx)
        waiting = generations.to_swap(tx, claim.connection)
    for generation in waiting:
        sink.swap(generation.stream, generation.number, keep=keep)
        failpoints.reach("generation_swapped")
        with database.transaction() as tx:
            claim.prove(tx)
            generations.mark_swapped(tx, generation.stream, generation.number)
    return len(waiting)


def _discard(database: Database, claim: Claim, sink: Sink) -> None:
    """Remove what is left of generations that were given up: by a reset, or by a run that ended before it could.

    What lies there is asked for, not what was ever given up: that list only grows.
    """
    with database.read() as tx:
        streams = generations.streams(tx, claim.connection)
    for stream in streams:
        staged = sink.staged_generations(stream)
        if not staged:
            continue
        with database.transaction() as tx:
            claim.prove(tx)
            left = generations.abandoned(tx, stream, staged)
        for number in left:
            sink.discard_generation(stream, number)


def _is_left(tx: Transaction, run_id: RunId, claim: Claim, clock: Clock) -> bool:
    """Say whether a token's run was one of this connection, however long ago, and does not run any more."""
    run = runs.find(tx, run_id)
    is_ours = run is not None and run.connection == claim.connection and run_id != claim.run_id
    return is_ours and not _runs(tx, run_id, clock)


def _is_dead(database: Database, labels: Labels, clock: Clock) -> bool:
    """Judge only what is surely ours: an unknown run may belong to another project on the same Engine."""
    with database.read() as tx:
        return runs.find(tx, RunId(labels.run_id)) is not None and not _runs(tx, RunId(labels.run_id), clock)


def _runs(tx: Transaction, run_id: RunId, clock: Clock) -> bool:
    run = runs.find(tx, run_id)
    if run is None or run.status != "running":
        return False
    return run.kind == "run" or clock.now() - run.heartbeat_at < PROBE_SILENCE
