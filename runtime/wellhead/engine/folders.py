"""The folders a run shares with its containers, and how they are removed when a container will not let go of them.

    /run/wellhead/3f09c1a7be42          the folder: a socket's, or the files a fence mounts
    /run/wellhead/3f09c1a7be42.json     whose it is, so that the reaper can judge it after our death

A root host owns what it wants: it mounts a tmpfs of one MiB, gives it to the connector and removes it by itself. Any
other host shares the folder by group, and empties what it may not touch by a throw-away container of the same user.
"""

from __future__ import annotations

import ctypes
import json
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from wellhead.engine.client import Engine
from wellhead.engine.container import CONNECTOR_UID, SWEEPER, ContainerSpec, Labels, Mount, Resources
from wellhead.errors import Code, ConfigurationError

UNUSABLE = Code("WH-ENG-010", "The folder for sockets cannot be used.")
UNREMOVABLE = Code("WH-ENG-011", "A run's folder could not be removed.")

#: 108 bytes is the kernel's limit for the name of a socket; a folder must leave room for the socket's own name.
MAX_PATH = 100
SOCKET_NAME = "c.sock"
_TMPFS_OPTIONS = f"size=1m,nr_inodes=64,mode=0700,uid={CONNECTOR_UID},gid={CONNECTOR_UID}"
_NOSUID_NODEV_NOEXEC = 2 | 4 | 8
_DETACH = 2
#: The throw-away container runs this in the folder's place; Python is in every base of ours. Step by step and by short
#: names, since a hostile tree may be deeper than a path or a call stack may be long, and closed to its own owner.
_EMPTY = """
import os
os.chdir("/sweep")
above = []
while True:
    for entry in list(os.scandir(".")):
        if entry.is_dir(follow_symlinks=False):
            os.chmod(entry.name, 0o700)
            os.chdir(entry.name)
            above.append(entry.name)
            break
        os.unlink(entry.name)
    else:
        if not above:
            break
        os.chdir("..")
        os.rmdir(above.pop())
"""


@dataclass(frozen=True, slots=True)
class Folder:
    """One folder of one run; ``is_tmpfs`` where it has a file system of its own."""

    path: Path
    labels: Labels
    image_id: str | None
    is_tmpfs: bool

    @property
    def card(self) -> Path:
        """Return the file beside it that says whose it is."""
        return _card(self.path)


def default_root() -> Path:
    """Return where folders of this user belong: /run/wellhead for root, else below $XDG_RUNTIME_DIR or /tmp."""
    if os.geteuid() == 0:
        return Path("/run/wellhead")
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    return Path(runtime) / "wellhead" if runtime else Path(f"/tmp/wellhead-{os.geteuid()}")  # noqa: S108 - checked below


def prepare_root(root: Path) -> None:
    """Make ``root``, or refuse one that another user could have planted.

    Raises:
        ConfigurationError: it cannot be made, belongs to somebody else, others may write in it, or its path leaves no
            room for a socket (WH-ENG-010).
    """
    if len(os.fsencode(root)) + 1 + 12 + 1 + len(SOCKET_NAME) > MAX_PATH:
        raise _unusable(root, f"its path is longer than sockets allow ({MAX_PATH} bytes in all)")
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        is_private = _is_private(root)
    except OSError as exc:
        raise _unusable(root, exc.strerror or str(exc)) from exc
    if not is_private:
        raise _unusable(root, "it is not a folder of this user that nobody else may write in")


def _is_private(root: Path) -> bool:
    found = root.lstat()
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o022


def _unusable(root: Path, why: str) -> ConfigurationError:
    return ConfigurationError(
        f"{root} cannot hold sockets: {why}", code=UNUSABLE, hint="set XDG_RUNTIME_DIR to a short path of your own"
    )


@contextmanager
def socket_folder(engine: Engine, root: Path, labels: Labels, image_id: str) -> Iterator[Folder]:
    """Lend a folder in which one connector may make its socket, and remove it with whatever was put into it.

    Args:
        engine: for the throw-away container.
        root: prepared by `prepare_root`.
        labels: whose it is.
        image_id: what the throw-away container runs; it must have ``python3``.
    """
    path = _new(root, labels, image_id)
    is_tmpfs = False
    try:
        if os.geteuid() == 0:
            is_tmpfs = _mount_tmpfs(path)
            if not is_tmpfs:
                os.chown(path, CONNECTOR_UID, CONNECTOR_UID)
        else:
            # setgid: the socket gets our group, and the SDK's umask of 007 lets the group dial it.
            path.chmod(0o2770)
        yield Folder(path, labels, image_id, is_tmpfs)
    finally:
        remove(engine, Folder(path, labels, image_id, is_tmpfs))


