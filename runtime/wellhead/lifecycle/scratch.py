"""A folder for what is read and thrown away again: gone when its owner leaves it, or is dead and somebody else looks.

    .wellhead/scratch/
        3f09c1a7be42          what a source holds: for this user alone
        3f09c1a7be42.lock     held by the owner as long as it lives; falls with its process

Nothing here knows what is kept in it.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_LOCK = ".lock"


@contextmanager
def scratch(folder: Path) -> Iterator[Path]:
    """Lend a fresh folder under ``folder`` and remove it with all that is in it; those of dead owners go first."""
    sweep(folder)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / secrets.token_hex(6)
    descriptor = _locked(path)
    try:
        path.mkdir(mode=0o700)
        yield path
    finally:
        _remove(path)
        os.close(descriptor)


def sweep(folder: Path) -> tuple[Path, ...]:
    """Remove the folders whose owner is dead, and return them."""
    gone = []
    for lock in sorted(folder.glob(f"*{_LOCK}")):
        path = lock.with_suffix("")
        try:
            descriptor = os.open(lock, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            # Its owner, or another sweep, was faster.
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        else:
            _remove(path)
            gone.append(path)
        finally:
            os.close(descriptor)
    return tuple(gone)


def _locked(path: Path) -> int:
    lock = path.with_suffix(_LOCK)
    while True:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        # Between opening and locking it a sweep may have taken it for a dead one's, and removed it.
        if lock.exists() and lock.stat().st_ino == os.fstat(descriptor).st_ino:
            return descriptor
        os.close(descriptor)


def _remove(path: Path) -> None:
    if path.exists():
        shutil.rmtree(path)
    path.with_suffix(_LOCK).unlink(missing_ok=True)
