"""SIGKILL before every durable step of replacing a table: readers see one generation, and the work can be finished."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """One result a step that was killed, the last one killed nowhere."""
    script = Path(__file__).parent / "crash.py"
    folder = tmp_path_factory.mktemp("crash")
    done = subprocess.run([sys.executable, script, folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_every_step_was_tried(results: list[dict[str, Any]]) -> None:
    killed = [result["ends"][1] for result in results]
    assert len(killed) > 30
    assert set(killed[:-1]) == {-9}
    assert killed[-1] == 0


def test_readers_never_see_half_a_generation(results: list[dict[str, Any]]) -> None:
    seen = {tuple(names) for result in results for names in result["seen"]}
    assert seen == {("1", "1"), ("2", "2")}


def test_the_work_is_always_finished_by_a_later_run(results: list[dict[str, Any]]) -> None:
    assert {result["ends"][3] for result in results} == {0}
    assert {tuple(result["table"]) for result in results} == {("2", "2")}


def test_nothing_but_the_old_generation_is_left(results: list[dict[str, Any]]) -> None:
    assert {tuple(result["left"]) for result in results} == {("old-2", "publish.lock")}


def test_running_again_changes_nothing(results: list[dict[str, Any]]) -> None:
    assert {result["repeated"] for result in results} == {0}