@contextmanager
def file_folder(root: Path, labels: Labels) -> Iterator[Folder]:
    """Lend a folder for files that we write and containers only read; removed at the end."""
    path = _new(root, labels, None)
    folder = Folder(path, labels, None, is_tmpfs=False)
    try:
        yield folder
    finally:
        shutil.rmtree(path)
        folder.card.unlink(missing_ok=True)


def _new(root: Path, labels: Labels, image_id: str | None) -> Path:
    path = root / secrets.token_hex(6)
    # The card stands first: a folder without one could never be judged by the reaper.
    _card(path).write_text(json.dumps({"labels": labels.as_dict(), "image_id": image_id}))
    path.mkdir(mode=0o700)
    return path


def _card(path: Path) -> Path:
    return path.with_name(path.name + ".json")


def existing(root: Path) -> list[Folder]:
    """Return every folder under ``root`` that has a readable card; none where another user could have planted it.

    Whoever removes a folder runs the image its card names, with the folder mounted so that it can be written.
    """
    try:
        if not _is_private(root):
            return []
    except OSError:
        return []  # there is none
    folders = []
    for card in sorted(root.glob("*.json")):
        try:
            written = json.loads(card.read_text())
            labels = Labels.from_dict(written["labels"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            # Half written by a process that died, or gone since: its folder was not made yet, or is somebody's work.
            continue
        path = card.with_suffix("")
        if labels is not None and _may_be_ours(path):
            folders.append(Folder(path, labels, written.get("image_id"), path.is_mount()))
    return folders


def _may_be_ours(path: Path) -> bool:
    """Say whether ``path`` is a folder that a run made, or was one; a link would lead whoever removes it elsewhere."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return True  # its card is left to remove
    # A root host has given it to its connector.
    return stat.S_ISDIR(found.st_mode) and found.st_uid in (os.geteuid(), CONNECTOR_UID)


def remove(engine: Engine, folder: Folder) -> None:
    """Remove a folder, its file system and its card; nothing happens if it is gone.

    Raises:
        ConfigurationError: something in it could not be removed, not even by a container (WH-ENG-011).
    """
    if folder.is_tmpfs:
        _unmount(folder.path)
    try:
        shutil.rmtree(folder.path)
    except FileNotFoundError:
        pass
    except (OSError, RecursionError):
        _sweep(engine, folder)
        shutil.rmtree(folder.path, ignore_errors=True)
    if folder.path.exists():
        raise ConfigurationError(
            f"{folder.path} could not be removed",
            code=UNREMOVABLE,
            hint=f"remove it as root: rm -r {folder.path} {folder.card}",
        )
    folder.card.unlink(missing_ok=True)


def _sweep(engine: Engine, folder: Folder) -> None:
    """Empty the folder as the user that filled it."""
    if folder.image_id is None or not engine.image_exists(folder.image_id):
        return
    container = engine.create(
        ContainerSpec(
            name=f"wh-sweep-{folder.path.name}",
            image_id=folder.image_id,
            labels=replace(folder.labels, role=SWEEPER),
            entrypoint=("python3", "-I", "-c", _EMPTY),
            mounts=(Mount(folder.path, "/sweep", read_only=False),),
            groups=(os.getegid(),),
            resources=Resources(memory_mib=64, pids=16, tmp_mib=1, log_mib=1),
        )
    )
    try:
        container.start()
        container.wait(30.0)
    finally:
        container.remove()


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _mount_tmpfs(path: Path) -> bool:
    """Say whether a tmpfs could be mounted; root in a container often may not."""
    done = _libc().mount(b"tmpfs", os.fsencode(path), b"tmpfs", _NOSUID_NODEV_NOEXEC, _TMPFS_OPTIONS.encode())
    return int(done) == 0


def _unmount(path: Path) -> None:
    # Detached: a container that still runs keeps its own view until it is gone, and we need not wait for it.
    _libc().umount2(os.fsencode(path), _DETACH)
