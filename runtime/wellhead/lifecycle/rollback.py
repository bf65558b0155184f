"""Going back to an earlier release: one connection, a tenant's, a channel's, or all of a connector.

A connection, a tenant or a connector is held at the release until somebody lets go; a channel is pointed back, and what
resolves within it follows. Whatever the level, nothing is changed unless every connection concerned could run there:
a release that cannot read the state stored since is refused, or the state goes back with it to the last checkpoint it
can read, and how much is read again is said before. A release from before a config migration gets the config that was
written for it, as it was kept.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from semver import Version

from wellhead.catalog import channels as offered
from wellhead.catalog import resolve
from wellhead.catalog.resolve import Candidate, Request
from wellhead.connections import ConnectionFile
from wellhead.errors import Code, ConfigurationError, TransientError, counted
from wellhead.ids import WHOLE_STREAM, ConnectionKey, ConnectorId, StreamKey
from wellhead.lifecycle import rollout, state
from wellhead.lifecycle.claim import onboard
from wellhead.lifecycle.configuration import configured
from wellhead.lifecycle.host import Host
from wellhead.lifecycle.resolution import choose, references_of
from wellhead.manifest import load
from wellhead.manifest.versions import Range
from wellhead.registry import catalog_events, channels, checkpoints, connections, definitions, run_state
from wellhead.registry.database import Transaction

NOTHING_EARLIER = Code("WH-CAT-060", "There is no earlier release to go back to.")

PINNED = Code("WH-CAT-061", "A connection that is pinned by its file cannot be held.")
UNREADABLE = Code("WH-CAT-062", "A release cannot read the state that is stored since.")
NOTHING_KEPT = Code("WH-CAT-063", "No checkpoint is kept that a release could read.")
MOVED = Code("WH-CAT-065", "A run has committed while its connection was rolled back.")
NOBODY = Code("WH-CAT-064", "Nothing uses the connector where it was to be rolled back.")


@dataclass(frozen=True, slots=True)
class Order:
    """Who goes back, why, and until when; ``to`` None means the release before the current one."""

    who: str
    reason: str
    to: str | None = None
    until: datetime | None = None
    state: Literal["keep", "restore"] = "keep"


@dataclass(frozen=True, slots=True)
class Restored:
    """A stream that goes on from an older checkpoint; ``rows_again`` were written since and are read again."""

    stream: StreamKey
    state_version: int
    rows_again: int


@dataclass(frozen=True, slots=True)
class Back:
    """One connection that was taken back; ``before`` is None where it never ran.

    ``config`` says what the release gets as config where that is not what the file says, one line each.
    """

    connection: ConnectionKey
    before: str | None
    to: str
    restored: tuple[Restored, ...] = ()
    config: tuple[str, ...] = ()


def connection(host: Host, file: ConnectionFile, order: Order) -> Back:
    """Hold one connection at an earlier release.

    Raises:
        ConfigurationError: there is none (WH-CAT-060), it is not known (WH-REG-021), it cannot be run here
            (WH-CAT-040), it cannot read the stored state (WH-CAT-062, 063), or neither the file nor what is kept of it
            fits (WH-MAN-110, WH-RUN-083); then nothing was changed.
        TransientError: a run has committed while it was decided (WH-CAT-065); then nothing was changed either.
    """
    with host.database.transaction() as tx:
        onboard(tx, file)
        row = connections.get(tx, file.key)
        current = None if row.resolved is None else row.resolved.version
        connector_id = ConnectorId(file.connection.connector)
        to = order.to or _before(tx, connector_id, current)
        definitions.refer_to(tx, connector_id, to)
    (back,) = _hold(host, connector_id, [file], to, order)
    return back


def tenant(
    host: Host, tenant_id: str, connector_id: ConnectorId, found: Sequence[ConnectionFile], order: Order
) -> list[Back]:
    """Hold every connection a tenant has of a connector; other tenants and the channels are not touched.

    Raises:
        ConfigurationError: as for `connection`, or the tenant has none (WH-CAT-064).
    """
    files = [file for file in found if file.key.tenant == tenant_id and file.connection.connector == connector_id]
    if not files:
        raise _nobody(f"tenant {tenant_id}", connector_id)
    with host.database.transaction() as tx:
        for file in files:
            onboard(tx, file)
        to = order.to or _before(tx, connector_id, _highest(tx, files))
        definitions.refer_to(tx, connector_id, to)
    return _hold(host, connector_id, files, to, order)


def connector(host: Host, connector_id: ConnectorId, found: Sequence[ConnectionFile], order: Order) -> list[Back]:
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
        for file in files:
            onboard(tx, file)
        to = order.to or _before(tx, connector_id, None)
        definitions.refer_to(tx, connector_id, to)

    def point(tx: Transaction) -> None:
        for name, pointer in channels.current(tx, connector_id).items():
            if Version.parse(pointer.version) > Version.parse(to):
                _point_back(tx, connector_id, name, to, order)

    return _hold(host, connector_id, files, to, order, point)


def channel(
    host: Host, connector_id: ConnectorId, name: str, found: Sequence[ConnectionFile], order: Order
) -> list[Back]:
    """Point a channel back to an earlier release; what resolves within it follows, held or pinned ones do not.

    Raises:
        ConfigurationError: as for `connection`; the channel offers no such release or none that is lower (WH-CAT-060).
    """
    now = host.clock.now()
    files = [file for file in found if file.connection.connector == connector_id and file.connection.channel == name]
    with host.database.transaction() as tx:
        for file in files:
            onboard(tx, file)
        pointers = rollout.pointers(channels.history(tx, connector_id, name))
        gone = {row.version for row in definitions.all_of(tx, connector_id) if row.collected_at is not None}
        to = _before_in(connector_id, name, offered.offers(pointers, now).keys() - gone, order.to)
    offers = offered.offers([*pointers, offered.Pointer(to, now, "back")], now)
    steps = []
    for file in files:
        step = _step(host, file, order, lambda request: replace(request, offers=offers))
        if step.back.before != step.back.to and step.rule == "channel":
            steps.append(step)
    with host.database.transaction() as tx:
        _point_back(tx, connector_id, name, to, order)
        _restore(tx, steps)
        _note(tx, connector_id, to, order, {"channel": name})
    return [step.back for step in steps]


@dataclass(frozen=True, slots=True)
class _Step:
    """What going back comes to for one connection; ``found``: streams that cannot be read, and what they go on from."""

    back: Back
    rule: resolve.Rule
    state_reads: Collection[int]
    found: tuple[tuple[run_state.UnitState, checkpoints.Kept], ...]


def _hold(
    host: Host,
    connector_id: ConnectorId,
    files: Sequence[ConnectionFile],
    to: str,
    order: Order,
    also: Callable[[Transaction], None] = lambda _tx: None,
) -> list[Back]:
    for file in files:
        if Range.parse(file.connection.version).exact is not None:
            raise ConfigurationError(
                f"{file.connection.name!r} is pinned to {file.connection.version} by its file, which beats a hold",
                code=PINNED,
                hint="write the version you want into the file",
                place=file.document.place(("version",)),
            )
    steps = [_step(host, file, order, lambda request: replace(request, held=to)) for file in files]
    with host.database.transaction() as tx:
        definitions.refer_to(tx, connector_id, to)
        for step in steps:
            connections.hold(
                tx, step.back.connection, version=to, who=order.who, reason=order.reason, until=order.until
            )
        _restore(tx, steps)
        also(tx)
        _note(tx, connector_id, to, order, {"connections": [str(step.back.connection) for step in steps]})
    return [step.back for step in steps]


def _step(host: Host, file: ConnectionFile, order: Order, ask: Callable[[Request], Request]) -> _Step:
    """Resolve as if it had been done already: a rollback must not make things worse, not even for a moment."""
    now = choose(host, file, host.platform)
    request = ask(now.request)
    decision = resolve.resolve(replace(request, state_version=None), now.catalog)
    chosen = decision.require()
    with host.database.read() as tx:
        found = tuple((unit, _kept(tx, unit, chosen, order)) for unit in _unreadable(tx, file.key, chosen.state_reads))
        release = definitions.get(tx, now.request.connector, chosen.version)
    config = () if chosen.version == now.request.current else _config(host, file, release)
    restored = tuple(
        Restored(unit.stream, kept.state_version, unit.rows_total - kept.rows_total) for unit, kept in found
    )
    back = Back(file.key, now.request.current, chosen.version, restored, config)
    return _Step(back, decision.rule, chosen.state_reads, found)


def _config(host: Host, file: ConnectionFile, release: definitions.Release) -> tuple[str, ...]:
    """Return what is to be told of the config a release would get; raises where there is none for it."""
    manifest = load.of_release(release.connector_id, release.version, release.manifest)
    references_of(file, manifest)
    return configured(host, file, manifest).origin.told()


def _unreadable(tx: Transaction, key: ConnectionKey, readable: Collection[int]) -> list[run_state.UnitState]:
    return [
        unit
        for unit in run_state.all_of(tx, key)
        if unit.state and not unit.retired and unit.state_version not in readable
    ]


def _kept(tx: Transaction, unit: run_state.UnitState, chosen: Candidate, order: Order) -> checkpoints.Kept:
    reads = ", ".join(map(str, sorted(chosen.state_reads)))
    kept = None
    if unit.unit == WHOLE_STREAM:
        kept = checkpoints.newest(tx, unit.stream, unit.generation, chosen.state_reads)
    if kept is None:
        raise ConfigurationError(
            f"{chosen.version} reads state of version {reads}, {unit.stream} has version {unit.state_version}, and no "
            "older checkpoint of this generation is kept",
            code=NOTHING_KEPT,
            hint=f"`wellhead state reset {unit.stream.connection.name} {unit.stream.stream}` lets it begin again",
        )
    if order.state == "keep":
        raise ConfigurationError(
            f"{chosen.version} reads state of version {reads}, and {unit.stream} has version {unit.state_version}",
            code=UNREADABLE,
            hint=f"--state restore goes back to the checkpoint of version {kept.state_version} and "
            f"reads {counted(unit.rows_total - kept.rows_total, 'row')} again, with the same event ids",
        )
    return kept


def _restore(tx: Transaction, steps: Sequence[_Step]) -> None:
    for step in steps:
        key = step.back.connection
        # Every commit begins with this lock: none comes between what is seen here and the end of the transaction.
        connections.find(tx, key, lock=True)
        if _commits(_unreadable(tx, key, step.state_reads)) != _commits(unit for unit, _ in step.found):
            raise TransientError(
                f"a run of {key} has committed meanwhile",
                code=MOVED,
                hint="disable the connection or wait for its run, and call it again",
            )
        for _, kept in step.found:
            state.replace(tx, kept.stream, state=kept.state, state_version=kept.state_version)


def _commits(units: Iterable[run_state.UnitState]) -> dict[tuple[StreamKey, str], int]:
    return {(unit.stream, unit.unit): unit.commit_no for unit in units}


def _point_back(tx: Transaction, connector_id: ConnectorId, name: str, to: str, order: Order) -> None:
    release = definitions.refer_to(tx, connector_id, to)
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


def _note(tx: Transaction, connector_id: ConnectorId, to: str, order: Order, what: dict[str, object]) -> None:
    details = {"reason": order.reason, "state": order.state, **what}
    catalog_events.note(tx, "rolled_back", connector_id, who=order.who, version=to, details=details)


def _highest(tx: Transaction, files: Sequence[ConnectionFile]) -> str | None:
    resolved = [row.resolved.version for file in files if (row := connections.get(tx, file.key)).resolved is not None]
    return max(resolved, key=Version.parse, default=None)


def _before(tx: Transaction, connector_id: ConnectorId, current: str | None) -> str:
    """Return the highest release below ``current``, or below the newest; only one that may be run."""
    known = [
        release.version
        for release in definitions.all_of(tx, connector_id)
        if release.status in ("active", "deprecated") and release.collected_at is None
    ]
    top = current if current is not None else max(known, key=Version.parse, default=None)
    return _lower(connector_id, known, top)


def _before_in(connector_id: ConnectorId, name: str, offers: Collection[str], to: str | None) -> str:
    """Return the release a channel is pointed back to: one that it offers."""
    if to is None:
        return _lower(connector_id, offers, max(offers, key=Version.parse, default=None))
    if to not in offers:
        raise ConfigurationError(
            f"channel {name} of {connector_id} does not offer {to}",
            code=NOTHING_EARLIER,
            hint=f"it offers {', '.join(sorted(offers)) or 'nothing'}; "
            f"`wellhead channel promote {connector_id} {to} --to {name}` puts it on offer",
        )
    return to


def _lower(connector_id: ConnectorId, known: Collection[str], top: str | None) -> str:
    lower = [version for version in known if top is not None and Version.parse(version) < Version.parse(top)]
    if not lower:
        raise ConfigurationError(
            f"{connector_id} has no release before {top or 'the first'}",
            code=NOTHING_EARLIER,
            hint="`wellhead catalog list` shows what is published; name one with --to",
        )
    return max(lower, key=Version.parse)


def _nobody(where: str, connector_id: ConnectorId) -> ConfigurationError:
    return ConfigurationError(
        f"{where} has no connection of {connector_id}",
        code=NOBODY,
        hint="`wellhead connection list` shows who uses what",
    )
