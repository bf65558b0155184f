"""The order of a collection: what nothing refers to goes, first from every choice, then from the stores.

    survey    registry, connections' files, lock, stores ─▶ every release with its reasons to stay; nothing is changed
    collect   for each connector: judge again and mark, in one transaction ─▶ take its names from the folder ─▶ delete
              it in the registry ─▶ note it as collected;  at the end remove what no name leads to

A marked release is chosen by nobody, and whoever refers to one takes its row's lock before: between mark and end nobody
can begin to need it. A publisher of the same bytes says so first (`definitions.bring_back`), and what it puts into the
folder counts as being written for a day. A collection that was killed is gone on with by the next one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from wellhead.catalog import garbage
from wellhead.catalog import lock as locks
from wellhead.catalog.garbage import Limits, Reason
from wellhead.connections import ConnectionFile
from wellhead.errors import AuthError, ConfigurationError
from wellhead.ids import ConnectionKey, ConnectorId, Digest
from wellhead.images import layout, naming, store, transport
from wellhead.images.layout import Swept
from wellhead.lifecycle import lock, rollout
from wellhead.lifecycle.host import Host
from wellhead.manifest import load
from wellhead.registry import catalog_events, channels, checkpoints, connections, definitions, run_state, runs
from wellhead.registry.database import Transaction
from wellhead.registry.definitions import PlatformImage, Release

#: A registry is told to delete no further release of a mark this old; the rest of the mark is for the one under way.
_FRESH_MARK = timedelta(seconds=definitions.COLLECTING_S / 3)

#: Of what is kept without a reference, and of what a channel goes back over, as little as there can be.
_FEWEST = Limits(keep=1, older_than=timedelta(0))


@dataclass(frozen=True, slots=True)
class Judged:
    """One release, and why it stays; without a reason nothing refers to it."""

    release: Release
    reasons: tuple[Reason, ...]


@dataclass(frozen=True, slots=True)
class Project:
    """What the project's own files refer to: its connections, and the releases its lock names."""

    files: tuple[ConnectionFile, ...] = ()
    locked: frozenset[locks.Name] = frozenset()


@dataclass(slots=True)
class Done:
    """What a collection came to."""

    collected: list[Release] = field(default_factory=list)
    kept: list[Judged] = field(default_factory=list)
    left: dict[str, str] = field(default_factory=dict)
    """Release → why the registry still has it."""
    swept: Swept = field(default_factory=lambda: Swept(0, 0))


def project(host: Host, files: Sequence[ConnectionFile]) -> Project:
    """Return what the project's files refer to.

    Raises:
        ConfigurationError: its lock file is no valid one.
    """
    file = host.settings.path(lock.FILE)
    return Project(tuple(files), frozenset(locks.names(locks.read(file)) if file.exists() else ()))


def survey(host: Host, here: Project, limits: Limits) -> list[Judged]:
    """Judge every release that has its files; nothing is changed.

    Raises:
        RefusedError: the folder lacks or has changed what a name leads to (WH-IMG-011, 012): what else is needed below
            cannot be told, and nothing can be collected.
        TransientError: WH-IMG-040, the registry is away.
    """
    host.layout().reachable()
    judged = []
    with host.database.read() as tx:
        releases = _by_connector(definitions.all_of(tx))
        states = _states(tx)
        references = {name: _judge(tx, host, here, name, rows, states, limits) for name, rows in releases.items()}
    for connector, rows in releases.items():
        told = references[connector]
        stored = _by_store(host, connector, rows, told)
        judged += [Judged(row, told[row.version] or stored.get(row.version, ())) for row in rows if row.version in told]
    return judged


def collect(host: Host, here: Project, limits: Limits, who: str) -> Done:
    """Collect every release that `survey` finds no reason for, and what publishers that died left behind.

    Raises:
        TransientError: the registry is away, or failed while it was deleting; called again, it goes on.
        RefusedError: as `survey`.
    """
    done = Done()
    wanted: dict[ConnectorId, list[Release]] = {}
    for judged in survey(host, here, limits):
        if judged.reasons:
            done.kept.append(judged)
        else:
            wanted.setdefault(judged.release.connector_id, []).append(judged.release)
    for connector, rows in _unfinished(host).items():
        wanted.setdefault(connector, []).extend(rows)
    for connector, rows in sorted(wanted.items()):
        versions = {row.version for row in rows}
        while versions:
            versions = _collect(host, here, limits, who, connector, versions, done)
    _follow(host)
    done.swept = host.layout().sweep(_written_before(host))
    return done


#: Connector → connection → formats of what it has stored.
_States = dict[ConnectorId, dict[str, frozenset[int]]]


