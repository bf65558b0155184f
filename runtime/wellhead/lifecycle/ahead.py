"""Imports that a run needs only once its connector is there, made while the Engine starts the run's first container.

Arrow, gRPC and what rests on them take as long to import as a container takes to start; on two processors the one hides
the other. So no step before ``fence`` imports them, and `lifecycle.run` names the steps after ``launch`` where it calls
them. Where there is a gateway they are imported behind it, and the connector then has both processors to itself.
"""

from __future__ import annotations

import importlib
import os

#: In the order they are needed; each brings what it rests on.
LATER_STEPS = ("wellhead.session.client", "wellhead.lifecycle.discover", "wellhead.lifecycle.stream")


def import_later_steps() -> None:
    """Import what reading needs; at once where it is there already."""
    # Read once, when Arrow is imported. Its own allocators keep what was freed for later: 35 MiB more at the peak of a
    # long read, and no time less.
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    for module in LATER_STEPS:
        importlib.import_module(module)
