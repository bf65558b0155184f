from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wellhead_sdk.rate import WINDOW_S, RateLimit


class Time:
    def __init__(self) -> None:
        self.at = 0.0

    def __call__(self) -> float:
        return self.at


def test_a_quota_below_one_is_refused_because_it_allows_no_request() -> None:
    with pytest.raises(ValueError, match="below 1"):
        RateLimit(0, Time())


def test_the_whole_quota_goes_at_once_and_the_next_waits_for_the_first_to_leave_the_window() -> None:
    time = Time()
    limit = RateLimit(3, time)
    assert [limit.reserve() for _ in range(4)] == [0, 0, 0, 60]
    time.at = 61.0
    assert limit.reserve() == 0


#: In parts that a float holds exactly: sums of others differ in their last digit, and here later is later.
GAPS = st.integers(0, 30 * 1024).map(lambda parts: parts / 1024)


@pytest.mark.slow
@given(per_minute=st.integers(1, 20), gaps=st.lists(GAPS, min_size=1, max_size=100))
def test_no_window_of_a_minute_ever_holds_more_than_the_quota(per_minute: int, gaps: list[float]) -> None:
    time = Time()
    limit = RateLimit(per_minute, time)
    sent = []
    for gap in gaps:
        time.at += gap
        sent.append(time.at + limit.reserve())
    assert sent == sorted(sent)
    for first, beyond in zip(sent, itertools.islice(sent, per_minute, None), strict=False):
        assert beyond - first >= WINDOW_S
