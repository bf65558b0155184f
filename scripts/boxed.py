"""Run a program as root in a view of the machine in which it may write almost nowhere.

    scripts/boxed.py FOLDER PROGRAM [ARGUMENT...]

In a mount namespace of its own everything that is mounted is read-only but FOLDER, /run/wellhead (the folders that
runs share with their containers), /proc and /dev. The program keeps root's identity and the few capabilities that a
container of root's has; without CAP_SYS_ADMIN it can neither mount nor undo the view. Sockets can still be dialled:
what the Docker Engine does on its behalf is not held back.

Run it with any Python 3.11; it imports nothing of the project. Linux 5.12 or newer.
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

_RUN = Path("/run/wellhead")
_NEW_NAMESPACE = 0x20000
_BIND, _REC, _PRIVATE = 0x1000, 0x4000, 1 << 18
_MOUNT_SETATTR = 442  # one number on every architecture
_AT_FDCWD, _AT_RECURSIVE = -100, 0x8000
_READ_ONLY = 1
_BOUND_DROP = 24
# linux/capability.h: chown, dac_override, fowner, fsetid, kill, setgid, setuid, setpcap, net_bind_service, net_raw
_KEPT = frozenset({0, 1, 3, 4, 5, 6, 7, 8, 10, 13})


class _Attributes(ctypes.Structure):
    _fields_ = (
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    )


_libc = ctypes.CDLL(None, use_errno=True)


def _succeed(result: int, what: str) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), f"{os.strerror(ctypes.get_errno())}: {what}")


def _set(place: str, attributes: _Attributes) -> None:
    _succeed(
        _libc.syscall(
            _MOUNT_SETATTR,
            _AT_FDCWD,
            os.fsencode(place),
            _AT_RECURSIVE,
            ctypes.byref(attributes),
            ctypes.c_size_t(ctypes.sizeof(attributes)),
        ),
        f"mount_setattr {place}",
    )


def close(folder: str) -> None:
    """Leave the machine's mounts, make all but a few places read-only, and give up the power to undo it.

    Raises:
        OSError: not root, or a kernel before 5.12.
    """
    _succeed(_libc.unshare(_NEW_NAMESPACE), "unshare")
    _succeed(_libc.mount(None, b"/", None, _REC | _PRIVATE, None), "make / private")
    _RUN.mkdir(mode=0o700, exist_ok=True)
    for place in (folder, str(_RUN)):
        _succeed(_libc.mount(os.fsencode(place), os.fsencode(place), None, _BIND | _REC, None), f"bind {place}")
    _set("/", _Attributes(attr_set=_READ_ONLY))
    for place in (folder, str(_RUN), "/proc", "/dev"):
        _set(place, _Attributes(attr_clr=_READ_ONLY))
    last = int(Path("/proc/sys/kernel/cap_last_cap").read_text())
    for capability in sorted(set(range(last + 1)) - _KEPT):
        _succeed(_libc.prctl(_BOUND_DROP, capability, 0, 0, 0), f"drop capability {capability}")


if __name__ == "__main__":
    close(sys.argv[1])
    # The folder we stand in was opened before the view changed, and would be a way around it.
    os.chdir(os.getcwd())
    os.execvp(sys.argv[2], sys.argv[2:])