def _judge(
    tx: Transaction,
    host: Host,
    here: Project,
    connector: ConnectorId,
    rows: Sequence[Release],
    states: _States,
    limits: Limits,
) -> dict[str, tuple[Reason, ...]]:
    """Return what keeps each release of a connector that has its files, as far as registry and project say."""
    now = host.clock.now()
    history = channels.history(tx, connector)
    users = [
        garbage.User(
            str(row.connection),
            row.version_range,
            row.channel,
            None if row.resolved is None else row.resolved.version,
            None if row.hold is None else row.hold.version,
        )
        for row in connections.all_of(tx, connector_id=connector)
    ]
    # A file may be new, or changed since its connection ran.
    users += [
        garbage.User(str(file.key), file.connection.version, file.connection.channel)
        for file in here.files
        if file.connection.connector == connector
    ]
    silent_s = host.settings.lease.ttl_s
    found = garbage.Connector(
        releases=tuple(_known(row) for row in rows if row.collected_at is None),
        pointers={
            name: tuple(rollout.pointers(row for row in history if row.channel == name))
            for name in sorted({row.channel for row in history})
        },
        users=tuple(users),
        running={
            run.version: f"run {run.run_id}"
            for run in runs.open_runs(tx)
            if run.connector_id == connector and run.version is not None and not runs.is_silent(run, silent_s, now)
        },
        locked=frozenset(name.version for name in here.locked if name.connector == connector),
        states=states.get(connector, {}),
    )
    return garbage.reasons(found, limits, now)


def _known(row: Release) -> garbage.Known:
    compatibility = load.compatibility_of(row.connector_id, row.version, row.manifest)
    return garbage.Known(
        row.version,
        row.published_at,
        frozenset(compatibility.state.reads),
        row.status != "blocked",
        (row.status_details or {}).get("replaced_by"),
    )


def _states(tx: Transaction) -> _States:
    """Return the formats each connection has stored, by connector; the last run of a removed one says whose it was."""
    connected = connections.connectors(tx)
    states: _States = {}
    for stored in (run_state.versions(tx), checkpoints.versions(tx)):
        for key, formats in stored.items():
            connector = connected.get(key) or _last_connector(tx, key)
            if connector is not None:
                of_it = states.setdefault(connector, {})
                of_it[str(key)] = of_it.get(str(key), frozenset()) | formats
    return states


def _last_connector(tx: Transaction, key: ConnectionKey) -> ConnectorId | None:
    last = runs.latest(tx, key, limit=1)
    return last[0].connector_id if last else None


def _by_connector(rows: Sequence[Release]) -> dict[ConnectorId, list[Release]]:
    found: dict[ConnectorId, list[Release]] = {}
    for row in rows:
        found.setdefault(row.connector_id, []).append(row)
    return found


def _by_store(
    host: Host, connector: ConnectorId, rows: Sequence[Release], told: Mapping[str, tuple[Reason, ...]]
) -> dict[str, tuple[Reason, ...]]:
    """Return what the stores have against collecting releases nothing refers to."""
    free = [row for row in rows if row.version in told and not told[row.version]]
    if not free:
        return {}
    strangers = _strangers(host, connector, rows)
    found: dict[str, tuple[Reason, ...]] = {}
    for row in free:
        if strangers:
            why = f"the store has {', '.join(strangers)} too, which is not known here: others use the store as well"
            found[row.version] = (Reason("shared", why),)
        elif host.layout().written_since(row.index_digest, _written_before(host)):
            found[row.version] = (_WRITTEN,)
    return found


_WRITTEN = Reason("written", "its files were put into the store less than a day ago, maybe by somebody publishing it")


def _strangers(host: Host, connector: ConnectorId, rows: Sequence[Release]) -> list[str]:
    """Return versions that a store names and the registry does not know: of another project, or not yet registered."""
    known = {row.version for row in rows}
    remote = host.remote()
    named = [pair for one in (host.layout(), remote) if one is not None for pair in store.releases(one, connector)]
    return sorted({version for _, version in named} - known)


def _unfinished(host: Host) -> dict[ConnectorId, list[Release]]:
    """Return the releases whose collection broke off."""
    now = host.clock.now()
    with host.database.read() as tx:
        rows = definitions.all_of(tx)
    return _by_connector([row for row in rows if row.collecting_until is not None and row.collecting_until <= now])


def _collect(
    host: Host,
    here: Project,
    limits: Limits,
    who: str,
    connector: ConnectorId,
    versions: set[str],
    done: Done,
) -> set[str]:
    """Collect some releases of a connector; return those for which the mark became too old, to be marked again."""
    marked = _mark(host, here, limits, connector, versions)
    since = host.clock.now()
    try:
        gone, left = host.layout().drop(
            connector, {row.version: row.index_digest for row in marked}, _written_before(host)
        )
        for row in marked:
            if row.version in left:
                _stay(host, row)
                done.kept.append(Judged(row, (_WRITTEN,)))
        rest = {row.version for row in marked} & gone
        for row in _delete(host, connector, [row for row in marked if row.version in gone], done):
            with host.database.transaction() as tx:
                definitions.finish_collecting(tx, connector, row.version)
                details = {"digest": row.index_digest}
                catalog_events.note(tx, "collected", connector, who=who, version=row.version, details=details)
            done.collected.append(row)
            rest.discard(row.version)
            if host.clock.now() - since > _FRESH_MARK:
                break
        return rest
    finally:
        _interrupt(host, connector, marked)


