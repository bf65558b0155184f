"""Which release a connection gets, and why each other one was not chosen. Pure: values in, a decision out.

    exact pin  →  hold  →  range within a channel  →  filters  →  the highest

A pin is the file's own word and beats a hold; a hold is an operator's order and beats range and channel. Filters apply
to all three: nobody gets a blocked, untrusted or unreadable release by naming it. Where range and channel decide,
nothing moves further by itself than ``auto_update`` allows, and a new major version never does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

from semver import Version

from wellhead.catalog.channels import EVERYBODY, bucket
from wellhead.errors import Code, ConfigurationError, RefusedError
from wellhead.ids import ConnectionKey, ConnectorId, Digest
from wellhead.manifest.versions import Range

NONE_FITS = Code("WH-CAT-040", "No release of a connector fits a connection.")
BLOCKED = Code("WH-CAT-041", "The release a connection asks for is blocked.")

Status = Literal["active", "deprecated", "yanked", "blocked", "collected"]
Rule = Literal["pin", "hold", "channel"]
AutoUpdate = Literal["none", "patch", "minor"]

#: How far each setting lets a version move by itself; a major step is beyond all of them.
_REACH: Mapping[str, int] = {"none": 0, "patch": 1, "minor": 2}


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
        connection: whose request it is; decides its place in a rollout.
        connector: which connector.
        range: ``version`` of the connection's file.
        channel: its channel.
        offers: version → percentage of connections the channel offers it to (`channels.offers`).
        held: version of the hold, if there is one.
        current: version the connection ran last, which may go on although it was yanked since.
        auto_update: how far it may move from ``current`` by itself.
        objections: version → why this connection is not moved to it by itself.
        unreadable: version → why this host cannot run it, whoever asks for it.
        state_version: format of the stored checkpoints; None where there are none.
        platform: of the Engine.
        protocols: versions the host speaks.
        host_version: of this program.
    """

    connection: ConnectionKey
    connector: ConnectorId
    range: str
    channel: str
    offers: Mapping[str, float]
    platform: str
    protocols: tuple[int, ...]
    host_version: str
    held: str | None = None
    current: str | None = None
    auto_update: AutoUpdate = "minor"
    state_version: int | None = None
    objections: Mapping[str, str] = field(default_factory=dict)
    unreadable: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rejected:
    """A release that was not chosen, and why."""

    version: str
    reason: str


class Catalog:
    """Every known release of one connector, the highest first; what ranges have in common is worked out once.

    Args:
        candidates: in any order.
    """

    def __init__(self, candidates: Iterable[Candidate]) -> None:
        self.candidates = tuple(sorted(candidates, key=lambda item: _version(item.version), reverse=True))
        self._by_version = {candidate.version: candidate for candidate in self.candidates}
        self._admitted: dict[str, tuple[Candidate, ...]] = {}

    def __eq__(self, other: object) -> bool:
        """Two catalogs of the same releases are equal."""
        return isinstance(other, Catalog) and other.candidates == self.candidates

    def __hash__(self) -> int:
        """Return a hash of the releases."""
        return hash(self.candidates)

    def within(self, wanted: Range) -> tuple[Candidate, ...]:
        """Return the releases in a range, the highest first."""
        if wanted.text not in self._admitted:
            self._admitted[wanted.text] = tuple(
                item for item in self.candidates if wanted.admits(_version(item.version))
            )
        return self._admitted[wanted.text]

    def exactly(self, version: str) -> tuple[Candidate, ...]:
        """Return the one release of a version, or none."""
        found = self._by_version.get(version)
        return () if found is None else (found,)


@dataclass(frozen=True, slots=True)
class Decision:
    """The outcome; without ``chosen`` nothing fits."""

    request: Request
    rule: Rule
    chosen: Candidate | None
    catalog: Catalog = field(default_factory=lambda: Catalog(()))

    @property
    def rejected(self) -> tuple[Rejected, ...]:
        """Why each other release was not chosen, from the highest version down."""
        return tuple(self._reasons())

    def _reasons(self) -> Iterator[Rejected]:
        wanted = _range(self.request.range)
        for candidate in self.catalog.candidates:
            if candidate is not self.chosen:
                reason = _outside(self.request, self.rule, wanted, candidate) or _unfit(
                    self.request, self.rule, candidate
                )
                if reason is None and self.chosen is not None:
                    reason = f"{self.chosen.version} is higher"
                yield Rejected(candidate.version, reason or "it fits")

    @property
    def waiting(self) -> tuple[Rejected, ...]:
        """The releases above the chosen one that somebody's word would let in: an approval, or an upgrade by hand."""
        if self.chosen is None or self.rule != "channel":
            return ()
        return tuple(
            Rejected(candidate.version, reason)
            for candidate in self.catalog.within(_range(self.request.range))
            if _version(candidate.version) > _version(self.chosen.version)
            and _not_offered(self.request, candidate) is None
            and (reason := _awaited(self.request, self.rule, candidate)) is not None
            and _unfit(self.request, self.rule, candidate) == reason
        )

    def require(self) -> Candidate:
        """Return the chosen release.

        Raises:
            RefusedError: the release that was named is blocked (WH-CAT-041).
            ConfigurationError: none fits (WH-CAT-040), with each reason among the details.
        """
        if self.chosen is not None:
            return self.chosen
        request, rejected = self.request, self.rejected
        wanted = {
            "pin": f"version {request.range}",
            "hold": f"the held version {request.held}",
            "channel": f"{request.range!r} in channel {request.channel}",
        }[self.rule]
        details = tuple(f"{item.version}: {item.reason}" for item in rejected)
        if any(
            item.reason.startswith("blocked") and (self.rule != "channel" or item.version == request.current)
            for item in rejected
        ):
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
        """Return the decision as it is stored with the connection and the run.

        What was passed over only because a higher one fits is listed by its version alone, under ``lower``.
        """
        rejected = self.rejected
        usual = f"{self.chosen.version} is higher" if self.chosen else None
        return {
            "rule": self.rule,
            "range": self.request.range,
            "channel": self.request.channel,
            "held": self.request.held,
            "auto_update": self.request.auto_update,
            "chosen": self.chosen.version if self.chosen else None,
            "digest": self.chosen.digest if self.chosen else None,
            "rejected": [{"version": item.version, "reason": item.reason} for item in rejected if item.reason != usual],
            "lower": [item.version for item in rejected if item.reason == usual],
        }


