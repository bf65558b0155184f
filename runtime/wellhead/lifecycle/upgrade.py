"""A person's word on a release that a connection is not moved to by itself: agree to what it asks for, and take it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from wellhead.catalog import resolve, verify
from wellhead.compat import surface
from wellhead.connections import ConnectionFile
from wellhead.errors import Code, ConfigurationError
from wellhead.ids import ConnectionKey, ConnectorId
from wellhead.lifecycle.claim import onboard
from wellhead.lifecycle.host import Host
from wellhead.lifecycle.resolution import choose, objection, readable, surface_of
from wellhead.registry import alerts, catalog_events, connections, definitions

NOT_FREE = Code("WH-CAT-066", "A connection whose version is fixed cannot be upgraded.")
NOT_ON_OFFER = Code("WH-CAT-067", "A connection cannot be upgraded to a release.")


@dataclass(frozen=True, slots=True)
class Upgraded:
    """A connection whose next run takes another release; ``before`` is None where it never ran."""

    connection: ConnectionKey
    before: str | None
    to: str


def approve(host: Host, file: ConnectionFile, version: str, who: str, reason: str) -> tuple[str, ...]:
    """Agree to all a release lets this connection do, and return what of it is new.

    The manifest is the signed one, not the registry's copy.

    Raises:
        ConfigurationError: there is no such release (WH-REG-021), or the connection's file does not fit it.
        RefusedError: the release does not hold what was signed.
    """
    connector = ConnectorId(file.connection.connector)
    with host.database.read() as tx:
        row = definitions.get(tx, connector, version)
        definitions.require_kept(row)
        digest = row.index_digest
    release = verify.verify_release(host.holding(connector, version, digest), digest, connector, version, host.trust())
    wanted = surface_of(host, file, release.manifest)
    with host.database.transaction() as tx:
        onboard(tx, file)
        known = connections.get(tx, file.key).approved_surface
        agreed = surface.Surface((), (), "public") if known is None else surface.from_document(known)
        news = surface.grown(agreed, wanted)
        connections.approve_surface(tx, file.key, surface.joined(agreed, wanted).document())
        details = {"connection": str(file.key), "reason": reason, "news": list(news), "sha256": wanted.sha256}
        catalog_events.note(tx, "approved", connector, who=who, version=version, details=details)
        for alert in alerts.latest(tx, connection=file.key):
            if alert.alert.version == version and alert.acknowledged_at is None:
                alerts.acknowledge(tx, alert.number, who)
    return news


def upgrade(host: Host, file: ConnectionFile, to: str | None, who: str) -> Upgraded:
    """Let a connection's next run take a release that is on offer to it, however far the step is.

    Args:
        host: the services of this host.
        file: the connection.
        to: which release; None means the highest on offer within the file's range that this host can run.
        who: for the catalog's events.

    Raises:
        ConfigurationError: its version is pinned or held (WH-CAT-066), or the release is not on offer, not approved or
            cannot be run here (WH-CAT-067); then nothing was changed.
    """
    name = file.connection.name
    if to == "":
        # A variable of a script that was not set: the highest is not what it was to name.
        raise ConfigurationError(
            f"{name} cannot be upgraded to a version that is empty",
            code=NOT_ON_OFFER,
            hint="name one, or leave --to out to take the highest on offer",
        )
    with host.database.transaction() as tx:
        onboard(tx, file)
    now = choose(host, file, host.platform)
    if now.rule != "channel":
        raise ConfigurationError(
            f"{name} is {'pinned by its file' if now.rule == 'pin' else 'held'}",
            code=NOT_FREE,
            hint="write another version into its file" if now.rule == "pin" else f"wellhead hold release {name}",
        )
    # Without a current release no step is too far.
    free = resolve.resolve(replace(now.request, current=None, objections={}), now.catalog)
    if to is None:
        with host.database.read() as tx:
            known = {row.version: row for row in definitions.all_of(tx, now.request.connector)}
        free = readable(free, known)
    wanted = to if to is not None else None if free.chosen is None else free.chosen.version
    why = _why_not(host, file, free, wanted, now.request.current)
    chosen = next((item for item in now.catalog.candidates if item.version == wanted), None)
    if why is not None or chosen is None:
        raise ConfigurationError(
            f"{name} cannot be upgraded to {wanted or 'anything'}: {why or 'nothing is on offer'}",
            code=NOT_ON_OFFER,
            hint=f"`wellhead explain {name}` shows what is on offer; "
            f"`wellhead connection approve {name} --release {wanted}` agrees to what a release asks for",
        )
    before = now.request.current
    with host.database.transaction() as tx:
        definitions.refer_to(tx, now.request.connector, chosen.version)
        decision = {**now.document(), "chosen": chosen.version, "digest": chosen.digest, "by_hand": who}
        connections.set_resolved(tx, file.key, version=chosen.version, digest=chosen.digest, decision=decision)
        details = {"connection": str(file.key), "from": before}
        catalog_events.note(tx, "upgraded", now.request.connector, who=who, version=chosen.version, details=details)
    return Upgraded(file.key, before, chosen.version)


def _why_not(
    host: Host, file: ConnectionFile, free: resolve.Decision, wanted: str | None, current: str | None
) -> str | None:
    if wanted is None:
        return None
    with host.database.read() as tx:
        release = definitions.find(tx, free.request.connector, wanted)
        known = connections.get(tx, file.key)
    if release is None:
        return "no such release is known"
    if current is not None and resolve.step(current, wanted) == "none":
        return "it runs already" if wanted == current else f"it runs {current}; going back takes `wellhead rollback`"
    reasons = {item.version: item.reason for item in free.rejected}
    if wanted in reasons and not reasons[wanted].endswith(" is higher"):
        return reasons[wanted]
    return objection(host, file, known, release)
