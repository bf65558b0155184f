"""What one run will do, decided once and frozen: nothing has been opened yet, nothing is decided later.

connection file + registry + catalog ──▶ resolve ──▶ verify ──▶ check config, secrets, streams ──▶ open the fence on
paper ──▶ Plan, stored in the run's row before anything starts; every attempt reuses it
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from wellhead import profile as profiles
from wellhead.catalog import verify
from wellhead.catalog.policy import Finding, Moment
from wellhead.catalog.resolve import Decision
from wellhead.catalog.verify import VerifiedRelease
from wellhead.compat import surface
from wellhead.connections import Connection, ConnectionFile
from wellhead.egress.network import policy_of
from wellhead.egress.policy import Grant, Policy
from wellhead.engine.container import Resources
from wellhead.errors import Code, RefusedError
from wellhead.ids import ConnectionKey, ConnectorId
from wellhead.lifecycle import configuration, governance, rollout, standing
from wellhead.lifecycle.configuration import Origin, configured
from wellhead.lifecycle.host import Host, Run
from wellhead.lifecycle.resolution import choose, references_of, surface_of
from wellhead.manifest.egress import EgressEntry, render_egress
from wellhead.manifest.model import Manifest
from wellhead.registry import alerts, approvals, connections, definitions, runs
from wellhead.registry.database import Transaction
from wellhead.secrets.base import Reference
from wellhead.settings import Settings
from wellhead.telemetry.logs import Level
from wellhead_sdk.wire.messages import Credentials, OpenedHost, Secret

WAITING = "upgrade_waits"
NOT_AGREED = Code("WH-RUN-087", "A release asks for more than its connection has agreed to.")
NEEDS_APPROVAL = Code("WH-RUN-082", "A host only the operator may open is not approved yet.")


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Seconds; the manifest may shorten what the operator allows, never lengthen it."""

    start_s: float
    silence_s: float
    total_s: float
    stop_grace_s: float


@dataclass(frozen=True, slots=True)
class Plan:
    """One run, frozen."""

    connection: Connection
    key: ConnectionKey
    release: VerifiedRelease
    platform: str
    decision: Decision
    config: dict[str, Any]
    origin: Origin
    references: dict[str, Reference]
    egress: tuple[EgressEntry, ...]
    policy: Policy
    resources: Resources
    deadlines: Deadlines
    profile: profiles.Profile | None
    bronze_path: Path

    @property
    def manifest(self) -> Manifest:
        """Return the signed manifest."""
        return self.release.manifest

    @property
    def sensitive(self) -> frozenset[str]:
        """Return the secret slots whose values may never be written anywhere."""
        return frozenset(name for name, slot in self.manifest.secrets.slots.items() if slot.sensitive)

    @property
    def is_held(self) -> bool:
        """Say whether a hold decided the version."""
        return self.decision.rule == "hold"

    @property
    def source_ref(self) -> str:
        """Return what `_source_ref` says: connector, version and profile."""
        profile = "" if self.profile is None else f"+{self.profile.label}"
        return f"{self.release.connector}@{self.release.version}{profile}"

    @property
    def source_sha256(self) -> str:
        """Return what tells one source from another: the connector and all that it is told, but for secrets."""
        told = json.dumps([self.release.connector, self.config], sort_keys=True)
        return hashlib.sha256(told.encode()).hexdigest()

    def credentials(self, secrets: tuple[Secret, ...]) -> Credentials:
        """Return what Authenticate delivers: the one message secrets travel in (invariant 15)."""
        return Credentials(
            config_json=json.dumps(self.config, sort_keys=True, ensure_ascii=False),
            secrets=secrets,
            hosts=tuple(OpenedHost(rule.host, rule.port, rule.private) for rule in self.policy.rules if rule.approved),
        )

    def document(self) -> dict[str, Any]:
        """Return the plan as it is stored: everything but secrets, which it never holds."""
        return {
            "connection": self.connection.model_dump(mode="json"),
            "release": {
                "id": self.release.connector,
                "version": self.release.version,
                "digest": self.release.index_digest,
                "manifest_sha256": self.release.manifest_sha256,
                "signed_by": list(self.release.key_ids),
                "image": asdict(self.release.images[self.platform]),
                "platform": self.platform,
            },
            "held": self.is_held,
            "config": self.config,
            "config_origin": self.origin.document(),
            "secrets": {slot: str(reference) for slot, reference in sorted(self.references.items())},
            "egress": [asdict(entry) for entry in self.egress],
            "grants": [str(grant.network) for grant in self.policy.grants],
            "hosts": {name: str(address) for name, address in self.policy.hosts.items()},
            "resources": asdict(self.resources),
            "deadlines": asdict(self.deadlines),
            "profile": None
            if self.profile is None
            else {"label": self.profile.label, "document": self.profile.document()},
            "bronze_path": str(self.bronze_path),
        }


