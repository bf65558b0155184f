"""Named places at which a test may kill the host."""

from __future__ import annotations

import re
import signal
import subprocess
import sys

import pytest

from tests.parts import ROOT
from wellhead import failpoints

_REACH_TWICE = """
from wellhead import failpoints
failpoints.reach("committed")
print("one", flush=True)
failpoints.reach("committed")
print("two")
"""


@pytest.mark.parametrize(
    ("wanted", "said", "code"),
    [
        ("", "one\ntwo\n", 0),
        ("mid_batch", "one\ntwo\n", 0),
        ("committed", "", -signal.SIGKILL),
        ("committed:2", "one\n", -signal.SIGKILL),
    ],
)
def test_a_process_dies_at_the_place_and_time_that_was_asked_for(wanted: str, said: str, code: int) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", _REACH_TWICE],
        env={failpoints.VARIABLE: wanted, "PYTHONPATH": str(ROOT / "runtime")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.stdout, ended.returncode) == (said, code)


def test_every_place_is_passed_by_the_program_and_no_other() -> None:
    sources = (ROOT / "runtime" / "wellhead").rglob("*.py")
    reached = {name for source in sources for name in re.findall(r'failpoints\.reach\("(\w+)"\)', source.read_text())}
    assert reached == set(failpoints.NAMES)
