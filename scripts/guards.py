"""Remove each guard of the product in turn and require that its test notices.

A guard is a few lines that keep a promise: a check, an order of two calls, a rule of the sandbox. Each stands in
tests/guards/AREA.yaml with the text that removes it and the test that must then turn red:

    - guard: The accessor is stored before anything is read
      file: runtime/wellhead/secrets/vault.py
      find: exact text, once in the file; its lines may all be written less indented than they are
      replace: the text that removes the guard
      test: tests/integration/secrets/test_vault.py::test_notes_the_accessor_before_anything_is_read

Every mutation is made in a copy of the tree, never in the tree, and what is run there as root may write nowhere else
(scripts/boxed.py): the guard that was removed may be the one that kept a path inside its folder. A test that is red
without the mutation, that breaks in its fixtures, or that cannot be collected proves nothing and counts as a failure
here.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parent.parent
TABLE = Path("docs/explain/guards.md")
BOXED = ROOT / "scripts" / "boxed.py"
FAST = "not real and not chaos and not e2e"
TIMEOUT_S = 600
EACH_S = 15
WORKERS = 2
_KEYS = {"guard", "file", "find", "replace", "test"}


class GuardError(Exception):
    """A row of tests/guards that cannot be tried as it is written."""


@dataclass(frozen=True, slots=True)
class Guard:
    """One row: what is protected, how to remove it, and which test must notice."""

    area: str
    guard: str
    file: str
    find: str
    replace: str
    test: str

    def removed_from(self, text: str) -> str:
        """Return ``text``, the guarded file's, without the guard.

        Raises:
            GuardError: the text to find is not there exactly once.
        """
        if text.count(self.find) == 1:
            return text.replace(self.find, self.replace)
        # YAML strips a block's common indentation; the first line tells how much of it is missing.
        lines = [re.escape(line) for line in self.find.rstrip("\n").split("\n")]
        pattern = r"(?m)^(?P<indent>[ ]*)" + r"\n".join(
            lines[:1] + [rf"(?P=indent){line}" if line else "" for line in lines[1:]]
        )
        found = list(re.finditer(pattern, text))
        if len(found) != 1:
            times = max(len(found), text.count(self.find))
            raise GuardError(f"{self.area}: {self.guard}: the text to find stands {times} times in {self.file}")
        indent = found[0]["indent"]
        replacement = "\n".join(indent + line if line else "" for line in self.replace.rstrip("\n").split("\n"))
        return text[: found[0].start()] + replacement + text[found[0].end() :]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of one guard; ``problem`` is None where the test noticed."""

    guard: Guard
    problem: str | None


def load(folder: Path = ROOT / "tests" / "guards") -> list[Guard]:
    """Read every row, in the order of the files' names.

    Raises:
        GuardError: a row lacks a key or has one nobody knows.
    """
    guards = []
    for file in sorted(folder.glob("*.yaml")):
        for row in YAML(typ="safe").load(file) or []:
            if set(row) != _KEYS:
                raise GuardError(f"{file.name}: a row has the keys {sorted(row)}, and not {sorted(_KEYS)}")
            guards.append(Guard(area=file.stem, **row))
    return guards


def table(guards: Iterable[Guard]) -> str:
    """Render the page docs/explain/guards.md."""
    lines = [
        "# Guards and the tests that watch them",
        "",
        "`make guards` removes each of these from a copy of the tree and requires that the named test turns red, and",
        "that it is green with the guard in place. Made by `scripts/guards.py --table` from `tests/guards/`.",
        "",
        "| area | guard | stands in | watched by |",
        "|---|---|---|---|",
    ]
    for guard in guards:
        cells = (guard.area, guard.guard.replace("|", "\\|"), f"`{guard.file}`", f"`{guard.test}`")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cache_with_bases(cache: Path) -> Path:
    """Make a cache that holds only the base filesystems of this user's own, which take minutes to make."""
    own = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    for base in own.glob("wellhead/**/base-*.tar"):
        link = cache / base.relative_to(own)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(base)
    return cache