def freeze(here: Run, file: ConnectionFile, platform: str) -> Plan:
    """Decide what this run does and store the decision.

    Raises:
        ConfigurationError: nothing can be resolved, or config, secrets, streams or profile are wrong.
        RefusedError: a signature, a blocked release or a missing approval says no.
    """
    host = here.host
    connector = ConnectorId(file.connection.connector)
    for halted in rollout.settle(host.database, host.clock, connector):
        here.log.write(Level.WARNING, "rollout_halted", version=halted.version, reason=halted.reason)
    decision = choose(host, file, platform)
    chosen = decision.require()
    plan = at(host, file, decision, platform)
    for found in _governed(host, file, plan):
        here.log.write(Level.WARNING, "policy", policy=found.policy.name, reason=found.message)
    with host.database.transaction() as tx:
        warning = standing.told(definitions.refer_to(tx, connector, chosen.version))
        if warning is not None:
            here.log.write(Level.WARNING, warning)
        before = connections.get(tx, file.key).resolved
        if before is not None and before.version != chosen.version:
            moved = {"from": before.version, "to": chosen.version, "rule": decision.rule}
            runs.note_event(tx, here.claim.run_id, "connector.release.changed", moved)
            here.log.write(Level.WARNING, "release_changed", **moved)
        _agree(tx, here, file, plan, before)
        _tell_waiting(tx, here, file, decision)
        connections.set_resolved(
            tx, file.key, version=chosen.version, digest=chosen.digest, decision=decision.document()
        )
        runs.set_plan(tx, here.claim.run_id, version=chosen.version, index_digest=chosen.digest, plan=plan.document())
        _keep_config(tx, here, file, plan)
        if plan.profile is not None:
            profile = plan.profile
            runs.note_event(
                tx,
                here.claim.run_id,
                "connector.profile.resolved",
                {"profile": profile.label, "sha256": profile.sha256},
            )
    return plan


def own(host: Host, file: ConnectionFile, decision: Decision, platform: str) -> Plan:
    """Plan a run of the connection's own release, as for a true run; nothing is stored.

    Raises:
        ConfigurationError: the release cannot be run here, or the connection's file does not fit it.
        RefusedError: a signature, a policy or a missing approval says no.
    """
    plan = at(host, file, decision, platform)
    _governed(host, file, plan)
    return plan


def beside(host: Host, file: ConnectionFile, decision: Decision, present: Plan) -> Plan:
    """Plan a run of another release than ``present``'s, under all that holds for a true run; nothing is stored.

    Raises:
        ConfigurationError: as for `own`.
        RefusedError: as for `own`, or it asks for more than was agreed to (WH-RUN-087).
    """
    plan = own(host, file, decision, present.platform)
    agreed = surface_of(host, file, present.manifest)
    with host.database.read() as tx:
        known = connections.find(tx, file.key)
    if known is not None and known.approved_surface is not None:
        # What the file asks for by now is its owner's word, as it is when the present release runs.
        agreed = surface.joined(surface.from_document(known.approved_surface), agreed)
    news = surface.grown(agreed, surface_of(host, file, plan.manifest))
    if news:
        name, version = file.connection.name, plan.release.version
        raise RefusedError(
            f"{plan.release.connector} {version} asks for more than {name} has agreed to: {'; '.join(news)}",
            code=NOT_AGREED,
            hint=f"wellhead connection approve {name} --release {version}",
        )
    return plan


def store(here: Run, plan: Plan) -> None:
    """Store what a run does; the same plan again changes nothing."""
    release = plan.release
    with here.host.database.transaction() as tx:
        runs.set_plan(
            tx,
            here.claim.run_id,
            version=release.version,
            index_digest=release.index_digest,
            plan=plan.document(),
        )


def _keep_config(tx: Transaction, here: Run, file: ConnectionFile, plan: Plan) -> None:
    """Keep what people wrote, which a release has just taken; say so where it got something else than the file says."""
    if plan.origin.kept_at is None:
        configuration.keep(tx, file)
    if plan.origin.told():
        runs.note_event(tx, here.claim.run_id, "connector.config.migrated", plan.origin.document())
    level = Level.INFO if plan.origin.kept_at is None else Level.WARNING
    for line in plan.origin.told():
        here.log.write(level, "config_migrated", said=line)


def _agree(tx: Transaction, here: Run, file: ConnectionFile, plan: Plan, before: connections.Resolved | None) -> None:
    """Remember the surface a connection runs with; what it begins with is agreed to, and what its file changes."""
    now = surface_of(here.host, file, plan.manifest)
    known = connections.get(tx, file.key).approved_surface
    agreed = now if known is None else surface.joined(surface.from_document(known), now)
    if known is None or agreed.document() != dict(known):
        connections.approve_surface(tx, file.key, agreed.document())
        if before is not None:
            runs.note_event(tx, here.claim.run_id, "connector.surface.agreed", {"sha256": agreed.sha256})


def _tell_waiting(tx: Transaction, here: Run, file: ConnectionFile, decision: Decision) -> None:
    """Say which higher release waits for somebody's word; an alert is raised once for each."""
    for item in decision.waiting:
        here.log.write(Level.WARNING, f"{item.version} waits: {item.reason}")
        raised = {
            alert.alert.version for alert in alerts.latest(tx, connection=file.key) if alert.alert.kind == WAITING
        }
        if item.version not in raised:
            alerts.note(
                tx,
                alerts.NewAlert(
                    kind=WAITING,
                    severity="info",
                    connector_id=decision.request.connector,
                    version=item.version,
                    connection=file.key,
                    message=f"{file.connection.name} stays below {item.version}: {item.reason}",
                ),
            )


