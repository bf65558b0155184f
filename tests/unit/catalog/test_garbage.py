"""What refers to a release, and what only keeps it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from wellhead.catalog import garbage
from wellhead.catalog.channels import Pointer, Rollout
from wellhead.catalog.garbage import Connector, Known, Limits, User

NOW = datetime(2026, 7, 1, tzinfo=UTC)
OLD = NOW - timedelta(days=400)
#: Nothing is kept for its age, and of the newest as few as can be.
STRICT = Limits(keep=1, older_than=timedelta(days=30))
VERSIONS = ("1.0.0", "1.1.0", "1.2.0", "1.3.0", "2.0.0")


def connector(*versions: str, **rest: Any) -> Connector:
    return Connector(tuple(Known(version, OLD) for version in versions or VERSIONS), **rest)


def kept(found: Connector, limits: Limits = STRICT) -> dict[str, list[str]]:
    told = garbage.reasons(found, limits, NOW)
    return {version: [reason.kind for reason in reasons] for version, reasons in told.items() if reasons}


def promoted(*versions: str) -> tuple[Pointer, ...]:
    return tuple(Pointer(version, OLD) for version in versions)


def test_what_nothing_refers_to_may_go_but_for_the_newest() -> None:
    assert kept(connector()) == {"2.0.0": ["newest"]}
    assert kept(connector(), replace(STRICT, keep=3)) == {
        "1.2.0": ["newest"],
        "1.3.0": ["newest"],
        "2.0.0": ["newest"],
    }


def test_a_blocked_release_is_not_among_the_newest() -> None:
    found = connector()
    releases = tuple(replace(one, may_run=one.version != "2.0.0") for one in found.releases)
    assert kept(replace(found, releases=releases)) == {"1.3.0": ["newest"]}


def test_a_channel_keeps_what_it_offers_and_what_it_would_go_back_to() -> None:
    found = connector(pointers={"stable": promoted("1.0.0", "1.1.0", "1.2.0")})
    assert kept(found) == {"1.1.0": ["channel"], "1.2.0": ["channel", "channel"], "2.0.0": ["newest"]}
    assert set(kept(found, replace(STRICT, keep=3))) == {"1.0.0", "1.1.0", "1.2.0", "1.3.0", "2.0.0"}


def test_a_channel_goes_back_over_what_was_collected_to_what_is_there() -> None:
    found = connector("1.0.0", "1.2.0", "2.0.0", pointers={"stable": promoted("1.0.0", "1.1.0", "1.2.0")})
    assert kept(found)["1.0.0"] == ["channel"]


def test_a_channel_that_was_pointed_to_an_older_line_keeps_it() -> None:
    found = connector(pointers={"stable": promoted("1.2.0", "1.3.0", "2.0.0", "1.0.0")})
    assert kept(found)["1.0.0"] == ["channel"]


def test_a_rollout_in_progress_keeps_what_it_rolls_out_and_what_it_would_go_back_to() -> None:
    rows = (*promoted("1.0.0", "1.1.0"), Pointer("1.2.0", NOW, rollout=Rollout(10.0)))
    assert kept(connector(pointers={"stable": rows})) == {
        "1.0.0": ["channel"],
        "1.1.0": ["channel"],
        "1.2.0": ["channel", "rollout"],
        "2.0.0": ["newest"],
    }


def test_a_halted_release_is_kept_by_no_channel() -> None:
    rows = (*promoted("1.0.0", "1.1.0", "1.2.0"), Pointer("1.2.0", NOW, "halt"))
    assert "1.2.0" not in kept(connector(pointers={"stable": rows}))


@pytest.mark.parametrize(
    ("user", "version"),
    [
        (User("a", "^1", "stable", resolved="1.0.0"), "1.0.0"),
        (User("a", "^1", "stable", resolved="1.1.0", held="1.0.0"), "1.0.0"),
        (User("a", "1.0.0", "stable"), "1.0.0"),
        (User("a", "=1.0.0", "nowhere"), "1.0.0"),
    ],
)
def test_a_connection_keeps_what_it_runs_is_held_or_pinned_at(user: User, version: str) -> None:
    assert kept(connector(users=(user,)))[version] == ["connection"]


def test_a_connection_keeps_what_it_may_get_and_what_it_would_go_back_to_within_its_range() -> None:
    found = connector(pointers={"stable": promoted(*VERSIONS)}, users=(User("a", "~1.1 || ~1.0", "stable"),))
    assert set(kept(found)) == {"1.0.0", "1.1.0", "1.3.0", "2.0.0"}


def test_runs_locks_and_named_successors_refer() -> None:
    found = connector(running={"1.0.0": "run x"}, locked=frozenset({"1.1.0"}))
    releases = (*found.releases, Known("0.9.0", OLD, replaced_by="1.2.0"))
    assert kept(replace(found, releases=releases)) == {
        "1.0.0": ["run"],
        "1.1.0": ["lock"],
        "1.2.0": ["replacement"],
        "2.0.0": ["newest"],
    }


def test_what_is_young_is_kept() -> None:
    found = connector()
    young = replace(found.releases[0], published_at=NOW - timedelta(days=29))
    assert kept(replace(found, releases=(young, *found.releases[1:])))["1.0.0"] == ["recent"]


def test_a_stored_state_keeps_one_release_that_reads_it_where_no_kept_one_does() -> None:
    reads = {"1.0.0": {1}, "1.1.0": {1, 2}, "1.2.0": {1, 2}, "1.3.0": {3}, "2.0.0": {3}}
    releases = tuple(Known(version, OLD, frozenset(numbers)) for version, numbers in reads.items())
    found = Connector(releases, states={"a": frozenset({1, 3}), "b": frozenset({2})})
    assert kept(found) == {"1.2.0": ["state"], "2.0.0": ["newest"]}
    blocked = tuple(replace(one, may_run=one.version != "1.2.0") for one in releases)
    assert kept(replace(found, releases=blocked)) == {"1.1.0": ["state"], "2.0.0": ["newest"]}


def test_each_reason_says_who_refers() -> None:
    found = connector(pointers={"stable": promoted("1.0.0", "1.1.0")}, users=(User("acme/x/orders", "^1", "edge"),))
    told = garbage.reasons(replace(found, running={"1.1.0": "run 1"}), STRICT, NOW)
    assert [reason.said for reason in told["1.1.0"]] == [
        "channel stable points to it",
        "channel stable offers it",
        "run 1 is at work with it",
    ]
