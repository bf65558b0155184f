"""What the project's policies say to a release and a connection, and the refusal where they say no.

    publish            admission     the release alone
    connection add     onboarding    with the connection and its tenant
    first run          onboarding    a file written by hand does not pass by it
    every run          run

Nothing is asked of the network, and nothing is stored here.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from itertools import chain
from typing import Any

from wellhead.catalog import policy
from wellhead.catalog.policy import Finding, Moment, Policy
from wellhead.connections import ConnectionFile
from wellhead.errors import Code, RefusedError
from wellhead.ids import ConnectorId
from wellhead.lifecycle.host import Host
from wellhead.manifest.egress import EgressEntry
from wellhead.manifest.model import Manifest
from wellhead.registry import definitions, policy_approvals
from wellhead.registry.database import Transaction
from wellhead.registry.definitions import Release
from wellhead.settings import Settings

DENIED = Code("WH-POL-010", "A policy refuses a release or a connection.")
WAITS = Code("WH-POL-011", "A policy asks for a person's approval of a connection.")


def admit(
    policies: Collection[Policy], environment: str, manifest: Manifest, signed_by: Sequence[str], now: datetime
) -> tuple[Finding, ...]:
    """Ask the policies about a release before it is published; return the warnings.

    Raises:
        RefusedError: one denies it (WH-POL-010).
    """
    release = _release(manifest, "active", signed_by, None, now)
    findings = policy.judge(policies, ("admission",), _facts(environment, manifest, release))
    _refuse(findings, f"{manifest.metadata.id} {manifest.metadata.version}", "")
    return findings


def judge(
    host: Host,
    file: ConnectionFile,
    manifest: Manifest,
    config: Mapping[str, Any],
    egress: Sequence[EgressEntry],
    moments: Sequence[Moment],
) -> tuple[Finding, ...]:
    """Return what policies have to say to a connection and the release it would get, approvals left aside."""
    policies = host.policies()
    if not any(set(moments) & set(one.when) for one in policies):
        return ()
    with host.database.read() as tx:
        known = definitions.get(tx, ConnectorId(manifest.metadata.id), manifest.metadata.version)
    release = _release_of(known, manifest, host.clock.now())
    facts = _facts(host.settings.environment, manifest, release) | _of_connection(host.settings, file, config, egress)
    return policy.judge(policies, moments, facts)


def waiting(host: Host, file: ConnectionFile, findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Return the findings that ask for an approval nobody gave yet."""
    if not any(one.effect == "require_approval" for one in findings):
        return ()
    with host.database.read() as tx:
        given = policy_approvals.active(tx, file.key, ConnectorId(file.connection.connector))
    return _unapproved(findings, given)


def _unapproved(findings: Sequence[Finding], given: Collection[tuple[str, str]]) -> tuple[Finding, ...]:
    return tuple(
        one
        for one in findings
        if one.effect == "require_approval" and (one.policy.name, one.policy.sha256) not in given
    )


def require(
    host: Host,
    file: ConnectionFile,
    manifest: Manifest,
    config: Mapping[str, Any],
    egress: Sequence[EgressEntry],
    moments: Sequence[Moment],
) -> tuple[Finding, ...]:
    """Refuse a run that a policy denies or nobody approved yet; return the warnings.

    Raises:
        RefusedError: WH-POL-010, or WH-POL-011 with the command that approves.
    """
    findings = judge(host, file, manifest, config, egress, moments)
    name = file.connection.name
    _refuse(findings, f"{manifest.metadata.id} {manifest.metadata.version}", f" for connection {name}")
    waits = waiting(host, file, findings)
    if waits:
        first = waits[0]
        raise RefusedError(
            f"policy {first.policy.name} asks for approval of connection {name}: {first.message}",
            code=WAITS,
            hint=f"{first.mend}; who may decide runs: "
            + "; ".join(f"wellhead connection approve {name} --policy {one.policy.name}" for one in waits),
            details=_rules(waits),
        )
    return tuple(one for one in findings if one.effect == "warn")


def objection(
    host: Host,
    tx: Transaction,
    file: ConnectionFile,
    known: Release,
    manifest: Manifest,
    config: Mapping[str, Any],
    egress: Sequence[EgressEntry],
) -> str | None:
    """Say which policy keeps a connection from being moved to a release by itself; None where none does."""
    release = _release_of(known, manifest, host.clock.now())
    facts = _facts(host.settings.environment, manifest, release) | _of_connection(host.settings, file, config, egress)
    given = policy_approvals.active(tx, file.key, ConnectorId(file.connection.connector))
    findings = policy.judge(host.policies(), ("run",), facts)
    denials = (f"policy {one.policy.name} refuses it: {one.message}" for one in findings if one.effect == "deny")
    waits = (f"needs approval under policy {one.policy.name}: {one.message}" for one in _unapproved(findings, given))
    return next(chain(denials, waits), None)


def refuse_denied(findings: Sequence[Finding], manifest: Manifest, name: str) -> None:
    """Raise for the first policy that denies; an approval that is missing does not count here.

    Raises:
        RefusedError: WH-POL-010.
    """
    _refuse(findings, f"{manifest.metadata.id} {manifest.metadata.version}", f" for connection {name}")


def _refuse(findings: Sequence[Finding], release: str, about: str) -> None:
    denials = [one for one in findings if one.effect == "deny"]
    if denials:
        first = denials[0]
        raise RefusedError(
            f"policy {first.policy.name} refuses {release}{about}: {first.message}",
            code=DENIED,
            hint=first.mend,
            details=_rules(denials),
        )


def _rules(findings: Sequence[Finding]) -> tuple[str, ...]:
    return tuple(f"{one.policy.name}: {one.effect} if {' '.join(one.policy.rule.split())}" for one in findings)


def _facts(environment: str, manifest: Manifest, release: dict[str, Any]) -> dict[str, Any]:
    return {
        "manifest": manifest.model_dump(mode="json", by_alias=True),
        "release": release,
        "host": {"environment": environment},
    }


def _release_of(known: Release, manifest: Manifest, now: datetime) -> dict[str, Any]:
    return _release(manifest, known.status, known.key_id.split(), known.published_at, now)


def _release(
    manifest: Manifest, status: str, signed_by: Sequence[str], published_at: datetime | None, now: datetime
) -> dict[str, Any]:
    reviewed = manifest.compliance.reviewed
    return {
        "version": manifest.metadata.version,
        "status": status,
        "signed_by": list(signed_by),
        "review_age_days": None if reviewed is None else (now.date() - reviewed.date).days,
        "age_days": 0 if published_at is None else (now - published_at).days,
    }


def _of_connection(
    settings: Settings, file: ConnectionFile, config: Mapping[str, Any], egress: Sequence[EgressEntry]
) -> dict[str, Any]:
    connection = file.connection
    return {
        "connection": {
            "name": connection.name,
            "connector": connection.connector,
            "version": connection.version,
            "channel": connection.channel,
            "config": dict(config),
            # Names alone: what a reference points to is nobody's business here.
            "slots": sorted(connection.secrets),
            "streams": [{"name": stream.name, "mode": stream.mode} for stream in connection.streams],
            "egress": [asdict(entry) for entry in egress],
            "sink": {"type": connection.sink.type},
        },
        "tenant": {
            "id": file.key.tenant,
            "project": file.key.project,
            "labels": dict(settings.tenants.get(file.key.tenant, {})),
        },
    }
