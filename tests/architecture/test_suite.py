"""The suite's own shape: every test runs in exactly one slice of `make test`."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture.source import ROOT

MARKS = ("slow", "real", "chaos", "e2e", "engines")
COMBINATIONS = [dict(zip(MARKS, values, strict=True)) for values in itertools.product([True, False], repeat=len(MARKS))]


def slices() -> dict[str, str]:
    makefile = (ROOT / "Makefile").read_text()
    return dict(re.findall(r"^(UNIT|SLOW|REAL|CHAOS|E2E)\s*:= (.*)$", makefile, re.MULTILINE))


@pytest.mark.parametrize(
    "marks", COMBINATIONS, ids=lambda marks: "+".join(name for name in marks if marks[name]) or "none"
)
def test_a_test_is_in_exactly_one_slice_whatever_its_marks(marks: dict[str, bool]) -> None:
    chosen = [name for name, expression in slices().items() if eval(expression, {}, dict(marks))]
    assert len(chosen) == 1


def test_make_test_runs_every_slice() -> None:
    script = (ROOT / "scripts" / "test.sh").read_text()
    assert "for slice in check test-unit test-slow test-real test-chaos test-e2e; do" in script
    makefile = (ROOT / "Makefile").read_text()
    start = r"@(?:scripts/in-memory\.sh )?\$\(PYTEST\)"
    for name in slices():
        assert re.search(rf"^test-{name.lower()}: .*\n\t{start} .*-m '\$\({name}\)'$", makefile, re.MULTILINE)


def _run_suite(folder: Path, source: str) -> subprocess.CompletedProcess[str]:
    (folder / "conftest.py").write_text('pytest_plugins = ("tests.strictness",)\n')
    (folder / "test_it.py").write_text(source)
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:randomly", "-p", "no:cacheprovider", str(folder)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "source",
    [
        "import pytest\ndef test_it():\n    getattr(pytest, 'sk' 'ip')('no server')\n",
        "import pytest\ngetattr(pytest, 'sk' 'ip')('no server', allow_module_level=True)\n",
        "import pytest\n@getattr(pytest.mark, 'x' 'fail')\ndef test_it():\n    assert False\n",
    ],
    ids=["in a test", "a module", "an expected failure"],
)
def test_a_skip_is_a_failure(tmp_path: Path, source: str) -> None:
    ran = _run_suite(tmp_path, source)
    assert ran.returncode != 0
    assert "tests of this project are not skipped" in ran.stdout


@pytest.mark.slow
def test_a_test_that_runs_is_left_alone(tmp_path: Path) -> None:
    assert _run_suite(tmp_path, "def test_it():\n    assert True\n").returncode == 0
