"""Projects on either registry, a real Vault and a real source, for tests that kill."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kills import ENVIRONMENT, Source, prepare, use_postgres
from tests.parts import DockerEngine, Postgres, openbao_server, postgres_server
from tests.project import CONNECTORS, FIXTURES, Project, make


@pytest.fixture(scope="session")
def source() -> Iterator[Source]:
    """A source and a Vault for the session; tests that kill them make their own."""
    with postgres_server(listen=("0.0.0.0",)) as postgres, openbao_server() as openbao:
        yield prepare(postgres, openbao)


@pytest.fixture(scope="session")
def workshop(docker_engine: DockerEngine, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with the connectors of these tests published into it; not to be run in, only copied."""
    folder = tmp_path_factory.mktemp("workshop")
    return make(folder, CONNECTORS / "postgres", FIXTURES / "generator")


@pytest.fixture(scope="session")
def registered(workshop: Project, postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A PostgreSQL database in which the same releases are registered, to be copied by CREATE DATABASE … TEMPLATE."""
    with postgres.database("registered"):
        twin = workshop.copy(tmp_path_factory.mktemp("registered"))
        use_postgres(twin, postgres, "registered")
        for folder in (CONNECTORS / "postgres", FIXTURES / "generator"):
            twin.must("publish", folder)
        yield "registered"


@pytest.fixture(params=["sqlite", "postgresql"])
def project(
    request: pytest.FixtureRequest, workshop: Project, registered: str, postgres: Postgres, tmp_path: Path
) -> Iterator[Project]:
    """A project in which nothing ever ran, on each of the registries in turn."""
    twin = Project(workshop.copy(tmp_path).root, ENVIRONMENT)
    if request.param == "sqlite":
        yield twin
        return
    name = f"registry_{tmp_path.name}".lower().replace("-", "_")[:60]
    postgres.psql(f'create database "{name}" template "{registered}"')
    use_postgres(twin, postgres, name)
    yield twin
    postgres.psql(f'drop database "{name}" with (force)')
