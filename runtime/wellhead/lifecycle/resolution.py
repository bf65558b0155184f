"""Which release a connection gets, from what the registry holds: no network, nothing stored.

The rules are `wellhead.catalog.resolve`'s; here they meet the registry's rows and the connection's own file. What a
connection would be moved to has to fit its file, and to ask for nothing its tenant has not agreed to: else it stays on
what it runs, and the release waits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import cast

from pydantic import ValidationError

from wellhead import __version__
from wellhead.catalog import channels as offered
from wellhead.catalog import resolve
from wellhead.catalog.resolve import Decision
from wellhead.compat import surface
from wellhead.compat.surface import Surface
from wellhead.connections import ConnectionFile
from wellhead.errors import Code, ConfigurationError, UsageError
from wellhead.ids import ConnectionKey, ConnectorId
from wellhead.lifecycle import governance, rollout
from wellhead.lifecycle.configuration import configured
from wellhead.lifecycle.host import Host
from wellhead.manifest import load
from wellhead.manifest.egress import render_egress
from wellhead.manifest.model import Compatibility, Manifest, Runtime
from wellhead.manifest.versions import Range
from wellhead.registry import channels, connections, definitions, run_state
from wellhead.registry.connections import TenantConnection
from wellhead.registry.database import Transaction
from wellhead.secrets.base import Reference
from wellhead_sdk.wire.messages import PROTOCOL_VERSIONS

UNKNOWN_SLOT = Code("WH-RUN-080", "A connection fills a secret slot the connector does not have.")
NOT_EXACT = Code("WH-RUN-088", "One version was to be named, and a range was.")
MISSING_SLOT = Code("WH-RUN-081", "A connection leaves a required secret slot empty.")


def choose(host: Host, file: ConnectionFile, platform: str) -> Decision:
    """Resolve one connection from what the registry holds; no network, nothing stored."""
    return choose_all(host, [file], platform)[file.key]


def choose_all(host: Host, files: Sequence[ConnectionFile], platform: str) -> dict[ConnectionKey, Decision]:
    """Resolve many connections; what those of one connector share is read once."""
    decisions = {}
    now = host.clock.now()
    wanted = sorted({ConnectorId(file.connection.connector) for file in files})
    with host.database.read() as tx:
        releases = {name: {row.version: row for row in definitions.all_of(tx, name)} for name in wanted}
        catalogs = {name: resolve.Catalog(map(_candidate, releases[name].values())) for name in wanted}
        offers = {name: _offers(channels.history(tx, name), now) for name in wanted}
        # One is asked for alone, and many in one question each: a registry may hold thousands of others.
        alone = files[0].key if len(files) == 1 else None
        onboarded = [connections.find(tx, alone)] if alone is not None else connections.all_of(tx)
        rows = {row.connection: row for row in onboarded if row is not None}
        states = run_state.versions(tx, alone)
        for file in files:
            connector = ConnectorId(file.connection.connector)
            known = rows.get(file.key)
            held = None if known is None else known.hold
            request = resolve.Request(
                connection=file.key,
                connector=connector,
                range=file.connection.version,
                channel=file.connection.channel,
                offers=offers[connector].get(file.connection.channel, {}),
                platform=platform,
                protocols=PROTOCOL_VERSIONS,
                host_version=__version__,
                held=held.version if held is not None and (held.until is None or held.until > now) else None,
                current=None if known is None or known.resolved is None else known.resolved.version,
                auto_update=file.connection.auto_update,
                state_version=max(states.get(file.key, ()), default=None),
            )
            decision = _settled(
                host, tx, file, known, resolve.resolve(request, catalogs[connector]), releases[connector]
            )
            # What waits is told of one connection only, and is not looked for in thousands.
            decisions[file.key] = decision if alone is None else readable(decision, releases[connector])
    return decisions


def exactly(host: Host, file: ConnectionFile, platform: str, version: str) -> Decision:
    """Resolve as if the connection were pinned to a version, whatever its state; every other filter holds.

    Raises:
        UsageError: a range was named, or several versions (WH-RUN-088).
        ConfigurationError: what was named cannot be understood (WH-MAN-120).
    """
    if Range.parse(version).exact is None:
        raise UsageError(
            f"{version!r} is not one version",
            code=NOT_EXACT,
            hint="name one, such as 1.5.0; `wellhead catalog list` shows what is published",
        )
    now = choose(host, file, platform)
    request = replace(now.request, range=version, held=None, state_version=None, objections={})
    return resolve.resolve(request, now.catalog)


def _offers(history: list[channels.Pointer], now: datetime) -> dict[str, dict[str, float]]:
    """Return what each channel of a connector offers, and to what share of its connections."""
    names = {row.channel for row in history}
    return {
        name: offered.offers(rollout.pointers(row for row in history if row.channel == name), now) for name in names
    }


def _candidate(release: definitions.Release) -> resolve.Candidate:
    # Two sections of a manifest that was checked when it was published: reading all of it costs ten times as much.
    try:
        runtime = Runtime.model_validate(release.manifest.get("runtime"))
        reads = Compatibility.model_validate(release.manifest.get("compatibility", {})).state.reads
        protocols, host_range = (runtime.protocol.min, runtime.protocol.max), runtime.host
    except ValidationError:
        # It was checked by a newer Wellhead, and is for those: this one does not know what it asks for.
        protocols, host_range, reads = (min(PROTOCOL_VERSIONS), max(PROTOCOL_VERSIONS)), f">{__version__}", ()
    status, reason = release.status, release.status_reason or ""
    if release.collected_at is not None and status != "blocked":
        status, reason = "collected", "nothing referred to it; publish the same sources again, or import it"
    return resolve.Candidate(
        version=release.version,
        digest=release.index_digest,
        status=cast("resolve.Status", status),
        status_reason=reason,
        platforms=frozenset(release.platforms),
        protocols=protocols,
        host_range=host_range,
        state_reads=frozenset(reads),
    )


def surface_of(host: Host, file: ConnectionFile, manifest: Manifest) -> Surface:
    """Return what a connection lets a release do; raises like `configured`."""
    return surface.surface(manifest, configured(host, file, manifest).values, tuple(file.connection.secrets))


def _settled(
    host: Host,
    tx: Transaction,
    file: ConnectionFile,
    known: TenantConnection | None,
    decision: Decision,
    releases: Mapping[str, definitions.Release],
) -> Decision:
    """Pass over what a connection cannot begin with or be moved to by itself, until what is chosen can stay chosen."""
    while (chosen := decision.chosen) is not None and decision.rule == "channel":
        if decision.request.current == chosen.version:
            return decision
        release = releases[chosen.version]
        reason = _unreadable(release)
        if reason is not None:
            decision = _without(decision, {chosen.version: reason})
            continue
        if known is not None and decision.request.current is not None:
            reason = objection(host, file, known, release) or _ungoverned(host, tx, file, release)
        if reason is None:
            return decision
        objections = {**decision.request.objections, chosen.version: reason}
        decision = resolve.resolve(replace(decision.request, objections=objections), decision.catalog)
    return decision


def readable(decision: Decision, releases: Mapping[str, definitions.Release]) -> Decision:
    """Pass over what this host cannot run: neither is it chosen, nor does it wait for anybody's word."""
    while decision.rule == "channel":
        named = [item.version for item in decision.waiting]
        if decision.chosen is not None and decision.chosen.version != decision.request.current:
            named.append(decision.chosen.version)
        found = {version: reason for version in named if (reason := _unreadable(releases[version])) is not None}
        if not found:
            break
        decision = _without(decision, found)
    return decision


