"""Which releases may be collected: those to which nothing refers. Pure: rows and time come from the caller.

What refers to a release is a reference; that it is young or among the newest is none, and keeps it all the same.

    channel      it points there, or would be taken back there        run      one is at work
    rollout      it is being rolled out                               lock     wellhead.lock names it
    connection   it runs it, is held or pinned, or may get it         state    only it could read what is stored
    replacement  another release names it as what to use instead

A receipt refers to nothing: it names digest, image and manifest hash itself, and is verified by the host's key.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Literal

from semver import Version

from wellhead.catalog import channels
from wellhead.catalog.channels import EVERYBODY, Pointer
from wellhead.manifest.versions import Range

Kind = Literal[
    "channel", "rollout", "connection", "run", "lock", "replacement", "state", "newest", "recent", "written", "shared"
]
#: Kinds that keep a release although nothing refers to it.
NO_REFERENCE: frozenset[Kind] = frozenset({"newest", "recent", "written", "shared"})

#: A channel or range keeps what it offers now and what it would go back to, however few are to be kept.
FEWEST = 2


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a release is kept; the sentence goes on after its name."""

    kind: Kind
    said: str


@dataclass(frozen=True, slots=True)
class Known:
    """A release that has its files."""

    version: str
    published_at: datetime
    state_reads: frozenset[int] = frozenset({1})
    may_run: bool = True
    """False for one that is blocked."""
    replaced_by: str | None = None


@dataclass(frozen=True, slots=True)
class User:
    """A connection; what is decided for one that never ran is None."""

    name: str
    range: str
    channel: str
    resolved: str | None = None
    held: str | None = None


@dataclass(frozen=True, slots=True)
class Connector:
    """All there is of one connector.

    Attributes:
        releases: those that have their files, in any order.
        pointers: channel → its rows, oldest first.
        users: connections of it.
        running: version → what is at work with it.
        locked: versions that the project's lock file names.
        states: connection → formats of its states and of the checkpoints kept for it.
    """

    releases: tuple[Known, ...]
    pointers: Mapping[str, tuple[Pointer, ...]] = field(default_factory=dict)
    users: tuple[User, ...] = ()
    running: Mapping[str, str] = field(default_factory=dict)
    locked: frozenset[str] = frozenset()
    states: Mapping[str, frozenset[int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Limits:
    """What is kept without a reference: the ``keep`` newest, and what was published less than ``older_than`` ago."""

    keep: int = 3
    older_than: timedelta = timedelta(days=30)


def reasons(found: Connector, limits: Limits, now: datetime) -> dict[str, tuple[Reason, ...]]:
    """Return every release's reasons to be kept; one without any may be collected."""
    told: dict[str, list[Reason]] = {release.version: [] for release in found.releases}
    for version, reason in _told(found, limits, now):
        if version in told and reason not in told[version]:
            told[version].append(reason)
    for version, reason in _states(found, {version for version, known in told.items() if known}):
        told[version].append(reason)
    return {version: tuple(known) for version, known in told.items()}


def _told(found: Connector, limits: Limits, now: datetime) -> Iterator[tuple[str, Reason]]:
    back = max(limits.keep, FEWEST)
    offers = {name: channels.offers(rows, now) for name, rows in found.pointers.items()}
    for name, rows in found.pointers.items():
        yield from _channel(name, rows, _present(offers[name], found), back, now)
    for user in found.users:
        yield from _user(user, _present(offers.get(user.channel, {}), found), back)
    for version, who in found.running.items():
        yield version, Reason("run", f"{who} is at work with it")
    for version in found.locked:
        yield version, Reason("lock", "wellhead.lock names it")
    for release in found.releases:
        if release.replaced_by is not None:
            yield release.replaced_by, Reason("replacement", f"it is to be used instead of {release.version}")
        if now - release.published_at < limits.older_than:
            yield release.version, Reason("recent", f"published at {release.published_at:%Y-%m-%d %H:%M}Z")
    newest = _highest((release.version for release in found.releases if release.may_run), limits.keep)
    for version in newest:
        yield version, Reason("newest", f"among the {limits.keep} newest")


def _present(offers: Mapping[str, float], found: Connector) -> dict[str, float]:
    """Return what a channel offers and still has its files."""
    known = {release.version for release in found.releases}
    return {version: share for version, share in offers.items() if version in known}


def _channel(
    name: str, rows: Iterable[Pointer], offers: Mapping[str, float], back: int, now: datetime
) -> Iterator[tuple[str, Reason]]:
    known = list(rows)
    pointed = [row.version for row in known if row.kind != "halt" and row.version in offers]
    yield from ((version, Reason("channel", f"channel {name} points to it")) for version in pointed[-1:])
    for version in channels.rolling(known, now):
        yield version, Reason("rollout", f"channel {name} rolls it out, to {offers.get(version, 0.0):g} % by now")
    whole = _highest((version for version, share in offers.items() if share >= EVERYBODY), back)
    for place, version in enumerate(whole):
        yield version, Reason("channel", f"channel {name} {'may go back to' if place else 'offers'} it")


def _user(user: User, offers: Mapping[str, float], back: int) -> Iterator[tuple[str, Reason]]:
    name = f"connection {user.name}"
    if user.resolved is not None:
        yield user.resolved, Reason("connection", f"{name} runs it")
    if user.held is not None:
        yield user.held, Reason("connection", f"{name} is held at it")
    wanted = Range.parse(user.range)
    if wanted.exact is not None:
        yield str(wanted.exact), Reason("connection", f"{name} is pinned to it")
    for version in _highest((version for version in offers if wanted.admits(_version(version))), back):
        yield version, Reason("connection", f"{name} may get it")


def _states(found: Connector, kept: set[str]) -> Iterator[tuple[str, Reason]]:
    """Keep the highest release that reads a state no other kept one reads."""
    readers = {release.version: release.state_reads for release in found.releases if release.may_run}
    for name, formats in sorted(found.states.items()):
        for number in sorted(formats):
            able = [version for version, reads in readers.items() if number in reads]
            if kept.isdisjoint(able):
                for version in _highest(able, 1):
                    kept.add(version)
                    told = f"of those kept only it reads state {number}, which connection {name} has stored"
                    yield version, Reason("state", told)


def _highest(versions: Iterable[str], count: int) -> list[str]:
    return sorted(versions, key=_version, reverse=True)[:count]


@lru_cache(maxsize=8192)
def _version(text: str) -> Version:
    return Version.parse(text)
