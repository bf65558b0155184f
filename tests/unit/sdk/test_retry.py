from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wellhead_sdk.errors import MAX_RETRY_AFTER_S
from wellhead_sdk.retry import Backoff, RetryClass, classify, retry_after_s

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("status", "says_when", "expected"),
    [
        (200, False, None),
        (204, False, None),
        (429, False, RetryClass.THROTTLED),
        (403, True, RetryClass.THROTTLED),
        (503, True, RetryClass.THROTTLED),
        (503, False, RetryClass.TRANSIENT),
        (500, True, RetryClass.TRANSIENT),
        (502, False, RetryClass.TRANSIENT),
        (504, False, RetryClass.TRANSIENT),
        (520, False, RetryClass.TRANSIENT),
        (408, False, RetryClass.TRANSIENT),
        (425, False, RetryClass.TRANSIENT),
        (501, False, RetryClass.PERMANENT),
        (505, False, RetryClass.PERMANENT),
        (401, False, RetryClass.UNAUTHENTICATED),
        (401, True, RetryClass.UNAUTHENTICATED),
        (407, False, RetryClass.UNAUTHENTICATED),
        (403, False, RetryClass.DENIED),
        (400, False, RetryClass.PERMANENT),
        (404, False, RetryClass.PERMANENT),
        (422, False, RetryClass.PERMANENT),
        (304, False, RetryClass.PERMANENT),
    ],
)
def test_every_status_has_the_class_the_platform_knows(
    status: int, says_when: bool, expected: RetryClass | None
) -> None:
    assert classify(status, says_when=says_when) is expected


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("0", 0.0),
        ("120", 120.0),
        (" 7 ", 7.0),
        ("Sun, 01 Mar 2026 12:01:30 GMT", 90.0),
        ("Sunday, 01-Mar-26 12:00:05 GMT", 5.0),
        ("Sun Mar  1 12:00:05 2026", 5.0),
        ("Sun, 01 Mar 2026 11:00:00 GMT", 0.0),
        ("99999999999999", MAX_RETRY_AFTER_S),
        ("9" * 400, MAX_RETRY_AFTER_S),
        ("Fri, 31 Dec 9999 23:59:59 GMT", MAX_RETRY_AFTER_S),
        (None, None),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("²", None),
    ],
)
def test_retry_after_is_read_as_seconds_and_as_every_http_date(header: str | None, seconds: float | None) -> None:
    assert retry_after_s(header, NOW) == seconds


def test_waits_double_and_stop_at_the_cap_and_at_the_last_attempt() -> None:
    backoff = Backoff(max_attempts=6, first_s=1.0, cap_s=5.0)
    assert [backoff.delay_s(attempt, jitter=1.0) for attempt in range(1, 7)] == [1.0, 2.0, 4.0, 5.0, 5.0, None]


@given(attempt=st.integers(1, 5000), jitter=st.floats(0, 1, exclude_max=True))
def test_every_wait_is_between_half_and_all_of_what_is_due_and_never_above_the_cap(attempt: int, jitter: float) -> None:
    delay_s = Backoff(max_attempts=10_000, first_s=0.5, cap_s=300.0).delay_s(attempt, jitter)
    due = min(300.0, 0.5 * 2.0 ** min(attempt - 1, 20))
    assert delay_s is not None
    assert due / 2 <= delay_s <= due
