"""Programs in processes of their own that start at once: forked from one that has imported what they import.

That one has imported and done nothing else, so a fork is as fresh as a new interpreter and knows nothing of the test.
What a start itself costs or needs is a matter for the tests that start an interpreter.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import sys
from collections.abc import Mapping, Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path

#: What the programs below spend their start on; a name that is missing here costs time and nothing else.
IMPORTED = (
    "tests.bare",
    "tests.warm",
    "google_crc32c",
    "grpc",
    "pyarrow.compute",
    "pyarrow.csv",
    "sqlalchemy.dialects.sqlite",
    "sqlite3",
    "wellhead.app",
    "wellhead.catalog.verify",
    "wellhead.cli.main",
    "wellhead.engine.client",
    "wellhead.images.store",
    "wellhead.lifecycle.run",
    "wellhead.registry.connections",
    "wellhead_csv_file.connector",
    "wellhead_generator.connector",
    "wellhead_http_json.connector",
    "wellhead_sdk.server",
)

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(list(IMPORTED))


def start(
    module: str, *arguments: str, env: Mapping[str, str], folder: Path, stdout: Path, stderr: Path
) -> ForkServerProcess:
    """Run ``python -m module arguments`` in ``folder``, in a session of its own, and append what it says to files."""
    child = _CONTEXT.Process(target=_run, args=(module, arguments, dict(env), folder, stdout, stderr))
    child.start()
    return child


def _run(module: str, arguments: Sequence[str], env: Mapping[str, str], folder: Path, *streams: Path) -> None:
    os.setsid()
    for number, file in enumerate(streams, 1):
        with file.open("ab") as to:
            os.dup2(to.fileno(), number)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(env)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
