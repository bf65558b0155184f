"""Named places at which a test may kill the host.

Crash safety is a promise about places, so the places have names. Nothing happens unless ``WELLHEAD_FAILPOINT`` is set:
``NAME`` kills at the first time the place is reached, ``NAME:3`` at the third. The kill is SIGKILL, so no handler, no
``finally`` and no buffered write gets a chance, exactly as with a power cut of the process.
"""

from __future__ import annotations

import os
import signal
import threading

VARIABLE = "WELLHEAD_FAILPOINT"

#: Every place, in the order a run passes them.
NAMES = (
    "accessor_stored",
    "lease_issued",
    "network_made",
    "container_started",
    "mid_batch",
    "segment_fsynced",
    "in_transaction",
    "committed",
    "checkpoint_sent",
    "file_renamed",
    "generation_swapped",
    "token_revoked",
)

_lock = threading.Lock()
_reached: dict[str, int] = {}


def reach(name: str) -> None:
    """Die here if a test asked for it; otherwise do nothing."""
    wanted = os.environ.get(VARIABLE)
    if not wanted:
        return
    place, _, count = wanted.partition(":")
    if place != name:
        return
    with _lock:
        _reached[name] = _reached.get(name, 0) + 1
        if _reached[name] == int(count or 1):
            os.kill(os.getpid(), signal.SIGKILL)
