"""A project as a user has one, driven through the command line and nothing else.

A project is made once a session with `wellhead init` and `wellhead publish`; tests work in copies that share its store
of releases, because what takes long is building images and what must not be shared is everything else.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import duckdb
from ruamel.yaml import YAML

from tests import warm
from tests.parts import ROOT

WELLHEAD = Path(sys.executable).parent / "wellhead"
MEASURED = ROOT / "tests" / "measured.py"
#: Longer than any run of a test may take; the run's own deadlines are shorter.
PATIENCE_S = 110.0

Table = list[tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one call of the command line ended."""

    exit_code: int
    stdout: str
    stderr: str
    peak_memory_kib: int | None
    """None where it was not measured."""

    @property
    def document(self) -> dict[str, Any]:
        """The one JSON document on stdout."""
        found: dict[str, Any] = json.loads(self.stdout)
        return found

    @property
    def error_code(self) -> str | None:
        """The code of the run's error, or of its first failed stream."""
        errors = [self.document["error"], *(stream["error"] for stream in self.document["streams"])]
        return next((error["code"] for error in errors if error), None)

    @property
    def was_killed(self) -> bool:
        """Whether SIGKILL ended it."""
        return self.exit_code == -signal.SIGKILL


@dataclass(frozen=True, slots=True)
class Project:
    """A folder with a wellhead.yaml."""

    root: Path
    env: Mapping[str, str] = field(default_factory=dict)

    def call(self, *arguments: str | Path, env: Mapping[str, str] | None = None) -> Outcome:
        """Run ``wellhead ARGUMENTS`` in the project's folder and return how it ended, whatever its exit code."""
        environment = {**os.environ, "NO_COLOR": "1", **self.env, **(env or {})}
        with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr, tempfile.TemporaryFile() as report:
            child = subprocess.Popen(
                [sys.executable, "-IS", MEASURED, str(report.fileno()), WELLHEAD, *arguments],
                cwd=self.root,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                pass_fds=[report.fileno()],
                start_new_session=True,
            )
            _wait(child)
            for stream in (stdout, stderr, report):
                stream.seek(0)
            status, peak_memory_kib = map(int, report.read().split())
            return Outcome(
                os.waitstatus_to_exitcode(status),
                stdout.read().decode(errors="replace"),
                stderr.read().decode(errors="replace"),
                peak_memory_kib,
            )

    def must(self, *arguments: str | Path, env: Mapping[str, str] | None = None) -> Outcome:
        """Like `call`, for what has to succeed."""
        outcome = self.call(*arguments, env=env)
        assert outcome.exit_code == 0, f"wellhead {' '.join(map(str, arguments))}\n{outcome.stdout}\n{outcome.stderr}"
        return outcome

    def run(self, connection: str, *options: str, env: Mapping[str, str] | None = None) -> Outcome:
        """Run one connection with ``--json``."""
        return self.call("run", connection, "--json", *options, env=env)

    def configure(self, **sections: Any) -> None:
        """Lay settings over wellhead.yaml, section by section."""
        yaml = YAML()
        file = self.root / "wellhead.yaml"
        document = yaml.load(file)
        _lay_over(document, sections)
        with file.open("w") as out:
            yaml.dump(document, out)

    def trust(self, namespace: str) -> None:
        """Let the project's own development key sign for a namespace besides ``dev``, as an operator may."""
        yaml = YAML()
        file = self.root / "trust.yaml"
        document = yaml.load(file)
        document["namespaces"][namespace] = dict(document["namespaces"]["dev"])
        with file.open("w") as out:
            yaml.dump(document, out)

    def connect(self, name: str, connector: str, streams: Sequence[str | dict[str, Any]], **rest: Any) -> None:
        """Write the file of a connection; a stream may be its bare name."""
        document = {
            "name": name,
            "connector": connector,
            "streams": [{"name": stream} if isinstance(stream, str) else stream for stream in streams],
            **rest,
        }
        folder = self.root / "connections"
        folder.mkdir(exist_ok=True)
        # JSON is YAML, and needs no care about what a plain scalar might mean.
        (folder / f"{name}.yaml").write_text(json.dumps(document, indent=2))

    def table(self, connection: str, stream: str) -> Path:
        """Return where a stream's rows are, as a reader of Bronze finds them."""
        return self.root / "bronze" / "default" / "default" / connection / stream

    def rows(self, connection: str, stream: str, columns: str = "*", rest: str = "") -> Table:
        """Ask DuckDB, which knows nothing of us, what is in a table."""
        files = f"{self.table(connection, stream)}/*.parquet"
        with duckdb.connect() as database:
            return database.execute(f"select {columns} from read_parquet('{files}') {rest}").fetchall()

    def sequences(self, connection: str, stream: str) -> Table:
        """Return (unit, lowest, highest, rows, different) of `_sequence`, the unit as the files' names have it."""
        unit = r"regexp_extract(filename, 'part-(.+)-\d+-\d+-\d+\.parquet$', 1) as unit"
        counts = "min(_sequence), max(_sequence), count(*), count(distinct _sequence)"
        return self.rows(connection, stream, f"{unit}, {counts}", "group by unit order by unit")

    def staged(self) -> list[Path]:
        """Return the segments that wait to be published or swept."""
        return sorted((self.root / "bronze.staging").rglob("*.seg"))

    def age_staged(self) -> None:
        """Make staged files look as old as an abandoned one must be before it is swept: a zombie might still write."""
        for path in self.staged():
            os.utime(path, (0, 0))

    def count(self, connection: str, stream: str) -> int:
        """Return how many rows a stream's table has; 0 where there is no table."""
        if not self.table(connection, stream).is_dir():
            return 0
        return int(self.rows(connection, stream, "count(*)")[0][0])

    def copy(self, folder: Path) -> Project:
        """Make a project with the same releases, keys and settings, and nothing that ever ran."""
        root = folder / "project"
        shutil.copytree(self.root, root, ignore=lambda path, names: _left_out(self.root, Path(path), names))
        twin = replace(self, root=root)
        twin.configure(store={"path": str(self.root / ".wellhead" / "store")})
        return twin

    def own_store(self) -> None:
        """Publish to a store of one's own from now on, with all that the shared one has."""
        shared = Path(YAML().load(self.root / "wellhead.yaml")["store"]["path"])
        own = self.root / ".wellhead" / "store"
        # Blobs never change and the index is replaced, so that links are as good as copies.
        shutil.copytree(shared, own, copy_function=os.link)
        self.configure(store={"path": str(own)})


