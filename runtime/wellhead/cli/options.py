"""Options that several commands share, declared once."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from wellhead.errors import Code, UsageError

BAD_DURATION = Code("WH-CLI-101", "A duration cannot be understood.")

Config = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="wellhead.yaml to use; default: the nearest one above this folder."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Connection = Annotated[str, typer.Argument(metavar="CONNECTION", help="Name of a connection file.")]


def seconds(text: str) -> float:
    """Read a duration: a number above zero and s, m, h or d.

    Raises:
        UsageError: WH-CLI-101.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text)
    if found is None or float(found[1]) == 0:
        raise UsageError(
            f"{text!r} is no duration", code=BAD_DURATION, hint="write a number and s, m, h or d, such as 90s or 2h"
        )
    return float(found[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86_400}[found[2]]
