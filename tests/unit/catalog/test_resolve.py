"""Resolution: the rules one by one, and what must hold for any catalog."""

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from semver import Version

from wellhead.catalog import resolve
from wellhead.catalog.channels import EVERYBODY, bucket
from wellhead.catalog.resolve import Candidate, Catalog, Request
from wellhead.errors import ConfigurationError, RefusedError
from wellhead.ids import ConnectionKey, ConnectorId, Digest
from wellhead.manifest.versions import Range


def candidate(version: str, **fields: Any) -> Candidate:
    return Candidate(version, Digest(f"sha256:{version}"), **fields)


KEY = ConnectionKey("acme", "default", "orders")
OFFERED = dict.fromkeys(("1.0.0", "1.1.0", "1.2.0", "2.0.0"), EVERYBODY)
REQUEST = Request(KEY, ConnectorId("dev/tiny"), "^1", "stable", OFFERED, "linux/amd64", (1,), "0.1.0")
CATALOG = [candidate(version) for version in ("1.0.0", "1.1.0", "1.2.0", "1.3.0", "2.0.0")]


def chosen(request: Request, catalog: list[Candidate]) -> str | None:
    found = resolve.resolve(request, Catalog(catalog)).chosen
    return found.version if found else None


def with_fields(version: str, **fields: Any) -> list[Candidate]:
    return [dataclasses.replace(item, **fields) if item.version == version else item for item in CATALOG]


def test_the_highest_in_range_and_channel_wins() -> None:
    decision = resolve.resolve(REQUEST, Catalog(CATALOG))
    assert decision.require().version == "1.2.0"
    assert {item.version: item.reason for item in decision.rejected} == {
        "2.0.0": "not in the range ^1",
        "1.3.0": "not in the channel stable",
        "1.1.0": "1.2.0 is higher",
        "1.0.0": "1.2.0 is higher",
    }
    assert decision.document()["chosen"] == "1.2.0"


def test_a_hold_beats_range_and_channel() -> None:
    held = dataclasses.replace(REQUEST, held="2.0.0")
    assert chosen(held, CATALOG) == "2.0.0"
    assert resolve.resolve(held, Catalog(CATALOG)).rule == "hold"


def test_a_pin_beats_the_hold_and_the_channel() -> None:
    pinned = dataclasses.replace(REQUEST, range="1.3.0", held="1.0.0")
    assert chosen(pinned, CATALOG) == "1.3.0"
    assert resolve.resolve(pinned, Catalog(CATALOG)).rule == "pin"


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"status": "blocked", "status_reason": "leaks"}, "blocked: leaks"),
        ({"status": "yanked"}, "yanked"),
        ({"status": "collected"}, "collected"),
        ({"is_trusted": False}, "not signed by a key trust.yaml names for its namespace"),
        ({"platforms": frozenset({"linux/arm64"})}, "no image for linux/amd64"),
        ({"protocols": (2, 3)}, "speaks protocol 2 to 3, this host 1"),
        ({"host_range": ">=0.2"}, "needs Wellhead >=0.2, this is 0.1.0"),
        ({"state_reads": frozenset({4})}, "cannot read the stored state of version 3 (reads 4)"),
    ],
)
def test_each_filter_passes_over_a_release_and_says_why(fields: dict[str, Any], reason: str) -> None:
    catalog = [dataclasses.replace(item, state_reads=frozenset({3})) for item in CATALOG]
    catalog[2] = dataclasses.replace(catalog[2], **fields)
    decision = resolve.resolve(dataclasses.replace(REQUEST, state_version=3), Catalog(catalog))
    assert decision.require().version == "1.1.0"
    assert reason in [item.reason for item in decision.rejected if item.version == "1.2.0"]


def test_deprecated_is_chosen() -> None:
    assert chosen(REQUEST, with_fields("1.2.0", status="deprecated")) == "1.2.0"


