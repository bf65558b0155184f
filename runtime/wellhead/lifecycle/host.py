"""What a run needs of the machine it runs on; built by `wellhead.app`, and by tests with smaller parts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from wellhead.engine import folders, reaper
from wellhead.ids import ConnectorId, Digest, RunId
from wellhead.images import store
from wellhead.lifecycle import scratch

if TYPE_CHECKING:
    from wellhead.catalog.policy import Policy
    from wellhead.catalog.trust import Trust
    from wellhead.clock import Clock
    from wellhead.connections import SinkSelection
    from wellhead.egress.network import Fencer
    from wellhead.engine.client import Engine
    from wellhead.engine.container import Labels
    from wellhead.images.layout import Layout
    from wellhead.images.registry import Registry
    from wellhead.lifecycle.claim import Claim
    from wellhead.lifecycle.stop import Stop
    from wellhead.lifecycle.timeline import Timeline
    from wellhead.registry.database import Database
    from wellhead.runners.docker import DockerRunner
    from wellhead.secrets.base import SecretStore
    from wellhead.settings import Settings
    from wellhead.sinks.base import Sink
    from wellhead.telemetry.logs import RunLog
    from wellhead.telemetry.redact import Redactor


@dataclass(frozen=True, slots=True)
class Host:
    """The services of one host; what is a callable is opened only by runs that need it."""

    settings: Settings
    folder: Path
    """``.wellhead`` of the project: logs, caches, the host's id."""
    id: str
    database: Database
    clock: Clock
    platform: str
    """Of this machine, as an image names it: ``linux/amd64``."""
    layout: Callable[[], Layout]
    trust: Callable[[], Trust]
    engine: Callable[[], Engine]
    runner: Callable[[], DockerRunner]
    fencer: Callable[[], Fencer]
    secrets: Callable[[], SecretStore]
    sink: Callable[[SinkSelection], Sink]
    remote: Callable[[], Registry | None] = lambda: None
    """The registry that is the store; None where ``layout`` is it."""
    policies: Callable[[], tuple[Policy, ...]] = tuple
    """What governs releases and connections here."""

    def holding(self, connector: ConnectorId, version: str, digest: Digest) -> Layout:
        """Return ``layout`` with that release in it; the registry is asked only where it is not there yet.

        Raises:
            TransientError: WH-IMG-040, the registry is away and the release was never fetched.
            RefusedError: what the registry has is not that release (WH-IMG-011 to 014).
        """
        return store.hold(self.remote(), self.layout(), connector, version, digest)

    @property
    def scratch(self) -> Path:
        """Return where this host keeps what it reads and throws away again."""
        return self.folder / "scratch"

    def log_file(self, run_id: RunId) -> Path:
        """Return where a run's log is kept on this host."""
        return self.folder / "logs" / f"{run_id}.jsonl"

    def reap(self, is_alive: Callable[[Labels], bool]) -> reaper.Reaped:
        """Remove what dead runs left on this host, on its Engine and off it."""
        scratch.sweep(self.scratch)
        return reaper.reap(self.engine(), is_alive, folders.default_root())


@dataclass(frozen=True, slots=True)
class Run:
    """One claimed run or probe on this host, and what every step of it needs."""

    host: Host
    claim: Claim
    stop: Stop
    redactor: Redactor
    log: RunLog
    timeline: Timeline
