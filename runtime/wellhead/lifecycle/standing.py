"""The standing of a release: active, deprecated, yanked or blocked; none of them removes anything (`collect` does).

active      may be chosen
deprecated  may be chosen, and everybody who looks is told until when and what comes instead
yanked      goes on where it runs or is named; nobody else gets it
blocked     runs nowhere
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Literal

from wellhead.errors import Code, UsageError
from wellhead.ids import ConnectionKey, ConnectorId
from wellhead.registry import alerts, catalog_events, connections, definitions
from wellhead.registry.database import Database

NO_SUCH_REPLACEMENT = Code("WH-CAT-100", "A release is to be replaced by one that is not known.")
REPLACED_BY_ITSELF = Code("WH-CAT-102", "A release is to be replaced by itself.")
ENDS_BEFORE = Code("WH-CAT-101", "A release's last day lies in the past.")

Standing = Literal["active", "deprecated", "yanked", "blocked"]


@dataclass(frozen=True, slots=True)
class Order:
    """Who says what of which release, and why."""

    connector: ConnectorId
    version: str
    standing: Standing
    who: str
    reason: str
    replaced_by: str | None = None
    """A version of the same connector, or another connector."""
    sunset: date | None = None
    """The last day it should be run; for people, nothing stops by itself."""


def declare(database: Database, order: Order, today: date) -> list[ConnectionKey]:
    """Give a release its standing and return the connections that run it, each of which gets an alert.

    Raises:
        ConfigurationError: there is no such release (WH-REG-021).
        UsageError: the replacement is not known (WH-CAT-100) or is what it would replace (WH-CAT-102), or the last day
            has passed (WH-CAT-101).
    """
    if order.sunset is not None and order.sunset < today:
        raise UsageError(
            f"{order.sunset} has passed", code=ENDS_BEFORE, hint="give a day to come, or leave --sunset away"
        )
    if order.replaced_by in (order.version, order.connector):
        raise UsageError(
            f"{order.connector} {order.version} cannot be replaced by {order.replaced_by}, which it is",
            code=REPLACED_BY_ITSELF,
            hint="name another version of it, or another connector",
        )
    with database.transaction() as tx:
        if order.replaced_by is not None:
            known = {release.version for release in definitions.all_of(tx, order.connector)}
            others = {release.connector_id for release in definitions.all_of(tx)}
            if order.replaced_by not in known | others:
                raise UsageError(
                    f"{order.replaced_by!r} is neither a release of {order.connector} nor another connector",
                    code=NO_SUCH_REPLACEMENT,
                    hint="`wellhead catalog list` shows what is known",
                )
        details = _details(order, today)
        reason = None if order.standing == "active" else order.reason
        definitions.set_status(tx, order.connector, order.version, order.standing, reason, details)
        catalog_events.note(
            tx,
            order.standing,
            order.connector,
            who=order.who,
            version=order.version,
            details={"reason": order.reason, **details},
        )
        concerned = [
            row.connection
            for row in connections.all_of(tx)
            if row.connector_id == order.connector
            and row.resolved is not None
            and row.resolved.version == order.version
        ]
        for key in concerned if order.standing != "active" else []:
            alerts.note(
                tx,
                alerts.NewAlert(
                    kind=f"release_{order.standing}",
                    severity="breaking" if order.standing == "blocked" else "warning",
                    connector_id=order.connector,
                    version=order.version,
                    connection=key,
                    message=f"{key.name} runs {order.connector} {order.version}, which is {order.standing}: "
                    f"{order.reason}{_advice(details)}",
                    details=details,
                ),
            )
        return concerned


def told(release: definitions.Release) -> str | None:
    """Return what whoever gets this release must be told; None of an active one."""
    if release.status == "active":
        return None
    because = f": {release.status_reason}" if release.status_reason else ""
    return (
        f"{release.connector_id} {release.version} is {release.status}{because}{_advice(release.status_details or {})}"
    )


def _details(order: Order, today: date) -> dict[str, str]:
    said = {"since": today.isoformat()} if order.standing != "active" else {}
    if order.sunset is not None:
        said["sunset"] = order.sunset.isoformat()
    if order.replaced_by is not None:
        said["replaced_by"] = order.replaced_by
    return said


def _advice(details: Mapping[str, str]) -> str:
    until = f"; not to be run after {details['sunset']}" if "sunset" in details else ""
    return until + (f"; use {details['replaced_by']} instead" if "replaced_by" in details else "")
