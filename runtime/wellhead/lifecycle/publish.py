"""The order of a release, which nothing else knows.

    lint → diff → policies → assemble → check the image → sign → verify as a run would → name in the store → send to
    the registry that is the store of others → register → point a channel → write the record that goes into Git

Until it is named and registered nobody can resolve it; what was put into the store before is only bytes without a name.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from wellhead.catalog import channels as offered
from wellhead.catalog import policy, records, verify
from wellhead.catalog.keys import PrivateKey
from wellhead.catalog.policy import Policy
from wellhead.catalog.signature import Statement
from wellhead.catalog.trust import Trust
from wellhead.catalog.verify import VerifiedRelease
from wellhead.clock import Clock
from wellhead.compat import judge
from wellhead.engine.client import Engine
from wellhead.errors import Code, ConfigurationError, RefusedError, counted
from wellhead.ids import ConnectorId
from wellhead.images import build, layout, oci, saved, store
from wellhead.images.build import Built, Inputs
from wellhead.images.store import Store
from wellhead.lifecycle import check, governance, rollout
from wellhead.lifecycle.check import Checked
from wellhead.manifest import lint, load
from wellhead.manifest.lint import Finding
from wellhead.manifest.load import LoadedManifest
from wellhead.manifest.model import Manifest
from wellhead.registry import alerts, catalog_events, channels, definitions
from wellhead.registry.database import Database, Transaction
from wellhead.registry.definitions import PlatformImage, Release
from wellhead.runners.docker import DockerRunner

UNSOUND = Code("WH-CAT-052", "A manifest is not sound enough to be published.")

LOCAL_STATE = "local_state"


@dataclass(frozen=True, slots=True)
class Publisher:
    """What publishing needs of its host; ``who`` goes into the catalog's events."""

    database: Database
    store: layout.Layout
    engine: Engine
    runner: DockerRunner
    inputs: Inputs
    trust: Trust
    keys: tuple[PrivateKey, ...]
    """None where trust.yaml allows a release nobody signed."""
    clock: Clock
    who: str
    valid_for: timedelta | None = None
    """How long the signature lasts; None sets no end."""
    remote: Store | None = None
    """Where others find it; None where ``store`` is that place."""
    policies: tuple[Policy, ...] = ()
    """What governs which releases are taken in."""
    environment: str = "production"
    records: Path | None = None
    """Folder of release records; None where none is kept."""


@dataclass(frozen=True, slots=True)
class Published:
    """A release that can now be resolved; ``checked`` is None where these very bytes were published before."""

    release: VerifiedRelease
    checked: Checked | None
    warnings: tuple[Finding, ...]
    points_channel: bool
    policies: tuple[policy.Finding, ...]
    """What policies warn of."""
    record: Path | None = None
    """Where its record stands."""


def publish(here: Publisher, connector: Path, channel: str, image: str | None = None) -> Published:
    """Publish the connector in a folder; the same bytes again change nothing.

    Args:
        here: the host's parts.
        connector: folder with manifest.yaml, pyproject.toml and requirements.lock.
        channel: which channel points to it from now on.
        image: id or name of an image built with the connector's Dockerfile, to publish instead of one of ours.

    Raises:
        ConfigurationError: the manifest is wrong (WH-DOC-…) or unsound (WH-CAT-052), its version says less than what
            changed (WH-CMP-…), or the image cannot be made or does not come up.
        RefusedError: the version is known or recorded with other bytes (WH-REG-020, WH-CAT-120), the image keeps state
            or loosens the sandbox (WH-CAT-035, 050), the key is not one trust.yaml names for the namespace (WH-CAT-010,
            021), or a policy denies it (WH-POL-010).
        TransientError: the release is being collected (WH-REG-023).
    """
    loaded = load.load(connector)
    warnings = require_sound(loaded)
    _require_fitting_version(here, loaded)
    said = _admit(here, loaded.manifest)
    built = _assemble(here, connector, loaded, image)
    if here.records is not None:
        records.require_same_digest(here.records, built.connector, built.version, built.index_digest)
    is_known = _is_known(here, built)
    _bring_back(here, built)
    checked = None if is_known else _check(here, built)
    if here.keys and not (is_known and _is_signed(here, built)):
        verify.attach(here.store, statement_of(built, here.clock.now(), here.valid_for), *here.keys)
    release = verify.verify_release(here.store, built.index_digest, built.connector, built.version, here.trust)
    name = verify.release_name(built.connector, built.version)
    here.store.name(name, oci.Descriptor(oci.INDEX, built.index_digest, _size(here, built)))
    if here.remote is not None:
        # By its digest: the name in our folder may have come to mean what another publisher registered first.
        replaces = not verify.is_newer(
            here.remote, here.store, built.connector, built.version, built.index_digest, here.trust
        )
        store.copy_index(here.store, here.remote, built.connector, built.index_digest, name, replaces=replaces)
    points_channel = _register(here, built, channel)
    record = None if here.records is None else write_record(here.database, here.clock, release, channel, here.records)
    return Published(release, checked, warnings, points_channel, said, record)


