"""Which answers of a source are worth asking for again, and how long to wait before doing so.

Pure: nothing here waits or sends. Endless retry cannot be expressed; a `Backoff` always has a last attempt.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import Enum

from wellhead_sdk.errors import MAX_RETRY_AFTER_S


class RetryClass(Enum):
    """What an answer asks of us; the value is the platform's error code."""

    TRANSIENT = "unavailable"
    THROTTLED = "rate_limited"
    PERMANENT = "invalid_argument"
    UNAUTHENTICATED = "unauthenticated"
    DENIED = "permission_denied"


#: Statuses that say "not now": timeout, too early, and every server error but the two that say "never".
_NEVER = frozenset({501, 505})
_NOT_NOW = frozenset({408, 425})


def classify(status: int, *, says_when: bool = False) -> RetryClass | None:
    """Return the class of an HTTP status, None for a success.

    Args:
        status: the final status; redirects and 304 are the session's business and count as permanent here.
        says_when: whether the answer carried Retry-After. A 403 or 503 with it is throttling, as GitHub and others
            answer when a quota is used up.
    """
    if 200 <= status < 300:
        return None
    if status == 429 or (says_when and status in (403, 503)):
        return RetryClass.THROTTLED
    if status in (401, 407):
        return RetryClass.UNAUTHENTICATED
    if status == 403:
        return RetryClass.DENIED
    if status in _NOT_NOW or (status >= 500 and status not in _NEVER):
        return RetryClass.TRANSIENT
    return RetryClass.PERMANENT


def retry_after_s(value: str | None, now: datetime) -> float | None:
    """Return how many seconds a Retry-After header asks us to stay away, from 0 to a year.

    Both forms of RFC 9110 §10.2.3 are read: seconds and an HTTP date. Anything else counts as not given.

    Args:
        value: the header's text, None where there is none.
        now: aware time against which a date is measured.
    """
    text = (value or "").strip()
    if text.isascii() and text.isdigit():
        return min(float(text), MAX_RETRY_AFTER_S)
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    # An obsolete asctime date has no zone; RFC 9110 says every HTTP date is GMT.
    return min(max(0.0, (at.replace(tzinfo=at.tzinfo or UTC) - now).total_seconds()), MAX_RETRY_AFTER_S)


@dataclass(frozen=True, slots=True)
class Backoff:
    """A bounded, growing wait: ``first_s`` doubled each time, never above ``cap_s``, between half and all of it."""

    max_attempts: int = 4
    first_s: float = 1.0
    cap_s: float = 300.0

    def delay_s(self, attempt: int, jitter: float) -> float | None:
        """Return the wait after failed attempt number ``attempt`` (from 1), None when that was the last.

        Args:
            attempt: how many attempts were made.
            jitter: a random number of [0, 1); spreads clients that failed together.
        """
        if attempt >= self.max_attempts:
            return None
        # The exponent is bounded too: 2.0 ** 2000 overflows.
        whole = min(self.cap_s, self.first_s * 2.0 ** min(attempt - 1, 64))
        return whole * (0.5 + jitter / 2)
