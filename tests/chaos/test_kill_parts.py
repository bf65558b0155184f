"""SIGKILL of everything but the host: connector, gateway, Vault and source, early and late in a run."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.kills import ENVIRONMENT, Source, assert_complete, connect, left, prepare
from tests.parts import openbao_server, postgres_server, wait_until
from tests.project import WELLHEAD, Project

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300)]

CONNECTION = "parts"
#: What a killed part may make of a run: it recovered within the run, or the next one will.
RECOVERABLE = (0, 75)


@pytest.fixture
def mortal() -> Iterator[Source]:
    """A source and a Vault that may be killed; the Vault's state outlives it."""
    with postgres_server(listen=("0.0.0.0",)) as postgres, openbao_server(durable=True) as openbao:
        yield prepare(postgres, openbao)


def _container(role: str) -> str:
    """Return the id of the run's container of that role once it runs."""
    asked = ["docker", "ps", "--quiet", "--filter", f"label=wellhead.connection=default/default/{CONNECTION}"]
    asked += ["--filter", f"label=wellhead.role={role}"]
    found: list[str] = []

    def is_there() -> bool:
        found[:] = subprocess.run(asked, check=True, capture_output=True, text=True).stdout.split()
        return bool(found)

    wait_until(is_there, what=f"the {role} runs")
    return found[0]


def _kill_connector(_: Source) -> None:
    # It may have ended by itself in between: then there is nothing to kill, and no harm was done.
    subprocess.run(["docker", "kill", _container("connector")], check=False, capture_output=True)


def _kill_gateway(_: Source) -> None:
    subprocess.run(["docker", "kill", _container("gateway")], check=False, capture_output=True)


def _kill_openbao(source: Source) -> None:
    source.openbao.kill()
    source.openbao.start()


def _kill_postgres(source: Source) -> None:
    source.postgres.kill()
    source.postgres.start()


KILLS: dict[str, Callable[[Source], None]] = {
    "connector": _kill_connector,
    "gateway": _kill_gateway,
    "openbao": _kill_openbao,
    "postgres": _kill_postgres,
}


#: When to kill: as soon as the connector's container is there, and as soon as the first rows are.
MOMENTS: dict[str, Callable[[Project], Callable[[], bool]]] = {
    "started": lambda _: lambda: bool(_container("connector")),
    "writing": lambda project: lambda: bool(project.staged()) or project.count(CONNECTION, "public.events") > 0,
}


@pytest.mark.parametrize("part", KILLS)
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_killed_part_loses_nothing(workshop: Project, mortal: Source, tmp_path: Path, part: str, moment: str) -> None:
    project = Project(workshop.copy(tmp_path).root, ENVIRONMENT)
    connect(project, mortal, CONNECTION)
    before = left(mortal, CONNECTION)
    with subprocess.Popen(
        [WELLHEAD, "run", CONNECTION, "--json"],
        cwd=project.root,
        env={**os.environ, **ENVIRONMENT},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as running:
        wait_until(MOMENTS[moment](project), what=f"the run is {moment}")
        KILLS[part](mortal)
        assert running.wait(120) in RECOVERABLE
    project.age_staged()
    outcome = project.run(CONNECTION, "--if-running", "wait")
    assert outcome.exit_code == 0, outcome.stderr
    assert_complete(project, mortal, CONNECTION)
    assert left(mortal, CONNECTION) == before
    assert project.staged() == []