def write_record(database: Database, clock: Clock, release: VerifiedRelease, channel: str, folder: Path) -> Path:
    """Write down a registered release, and the channel that offers it to everybody; return the record's file.

    Raises:
        RefusedError: a record is there that says something else (WH-CAT-120).
        ConfigurationError: a file is no valid one (WH-DOC-…), or cannot be written (WH-CAT-113).
    """
    connector, version = release.connector, release.version
    with database.read() as tx:
        released_at = definitions.get(tx, connector, version).published_at
        pointers = rollout.pointers(channels.history(tx, connector, channel))
    records.add(folder, records.of(release, released_at))
    if offered.offers(pointers, clock.now()).get(version) == offered.EVERYBODY:
        records.offer(folder, connector, channel, version)
    return records.path(folder, connector, version)


def require_sound(loaded: LoadedManifest) -> tuple[Finding, ...]:
    """Return the warnings of a manifest without errors.

    Raises:
        ConfigurationError: WH-CAT-052, with every error among the details.
    """
    findings = lint.lint(loaded)
    errors = [finding for finding in findings if finding.severity == "error"]
    if errors:
        first = errors[0]
        raise ConfigurationError(
            f"the manifest has {counted(len(errors), 'error')}, the first: {first.message}",
            code=UNSOUND,
            hint=first.hint,
            place=first.place,
            details=tuple(f"{finding.place}: {finding.code} {finding.message}" for finding in errors),
        )
    return tuple(findings)


def previous(tx: Transaction, manifest: Manifest) -> Manifest | None:
    """Return the manifest a release is compared with: of the highest version below that people may still be given."""
    connector, version = ConnectorId(manifest.metadata.id), manifest.metadata.version
    given = {one.version: one for one in definitions.all_of(tx, connector) if one.status in ("active", "deprecated")}
    below = judge.previous(version, given)
    return None if below is None else load.of_release(connector, below, given[below].manifest)


def _require_fitting_version(here: Publisher, loaded: LoadedManifest) -> None:
    """Refuse a version that says less than what changed; one that is known was judged when it was new."""
    manifest = loaded.manifest
    with here.database.read() as tx:
        if definitions.find(tx, ConnectorId(manifest.metadata.id), manifest.metadata.version) is not None:
            return
        before = previous(tx, manifest)
    if before is None:
        return
    verdict = judge.judge(before, loaded)
    if verdict.findings:
        first = verdict.findings[0]
        raise ConfigurationError(
            f"{manifest.metadata.version} does not fit what changed since {verdict.against} "
            f"({counted(len(verdict.findings), 'finding')}), the first: {first.message}",
            code=first.code,
            hint=first.hint,
            place=first.place,
            details=tuple(f"{finding.place}: {finding.code} {finding.message}" for finding in verdict.findings),
        )


def _admit(here: Publisher, manifest: Manifest) -> tuple[policy.Finding, ...]:
    signers = [key.public.id for key in here.keys]
    return governance.admit(here.policies, here.environment, manifest, signers, here.clock.now())


