"""What the tests say of a command's memory is the command's own."""

from __future__ import annotations

import subprocess
import sys
import tempfile

from tests.project import MEASURED


def test_the_peak_of_a_command_is_not_the_peak_of_its_test() -> None:
    ballast = b"x" * (200 << 20)
    with tempfile.TemporaryFile() as report:
        command: list[str] = [sys.executable, "-IS", str(MEASURED), str(report.fileno()), "/bin/sh", "-c", "exit 3"]
        subprocess.run(command, pass_fds=[report.fileno()], check=True)
        report.seek(0)
        status, peak_kib = map(int, report.read().split())
    assert status >> 8 == 3
    assert peak_kib << 10 < len(ballast) // 2
