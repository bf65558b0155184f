"""The counters of a run, as connectors report them and as the registry keeps them."""

from __future__ import annotations

import threading
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class Counters:
    """What a run cost its source; the names are a contract with whoever reads the registry or the metrics page."""

    requests_total: int = 0
    requests_failed_total: int = 0
    bytes_ingested_total: int = 0
    pages_processed_total: int = 0
    retries_total: int = 0

    def __add__(self, other: Counters) -> Counters:
        return Counters(
            self.requests_total + other.requests_total,
            self.requests_failed_total + other.requests_failed_total,
            self.bytes_ingested_total + other.bytes_ingested_total,
            self.pages_processed_total + other.pages_processed_total,
            self.retries_total + other.retries_total,
        )


class Meter:
    """Sums the counters of a run's units over its attempts; safe to share between threads.

    A connector counts from the start of each Emit, so a newer report of a unit replaces the older one, and a new Emit
    adds to what the last one reached.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ended = Counters()
        self._running: dict[tuple[str, str], Counters] = {}

    def begin(self, stream: str, unit: str) -> None:
        """Note that a new Emit of the unit begins at zero."""
        with self._lock:
            self._ended += self._running.pop((stream, unit), Counters())

    def report(self, stream: str, unit: str, counters: Counters) -> None:
        """Take over what the unit's Emit has counted so far."""
        with self._lock:
            self._running[stream, unit] = counters

    def total(self) -> Counters:
        """Return the sum over everything reported."""
        with self._lock:
            return sum(self._running.values(), self._ended)

    def as_row(self, duration_seconds: float) -> dict[str, float]:
        """Return the counters and the run's duration by their metric names."""
        return {**asdict(self.total()), "duration_seconds": round(duration_seconds, 3)}