def resolve(request: Request, catalog: Catalog) -> Decision:
    """Choose the release for a connection out of its connector's releases.

    Raises:
        ConfigurationError: the range cannot be understood (WH-MAN-120).
    """
    wanted = _range(request.range)
    rule: Rule = "pin" if wanted.exact is not None else "hold" if request.held is not None else "channel"
    named = catalog.exactly(request.held) if rule == "hold" and request.held else catalog.within(wanted)
    for candidate in named:
        if _outside(request, rule, wanted, candidate) is None and _unfit(request, rule, candidate) is None:
            return Decision(request, rule, candidate, catalog)
    return Decision(request, rule, None, catalog)


def step(current: str, wanted: str) -> Literal["none", "patch", "minor", "major"]:
    """Say how far it is from one version up to another; below 1.0 a minor step breaks as a major one does."""
    before, after = _version(current), _version(wanted)
    if after <= before:
        return "none"
    if after.major != before.major or (before.major == 0 and after.minor != before.minor):
        return "major"
    return "minor" if after.minor != before.minor else "patch"


def _outside(request: Request, rule: Rule, wanted: Range, candidate: Candidate) -> str | None:
    match rule:
        case "pin":
            admitted = wanted.admits(_version(candidate.version))
            return None if admitted else f"the connection is pinned to {request.range}"
        case "hold":
            return None if candidate.version == request.held else f"the connection is held at {request.held}"
        case _:
            if not wanted.admits(_version(candidate.version)):
                return f"not in the range {request.range}"
            return _not_offered(request, candidate)


def _not_offered(request: Request, candidate: Candidate) -> str | None:
    share = request.offers.get(candidate.version)
    if share is None:
        return f"not in the channel {request.channel}"
    # What a connection has run already it keeps: a share that grows never takes anybody back.
    if share >= EVERYBODY or candidate.version == request.current:
        return None
    place = bucket(request.connection, request.connector, candidate.version)
    if place < share:
        return None
    return f"offered to {share:g} % in channel {request.channel}, and this connection comes at {place:.2f} %"


def _unfit(request: Request, rule: Rule, candidate: Candidate) -> str | None:
    because = f": {candidate.status_reason}" if candidate.status_reason else ""
    low, high = candidate.protocols
    if candidate.status == "blocked":
        return f"blocked{because}"
    if candidate.status == "collected":
        return f"collected{because}"
    if candidate.status == "yanked" and rule == "channel" and candidate.version != request.current:
        return f"yanked{because}"
    if not candidate.is_trusted:
        return "not signed by a key trust.yaml names for its namespace"
    if request.platform not in candidate.platforms:
        return f"no image for {request.platform}"
    if not any(low <= protocol <= high for protocol in request.protocols):
        return f"speaks protocol {low} to {high}, this host {', '.join(map(str, request.protocols))}"
    if not _range(candidate.host_range).admits(_version(request.host_version)):
        return f"needs Wellhead {candidate.host_range}, this is {request.host_version}"
    if request.state_version is not None and request.state_version not in candidate.state_reads:
        reads = ", ".join(map(str, sorted(candidate.state_reads)))
        return f"cannot read the stored state of version {request.state_version} (reads {reads})"
    if candidate.version != request.current and candidate.version in request.unreadable:
        return request.unreadable[candidate.version]
    return _awaited(request, rule, candidate)


def _awaited(request: Request, rule: Rule, candidate: Candidate) -> str | None:
    """Say whose word a release waits for."""
    if candidate.version != request.current and candidate.version in request.objections:
        return request.objections[candidate.version]
    if rule != "channel" or request.current is None or not _range(request.range).admits(_version(request.current)):
        # Named by somebody, never run before, or the file now asks for another range: that is a decision by hand.
        return None
    if request.current in request.offers and _version(candidate.version) < _version(request.current):
        return f"below {request.current}, which it runs: going back takes `wellhead rollback`"
    far = step(request.current, candidate.version)
    if far == "none" or (far != "major" and _REACH[request.auto_update] >= _REACH[far]):
        return None
    what = "a major version is taken by hand" if far == "major" else f"auto_update is {request.auto_update}"
    return f"{far} step from {request.current}: {what}"


@lru_cache(maxsize=8192)
def _version(text: str) -> Version:
    return Version.parse(text)


@lru_cache(maxsize=1024)
def _range(text: str) -> Range:
    return Range.parse(text)
