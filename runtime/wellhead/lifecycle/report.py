"""What a run says of itself at its end: the result document for schedulers and the receipt for auditors."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wellhead.errors import WellheadError

SCHEMA_VERSION = 1


class Status(Enum):
    """How a run ended."""

    SUCCEEDED = "succeeded"
    ALREADY_DONE = "already_done"
    PARTIAL = "partial"
    PARKED = "parked"
    STOPPED = "stopped"
    SKIPPED = "skipped"
    REFUSED = "refused"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class StreamReport:
    """What one stream amounts to in this run; counts are of committed records."""

    name: str
    mode: str
    rows: int
    dead_letters: int
    bytes: int
    checkpoint: str | None
    """The last committed state as text where it is text, else its hash."""
    content_crc32c: int
    """CRC-32C over the CRCs of the committed segments, in commit order."""
    table: str | None = None
    """Where readers find the stream."""
    error: ErrorReport | None = None


@dataclass(frozen=True, slots=True)
class ErrorReport:
    """An error as a scheduler reads it."""

    code: str
    category: str
    message: str
    hint: str | None
    place: str | None
    details: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """The end of one run."""

    run_id: str
    logical_run_id: str | None
    connection: str
    status: Status
    exit_code: int
    release: dict[str, str] | None = None
    """``id``, ``version`` and ``digest`` of what ran."""
    held: bool = False
    retry_at: datetime | None = None
    attempts: int = 0
    bronze_path: str | None = None
    streams: tuple[StreamReport, ...] = ()
    egress: dict[str, Any] = field(default_factory=lambda: {"allowed": 0, "denied": 0})
    timings: dict[str, float] = field(default_factory=dict)
    """Seconds by step."""
    error: ErrorReport | None = None
    log_loss: str | None = None
    """What is missing in the run's log, and why; for people, so it is not in the document."""

    def document(self) -> dict[str, Any]:
        """Return the one JSON document of ``run --json``; its shape changes only with `SCHEMA_VERSION`."""
        return {
            "schema_version": SCHEMA_VERSION,
            "run_id": self.run_id,
            "logical_run_id": self.logical_run_id,
            "connection": self.connection,
            "release": self.release,
            "held": self.held,
            "status": self.status.value,
            "exit_code": self.exit_code,
            "retry_at": self.retry_at.isoformat() if self.retry_at else None,
            "attempts": self.attempts,
            "bronze_path": self.bronze_path,
            "streams": [
                {
                    "name": stream.name,
                    "mode": stream.mode,
                    "rows": stream.rows,
                    "dead_letters": stream.dead_letters,
                    "bytes": stream.bytes,
                    "checkpoint": stream.checkpoint,
                    "content_crc32c": f"{stream.content_crc32c:08x}",
                    "table": stream.table,
                    "error": error_document(stream.error),
                }
                for stream in self.streams
            ],
            "egress": self.egress,
            "timings": {step: round(seconds, 4) for step, seconds in self.timings.items()},
            "error": error_document(self.error),
        }


def reported(error: WellheadError) -> ErrorReport:
    """Return an error as it is told."""
    place = None if error.place is None else str(error.place)
    return ErrorReport(str(error.code), error.category, error.message, error.hint, place, error.details)


def error_document(error: ErrorReport | None) -> dict[str, Any] | None:
    """Return an error as JSON, or None."""
    if error is None:
        return None
    return {
        "code": error.code,
        "category": error.category,
        "message": error.message,
        "hint": error.hint,
        "place": error.place,
        "details": list(error.details),
    }