class Copy:
    """A copy of the working tree in which tests import the copy's packages and not the tree's."""

    def __init__(self, folder: Path) -> None:
        """Copy everything git knows or would add; .venv is shared."""
        self.folder = folder
        # Servers that tests start as another user find their own folders below it.
        folder.chmod(0o711)
        temporary = folder / ".tmp"
        temporary.mkdir(mode=0o711)
        # Root's own right to write anywhere is what has to be held back; a plain user has none.
        self._before = [sys.executable, "-I", str(BOXED), str(folder)] if os.geteuid() == 0 else []
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            check=True,
        ).stdout.decode()
        for name in filter(None, listed.split("\0")):
            source, target = ROOT / name, folder / name
            if source.is_file():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, target, follow_symlinks=False)
        (folder / ".venv").symlink_to(ROOT / ".venv")
        bases = [folder / "runtime", folder / "sdk", *folder.glob("connectors/*/"), *folder.glob("tests/images/*/")]
        self.environment = {
            **os.environ,
            # A builder without its guards must not leave its work in the cache of those who have them.
            "XDG_CACHE_HOME": str(_cache_with_bases(folder / ".cache")),
            "TMPDIR": str(temporary),
            # Before site-packages and so before the editable installs, which point at the tree.
            "PYTHONPATH": os.pathsep.join(map(str, [*bases, folder])),
            # A mutation can keep a file's size and second, which is all that marks compiled code as stale.
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        # -I would drop PYTHONPATH; -P keeps the working directory out, so that only PYTHONPATH can lead to the copy.
        program = "import wellhead, wellhead_sdk; print(wellhead.__file__, wellhead_sdk.__file__)"
        imported = self.run([".venv/bin/python", "-P", "-c", program])
        if not all(place.startswith(f"{folder}/") for place in imported.stdout.split()):
            raise GuardError(f"the copy imports {imported.stdout}{imported.stderr}, and not its own packages")

    def run(self, argv: Sequence[str], timeout_s: float = TIMEOUT_S) -> subprocess.CompletedProcess[str]:
        """Run a command in the copy."""
        return subprocess.run(
            [*self._before, *argv],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_s,
            stdin=subprocess.DEVNULL,
        )

    def pytest(self, *arguments: str, timeout_s: float = TIMEOUT_S) -> subprocess.CompletedProcess[str]:
        """Run pytest in the copy, with one line for each test in its output."""
        return self.run([".venv/bin/pytest", "-p", "no:cacheprovider", "-rfE", "--tb=no", *arguments], timeout_s)

    def attempt(self, guard: Guard) -> str | None:
        """Remove the guard, run its test, put the guard back; return what is wrong, or None."""
        file = self.folder / guard.file
        whole = file.read_text()
        file.write_text(guard.removed_from(whole))
        try:
            ran = self.pytest("-x", guard.test)
        except subprocess.TimeoutExpired:
            return f"the test did not end within {TIMEOUT_S} s without the guard"
        finally:
            file.write_text(whole)
        match ran.returncode:
            case 0:
                return "the test stays green without the guard"
            case 1 if re.search(r"^FAILED ", ran.stdout, re.MULTILINE):
                return None
            case _:
                return f"the test did not run without the guard (pytest exit {ran.returncode}):\n{ran.stdout[-800:]}"


def _fast(copy: Copy, guards: list[Guard]) -> set[str]:
    """Name the tests among the guards' that need no real part."""
    listed = copy.pytest("--collect-only", "-m", FAST, *sorted({guard.test for guard in guards})).stdout
    ids = {line for line in listed.splitlines() if "::" in line}
    # A row may name a test with its parameters, or without them and so all of its kind.
    ids |= {re.sub(r"\[.*", "", line) for line in ids}
    return {guard.test for guard in guards if guard.test in ids}


def _red_before(copy: Copy, tests: set[str]) -> dict[str, str]:
    """Name each test that is not green with every guard in place, and why."""
    red: dict[str, str] = {}
    # One run for all; only when that is not green is each asked alone.
    if not tests or copy.pytest(*sorted(tests), timeout_s=TIMEOUT_S + EACH_S * len(tests)).returncode == 0:
        return red
    for test in sorted(tests):
        ran = copy.pytest(test)
        if ran.returncode != 0:
            red[test] = f"the test is not green with the guard in place (exit {ran.returncode}):\n{ran.stdout[-800:]}"
    return red


def attempt_all(guards: list[Guard], *, fast_only: bool) -> Iterator[Verdict]:
    """Try every guard; those on real parts one after the other, the others side by side."""
    with ExitStack() as scope:
        folders = [scope.enter_context(tempfile.TemporaryDirectory(prefix="wellhead-guards-")) for _ in range(WORKERS)]
        copies = [Copy(Path(folder).resolve()) for folder in folders]
        idle: SimpleQueue[Copy] = SimpleQueue()
        for copy in copies:
            idle.put(copy)
        fast = _fast(copies[0], guards)
        chosen = [guard for guard in guards if not fast_only or guard.test in fast]
        red = _red_before(copies[0], {guard.test for guard in chosen})

        def judge(guard: Guard) -> Verdict:
            copy = idle.get()
            try:
                return Verdict(guard, red.get(guard.test) or copy.attempt(guard))
            except (GuardError, OSError) as error:
                return Verdict(guard, str(error))
            finally:
                idle.put(copy)

        with ThreadPoolExecutor(WORKERS) as pool:
            yield from pool.map(judge, [guard for guard in chosen if guard.test in fast])
        yield from (judge(guard) for guard in chosen if guard.test not in fast)


def main(arguments: Sequence[str] | None = None) -> int:
    """Try the guards, or write the table; 1 when a guard can be removed unnoticed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--fast", action="store_true", help="only guards whose test needs no real part")
    parser.add_argument("--table", action="store_true", help=f"write {TABLE} and stop")
    parser.add_argument("words", nargs="*", help="only guards whose area or name holds one of these")
    options = parser.parse_args(arguments)
    guards = load()
    (ROOT / TABLE).parent.mkdir(parents=True, exist_ok=True)
    (ROOT / TABLE).write_text(table(guards))
    if options.table:
        return 0
    if options.words:
        guards = [guard for guard in guards if any(word in f"{guard.area} {guard.guard}" for word in options.words)]
    missed = tried = 0
    for verdict in attempt_all(guards, fast_only=options.fast):
        tried += 1
        missed += verdict.problem is not None
        print(f"{'noticed' if verdict.problem is None else 'MISSED '}  {verdict.guard.area}: {verdict.guard.guard}")
        if verdict.problem is not None:
            print(f"         {verdict.problem}")
    print(f"{tried - missed} passed, {missed} failed")
    return 1 if missed or not tried else 0


if __name__ == "__main__":
    sys.exit(main())
