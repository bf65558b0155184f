"""Promoting a release in a channel, to all at once or to a growing share, and halting what does worse than before.

A rollout is judged whenever a run of the connector is planned or ends, on any host: nothing has to be running for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from wellhead.catalog import channels as offered
from wellhead.catalog.channels import EVERYBODY, Guard, Outcome, Pointer, Rollout
from wellhead.clock import Clock
from wellhead.errors import Code, ConfigurationError, RefusedError
from wellhead.ids import ConnectorId
from wellhead.registry import alerts, catalog_events, channels, definitions, runs
from wellhead.registry.database import Database, Transaction

SHRINKS = Code("WH-CAT-070", "A rollout can only grow.")
NOT_ROLLING = Code("WH-CAT-071", "A version is not being rolled out.")
NOT_PROMOTABLE = Code("WH-CAT-072", "A release that is yanked or blocked cannot be promoted.")

#: Runs that ended in one of these count against their version.
_FAILED = ("failed", "refused", "partial")
_COUNTED = ("succeeded", *_FAILED)


@dataclass(frozen=True, slots=True)
class Order:
    """Who promotes what to whom; ``rollout`` None means to everybody at once."""

    connector: ConnectorId
    version: str
    channel: str
    who: str
    reason: str
    rollout: Rollout | None = None


@dataclass(frozen=True, slots=True)
class Halted:
    """A rollout that was halted, and why."""

    connector: ConnectorId
    channel: str
    version: str
    reason: str


def pointers(rows: Iterable[channels.Pointer]) -> list[Pointer]:
    """Return a channel's rows as `wellhead.catalog.channels` reads them."""
    return [Pointer(row.version, row.at, row.kind, _rollout(row.rollout)) for row in rows]


def _rollout(document: Mapping[str, Any] | None) -> Rollout | None:
    if document is None:
        return None
    return Rollout(document["percent"], document["step"], document["every_s"], Guard(**document["guard"]))


def promote(database: Database, clock: Clock, order: Order) -> None:
    """Put a release on offer in a channel: the same bytes, which are not built or signed again.

    Raises:
        ConfigurationError: there is no such release (WH-REG-021), it was collected (WH-REG-022), or the share would
            shrink (WH-CAT-070).
        RefusedError: the release is yanked or blocked (WH-CAT-072).
    """
    with database.transaction() as tx:
        offer(tx, clock.now(), order)


def offer(tx: Transaction, now: datetime, order: Order) -> None:
    """Promote as `promote` does, as a part of a larger transaction; raises like it."""
    release = definitions.refer_to(tx, order.connector, order.version)
    require_promotable(release)
    known = pointers(channels.history(tx, order.connector, order.channel))
    reached = offered.offers(known, now).get(order.version, 0.0)
    wanted = EVERYBODY if order.rollout is None else order.rollout.percent
    if wanted < reached:
        raise ConfigurationError(
            f"{order.connector} {order.version} is on offer to {reached:g} % in {order.channel} already",
            code=SHRINKS,
            hint=f"give at least {reached:g}, or halt it: "
            f"wellhead channel halt {order.connector} {order.version} --channel {order.channel}",
        )
    channels.point(
        tx,
        order.connector,
        order.channel,
        version=order.version,
        index_digest=release.index_digest,
        who=order.who,
        reason=order.reason,
        rollout=None if order.rollout is None else asdict(order.rollout),
    )
    catalog_events.note(
        tx,
        "promoted",
        order.connector,
        who=order.who,
        version=order.version,
        details={"channel": order.channel, "percent": wanted, "reason": order.reason},
    )


def require_promotable(release: definitions.Release) -> None:
    """Refuse what nobody should be given any more.

    Raises:
        RefusedError: the release is yanked or blocked (WH-CAT-072).
    """
    if release.status in ("yanked", "blocked"):
        raise RefusedError(
            f"{release.connector_id} {release.version} is {release.status}: "
            f"{release.status_reason or 'no reason given'}",
            code=NOT_PROMOTABLE,
            hint="promote another version, or `wellhead catalog restore` it first",
        )


def halt(
    database: Database, clock: Clock, connector: ConnectorId, version: str, channel: str, who: str, why: str
) -> Halted:
    """Take a version out of a channel: whoever got it goes back to what was on offer before.

    Raises:
        ConfigurationError: the channel does not offer it (WH-CAT-071).
    """
    with database.transaction() as tx:
        known = pointers(channels.history(tx, connector, channel))
        if version not in offered.offers(known, clock.now()):
            raise ConfigurationError(
                f"channel {channel} of {connector} does not offer {version}",
                code=NOT_ROLLING,
                hint=f"`wellhead channel list {connector}` shows what it offers",
            )
        return _halt(tx, connector, version, channel, who, why)


def settle(database: Database, clock: Clock, connector: ConnectorId) -> list[Halted]:
    """Halt every rollout of a connector that breaks its guard; return what was halted now."""
    now = clock.now()
    with database.read() as tx:
        if not _rolling(tx, connector, now):
            return []
    halted = []
    with database.transaction() as tx:
        for channel, version, pointer in _rolling(tx, connector, now):
            rollout = pointer.rollout or Rollout(EVERYBODY)
            found = runs.finished(tx, connector, since=pointer.at)
            new = _outcome(run for run in found if run.version == version)
            old = _outcome(run for run in found if run.version != version)
            why = offered.breach(rollout.guard, new, old)
            if why is not None:
                halted.append(_halt(tx, connector, version, channel, "guard", why))
    return halted


def _rolling(tx: Transaction, connector: ConnectorId, now: Any) -> list[tuple[str, str, Pointer]]:
    rows = channels.history(tx, connector)
    names = sorted({row.channel for row in rows})
    return [
        (name, version, pointer)
        for name in names
        for version, pointer in offered.rolling(pointers(row for row in rows if row.channel == name), now).items()
    ]


def _halt(tx: Transaction, connector: ConnectorId, version: str, channel: str, who: str, why: str) -> Halted:
    release = definitions.get(tx, connector, version)
    channels.point(
        tx, connector, channel, version=version, index_digest=release.index_digest, who=who, reason=why, kind="halt"
    )
    details = {"channel": channel, "reason": why}
    catalog_events.note(tx, "halted", connector, who=who, version=version, details=details)
    alerts.note(
        tx,
        alerts.NewAlert(
            kind="rollout_halted",
            severity="warning",
            connector_id=connector,
            version=version,
            message=f"{connector} {version} was taken out of channel {channel}: {why}",
            details=details,
        ),
    )
    return Halted(connector, channel, version, why)


def _outcome(found: Iterable[runs.Finished]) -> Outcome:
    listed = [run for run in found if run.status in _COUNTED]
    return Outcome(
        runs=len(listed),
        failures=sum(run.status in _FAILED for run in listed),
        zero_rows=sum(run.status == "succeeded" and run.rows == 0 for run in listed),
        rows=sum(run.rows for run in listed),
        dead_letters=sum(run.dead_letters for run in listed),
    )
