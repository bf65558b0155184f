"""Releases on their way to a place without a network: out into one file, in from one file.

    export   registry's rows ─▶ verify ─▶ copy with everything said about them ─▶ one file
    import   one file ─▶ hash every blob ─▶ verify each release by our own trust.yaml, layers too ─▶ store or Engine ─▶
             register ─▶ point channels

Nothing in a file is believed: not its keys, and of its records only what a signature or our own registry bears out.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from wellhead.catalog import verify
from wellhead.catalog.keys import PublicKey
from wellhead.catalog.verify import VerifiedRelease
from wellhead.errors import Code, ConfigurationError
from wellhead.ids import ConnectorId, Digest
from wellhead.images import bundle, engine_tar, naming, oci, store
from wellhead.images.layout import Layout
from wellhead.images.store import Shelf, Store
from wellhead.lifecycle.host import Host
from wellhead.registry import catalog_events, channels, definitions
from wellhead.registry.database import Transaction
from wellhead.registry.definitions import PlatformImage, Release

NOTHING_TO_EXPORT = Code("WH-CAT-080", "There is no release to export.")
BAD_RECORDS = Code("WH-CAT-081", "The records of an export have the wrong form.")


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class StandingRecord(_Record):
    """What was said with a release's standing."""

    since: date | None = Field(None, description="From which day on it counts.")
    sunset: date | None = Field(None, description="Last day it should be run.")
    replaced_by: str | None = Field(
        None, min_length=1, max_length=256, description="A version, or another connector, to use instead."
    )


class ReleaseRecord(_Record):
    """One release, as the exporting registry knew it."""

    connector: str = Field(description="Its id.")
    version: str = Field(description="Its version.")
    digest: str = Field(pattern=r"^sha256:[0-9a-f]{64}$", description="Of its index.")
    published_at: AwareDatetime = Field(description="When it was published first.")
    status: Literal["active", "deprecated", "yanked", "blocked"] = Field(description="Its standing.")
    status_reason: str | None = Field(None, description="Why.")
    status_details: StandingRecord | None = Field(None, description="Dates and replacement.")


class ChannelRecord(_Record):
    """Where one channel pointed."""

    connector: str = Field(description="Whose channel.")
    channel: str = Field(description="Its name.")
    version: str = Field(description="What it pointed to.")


class Records(_Record):
    """What wellhead/catalog.json holds."""

    format: Literal[1] = Field(1, description="Raised when a field means something else.")
    releases: tuple[ReleaseRecord, ...] = Field(description="In the order they were published.")
    channels: tuple[ChannelRecord, ...] = Field(description="Those that pointed to one of the releases.")


@dataclass(frozen=True, slots=True)
class Exported:
    """What one file holds; ``size`` in bytes."""

    releases: tuple[tuple[ConnectorId, str], ...]
    size: int


@dataclass(frozen=True, slots=True)
class Imported:
    """One release that was taken in; ``image_id`` is set where it went straight into an Engine."""

    connector: ConnectorId
    version: str
    digest: Digest
    key_ids: tuple[str, ...]
    is_new: bool
    image_id: str | None
    channels: tuple[str, ...]
    """Channels that point to it because of the import."""


def wanted(host: Host, connectors: Sequence[str]) -> list[Release]:
    """Return the releases meant by ``NAMESPACE/NAME`` and ``NAMESPACE/NAME@VERSION``; none named means all.

    Raises:
        ConfigurationError: there is none of them (WH-CAT-080, WH-REG-021), or it was collected (WH-REG-022).
    """
    with host.database.read() as tx:
        found = [] if connectors else _kept(tx)
        for name in connectors:
            connector, _, version = name.partition("@")
            if version:
                found.append(definitions.get(tx, ConnectorId(connector), version))
                definitions.require_kept(found[-1])
                continue
            known = _kept(tx, ConnectorId(connector))
            if not known:
                raise _nothing(f"no release of {connector} is known")
            found += known
    if not found:
        raise _nothing("nothing is published")
    return list({(release.connector_id, release.version): release for release in found}.values())


@dataclass(frozen=True, slots=True)
class Held:
    """One release in a file, as it would be taken in here.

    ``release`` and ``inside`` are None where ``refused`` says why an import would refuse it.
    """

    record: ReleaseRecord
    channels: tuple[str, ...]
    is_known: bool
    release: VerifiedRelease | None
    inside: verify.Inside | None
    refused: ConfigurationError | None


def held(host: Host, file: Path) -> list[Held]:
    """Say what a file that `export` wrote holds, hashing every blob and verifying each release; nothing is kept of it.

    Raises:
        ConfigurationError: it is no export (WH-IMG-050, WH-CAT-081).
        RefusedError: a blob is not what its name says (WH-IMG-012, 013): the file was damaged.
    """
    with tempfile.TemporaryDirectory(prefix=".import-", dir=host.layout().path) as scratch:
        found, said = bundle.unpack(file, Path(scratch))
        records = _read(said, file)
        return [_held(host, found, record, records.channels) for record in records.releases]


