"""Projects made once by the command line, and a fresh copy of them for whoever asks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import lender as lenders
from tests.containers import engine, python_image
from tests.parts import DockerEngine, openbao_server, postgres_server
from tests.project import CONNECTORS, FIXTURES, Project, make

__all__ = ["engine", "python_image"]


@pytest.fixture(scope="session")
def workshop(docker_engine: DockerEngine, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with the fixture connectors published into it; not to be run in, only copied."""
    return make(tmp_path_factory.mktemp("workshop"), FIXTURES / "generator", FIXTURES / "hostile")


@pytest.fixture(scope="session")
def shipped(docker_engine: DockerEngine, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with the connectors that this project ships; not to be run in, only copied."""
    folder = tmp_path_factory.mktemp("shipped")
    return make(folder, CONNECTORS / "postgres", CONNECTORS / "csv-file", CONNECTORS / "http-json")


@pytest.fixture(scope="session")
def lender() -> Iterator[lenders.Lender]:
    """A source and a Vault; tests use databases and connections of their own."""
    with postgres_server(listen=("0.0.0.0",)) as postgres, openbao_server() as openbao:
        yield lenders.lender(postgres, openbao)


@pytest.fixture
def project(workshop: Project, tmp_path: Path) -> Project:
    """A project of one's own, in which nothing ever ran."""
    return workshop.copy(tmp_path)
