"""Two releases over one range: what differs is told, and nothing of the connection is touched."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pyarrow.compute as pc
import pytest

import wellhead_sdk as sdk
from tests.parts import new_registry
from tests.unit.lifecycle.conftest import MANIFEST, World
from tests.unit.lifecycle.test_upgrade import COMMUNITY, policy
from wellhead.catalog import policy as governing
from wellhead.catalog.resolve import Decision
from wellhead.clock import Clock
from wellhead.compat import surface
from wellhead.compat.readings import MASKED
from wellhead.connections import ConnectionFile
from wellhead.egress.network import AuditRecord
from wellhead.egress.policy import Policy, Rule
from wellhead.errors import ConfigurationError, RefusedError, TransientError, WellheadError
from wellhead.ids import ConnectorId, Digest
from wellhead.lifecycle import run as lifecycle
from wellhead.lifecycle import shadow as shadows
from wellhead.lifecycle.claim import HELD, holding
from wellhead.lifecycle.governance import DENIED
from wellhead.lifecycle.host import Host
from wellhead.lifecycle.plan import NOT_AGREED, Plan
from wellhead.lifecycle.record import DENIED_EGRESS
from wellhead.lifecycle.scratch import scratch, sweep
from wellhead.lifecycle.shadow import DIFFERENT, READ_ONCE, UNREADABLE, Shadow
from wellhead.lifecycle.stop import Reason, Stop
from wellhead.manifest.model import Manifest
from wellhead.registry import channels, connections, definitions, runs
from wellhead.registry.database import Database
from wellhead.registry.definitions import PlatformImage, Release
from wellhead.session.client import Session
from wellhead_generator.connector import Generator, Source

pytestmark = pytest.mark.slow

CONNECTOR = ConnectorId("dev/generator")
INCREMENTAL = {"name": "rows", "mode": "incremental", "cursor_field": "updated_at"}
#: Columns of the registry that say who reads, and not where a connection stands.
READERS = {"lease_epoch", "lease_run", "lease_until", "lease_host"}
#: Tables that every run and probe writes to.
OF_RUNS = {"connector_runs", "run_events", "pending_revocations", "egress_audit"}


class Other(Generator):
    """The next release: adds one to the value of each tenth row, and leaves out row 5."""

    def read(self, session: Source, request: sdk.ReadRequest, out: sdk.Out) -> None:
        emit = out.emit

        def changed(rows: Any) -> None:
            ids = rows["id"]
            more = pc.add(rows["value"], 1)
            is_tenth = pc.equal(pc.subtract(ids, pc.multiply(pc.divide(ids, 10), 10)), 0)
            at = rows.schema.get_field_index("value")
            rows = rows.set_column(at, rows.schema.field("value"), pc.if_else(is_tenth, more, rows["value"]))
            emit(rows.filter(pc.not_equal(ids, 5)))

        cast("Any", out).emit = changed
        super().read(session, request, out)


class Pair:
    """A connection on 1.0.0, and a release 1.1.0 beside it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.manifests: dict[str, Manifest] = {}
        self.governed: tuple[governing.Policy, ...] = ()

    def publish(self, version: str, **sections: Any) -> None:
        data = {**MANIFEST.document.data, **sections}
        self.manifests[version] = Manifest.model_validate(data)
        digest = Digest(f"sha256:{version}")
        with self.world.database.transaction() as tx:
            image = {"linux/amd64": PlatformImage(digest, digest)}
            now = self.world.host().clock.now()
            definitions.register(tx, Release(CONNECTOR, version, digest, "00", image, data, "k", now))
            if version == "1.0.0":
                channels.point(
                    tx, CONNECTOR, "stable", version=version, index_digest=digest, who="ci", reason="published"
                )

    def shadow(self, file: ConnectionFile, stop: Stop | None = None, **order: Any) -> Shadow:
        asked = shadows.Order(**{"version": "1.1.0", **order})
        host = replace(self.world.host(), policies=lambda: self.governed)
        return shadows.shadow(host, file, asked, stop or Stop(), lifecycle.Watch())

    def stands(self) -> dict[str, Any]:
        """Return all that the connection is: its rows in the registry, and the bytes of its tables."""
        with sqlite3.connect(self.world.folder / "registry.db") as database:
            database.row_factory = sqlite3.Row
            names = [row[0] for row in database.execute("select name from sqlite_master where type = 'table'")]
            rows = {
                name: [
                    {column: row[column] for column in row.keys() if column not in READERS}  # noqa: SIM118 - a sqlite3.Row
                    for row in database.execute(f"select * from {name}")
                ]
                for name in names
                if name not in OF_RUNS
            }
        files = {
            str(path): hashlib.sha256(path.read_bytes()).hexdigest()
            for folder in ("bronze", "bronze.staging")
            for path in sorted((self.world.folder / folder).rglob("*"))
            if path.is_file()
        }
        return {**rows, **files}

    def is_clean(self) -> bool:
        folder = self.world.folder / ".wellhead" / "scratch"
        return not folder.exists() or not list(folder.iterdir())

    def statuses(self) -> list[tuple[str, str, str | None]]:
        """Return (kind, status, version) of every run but the first, which made the table."""
        with self.world.database.read() as tx:
            return [(run.kind, run.status, run.version) for run in reversed(runs.latest(tx)) if run.kind == "probe"]


