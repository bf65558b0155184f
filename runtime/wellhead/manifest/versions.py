"""Semantic version ranges: ``^1.2``, ``~1.2.3``, ``>=1 <2``, ``1.x``, ``*``, ``!=1.4.1``, and ``||`` between them.

Spaces and commas mean AND. A prerelease matches only where some comparator of the same alternative names a prerelease
of the same major.minor.patch, as npm has it: nobody gets a candidate by asking for ``>=1.0``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from semver import Version

from wellhead.errors import Code, ConfigurationError

BAD_RANGE = Code("WH-MAN-120", "A version range cannot be understood.")

_PART = r"(?:0|[1-9]\d{0,8}|[xX*])"
_COMPARATOR = re.compile(
    rf"(?P<op>\^|~|>=|<=|!=|>|<|=)?\s*v?(?P<major>{_PART})(?:\.(?P<minor>{_PART}))?(?:\.(?P<patch>{_PART}))?"
    r"(?:-(?P<pre>[0-9A-Za-z.-]+))?"
)


@dataclass(frozen=True, slots=True)
class Comparator:
    """One bound: ``op`` is one of ``>= > < <= = !=``."""

    op: str
    version: Version

    def admits(self, version: Version) -> bool:
        """Say whether ``version`` keeps this bound; build metadata is ignored."""
        order = version.compare(self.version)
        match self.op:
            case ">=":
                return order >= 0
            case ">":
                return order > 0
            case "<":
                return order < 0
            case "<=":
                return order <= 0
            case "=":
                return order == 0
            case _:
                return order != 0


@dataclass(frozen=True, slots=True)
class Range:
    """A set of versions: any alternative whose comparators all admit."""

    text: str
    alternatives: tuple[tuple[Comparator, ...], ...]

    @classmethod
    def parse(cls, text: str) -> Range:
        """Read a range.

        Raises:
            ConfigurationError: WH-MAN-120, naming the part that is no comparator.
        """
        return cls(text, tuple(_alternative(part, text) for part in text.split("||")))

    @property
    def exact(self) -> Version | None:
        """The single version this range admits, when it is written as one: ``1.4.2`` or ``=1.4.2``."""
        match self.alternatives:
            case ((Comparator(op="=", version=version),),):
                return version
            case _:
                return None

    def admits(self, version: Version) -> bool:
        """Say whether ``version`` is in the range, prerelease rule included."""
        return any(_admits(comparators, version) for comparators in self.alternatives)


def _admits(comparators: tuple[Comparator, ...], version: Version) -> bool:
    if not all(comparator.admits(version) for comparator in comparators):
        return False
    if version.prerelease is None:
        return True
    release = version.to_tuple()[:3]
    return any(
        comparator.op != "!="
        and comparator.version.prerelease is not None
        and comparator.version.to_tuple()[:3] == release
        for comparator in comparators
    )


def _alternative(part: str, text: str) -> tuple[Comparator, ...]:
    rest = part.strip()
    found: list[Comparator] = []
    while rest:
        match = _COMPARATOR.match(rest)
        following = rest[match.end() : match.end() + 1] if match else ""
        if match is None or following not in ("", " ", ",", "\t"):
            raise ConfigurationError(
                f"{text!r} is not a version range: {rest!r} is no comparator",
                code=BAD_RANGE,
                hint="write an exact version, ^1.2, ~1.2, >=1.0 <2, * or alternatives with ||",
            )
        found.extend(_comparators(match, text))
        rest = rest[match.end() :].lstrip(" ,\t")
    if not found:
        raise ConfigurationError(
            f"{text!r} is not a version range: an alternative is empty",
            code=BAD_RANGE,
            hint="write * for any version",
        )
    return tuple(found)


def _comparators(match: re.Match[str], text: str) -> list[Comparator]:
    op = match["op"] or "="
    numbers: list[int] = []
    for part in (match["major"], match["minor"], match["patch"]):
        if part is None or part in "xX*":
            break
        numbers.append(int(part))
    full = len(numbers) == 3
    if match["pre"] and not full:
        raise ConfigurationError(
            f"{text!r} is not a version range: a prerelease needs major, minor and patch",
            code=BAD_RANGE,
            hint="write it in full, such as 1.4.0-rc.1",
        )
    if match["pre"]:
        try:
            low = Version.parse(".".join(map(str, numbers)) + f"-{match['pre']}")
        except ValueError:
            raise ConfigurationError(
                f"{text!r} is not a version range: {match['pre']!r} is no prerelease",
                code=BAD_RANGE,
                hint="see semver.org",
            ) from None
    else:
        low = _full(numbers)
    if not numbers:
        # `*`, and anything said about it: only `<*`, `>*` and `!=*` would admit nothing, which nobody means.
        if op in ("<", ">", "!="):
            raise ConfigurationError(
                f"{text!r} is not a version range: {op}* admits nothing", code=BAD_RANGE, hint="write * for any version"
            )
        return [Comparator(">=", Version(0))]
    match op:
        case "^":
            return [Comparator(">=", low), Comparator("<", _before(_caret(numbers)))]
        case "~":
            return [Comparator(">=", low), Comparator("<", _before(_next(numbers[:2])))]
        case "=" if not full:
            return [Comparator(">=", low), Comparator("<", _before(_next(numbers)))]
        case ">" if not full:
            return [Comparator(">=", _next(numbers))]
        case "<=" if not full:
            return [Comparator("<", _before(_next(numbers)))]
        case "!=" if not full:
            raise ConfigurationError(
                f"{text!r} is not a version range: != needs a full version", code=BAD_RANGE, hint="write != 1.4.1"
            )
        case _:
            return [Comparator(op, low)]


def _next(numbers: list[int]) -> Version:
    return _full([*numbers[:-1], numbers[-1] + 1])


def _full(numbers: list[int]) -> Version:
    major, minor, patch = [*numbers, 0, 0, 0][:3]
    return Version(major, minor, patch)


def _caret(numbers: list[int]) -> Version:
    """The first version that breaks compatibility: the leftmost number that is not zero is raised."""
    for index, number in enumerate(numbers):
        if number:
            return _next(numbers[: index + 1])
    return _next(numbers)


def _before(version: Version) -> Version:
    """``<2.0.0`` must not let 2.0.0-rc.1 in even where prereleases are named."""
    return version.replace(prerelease="0")
