"""The run's fence: made before the connector is started, read out and taken down after it is gone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from wellhead import failpoints
from wellhead.egress.network import AuditRecord, Fence
from wellhead.egress.policy import Policy
from wellhead.engine.container import GATEWAY, Attachment, Labels
from wellhead.errors import WellheadError
from wellhead.lifecycle import ahead
from wellhead.lifecycle.host import Run
from wellhead.registry import egress_audit
from wellhead.telemetry.logs import Level


@contextmanager
def fenced(here: Run, policy: Policy) -> Iterator[Attachment | None]:
    """Lend a place in a network that reaches what ``policy`` opens; None, no network at all, where it opens nothing.

    On leaving, every connection the gateway saw is stored, whether the run succeeded or not.

    Raises:
        WellheadError: the fence cannot be put up, or fell by itself: then that is the reason for what followed.
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
            (_note if is_told else _note_or_log)(here, fence)


def _note(here: Run, fence: Fence) -> None:
    contacts = [_contact(here, record) for record in fence.close()]
    with here.host.database.transaction() as tx:
        egress_audit.note(tx, here.claim.run_id, contacts)


def _note_or_log(here: Run, fence: Fence) -> None:
    """Store what was seen; where that fails, too, the run's own error is the one to tell."""
    try:
        _note(here, fence)
    except WellheadError as error:
        here.log.write(Level.WARNING, "egress_not_recorded", code=str(error.code), error=error.message)


def _contact(here: Run, record: AuditRecord) -> egress_audit.Contact:
    return egress_audit.Contact(
        at=record.at,
        # Invariant 15: what was allowed is the policy's word, what was denied the connector's.
        host=record.host if record.allowed else here.redactor.text(record.host),
        port=record.port or 0,
        verdict="allow" if record.allowed else "deny",
        reason=record.reason,
        address=record.address,
        bytes_sent=record.bytes_out,
        bytes_received=record.bytes_in,
        duration_ms=round(record.duration_ms),
    )
