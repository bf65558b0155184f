"""What may stand in the project's files, whoever wrote them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.architecture.source import ROOT, tracked, tracked_text

#: Written apart, so that this file does not find itself.
_REGISTRIES = [
    "pypi" + ".org",
    "python" + "hosted",
    "registry.npm" + "js",
    "deb." + "debian.org",
    "archive." + "ubuntu.com",
]
_UNFINISHED = ["TO" + "DO", "FIX" + "ME", "Not" + "ImplementedError"]
_SKIPS = ["pytest." + "skip", "mark." + "skip", "mark." + "xfail", "import" + "orskip"]
CONNECTOR_ENTRIES = {
    "pyproject.toml",
    "requirements.lock",
    "Dockerfile",
    "manifest.yaml",
    "README.md",
    "CHANGELOG.md",
    "tests",
}


def _found(pattern: str, suffixes: tuple[str, ...] = ("",)) -> list[str]:
    return [
        f"{path}:{number}: {line.strip()[:100]}"
        for path, text in tracked_text()
        if path.name.endswith(suffixes)
        for number, line in enumerate(text.splitlines(), 1)
        if re.search(pattern, line)
    ]


def _any_of(words: list[str]) -> str:
    return "|".join(map(re.escape, words))


def test_no_file_names_a_package_registry() -> None:
    assert _found(_any_of(_REGISTRIES)) == []


def test_no_file_names_the_place_it_was_written_in() -> None:
    # A path inside a longer one (/proc/1/root/..) is another path.
    assert _found(rf"(?<![\w/])(?:{_any_of([f'{ROOT}/', f'{Path.home()}/.'])})") == []


def test_no_code_is_left_unfinished() -> None:
    assert _found(rf"\b(?:{_any_of(_UNFINISHED)})", (".py", ".sh", ".proto")) == []


def test_no_test_can_skip_itself() -> None:
    assert _found(_any_of(_SKIPS), (".py",)) == []


def test_no_tracked_file_is_large() -> None:
    sizes = {str(path): (ROOT / path).stat().st_size for path in tracked() if path.name != "requirements.lock"}
    assert {path: size for path, size in sizes.items() if size > 600_000} == {}


def _connectors() -> list[Path]:
    return sorted(path.parent for path in (ROOT / "connectors").glob("*/pyproject.toml"))


@pytest.mark.parametrize("folder", _connectors(), ids=lambda folder: folder.name)
def test_every_connector_has_the_same_entries(folder: Path) -> None:
    entries = {entry.name for entry in folder.iterdir()} - {"__pycache__"}
    packages = {entry.parent.name for entry in folder.glob("*/__init__.py")} - {"tests"}
    assert entries >= CONNECTOR_ENTRIES
    assert packages == {f"wellhead_{folder.name.replace('-', '_')}"}
