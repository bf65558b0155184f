"""Going back over many connections: nothing moves unless everything that is asked for can run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.lifecycle.test_rollout import CONNECTOR, PLATFORM, Catalog
from wellhead.connections import ConnectionFile
from wellhead.errors import RefusedError
from wellhead.lifecycle import rollback
from wellhead.registry import channels, connections, definitions


class World(Catalog):
    """Three releases, the first of which nobody may run, and two connections, one of them held at the second."""

    platform = PLATFORM

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.publish("1.0.0", "1.1.0", "1.2.0")
        self.files = self.connect(2)
        with self.database.transaction() as tx:
            definitions.set_status(tx, CONNECTOR, "1.0.0", "blocked", "loses rows")
        rollback.connection(self.host, self.files[0], rollback.Order("ops", "slow", "1.1.0"))

    def held(self, file: ConnectionFile) -> tuple[str, str] | None:
        with self.database.read() as tx:
            hold = connections.get(tx, file.key).hold
        return None if hold is None else (hold.version, hold.reason)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.database.close()


def test_a_connection_is_held_at_the_release_before_the_one_it_ran(world: World) -> None:
    assert set(world.versions(world.files[:1]).values()) == {"1.1.0"}
    assert set(world.versions(world.files[1:]).values()) == {"1.2.0"}


def test_a_hold_that_could_not_run_leaves_the_former_one(world: World) -> None:
    with pytest.raises(RefusedError, match="blocked"):
        rollback.connection(world.host, world.files[0], rollback.Order("ops", "slower", "1.0.0"))
    assert world.held(world.files[0]) == ("1.1.0", "slow")


def test_a_whole_connector_does_not_go_back_to_what_could_not_run(world: World) -> None:
    with pytest.raises(RefusedError, match="blocked"):
        rollback.connector(world.host, CONNECTOR, world.files, rollback.Order("ops", "slower", "1.0.0"))
    assert [world.held(file) for file in world.files] == [("1.1.0", "slow"), None]
    with world.database.read() as tx:
        assert channels.current(tx, CONNECTOR)["stable"].version == "1.2.0"


def test_a_whole_connector_goes_back_with_its_channels(world: World) -> None:
    backs = rollback.connector(world.host, CONNECTOR, world.files, rollback.Order("ops", "slower", "1.1.0"))
    assert [back.to for back in backs] == ["1.1.0", "1.1.0"]
    assert [world.held(file) for file in world.files] == [("1.1.0", "slower"), ("1.1.0", "slower")]
    with world.database.read() as tx:
        assert channels.current(tx, CONNECTOR)["stable"].version == "1.1.0"
