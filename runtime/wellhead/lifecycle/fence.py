"""The run's fence: made before the connector is started, read out and taken down after it is gone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from wellhead import failpoints
from wellhead.egress.network import AuditRecord, Fence
from wellhead.egress.policy import Policy
from wellhead.engine.container import GATEWAY, Attachment, Labels
from wellhead.errors import WellheadError
from wellhead.lifecycle import ahead
from wellhead.lifecycle.host import Run
from wellhead.lifecycle.record import HOLE_EVENT
from wellhead.registry import egress_audit, runs
from wellhead.telemetry.logs import Level


@contextmanager
def fenced(here: Run, policy: Policy) -> Iterator[Attachment | None]:
    """Lend a place in a network that reaches what ``policy`` opens; None, no network at all, where it opens nothing.

    On leaving, every connection the gateway saw is stored, whether the run succeeded or not, and whether some are
    missing.

    Raises:
        WellheadError: the fence cannot be put up; it fell by itself: then that is the reason for what followed; or its
            record is not whole, where nothing followed.
    """
    if policy.opens_nothing:
        yield None
        return
    claim = here.claim
    labels = Labels(claim.run_id, claim.host_id, claim.epoch, str(claim.connection), GATEWAY)
    with here.host.fencer().fence(labels, policy, meanwhile=ahead.import_later_steps) as fence:
        failpoints.reach("network_made")
        is_told = False
        try:
            # Invariant 9: fenced before started. The gateway has answered by now.
            yield fence.attachment
            is_told = True
        except WellheadError as error:
            problem = fence.problem()
            if problem is not None:
                raise problem from error
            raise
        finally:
            if is_told:
                _note(here, fence, policy, is_noticed=False)
            else:
                _note_or_log(here, fence, policy)
        problem = fence.problem()
        if problem is not None:
            # A connector may take a line that breaks for the end of what there is to read.
            raise problem


def _note(here: Run, fence: Fence, policy: Policy, *, is_noticed: bool = True) -> None:
    """Store what was seen, and what cannot have been; ``is_noticed`` says whether the attempt failed, too."""
    try:
        records = fence.close()
    except WellheadError:
        # An Engine that is away takes nothing back of what the gateway told before.
        _store(here, fence, fence.audit(), policy, is_noticed=is_noticed)
        raise
    _store(here, fence, records, policy, is_noticed=is_noticed)


def _store(here: Run, fence: Fence, records: Sequence[AuditRecord], policy: Policy, *, is_noticed: bool) -> None:
    own = frozenset(rule.host for rule in policy.rules if not rule.is_wildcard)
    contacts = [_contact(here, record, own) for record in records]
    problem, names = fence.problem(), fence.unrecorded_names
    with here.host.database.transaction() as tx:
        egress_audit.note(tx, here.claim.run_id, contacts)
        if problem is not None or names:
            code = None if problem is None else str(problem.code)
            details = {"code": code, "is_noticed": is_noticed, "unrecorded_names": names}
            runs.note_event(tx, here.claim.run_id, HOLE_EVENT, details)


def _note_or_log(here: Run, fence: Fence, policy: Policy) -> None:
    """Store what was seen; where that fails, too, the run's own error is the one to tell."""
    try:
        _note(here, fence, policy)
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
