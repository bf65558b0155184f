"""Starting the connector and making sure it is the one that was verified."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from wellhead import __version__, failpoints
from wellhead.engine.container import Attachment, Mount
from wellhead.errors import Code, ConfigurationError, RefusedError, WellheadError
from wellhead.ids import Digest
from wellhead.images import engine_tar
from wellhead.lifecycle import ahead
from wellhead.lifecycle.host import Run
from wellhead.lifecycle.plan import Plan
from wellhead.registry import runs
from wellhead.runners.docker import Launch, Started, failure
from wellhead.telemetry.logs import Level
from wellhead_sdk.wire.messages import PROTOCOL_VERSIONS, LogFrame, LogLevel

if TYPE_CHECKING:
    from wellhead.session.client import Session

OUTSIDE_ROOTS = Code("WH-RUN-070", "A connection asks for a folder the operator did not open.")
NO_FOLDER = Code("WH-RUN-071", "A connection asks for a folder that does not exist.")

#: How often a wish to stop is looked for.
LOOK_S = 0.1
#: From the wish to stop until the connector is killed: a drain may take ten seconds, then a commit and its answer.
GRACE_S = 20.0
NOTICED_WITHIN_S = 2.0

_LEVELS = {
    LogLevel.DEBUG: Level.DEBUG,
    LogLevel.INFO: Level.INFO,
    LogLevel.WARNING: Level.WARNING,
    LogLevel.ERROR: Level.ERROR,
}


@contextmanager
def launched(here: Run, plan: Plan, attachment: Attachment | None) -> Iterator[Started]:
    """Start the planned image and lend it; leaving stops and removes it and keeps what it wrote in the run's log."""
    order = Launch(
        image_id=loaded_image(here, plan),
        run_id=here.claim.run_id,
        epoch=here.claim.epoch,
        connection=str(here.claim.connection),
        start_s=plan.deadlines.start_s,
        stop_grace_s=plan.deadlines.stop_grace_s,
        resources=plan.resources,
        mounts=mounts(
            {name: here.host.settings.path(folder) for name, folder in plan.connection.mounts.items()},
            here.host.settings.files.roots,
        ),
        network=attachment,
        runtime=here.host.settings.docker.runtime,
    )
    with here.host.runner().launch(order, meanwhile=ahead.import_later_steps) as started:
        with here.host.database.transaction() as tx:
            runs.set_image(tx, here.claim.run_id, Digest(started.image_id))
        failpoints.reach("container_started")
        try:
            with _ended_when_asked(here, started):
                yield started
        except WellheadError as error:
            raise _why(started, error) from error
        finally:
            _keep_output(here, started)


@contextmanager
def _ended_when_asked(here: Run, started: Started) -> Iterator[None]:
    """End the connector if the run was asked to stop and it has not come to its end by itself.

    Whatever call is waiting for it then fails at once: no deadline of a single call can outlast the run's.
    """
    left = threading.Event()

    def end() -> None:
        while not left.wait(LOOK_S):
            if here.stop.reason is not None:
                if not left.wait(GRACE_S):
                    # An Engine that does not answer ends the calls that wait for the connector by itself.
                    with suppress(WellheadError):
                        started.kill()
                return

    watcher = threading.Thread(target=end, name=f"end-{here.claim.run_id}", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        left.set()
        watcher.join()


def _why(started: Started, error: WellheadError) -> WellheadError:
    """Return what lies behind an error of the conversation: the container's own end tells more than a lost call."""
    # Imported with the session, after the start: see below.
    from wellhead.session.failures import CONNECTION_LOST

    violation = started.violation()
    if violation is not None:
        return violation
    if error.code != CONNECTION_LOST:
        return error
    # The call breaks a moment before the Engine has noticed that the container ended, and why.
    until = time.monotonic() + NOTICED_WITHIN_S
    while (state := started.state()).running and time.monotonic() < until:
        time.sleep(LOOK_S)
    return failure(state, started.container) if state.oom_killed else error


def _keep_output(here: Run, started: Started) -> None:
    try:
        lines = started.logs().splitlines()
    except WellheadError as error:
        # Why the run ended matters more than what its connector wrote.
        here.log.write(Level.WARNING, "connector_output_lost", code=str(error.code), error=error.message)
        return
    for line in lines:
        here.log.write(Level.INFO, line, source="connector", stream="stdio")


def loaded_image(here: Run, plan: Plan) -> str:
    """Return the id under which the Engine has the signed image, loading it from our own blobs where it lacks it.

    The Engine never pulls. The classic store knows an image by its config's digest, the containerd store by its
    manifest's; both are signed.

    Raises:
        RefusedError: a blob is not what was signed, or the Engine shows another image.
    """
    # Invariant 12: what was verified is what runs.
    engine, release = here.host.engine(), plan.release
    signed = release.images[plan.platform]
    known = next((found for found in (signed.config, signed.manifest) if engine.image_exists(found)), None)
    if known is not None:
        return known
    with here.timeline.step("load"):
        image_id = engine.load(engine_tar.chunks(here.host.layout(), release.index_digest, plan.platform))
    release.require_image(plan.platform, image_id)
    return image_id


@contextmanager
def spoken_to(here: Run, plan: Plan, started: Started) -> Iterator[Session]:
    """Dial the connector and shake hands; it must be the release the plan names, byte for byte of its manifest."""

    def log(frame: LogFrame) -> None:
        here.log.write(_LEVELS[frame.level], frame.message, source="connector", fields=dict(frame.fields))

    # Not before the connector runs: importing it takes as long as the start of a container.
    from wellhead.session.client import Deadlines, Session, require_release

    deadlines = Deadlines(silence_s=plan.deadlines.silence_s)
    with Session.open(
        started.socket_path, owner_uid=started.owner_uid, clock=here.host.clock, deadlines=deadlines, on_log=log
    ) as session:
        require_release(
            session.describe(PROTOCOL_VERSIONS, (), __version__),
            connector_id=plan.release.connector,
            version=plan.release.version,
            manifest_sha256=plan.release.manifest_sha256,
        )
        yield session


def mounts(wanted: dict[str, Path], roots: tuple[Path, ...]) -> tuple[Mount, ...]:
    """Return the folders to mount at ``/data/NAME``, each proved to lie under one of the operator's roots.

    Symlinks are resolved first, on both sides: what is mounted is what was judged.

    Raises:
        RefusedError: WH-RUN-070.
        ConfigurationError: WH-RUN-071.
    """
    resolved_roots = [root.resolve() for root in roots]
    found = []
    for name, folder in sorted(wanted.items()):
        real = folder.resolve()
        if not any(real == root or root in real.parents for root in resolved_roots):
            raise RefusedError(
                f"mount {name!r}: {real} does not lie under any of files.roots",
                code=OUTSIDE_ROOTS,
                hint="the operator adds the folder to files.roots in wellhead.yaml",
            )
        if not real.is_dir():
            raise ConfigurationError(
                f"mount {name!r}: there is no folder {real}",
                code=NO_FOLDER,
                hint="make it, or correct `mounts` in the connection's file; relative paths start at wellhead.yaml",
            )
        found.append(Mount(source=real, target=f"/data/{name}"))
    return tuple(found)
