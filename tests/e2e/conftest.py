"""A project made once by the command line, and a fresh copy of it for whoever asks."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.containers import engine, python_image
from tests.parts import DockerEngine
from tests.project import FIXTURES, Project, make

__all__ = ["engine", "python_image"]


@pytest.fixture(scope="session")
def workshop(docker_engine: DockerEngine, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with the fixture connectors published into it; not to be run in, only copied."""
    return make(tmp_path_factory.mktemp("workshop"), FIXTURES / "generator", FIXTURES / "hostile")


@pytest.fixture
def project(workshop: Project, tmp_path: Path) -> Project:
    """A project of one's own, in which nothing ever ran."""
    return workshop.copy(tmp_path)
