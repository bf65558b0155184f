"""Applying the catalog's files to the registry: the releases that records name, and the channels that offer them.

    record ─▶ known here ─▶ must be the same
           └▶ new ─▶ not in the store and offered nowhere, as after a collection ─▶ left, and told
                  └▶ name in the store ─▶ verified from the trusted key down ─▶ must be the same ─▶ policies ┐
    channels.yaml ─▶ what each channel offers now ─▶ point, or leave it and say why                        ──┴▶ applied

Everything that is wrong is found before anything is applied, and all is applied in one transaction. Files only add: a
version they do not list is taken from nobody, one that was taken out of a channel is not put back, and a channel in
which a rollout goes on is left alone. Those are decisions somebody took here while things were going wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from semver import Version

from wellhead.catalog import channels as offered
from wellhead.catalog import pinned, policy, records, verify
from wellhead.catalog.channels import EVERYBODY
from wellhead.catalog.pinned import Fact, PinnedRelease
from wellhead.catalog.records import Filed, Folder, Record
from wellhead.documents import Document
from wellhead.errors import Code, ConfigurationError, Place, RefusedError
from wellhead.ids import ConnectorId, Digest
from wellhead.images.store import Store
from wellhead.lifecycle import governance, rollout
from wellhead.lifecycle.host import Host
from wellhead.lifecycle.lock import of_row
from wellhead.lifecycle.transfer import row_of
from wellhead.registry import catalog_events, channels, definitions
from wellhead.registry.database import Transaction
from wellhead.registry.definitions import Release

NOT_STORED = Code("WH-CAT-123", "The store does not have a release that is recorded.")
OTHER_RELEASE = Code("WH-CAT-124", "A release is not what its record says.")
NOT_KNOWN = Code("WH-CAT-125", "A channel lists a release that nobody knows.")

_Named = tuple[ConnectorId, str]


@dataclass(frozen=True, slots=True)
class Pointing:
    """A version that a channel begins to offer to everybody."""

    connector: ConnectorId
    channel: str
    version: str


@dataclass(frozen=True, slots=True)
class Left:
    """Where a channel is not as its file says, and stays so; ``mend`` is how a person changes that."""

    connector: ConnectorId
    channel: str
    why: str
    mend: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What a folder adds to the registry, in this order."""

    releases: tuple[Record, ...]
    pointings: tuple[Pointing, ...]
    left: tuple[Left, ...]
    absent: tuple[Record, ...]
    """What the store does not have and no channel of the folder lists: it is not registered."""
    warnings: tuple[policy.Finding, ...]
    """What policies warn of."""


@dataclass(frozen=True, slots=True)
class _New:
    record: Record
    row: Release
    warnings: tuple[policy.Finding, ...]


def sync(host: Host, folder: Path, *, who: str, dry_run: bool = False) -> Plan:
    """Apply a folder's records and channels, or only say what that would do; again is as once.

    Args:
        host: whose registry, store, trust and policies they are.
        folder: as `wellhead publish --record` writes it.
        who: goes into the catalog's events.
        dry_run: change nothing.

    Raises:
        ConfigurationError: nothing is applied; with every problem among the details: a file is no valid one (WH-DOC-…,
            WH-CAT-121, 122), the store lacks a release that a channel lists (WH-CAT-123), or a channel lists one that
            nobody knows (125) or that was collected (WH-REG-022).
        RefusedError: the same, exit 76: a release is not what its record says (WH-CAT-124) or a trusted key signed, a
            policy denies it (WH-POL-010), or a channel lists one that is yanked or blocked (WH-CAT-072).
        TransientError: WH-IMG-040, the registry that is the store is away.
    """
    found = records.read(folder)
    problems: list[ConfigurationError] = []
    new, absent = _new_releases(host, found, problems)
    now = host.clock.now()
    with (host.database.read if dry_run else host.database.transaction)() as tx:
        _require_known(tx, found, problems)
        _raise(problems)
        pointings, left = _channels(tx, found, now)
        if not dry_run:
            _apply(tx, now, new, pointings, who, folder)
    warnings = tuple(finding for one in new for finding in one.warnings)
    return Plan(tuple(one.record for one in new), tuple(pointings), tuple(left), tuple(absent), warnings)


