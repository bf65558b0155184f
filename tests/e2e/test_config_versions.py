"""A release that reads another version of the config, and the way back from it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.project import FIXTURES, Project

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

FILE = """\
name: numbers
connector: dev/generator
streams:
  - {name: rows, mode: incremental}
config:
  rows: 10  # of the test
"""


def _newer(folder: Path) -> Path:
    """Return the generator's sources as 1.1.0, which calls `rows` by the name of `size` and refuses the old one."""
    newer = folder / "generator"
    shutil.copytree(FIXTURES / "generator", newer)
    changes = {
        "pyproject.toml": [("1.0.0", "1.1.0")],
        "manifest.yaml": [
            ("version: 1.0.0", "version: 1.1.0"),
            ("      rows: {type", "      size: {type"),
            ("config:\n", "config:\n  version: 2\n  migrations:\n    - {from: 1, to: 2, rename: {rows: size}}\n"),
        ],
        "wellhead_generator/config.py": [("rows: int = Field(1_000,", 'rows: int = Field(1_000, alias="size",')],
    }
    for name, replacements in changes.items():
        text = (newer / name).read_text()
        for old, new in replacements:
            assert text.count(old) == 1
            text = text.replace(old, new)
        (newer / name).write_text(text)
    return newer


def test_a_config_goes_forward_with_a_release_and_back_with_a_rollback(project: Project, tmp_path: Path) -> None:
    project.own_store()
    file = project.root / "connections" / "numbers.yaml"
    file.parent.mkdir(exist_ok=True)
    file.write_text(FILE)

    def run() -> tuple[str, str]:
        outcome = project.run("numbers")
        assert outcome.exit_code == 0, outcome.stderr
        return outcome.document["status"], outcome.document["release"]["version"]

    assert run() == ("succeeded", "1.0.0")
    project.must("publish", _newer(tmp_path))
    assert run() == ("succeeded", "1.1.0")
    assert "1 → 2: rows is called size" in project.must("explain", "numbers").stdout
    assert file.read_text() == FILE
    project.must("connection", "add", "more", "--connector", "dev/generator", "--stream", "rows", "--set", "size=5")
    assert "config_version: 2\nconfig:\n  size: 5\n" in (file.parent / "more.yaml").read_text()
    project.must("rollback", "connection", "numbers", "--to", "1.0.0")
    assert run() == ("succeeded", "1.0.0")
    # The same again, with a file that has gone forward for good.
    project.must("hold", "release", "numbers")
    project.must("connection", "migrate", "numbers")
    assert file.read_text() == FILE.replace("config:", "config_version: 2\nconfig:").replace("rows: 10", "size: 10")
    file.write_text(file.read_text().replace("size: 10", "size: 25"))
    assert run() == ("succeeded", "1.1.0")
    assert project.count("numbers", "rows") == 25
    back = project.must("rollback", "connection", "numbers", "--to", "1.0.0")
    assert "config of version 1 as kept at " in back.stdout
    assert run() == ("succeeded", "1.0.0")
    assert project.count("numbers", "rows") == 25
