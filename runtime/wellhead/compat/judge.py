"""Whether a version number says what the changes behind it ask for. Pure.

The step between two versions is read as ranges read it: whatever leaves ``^OLD`` is a major step, so that in 0.x the
minor number makes one, and in 0.0.x every number. A prerelease is judged as the release it leads to.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

from semver import Version

from wellhead.compat import migration
from wellhead.compat.change import SEVERITIES, Change, Severity, worst
from wellhead.compat.diff import diff
from wellhead.errors import Code, ConfigurationError
from wellhead.manifest.lint import Finding
from wellhead.manifest.load import LoadedManifest
from wellhead.manifest.model import Manifest

TOO_SMALL = Code("WH-CMP-001", "A version says less than what changed behind it.")
OTHER_CONNECTOR = Code("WH-CMP-002", "Manifests of two connectors are compared.")
NOT_NEWER = Code("WH-CMP-003", "A changed manifest has no newer version.")
UNDESCRIBED = Code("WH-CMP-004", "A breaking change is not described for the people it concerns.")
UNMIGRATED = Code("WH-CMP-005", "A change of the config schema leaves configs behind without a migration.")
UNKNOWN = Code("WH-CMP-006", "A migration speaks of a parameter that no config before it could have.")

#: First word of a change's kind → what may mend a connection it breaks; kinds that are not here ask for nothing.
_MENDS: dict[str, tuple[str, ...]] = {
    "config": ("reconfigure", "reset"),
    "variable": ("reconfigure", "reset"),
    "auth": ("reauthenticate", "reconfigure", "reset"),
    "slot": ("reauthenticate", "reconfigure", "reset"),
    "stream": ("refresh_streams", "reconfigure", "reset"),
    "state": ("refresh_streams", "reset"),
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the comparison with ``against`` came to; ``needed`` is None where nothing changed.

    ``bump`` is the step the version makes, None where it makes none forward.
    """

    against: str
    changes: tuple[Change, ...]
    needed: Severity | None
    bump: Severity | None
    findings: tuple[Finding, ...]


def judge(was: Manifest, now: LoadedManifest) -> Verdict:
    """Compare a manifest with an earlier one of the same connector.

    Raises:
        ConfigurationError: they are of two connectors (WH-CMP-002).
    """
    manifest = now.manifest
    if was.metadata.id != manifest.metadata.id:
        raise ConfigurationError(
            f"{now.document.file} is of {manifest.metadata.id}, and is compared with {was.metadata.id}",
            code=OTHER_CONNECTOR,
            hint="compare releases of one connector",
            place=now.document.place(("metadata", "id")),
        )
    changes = diff(was, manifest)
    needed = worst(change.severity for change in changes)
    bump = step(was.metadata.version, manifest.metadata.version)
    # A step that is too small comes first: with the change taken back there would be nothing to describe.
    described = _described(now, changes) if bump == "major" else ()
    migrated = _migrated(was, now, changes) if bump is not None else ()
    findings = tuple(chain(_version(was, now, changes, bump), migrated, described))
    return Verdict(was.metadata.version, changes, needed, bump, findings)


def step(was: str, now: str) -> Severity | None:
    """Return how far a version promises to differ from an earlier one; None where it is not later."""
    old, new = Version.parse(was), Version.parse(now)
    if new <= old:
        return None
    before, after = old.finalize_version().to_tuple()[:3], new.finalize_version().to_tuple()[:3]
    if before == after:
        # Prereleases of one version promise each other nothing.
        return "major"
    place = next(index for index in range(3) if before[index] != after[index])
    if place == 0 or not any(before[:place]):
        return "major"
    # Behind a leading zero there is one number less: 0.4.1 may bring what 1.5.0 may.
    return "minor" if place == 1 or before[0] == 0 else "patch"