def _without(decision: Decision, found: Mapping[str, str]) -> Decision:
    unreadable = {**decision.request.unreadable, **found}
    return resolve.resolve(replace(decision.request, unreadable=unreadable), decision.catalog)


def objection(host: Host, file: ConnectionFile, known: TenantConnection, release: definitions.Release) -> str | None:
    """Say what keeps a connection from being moved to a release: a file that does not fit, or something to agree to."""
    try:
        manifest = _manifest(release)
    except ConfigurationError as error:
        return f"this host cannot run it: {error.message}"
    try:
        references_of(file, manifest)
        wanted = surface_of(host, file, manifest)
    except ConfigurationError as error:
        return f"the connection's file does not fit it: {error.message}"
    if known.approved_surface is None:
        return None
    news = surface.grown(surface.from_document(known.approved_surface), wanted)
    return f"needs approval: {'; '.join(news)}" if news else None


def _unreadable(release: definitions.Release) -> str | None:
    """Say what keeps this host from running a release whoever asks for it: a newer Wellhead has published it."""
    try:
        _manifest(release)
    except ConfigurationError as error:
        return f"this host cannot run it: {error.message}"
    return None


def _manifest(release: definitions.Release) -> Manifest:
    return load.of_release(release.connector_id, release.version, release.manifest)


def _ungoverned(host: Host, tx: Transaction, file: ConnectionFile, release: definitions.Release) -> str | None:
    """Say which policy keeps a connection whose file fits from being moved to a release."""
    if not host.policies():
        return None
    manifest = _manifest(release)
    config = configured(host, file, manifest).values
    return governance.objection(host, tx, file, release, manifest, config, render_egress(manifest, config))


def references_of(file: ConnectionFile, manifest: Manifest) -> dict[str, Reference]:
    """Parse every reference and check the slots; all mistakes are told at once.

    Raises:
        ConfigurationError: an unknown slot (WH-RUN-080), an empty one (WH-RUN-081), or what is no reference.
    """
    slots = manifest.secrets.slots
    unknown = sorted(set(file.connection.secrets) - set(slots))
    if unknown:
        raise ConfigurationError(
            f"{manifest.metadata.id} has no secret slot {', '.join(map(repr, unknown))}",
            code=UNKNOWN_SLOT,
            hint=f"its slots are {', '.join(slots) or 'none'}",
            place=file.document.place(("secrets", unknown[0])),
        )
    missing = sorted(name for name, slot in slots.items() if slot.required and name not in file.connection.secrets)
    if missing:
        raise ConfigurationError(
            f"the connection names no secret for {', '.join(map(repr, missing))}",
            code=MISSING_SLOT,
            hint="add under secrets: " + ", ".join(f"{name}: vault://MOUNT/PATH#FIELD" for name in missing),
            place=file.document.place(("secrets",)),
        )
    references = {}
    for slot, text in file.connection.secrets.items():
        try:
            references[slot] = Reference.parse(text)
        except ConfigurationError as error:
            error.place = file.document.place(("secrets", slot))
            raise
    return references
