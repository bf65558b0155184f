"""Secrets of one run: lent before anything is opened, renewed while it goes on, revoked after the connector is gone."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from wellhead import failpoints
from wellhead.errors import WellheadError
from wellhead.lifecycle.host import Run
from wellhead.registry import revocations, runs
from wellhead.secrets.base import LendRequest, Loan, Reference, SecretValue
from wellhead.telemetry.logs import Level
from wellhead_sdk.wire.messages import Credentials, Identity, Secret

if TYPE_CHECKING:
    from wellhead.session.client import Session

#: Life of the run's token between two renewals; what is left of it after a crash is what an attacker could use.
TTL_S = 300
#: How long to wait before a renewal that failed is tried again.
AGAIN_S = 5.0
#: Between two renewals while a rotation waits.
LEAST_S = 0.5


@contextmanager
def lent(here: Run, references: Mapping[str, Reference], sensitive: frozenset[str]) -> Iterator[Loan | None]:
    """Borrow what the connection names; None where it names nothing.

    By what the loan can be revoked is stored before anything is read (invariant 11), so that a crash between the two
    leaves nothing that nobody knows of. Values of ``sensitive`` slots are struck from everything this run writes.
    """
    if not references:
        yield None
        return
    claim, database = here.claim, here.host.database

    def note(accessor: str) -> None:
        with database.transaction() as tx:
            runs.set_accessor(tx, claim.run_id, accessor)
            revocations.add(tx, accessor, claim.run_id, ttl_s=TTL_S)
        failpoints.reach("accessor_stored")

    request = LendRequest(claim.run_id, claim.connection, references, TTL_S)
    loan: Loan | None = None
    try:
        with here.host.secrets().lend(request, note) as loan:
            hide(here, loan.secrets, sensitive)
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


def hide(here: Run, secrets: Mapping[str, SecretValue], sensitive: frozenset[str]) -> None:
    """Let the redactor know what may never be written."""
    for slot, secret in secrets.items():
        if slot in sensitive:
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
def kept(
    here: Run, loan: Loan | None, session: Session, credentials: Credentials, sensitive: frozenset[str]
) -> Iterator[None]:
    """Renew the loan and rotate its values until leaving."""
    if loan is None or (loan.renew_at is None and loan.rotate_at is None):
        yield
        return
    keeper = _Keeper(here, loan, session, credentials, sensitive)
    keeper.start()
    try:
        yield
    finally:
        keeper.end()


class _Keeper(threading.Thread):
    """Owned and joined by `kept`."""

    def __init__(
        self, here: Run, loan: Loan, session: Session, credentials: Credentials, sensitive: frozenset[str]
    ) -> None:
        super().__init__(name=f"loan-{here.claim.run_id}", daemon=True)
        self._here = here
        self._loan = loan
        self._session = session
        self._credentials = credentials
        self._sensitive = sensitive
        self._over = threading.Event()

    def end(self) -> None:
        self._over.set()
        self.join()

    def run(self) -> None:
        wait_s = self._seconds_left()
        while not self._over.wait(wait_s):
            try:
                self._keep()
            except WellheadError as error:
                self._tell(error)
                wait_s = AGAIN_S
            except Exception as error:  # noqa: BLE001 - a keeper that died would let the loan expire
                trace = "".join(traceback.format_exception(error))
                self._here.log.write(Level.ERROR, "secrets_not_renewed", trace=trace)
                wait_s = AGAIN_S
            else:
                wait_s = self._seconds_left()

    def _keep(self) -> None:
        now = self._here.host.clock.now()
        if self._loan.rotate_at is not None and self._loan.rotate_at <= now:
            self._rotate()
        elif self._loan.renew_at is not None and self._loan.renew_at <= now:
            self._renew()

    def _tell(self, error: WellheadError) -> None:
        # Not the end of the run: what was lent is good until it expires, and the source says when it is not.
        self._here.log.write(Level.WARNING, "secrets_not_renewed", code=str(error.code), error=error.message)

    def _renew(self) -> None:
        self._loan.renew()
        if self._loan.accessor is not None:
            with self._here.host.database.transaction() as tx:
                revocations.prolong(tx, self._loan.accessor, ttl_s=TTL_S)

    def _rotate(self) -> None:
        values = self._loan.rotate()
        hide(self._here, values, self._sensitive)
        before = self._credentials
        self._credentials = Credentials(
            before.config_json,
            secrets_of(values, self._sensitive),
            before.hosts,
            before.probes,
            before.rotation + 1,
        )
        self._deliver(self._credentials)
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