def statement_of(built: Built, now: datetime, valid_for: timedelta | None = None) -> Statement:
    """Return what the signer of a release vouches for; ``valid_for`` None sets no end."""
    issued_at = now.replace(microsecond=0)
    return Statement(
        connector=built.connector,
        version=built.version,
        index_digest=built.index_digest,
        manifest_sha256=built.manifest_sha256,
        images=built.images,
        publisher=built.loaded.manifest.metadata.publisher.name,
        builder=built.builder,
        issued_at=issued_at,
        expires_at=None if valid_for is None else issued_at + valid_for,
    )


def _is_signed(here: Publisher, built: Built) -> bool:
    """Say whether a signature that counts is there already, by the keys that would sign and with no other end."""
    try:
        release = verify.verify_release(here.store, built.index_digest, built.connector, built.version, here.trust)
    except RefusedError:
        return False
    by_all = {key.public.id for key in here.keys} <= set(release.key_ids)
    return by_all and here.valid_for is None


def _assemble(here: Publisher, connector: Path, loaded: LoadedManifest, image: str | None) -> Built:
    if image is None:
        return build.build(connector, here.inputs, here.store, loaded)
    return saved.take(here.engine.save(image), loaded, here.inputs.cache, here.store, here.inputs.builder)


def _is_known(here: Publisher, built: Built) -> bool:
    """Say whether these very bytes are registered; other bytes of the version are refused before they are even run."""
    with here.database.read() as tx:
        known = definitions.find(tx, built.connector, built.version)
    if known is not None and known.index_digest != built.index_digest:
        raise RefusedError(
            f"{built.connector} {built.version} is already published as {known.index_digest}, "
            f"this one is {built.index_digest}",
            code=definitions.OTHER_BYTES,
            hint="a release never changes: give the new bytes a new version",
        )
    return known is not None


def _bring_back(here: Publisher, built: Built) -> None:
    """Let what was collected be ours again, before anybody is told that the store has it."""
    with here.database.transaction() as tx:
        if definitions.bring_back(tx, built.connector, built.version):
            details = {"digest": built.index_digest}
            catalog_events.note(
                tx, "brought_back", built.connector, who=here.who, version=built.version, details=details
            )


def _check(here: Publisher, built: Built) -> Checked:
    try:
        return check.check_image(here.store, built, here.engine, here.runner, here.clock)
    except RefusedError as error:
        # Stored although publishing fails: governance wants to know what was tried.
        with here.database.transaction() as tx:
            alerts.note(
                tx,
                alerts.NewAlert(
                    kind=LOCAL_STATE if error.code == check.KEEPS_STATE else "image_refused",
                    severity="breaking",
                    connector_id=built.connector,
                    version=built.version,
                    message=error.message,
                    details={"code": error.code.name, "found": list(error.details), "digest": built.index_digest},
                ),
            )
        raise


def _size(here: Publisher, built: Built) -> int:
    return len(here.store.get(built.index_digest, "the release index"))


def _register(here: Publisher, built: Built, channel: str) -> bool:
    """Write the release and point the channel; say whether the channel was moved."""
    release = Release(
        connector_id=built.connector,
        version=built.version,
        index_digest=built.index_digest,
        manifest_sha256=built.manifest_sha256,
        platforms={name: PlatformImage(item.manifest, item.config) for name, item in built.images.items()},
        manifest=json.loads(built.loaded.canonical_json()),
        key_id=" ".join(key.public.id for key in here.keys),
        published_at=here.clock.now(),
    )
    with here.database.transaction() as tx:
        is_new = definitions.register(tx, release)
        # Never a second time: pointing again to a version a channel was rolled back from would undo the rollback.
        seen = {pointer.version for pointer in channels.history(tx, built.connector, channel)}
        points = built.version not in seen
        if points:
            channels.point(
                tx,
                built.connector,
                channel,
                version=built.version,
                index_digest=built.index_digest,
                who=here.who,
                reason="published",
            )
        if is_new or points:
            catalog_events.note(
                tx,
                "published",
                built.connector,
                who=here.who,
                version=built.version,
                details={
                    "digest": built.index_digest,
                    "channel": channel,
                    "keys": [key.public.id for key in here.keys],
                },
            )
    return points
