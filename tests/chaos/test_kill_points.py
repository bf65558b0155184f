"""SIGKILL of the host at every named place, three times in a row, then a plain run: nothing lost, twice or left."""

from __future__ import annotations

import pytest

from tests.kills import Source, assert_complete, connect, kill_at, left
from tests.project import Project
from wellhead import failpoints

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300)]

#: What was committed and not renamed is renamed by the run after it, so that each place is reached for certain.
MIXED = [("mid_batch:2", "committed:3", "file_renamed"), ("committed", "in_transaction:2")]


def run(project: Project, connection: str, place: str | None = None) -> int:
    """Run to the end or to the kill; a lease that a dead host still holds is waited for."""
    options = ("--logical-run-id", "the-one", "--if-running", "wait")
    outcome = project.run(connection, *options, env=kill_at(place) if place else {})
    assert place is not None or outcome.exit_code == 0, outcome.stderr
    return outcome.exit_code


@pytest.mark.parametrize("place", failpoints.NAMES)
def test_three_kills_at_one_place_lose_nothing(project: Project, source: Source, place: str) -> None:
    connection = f"kills-{place.replace('_', '-')}"
    connect(project, source, connection)
    before = left(source, connection)
    for _ in range(3):
        assert run(project, connection, place) == -9, f"{place} was not reached"
    project.age_staged()
    run(project, connection)
    assert_complete(project, source, connection)
    assert left(source, connection) == before
    assert project.staged() == []


@pytest.mark.parametrize("places", MIXED)
def test_kills_at_different_places_of_one_run_lose_nothing(
    project: Project, source: Source, places: tuple[str, ...]
) -> None:
    connection = f"kills-mixed-{len(places)}"
    connect(project, source, connection)
    before = left(source, connection)
    for place in places:
        assert run(project, connection, place) == -9, f"{place} was not reached"
    project.age_staged()
    run(project, connection)
    assert_complete(project, source, connection)
    assert left(source, connection) == before
    assert project.staged() == []


def test_a_reader_never_sees_half_a_generation(project: Project, source: Source) -> None:
    """The first reading is killed at each commit in turn: until it is whole there is no table at all."""
    connection = "half"
    connect(project, source, connection)
    for number in range(1, 6):
        run(project, connection, f"committed:{number}")
        assert project.count(connection, "public.orders") in (0, len(source.rows("orders")))
    run(project, connection)
    assert_complete(project, source, connection)