def test_yanked_goes_on_where_it_runs_and_where_it_is_named() -> None:
    catalog = with_fields("1.2.0", status="yanked")
    assert chosen(dataclasses.replace(REQUEST, current="1.2.0"), catalog) == "1.2.0"
    assert chosen(dataclasses.replace(REQUEST, range="1.2.0"), catalog) == "1.2.0"


@pytest.mark.parametrize("named", [{"range": "1.2.0"}, {"held": "1.2.0"}])
def test_blocked_is_refused_even_when_it_is_named(named: dict[str, str]) -> None:
    blocked = Catalog(with_fields("1.2.0", status="blocked"))
    decision = resolve.resolve(dataclasses.replace(REQUEST, **named), blocked)  # type: ignore[arg-type]
    with pytest.raises(RefusedError) as caught:
        decision.require()
    assert caught.value.code.name == "WH-CAT-041"


def test_where_nothing_fits_every_reason_is_told() -> None:
    decision = resolve.resolve(dataclasses.replace(REQUEST, range="^3"), Catalog(CATALOG))
    with pytest.raises(ConfigurationError) as caught:
        decision.require()
    assert caught.value.code.name == "WH-CAT-040"
    assert len(caught.value.details) == len(CATALOG)
    with pytest.raises(ConfigurationError, match="none is published"):
        resolve.resolve(REQUEST, Catalog([])).require()


versions = st.builds(
    lambda major, minor, patch, pre: str(Version(major, minor, patch, pre)),
    st.integers(0, 3), st.integers(0, 3), st.integers(0, 3), st.sampled_from([None, None, "rc.1"]),
)  # fmt: skip
candidates = st.lists(
    st.builds(
        Candidate,
        versions,
        st.just(Digest("sha256:0")),
        st.sampled_from(["active", "deprecated", "yanked", "blocked"]),
        is_trusted=st.booleans(),
        state_reads=st.frozensets(st.integers(1, 3), min_size=1),
    ),
    unique_by=lambda item: item.version,
)
requests = st.builds(
    Request,
    st.just(KEY),
    st.just(ConnectorId("dev/tiny")),
    st.sampled_from(["*", "^1", "~2.1", ">=1 <3", "1.1.1", "2.0.0-rc.1"]),
    st.just("stable"),
    st.dictionaries(versions, st.sampled_from([10.0, 50.0, EVERYBODY])),
    st.just("linux/amd64"),
    st.just((1,)),
    st.just("0.1.0"),
    st.none() | versions,
    st.none() | versions,
    st.sampled_from(["none", "patch", "minor"]),
    st.none() | st.integers(1, 3),
    st.dictionaries(versions, st.just("needs approval: host a:443"), max_size=3),
)


@given(requests, candidates)
def test_a_chosen_release_is_fit_and_every_other_has_a_reason(request: Request, catalog: list[Candidate]) -> None:
    decision = resolve.resolve(request, Catalog(catalog))
    told = {item.version for item in decision.rejected}
    assert told | {item.version for item in [decision.chosen] if item} == {item.version for item in catalog}
    assert all(item.reason for item in decision.rejected)
    best = [decision.chosen] if decision.chosen else []
    assert all(item.status != "blocked" and item.is_trusted for item in best)
    assert all(request.state_version is None or request.state_version in item.state_reads for item in best)
    assert decision.rule != "channel" or all(item.version in request.offers for item in best)
    assert decision.rule != "hold" or all(item.version == request.held for item in best)


@pytest.mark.slow
@given(requests, candidates, st.randoms())
def test_the_order_of_the_catalog_does_not_matter(request: Request, catalog: list[Candidate], random: Any) -> None:
    shuffled = list(catalog)
    random.shuffle(shuffled)
    assert resolve.resolve(request, Catalog(shuffled)) == resolve.resolve(request, Catalog(catalog))


@given(requests, candidates)
def test_a_further_release_that_does_not_fit_changes_nothing(request: Request, catalog: list[Candidate]) -> None:
    blocked = Candidate("9.9.9", Digest("sha256:9"), "blocked")
    assert (
        resolve.resolve(request, Catalog([*catalog, blocked])).chosen
        == resolve.resolve(request, Catalog(catalog)).chosen
    )


