"""Channels: append-only pointers of a connector, and which releases a connection on a channel may get.

    promote   the version is on offer; with a rollout, to a growing share of the connections
    back      every higher version is taken out until it is promoted again
    halt      one version is taken out: its rollout failed

Pure: the rows come from the registry and the time from the caller, the answer is a share for each version. A rollout
needs no clock of its own: what share it has reached is told by when it began.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from semver import Version

from wellhead.ids import ConnectionKey, ConnectorId

Kind = Literal["promote", "back", "halt"]

#: A version that everybody on the channel may get.
EVERYBODY = 100.0


@dataclass(frozen=True, slots=True)
class Guard:
    """How much worse than the old versions the new one may be before its rollout is halted.

    Shares are of 0 to 1 and are compared with the old versions' over the same time: ``failures`` of the runs,
    ``dead_letters`` of the records, ``zero_rows`` of the runs. Below ``min_runs`` runs nothing is judged.
    """

    failures: float = 0.1
    dead_letters: float = 0.01
    zero_rows: float = 0.5
    min_runs: int = 3


@dataclass(frozen=True, slots=True)
class Rollout:
    """A promotion to a share of the connections: ``percent`` at once, and ``step`` more every ``every_s`` seconds."""

    percent: float
    step: float = 0.0
    every_s: float = 3600.0
    guard: Guard = Guard()

    def percent_at(self, elapsed_s: float) -> float:
        """Return the share it has reached so many seconds after it began, in percent."""
        return min(EVERYBODY, self.percent + self.step * max(0, int(elapsed_s // self.every_s)))


@dataclass(frozen=True, slots=True)
class Pointer:
    """One row of a channel: what was done with a version, since when; without a rollout it is for everybody."""

    version: str
    at: datetime
    kind: Kind = "promote"
    rollout: Rollout | None = None


def offers(pointers: Iterable[Pointer], now: datetime) -> dict[str, float]:
    """Return the versions a channel offers, each with the percentage of connections that may get it.

    Promoting an older version (a patch for those who stay on the old major) takes nothing away. A version that is
    promoted again keeps what it had reached: a share only grows, until the version is halted or gone back from.

    Args:
        pointers: the channel's rows, oldest first.
        now: the time to judge rollouts by.
    """
    offered: dict[str, float] = {}
    for pointer in pointers:
        match pointer.kind:
            case "halt":
                offered.pop(pointer.version, None)
            case "back":
                target = Version.parse(pointer.version)
                offered = {other: share for other, share in offered.items() if Version.parse(other) < target}
                offered[pointer.version] = EVERYBODY
            case "promote":
                reached = (
                    EVERYBODY
                    if pointer.rollout is None
                    else pointer.rollout.percent_at((now - pointer.at).total_seconds())
                )
                offered[pointer.version] = max(reached, offered.get(pointer.version, 0.0))
    return offered


def rolling(pointers: Iterable[Pointer], now: datetime) -> dict[str, Pointer]:
    """Return the versions whose rollout goes on, each with the pointer that began it."""
    newest: dict[str, Pointer] = {}
    known = list(pointers)
    for pointer in known:
        if pointer.kind == "promote":
            newest[pointer.version] = pointer
    reached = offers(known, now)
    return {
        version: pointer
        for version, pointer in newest.items()
        if pointer.rollout is not None and reached.get(version, EVERYBODY) < EVERYBODY
    }


def bucket(connection: ConnectionKey, connector: ConnectorId, version: str) -> float:
    """Return where in [0, 100) a connection stands for one version: the same at every call, another for each version.

    Hashed with the version, so that it is not always the same connections that go first.
    """
    text = f"{connection.tenant}/{connection.project}/{connection.name}|{connector}|{version}"
    return int(hashlib.sha256(text.encode()).hexdigest()[:8], 16) % 10_000 / 100


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the finished runs of some versions came to."""

    runs: int = 0
    failures: int = 0
    zero_rows: int = 0
    """Runs that succeeded and wrote nothing."""
    rows: int = 0
    dead_letters: int = 0

    def shares(self) -> Mapping[str, float]:
        """Return the shares a `Guard` names; nothing where nothing ran."""
        return {
            "failures": self.failures / max(1, self.runs),
            "zero_rows": self.zero_rows / max(1, self.runs),
            "dead_letters": self.dead_letters / max(1, self.rows + self.dead_letters),
        }


def breach(guard: Guard, new: Outcome, old: Outcome) -> str | None:
    """Return why a rollout must halt, or None.

    Args:
        guard: what is allowed.
        new: runs of the version that is rolled out.
        old: runs of every other version of the connector in the same time.
    """
    if new.runs < guard.min_runs:
        return None
    before, after = old.shares(), new.shares()
    for name in ("failures", "dead_letters", "zero_rows"):
        allowed = before[name] + getattr(guard, name)
        if after[name] > allowed:
            return (
                f"{name} {after[name]:.1%} in {new.runs} runs, where {before[name]:.1%} of the other versions'"
                f" and {getattr(guard, name):.1%} more are allowed"
            )
    return None
