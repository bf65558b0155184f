"""Connectors as containers of a Docker Engine.

`DockerRunner.launch` lends a started connector: its socket is there when the block begins; container, folder and
watcher are gone when it ends, however it ends.

    folder ─▶ create ─▶ start ─▶ poll for the socket ─▶ yield ─▶ SIGTERM ─▶ SIGKILL ─▶ remove ─▶ folder gone
                          └────── the container ends or the time is up: diagnose, raise
"""

from __future__ import annotations

import os
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from wellhead.engine import folders
from wellhead.engine.client import Container, Engine
from wellhead.engine.container import (
    CONNECTOR,
    CONNECTOR_UID,
    Attachment,
    ContainerSpec,
    ContainerState,
    Labels,
    Mount,
    Resources,
    Seal,
)
from wellhead.errors import Code, ConfigurationError, FatalError, RefusedError, TransientError, WellheadError

ENDED = Code("WH-RUN-101", "The connector's container ended before its socket was there.")
OUT_OF_MEMORY = Code("WH-RUN-102", "The connector needed more memory than its container may have.")
TOO_SLOW = Code("WH-RUN-103", "The connector's socket was not there in time.")
PLANTED = Code("WH-RUN-104", "The connector put something else than its socket into the socket's folder.")
ENDED_BY_FORCE = Code("WH-RUN-106", "The connector's container was killed from outside.")
OTHER_IMAGE = Code("WH-RUN-105", "The Engine started another image than the one that was verified.")

SOCKET_TARGET = "/run/wellhead"
#: Exit code of a program that SIGKILL ended: 128 and the signal's number.
KILLED = 137
#: Often enough to add nothing to a start that takes a tenth of a second.
POLL_S = 0.005
#: An inspection costs the Engine more than a look into a folder.
INSPECT_S = 0.1
WATCH_S = 0.25
LOG_TAIL_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Launch:
    """One connector to start.

    Attributes:
        image_id: ``sha256:…`` of an image the Engine has.
        run_id: the run it belongs to.
        epoch: of the lease it runs under; 0 for a probe.
        connection: ``tenant/project/name``.
        start_s: how long its socket may take.
        stop_grace_s: between SIGTERM and SIGKILL.
        resources: bounds of its container.
        mounts: read-only folders of the operator's.
        network: its place in the run's fence; None for no network at all.
        command: instead of the image's own arguments.
        environment: for the program; never a secret.
        runtime: OCI runtime instead of the Engine's default.
        writable_root: for the publish check alone, which looks for what a connector would write.
    """

    image_id: str
    run_id: str
    epoch: int
    connection: str
    start_s: float = 20.0
    stop_grace_s: float = 5.0
    resources: Resources = field(default_factory=Resources)
    mounts: tuple[Mount, ...] = ()
    network: Attachment | None = None
    command: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    runtime: str | None = None
    writable_root: bool = False


class Started:
    """A connector that runs; valid inside the block of `DockerRunner.launch` alone."""

    def __init__(self, container: Container, socket_path: Path, image_id: str, watch: _Watch) -> None:
        self.container = container
        self.container_id = container.id
        self.socket_path = socket_path
        self.owner_uid = CONNECTOR_UID
        self.image_id = image_id
        self._watch = watch

    def state(self) -> ContainerState:
        """Return what the Engine says of the container now."""
        return self.container.inspect()

    def logs(self, tail_bytes: int = LOG_TAIL_BYTES) -> str:
        """Return the end of what it wrote; not redacted, since only the caller knows the run's secrets."""
        return self.container.logs(tail_bytes)

    def violation(self) -> RefusedError | None:
        """Return what the watcher of the socket's folder found, after which it killed the container; else None."""
        return self._watch.found

    def diagnose(self) -> str:
        """Say in a few lines how the container is and what it last wrote; not redacted."""
        return diagnose(self.container)

    def kill(self) -> None:
        """End it at once."""
        self.container.kill()


class DockerRunner:
    """Starts connectors on one Engine.

    Args:
        engine: where.
        host_id: this host, for the reapers of others.
        root: where folders for sockets are made; default by `folders.default_root`.
        sweeper: image with ``python3`` that empties folders a plain user's host may not; default the connector's own.
    """

    def __init__(self, engine: Engine, host_id: str, root: Path | None = None, sweeper: str | None = None) -> None:
        self._engine = engine
        self._host_id = host_id
        self._root = root if root is not None else folders.default_root()
        self._sweeper = sweeper

    @contextmanager
    def launch(self, launch: Launch, meanwhile: Callable[[], None] = lambda: None) -> Iterator[Started]:
        """Start a connector and lend it until the block ends.

        Args:
            launch: what to start.
            meanwhile: done while the container starts.

        Raises:
            ConfigurationError: the container ended at once (WH-RUN-101), for want of memory (WH-RUN-102), or the
                Engine refused it (WH-ENG-004, WH-ENG-005).
            RefusedError: something else stands in the socket's place (WH-RUN-104).
            TransientError: no socket within ``start_s`` (WH-RUN-103).
        """
        labels = Labels(launch.run_id, self._host_id, launch.epoch, launch.connection, CONNECTOR)
        folders.prepare_root(self._root)
        with folders.socket_folder(self._engine, self._root, labels, self._sweeper or launch.image_id) as folder:
            container = self._engine.create(_spec(launch, labels, folder))
            try:
                container.start(meanwhile)
                socket_path = folder.path / folders.SOCKET_NAME
                with _Watch(folder.path, container) as watch:
                    _await_socket(container, socket_path, launch.start_s, watch)
                    started = container.inspect().image_id
                    if started != launch.image_id:
                        raise FatalError(
                            f"the Engine started {started}, and {launch.image_id} was verified",
                            code=OTHER_IMAGE,
                            hint="keep the evidence and check the Engine; the run was ended before any secret was sent",
                        )
                    yield Started(container, socket_path, started, watch)
                    container.stop(launch.stop_grace_s)
            finally:
                container.remove()


