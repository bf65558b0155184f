"""The judge of what a suite leaves behind, tried on things that are really left."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests import parts

pytestmark = pytest.mark.real
SCRIPT = parts.ROOT / "scripts" / "leftovers.py"


def _judge(verb: str, file: Path, mark: str, temporary: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, SCRIPT, verb, file],
        env={**os.environ, "WELLHEAD_SUITE": mark, "TMPDIR": str(temporary)},
        capture_output=True,
        text=True,
        check=False,
    )


@contextmanager
def _docker_object(kind: str, *options: str) -> Iterator[str]:
    name = f"left-{uuid.uuid4().hex[:8]}"
    subprocess.run(["docker", kind, "create", *options, name], check=True, capture_output=True)
    try:
        yield name
    finally:
        subprocess.run(["docker", kind, "rm", name], check=True, capture_output=True)


@pytest.fixture
def suite(docker_engine: parts.DockerEngine, tmp_path: Path) -> tuple[Path, str]:
    """A snapshot taken before the test leaves anything, and the suite's mark."""
    mark, file = f"suite-{uuid.uuid4().hex}", tmp_path / "snapshot"
    assert _judge("snapshot", file, mark, tmp_path).returncode == 0
    return file, mark


def test_a_process_that_a_test_forgot_is_named(suite: tuple[Path, str], tmp_path: Path) -> None:
    file, mark = suite
    with subprocess.Popen(["sleep", "600"], env={**os.environ, "WELLHEAD_SUITE": mark}) as forgotten:
        judged = _judge("compare", file, mark, tmp_path)
        forgotten.kill()
    assert judged.returncode == 1
    assert f"processes: {forgotten.pid} sleep 600" in judged.stderr


@pytest.mark.parametrize("kind", ["volume", "network"])
def test_what_stays_in_the_engine_is_named(suite: tuple[Path, str], tmp_path: Path, kind: str) -> None:
    file, mark = suite
    with _docker_object(kind) as name:
        judged = _judge("compare", file, mark, tmp_path)
    assert judged.returncode == 1
    assert name in judged.stderr


def test_a_temporary_folder_that_stays_is_named(suite: tuple[Path, str], tmp_path: Path) -> None:
    file, mark = suite
    (tmp_path / "wellhead-forgotten").mkdir()
    judged = _judge("compare", file, mark, tmp_path)
    assert judged.returncode == 1
    assert "wellhead-forgotten" in judged.stderr


def test_what_was_there_before_is_not_named(suite: tuple[Path, str], tmp_path: Path) -> None:
    with _docker_object("volume") as name:
        file, mark = tmp_path / "later", suite[1]
        assert _judge("snapshot", file, mark, tmp_path).returncode == 0
        assert name not in _judge("compare", file, mark, tmp_path).stderr
