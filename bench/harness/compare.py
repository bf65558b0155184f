"""Ways of doing one thing, measured in turn, and written down with the machine they ran on.

Absolute times belong to one machine on one day; what is quoted is the ratio to the baseline, taken in the same rounds.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "bench" / "results"
#: Versions that move figures.
_LIBRARIES = ("grpcio", "protobuf", "pyarrow", "polars")


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, and the least that was promised: by ratio to the baseline, by rows a second, or by the clock."""

    name: str
    text: str
    rows: int
    seed: int
    goal: float | None = None
    goal_rows_per_s: float | None = None
    goal_s: float | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """One measured round: how long it took, how many rows it wrote, and what else it found."""

    seconds: float
    rows: int
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Way:
    """One way of doing it; ``run`` does it once and measures itself, so that preparation is not in the time."""

    name: str
    run: Callable[[], Sample]


@dataclass(frozen=True, slots=True)
class Measured:
    """What a way came to over all rounds; ``ratio`` is its rows a second over the baseline's."""

    name: str
    seconds: tuple[float, ...]
    median_s: float
    rows_per_s: float
    ratio: float
    details: dict[str, Any]


class WrongCountError(Exception):
    """A way wrote another number of rows than the question has: its time means nothing."""


def compare(question: Question, baseline: Way, ways: Sequence[Way], rounds: int) -> list[Measured]:
    """Run every way ``rounds`` times, in turn, after one round that is thrown away.

    Raises:
        WrongCountError: a way lost or added rows.
    """
    samples: dict[str, list[Sample]] = {way.name: [] for way in (baseline, *ways)}
    for number in range(rounds + 1):
        for way in (baseline, *ways):
            sample = way.run()
            if sample.rows != question.rows:
                raise WrongCountError(f"{way.name} wrote {sample.rows} rows of {question.rows}")
            if number > 0:
                samples[way.name].append(sample)
    reference = statistics.median(sample.seconds for sample in samples[baseline.name])
    return [_measured(name, taken, reference, question) for name, taken in samples.items()]


def report(question: Question, measured: Sequence[Measured], rounds: int) -> Path:
    """Print the outcome and add it to today's results of this commit; return that file."""
    out = sys.stdout.write
    out(f"{question.text} ({question.rows:,} rows, seed {question.seed}, {rounds} rounds)\n")
    for one in measured:
        spread = f"{one.median_s:.2f} s of {min(one.seconds):.2f}-{max(one.seconds):.2f}"
        out(f"  {one.name:<44} {one.rows_per_s:11,.0f} rows/s  x{one.ratio:.2f}  ({spread}{_memory(one)})\n")
    for goal, shown in (
        (question.goal, "x{:.2f}"),
        (question.goal_rows_per_s, "{:,.0f} rows/s"),
        (question.goal_s, "{:.2f} s"),
    ):
        if goal is not None:
            out(f"  goal: {shown.format(goal)}\n")
    commit = _git("rev-parse", "--short=12", "HEAD")
    file = RESULTS / f"{datetime.now(UTC):%Y-%m-%d}-{commit}.json"
    known = json.loads(file.read_text()) if file.exists() else {}
    known[question.name] = {
        "question": asdict(question),
        "commit": commit,
        "uncommitted": bool(_git("status", "--porcelain", "--untracked-files=no")),
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "rounds": rounds,
        "measured": [asdict(one) for one in measured],
    }
    RESULTS.mkdir(exist_ok=True)
    file.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")
    return file


def machine() -> dict[str, Any]:
    """Return what of this machine moves figures; ``load`` is that of the last minute, other people's included."""
    cpu = next((line.split(":", 1)[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), "")
    memory = next((int(line.split()[1]) // 1024 for line in _lines("/proc/meminfo") if line.startswith("MemTotal")), 0)
    return {
        "cpu": cpu,
        "cpus": len(os.sched_getaffinity(0)),
        "memory_mib": memory,
        "kernel": platform.release().split("-")[0],
        "python": platform.python_version(),
        "load": os.getloadavg()[0],
        **{name: version(name) for name in _LIBRARIES},
    }


def _measured(name: str, taken: list[Sample], reference: float, question: Question) -> Measured:
    median = statistics.median(sample.seconds for sample in taken)
    nearest = min(taken, key=lambda sample: abs(sample.seconds - median))
    return Measured(
        name,
        tuple(round(sample.seconds, 4) for sample in taken),
        round(median, 4),
        round(question.rows / median, 1),
        round(reference / median, 3),
        nearest.details,
    )


def _memory(one: Measured) -> str:
    peak = one.details.get("peak_memory_mib")
    return "" if peak is None else f", {peak} MiB"


def _lines(file: str) -> list[str]:
    return Path(file).read_text().splitlines()


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()
