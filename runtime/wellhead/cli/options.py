"""Options that several commands share, declared once."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from wellhead.errors import Code, UsageError

BAD_DURATION = Code("WH-CLI-101", "A duration cannot be understood.")
BAD_CHANNEL = Code("WH-CLI-103", "A channel cannot have that name.")
EMPTY = Code("WH-CLI-104", "An option was given without a value.")

#: A century: no duration of ours is meant to be longer, and no date is further away than the calendar goes.
LONGEST_S = 36_500 * 86_400.0

Config = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="wellhead.yaml to use; default: the nearest one above this folder."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Connection = Annotated[str, typer.Argument(metavar="CONNECTION", help="Name of a connection file.")]


def seconds(text: str) -> float:
    """Read a duration: a number above zero and s, m, h or d, at most a century.

    Raises:
        UsageError: WH-CLI-101.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text)
    said_s = 0.0 if found is None else float(found[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86_400}[found[2]]
    if not 0 < said_s <= LONGEST_S:
        raise UsageError(
            f"{text!r} is no duration", code=BAD_DURATION, hint="write a number and s, m, h or d, such as 90s or 2h"
        )
    return said_s


def require_said(option: str, text: str | None) -> None:
    """Refuse an option that is there and empty: a variable of a script that was not set does not ask for the default.

    Raises:
        UsageError: WH-CLI-104.
    """
    if text == "":
        raise UsageError(f"{option} is empty", code=EMPTY, hint=f"say which, or leave {option} out for its default")


def new_channel(name: str) -> None:
    """Refuse the name of a channel that a release is to be offered in, and no connection could ask for.

    Raises:
        UsageError: WH-CLI-103.
    """
    from wellhead.connections import CHANNEL

    if re.fullmatch(CHANNEL, name) is None:
        raise UsageError(
            f"{name!r} cannot be the name of a channel",
            code=BAD_CHANNEL,
            hint="use lower-case letters, digits and dashes, beginning with a letter, such as stable or candidate",
        )