def _held(host: Host, found: Layout, record: ReleaseRecord, pointed: Sequence[ChannelRecord]) -> Held:
    release = inside = None
    refused: ConfigurationError | None = None
    try:
        release = _verified(host, found, record)
        inside = verify.inside(found, release)
        with host.database.read() as tx:
            is_known = definitions.require_same(tx, release.connector, release.version, release.index_digest)
    except ConfigurationError as error:
        # Also what is only for newer hosts: the others are told all the same.
        is_known, refused = False, error
    names = [one.channel for one in pointed if (one.connector, one.version) == (record.connector, record.version)]
    return Held(record, tuple(names), is_known, release if refused is None else None, inside, refused)


def _kept(tx: Transaction, connector: ConnectorId | None = None) -> list[Release]:
    return [release for release in definitions.all_of(tx, connector) if release.collected_at is None]


def export(host: Host, releases: Sequence[Release], keys: Sequence[PublicKey], file: Path) -> Exported:
    """Write ``releases`` with everything said about them into ``file``; each is verified first.

    Raises:
        ConfigurationError: WH-IMG-051, the file cannot be written.
        RefusedError: a release is not what was signed.
    """
    with tempfile.TemporaryDirectory(prefix=".export-", dir=host.layout().path) as scratch:
        gathered = Layout.create(Path(scratch))
        for release in releases:
            connector, version, digest = release.connector_id, release.version, release.index_digest
            held = host.holding(connector, version, digest)
            verify.verify_release(held, digest, connector, version, host.trust())
            store.copy_index(held, gathered, connector, digest, naming.name_of(connector, version))
        extra = {bundle.RECORDS: oci.canonical(_records(host, releases).model_dump(mode="json"))}
        extra |= {f"{bundle.KEYS}{key.id.replace(':', '-')}.pub": key.pem for key in keys}
        size = bundle.pack(gathered, extra, file)
    return Exported(tuple((release.connector_id, release.version) for release in releases), size)


def take_in(
    host: Host, file: Path, *, who: str, into_engine: bool = False, move_channels: bool = False
) -> list[Imported]:
    """Take in every release of ``file``; all are verified before the first is kept, and again is as once.

    Args:
        host: whose store, registry and trust it is.
        file: as `export` wrote it.
        who: goes into the catalog's events.
        into_engine: load this machine's images into the Engine, and keep no layers in the store.
        move_channels: let channels that point elsewhere here point as the file says; others are pointed anyway.

    Raises:
        ConfigurationError: it is no export (WH-IMG-050, WH-CAT-081).
        RefusedError: exit 76; a release is not what a key of our trust.yaml signed, or is known with other bytes.
        TransientError: a release is being collected (WH-REG-023).
    """
    with tempfile.TemporaryDirectory(prefix=".import-", dir=host.layout().path) as scratch:
        found, said = bundle.unpack(file, Path(scratch))
        records = _read(said, file)
        verified = [(record, _verified(host, found, record)) for record in records.releases]
        _require_same_bytes(host, verified)
        taken = []
        for record, release in verified:
            _bring_back(host, release, who)
            image_id = _keep(host, found, release, into_engine)
            is_new = _register(host, found, record, release, who)
            pointed = _point(host, records, release, who, move_channels)
            taken.append(
                Imported(
                    release.connector, release.version, release.index_digest, release.key_ids, is_new, image_id, pointed
                )
            )
    return taken


def _records(host: Host, releases: Sequence[Release]) -> Records:
    versions = {(release.connector_id, release.version) for release in releases}
    pointed = []
    with host.database.read() as tx:
        for connector in sorted({release.connector_id for release in releases}):
            for channel, pointer in sorted(channels.current(tx, connector).items()):
                if (connector, pointer.version) in versions:
                    pointed.append(ChannelRecord(connector=connector, channel=channel, version=pointer.version))
    return Records(
        format=1,
        releases=tuple(
            ReleaseRecord(
                connector=release.connector_id,
                version=release.version,
                digest=release.index_digest,
                published_at=release.published_at,
                status=release.status,
                status_reason=release.status_reason,
                status_details=None
                if release.status_details is None
                else StandingRecord.model_validate(dict(release.status_details)),
            )
            for release in releases
        ),
        channels=tuple(pointed),
    )


def _read(said: bytes, file: Path) -> Records:
    try:
        return Records.model_validate_json(said)
    except ValidationError as exc:
        first = exc.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ConfigurationError(
            f"the records in {file} have the wrong form: {place}: {first['msg']}",
            code=BAD_RECORDS,
            hint="export the releases again, with this version of Wellhead or an earlier one",
        ) from exc