class Migrated(Database):
    """What a half finds where it asks for a new registry: the same tables, copied."""

    @classmethod
    def open(cls, url: str, password: str | None = None, *, clock: Clock | None = None) -> Database:
        return Database.open(new_registry(Path(url.removeprefix("sqlite:///"))), password, clock=clock)


@pytest.fixture
def pair(world: World, monkeypatch: pytest.MonkeyPatch) -> Pair:
    """A connection that nothing has read, on SQLite."""
    return _pair(world, monkeypatch)


def _pair(world: World, monkeypatch: pytest.MonkeyPatch) -> Pair:
    made = Pair(world)
    made.publish("1.0.0")
    made.publish("1.1.0")
    world.others["1.1.0"] = Other

    def at(host: Host, file: ConnectionFile, decision: Decision, platform: str) -> Plan:
        version = decision.require().version
        return world.plan(file, platform, version, made.manifests[version])

    monkeypatch.setattr("wellhead.lifecycle.plan.at", at)
    monkeypatch.setattr("wellhead.lifecycle.shadow.Database", Migrated)
    return made


def _grown(world: World, more: int, **config: Any) -> ConnectionFile:
    """Return a connection that has read 20 rows, of a source that has ``more`` by now."""
    size = world.folder / "size"
    size.write_text("20")
    file = world.connect(INCREMENTAL, config={"rows_file": str(size), "profile": "narrow", **config})
    assert world.run(file).exit_code == 0
    size.write_text(str(20 + more))
    return file


def test_what_differs_is_told_by_key(pair: Pair) -> None:
    done = pair.shadow(pair.world.connect(config={"rows": 30, "profile": "narrow"}))
    (stream,) = done.streams
    found = stream.comparison
    assert found is not None
    assert (found.rows, found.present_only, found.candidate_only, found.changed) == ((30, 29), 1, 0, 3)
    assert found.columns == {"value": 3}
    assert [dict(example.key) for example in found.examples] == [{"id": 0}, {"id": 10}, {"id": 20}, {"id": 5}]
    was, now = found.examples[0].columns["value"]
    assert now == was + 1
    assert (stream.begin, done.is_equal, done.exit_code) == ("start", False, 78)
    with pytest.raises(ConfigurationError) as caught:
        done.require_equal()
    assert caught.value.code == DIFFERENT


def test_a_release_that_reads_the_same_is_equal(pair: Pair) -> None:
    pair.world.others.clear()
    done = pair.shadow(pair.world.connect("rows", "events", "empty", config={"rows": 30}))
    assert [(stream.name, stream.is_equal) for stream in done.streams] == [
        ("rows", True),
        ("events", True),
        ("empty", True),
    ]
    done.require_equal()
    assert done.exit_code == 0


