"""Imports that a run needs only once its connector is there, made while the Engine starts it.

Arrow, gRPC and what rests on them take as long to import as a container takes to start; on two processors the one hides
the other. So no step before ``launch`` imports them, and `lifecycle.run` names the steps after it where it calls them.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager

#: In the order they are needed; each brings what it rests on.
NEEDED_LATER = ("wellhead.session.client", "wellhead.lifecycle.discover", "wellhead.lifecycle.stream")


@contextmanager
def imported_meanwhile(modules: tuple[str, ...] = NEEDED_LATER) -> Iterator[None]:
    """Import ``modules`` in a thread while the block runs; they are there when it ends.

    One that cannot be imported says so where it is imported next, in the step that needs it.
    """
    thread = threading.Thread(target=_import, args=(modules,), name="imports", daemon=True)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def _import(modules: tuple[str, ...]) -> None:
    for module in modules:
        try:
            importlib.import_module(module)
        except ImportError:
            return
