"""The right to run: taking it, keeping it, noticing its loss.

A claim is a row in ``connector_runs`` and, for a run, the lease in the connection's own row. A keeper thread renews
both; where it cannot for two thirds of the lease's life it stops the run, since another host may take over soon.
Correctness never rests on that timing: every commit proves the epoch again (invariant 7).
"""

from __future__ import annotations

import socket
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from wellhead.clock import Clock
from wellhead.connections import ConnectionFile
from wellhead.errors import Code, TransientError, WellheadError
from wellhead.ids import ConnectionKey, ConnectorId, RunId, new_run_id
from wellhead.lifecycle.stop import Reason, Stop
from wellhead.registry import connections, runs
from wellhead.registry.database import FENCED, Database, Transaction

HELD = Code("WH-RUN-001", "The connection is being run by somebody else.")
#: A probe speaks three times in so many seconds.
PROBE_HEARTBEAT_S = 60.0
CANCEL_EVENT = "connector.run.cancel_requested"


@dataclass(frozen=True, slots=True)
class Claim:
    """One claimed connection; ``epoch`` fences every earlier claim and is 0 for a probe, which has no lease."""

    run_id: RunId
    connection: ConnectionKey
    host_id: str
    epoch: int

    @property
    def is_probe(self) -> bool:
        """Say whether this claim may never commit."""
        return self.epoch == 0

    def prove(self, tx: Transaction) -> None:
        """Require that the lease is still ours: the first act of every transaction of a run that moves a stream on.

        Raises:
            TransientError: another run has taken over (WH-REG-010).
        """
        # Invariant 7: whoever holds the highest epoch commits, and nobody else, whatever the clocks say.
        connections.require_epoch(tx, self.connection, run_id=self.run_id, epoch=self.epoch)


class AlreadyDoneError(Exception):
    """A run succeeded under the same logical id; nothing was claimed."""


class HeldError(TransientError):
    """Somebody else has the lease; ``holder`` says who."""

    def __init__(self, connection: ConnectionKey, holder: connections.Holder) -> None:
        super().__init__(
            f"{connection} is being run by {holder.run_id} on {holder.host_id}",
            code=HELD,
            hint=f"wait for it, or cancel it with `wellhead runs cancel {holder.run_id}`; "
            f"its lease ends at {holder.until.isoformat(timespec='seconds')} unless renewed",
        )
        self.holder = holder


def host_id(folder: Path) -> str:
    """Return this host's id, made once and kept in ``folder``: the machine's name and a random part."""
    file = folder / "host-id"
    try:
        return file.read_text().strip()
    except FileNotFoundError:
        folder.mkdir(parents=True, exist_ok=True)
        name = f"{socket.gethostname().split('.')[0][:32]}-{uuid.uuid4().hex[:8]}"
        try:
            with file.open("x") as made:
                made.write(name + "\n")
        except FileExistsError:
            return file.read_text().strip()
        return name


def onboard(tx: Transaction, file: ConnectionFile) -> None:
    """Let the registry know what a connection's file says."""
    said = file.connection
    connections.onboard(
        tx,
        file.key,
        connector_id=ConnectorId(said.connector),
        version_range=said.version,
        channel=said.channel,
        enabled=said.enabled,
        file_sha256=file.sha256,
        highest_epoch=runs.highest_epoch(tx, file.key),
    )


@contextmanager
def claimed(
    database: Database,
    file: ConnectionFile,
    *,
    host: str,
    ttl_s: float,
    logical_run_id: str | None,
    stop: Stop,
    clock: Clock,
) -> Iterator[Claim]:
    """Onboard the connection, take its lease and open the run's row; keep both alive until leaving.

    Leaving gives the lease back. It does not close the run's row: only the report knows how the run ended.

    Raises:
        HeldError: somebody else has it.
        AlreadyDoneError: what is asked for was done by then.
    """
    run_id = new_run_id(clock.now())
    connector = ConnectorId(file.connection.connector)
    with database.transaction() as tx:
        lease = _taken(tx, file, run_id, host, ttl_s)
        # Asked under the lease, so that of two calls at once the later one sees what the earlier one did.
        before = None if logical_run_id is None else runs.by_logical_id(tx, file.key, logical_run_id)
        if before is not None and before.status == "succeeded":
            raise AlreadyDoneError
        runs.start(
            tx,
            runs.Start(
                run_id=run_id,
                connection=file.key,
                kind="run",
                host_id=host,
                connector_id=connector,
                epoch=lease.epoch,
                logical_run_id=logical_run_id,
            ),
        )
        runs.note_event(tx, run_id, "connector.run.started", {"connection": str(file.key), "host": host})
    claim = Claim(run_id, file.key, host, lease.epoch)
    with _kept(database, claim, ttl_s, stop, clock):
        yield claim