@pytest.mark.slow
@given(requests, candidates)
def test_nothing_moves_down_or_further_up_than_the_connection_lets_it(
    request: Request, catalog: list[Candidate]
) -> None:
    """Pins, holds and a range that no longer holds what runs are decisions by hand, and a channel may go back."""
    decision = resolve.resolve(request, Catalog(catalog))
    for best in filter(None, [decision.chosen]):
        for current in filter(None, [request.current]):
            is_free = decision.rule != "channel" or current not in request.offers
            is_free |= not Range.parse(request.range).admits(Version.parse(current))
            reach = ("none", "patch", "minor")
            far = resolve.step(current, best.version)
            assert is_free or far in reach[: 1 + reach.index(request.auto_update)]
            assert is_free or Version.parse(best.version) >= Version.parse(current)


@pytest.mark.parametrize(("auto_update", "expected"), [("none", "1.0.0"), ("patch", "1.0.1"), ("minor", "1.1.0")])
def test_a_version_moves_as_far_as_the_connection_says(auto_update: Any, expected: str) -> None:
    known = ("1.0.0", "1.0.1", "1.1.0", "2.0.0")
    request = dataclasses.replace(
        REQUEST, range="*", current="1.0.0", auto_update=auto_update, offers=dict.fromkeys(known, EVERYBODY)
    )
    decision = resolve.resolve(request, Catalog(map(candidate, known)))
    assert decision.require().version == expected
    assert "major step from 1.0.0: a major version is taken by hand" in [item.reason for item in decision.waiting]


NEWS = {"1.2.0": "needs approval: host new.example.com:443"}


def test_what_waits_for_approval_is_passed_over_and_told() -> None:
    request = dataclasses.replace(REQUEST, current="1.1.0", objections=NEWS)
    decision = resolve.resolve(request, Catalog(CATALOG))
    assert decision.require().version == "1.1.0"
    assert [(item.version, item.reason) for item in decision.waiting] == list(NEWS.items())


def test_what_runs_goes_on_although_somebody_would_have_to_agree_to_it() -> None:
    assert chosen(dataclasses.replace(REQUEST, current="1.2.0", objections=NEWS), CATALOG) == "1.2.0"


def test_a_blocked_version_that_runs_is_refused_and_not_replaced_by_an_older_one() -> None:
    decision = resolve.resolve(
        dataclasses.replace(REQUEST, current="1.2.0"), Catalog(with_fields("1.2.0", status="blocked"))
    )
    with pytest.raises(RefusedError):
        decision.require()
    assert "below 1.2.0, which it runs: going back takes `wellhead rollback`" in [
        item.reason for item in decision.rejected
    ]


def test_a_share_decides_by_the_place_of_the_connection() -> None:
    place = bucket(KEY, REQUEST.connector, "1.2.0")
    for share, expected in ((place, "1.1.0"), (place + 0.01, "1.2.0")):
        request = dataclasses.replace(REQUEST, offers={**OFFERED, "1.2.0": share})
        assert chosen(request, CATALOG) == expected
    assert chosen(dataclasses.replace(request, offers={**OFFERED, "1.2.0": 0.0}, current="1.2.0"), CATALOG) == "1.2.0"


@pytest.mark.parametrize(
    ("before", "after", "far"),
    [
        ("1.0.0", "1.0.0", "none"),
        ("1.1.0", "1.0.9", "none"),
        ("1.0.0", "1.0.1", "patch"),
        ("1.0.0-rc.1", "1.0.0", "patch"),
        ("1.0.0", "1.3.0", "minor"),
        ("1.9.0", "2.0.0", "major"),
        ("0.1.0", "0.1.4", "patch"),
        ("0.1.0", "0.2.0", "major"),
    ],
)
def test_how_far_a_step_is(before: str, after: str, far: str) -> None:
    assert resolve.step(before, after) == far
