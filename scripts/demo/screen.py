"""What a person at the terminal sees: chapters, the commands as they would type them, and what was checked.

A command that ends otherwise than it should, and a check that does not hold, end the demonstration.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass
from pathlib import Path
from typing import Any


class BrokenPromiseError(Exception):
    """Something is not as the demonstration promises; the text says what."""


@dataclass
class Screen:
    """Runs commands in ``folder`` with ``env`` laid over the environment, and tells what goes on."""

    folder: Path
    env: dict[str, str] = field(default_factory=dict)
    _began: float = field(default_factory=time.monotonic)

    def chapter(self, title: str) -> None:
        """Begin a new part of the story, with the seconds that have passed."""
        self.say(f"\n== {title}  [{time.monotonic() - self._began:.0f} s]")

    def say(self, text: str = "") -> None:
        """Print one line or more."""
        sys.stdout.write(text + "\n")
        sys.stdout.flush()

    def command(
        self,
        *argv: str,
        shown: str | None = None,
        stdin: str | None = None,
        env: Mapping[str, str] | None = None,
        exit_codes: Sequence[int] = (0,),
        is_kept: Callable[[str], bool] = lambda _line: True,
    ) -> str:
        """Print a command, run it, print its lines as they come and return them.

        Args:
            argv: what is run.
            shown: how it is printed; default as a shell would take it.
            stdin: given to it; nothing if None.
            env: laid over the environment for this command alone.
            exit_codes: with which it may end.
            is_kept: says which of its lines are worth printing; all are returned.

        Raises:
            BrokenPromiseError: it ended with another exit code.
        """
        self.say(f"$ {shown or shlex.join(argv)}")
        child = subprocess.Popen(
            argv,
            cwd=self.folder,
            env=self._environment(env),
            stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        lines = []
        with child:
            try:
                if child.stdin is not None:
                    child.stdin.write(stdin or "")
                    child.stdin.close()
                for line in child.stdout or ():
                    lines.append(line)
                    if is_kept(line):
                        self.say("  " + line.rstrip("\n"))
            except BaseException:
                child.terminate()  # a run drains and cleans up after itself; leaving the block waits for it
                raise
        if child.returncode not in exit_codes:
            hidden = "".join(line for line in lines if not is_kept(line))
            raise BrokenPromiseError(f"{shown or shlex.join(argv)} ended with exit code {child.returncode}\n{hidden}")
        return "".join(lines)

    def ask(self, *argv: str, env: Mapping[str, str] | None = None) -> Any:
        """Run a command that answers in JSON, without showing it: what is checked behind the scene.

        Raises:
            BrokenPromiseError: it did not end with exit code 0.
        """
        done = subprocess.run(
            argv,
            cwd=self.folder,
            env=self._environment(env),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise BrokenPromiseError(f"{shlex.join(argv)} ended with exit code {done.returncode}\n{done.stderr}")
        return json.loads(done.stdout)

    def exit_code(self, *argv: str) -> int:
        """Run a command out of sight and return how it ended."""
        done = subprocess.run(
            argv,
            cwd=self.folder,
            env=self._environment(None),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        return done.returncode

    def check(self, claim: str, found: object, expected: object) -> None:
        """Print that a claim holds.

        Raises:
            BrokenPromiseError: what was found is not what was expected.
        """
        if found != expected:
            raise BrokenPromiseError(f"{claim}: expected {_text(expected)}, found {_text(found)}")
        self.say(f"  [ok] {claim}: {_text(found)}")

    def require(self, claim: str, holds: bool, found: object) -> None:
        """Print that a claim holds which is more than an equality; ``found`` is what it was judged by.

        Raises:
            BrokenPromiseError: it does not.
        """
        if not holds:
            raise BrokenPromiseError(f"{claim}: not so, found {_text(found)}")
        self.say(f"  [ok] {claim}: {_text(found)}")

    def _environment(self, env: Mapping[str, str] | None) -> dict[str, str]:
        return {**os.environ, "NO_COLOR": "1", "COLUMNS": "118", **self.env, **(env or {})}


def _text(value: object) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
        case list():
            return ", ".join(map(_text, value)) if value else "none"
        case _ if is_dataclass(value) and not isinstance(value, type):
            return ", ".join(f"{name.replace('_', ' ')} {_text(number)}" for name, number in asdict(value).items())
        case _:
            return str(value)
