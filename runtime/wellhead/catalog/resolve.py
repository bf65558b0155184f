"""Which release a connection gets, and why each other one was not chosen. Pure: values in, a decision out.

    exact pin  →  hold  →  range within a channel  →  filters  →  the highest

A pin is the file's own word and beats a hold; a hold is an operator's order and beats range and channel. Filters apply
to all three: nobody gets a blocked, untrusted or unreadable release by naming it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from semver import Version

from wellhead.errors import Code, ConfigurationError, RefusedError
from wellhead.ids import ConnectorId, Digest
from wellhead.manifest.versions import Range

NONE_FITS = Code("WH-CAT-040", "No release of a connector fits a connection.")
BLOCKED = Code("WH-CAT-041", "The release a connection asks for is blocked.")

Status = Literal["active", "deprecated", "yanked", "blocked"]
Rule = Literal["pin", "hold", "channel"]


@dataclass(frozen=True, slots=True)
class Candidate:
    """One release as resolution sees it; a row of `connector_definitions` and what its manifest says."""

    version: str
    digest: Digest
    status: Status = "active"
    status_reason: str = ""
    platforms: frozenset[str] = frozenset({"linux/amd64"})
    protocols: tuple[int, int] = (1, 1)
    host_range: str = "*"
    state_reads: frozenset[int] = frozenset({1})
    is_trusted: bool = True


@dataclass(frozen=True, slots=True)
class Request:
    """What a connection asks for, and where it would run.

    Attributes:
        connector: which connector.
        range: ``version`` of the connection's file.
        channel: its channel.
        members: versions the channel offers (`channels.members`).
        held: version of the hold, if there is one.
        current: version the connection ran last, which may go on although it was yanked since.
        state_version: format of the stored checkpoints; None where there are none.
        platform: of the Engine.
        protocols: versions the host speaks.
        host_version: of this program.
    """

    connector: ConnectorId
    range: str
    channel: str
    members: frozenset[str]
    platform: str
    protocols: tuple[int, ...]
    host_version: str
    held: str | None = None
    current: str | None = None
    state_version: int | None = None


@dataclass(frozen=True, slots=True)
class Rejected:
    """A release that was not chosen, and why."""

    version: str
    reason: str


@dataclass(frozen=True, slots=True)
class Decision:
    """The outcome; without ``chosen`` nothing fits. ``rejected`` is ordered from the highest version down."""

    request: Request
    rule: Rule
    chosen: Candidate | None
    rejected: tuple[Rejected, ...] = field(default=())

    def require(self) -> Candidate:
        """Return the chosen release.

        Raises:
            RefusedError: the release that was named is blocked (WH-CAT-041).
            ConfigurationError: none fits (WH-CAT-040), with each reason among the details.
        """
        if self.chosen is not None:
            return self.chosen
        request = self.request
        wanted = {
            "pin": f"version {request.range}",
            "hold": f"the held version {request.held}",
            "channel": f"{request.range!r} in channel {request.channel}",
        }[self.rule]
        details = tuple(f"{rejected.version}: {rejected.reason}" for rejected in self.rejected)
        if self.rule != "channel" and any(rejected.reason.startswith("blocked") for rejected in self.rejected):
            raise RefusedError(
                f"{request.connector}: {wanted} is blocked",
                code=BLOCKED,
                hint="`wellhead catalog show` says why; choose another version",
                details=details,
            )
        raise ConfigurationError(
            f"{request.connector}: no release fits {wanted}"
            + (f" ({details[0]})" if details else ": none is published"),
            code=NONE_FITS,
            hint="`wellhead catalog list` shows what is published; `wellhead explain CONNECTION` shows each reason",
            details=details,
        )

    def document(self) -> dict[str, Any]:
        """Return the decision as it is stored with the connection and the run."""
        return {
            "rule": self.rule,
            "range": self.request.range,
            "channel": self.request.channel,
            "held": self.request.held,
            "chosen": self.chosen.version if self.chosen else None,
            "digest": self.chosen.digest if self.chosen else None,
            "rejected": [{"version": item.version, "reason": item.reason} for item in self.rejected],
        }


def resolve(request: Request, candidates: Iterable[Candidate]) -> Decision:
    """Choose the release for a connection.

    Args:
        request: what is asked for.
        candidates: every known release of the connector, in any order.

    Raises:
        ConfigurationError: the range cannot be understood (WH-MAN-120).
    """
    wanted = Range.parse(request.range)
    rule: Rule = "pin" if wanted.exact is not None else "hold" if request.held is not None else "channel"
    chosen: Candidate | None = None
    rejected: list[Rejected] = []
    for candidate in sorted(candidates, key=lambda item: Version.parse(item.version), reverse=True):
        reason = _outside(request, rule, wanted, candidate) or _unfit(request, rule, candidate)
        if reason is None and chosen is not None:
            reason = f"{chosen.version} is higher"
        if reason is None:
            chosen = candidate
        else:
            rejected.append(Rejected(candidate.version, reason))
    return Decision(request, rule, chosen, tuple(rejected))


def _outside(request: Request, rule: Rule, wanted: Range, candidate: Candidate) -> str | None:
    version = Version.parse(candidate.version)
    match rule:
        case "pin":
            return None if wanted.admits(version) else f"the connection is pinned to {request.range}"
        case "hold":
            return None if candidate.version == request.held else f"the connection is held at {request.held}"
        case _:
            if not wanted.admits(version):
                return f"not in the range {request.range}"
            return None if candidate.version in request.members else f"not in the channel {request.channel}"


def _unfit(request: Request, rule: Rule, candidate: Candidate) -> str | None:
    because = f": {candidate.status_reason}" if candidate.status_reason else ""
    low, high = candidate.protocols
    if candidate.status == "blocked":
        return f"blocked{because}"
    if candidate.status == "yanked" and rule == "channel" and candidate.version != request.current:
        return f"yanked{because}"
    if not candidate.is_trusted:
        return "not signed by a key trust.yaml names for its namespace"
    if request.platform not in candidate.platforms:
        return f"no image for {request.platform}"
    if not any(low <= protocol <= high for protocol in request.protocols):
        return f"speaks protocol {low} to {high}, this host {', '.join(map(str, request.protocols))}"
    if not Range.parse(candidate.host_range).admits(Version.parse(request.host_version)):
        return f"needs Wellhead {candidate.host_range}, this is {request.host_version}"
    if request.state_version is not None and request.state_version not in candidate.state_reads:
        reads = ", ".join(map(str, sorted(candidate.state_reads)))
        return f"cannot read the stored state of version {request.state_version} (reads {reads})"
    return None