def wanted(was: str, severity: Severity) -> str:
    """Return the lowest version that may bring a change of ``severity`` after ``was``."""
    old = Version.parse(was)
    bumps = (old.finalize_version().bump_patch(), old.bump_minor(), old.bump_major())
    reach = SEVERITIES.index(severity)
    return str(next(new for new in bumps if SEVERITIES.index(step(was, str(new)) or "patch") >= reach))


def previous(version: str, published: Iterable[str]) -> str | None:
    """Return the highest of the published versions below ``version``; prereleases promised nothing and do not count."""
    below = [Version.parse(one) for one in published if Version.parse(one) < Version.parse(version)]
    return max((str(one) for one in below if one.prerelease is None), key=Version.parse, default=None)


def _version(
    was: Manifest, now: LoadedManifest, changes: Collection[Change], bump: Severity | None
) -> Iterator[Finding]:
    old, new = was.metadata.version, now.manifest.metadata.version
    if not changes:
        return
    place = now.document.place(("metadata", "version"))
    if bump is None:
        told = f"{new} differs from {old} and is not newer"
        yield Finding(NOT_NEWER, "error", place, told, f"raise metadata.version above {old}")
        return
    for change in changes:
        if SEVERITIES.index(change.severity) > SEVERITIES.index(bump):
            told = f"{change.sentence}: {change.severity} since {old}, and {new} is a {bump} step"
            hint = f"raise metadata.version to {wanted(old, change.severity)}, or take the change back"
            yield Finding(TOO_SMALL, "error", now.document.place(change.place), told, hint)


def _migrated(was: Manifest, now: LoadedManifest, changes: Iterable[Change]) -> Iterator[Finding]:
    """Ask for a migration where a config of the earlier release says what the schema no longer takes."""
    config = now.manifest.config
    before, after = was.config.version, config.version
    place = now.document.place(("config", "migrations"))
    for change in changes:
        if not migration.is_owed(change, was.config, config):
            continue
        if after <= before:
            told = f"{change.sentence}, and config.version is still {after}"
            hint = f"raise config.version to {before + 1} and write a migration from {before}, or take the change back"
            yield Finding(UNMIGRATED, "error", now.document.place(change.place), told, hint)
        elif change.kind.endswith((".removed", ".enum")):
            told = f"{change.sentence}, and no migration to config version {after} says what becomes of it"
            yield Finding(UNMIGRATED, "error", place, told, "rename or remove it there, or map its values")
    schema: Mapping[str, Any] = was.config.schema_
    for step in sorted(config.migrations, key=lambda step: step.from_):
        if step.from_ < before:
            continue
        for name in migration.unknown(schema, step):
            told = (
                f"the migration from config version {step.from_} speaks of {name}: no config before it could say that"
            )
            yield Finding(UNKNOWN, "error", place, told, f"name a parameter of {was.metadata.version}'s config.schema")
        schema, _ = migration.migrated(schema, step, config)


def _described(now: LoadedManifest, changes: Iterable[Change]) -> Iterator[Finding]:
    """Ask for an entry of `compatibility.breaking` about every breaking change."""
    manifest = now.manifest
    final = str(Version.parse(manifest.metadata.version).finalize_version())
    entries = [one for one in manifest.compatibility.breaking if one.version in (manifest.metadata.version, final)]
    place = now.document.place(("compatibility", "breaking"))
    for change in changes:
        if change.severity != "major":
            continue
        mends = _MENDS.get(change.kind.partition(".")[0], ())
        told_of = [one for one in entries if not one.streams or not change.stream or change.stream in one.streams]
        if told_of and (not mends or any(one.action in mends for one in told_of)):
            continue
        about = f" about stream {change.stream}" if change.stream else ""
        action = f"action: {' or '.join(mends)}" if mends else "what people must do"
        yield Finding(
            UNDESCRIBED,
            "error",
            place,
            f"{change.sentence}: nothing under compatibility.breaking says what to do{about}",
            f"add an entry with version: {final}, a summary and {action}",
        )
