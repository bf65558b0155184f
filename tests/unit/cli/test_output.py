"""Tables: whole lines for files and programs, and an id that can be copied on a narrow terminal."""

from __future__ import annotations

import errno
import io
import os
import sys

import pytest
from rich.console import Console

from wellhead.cli import output
from wellhead.cli.run import Display, _tell
from wellhead.lifecycle.report import Report, Status
from wellhead.telemetry.logs import Level

ID = "01KAJ5XWM3P0S3V6Q8R2T4Y7ZB"
ROW = (ID, "a-connection-with-a-long-name", "a sentence that is longer than any terminal of eighty columns is wide")


def _printed(monkeypatch: pytest.MonkeyPatch, *, is_terminal: bool) -> list[str]:
    out = io.StringIO()
    console = Console(
        file=out,
        width=60,
        force_terminal=is_terminal,
        no_color=True,
        highlight=False,
        soft_wrap=True,
        legacy_windows=False,
    )
    monkeypatch.setattr(output, "console", lambda: console)
    output.print_table("", ("run", "connection", "why"), [ROW], empty="")
    return out.getvalue().splitlines()


def test_a_line_for_a_file_is_never_folded(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = _printed(monkeypatch, is_terminal=False)
    assert len(lines) == 2
    assert all(cell in lines[1] for cell in ROW)


def test_an_id_is_whole_on_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = _printed(monkeypatch, is_terminal=True)
    assert len(lines) > 2
    assert any(ID in line for line in lines)
    assert not any(ROW[2] in line for line in lines)


class Gone(io.StringIO):
    """A pipe nobody reads any more."""

    def write(self, text: str) -> int:
        raise BrokenPipeError(errno.EPIPE, text)


def test_a_reader_who_went_away_ends_neither_the_run_nor_standard_output(monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[object] = []
    monkeypatch.setattr(os, "dup2", lambda *arguments: closed.append(arguments))
    monkeypatch.setattr(sys, "stderr", Gone())
    display = Display(quiet=False, verbose=True)
    display.step("claim")
    display.line(Level.INFO, "said")
    with pytest.raises(BrokenPipeError):
        output.stderr().print("said")
    assert closed == []


def test_a_person_is_told_what_is_missing_in_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    report = Report("r1", None, "flights", Status.SUCCEEDED, 0, log_loss="2 lines could not be written")
    _tell(report, as_json=False)
    assert "2 lines could not be written" in capsys.readouterr().out