def _new_releases(host: Host, found: Folder, problems: list[ConfigurationError]) -> tuple[list[_New], list[Record]]:
    """Return what is recorded and not registered: verified, and what nobody needs; in the order it was released."""
    listed = {(connector, version) for _, connector, _, versions in _listed(found) for version in versions}
    ordered = sorted(found.records, key=lambda filed: filed.record.released_at)
    with host.database.read() as tx:
        rows = {_name(filed): definitions.find(tx, *_name(filed)) for filed in ordered}
    new, absent = [], []
    for filed in ordered:
        row = rows[_name(filed)]
        with _gathered(problems, filed.document.place(pinned.DIGEST.field)):
            if row is not None:
                _require_same(filed, of_row(row, filed.record.signed_by), "the database")
                continue
            verified = _verified(host, host.remote() or host.layout(), filed, is_listed=_name(filed) in listed)
            if verified is None:
                absent.append(filed.record)
            else:
                new.append(verified)
    return new, absent


def _verified(host: Host, store: Store, filed: Filed, *, is_listed: bool) -> _New | None:
    record = filed.record
    connector, digest = ConnectorId(record.connector), Digest(pinned.bare(record.digest))
    named = store.named(verify.release_name(connector, record.version))
    if named is None:
        # Records outlive what they record: a collection removes what nobody needs.
        if not is_listed:
            return None
        raise ConfigurationError(
            f"{store.where} has no {connector} {record.version}",
            code=NOT_STORED,
            hint="`wellhead mirror` or `wellhead catalog import` brings it there; then sync again",
        )
    if named.digest != digest:
        found = pinned.prefixed(pinned.INDEX, named.digest)
        raise _other(filed, pinned.DIGEST, {"record": record.digest, "release": found}, store.where)
    release = verify.verify_release(store, digest, connector, record.version, host.trust())
    _require_same(filed, pinned.of(release), store.where)
    now = host.clock.now()
    warnings = governance.admit(host.policies(), host.settings.environment, release.manifest, release.key_ids, now)
    return _New(record, row_of(store, release, min(record.released_at, now)), warnings)


def _require_same(filed: Filed, release: PinnedRelease, where: str) -> None:
    # Who signed at first is history; whose signature counts is for trust.yaml to say, and keys are changed.
    same_signers = release.model_copy(update={"signed_by": filed.record.signed_by})
    for fact, told in pinned.parted({"record": filed.record, "release": same_signers}).items():
        raise _other(filed, fact, told, where)


def _require_known(tx: Transaction, found: Folder, problems: list[ConfigurationError]) -> None:
    """Gather every version in channels.yaml that cannot be offered."""
    recorded = {_name(filed) for filed in found.records}
    for document, connector, channel, listed in _listed(found):
        had = {pointer.version for pointer in channels.history(tx, connector, channel)}
        for number, version in enumerate(listed):
            with _gathered(problems, document.place(("channels", connector, channel, number))):
                row = definitions.find(tx, connector, version)
                if row is not None:
                    rollout.require_promotable(row)
                    if version not in had:
                        definitions.require_kept(row)
                elif (connector, version) not in recorded:
                    raise ConfigurationError(
                        f"channel {channel} of {connector} lists {version}, which has no record and is not registered",
                        code=NOT_KNOWN,
                        hint="add its record, or take it out of the channel",
                    )


def _channels(tx: Transaction, found: Folder, now: datetime) -> tuple[list[Pointing], list[Left]]:
    pointings: list[Pointing] = []
    left: list[Left] = []
    for _, connector, channel, listed in _listed(found):
        history = channels.history(tx, connector, channel)
        pointers = rollout.pointers(history)
        offers = offered.offers(pointers, now)
        rolling = offered.rolling(pointers, now)
        missing = sorted({one for one in listed if offers.get(one) != EVERYBODY}, key=Version.parse)
        if rolling:
            left += [_rolling(connector, channel, one, offers[one], missing) for one in rolling]
            continue
        had = {pointer.version for pointer in pointers}
        pointings += [Pointing(connector, channel, one) for one in missing if one not in had]
        left += [_taken_out(connector, channel, one, history) for one in missing if one in had]
        left += [_beyond(connector, channel, one) for one in offers if _is_beyond(one, listed)]
    return pointings, left