def _spec(launch: Launch, labels: Labels, folder: folders.Folder) -> ContainerSpec:
    return ContainerSpec(
        name=f"wh-{launch.run_id}-{folder.path.name[:6]}",
        image_id=launch.image_id,
        labels=labels,
        command=launch.command,
        environment=dict(launch.environment),
        mounts=(Mount(folder.path, SOCKET_TARGET, read_only=False), *launch.mounts),
        network=launch.network,
        groups=() if os.geteuid() == 0 else (os.getegid(),),
        resources=launch.resources,
        seal=Seal(read_only=not launch.writable_root),
        runtime=launch.runtime,
    )


def _await_socket(container: Container, path: Path, start_s: float, watch: _Watch) -> None:
    deadline = time.monotonic() + start_s
    inspect_at = time.monotonic() + INSPECT_S
    while not _is_socket(path):
        now = time.monotonic()
        if watch.found is not None:
            raise watch.found
        if now > inspect_at:
            inspect_at = now + INSPECT_S
            state = container.inspect()
            if not state.running:
                # A connector may make its socket and end in between; what counts is that it ended.
                raise failure(state, container)
        if now > deadline:
            raise TransientError(
                f"the connector's socket was not there after {start_s:g} s\n{diagnose(container)}",
                code=TOO_SLOW,
                hint="raise run.start_s, or read its last lines above; under gVisor the Engine's runsc needs "
                "--host-uds=create",
            )
        time.sleep(POLL_S)


def _is_socket(path: Path) -> bool:
    """Say whether the connector's socket stands at ``path``; anything else there is the watcher's business."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return False
    return stat.S_ISSOCK(found.st_mode) and found.st_uid == CONNECTOR_UID


def failure(state: ContainerState, container: Container) -> WellheadError:
    """Return the error that fits a container that has ended by itself."""
    said = diagnose(container)
    if state.oom_killed:
        return ConfigurationError(
            f"the connector's container ran out of memory\n{said}",
            code=OUT_OF_MEMORY,
            hint="raise resources.memory in the manifest or limits.memory_mib of the connection",
        )
    if state.exit_code == KILLED:
        return TransientError(
            f"somebody killed the connector's container\n{said}",
            code=ENDED_BY_FORCE,
            hint="not for want of memory; a restart of the Engine does it too. The next attempt starts afresh",
        )
    return ConfigurationError(
        f"the connector's container ended with exit code {state.exit_code} before its socket was there\n{said}",
        code=ENDED,
        hint="its last lines are above; `wellhead publish` checks an image before a run does",
    )


def diagnose(container: Container) -> str:
    """Say why a container is as it is: image, state, exit code, memory, the Engine's error, its last lines."""
    state = container.inspect()
    condition = "is running" if state.running else f"ended with exit code {state.exit_code}"
    lines = [f"container {container.name} of image {state.image_id} {condition}"]
    if state.oom_killed:
        lines.append("the kernel killed a process in it for want of memory")
    if state.error:
        lines.append(f"the Engine says: {state.error}")
    written = container.logs(LOG_TAIL_BYTES).strip()
    lines.append(f"its last lines:\n{written}" if written else "it wrote nothing")
    return "\n".join(lines)


class _Watch:
    """A thread that kills the container as soon as the socket's folder holds anything but the socket.

    A connector that fills the folder, or plants a link where the host would follow it, does not get to go on.
    """

    def __init__(self, folder: Path, container: Container) -> None:
        self.found: RefusedError | None = None
        self._folder = folder
        self._container = container
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"watch-{folder.name}", daemon=True)

    def __enter__(self) -> _Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._done.is_set():
            self.found = _foreign(self._folder)
            if self.found is not None:
                # Where the Engine does not answer, the finding still ends the run, and the container with it.
                with suppress(WellheadError):
                    self._container.kill()
                return
            self._done.wait(WATCH_S)


def _foreign(folder: Path) -> RefusedError | None:
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                kind = stat.S_IFMT(entry.stat(follow_symlinks=False).st_mode)
                if entry.name != folders.SOCKET_NAME or kind != stat.S_IFSOCK:
                    what = {stat.S_IFLNK: "a symbolic link", stat.S_IFDIR: "a folder", stat.S_IFREG: "a file"}
                    return _planted(f"{what.get(kind, 'something')} called {entry.name!r}")
    except FileNotFoundError:
        # An entry came and went between listing and looking; the next look tells.
        return None
    except OSError as exc:
        return _planted(f"something that cannot be looked at ({exc.strerror})")
    return None


def _planted(what: str) -> RefusedError:
    return RefusedError(
        f"the connector put {what} into the socket's folder, which takes its socket {folders.SOCKET_NAME} alone",
        code=PLANTED,
        hint="a connector keeps scratch files in /tmp and state in checkpoints; block the release if it meant harm",
    )
