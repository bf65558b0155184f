"""Giving a file that people read other content: all of it or none, and where the file really is.

A trust.yaml or a connection that several projects share is often a link. Renaming a new file over the link would leave
what the others read as it was, and a key that was revoked here would still be trusted there.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from wellhead.errors import Code, ConfigurationError, Place

#: Of a file that is not there yet; mkstemp's own mode would keep it from everybody else.
MODE = 0o644


def target(file: Path) -> Path:
    """Return where a file that is to be replaced really is; it need not be there yet.

    Raises:
        OSError: something else than a regular file stands there. Who may rename over a device, as root may over
            /dev/null, takes it from every process of the machine.
    """
    real = Path(os.path.realpath(file))
    if real.exists() and not real.is_file():
        raise OSError(errno.EPERM, "it is no regular file", str(file))
    return real


@contextmanager
def exclusive(file: Path, unwritable: Code) -> Iterator[None]:
    """Let one process at a time change ``file``, so that what it read in the block is what it replaces.

    The lock is on the folder of what the file really is: it leaves nothing beside it, and the kernel drops it when its
    holder dies.

    Raises:
        ConfigurationError: that folder is missing or may not be read.
    """
    try:
        folder = os.open(Path(os.path.realpath(file)).parent, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as exc:
        raise _refused(file, unwritable, exc) from exc
    try:
        try:
            _lock(folder)
        except OSError as exc:
            raise _refused(file, unwritable, exc) from exc
        yield
    finally:
        os.close(folder)


#: How a file system says that its folders cannot be locked.
_NO_LOCKS = (errno.EBADF, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


def _lock(folder: int) -> None:
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
    except OSError as exc:
        # NFS has no lock of a folder. Of two changes at once one can be lost there; to refuse both would be worse.
        if exc.errno not in _NO_LOCKS:
            raise


def write(file: Path, content: bytes, unwritable: Code) -> None:
    """Put ``content`` in the place of what ``file``, or what it is a link to, holds; the mode stays.

    Whoever reads meanwhile reads the old content or the new. A link to nothing gets its target.

    Args:
        file: what people call it.
        content: all that it is to hold.
        unwritable: the code of the error.

    Raises:
        ConfigurationError: the folder of the target is missing or may not be written, or the target is no regular file;
            nothing was changed.
    """
    try:
        _put(target(file), content)
    except OSError as exc:
        raise _refused(file, unwritable, exc) from exc


def _refused(file: Path, unwritable: Code, exc: OSError) -> ConfigurationError:
    return ConfigurationError(
        f"cannot write {file}: {exc.strerror}",
        code=unwritable,
        hint="check that its folder is there and may be read and written",
        place=Place(str(file)),
    )


def _put(real: Path, content: bytes) -> None:
    mode = stat.S_IMODE(real.stat().st_mode) if real.exists() else MODE
    handle, name = tempfile.mkstemp(prefix=".new-", dir=real.parent)
    scratch = Path(name)
    try:
        with os.fdopen(handle, "wb") as out:
            os.fchmod(out.fileno(), mode)
            out.write(content)
            out.flush()
            os.fsync(out.fileno())
        scratch.rename(real)
    finally:
        scratch.unlink(missing_ok=True)