@contextmanager
def probing(
    database: Database, file: ConnectionFile, *, host: str, ttl_s: float, stop: Stop, clock: Clock
) -> Iterator[Claim]:
    """Open a probe's row: a claim without lease and epoch, alive while its heartbeat is."""
    run_id = new_run_id(clock.now())
    connector = ConnectorId(file.connection.connector)
    with database.transaction() as tx:
        onboard(tx, file)
        runs.start(
            tx,
            runs.Start(run_id=run_id, connection=file.key, kind="probe", host_id=host, connector_id=connector),
        )
    claim = Claim(run_id, file.key, host, 0)
    keeper = _Keeper(database, claim, ttl_s, stop, clock)
    keeper.start()
    try:
        yield claim
    finally:
        keeper.end()


@contextmanager
def holding(
    database: Database, file: ConnectionFile, *, host: str, ttl_s: float, stop: Stop, clock: Clock
) -> Iterator[Claim]:
    """Keep true runs away from a connection whose state is to stay as it is: a probe's row, with the lease.

    Its epoch is given out like any other, and nothing is ever committed with it.

    Raises:
        HeldError: somebody else has it.
    """
    run_id = new_run_id(clock.now())
    connector = ConnectorId(file.connection.connector)
    with database.transaction() as tx:
        lease = _taken(tx, file, run_id, host, ttl_s)
        runs.start(
            tx,
            runs.Start(
                run_id=run_id,
                connection=file.key,
                kind="probe",
                host_id=host,
                connector_id=connector,
                epoch=lease.epoch,
            ),
        )
    claim = Claim(run_id, file.key, host, lease.epoch)
    with _kept(database, claim, ttl_s, stop, clock):
        yield claim


def _taken(tx: Transaction, file: ConnectionFile, run_id: RunId, host: str, ttl_s: float) -> connections.Lease:
    """Onboard a connection and take its lease; `HeldError` where somebody else has it."""
    onboard(tx, file)
    lease = connections.claim_lease(tx, file.key, run_id=run_id, host_id=host, ttl_s=ttl_s)
    if isinstance(lease, connections.Holder):
        raise HeldError(file.key, lease)
    return lease


@contextmanager
def _kept(database: Database, claim: Claim, ttl_s: float, stop: Stop, clock: Clock) -> Iterator[None]:
    """Keep a lease, and give it back."""
    keeper = _Keeper(database, claim, ttl_s, stop, clock)
    keeper.start()
    try:
        yield
    finally:
        keeper.end()
        if stop.reason is not Reason.FENCED:
            # A lease that cannot be given back ends by itself, and is no reason to hide how the run ended.
            with suppress(TransientError), database.transaction() as tx:
                connections.release_lease(tx, claim.connection, run_id=claim.run_id, epoch=claim.epoch)


class _Keeper(threading.Thread):
    """Renews one claim; owned and joined by the context manager that made it."""

    def __init__(self, database: Database, claim: Claim, ttl_s: float, stop: Stop, clock: Clock) -> None:
        super().__init__(name=f"keeper-{claim.run_id}", daemon=True)
        self._database = database
        self._claim = claim
        self._ttl_s = ttl_s
        self._stop_run = stop
        self._clock = clock
        # Others judge a probe by its heartbeat alone, whatever a lease lasts here.
        self._every_s = min(ttl_s, PROBE_HEARTBEAT_S) / 3 if claim.is_probe else ttl_s / 3
        self._over = threading.Event()

    def end(self) -> None:
        """Stop renewing and wait for the thread."""
        self._over.set()
        self.join()

    def run(self) -> None:
        """Renew three times a lease; give up the run where no renewal was answered for two thirds of it."""
        renewed = self._clock.monotonic()
        while not self._over.wait(self._every_s):
            try:
                cancelled = self._renew()
            except TransientError as error:
                if error.code == FENCED or self._clock.monotonic() - renewed > self._ttl_s * 2 / 3:
                    self._stop_run.request(Reason.FENCED)
                    return
            except WellheadError:
                # The registry is damaged or gone for good: the run's own next commit tells the user.
                self._stop_run.request(Reason.FENCED)
                return
            except BaseException:
                # A defect is told by its trace; a keeper that only died would let the lease run out unnoticed.
                self._stop_run.request(Reason.FENCED)
                raise
            else:
                renewed = self._clock.monotonic()
                if cancelled:
                    self._stop_run.request(Reason.CANCELLED)

    def _renew(self) -> bool:
        with self._database.transaction() as tx:
            runs.heartbeat(tx, self._claim.run_id)
            if not self._claim.is_probe:
                connections.renew_lease(
                    tx, self._claim.connection, run_id=self._claim.run_id, epoch=self._claim.epoch, ttl_s=self._ttl_s
                )
            return any(event.event == CANCEL_EVENT for event in runs.events(tx, self._claim.run_id))