def _verified(host: Host, found: Layout, record: ReleaseRecord) -> VerifiedRelease:
    connector, digest = ConnectorId(record.connector), Digest(record.digest)
    naming.name_of(connector, record.version)
    release = verify.verify_release(found, digest, connector, record.version, host.trust())
    verify.verify_layers(found, release)
    # What is copied is more than what is verified, and nothing is kept of what cannot be copied to its end.
    store.require_whole(found, connector, digest)
    return release


def _require_same_bytes(host: Host, verified: Sequence[tuple[ReleaseRecord, VerifiedRelease]]) -> None:
    """Refuse the whole file, before anything is kept, if it has a version we know with other bytes."""
    with host.database.read() as tx:
        for _, release in verified:
            definitions.require_same(tx, release.connector, release.version, release.index_digest)


def _bring_back(host: Host, release: VerifiedRelease, who: str) -> None:
    with host.database.transaction() as tx:
        if definitions.bring_back(tx, release.connector, release.version):
            details = {"digest": release.index_digest}
            catalog_events.note(
                tx, "brought_back", release.connector, who=who, version=release.version, details=details
            )


def _keep(host: Host, found: Layout, release: VerifiedRelease, into_engine: bool) -> str | None:
    name = naming.name_of(release.connector, release.version)
    image_id = None
    if into_engine:
        # Invariant 12: what was verified is what runs.
        image_id = host.engine().load(engine_tar.chunks(found, release.index_digest, host.platform))
        release.require_image(host.platform, image_id)
    connector, digest, here = release.connector, release.index_digest, host.layout()
    # A release may have been signed anew since the file was written.
    replaces = not verify.is_newer(here, found, connector, release.version, digest, host.trust())
    store.copy_index(found, here, connector, digest, name, layers=not into_engine, replaces=replaces)
    remote = host.remote()
    if remote is not None and not into_engine:
        replaces = not verify.is_newer(remote, found, connector, release.version, digest, host.trust())
        store.copy_index(found, remote, connector, digest, name, replaces=replaces)
    return image_id


def _register(host: Host, found: Layout, record: ReleaseRecord, release: VerifiedRelease, who: str) -> bool:
    with host.database.transaction() as tx:
        is_new = definitions.register(
            tx,
            replace(
                row_of(found, release, _past(record.published_at, host.clock.now())),
                status=record.status,
                status_reason=record.status_reason,
                status_details=None
                if record.status_details is None
                else record.status_details.model_dump(mode="json", exclude_none=True),
            ),
        )
        if is_new:
            catalog_events.note(
                tx,
                "imported",
                release.connector,
                who=who,
                version=release.version,
                details={"digest": release.index_digest, "keys": list(release.key_ids), "status": record.status},
            )
    return is_new


def row_of(store: Store, release: VerifiedRelease, published_at: datetime) -> Release:
    """Return what the registry keeps of a verified release; its standing is that of a new one."""
    return Release(
        connector_id=release.connector,
        version=release.version,
        index_digest=release.index_digest,
        manifest_sha256=release.manifest_sha256,
        platforms={name: PlatformImage(item.manifest, item.config) for name, item in release.images.items()},
        manifest=_manifest(store.shelf(release.connector), release),
        key_id=" ".join(release.key_ids),
        published_at=published_at,
    )


def _manifest(shelf: Shelf, release: VerifiedRelease) -> dict[str, Any]:
    """Return a verified release's manifest as it was published; the model would add what it left to defaults."""
    index = oci.read(shelf, release.index_digest, "the release index").manifests
    [artifact] = [child for child in index if child.annotations.get(oci.ROLE_ANNOTATION) == "manifest"]
    contents = oci.read(shelf, artifact.digest, "the connector manifest's artifact").layers
    [written] = [item for item in contents if item.media_type == oci.CONNECTOR_MANIFEST]
    return shelf.document(written.digest, "the connector manifest (canonical JSON)")


def _point(host: Host, records: Records, release: VerifiedRelease, who: str, move: bool) -> tuple[str, ...]:
    """Point channels as the file says; one that points elsewhere here stays, as the file may be old or hostile."""
    pointed = []
    with host.database.transaction() as tx:
        current = channels.current(tx, release.connector)
        for record in records.channels:
            if (record.connector, record.version) != (release.connector, release.version):
                continue
            now = current.get(record.channel)
            if now is None or (move and now.version != release.version):
                channels.point(
                    tx,
                    release.connector,
                    record.channel,
                    version=release.version,
                    index_digest=release.index_digest,
                    who=who,
                    reason="imported",
                )
                pointed.append(record.channel)
    return tuple(pointed)


def _past(said: datetime, now: datetime) -> datetime:
    """Return when a release was published, as far as it can be: releases are listed in this order."""
    return min(said, now)


def _nothing(why: str) -> ConfigurationError:
    return ConfigurationError(why, code=NOTHING_TO_EXPORT, hint="`wellhead catalog list` shows what is published")