@dataclass(frozen=True, slots=True)
class Warm(Project):
    """A project whose commands are forked instead of started: for tests of what they do and not of how they start."""

    def call(self, *arguments: str | Path, env: Mapping[str, str] | None = None) -> Outcome:
        """Run ``wellhead ARGUMENTS`` in the project's folder and return how it ended, whatever its exit code."""
        environment = {**os.environ, "NO_COLOR": "1", **self.env, **(env or {})}
        with tempfile.TemporaryDirectory() as folder:
            stdout, stderr = Path(folder, "stdout"), Path(folder, "stderr")
            child = warm.start(
                "wellhead", *map(str, arguments), env=environment, folder=self.root, stdout=stdout, stderr=stderr
            )
            child.join(PATIENCE_S)
            assert child.exitcode is not None, f"wellhead {' '.join(map(str, arguments))} did not end"
            return Outcome(child.exitcode, stdout.read_text(errors="replace"), stderr.read_text(errors="replace"), None)


def _wait(child: subprocess.Popen[bytes]) -> None:
    """Wait for the end; what takes longer than `PATIENCE_S` is killed with all it started in its session.

    Raises:
        subprocess.TimeoutExpired: it had to be killed.
    """
    try:
        child.wait(PATIENCE_S)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        raise


def _left_out(root: Path, folder: Path, names: list[str]) -> set[str]:
    if folder == root:
        return {"bronze", "bronze.staging"} & set(names)
    return {"store", "cache", "logs", "receipts", "host-id"} & set(names) if folder == root / ".wellhead" else set()


def _lay_over(document: Any, sections: Mapping[str, Any]) -> None:
    for name, value in sections.items():
        if isinstance(value, dict) and isinstance(document.get(name), dict):
            _lay_over(document[name], value)
        else:
            document[name] = value


#: Connectors that are fixtures, and those the project ships.
FIXTURES, CONNECTORS = ROOT / "tests" / "images", ROOT / "connectors"


def make(root: Path, *connectors: Path) -> Project:
    """Make a development project and publish connectors into it, by their folders."""
    root.mkdir(parents=True, exist_ok=True)
    project = Project(root)
    project.must("init")
    project.trust("wellhead")
    for folder in connectors:
        project.must("publish", folder)
    return project
