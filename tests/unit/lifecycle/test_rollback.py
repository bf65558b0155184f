"""Going back at each level: nothing moves unless everything that is asked for can run, with the state there is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from tests.unit.lifecycle.test_rollout import CONNECTOR, PLATFORM, Catalog
from wellhead.connections import ConnectionFile
from wellhead.errors import ConfigurationError, RefusedError, TransientError
from wellhead.ids import WHOLE_STREAM, RunId, StreamKey, StreamName
from wellhead.lifecycle import rollback
from wellhead.lifecycle.claim import Claim
from wellhead.lifecycle.commit import Work, commit
from wellhead.lifecycle.state import replace as replace_state
from wellhead.registry import channels, connections, definitions, generations, run_state
from wellhead.registry.tables import kept_checkpoints

pytestmark = pytest.mark.slow


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


def test_a_tenant_goes_back_alone(world: World) -> None:
    others = world.connect(2, tenant="globex")
    order = rollback.Order("ops", "slower", "1.1.0")
    backs = rollback.tenant(world.host, "globex", CONNECTOR, [*world.files, *others], order)
    assert [back.connection for back in backs] == [file.key for file in others]
    assert [world.held(file) for file in [world.files[1], *others]] == [None, ("1.1.0", "slower"), ("1.1.0", "slower")]
    with pytest.raises(ConfigurationError) as caught:
        rollback.tenant(world.host, "initech", CONNECTOR, world.files, order)
    assert caught.value.code.name == "WH-CAT-064"


def test_a_channel_goes_back_and_what_is_held_stays(world: World) -> None:
    world.run(world.versions(world.files), "succeeded")
    backs = rollback.channel(world.host, CONNECTOR, "stable", world.files, rollback.Order("ops", "slower"))
    assert [(back.connection, back.before, back.to) for back in backs] == [(world.files[1].key, "1.2.0", "1.1.0")]
    assert set(world.versions(world.files).values()) == {"1.1.0"}
    assert world.held(world.files[1]) is None


@pytest.mark.parametrize("to", ["1.7.0", "0.9.0"])
def test_a_channel_goes_back_only_to_what_it_offers(world: World, to: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        rollback.channel(world.host, CONNECTOR, "stable", world.files, rollback.Order("ops", "slower", to))
    assert caught.value.code.name == "WH-CAT-060"


class Stateful(Catalog):
    """1.0.0 reads state of version 1; 1.1.0 reads both and writes version 2; one stream was read by the one, the other.

    70 rows were written before the format changed, 30 since.
    """

    platform = PLATFORM

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.publish("1.0.0", compatibility={"state": {"writes": 1, "reads": [1]}})
        self.publish("1.1.0", compatibility={"state": {"writes": 2, "reads": [1, 2]}})
        (self.file,) = self.connect(1)
        self.stream = StreamKey(self.file.key, StreamName("rows"))
        self._claim("run-a")
        with self.database.transaction() as tx:
            basis = generations.Basis("incremental", "append", "s", "f", "1")
            generation = generations.begin(tx, self.stream, run_id=RunId("run-a"), basis=basis)
            run_state.plan_units(
                tx,
                self.stream,
                generation=generation.number,
                epoch=1,
                units=[run_state.PlannedUnit(WHOLE_STREAM, b"", None)],
            )
        for state, version, rows in ((b"a", 1, 40), (b"b", 1, 30), (b"c", 2, 20), (b"d", 2, 10)):
            self.commit(state, version, rows)
        self.run({self.file.key: "1.1.0"}, "succeeded")

    def _claim(self, run: str) -> None:
        with self.database.transaction() as tx:
            connections.claim_lease(tx, self.file.key, run_id=RunId(run), host_id="here", ttl_s=600)

    def unit(self) -> run_state.UnitState:
        with self.database.read() as tx:
            return run_state.require(tx, self.stream)

    def commit(self, state: bytes, version: int, rows: int) -> None:
        claim = Claim(RunId("run-a"), self.file.key, "here", 1)
        work = Work(None, (), run_state.Checkpoint(state, version, rows))
        commit(self.database, claim, self.unit(), work)


@pytest.fixture
def stateful(tmp_path: Path) -> Iterator[Stateful]:
    made = Stateful(tmp_path)
    yield made
    made.database.close()


BACK = rollback.Order("ops", "slower", "1.0.0")
RESTORE = rollback.Order("ops", "slower", "1.0.0", state="restore")


def levels(world: Catalog, file: ConnectionFile, order: rollback.Order) -> dict[str, Callable[[], rollback.Back]]:
    return {
        "connection": lambda: rollback.connection(world.host, file, order),
        "tenant": lambda: rollback.tenant(world.host, "acme", CONNECTOR, [file], order)[0],
        "channel": lambda: rollback.channel(world.host, CONNECTOR, "stable", [file], order)[0],
        "connector": lambda: rollback.connector(world.host, CONNECTOR, [file], order)[0],
    }


@pytest.mark.parametrize("level", ["connection", "tenant", "channel", "connector"])
def test_a_state_that_the_older_release_cannot_read_is_refused_and_then_restored(
    stateful: Stateful, level: str
) -> None:
    with pytest.raises(ConfigurationError, match="reads state of version 1, and") as caught:
        levels(stateful, stateful.file, BACK)[level]()
    assert caught.value.code.name == "WH-CAT-062"
    assert caught.value.hint is not None
    assert "reads 30 rows again" in caught.value.hint
    assert stateful.versions([stateful.file]) == {stateful.file.key: "1.1.0"}
    back = levels(stateful, stateful.file, RESTORE)[level]()
    assert back.restored == (rollback.Restored(stateful.stream, 1, 30),)
    assert stateful.versions([stateful.file]) == {stateful.file.key: "1.0.0"}
    unit = stateful.unit()
    assert (unit.state, unit.state_version, unit.rows_total) == (b"b", 1, 100)


def test_a_run_that_still_goes_on_is_refused_after_the_restore(stateful: Stateful) -> None:
    before = stateful.unit()
    rollback.connection(stateful.host, stateful.file, RESTORE)
    claim = Claim(RunId("run-a"), stateful.file.key, "here", 1)
    with pytest.raises(TransientError):
        commit(stateful.database, claim, before, Work(None, (), run_state.Checkpoint(b"e", 2, 10)))


def test_where_no_checkpoint_is_kept_the_way_back_is_a_reset(stateful: Stateful) -> None:
    with stateful.database.transaction() as tx:
        tx.execute(sa.delete(kept_checkpoints))
    with pytest.raises(ConfigurationError) as caught:
        rollback.connection(stateful.host, stateful.file, RESTORE)
    assert caught.value.code.name == "WH-CAT-063"
    assert caught.value.hint == "`wellhead state reset orders-0 rows` lets it begin again"


@pytest.fixture
def moving(stateful: Stateful, monkeypatch: pytest.MonkeyPatch) -> Stateful:
    """The same with a run that commits a state of version 2 between what is decided and what is done."""
    decide = rollback._step

    def decided(*arguments: Any) -> Any:
        step = decide(*arguments)
        stateful.commit(b"e", 2, 10)
        return step

    monkeypatch.setattr(rollback, "_step", decided)
    return stateful


@pytest.mark.parametrize("order", [BACK, RESTORE])
@pytest.mark.parametrize("level", ["connection", "tenant", "channel", "connector"])
def test_a_state_that_becomes_unreadable_while_it_is_decided_is_not_left_to_the_older_release(
    moving: Stateful, level: str, order: rollback.Order
) -> None:
    with moving.database.transaction() as tx:
        replace_state(tx, moving.stream, state=b"b", state_version=1)
    with pytest.raises(TransientError) as caught:
        levels(moving, moving.file, order)[level]()
    assert caught.value.code.name == "WH-CAT-065"
    assert moving.versions([moving.file]) == {moving.file.key: "1.1.0"}
    assert moving.unit().state == b"e"


def test_a_stream_that_goes_on_while_its_way_back_is_decided_is_not_taken_back_over_it(moving: Stateful) -> None:
    with pytest.raises(TransientError) as caught:
        rollback.connection(moving.host, moving.file, RESTORE)
    assert caught.value.code.name == "WH-CAT-065"
    assert moving.unit().state == b"e"
