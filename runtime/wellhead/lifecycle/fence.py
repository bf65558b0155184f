"""The run's fence: made before the connector is started, read out and taken down after it is gone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from wellhead import failpoints
from wellhead.egress.network import AuditRecord, Fence
from wellhead.egress.policy import Policy
from wellhead.engine.container import GATEWAY, Attachment, Labels
from wellhead.errors import WellheadError
from wellhead.lifecycle import ahead
from wellhead.lifecycle.host import Run
from wellhead.lifecycle.record import HOLE_EVENT
from wellhead.registry import egress_audit, run_state, runs
from wellhead.registry.database import Transaction
from wellhead.telemetry.logs import Level


@contextmanager
def fenced(here: Run, policy: Policy) -> Iterator[Attachment | None]:
    """Lend a place in a network that reaches what ``policy`` opens; None, no network at all, where it opens nothing.

    On leaving, every connection the gateway saw is stored, whether the run succeeded or not, and whether some are
    missing.

    Raises:
        WellheadError: the fence cannot be put up; or it fell by itself: then that is the reason for what followed, and
            the error where nothing followed.
    """
    if policy.opens_nothing:
        yield None
        return
    claim = here.claim
    labels = Labels(claim.run_id, claim.host_id, claim.epoch, str(claim.connection), GATEWAY)
    with here.host.database.read() as tx:
        look = _Look(_completed(here, tx))
    with here.host.fencer().fence(labels, policy, meanwhile=ahead.import_later_steps) as fence:
        failpoints.reach("network_made")
        try:
            # Invariant 9: fenced before started. The gateway has answered by now.
            yield fence.attachment
        except WellheadError as error:
            problem = look.at(fence)
            if problem is not None:
                raise problem from error
            raise
        else:
            look.at(fence)
            look.is_clean = True
        finally:
            if look.is_clean:
                _note(here, fence, policy, look)
            else:
                _note_or_log(here, fence, policy, look)
        problem = fence.problem()
        if problem is not None and not look.excuses(fence):
            # A connector may take a line that breaks for the end of what there is to read.
            raise problem


@dataclass(slots=True)
class _Look:
    """What is known of an attempt and its gateway from before the fence is taken down."""

    completed: frozenset[tuple[str, str, int]]
    """The units that were complete before it began."""
    is_clean: bool = False
    """Whether it ended without an error."""
    is_up: bool = False
    """Whether the gateway ran when the connector was gone."""

    def at(self, fence: Fence) -> WellheadError | None:
        """Return why the gateway ended by itself; None also where the Engine does not say."""
        try:
            problem = fence.problem()
        except WellheadError:
            # Then its last line says it, or nobody does.
            return None
        self.is_up = problem is None
        return problem

    def excuses(self, fence: Fence) -> bool:
        """Say whether only a line about the past is missing: a gateway outlived its connector, so no row can be."""
        return self.is_up and not fence.is_complete


def _completed(here: Run, tx: Transaction) -> frozenset[tuple[str, str, int]]:
    # Completing a unit is a commit, so that one which was complete before is told from itself.
    units = run_state.all_of(tx, here.claim.connection)
    return frozenset((unit.stream.stream, unit.unit, unit.commit_no) for unit in units if unit.complete)


def _note(here: Run, fence: Fence, policy: Policy, look: _Look) -> None:
    """Store what was seen, and what cannot have been."""
    try:
        records = fence.close()
    except WellheadError:
        # An Engine that is away takes nothing back of what the gateway told before.
        _store(here, fence, fence.audit(), policy, look)
        raise
    _store(here, fence, records, policy, look)


def _store(here: Run, fence: Fence, records: Sequence[AuditRecord], policy: Policy, look: _Look) -> None:
    own = frozenset(rule.host for rule in policy.rules if not rule.is_wildcard)
    contacts = [_contact(here, record, own) for record in records]
    problem, names = fence.problem(), fence.unrecorded_names
    is_late = problem is not None and look.excuses(fence)
    with here.host.database.transaction() as tx:
        egress_audit.note(tx, here.claim.run_id, contacts)
        if problem is not None or names:
            code = None if problem is None else str(problem.code)
            # No attempt reads again what is complete: what was taken for its end behind a dead gateway stays lost.
            is_noticed = is_late or not (look.is_clean or _completed(here, tx) - look.completed)
            details = {"code": code, "is_noticed": is_noticed, "unrecorded_names": names}
            runs.note_event(tx, here.claim.run_id, HOLE_EVENT, details)
    if problem is not None and is_late:
        here.log.write(Level.WARNING, "egress_record_incomplete", code=str(problem.code), error=problem.message)


def _note_or_log(here: Run, fence: Fence, policy: Policy, look: _Look) -> None:
    """Store what was seen; where that fails, too, the run's own error is the one to tell."""
    try:
        _note(here, fence, policy, look)
    except WellheadError as error:
        here.log.write(Level.WARNING, "egress_not_recorded", code=str(error.code), error=error.message)


def _contact(here: Run, record: AuditRecord, own: frozenset[str]) -> egress_audit.Contact:
    return egress_audit.Contact(
        at=record.at,
        # Invariant 15: an allowed host is the policy's word, all else the connector's: also what stands for a star.
        host=record.host if record.allowed and record.host in own else here.redactor.text(record.host),
        port=record.port or 0,
        verdict="allow" if record.allowed else "deny",
        reason=record.reason,
        address=record.address,
        bytes_sent=record.bytes_out,
        bytes_received=record.bytes_in,
        duration_ms=round(record.duration_ms),
    )
