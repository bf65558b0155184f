"""Secrets of one run: lent before anything is opened, renewed while it goes on, revoked after the connector is gone."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from wellhead import failpoints
from wellhead.errors import Code, ConfigurationError, WellheadError, counted
from wellhead.lifecycle.host import Run
from wellhead.lifecycle.plan import Plan
from wellhead.manifest import patterns
from wellhead.registry import revocations, runs
from wellhead.secrets.base import LendRequest, Loan, SecretValue
from wellhead.telemetry.logs import Level
from wellhead_sdk.wire.messages import Credentials, Identity, Secret

if TYPE_CHECKING:
    from wellhead.session.client import Session

TOO_SHORT = Code("WH-SEC-031", "A secret is shorter than its slot allows.")
SLOW_PATTERN = Code("WH-SEC-032", "A slot's redact_pattern may take very long.")

#: Life of the run's token between two renewals; what is left of it after a crash is what an attacker could use.
TTL_S = 300
#: How long to wait before a renewal that failed is tried again.
AGAIN_S = 5.0
#: Between two renewals while a rotation waits.
LEAST_S = 0.5


@contextmanager
def lent(here: Run, plan: Plan) -> Iterator[Loan | None]:
    """Borrow what the connection names; None where it names nothing.

    By what the loan can be revoked is stored before anything is read (invariant 11), so that a crash between the two
    leaves nothing that nobody knows of. Values of sensitive slots are struck from everything this run writes, and from
    its texts what has the shape of one.

    Raises:
        ConfigurationError: a value is too short (WH-SEC-031, WH-SEC-030), or a pattern is not quick (WH-SEC-032);
            whatever `SecretStore.lend` raises.
    """
    _expect(here, plan)
    if not plan.references:
        yield None
        return
    claim, database = here.claim, here.host.database

    def note(accessor: str) -> None:
        with database.transaction() as tx:
            runs.set_accessor(tx, claim.run_id, accessor)
            revocations.add(tx, accessor, claim.run_id, ttl_s=TTL_S)
        failpoints.reach("accessor_stored")

    request = LendRequest(claim.run_id, claim.connection, plan.references, TTL_S)
    loan: Loan | None = None
    try:
        with here.host.secrets().lend(request, note) as loan:
            take(here, loan.secrets, plan)
            failpoints.reach("lease_issued")
            yield loan
    finally:
        if loan is not None:
            _note_end(here, loan)


def _note_end(here: Run, loan: Loan) -> None:
    """Remember that the loan is over, or why it is not; a failed run's loan ends like any other."""
    claim, database = here.claim, here.host.database
    if loan.revocation_error is not None:
        # The row in pending_revocations stays: the next claim of this connection, or `clean`, revokes by accessor.
        here.log.write(Level.WARNING, "secrets_not_revoked", code=str(loan.revocation_error.code))
    elif loan.accessor is not None:
        with database.transaction() as tx:
            revocations.remove(tx, loan.accessor)
            runs.note_event(tx, claim.run_id, "secrets.revoked", leases_of(loan))
    failpoints.reach("token_revoked")


def _expect(here: Run, plan: Plan) -> None:
    """Let the redactor know the shapes of secrets, whether any is lent or not.

    What is published was checked by `lint`, but by its publisher: the connector writes the lines a pattern is tried on,
    and one that takes hours would hold up this program.
    """
    hint = "ask the connector's publisher for a release that passes `wellhead manifest lint`"
    for name, slot in plan.manifest.secrets.slots.items():
        if slot.redact_pattern is None:
            continue
        if not patterns.is_quick(slot.redact_pattern):
            raise ConfigurationError(
                f"the redact_pattern of secret {name} may take very long on a hostile line",
                code=SLOW_PATTERN,
                hint=hint,
            )
        try:
            here.redactor.add_pattern(slot.redact_pattern)
        except ValueError as exc:
            raise ConfigurationError(
                f"the redact_pattern of secret {name} cannot be searched for in bounded time: {exc}",
                code=SLOW_PATTERN,
                hint=hint,
            ) from exc


def take(here: Run, secrets: Mapping[str, SecretValue], plan: Plan) -> None:
    """Check values that were read just now, and let the redactor know which of them may never be written.

    Raises:
        ConfigurationError: a value is shorter than its slot allows (WH-SEC-031), or than can be kept out of logs
            (WH-SEC-030).
    """
    for name, slot in plan.manifest.secrets.slots.items():
        if name in secrets and len(secrets[name].value) < slot.min_length:
            # Neither the value nor its length is told.
            raise ConfigurationError(
                f"secret {name} is shorter than its slot allows",
                code=TOO_SHORT,
                hint=f"store what belongs there, in full: at least {counted(slot.min_length, 'character')}",
            )
    for name, secret in secrets.items():
        if name in plan.sensitive:
            here.redactor.add(secret.value)


def leases_of(loan: Loan) -> dict[str, object]:
    """Return what was lent as an auditor may see it: ids, paths and times, never a value."""
    return {
        "accessor": loan.accessor,
        "revoked_at": loan.revoked_at.isoformat() if loan.revoked_at else None,
        "leases": [
            {
                "id": lease.id,
                "path": lease.path,
                "ttl_s": lease.ttl_s,
                "created_at": lease.created_at.isoformat(),
                "revoked_at": lease.revoked_at.isoformat() if lease.revoked_at else None,
            }
            for lease in loan.leases
        ],
    }


