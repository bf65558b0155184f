"""Whether an attempt is tried again: a table, and what holds for every history."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wellhead.errors import (
    AuthError,
    Code,
    ConfigurationError,
    DataError,
    FatalError,
    RefusedError,
    ThrottledError,
    TransientError,
    WellheadError,
)
from wellhead.lifecycle.retry import LONGEST_DELAY_S, Again, GiveUp, History, Park, decide
from wellhead.settings import RunSettings

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CODE = Code("WH-TST-001", "A test's own.")
SETTINGS = RunSettings()
FIRST = History(attempts=1, idle_attempts=1, elapsed_s=0.0, refreshed_secrets=False)


def throttled(after_s: float) -> ThrottledError:
    return ThrottledError("later", code=CODE, retry_at=NOW + timedelta(seconds=after_s))


@pytest.mark.parametrize("kind", [ConfigurationError, RefusedError, DataError, FatalError])
def test_what_a_person_must_mend_is_not_tried_again(kind: type[WellheadError]) -> None:
    assert decide(kind("no", code=CODE), FIRST, SETTINGS, NOW, 0.5) == GiveUp()


def test_refused_credentials_are_read_anew_once() -> None:
    again = History(2, 2, 1.0, refreshed_secrets=True)
    assert decide(AuthError("no", code=CODE), FIRST, SETTINGS, NOW, 0.5) == Again(0.0, refresh_secrets=True)
    assert decide(AuthError("no", code=CODE), again, SETTINGS, NOW, 0.5) == GiveUp()


def test_a_short_throttling_is_sat_out_and_a_long_one_parks() -> None:
    assert decide(throttled(60), FIRST, SETTINGS, NOW, 0.5) == Again(60.0)
    assert decide(throttled(301), FIRST, SETTINGS, NOW, 0.5) == Park(NOW + timedelta(seconds=301))


def test_throttling_past_the_last_attempt_parks_instead_of_failing() -> None:
    last = History(SETTINGS.attempts, 1, 0.0, refreshed_secrets=False)
    assert decide(throttled(1), last, SETTINGS, NOW, 0.5) == Park(NOW + timedelta(seconds=1))


def test_a_time_that_is_over_is_no_reason_to_hammer_the_source() -> None:
    assert decide(throttled(-60), FIRST, SETTINGS, NOW, 0.0) == Again(0.5)


def test_throttling_without_a_time_counts_as_any_other_passing_failure() -> None:
    assert decide(ThrottledError("later", code=CODE), FIRST, SETTINGS, NOW, 0.0) == Again(0.5)


@given(
    attempts=st.integers(1, 20),
    idle=st.integers(1, 20),
    elapsed=st.floats(0, 50_000),
    jitter=st.floats(0, 1, exclude_max=True),
)
def test_a_passing_failure_is_tried_again_within_every_budget(
    attempts: int, idle: int, elapsed: float, jitter: float
) -> None:
    history = History(attempts, idle, elapsed, refreshed_secrets=False)
    decision = decide(TransientError("away", code=CODE), history, SETTINGS, NOW, jitter)
    is_left = attempts < SETTINGS.attempts and idle < SETTINGS.idle_attempts
    match decision:
        case Again(delay_s=delay_s):
            assert is_left
            assert 0.5 <= delay_s <= LONGEST_DELAY_S
            assert elapsed + delay_s < SETTINGS.total_s
        case _:
            assert decision == GiveUp()
            assert not is_left or elapsed + LONGEST_DELAY_S >= SETTINGS.total_s


@given(wait_s=st.floats(-1000, 10_000), elapsed=st.floats(0, 50_000), jitter=st.floats(0, 1, exclude_max=True))
def test_a_throttled_source_is_never_asked_before_its_time(wait_s: float, elapsed: float, jitter: float) -> None:
    error = throttled(wait_s)
    decision = decide(error, History(1, 1, elapsed, refreshed_secrets=False), SETTINGS, NOW, jitter)
    match decision:
        case Again(delay_s=delay_s):
            assert error.retry_at is not None
            assert NOW + timedelta(seconds=delay_s, microseconds=1) >= error.retry_at
        case _:
            assert decision == Park(error.retry_at or NOW)
