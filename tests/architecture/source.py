"""The project's own files, as the architecture tests read them."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


def tracked() -> list[Path]:
    """List every file git tracks that is there, as paths below `ROOT`."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.decode()
    return [Path(name) for name in listed.split("\0") if name and (ROOT / name).is_file()]


def tracked_text() -> Iterator[tuple[Path, str]]:
    """Yield each tracked text file with its text; a file with a NUL byte is not text."""
    for path in tracked():
        content = (ROOT / path).read_bytes()
        if b"\0" not in content:
            yield path, content.decode()


def modules(*folders: str) -> Iterator[tuple[Path, ast.Module]]:
    """Yield every hand-written Python module below the folders, parsed."""
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            if not path.name.endswith("_pb2.py"):
                yield path.relative_to(ROOT), ast.parse(path.read_text(), filename=str(path))


def imported(module: ast.Module) -> set[str]:
    """Name the modules that ``module`` imports anywhere in it, absolute names alone."""
    found: set[str] = set()
    for node in ast.walk(module):
        match node:
            case ast.Import(names=names):
                found.update(alias.name for alias in names)
            case ast.ImportFrom(module=str(name), names=names, level=0):
                found.update({name, *(f"{name}.{alias.name}" for alias in names)})
            case _:
                pass
    return found
