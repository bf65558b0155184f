"""The script that removes guards runs broken code, as root on most machines: it must not break the machine."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.guards import ROOT, Copy, Guard

pytestmark = pytest.mark.real

#: A plain user may write in his own folders, from a copy as from anywhere.
_OWN = (Path.home(), ROOT) if os.geteuid() == 0 else ()
FORBIDDEN = (Path("/etc"), Path("/usr/bin"), Path("/var/lib"), *_OWN)

WRITES = "from pathlib import Path\nPath({place!r}).write_text('x')\n"


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    return Copy(tmp_path_factory.mktemp("copy"))


@pytest.fixture
def name() -> Iterator[str]:
    """A file's name nobody has, removed from wherever a broken test run put it."""
    name = f"wellhead-guards-{uuid.uuid4().hex}"
    yield name
    for folder in FORBIDDEN:
        (folder / name).unlink(missing_ok=True)


def test_a_mutation_that_writes_into_the_machine_only_fails(copy: Copy, name: str) -> None:
    place = Path("/etc") / name
    guard = Guard(
        area="x",
        guard="a path stays in its folder",
        file="runtime/wellhead/ids.py",
        find="from __future__ import annotations\n",
        replace=f"from __future__ import annotations\n{WRITES.format(place=str(place))}",
        test="tests/unit/test_ids.py",
    )
    problem = copy.attempt(guard)
    assert not place.exists()
    assert problem is not None
    assert "Read-only file system" in problem or "Permission denied" in problem


@pytest.mark.parametrize("folder", FORBIDDEN, ids=str)
def test_nothing_that_runs_in_a_copy_writes_outside_it(copy: Copy, name: str, folder: Path) -> None:
    tried = copy.run([".venv/bin/python", "-c", WRITES.format(place=str(folder / name))])
    assert tried.returncode != 0
    assert not (folder / name).exists()


def test_a_copy_its_temporary_files_and_the_folders_of_runs_can_be_written(copy: Copy) -> None:
    program = "import os, tempfile; open('here', 'w'); tempfile.mkdtemp(); print(tempfile.gettempdir())"
    tried = copy.run([".venv/bin/python", "-c", program])
    assert tried.returncode == 0, tried.stderr
    assert tried.stdout.strip().startswith(f"{copy.folder}/")
    assert (copy.folder / "here").exists()
