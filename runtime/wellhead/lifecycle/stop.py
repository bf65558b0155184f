"""One run's wish to end early: who asked, and for what error. Set once, read by every thread of the run."""

from __future__ import annotations

import threading
from enum import Enum


class Reason(Enum):
    """Why a run should end before its work is done."""

    INTERRUPTED = "interrupted"
    TERMINATED = "terminated"
    CANCELLED = "cancelled"
    """`runs cancel`, from anywhere."""
    DEADLINE = "deadline"
    """The run took as long as it may."""
    FENCED = "fenced"
    """The lease went to another host: nothing more may be committed."""

    @property
    def exit_code(self) -> int:
        """Return what a scheduler is told: 128 and the signal's number, or `try again`."""
        return {Reason.INTERRUPTED: 130, Reason.TERMINATED: 143}.get(self, 75)


class Stop:
    """A latch: the first reason given stays."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._lock = threading.Lock()
        self._reason: Reason | None = None

    def request(self, reason: Reason) -> None:
        """Ask the run to end; a second call changes nothing, except that losing the lease beats politeness."""
        with self._lock:
            if self._reason is None or reason is Reason.FENCED:
                self._reason = reason
            self._event.set()

    @property
    def reason(self) -> Reason | None:
        """Return why the run should end, or None while it should go on."""
        return self._reason

    def wait(self, seconds: float) -> bool:
        """Sleep up to ``seconds``; return True at once when the run should end."""
        return self._event.wait(seconds)
