"""Every command of every guide is run, in order, in a project of its own, and does what the guide says.

A guide's fences mean:

    yaml, toml, python   whose first line is `# PATH`: that file is written
    console              each `$ COMMAND` is run by a shell and must end with 0, or with N where `# exit N` follows it;
                         each line below it must be found in what it printed
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.project import CONNECTORS, FIXTURES, WELLHEAD, Project

pytestmark = [pytest.mark.e2e, pytest.mark.real]

GUIDES = sorted((CONNECTORS.parent / "docs" / "guides").glob("*.md"))
_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(slots=True)
class Step:
    """One command of a guide, and what the guide says about it."""

    command: str
    exit_code: int = 0
    said: list[str] = field(default_factory=list)


def steps(text: str) -> Iterator[Step]:
    step: Step | None = None
    for line in text.splitlines():
        if line.startswith("$ "):
            if step is not None:
                yield step
            command, _, code = line[2:].partition("  # exit ")
            step = Step(command, int(code or 0))
        elif step is not None and line.strip():
            step.said.append(line.strip())
    if step is not None:
        yield step


def follow(guide: Path, project: Project) -> int:
    """Do what a guide says in a project; return how many commands were run."""
    environment = {**os.environ, "NO_COLOR": "1", "PATH": f"{WELLHEAD.parent}:{os.environ['PATH']}", "COLUMNS": "200"}
    count = 0
    for kind, text in _FENCE.findall(guide.read_text()):
        if kind in ("yaml", "toml", "python") and text.startswith("# "):
            file = project.root / text.splitlines()[0][2:]
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        for step in steps(text) if kind == "console" else ():
            count += 1
            done = subprocess.run(
                ["bash", "-c", step.command],
                cwd=project.root,
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
                timeout=110,
            )
            told = f"$ {step.command}\nexit {done.returncode}\n{done.stdout}\n{done.stderr}"
            assert done.returncode == step.exit_code, told
            printed = " ".join((done.stdout + done.stderr).split())
            for line in step.said:
                assert " ".join(line.split()) in printed, f"{line!r} is not in\n{told}"
    return count


@pytest.mark.timeout(600)
@pytest.mark.parametrize("guide", GUIDES, ids=lambda guide: str(guide.stem))
def test_a_guide_does_what_it_says(guide: Path, project: Project) -> None:
    folder = project.root / "connectors"
    folder.mkdir()
    for source in (*CONNECTORS.iterdir(), FIXTURES / "generator"):
        (folder / source.name).symlink_to(source)
    # Two guides may give the same version to different bytes.
    project.own_store()
    assert follow(guide, project) > 0


@pytest.mark.parametrize(
    "text",
    ["```console\n$ true  # exit 1\n```\n", "```console\n$ false\n```\n", "```console\n$ echo one\ntwo\n```\n"],
    ids=["another exit code", "a failure", "other words"],
)
def test_a_guide_that_says_something_else_is_noticed(text: str, tmp_path: Path) -> None:
    guide = tmp_path / "guide.md"
    guide.write_text(text)
    with pytest.raises(AssertionError):
        follow(guide, Project(tmp_path))
