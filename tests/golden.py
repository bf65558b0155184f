"""Golden files: what a test made, compared with the file of that name in the folder `golden/` beside the test.

`make golden` (pytest --golden=rewrite) writes them anew; the difference is then read in review. Such a run fails the
tests whose files it changed, so that a rewrite is never mistaken for a green run.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True, slots=True)
class Golden:
    """The golden files of one test module."""

    folder: Path
    rewrite: bool

    def check(self, name: str, made: str | bytes) -> None:
        """Fail the test unless the file ``name`` holds exactly ``made``; text is compared as UTF-8."""
        file = self.folder / name
        wanted = file.read_bytes() if file.exists() else None
        got = made.encode() if isinstance(made, str) else made
        if got == wanted:
            return
        if self.rewrite:
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(got)
            pytest.fail(f"{file} was rewritten: read the difference")
        if isinstance(made, str) and wanted is not None:
            assert made == wanted.decode()
        pytest.fail(f"{file} does not hold what was made; if that is meant, make golden")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--golden=rewrite`."""
    parser.addoption(
        "--golden", choices=["compare", "rewrite"], default="compare", help="compare or rewrite golden files"
    )


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Golden:
    """The golden files beside the test."""
    return Golden(request.path.parent / "golden", request.config.getoption("golden") == "rewrite")
