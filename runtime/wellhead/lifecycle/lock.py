"""Writing the lock file, and saying what is no longer as it says.

    connections' files ─▶ resolution ─▶ releases ─▶ database's row  ┐
                                           └─▶ name in the store ─▶ verified from the trusted key down  ┴─▶ compared

The store is the one that others find releases in: the registry where there is one, else the folder. Runs do not read
the lock: they resolve, and what they may start is what a trusted key signed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from wellhead import __version__
from wellhead.catalog import lock as locks
from wellhead.catalog import pinned, verify
from wellhead.catalog.lock import Absent, Lock, LockedConnection, Name, Now
from wellhead.catalog.pinned import PinnedRelease
from wellhead.connections import ConnectionFile
from wellhead.errors import Code, ConfigurationError, Place, counted
from wellhead.ids import ConnectorId
from wellhead.images.oci import ImageDigests
from wellhead.images.store import Store
from wellhead.lifecycle.host import Host
from wellhead.lifecycle.resolution import choose_all
from wellhead.manifest import load
from wellhead.registry import definitions
from wellhead.registry.definitions import Release

DRIFT = Code("WH-CAT-110", "Lock, database and store do not agree.")
NOT_LOCKABLE = Code("WH-CAT-111", "There is nothing sound to lock for a connection.")

FILE = Path("wellhead.lock")


def write(host: Host, files: Iterable[ConnectionFile], file: Path) -> Lock:
    """Lock what every enabled connection gets now, once database and store agree about it; return the lock.

    Raises:
        ConfigurationError: a connection gets no release, or one that is not what its signature says (WH-CAT-111, with
            each among the details), or the file cannot be written (WH-CAT-113).
        TransientError: WH-IMG-040, the registry is away.
    """
    now = _now(host, files)
    _require_none(locks.differences(now, None), NOT_LOCKABLE, "cannot lock", file)
    connectors: dict[str, dict[str, PinnedRelease]] = {}
    for name, release in now.stored.items():
        if isinstance(release, PinnedRelease):
            connectors.setdefault(name.connector, {})[name.version] = release
    connections = {key: found for key, found in now.chosen.items() if isinstance(found, LockedConnection)}
    lock = Lock(version=1, generated_by=f"wellhead {__version__}", connectors=connectors, connections=connections)
    pinned.write(file, locks.render(lock))
    return lock


def check(host: Host, files: Iterable[ConnectionFile], file: Path) -> Lock:
    """Require that everything is as the lock says; return it. Nothing is changed.

    Raises:
        ConfigurationError: there is no lock (WH-CAT-112), it is not a valid one (WH-DOC-…), or something differs
            (WH-CAT-110), with each difference and its mend among the details.
        TransientError: WH-IMG-040, the registry is away: whether it agrees cannot be said.
    """
    lock = locks.read(file)
    now = _now(host, files, locks.names(lock))
    _require_none(locks.differences(now, lock), DRIFT, f"{file.name} is no longer true", file)
    return lock


def _require_none(found: Sequence[locks.Difference], code: Code, what: str, file: Path) -> None:
    if found:
        first = found[0]
        raise ConfigurationError(
            f"{what}: {counted(len(found), 'difference')}, the first: {first.what}",
            code=code,
            hint=first.mend,
            place=Place(str(file)),
            details=tuple(map(str, found)),
        )


def _now(host: Host, files: Iterable[ConnectionFile], others: Iterable[Name] = ()) -> Now:
    chosen = _chosen(host, [file for file in files if file.connection.enabled])
    found = [item for item in chosen.values() if isinstance(item, LockedConnection)]
    wanted = sorted({*others, *(Name(ConnectorId(item.connector), item.version) for item in found)})
    with host.database.read() as tx:
        rows = {name: definitions.find(tx, name.connector, name.version) for name in wanted}
    store = host.remote() or host.layout()
    stored = {name: _stored(host, store, name) for name in wanted}
    return Now(chosen, {name: _registered(rows[name], stored[name]) for name in wanted}, stored)


def _chosen(host: Host, files: Sequence[ConnectionFile]) -> dict[str, LockedConnection | Absent]:
    chosen: dict[str, LockedConnection | Absent] = {}
    decisions = choose_all(host, files, host.platform)
    for file in files:
        try:
            candidate = decisions[file.key].require()
        except ConfigurationError as error:
            chosen[str(file.key)] = Absent(error.message, error.hint or "")
            continue
        chosen[str(file.key)] = LockedConnection(
            connector=file.connection.connector,
            constraint=file.connection.version,
            channel=file.connection.channel,
            version=candidate.version,
            digest=pinned.prefixed(pinned.INDEX, candidate.digest),
        )
    return chosen


def _registered(row: Release | None, stored: PinnedRelease | Absent) -> PinnedRelease | Absent:
    if row is None:
        return Absent("the database does not know it", "publish it, or `wellhead catalog import` it")
    # Whose signature counts is for the store and trust.yaml to say; the row names who signed at first.
    signers = stored.signed_by if isinstance(stored, PinnedRelease) else tuple(row.key_id.split())
    return of_row(row, signers)


def of_row(row: Release, signers: tuple[str, ...]) -> PinnedRelease:
    """Return what the database says of a release; whose signatures count is not for the database to say."""
    images = {name: ImageDigests(image.manifest_digest, image.config_digest) for name, image in row.platforms.items()}
    state = load.compatibility_of(row.connector_id, row.version, row.manifest).state
    return pinned.pinned(row.index_digest, images, row.manifest_sha256, signers, state)


def _stored(host: Host, store: Store, name: Name) -> PinnedRelease | Absent:
    """Return what the store's name means, verified; it may be another release than the database knows."""
    found = store.named(verify.release_name(name.connector, name.version))
    if found is None:
        return Absent(f"{store.where} has no release of that name", "`wellhead mirror` it there, or restore the store")
    try:
        return pinned.of(verify.verify_release(store, found.digest, name.connector, name.version, host.trust()))
    except ConfigurationError as error:
        return Absent(f"what {store.where} has is refused ({error.code}): {error.message}", error.hint or "")
