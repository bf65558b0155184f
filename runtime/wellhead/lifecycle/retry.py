"""Whether an attempt that failed is tried again, and when. Pure: an error and the history in, a decision out."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from wellhead.errors import AuthError, ThrottledError, TransientError, WellheadError
from wellhead.settings import RunSettings

FIRST_DELAY_S = 1.0
FACTOR = 2.0
LONGEST_DELAY_S = 300.0


@dataclass(frozen=True, slots=True)
class History:
    """What the attempts of one run amount to so far."""

    attempts: int
    """Attempts made, the failed one included."""
    idle_attempts: int
    """Attempts since the last committed row, the failed one included."""
    elapsed_s: float
    """Seconds since the run was claimed."""
    refreshed_secrets: bool
    """Whether secrets were already read anew because the source refused them."""


@dataclass(frozen=True, slots=True)
class Again:
    """Try once more after ``delay_s`` seconds."""

    delay_s: float
    refresh_secrets: bool = False


@dataclass(frozen=True, slots=True)
class Park:
    """End now and ask the scheduler to come back at ``retry_at``."""

    retry_at: datetime


@dataclass(frozen=True, slots=True)
class GiveUp:
    """End with the error."""


Decision = Again | Park | GiveUp


def decide(error: WellheadError, history: History, settings: RunSettings, now: datetime, jitter: float) -> Decision:
    """Judge one failed attempt.

    Args:
        error: what ended the attempt.
        history: the run so far.
        settings: how many attempts the operator allows.
        now: aware UTC.
        jitter: uniform in [0, 1); spreads hosts that failed together over the upper half of the delay.
    """
    match error:
        case ThrottledError(retry_at=datetime() as retry_at):
            wait_s = max(0.0, (retry_at - now).total_seconds())
            if wait_s > settings.max_wait_s or history.elapsed_s + wait_s > settings.total_s:
                return Park(retry_at)
            if not _attempts_left(history, settings):
                return Park(retry_at)
            # A source whose time is over already and that says no again is not asked again at once.
            return Again(max(wait_s, _backoff_s(history, jitter)))
        case TransientError():
            if not _attempts_left(history, settings):
                return GiveUp()
            delay_s = _backoff_s(history, jitter)
            return Again(delay_s) if history.elapsed_s + delay_s < settings.total_s else GiveUp()
        case AuthError() if not history.refreshed_secrets:
            # Credentials may have been rotated between our read and the source's check: read them once more, then stop.
            return Again(0.0, refresh_secrets=True)
        case _:
            return GiveUp()


def _backoff_s(history: History, jitter: float) -> float:
    return min(FIRST_DELAY_S * FACTOR ** (history.idle_attempts - 1), LONGEST_DELAY_S) * (0.5 + jitter / 2)


def _attempts_left(history: History, settings: RunSettings) -> bool:
    return history.attempts < settings.attempts and history.idle_attempts < settings.idle_attempts