def _listed(found: Folder) -> Iterator[tuple[Document, ConnectorId, str, tuple[str, ...]]]:
    if found.document is not None:
        for connector, named in sorted(found.channels.channels.items()):
            for channel, listed in sorted(named.items()):
                yield found.document, ConnectorId(connector), channel, listed


def _rolling(connector: ConnectorId, channel: str, version: str, percent: float, missing: Sequence[str]) -> Left:
    waiting = [one for one in missing if one != version]
    return Left(
        connector,
        channel,
        f"{version} is being rolled out to {percent:g} %" + (f"; {', '.join(waiting)} must wait" if waiting else ""),
        f"`wellhead channel promote {connector} {version} --to {channel}` or `channel halt` ends the rollout",
    )


def _taken_out(connector: ConnectorId, channel: str, version: str, history: Sequence[channels.Pointer]) -> Left:
    by = [
        row
        for row in history
        if (row.kind == "halt" and row.version == version)
        or (row.kind == "back" and Version.parse(row.version) < Version.parse(version))
    ][-1]
    return Left(
        connector,
        channel,
        f"{version} was taken out by {by.who} at {by.at:%Y-%m-%d %H:%M:%SZ}: {by.reason}",
        f"list another version, or `wellhead channel promote {connector} {version} --to {channel}`",
    )


def _is_beyond(version: str, listed: Sequence[str]) -> bool:
    return all(Version.parse(version) > Version.parse(one) for one in listed)


def _beyond(connector: ConnectorId, channel: str, version: str) -> Left:
    return Left(
        connector,
        channel,
        f"{version} is on offer, and {records.CHANNELS} lists nothing as high",
        "list it; or `wellhead channel halt`, or `wellhead rollback channel`, which looks at the states",
    )


def _apply(
    tx: Transaction,
    now: datetime,
    new: Sequence[_New],
    pointings: Sequence[Pointing],
    who: str,
    folder: Path,
) -> None:
    for one in new:
        if definitions.register(tx, one.row):
            catalog_events.note(
                tx,
                "synced",
                one.row.connector_id,
                who=who,
                version=one.row.version,
                details={"digest": one.row.index_digest, "keys": one.row.key_id.split()},
            )
    for pointing in pointings:
        reason = f"listed in {folder / records.CHANNELS}"
        rollout.offer(tx, now, rollout.Order(pointing.connector, pointing.version, pointing.channel, who, reason))


def _name(filed: Filed) -> _Named:
    return ConnectorId(filed.record.connector), filed.record.version


def _other(filed: Filed, fact: Fact, told: Mapping[str, str], where: str) -> RefusedError:
    return RefusedError(
        f"the record of {filed.record.connector} {filed.record.version} says its {fact} is {told['record']}, and it is "
        f"{told['release']} in {where}",
        code=OTHER_RELEASE,
        hint="a release never changes: find out who changed the record, and who can write to the other",
        place=filed.document.place(fact.field),
    )


@contextmanager
def _gathered(problems: list[ConfigurationError], place: Place) -> Iterator[None]:
    """Keep an error for later; ``place`` is where it comes from, if it does not say so itself."""
    try:
        yield
    except ConfigurationError as error:
        error.place = error.place or place
        problems.append(error)


def _raise(problems: Sequence[ConfigurationError]) -> None:
    """Raise all problems as one, a refusal before the others, since its exit code is the graver."""
    if problems:
        first = next((one for one in problems if isinstance(one, RefusedError)), problems[0])
        others = (f"{one.place}: {one.code} {one.message}" for one in problems if one is not first)
        first.details = (*first.details, *others)
        raise first
