"""Things left where they must not be: in the folder of the socket, and in its place."""

from __future__ import annotations

import os
import socket as sockets
import threading
import time
from pathlib import Path

from wellhead_hostile import floods, frames

ENGINE = "/var/run/docker.sock"


def link_to_engine(socket: Path) -> None:
    """Offer the Engine's own socket as ours: a host that follows would talk to it, or hand it the secrets."""
    socket.symlink_to(ENGINE)
    frames.forever()


def link_to_neighbour(socket: Path) -> None:
    """Offer another run's socket as ours."""
    socket.symlink_to("../neighbour/c.sock")
    frames.forever()


def file(socket: Path) -> None:
    """Leave a plain file where the socket is expected."""
    socket.write_bytes(b"not a socket")
    frames.forever()


def pipe(socket: Path) -> None:
    """Leave a named pipe: whoever opens it for writing hangs."""
    os.mkfifo(socket)
    frames.forever()


def deaf_socket(socket: Path) -> None:
    """Bind a socket and never listen on it."""
    line = sockets.socket(sockets.AF_UNIX)
    line.bind(str(socket))
    frames.forever()


def swap(socket: Path) -> None:
    """Serve honestly first, then put a link to the Engine into the socket's place."""

    def exchange() -> None:
        # After the host has dialled: a host that dials the path again is led astray.
        time.sleep(0.3)
        socket.unlink()
        socket.symlink_to(ENGINE)

    threading.Thread(target=exchange, daemon=True).start()


def neighbour_files(socket: Path) -> None:
    """Leave a file beside the socket: local state for the next run to find."""
    (socket.parent / "state.db").write_bytes(b"remember me")


def flood(socket: Path) -> None:
    """Fill the folder of the socket."""
    floods.fill(socket.parent, 1024 * 1024 * 1024)


def locked_folder(socket: Path) -> None:
    """Leave a folder that only we may open: the host must still be able to clean up."""
    inner = socket.parent / "locked" / "deeper"
    inner.mkdir(parents=True)
    (inner / "file").write_bytes(b"x")
    inner.chmod(0)
    inner.parent.chmod(0)
