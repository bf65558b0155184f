"""Ranges: what npm's documentation says, and properties that hold for every version."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from semver import Version

from wellhead.errors import ConfigurationError
from wellhead.manifest.versions import Range

numbers = st.integers(min_value=0, max_value=40)
versions = st.builds(Version, numbers, numbers, numbers, st.sampled_from([None, "alpha", "rc.1", "rc.2"]))


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("^1.2", ["1.2.0", "1.9.9"], ["1.1.9", "2.0.0", "2.0.0-rc.1"]),
        ("^0.2.3", ["0.2.3", "0.2.9"], ["0.3.0", "0.2.2"]),
        ("^0.0.3", ["0.0.3"], ["0.0.4", "0.0.2"]),
        ("^0.0", ["0.0.0", "0.0.9"], ["0.1.0"]),
        ("^0", ["0.0.0", "0.9.9"], ["1.0.0"]),
        ("~1.2.3", ["1.2.3", "1.2.9"], ["1.3.0", "1.2.2"]),
        ("~1", ["1.0.0", "1.9.0"], ["2.0.0"]),
        ("1.2", ["1.2.0", "1.2.7"], ["1.3.0"]),
        ("1.x", ["1.0.0", "1.8.0"], ["2.0.0"]),
        ("*", ["0.0.0", "9.9.9"], ["1.0.0-rc.1"]),
        (">=1.0 <2", ["1.0.0", "1.9.9"], ["2.0.0", "0.9.9"]),
        (">=1.0, <2, !=1.4.1", ["1.4.0"], ["1.4.1"]),
        (">1", ["2.0.0"], ["1.9.9"]),
        (">1.2.3", ["1.2.4"], ["1.2.3"]),
        ("<=1.2", ["1.2.9"], ["1.3.0", "1.3.0-rc.1"]),
        ("=1.4.2", ["1.4.2"], ["1.4.3"]),
        ("1.4.2 || ^2", ["1.4.2", "2.5.0"], ["1.4.3", "3.0.0"]),
        (">=1.4.0-rc.1 <2", ["1.4.0-rc.1", "1.4.0-rc.2", "1.5.0"], ["1.5.0-rc.1", "1.4.0-alpha"]),
        ("!=1.0.0-rc.1", ["1.0.0"], ["1.0.0-rc.2"]),
    ],
)
def test_a_range_admits_what_it_says(text: str, inside: list[str], outside: list[str]) -> None:
    parsed = Range.parse(text)
    assert [version for version in inside if not parsed.admits(Version.parse(version))] == []
    assert [version for version in outside if parsed.admits(Version.parse(version))] == []


@pytest.mark.parametrize(
    "text", ["", "one", "1.2.3.4", "^", ">", "1 ||", "1.2-rc.1", "!=1.2", "01.2.3", "1.2.3-rc_1", ">=1<2x", "!=*"]
)
def test_what_is_no_range_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Range.parse(text)
    assert caught.value.code.name == "WH-MAN-120"


def test_an_exact_version_is_known_as_one() -> None:
    assert Range.parse("1.4.2").exact == Version.parse("1.4.2")
    assert Range.parse("^1.4.2").exact is None
    assert Range.parse("1.4").exact is None


@given(versions)
def test_every_version_is_in_its_own_exact_range_and_caret(version: Version) -> None:
    assert Range.parse(str(version)).admits(version)
    assert Range.parse(f"^{version}").admits(version)


@given(versions, versions)
def test_a_caret_never_crosses_the_leftmost_number(low: Version, other: Version) -> None:
    admitted = Range.parse(f"^{low}").admits(other)
    same = (low.major == other.major) if low.major else (low.major, low.minor) == (other.major, other.minor)
    assert not admitted or (same and other >= low)


@given(versions)
def test_nobody_gets_a_prerelease_without_naming_one(version: Version) -> None:
    assert Range.parse(">=0.0.0").admits(version) == (version.prerelease is None)


@given(versions, st.sampled_from(["^1.2", "~3", ">=2 <9", "*"]), st.sampled_from(["1.x", ">30", "=4.5.6"]))
def test_alternatives_admit_what_either_admits(version: Version, left: str, right: str) -> None:
    both = Range.parse(f"{left} || {right}")
    assert both.admits(version) == (Range.parse(left).admits(version) or Range.parse(right).admits(version))
