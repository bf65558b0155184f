"""A connector as a process: socket, signals, and an end when nobody listens.

if __name__ == "__main__":
    serve(Orders)
"""

from __future__ import annotations

import hashlib
import os
import re
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wellhead_sdk.connector import Connector
    from wellhead_sdk.server import Release

DEFAULT_SOCKET = "/run/wellhead/c.sock"
DEFAULT_MANIFEST = "/wellhead/manifest.yaml"
#: Without an RPC for this long nobody is there any more.
IDLE_EXIT_S = 30.0
#: How long SIGTERM lets open reads drain.
TERM_GRACE_S = 5.0


def serve(connector: type[Connector]) -> None:
    """Serve one run of ``connector`` and return when it is over: SIGTERM, SIGINT, or 30 s without an RPC.

    The socket is ``$WELLHEAD_SOCKET``, /run/wellhead/c.sock by default; the release is read from
    ``$WELLHEAD_MANIFEST``, /wellhead/manifest.yaml by default.

    Raises:
        SystemExit: the manifest is missing or does not say which release this is.
    """
    from wellhead_sdk.server import Server

    release = read_release(Path(os.environ.get("WELLHEAD_MANIFEST", DEFAULT_MANIFEST)))
    socket = Path(os.environ.get("WELLHEAD_SOCKET", DEFAULT_SOCKET))
    over = threading.Event()
    # As PID 1 a process has no default action for SIGTERM: without a handler a stop would always end in SIGKILL.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: over.set())
    os.umask(0o007)
    with Server(connector(), release, socket) as server:
        while not over.wait(1.0):
            if server.idle_s() >= IDLE_EXIT_S:
                sys.stderr.write(f"no RPC for {IDLE_EXIT_S:g} s: the host is gone\n")
                break
        server.stop(TERM_GRACE_S)


def read_release(manifest: Path) -> Release:
    """Return what ``manifest`` says it is, and the hash of its bytes.

    Raises:
        SystemExit: the file is missing, or its ``metadata`` has no plain ``id`` and ``version``.
    """
    from wellhead_sdk.server import Release

    try:
        content = manifest.read_bytes()
    except OSError as exc:
        raise SystemExit(f"{manifest}: {exc.strerror}; a connector image holds its manifest.yaml there") from exc
    found = {name: _scalar(content.decode(errors="replace"), name) for name in ("id", "version")}
    missing = [name for name, value in found.items() if not value]
    if missing:
        raise SystemExit(f"{manifest}: metadata.{missing[0]} is not a plain value on a line of its own")
    return Release(found["id"], found["version"], hashlib.sha256(content).hexdigest())


# Two plain values of a block mapping do not earn an image a YAML library: it would cost every start its import. What
# this does not understand it refuses, and the host compares the outcome with the signed manifest anyway.
def _scalar(text: str, name: str) -> str:
    block = re.search(r"^metadata:[ \t]*(?:#.*)?\n((?:[ \t]+.*\n|[ \t]*(?:#.*)?\n)*)", text + "\n", re.MULTILINE)
    if block is None:
        return ""
    indent = re.search(r"^( +)[^\s#]", block.group(1), re.MULTILINE)
    if indent is None:
        return ""
    value = re.search(
        rf"^{indent.group(1)}{name}:[ \t]+(?:\"([^\"\\]+)\"|'([^']+)'|([^\s\"'#{{\[&*!|>][^\s#]*))[ \t]*(?:#.*)?$",
        block.group(1),
        re.MULTILINE,
    )
    return next(filter(None, value.groups()), "") if value else ""