def test_both_go_on_from_the_checkpoint_and_nothing_of_the_connection_changes(pair: Pair) -> None:
    file = _grown(pair.world, 10)
    before = pair.stands()
    done = pair.shadow(file)
    (stream,) = done.streams
    assert stream.comparison is not None
    assert (stream.begin, stream.comparison.rows, stream.comparison.changed) == ("checkpoint", (10, 10), 1)
    assert pair.stands() == before
    assert pair.is_clean()
    assert pair.world.run(file).streams[0].rows == 10


@pytest.mark.real
def test_a_registry_on_postgresql_hands_its_states_over(
    world_on_postgresql: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = _grown(world_on_postgresql, 10)
    before = world_on_postgresql.units()
    (stream,) = _pair(world_on_postgresql, monkeypatch).shadow(file).streams
    assert stream.comparison is not None
    assert (stream.begin, stream.comparison.rows, stream.comparison.changed) == ("checkpoint", (10, 10), 1)
    assert world_on_postgresql.units() == before


def test_a_first_read_that_was_broken_off_is_gone_on_with_where_it_has_one_cursor(pair: Pair) -> None:
    """An appended one: of a table that is replaced only whole, nobody has seen what was read."""
    config = {"rows": 40, "page_rows": 10, "profile": "narrow", "fail_at": 20, "fail_as": "fatal"}
    pair.world.configure(commit={"max_bytes": 1})
    assert pair.world.run(pair.world.connect(INCREMENTAL, config=config)).exit_code == 70
    assert pair.world.generations() == [(1, "open", "append")]
    before = pair.stands()
    file = pair.world.connect(INCREMENTAL, config={"rows": 40, "profile": "narrow"})
    (stream,) = pair.shadow(file).streams
    assert stream.comparison is not None
    assert (stream.begin, stream.comparison.rows, stream.comparison.changed) == ("checkpoint", (20, 20), 2)
    assert pair.stands()["connector_run_state"] == before["connector_run_state"]


def test_a_full_refresh_that_was_broken_off_is_read_from_the_start(pair: Pair) -> None:
    config = {"rows": 40, "partitions": 4, "page_rows": 5, "profile": "narrow", "fail_at": 25, "fail_as": "fatal"}
    pair.world.configure(commit={"max_bytes": 1})
    assert pair.world.run(pair.world.connect(config=config)).exit_code == 70
    before = pair.stands()
    file = pair.world.connect(config={"rows": 40, "partitions": 4, "profile": "narrow"})
    (stream,) = pair.shadow(file).streams
    assert stream.comparison is not None
    assert (stream.begin, stream.comparison.rows) == ("start", (40, 39))
    assert pair.stands()["connector_run_state"] == before["connector_run_state"]
    assert pair.stands()["generations"] == before["generations"]


def test_full_reads_from_the_start(pair: Pair) -> None:
    file = _grown(pair.world, 10)
    before = pair.stands()
    (stream,) = pair.shadow(file, full=True).streams
    assert stream.comparison is not None
    assert (stream.begin, stream.comparison.rows) == ("start", (30, 29))
    assert pair.stands() == before


def test_a_state_the_candidate_cannot_read_is_refused_before_anything_is_started(pair: Pair) -> None:
    file = _grown(pair.world, 10)
    pair.publish("2.0.0", compatibility={"state": {"writes": 2, "reads": [2]}})
    launches = pair.world.launches
    with pytest.raises(ConfigurationError, match="reads state of version 2, and rows has version 1") as caught:
        pair.shadow(file, version="2.0.0")
    assert caught.value.code == UNREADABLE
    assert "--full" in (caught.value.hint or "")
    assert pair.world.launches == launches


@pytest.mark.parametrize("replay", ["redelivery", "none"])
def test_a_source_that_can_be_read_only_once_is_refused_before_anything_is_started(pair: Pair, replay: str) -> None:
    capabilities = {**MANIFEST.document.data["capabilities"], "replay": replay}
    pair.publish("1.2.0", capabilities=capabilities)
    with pytest.raises(ConfigurationError) as caught:
        pair.shadow(pair.world.connect(config={"rows": 3}), version="1.2.0")
    assert caught.value.code == READ_ONCE
    assert pair.world.launches == 0


def test_a_stream_that_can_be_read_only_once_is_refused_before_it_is_read(pair: Pair) -> None:
    class Queue(Generator):
        def discover(self, session: Source) -> Any:
            yield sdk.Stream("rows", schema=session.table.schema, primary_key=["id"], replay=sdk.Replay.REDELIVERY)

        def read(self, session: Source, request: sdk.ReadRequest, out: sdk.Out) -> None:
            raise AssertionError("it may not be read")

    pair.world.connector = Queue
    with pytest.raises(ConfigurationError) as caught:
        pair.shadow(pair.world.connect(config={"rows": 3}))
    assert caught.value.code == READ_ONCE
    assert "dev/generator 1.0.0 was reading" in caught.value.details


def test_the_source_is_never_told_that_anything_is_committed(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    file = _grown(pair.world, 10)
    told: list[object] = []
    monkeypatch.setattr(Session, "checkpoint", lambda _self, committed: told.append(committed))
    pair.shadow(file)
    assert told == []
    pair.world.run(file)
    assert told


def test_a_connection_that_is_being_run_is_left_alone(pair: Pair) -> None:
    world = pair.world
    file = world.connect(config={"rows": 3})
    host = world.host()
    with (
        holding(world.database, file, host="host-2", ttl_s=60, stop=Stop(), clock=host.clock),
        pytest.raises(TransientError) as caught,
    ):
        pair.shadow(file)
    assert caught.value.code == HELD


def test_no_run_comes_between_the_two_halves(pair: Pair) -> None:
    world = pair.world
    file = world.connect(config={"rows": 3})
    said: list[str] = []

    class Meanwhile(Other):
        def discover(self, session: Source) -> Any:
            said.append(world.run(file).status.value)
            return super().discover(session)

    world.others["1.1.0"] = Meanwhile
    pair.shadow(file)
    assert said == ["skipped"]
    assert world.run(file).exit_code == 0


def test_what_a_release_asks_for_anew_has_to_be_agreed_to_first(pair: Pair) -> None:
    file = _grown(pair.world, 10)
    with pair.world.database.transaction() as tx:
        digest = Digest("sha256:1.0.0")
        connections.set_resolved(tx, file.key, version="1.0.0", digest=digest, decision={})
        connections.approve_surface(tx, file.key, surface.Surface((), (), "public").document())
    pair.publish("1.2.0", compliance={"classification": "restricted"})
    with pytest.raises(RefusedError, match="classification restricted") as caught:
        pair.shadow(file, version="1.2.0")
    assert caught.value.code == NOT_AGREED
    pair.publish("1.0.1")
    assert pair.shadow(file, version="1.0.1").exit_code == 0
    assert caught.value.hint == "wellhead connection approve flights --release 1.2.0"
    assert pair.statuses()[0] == ("probe", "refused", None)


def test_a_policy_holds_for_the_candidate_as_for_a_run(pair: Pair) -> None:
    pair.publish("1.2.0", **COMMUNITY)
    pair.governed = (policy("deny"),)
    file = pair.world.connect(config={"rows": 3})
    pair.world.others.clear()
    assert pair.shadow(file).is_equal
    launches = pair.world.launches
    with pytest.raises(RefusedError) as caught:
        pair.shadow(file, version="1.2.0")
    assert caught.value.code == DENIED
    assert pair.world.launches == launches


@pytest.mark.parametrize("version", ["1.0.0", "1.1.0"])
def test_a_half_that_fails_leaves_nothing_and_says_which_it_was(pair: Pair, version: str) -> None:
    class Broken(Generator):
        def read(self, session: Source, request: sdk.ReadRequest, out: sdk.Out) -> None:
            raise sdk.Fatal("it broke")

    file = pair.world.connect(config={"rows": 3})
    before = pair.stands()
    pair.world.others[version] = Broken
    with pytest.raises(WellheadError, match="it broke") as caught:
        pair.shadow(file)
    assert f"dev/generator {version} was reading" in caught.value.details
    assert pair.is_clean()
    assert pair.statuses()[-1][1] == "failed"
    assert {name: rows for name, rows in pair.stands().items() if name != "tenant_connections"} == {
        name: rows for name, rows in before.items() if name != "tenant_connections"
    }
    with pair.world.database.read() as tx:
        assert connections.get(tx, file.key).lease is None


def test_a_stream_that_only_one_can_read_is_a_difference(pair: Pair) -> None:
    class Refusing(Generator):
        def read(self, session: Source, request: sdk.ReadRequest, out: sdk.Out) -> None:
            if request.stream == "rows":
                raise sdk.Configuration("no such table")
            super().read(session, request, out)

    pair.world.others["1.1.0"] = Refusing
    done = pair.shadow(pair.world.connect("rows", "events", config={"rows": 3}))
    rows, events = done.streams
    assert (rows.is_equal, events.is_equal) == (False, True)
    assert rows.comparison is None
    assert rows.errors[0] is None
    assert rows.errors[1] is not None
    assert "no such table" in rows.errors[1].message


def test_a_wish_to_stop_ends_it_without_a_comparison(pair: Pair) -> None:
    stop = Stop()

    class Stopping(Generator):
        def discover(self, session: Source) -> Any:
            stop.request(Reason.TERMINATED)
            return super().discover(session)

    pair.world.connector = Stopping
    done = pair.shadow(pair.world.connect(config={"rows": 3}), stop)
    assert (done.exit_code, done.streams, done.candidate.run_id) == (143, (), None)
    assert done.document()["status"] == "stopped"
    assert pair.is_clean()
    assert pair.statuses()[0][1] == "stopped"


def test_every_half_has_a_run_of_its_own_and_none_counts_as_a_run(pair: Pair) -> None:
    done = pair.shadow(pair.world.connect(config={"rows": 3}))
    assert pair.statuses() == [
        ("probe", "succeeded", None),
        ("probe", "succeeded", "1.0.0"),
        ("probe", "succeeded", "1.1.0"),
    ]
    with pair.world.database.read() as tx:
        (event,) = runs.events(tx, done.run_id)
    assert event.event == shadows.COMPARED_EVENT
    assert event.details["present"] == ["1.0.0", done.present.run_id]


def test_personal_columns_are_never_shown(pair: Pair) -> None:
    (entry, *rest) = MANIFEST.document.data["streams"]
    pair.publish("1.2.0", streams=[{**entry, "fields": {"value": {"pii": "contact"}}}, *rest])
    pair.world.others["1.2.0"] = Other
    (stream,) = pair.shadow(pair.world.connect(config={"rows": 12, "profile": "narrow"}), version="1.2.0").streams
    assert stream.comparison is not None
    assert stream.comparison.examples[0].columns == {"value": (MASKED, MASKED)}


def test_an_ignored_column_does_not_count(pair: Pair) -> None:
    file = pair.world.connect({"name": "rows", "filters": {"id": {">": 5}}}, config={"rows": 30, "profile": "narrow"})
    assert not pair.shadow(file).is_equal
    assert pair.shadow(file, ignore=frozenset({"value"})).is_equal


def test_dead_letters_of_one_alone_are_a_difference(pair: Pair) -> None:
    class Rejecting(Generator):
        def read(self, session: Source, request: sdk.ReadRequest, out: sdk.Out) -> None:
            out.reject(b"{}", reason="malformed", key={"id": 99})
            super().read(session, request, out)

    pair.world.others["1.1.0"] = Rejecting
    (stream,) = pair.shadow(pair.world.connect(config={"rows": 3})).streams
    assert stream.comparison is not None
    assert (stream.dead_letters, stream.comparison.is_equal, stream.is_equal) == ((0, 1), True, False)


@dataclass
class Fencer:
    """A fence that denies one connection to every run but the first."""

    attachment: None = None
    fences: int = 0
    unrecorded_names: int = 0

    @contextmanager
    def fence(self, labels: object, policy: object, meanwhile: Callable[[], None]) -> Iterator[Fencer]:
        self.fences += 1
        yield self

    def problem(self) -> None:
        return None

    def close(self) -> list[AuditRecord]:
        at = datetime(2026, 1, 2, tzinfo=UTC)
        denied = AuditRecord(at, "connect", "else.test", 443, None, False, "not_listed", 0, 0, 1.0)
        return [denied] if self.fences > 1 else []


@pytest.fixture
def leaving(pair: Pair) -> Pair:
    """A candidate that reads the same and wants to reach another host."""
    pair.world.others.clear()
    pair.world.policy = Policy((Rule("db.test", 5432),))
    pair.world.fencer = Fencer()
    return pair


def test_a_candidate_that_wants_to_leave_its_fence_is_a_difference(leaving: Pair) -> None:
    done = leaving.shadow(leaving.world.connect(config={"rows": 3}))
    assert (done.present.denied, done.candidate.denied) == (0, 1)
    assert (done.differences, done.exit_code) == (("egress",), 78)
    with pytest.raises(ConfigurationError, match="egress"):
        done.require_equal()


def test_what_ends_a_run_for_its_egress_ends_a_shadow(leaving: Pair) -> None:
    leaving.world.configure(egress={"on_denied": "fail"})
    with pytest.raises(RefusedError) as caught:
        leaving.shadow(leaving.world.connect(config={"rows": 3}))
    assert caught.value.code == DENIED_EGRESS
    assert "dev/generator 1.1.0 was reading" in caught.value.details
    assert leaving.is_clean()


def test_a_mishap_of_one_half_s_gateway_is_no_difference(leaving: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    close = Fencer.close
    monkeypatch.setattr(Fencer, "close", lambda self: [replace(each, reason="resolver_failed") for each in close(self)])
    leaving.world.configure(egress={"on_denied": "fail"})
    done = leaving.shadow(leaving.world.connect(config={"rows": 3}))
    assert (done.differences, done.candidate.denied, done.exit_code) == ((), 0, 0)


def test_a_version_has_to_be_one(pair: Pair) -> None:
    file = pair.world.connect(config={"rows": 3})
    with pytest.raises(WellheadError, match="is not one version") as caught:
        pair.shadow(file, version="^1")
    assert caught.value.exit_code == 2


def test_what_a_dead_owner_left_is_removed_and_what_is_in_use_is_not(tmp_path: Path) -> None:
    dead = tmp_path / "dead"
    dead.mkdir()
    (dead / "rows.parquet").write_bytes(b"rows")
    (tmp_path / "dead.lock").touch()
    with scratch(tmp_path) as area:
        assert not dead.exists()
        assert sweep(tmp_path) == ()
        assert area.stat().st_mode & 0o777 == 0o700
    assert list(tmp_path.iterdir()) == []


def test_the_document_is_json_with_both_sides_named(pair: Pair) -> None:
    document: Mapping[str, Any] = pair.shadow(pair.world.connect(config={"rows": 12, "profile": "narrow"})).document()
    assert document["status"] == "different"
    assert document["present"]["version"] == "1.0.0"
    comparison = document["streams"][0]["comparison"]
    assert comparison["rows"] == {"present": 12, "candidate": 11}
    assert comparison["matched_by"] == "key"
    assert comparison["examples"][-1] == {"kind": "present_only", "key": {"id": 5}, "columns": {}}
