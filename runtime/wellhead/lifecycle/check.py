"""The check of an image before it is signed: its config, and what a connector writes when nothing stops it.

In runs the root is read-only, so an attempt to keep state there fails. Here, once, the root is writable and there is no
network: the connector describes itself, authenticates with no secrets, discovers and reads for two seconds, as far as
each gets, and then the Engine says which paths outside the mounts differ from the image.
"""

from __future__ import annotations

import importlib
import json
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from wellhead import __version__
from wellhead.catalog.verify import require_sealed
from wellhead.clock import Clock
from wellhead.engine.client import UNLOADABLE, ConflictError, Engine
from wellhead.engine.container import Change, Resources
from wellhead.errors import Code, ConfigurationError, FatalError, RefusedError, WellheadError
from wellhead.ids import Digest
from wellhead.images import base, engine_tar, layout, oci
from wellhead.images.build import Built
from wellhead.manifest.config import config_errors
from wellhead.runners.docker import SOCKET_TARGET, DockerRunner, Launch, Started
from wellhead_sdk.wire.messages import PROTOCOL_VERSIONS, Credentials, DoneFrame, LogFrame, ReadOrder, SyncMode

if TYPE_CHECKING:
    from wellhead.session.client import Session

KEEPS_STATE = Code("WH-CAT-050", "A connector writes to its own file system.")
OTHER_ID = Code("WH-CAT-051", "The Engine gave an image another id than its config has.")

#: How long the read may go on; long enough for the first pages of a source that answers at once.
READ_S = 2.0
_CREDIT = 4 * 1024 * 1024

#: Where the sandbox mounts something, or the Engine itself writes.
_MOUNTED = (
    SOCKET_TARGET,
    "/tmp",  # noqa: S108 - the container's
    "/proc",
    "/sys",
    "/dev",
    "/etc/hosts",
    "/etc/hostname",
    "/etc/resolv.conf",
    "/.dockerenv",
    "/sbin/docker-init",
)


@dataclass(frozen=True, slots=True)
class Checked:
    """How far the probe came: the last step that was answered, and what stopped it; empty if nothing did."""

    image_id: str
    reached: str
    stopped_by: str


def check_image(store: layout.Layout, built: Built, engine: Engine, runner: DockerRunner, clock: Clock) -> Checked:
    """Check the image of this machine's platform.

    Raises:
        RefusedError: its config loosens the sandbox (WH-CAT-035), its bytes in the store are broken (WH-IMG-01x), or it
            writes outside the mounts (WH-CAT-050), naming the paths.
        ConfigurationError: it does not come up (WH-RUN-10x), or is for another platform (WH-IMG-015).
        FatalError: it breaks the protocol, or the Engine shows another id (WH-CAT-051).
    """
    platform = base.machine_platform()
    image = oci.image(store, built.index_digest, platform)
    config = store.document(image.config.digest, f"the image config of {platform}").get("config")
    require_sealed(config if isinstance(config, dict) else {}, f"the image of {built.connector} for {platform}")
    was_there = any(engine.image_exists(found) for found in (image.config.digest, image.manifest.digest))
    image_id = load_image(engine, store, built.index_digest, platform)
    manifest = built.loaded.manifest
    launch = Launch(
        image_id=image_id,
        run_id=f"check{uuid.uuid4().hex[:15]}",
        epoch=0,
        connection=f"publish/{built.connector}",
        # It has nothing to finish.
        stop_grace_s=0.0,
        resources=Resources(
            memory_mib=manifest.resources.memory_mib,
            cpus=manifest.resources.cpus,
            pids=manifest.resources.pids,
            tmp_mib=manifest.runtime.sandbox.tmp_mib,
        ),
        writable_root=True,
    )
    try:
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="below") as pool:
            # Hashed beside the trial: the Engine may have them from the release before, and asks for them no more.
            below = pool.submit(engine_tar.require_below, store, built.index_digest, platform)
            reached, stopped_by = _tried(launch, built, runner, clock)
            below.result()
    except WellheadError:
        # Nobody will start it: a refused image that we loaded does not stay on the host. One that was there before is
        # somebody's own, with tags of its own; one that something else uses stays too.
        if not was_there:
            with suppress(ConflictError):
                engine.remove_image(image_id)
        raise
    return Checked(image_id, reached, stopped_by)


