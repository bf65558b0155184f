"""Tables: whole lines for files and programs, and an id that can be copied on a narrow terminal."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from wellhead.cli import output

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
