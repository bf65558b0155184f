"""Going back: an earlier release for one connection or for all of a connector, held until somebody lets go."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from semver import Version

from wellhead.catalog import resolve
from wellhead.connections import ConnectionFile
from wellhead.errors import Code, ConfigurationError
from wellhead.ids import ConnectionKey, ConnectorId
from wellhead.lifecycle.claim import onboard
from wellhead.lifecycle.host import Host
from wellhead.lifecycle.plan import choose
from wellhead.manifest.versions import Range
from wellhead.registry import catalog_events, channels, connections, definitions
from wellhead.registry.database import Transaction

NOTHING_EARLIER = Code("WH-CAT-060", "There is no earlier release to go back to.")

PINNED = Code("WH-CAT-061", "A connection that is pinned by its file cannot be held.")


@dataclass(frozen=True, slots=True)
class Order:
    """Who goes back, why, and until when; ``to`` None means the release before the current one."""

    who: str
    reason: str
    to: str | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Back:
    """One connection that was taken back; ``before`` is None where it never ran."""

    connection: ConnectionKey
    before: str | None
    to: str


def connection(host: Host, file: ConnectionFile, order: Order) -> Back:
    """Hold one connection at an earlier release.

    Raises:
        ConfigurationError: there is none (WH-CAT-060), it is not known (WH-REG-021), or it cannot be run here
            (WH-CAT-040); then nothing was changed.
    """
    with host.database.transaction() as tx:
        onboard(tx, file)
        back = _back(tx, file, order.to)
    _require_runnable(host, file, back.to)
    with host.database.transaction() as tx:
        _hold(tx, back, order)
    return back


def connector(host: Host, connector_id: ConnectorId, found: list[ConnectionFile], order: Order) -> list[Back]:
    """Hold every connection of a connector, and take its channels back for those to come.

    Other connectors are not touched. One connection that cannot go back keeps all from going back.

    Args:
        host: the services of this host.
        connector_id: ``namespace/name``.
        found: the project's connections; those of other connectors are passed over.
        order: who and why.

    Raises:
        ConfigurationError: as for `connection`.
    """
    files = [file for file in found if file.connection.connector == connector_id]
    with host.database.transaction() as tx:
        to = order.to or _before(tx, connector_id, None)
        release = definitions.get(tx, connector_id, to)
        for file in files:
            onboard(tx, file)
        backs = [_back(tx, file, to) for file in files]
    for file in files:
        _require_runnable(host, file, to)
    with host.database.transaction() as tx:
        for back in backs:
            _hold(tx, back, order)
        for name, pointer in channels.current(tx, connector_id).items():
            if Version.parse(pointer.version) > Version.parse(to):
                channels.point(
                    tx,
                    connector_id,
                    name,
                    version=to,
                    index_digest=release.index_digest,
                    who=order.who,
                    reason=order.reason,
                    kind="back",
                )
        catalog_events.note(
            tx, "rolled_back", connector_id, who=order.who, version=to, details={"reason": order.reason}
        )
    return backs


def _back(tx: Transaction, file: ConnectionFile, to: str | None) -> Back:
    """Say where a connection would go back to; nothing is changed."""
    connector_id = ConnectorId(file.connection.connector)
    if Range.parse(file.connection.version).exact is not None:
        raise ConfigurationError(
            f"{file.connection.name!r} is pinned to {file.connection.version} by its file, which beats a hold",
            code=PINNED,
            hint="write the version you want into the file",
            place=file.document.place(("version",)),
        )
    row = connections.get(tx, file.key)
    before = None if row.resolved is None else row.resolved.version
    target = to or _before(tx, connector_id, before)
    definitions.get(tx, connector_id, target)
    return Back(file.key, before, target)


def _hold(tx: Transaction, back: Back, order: Order) -> None:
    connections.hold(tx, back.connection, version=back.to, who=order.who, reason=order.reason, until=order.until)


def _require_runnable(host: Host, file: ConnectionFile, to: str) -> None:
    """Resolve as if the hold were there already: a rollback must not make things worse, not even for a moment."""
    now = choose(host, file, host.platform)
    resolve.resolve(replace(now.request, held=to), now.catalog).require()


def _before(tx: Transaction, connector_id: ConnectorId, current: str | None) -> str:
    """Return the highest release below ``current``, or below the newest; only one that may be run."""
    known = sorted(
        (
            Version.parse(release.version)
            for release in definitions.all_of(tx, connector_id)
            if release.status in ("active", "deprecated")
        ),
        reverse=True,
    )
    top = Version.parse(current) if current is not None else next(iter(known), None)
    lower = [version for version in known if top is not None and version < top]
    if not lower:
        raise ConfigurationError(
            f"{connector_id} has no release before {top or 'the first'}",
            code=NOTHING_EARLIER,
            hint="`wellhead catalog list` shows what is published; name one with --to",
        )
    return str(lower[0])
