"""The product as its users have it: the command line in a project folder, and what ``run --json`` says of itself."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.harness.compare import Sample

#: Where the data flows; everything else a run reports is start-up and end.
DATA_STEP = "read"


class FailedRunError(Exception):
    """A command ended otherwise than it should; the text is what it said."""


def wellhead(project: Path, *arguments: str) -> str:
    """Run one command in ``project`` and return its standard output.

    Raises:
        FailedRunError: its exit code is not 0.
    """
    done = subprocess.run(
        [Path(sys.executable).with_name("wellhead"), *arguments],
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise FailedRunError(f"wellhead {' '.join(arguments)}: exit {done.returncode}\n{done.stderr}\n{done.stdout}")
    return done.stdout


def full_refresh(project: Path, connection: str) -> Sample:
    """Read a connection anew; the time is that of the data's way from source to published table."""
    document: Mapping[str, Any] = json.loads(wellhead(project, "run", connection, "--full-refresh", "--json"))
    if document["status"] != "succeeded":
        raise FailedRunError(f"{connection}: {document['status']}: {document['error']}")
    timings = document["timings"]
    streams: Sequence[Mapping[str, Any]] = document["streams"]
    return Sample(timings[DATA_STEP], sum(stream["rows"] for stream in streams), {"timings": timings})
