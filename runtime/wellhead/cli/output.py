"""How results and errors look: the one place that renders.

rich is imported by what prints with it: a scheduler's ``run --json --quiet`` does not, and starts a moment sooner.
"""

from __future__ import annotations

import dataclasses
import errno
import getpass
import json
import os
import socket
import sys
from collections.abc import Sequence
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING, Any, NoReturn

from wellhead.errors import WellheadError

if TYPE_CHECKING:
    from rich.console import Console

#: Columns of a table that goes into a file or another program: no line is folded there.
WIDEST = 10_000


def console() -> Console:
    """Return the console of standard output; colour only on a terminal and without NO_COLOR."""
    from rich.console import Console

    return Console(file=sys.stdout, highlight=False, soft_wrap=True)


def stderr() -> Console:
    """Return the console of standard error; printing raises BrokenPipeError where nobody reads it any more.

    rich would end the program instead, from whatever thread has just told something, and close standard output too.
    """
    from rich.console import Console

    class Stderr(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))

    return Stderr(file=sys.stderr, highlight=False, soft_wrap=True)


def print_json(document: Any) -> None:
    """Write one JSON document and a newline to standard output."""
    sys.stdout.write(json.dumps(document, ensure_ascii=False, default=str, indent=None) + "\n")
    sys.stdout.flush()


def failure(error: WellheadError) -> dict[str, Any]:
    """Return the document of a command that failed; richer ones have these two fields too."""
    from wellhead.lifecycle.report import error_document, reported

    return {"exit_code": error.exit_code, "error": error_document(reported(error))}


def fail(document: dict[str, Any], error: WellheadError) -> NoReturn:
    """Print what a command found and its error as one document, tell the error as ever, and end with its exit code."""
    import typer

    print_json(document | failure(error))
    print_error(error)
    raise typer.Exit(error.exit_code) from error


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], *, empty: str) -> None:
    """Print rows under headings, or ``empty`` where there are none."""
    if not rows:
        console().print(empty, markup=False)
        return
    from rich.markup import escape
    from rich.measure import Measurement
    from rich.table import Table

    out = console()
    table = Table(title=title or None, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for number, column in enumerate(columns):
        # The first column is what the next command is given: an id cut in two cannot be copied.
        table.add_column(column, overflow="fold", no_wrap=number == 0 or not out.is_terminal)
    for row in rows:
        table.add_row(*("" if cell is None else escape(str(cell)) for cell in row))
    if not out.is_terminal:
        out.width = max(out.width, Measurement.get(out, out.options.update_width(WIDEST), table).maximum)
    out.print(table)


def print_error(error: WellheadError, run_id: str | None = None) -> None:
    """Tell what happened, where, and how to mend it."""
    print_problem(
        str(error.code),
        error.message,
        place=str(error.place) if error.place else None,
        details=error.details,
        hint=error.hint,
        run_id=run_id,
    )


def print_problem(
    code: str,
    message: str,
    *,
    place: str | None,
    details: Sequence[str] = (),
    hint: str | None,
    run_id: str | None = None,
) -> None:
    """Print an error from its parts, as `print_error` does."""
    from rich.markup import escape

    out = stderr()
    out.print(f"[bold red]{code}[/] {escape(message)}")
    if place and place not in message:
        out.print(f"  at    {escape(place)}")
    for detail in details:
        out.print(f"  -     {escape(detail)}")
    if hint:
        out.print(f"  mend  {escape(hint)}")
    if run_id:
        out.print(f"  run   {run_id}")


def is_terminal() -> bool:
    """Say whether a person watches standard error, so that a moving display makes sense."""
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb" and "CI" not in os.environ


def ask(question: str, *, yes: bool) -> bool:
    """Ask before something that cannot be undone; without a terminal only ``--yes`` says yes."""
    if yes:
        return True
    if not sys.stdin.isatty():
        return False
    return stderr().input(f"{question} [y/N] ").strip().lower() in ("y", "yes")


def moment(at: datetime | None) -> str:
    """Return a time as people read it: UTC, to the second."""
    return "" if at is None else at.strftime("%Y-%m-%d %H:%M:%SZ")


def who() -> str:
    """Return who gives an order here, for audit rows: user@machine."""
    return f"{getpass.getuser()}@{socket.gethostname().split('.')[0]}"


def plain(value: Any) -> Any:
    """Return dataclasses, enums, times and bytes as what JSON can hold; everything else unchanged."""
    match value:
        case Enum():
            return value.value
        case datetime():
            return value.isoformat()
        case bytes():
            return value.decode("utf-8", "backslashreplace")
        case dict():
            return {str(key): plain(item) for key, item in value.items()}
        case list() | tuple():
            return [plain(item) for item in value]
        case _ if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
        case _:
            return value