@dataclass(frozen=True, slots=True)
class Examined:
    """What can be told of a connection without running it."""

    manifest: Manifest
    config: dict[str, Any]
    egress: tuple[EgressEntry, ...]


def examine(host: Host, file: ConnectionFile) -> Examined:
    """Check a connection's file against the manifest of the release it would get; nothing is stored or started.

    Raises:
        ConfigurationError: nothing can be resolved, or config or secrets are wrong.
        RefusedError: the release does not hold what was signed.
    """
    chosen = choose(host, file, host.platform).require()
    connector = ConnectorId(file.connection.connector)
    release = verify.verify_release(
        host.holding(connector, chosen.version, chosen.digest), chosen.digest, connector, chosen.version, host.trust()
    )
    config = configured(host, file, release.manifest).values
    references_of(file, release.manifest)
    return Examined(release.manifest, dict(config), render_egress(release.manifest, config))


def at(host: Host, file: ConnectionFile, decision: Decision, platform: str) -> Plan:
    """Verify the release that was chosen and plan a run of it; nothing is stored.

    Raises:
        ConfigurationError: nothing was chosen, or config, secrets or profile do not fit.
        RefusedError: the release does not hold what was signed, or a host is not approved.
    """
    chosen, connector = decision.require(), ConnectorId(file.connection.connector)
    verified = verify.verify_release(
        host.holding(connector, chosen.version, chosen.digest), chosen.digest, connector, chosen.version, host.trust()
    )
    return _plan(host, file, decision, verified, platform)


def _plan(host: Host, file: ConnectionFile, decision: Decision, release: VerifiedRelease, platform: str) -> Plan:
    connection, manifest = file.connection, release.manifest
    config = configured(host, file, manifest)
    profile = config.profile
    egress = render_egress(manifest, config.values)
    with host.database.read() as tx:
        approved = approvals.active(tx, file.key, release.connector)
    policy = _policy(host.settings, connection, egress, frozenset(approved), profile)
    _require_approvals(connection.name, policy)
    return Plan(
        connection=connection,
        key=file.key,
        release=release,
        platform=platform,
        decision=decision,
        config=dict(config.values),
        origin=config.origin,
        references=references_of(file, manifest),
        egress=egress,
        policy=policy,
        resources=Resources(
            memory_mib=connection.limits.memory_mib or manifest.resources.memory_mib,
            cpus=connection.limits.cpus or manifest.resources.cpus,
            pids=manifest.resources.pids,
            tmp_mib=manifest.runtime.sandbox.tmp_mib,
        ),
        deadlines=_deadlines(host.settings, manifest),
        profile=profile,
        bronze_path=host.settings.path(connection.sink.path),
    )


def _policy(
    settings: Settings,
    connection: Connection,
    egress: tuple[EgressEntry, ...],
    approved: frozenset[tuple[str, int]],
    profile: profiles.Profile | None,
) -> Policy:
    """Turn rendered ways out into what the gateway enforces; a profile can only take hosts away."""
    kept = [entry for entry in egress if profile is None or profile.allows(entry.host)]
    names = {entry.host for entry in kept}
    return policy_of(
        kept,
        approved,
        {name: address for name, address in settings.network.hosts.items() if name.lower() in names},
        [Grant(grant.cidr, grant.ports) for grant in settings.network.grants if grant.connection == connection.name],
    )


def _governed(host: Host, file: ConnectionFile, plan: Plan) -> tuple[Finding, ...]:
    """Ask the policies and return their warnings; a connection that never got a release is onboarded by its first."""
    with host.database.read() as tx:
        known = connections.find(tx, file.key)
    is_new = known is None or known.resolved is None
    moments: tuple[Moment, ...] = ("onboarding", "run") if is_new else ("run",)
    return governance.require(host, file, plan.manifest, plan.config, plan.egress, moments)


def _require_approvals(name: str, policy: Policy) -> None:
    waiting = [rule for rule in policy.rules if not rule.approved]
    if waiting:
        pairs = ", ".join(f"{rule.host}:{rule.port}" for rule in waiting)
        raise RefusedError(
            f"{pairs} may be opened by an operator only, and is not approved",
            code=NEEDS_APPROVAL,
            hint=f"the operator runs: wellhead connection approve {name} "
            + " ".join(f"{rule.host}:{rule.port}" for rule in waiting),
        )


def _deadlines(settings: Settings, manifest: Manifest) -> Deadlines:
    allowed, wanted = settings.run, manifest.runtime.timeouts
    return Deadlines(
        start_s=min(allowed.start_s, wanted.start_s or allowed.start_s),
        silence_s=min(allowed.silence_s, wanted.silence_s or allowed.silence_s),
        total_s=min(allowed.total_s, wanted.total_s or allowed.total_s),
        stop_grace_s=wanted.stop_grace_s,
    )