def _tried(launch: Launch, built: Built, runner: DockerRunner, clock: Clock) -> tuple[str, str]:
    with runner.launch(launch, meanwhile=_import_session) as started:
        reached, stopped_by = _probe(built, started, clock)
        violation = started.violation()
        if violation is not None:
            raise violation
        # The Engine takes it down while it looks for what was written.
        started.kill()
        written = outside_mounts(started.container.diff())
    if written:
        raise RefusedError(
            f"{built.connector} {built.version} writes to its own file system: {written[0]}"
            + (f" and {len(written) - 1} more" if len(written) > 1 else ""),
            code=KEEPS_STATE,
            hint="connectors keep nothing: state goes into checkpoints, scratch files into /tmp",
            details=tuple(written),
        )
    return reached, stopped_by


def _import_session() -> None:
    """Import what talks to a connector; it takes as long as a container takes to start."""
    importlib.import_module("wellhead.session.client")


def load_image(engine: Engine, store: layout.Layout, index_digest: Digest, platform: str) -> str:
    """Make sure the Engine has an image of the store, and return its id.

    Raises:
        RefusedError: a blob is missing or changed (WH-IMG-011 to 013).
        FatalError: the Engine gave it an id that is none of its digests (WH-CAT-051).
    """
    image = oci.image(store, index_digest, platform)
    known = (image.config.digest, image.manifest.digest)
    for image_id in known:
        if engine.image_exists(image_id):
            return image_id
    loaded = _loaded(engine, store, index_digest, platform)
    if loaded not in known:
        raise FatalError(
            f"the Engine calls the image {loaded}, and its digests are {' and '.join(known)}",
            code=OTHER_ID,
            hint="check the Engine; an image it changed while loading is not started",
        )
    return loaded


def _loaded(engine: Engine, store: layout.Layout, index_digest: Digest, platform: str) -> str:
    """Load an image; what lies below its last layer is a hundred megabytes that the release before brought already."""
    if engine.info().is_classic_store:
        try:
            return engine.load(engine_tar.chunks(store, index_digest, platform, top_only=True))
        except ConfigurationError as error:
            if error.code != UNLOADABLE:
                raise
    return engine.load(engine_tar.chunks(store, index_digest, platform))


def outside_mounts(changes: tuple[Change, ...]) -> list[str]:
    """Return the changed paths that lie outside every mount, deepest only, sorted.

    A folder counts as changed when something in it was; it is named only where nothing below it is.
    """
    mounts = [PurePosixPath(path) for path in _MOUNTED]
    found = set()
    for change in changes:
        path = PurePosixPath(change.path)
        is_mount = any(path == mount or mount in path.parents for mount in mounts)
        leads_to_one = any(path in mount.parents for mount in mounts)
        if not is_mount and not leads_to_one:
            found.add(path)
    parents = {parent for path in found for parent in path.parents}
    return sorted(str(path) for path in found - parents)


def _probe(built: Built, started: Started, clock: Clock) -> tuple[str, str]:
    """Talk to the connector as far as it goes; what its source or config lacks is no fault of the image."""
    from wellhead.session.client import Deadlines, Session, require_release

    deadlines = Deadlines(authenticate_s=20.0, discover_s=20.0, read_s=20.0, silence_s=30.0)

    def unheard(_frame: LogFrame) -> None:
        """Log lines of a probe are of no interest: nobody runs it yet."""

    with Session.open(
        started.socket_path, owner_uid=started.owner_uid, clock=clock, deadlines=deadlines, on_log=unheard
    ) as session:
        require_release(
            session.describe(PROTOCOL_VERSIONS, (), __version__),
            connector_id=built.connector,
            version=built.version,
            manifest_sha256=built.manifest_sha256,
        )
        config = config_errors(built.loaded.manifest, {}).values
        reached = "describe"
        try:
            session.authenticate(Credentials(config_json=json.dumps(config)))
            reached = "authenticate"
            streams = session.discover()
            reached = "discover"
            if streams:
                _read(session, streams[0].name, clock)
                reached = "read"
        except FatalError:
            raise
        except WellheadError as error:
            return reached, error.message
    return reached, ""


def _read(session: Session, stream: str, clock: Clock) -> None:
    from wellhead.session.verify import Batch

    until = clock.monotonic() + READ_S
    plan = session.read(ReadOrder("check", stream, SyncMode.FULL_REFRESH))
    with session.emit("check", plan.units[0].key, _CREDIT) as unit:
        while clock.monotonic() < until:
            match unit.poll(0.1):
                case Batch(payload_bytes=size):
                    unit.grant(size)
                case DoneFrame():
                    return
                case _:
                    continue