def secrets_of(values: Mapping[str, SecretValue], sensitive: frozenset[str]) -> tuple[Secret, ...]:
    """Return lent values as the protocol carries them, by slot name, and which of them are no secrets."""
    return tuple(
        Secret(slot, value.value, value.expires_at, plain=slot not in sensitive)
        for slot, value in sorted(values.items())
    )


@contextmanager
def kept(here: Run, plan: Plan, loan: Loan | None, session: Session, credentials: Credentials) -> Iterator[None]:
    """Renew the loan and rotate its values until leaving."""
    if loan is None or (loan.renew_at is None and loan.rotate_at is None):
        yield
        return
    keeper = _Keeper(here, plan, loan, session, credentials)
    keeper.start()
    try:
        yield
    finally:
        keeper.end()


class _Keeper(threading.Thread):
    """Owned and joined by `kept`."""

    def __init__(self, here: Run, plan: Plan, loan: Loan, session: Session, credentials: Credentials) -> None:
        super().__init__(name=f"loan-{here.claim.run_id}", daemon=True)
        self._here = here
        self._plan = plan
        self._loan = loan
        self._session = session
        self._credentials = credentials
        #: Those of a rotation which the connector has not taken yet.
        self._undelivered: Credentials | None = None
        self._over = threading.Event()

    def end(self) -> None:
        self._over.set()
        self.join()

    def run(self) -> None:
        wait_s = self._seconds_left()
        while not self._over.wait(wait_s):
            # Each whatever became of the other: a connector that does not take new values still needs a living token.
            done = [self._tried(self._rotate_if_due), self._tried(self._renew_if_due)]
            wait_s = self._seconds_left() if all(done) else AGAIN_S

    def _tried(self, step: Callable[[], None]) -> bool:
        try:
            step()
        except WellheadError as error:
            self._tell(error)
        except Exception as error:  # noqa: BLE001 - a keeper that died would let the loan expire
            trace = "".join(traceback.format_exception(error))
            self._here.log.write(Level.ERROR, "secrets_not_renewed", trace=trace)
        else:
            return True
        return False

    def _is_due(self, at: datetime | None) -> bool:
        return at is not None and at <= self._here.host.clock.now()

    def _tell(self, error: WellheadError) -> None:
        # Not the end of the run: what was lent is good until it expires, and the source says when it is not.
        self._here.log.write(Level.WARNING, "secrets_not_renewed", code=str(error.code), error=error.message)

    def _renew_if_due(self) -> None:
        if self._is_due(self._loan.renew_at):
            self._renew()

    def _renew(self) -> None:
        try:
            self._loan.renew()
        finally:
            # Where one lease is refused the token was renewed all the same.
            if self._loan.accessor is not None:
                with self._here.host.database.transaction() as tx:
                    revocations.prolong(tx, self._loan.accessor, ttl_s=TTL_S)

    def _rotate_if_due(self) -> None:
        if self._is_due(self._loan.rotate_at):
            # Whatever comes of it: delivered after the next rotation, those before it would lose their leases at once.
            self._undelivered = None
            values = self._loan.rotate()
            take(self._here, values, self._plan)
            before = self._credentials
            secrets = secrets_of(values, self._plan.sensitive)
            self._undelivered = replace(before, secrets=secrets, rotation=before.rotation + 1)
        if self._undelivered is not None:
            # Until the connector has taken them: the loan counts on them from now on, and does not rotate again.
            self._deliver(self._undelivered)
            self._credentials, self._undelivered = self._undelivered, None
            # Only now has every open unit moved over; revoking earlier would cut a query in two.
            self._loan.revoke_superseded()

    def _deliver(self, credentials: Credentials) -> None:
        """Hand over new values, renewing while the connector takes them.

        It answers once every unit has come to a checkpoint, which may take as long as a token lives that nobody renews;
        with the token all would go that was lent.
        """
        with ThreadPoolExecutor(1, f"rotation-{self._here.claim.run_id}") as pool:
            asked = pool.submit(self._session.authenticate, credentials)
            wait_s = self._seconds_until(self._loan.renew_at)
            while wait([asked], wait_s).not_done:
                try:
                    self._renew()
                except WellheadError as error:
                    self._tell(error)
                    wait_s = AGAIN_S
                else:
                    # What can be renewed no further is due again at once, up to its end.
                    wait_s = max(LEAST_S, self._seconds_until(self._loan.renew_at))
            asked.result()

    def _seconds_left(self) -> float:
        return self._seconds_until(self._loan.renew_at, self._loan.rotate_at)

    def _seconds_until(self, *times: datetime | None) -> float:
        """Return how long it is to the first of these times; at the most as long as a thread can be told to wait."""
        due = min((at for at in times if at is not None), default=datetime.max.replace(tzinfo=UTC))
        left_s = (due - self._here.host.clock.now()).total_seconds()
        return min(max(0.0, left_s), threading.TIMEOUT_MAX)


def cleaned(here: Run, identity: Identity) -> Identity:
    """Return who we are at the source as it may be shown: what a probe found can quote what it connected with."""
    clean = here.redactor.text
    return replace(
        identity,
        identity=clean(identity.identity),
        scopes=tuple(clean(scope) for scope in identity.scopes),
        probes=tuple(replace(probe, name=clean(probe.name), detail=clean(probe.detail)) for probe in identity.probes),
    )


def identity_document(identity: Identity) -> dict[str, object]:
    """Return who we are at the source, for the run's record."""
    return {
        "identity": identity.identity,
        "scopes": list(identity.scopes),
        "probes": [{"name": p.name, "ok": p.ok, "detail": p.detail, "ms": p.duration_ms} for p in identity.probes],
    }
