"""``egress_audit``: every connection a run tried, with the verdict of its gateway."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from wellhead.ids import RunId
from wellhead.registry.database import Transaction
from wellhead.registry.tables import egress_audit as table


@dataclass(frozen=True, slots=True)
class Contact:
    """One try to reach a host; ``address`` is None where none was chosen, ``verdict`` is allow or deny."""

    at: datetime
    host: str
    port: int
    verdict: str
    reason: str
    address: str | None = None
    bytes_sent: int = 0
    bytes_received: int = 0
    duration_ms: int = 0


def note(tx: Transaction, run_id: RunId, contacts: Sequence[Contact]) -> None:
    """Store what a run's gateway recorded."""
    if contacts:
        tx.execute(
            sa.insert(table),
            [
                {
                    "run_id": run_id,
                    "happened_at": contact.at,
                    "host": contact.host,
                    "port": contact.port,
                    "address": contact.address,
                    "verdict": contact.verdict,
                    "reason": contact.reason,
                    "bytes_sent": contact.bytes_sent,
                    "bytes_received": contact.bytes_received,
                    "duration_ms": contact.duration_ms,
                }
                for contact in contacts
            ],
        )


def of_run(tx: Transaction, run_id: RunId) -> list[Contact]:
    """Return a run's contacts in the order they were recorded."""
    rows = tx.execute(sa.select(table).where(table.c.run_id == run_id).order_by(table.c.id))
    return [
        Contact(
            at=row.happened_at,
            host=row.host,
            port=row.port,
            verdict=row.verdict,
            reason=row.reason,
            address=row.address,
            bytes_sent=row.bytes_sent,
            bytes_received=row.bytes_received,
            duration_ms=row.duration_ms,
        )
        for row in rows
    ]