def _mark(host: Host, here: Project, limits: Limits, connector: ConnectorId, versions: set[str]) -> list[Release]:
    """Mark those of some releases that nothing refers to at this moment, with those whose collection broke off."""
    now = host.clock.now()
    with host.database.transaction() as tx:
        rows = definitions.all_of(tx, connector, lock="update")
        told = _judge(tx, host, here, connector, rows, _states(tx), limits)
        broken_off = {row.version for row in rows if row.collecting_until is not None and row.collecting_until <= now}
        free = broken_off | {version for version, reasons in told.items() if not reasons}
        marked = [row for row in rows if row.version in versions & free]
        for row in marked:
            definitions.begin_collecting(tx, connector, row.version)
    return marked


def _stay(host: Host, row: Release) -> None:
    with host.database.transaction() as tx:
        definitions.keep(tx, row.connector_id, row.version)


def _interrupt(host: Host, connector: ConnectorId, marked: Sequence[Release]) -> None:
    """Let the next collection go on with what this one marked and did not end."""
    with host.database.transaction() as tx:
        for row in marked:
            now = definitions.get(tx, connector, row.version, lock="update")
            if now.collecting_until is not None:
                definitions.interrupt_collecting(tx, connector, row.version)


def _delete(host: Host, connector: ConnectorId, rows: Sequence[Release], done: Done) -> Iterator[Release]:
    """Delete releases in the registry, if there is one, and yield each about which nothing more can be done."""
    remote = host.remote()
    if remote is None:
        yield from rows
        return
    by_version = {row.version: row for row in rows}
    told = set()
    try:
        for version, is_gone in remote.removing(connector, {row.version: row.index_digest for row in rows}):
            if not is_gone:
                done.left[f"{connector} {version}"] = f"{remote.where} has other bytes under this version"
            told.add(version)
            yield by_version[version]
    except (AuthError, ConfigurationError) as error:
        if error.code not in (transport.NO_DELETE, transport.LOGIN_REFUSED):
            raise
        for row in rows:
            if row.version not in told:
                done.left[f"{connector} {row.version}"] = f"{error.message}; the registry has to collect it itself"
                yield row


def _follow(host: Host) -> None:
    """Take the names of what was collected elsewhere from this host's folder."""
    with host.database.read() as tx:
        rows = definitions.all_of(tx)
    gone = [row for row in rows if row.collected_at is not None and row.collecting_until is None]
    for connector, found in _by_connector(gone).items():
        if not _strangers_here(host, connector, rows):
            host.layout().drop(connector, {row.version: row.index_digest for row in found}, _written_before(host))


def _strangers_here(host: Host, connector: ConnectorId, rows: Sequence[Release]) -> bool:
    known = {row.version for row in rows if row.connector_id == connector}
    return any(version not in known for _, version in store.releases(host.layout(), connector))


def _written_before(host: Host) -> datetime:
    return host.clock.now() - timedelta(seconds=layout.WRITTEN_S)


def unneeded_images(host: Host, here: Project) -> set[Digest]:
    """Return the ids under which an Engine may have images that no run needs, or none that cannot be loaded again.

    Raises:
        RefusedError: a release's index in the folder is changed (WH-IMG-012).
    """
    needed: set[Digest] = set()
    free: set[Digest] = set()
    with host.database.read() as tx:
        states = _states(tx)
        for connector, rows in _by_connector(definitions.all_of(tx)).items():
            told = _judge(tx, host, here, connector, rows, states, _FEWEST)
            for row in rows:
                ids = {digest for image in row.platforms.values() for digest in _ids(image)}
                (free if _is_replaceable(host, row, told.get(row.version, ())) else needed).update(ids)
    return free - needed


def _ids(image: PlatformImage) -> tuple[Digest, Digest]:
    """Return what a classic and a containerd store call an image."""
    return image.config_digest, image.manifest_digest


def _is_replaceable(host: Host, row: Release, reasons: Sequence[Reason]) -> bool:
    if row.collected_at is not None:
        return True
    if any(reason.kind not in garbage.NO_REFERENCE for reason in reasons):
        return False
    index = host.layout().named(naming.name_of(row.connector_id, row.version))
    return index is not None and index.digest == row.index_digest and not store.missing(host.layout(), index)
