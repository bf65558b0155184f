"""The product as its users have it: the command line in a project folder, and what ``run --json`` says of itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from bench.harness.compare import Sample
from tests.project import MEASURED

#: Where the data flows; everything else a run reports is start-up and end.
DATA_STEP = "read"


class FailedRunError(Exception):
    """A command ended otherwise than it should; the text is what it said."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call of the command line: what it wrote, how long its process lived, and the most memory it held."""

    stdout: str
    wall_s: float
    peak_memory_mib: int


def wellhead(project: Path, *arguments: str) -> Call:
    """Run one command in ``project``.

    Raises:
        FailedRunError: its exit code is not 0.
    """
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr, tempfile.TemporaryFile() as report:
        program = Path(sys.executable).with_name("wellhead")
        # Started by a small process: a child's peak begins at that of its parent, and this one has held whole tables.
        command = [sys.executable, "-IS", str(MEASURED), str(report.fileno()), str(program), *arguments]
        began = time.perf_counter()
        subprocess.run(command, cwd=project, stdout=stdout, stderr=stderr, pass_fds=[report.fileno()], check=True)
        wall_s = time.perf_counter() - began
        said = [_text(file) for file in (stdout, stderr)]
        status, peak_kib = map(int, _text(report).split())
    code = os.waitstatus_to_exitcode(status)
    if code:
        raise FailedRunError(f"wellhead {' '.join(arguments)}: exit {code}\n{said[1]}\n{said[0]}")
    return Call(said[0], wall_s, peak_kib // 1024)


def documents(text: str) -> list[dict[str, Any]]:
    """Return the documents a command listed with ``--json``."""
    found: list[dict[str, Any]] = json.loads(text)
    return found


def full_refresh(project: Path, connection: str) -> Sample:
    """Read a connection anew; the time is that of the data's way from source to published table."""
    call, document = _run(project, connection)
    return Sample(document["timings"][DATA_STEP], _rows(document), _details(call, document))


def whole_run(project: Path, connection: str) -> Sample:
    """Read a connection anew; the time is that of the whole process, from its start to its end."""
    call, document = _run(project, connection)
    return Sample(call.wall_s, _rows(document), _details(call, document))


def _run(project: Path, connection: str) -> tuple[Call, Mapping[str, Any]]:
    call = wellhead(project, "run", connection, "--full-refresh", "--json", "--quiet")
    document: Mapping[str, Any] = json.loads(call.stdout)
    if document["status"] != "succeeded":
        raise FailedRunError(f"{connection}: {document['status']}: {document['error']}")
    return call, document


def _rows(document: Mapping[str, Any]) -> int:
    streams: Sequence[Mapping[str, Any]] = document["streams"]
    return sum(stream["rows"] for stream in streams)


def _details(call: Call, document: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "wall_s": round(call.wall_s, 3),
        "peak_memory_mib": call.peak_memory_mib,
        "timings": {step: round(seconds, 3) for step, seconds in document["timings"].items()},
    }


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")
