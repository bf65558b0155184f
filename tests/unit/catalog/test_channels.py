"""Channels and rollouts: what is on offer to whom, and when a rollout must halt."""

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from semver import Version

from wellhead.catalog import channels
from wellhead.catalog.channels import EVERYBODY, Guard, Outcome, Pointer, Rollout
from wellhead.ids import ConnectionKey, ConnectorId

BEGIN = datetime(2026, 5, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
POSTGRES = ConnectorId("wellhead/postgres")


def pointed(*rows: str, rollout: Rollout | None = None) -> list[Pointer]:
    """Read rows such as ``1.0.0`` and ``back 1.0.0``; the rollout is the last one's."""
    made = []
    for row in rows:
        kind, _, version = row.rpartition(" ")
        made.append(Pointer(version, BEGIN, kind or "promote"))  # type: ignore[arg-type]
    return [*made[:-1], Pointer(made[-1].version, BEGIN, made[-1].kind, rollout)]


def offered(*rows: str) -> set[str]:
    return set(channels.offers(pointed(*rows), BEGIN))


def test_promoting_adds_and_going_back_takes_the_higher_ones_out() -> None:
    assert offered("1.0.0", "1.1.0", "2.0.0") == {"1.0.0", "1.1.0", "2.0.0"}
    assert offered("1.0.0", "1.1.0", "2.0.0", "1.0.5") == {"1.0.0", "1.0.5", "1.1.0", "2.0.0"}
    assert offered("1.0.0", "1.1.0", "2.0.0", "back 1.1.0") == {"1.0.0", "1.1.0"}
    assert offered("1.0.0", "1.1.0", "back 1.0.0", "1.1.0") == {"1.0.0", "1.1.0"}
    assert offered("1.0.0", "1.1.0", "halt 1.1.0") == {"1.0.0"}
    assert offered("1.0.0", "halt 1.0.0", "1.0.0") == {"1.0.0"}


def test_a_rollout_grows_by_its_steps_and_ends_with_everybody() -> None:
    rows = pointed("1.0.0", "1.1.0", rollout=Rollout(10, step=25, every_s=7200))
    reached = [channels.offers(rows, BEGIN + hours * HOUR)["1.1.0"] for hours in (0, 1, 2, 4, 6, 8, 100)]
    assert reached == [10, 10, 35, 60, 85, EVERYBODY, EVERYBODY]
    assert channels.offers(rows, BEGIN)["1.0.0"] == EVERYBODY
    assert set(channels.rolling(rows, BEGIN + HOUR)) == {"1.1.0"}
    assert channels.rolling(rows, BEGIN + 100 * HOUR) == {}
    assert channels.rolling([*rows, Pointer("1.1.0", BEGIN, "halt")], BEGIN + HOUR) == {}


def test_promoting_again_never_shrinks_a_share() -> None:
    rows = [
        Pointer("1.1.0", BEGIN, "promote", Rollout(50)),
        Pointer("1.1.0", BEGIN + HOUR, "promote", Rollout(20)),
    ]
    assert channels.offers(rows, BEGIN + HOUR) == {"1.1.0": 50}


def test_a_tenth_of_a_thousand_connections_is_about_a_tenth_and_only_grows() -> None:
    everyone = [ConnectionKey("acme", "default", f"orders-{number}") for number in range(1000)]
    places = {key: channels.bucket(key, POSTGRES, "1.1.0") for key in everyone}
    shares = [{key for key in everyone if places[key] < percent} for percent in (10, 35, 60, 100)]
    assert 80 <= len(shares[0]) <= 120
    assert all(smaller < larger for smaller, larger in itertools.pairwise(shares))
    assert len(shares[-1]) == 1000
    other = {key for key in everyone if channels.bucket(key, POSTGRES, "1.2.0") < 10}
    assert len(shares[0] & other) < 30


OLD = Outcome(runs=100, failures=5, zero_rows=20, rows=10_000, dead_letters=10)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"failures": 2}, "failures"),
        ({"dead_letters": 200}, "dead_letters"),
        ({"zero_rows": 8}, "zero_rows"),
        ({"failures": 1, "dead_letters": 5, "zero_rows": 4}, None),
        ({"runs": 2, "failures": 2}, None),
    ],
)
def test_a_version_that_does_worse_breaks_its_guard(fields: dict[str, Any], named: str | None) -> None:
    new = Outcome(**{"runs": 10, "rows": 1000, **fields})
    why = channels.breach(Guard(), new, OLD)
    assert (named is None and why is None) or (why is not None and why.startswith(f"{named} "))


def test_the_first_runs_of_a_connector_are_judged_without_an_older_version() -> None:
    assert channels.breach(Guard(), Outcome(runs=3, failures=3), Outcome()) is not None
    assert channels.breach(Guard(), Outcome(runs=3, rows=10), Outcome()) is None


versions = st.builds(lambda minor, patch: str(Version(1, minor, patch)), st.integers(0, 3), st.integers(0, 3))
rollouts = st.none() | st.builds(Rollout, st.floats(0.1, 100), st.floats(0, 50), st.floats(60, 86_400))
rows = st.lists(
    st.builds(Pointer, versions, st.just(BEGIN), st.sampled_from(["promote", "promote", "back", "halt"]), rollouts)
)


@given(rows, versions)
def test_going_back_offers_the_version_and_nothing_above_it(known: list[Pointer], version: str) -> None:
    after = channels.offers([*known, Pointer(version, BEGIN, "back")], BEGIN)
    assert after[version] == EVERYBODY
    assert max(map(Version.parse, after)) == Version.parse(version)


@given(rows, st.floats(0, 1e6), st.floats(0, 1e6))
def test_time_alone_only_lets_shares_grow(known: list[Pointer], first_s: float, second_s: float) -> None:
    earlier, later = sorted((first_s, second_s))
    before = channels.offers(known, BEGIN + timedelta(seconds=earlier))
    after = channels.offers(known, BEGIN + timedelta(seconds=later))
    assert before.keys() == after.keys()
    assert all(before[version] <= after[version] for version in before)
