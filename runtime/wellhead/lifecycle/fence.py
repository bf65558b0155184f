"""The run's fence: made before the connector is started, read out and taken down after it is gone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from wellhead import failpoints
from wellhead.egress.network import AuditRecord
from wellhead.egress.policy import Policy
from wellhead.engine.container import GATEWAY, Attachment, Labels
from wellhead.errors import WellheadError
from wellhead.lifecycle.host import Run
from wellhead.registry import egress_audit


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
    with here.host.fencer().fence(labels, policy) as fence:
        failpoints.reach("network_made")
        try:
            yield fence.attachment
        except WellheadError:
            problem = fence.problem()
            if problem is not None:
                raise problem from None
            raise
        finally:
            contacts = [_contact(record) for record in fence.close()]
            with here.host.database.transaction() as tx:
                egress_audit.note(tx, claim.run_id, contacts)


def _contact(record: AuditRecord) -> egress_audit.Contact:
    return egress_audit.Contact(
        at=record.at,
        host=record.host,
        port=record.port or 0,
        verdict="allow" if record.allowed else "deny",
        reason=record.reason,
        address=record.address,
        bytes_sent=record.bytes_out,
        bytes_received=record.bytes_in,
        duration_ms=round(record.duration_ms),
    )
