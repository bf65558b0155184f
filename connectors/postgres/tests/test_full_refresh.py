from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pytest

from tests.parts import Postgres as Server
from tests.parts import wait_until
from tests.postgres_source import Source, StoppedError, Tape, source
from tests.raw_host import started
from wellhead_sdk import Configuration, PlanStale, ReadRequest, SyncMode, Transient, Unit
from wellhead_sdk.wire import messages as m

pytestmark = pytest.mark.real

BIG = """
create table big (id bigint primary key, body text not null);
insert into big select i * 3, repeat(md5(i::text), 8) from generate_series(1, 60000) i;
analyze big
"""


@pytest.fixture(scope="module")
def database(postgres: Server) -> Iterator[Source]:
    with source(postgres, "full") as lent:
        lent.psql(BIG)
        yield lent


def test_discovers_what_the_catalog_says(database: Source) -> None:
    database.psql(
        'create schema "Odd Schema"; create table public."Odd ""Table" ("a b" int, c text, dropped int, '
        'primary key (c, "a b")); alter table public."Odd ""Table" drop column dropped; '
        "create view seen as select 1 as one; create materialized view kept as select 2::int8 as two; "
        "create table parent (id int, at date) partition by range (at); "
        "create table parent_2024 partition of parent for values from ('2024-01-01') to ('2025-01-01')"
    )
    streams = {stream.name: stream for stream in database.connector.discover(database.session)}
    # Other tests make tables of their own in this database, in any order: only these are judged.
    made = {"public.big", 'public.Odd "Table', "public.seen", "public.kept", "public.parent"}
    assert {name for name in streams if name in made | {"public.parent_2024"}} == made
    odd = streams['public.Odd "Table']
    assert odd.schema.names == ["a b", "c"]
    assert odd.primary_key == ("c", "a b")
    assert odd.cursor_fields == ("a b",)
    assert streams["public.big"].estimated_rows == 60000
    assert streams["public.big"].schema.field("body").nullable is False
    database.psql("insert into parent values (1, '2024-05-05')")
    assert database.full("public.parent").column("id") == [1]


def test_ranges_cover_every_row_once(postgres: Server) -> None:
    with source(postgres, "ranges", partitions=4) as ranges:
        ranges.psql(BIG)
        plan = ranges.connector.plan(ranges.session, ranges.request("public.big"))
        assert [unit.key for unit in plan.units] == ["range-0", "range-1", "range-2", "range-3"]
        counts = []
        seen: list[int] = []
        for unit in plan.units:
            tape = ranges.read(ranges.request("public.big", unit=Unit(unit.key, unit.descriptor)))
            counts.append(len(tape.column("id")))
            seen += tape.column("id")
        assert seen == [at * 3 for at in range(1, 60001)]
        assert min(counts) > 10_000
        # Rows outside the range the statistics knew have a place too.
        ranges.psql("insert into big values (-5, 'low'), (999999999, 'high')")
        ranges.session.close()
        assert len(ranges.full("public.big").column("id")) == 60002


@pytest.mark.parametrize(
    ("kind", "key"),
    [
        ("date", "date '2024-01-01' + i"),
        ("timestamp", "timestamp '2024-01-01' + i * interval '7 hours'"),
        ("timestamptz", "timestamptz '2024-01-01' + i * interval '7 hours'"),
        # Days that are months too, and fall while the months rise: read the other way round they overlap.
        ("timestamp", "make_timestamp(2000, i * 12 / 401 + 1, 12 - i * 12 / 401, 0, 0, i / 10.0)"),
    ],
)
def test_ranges_are_cut_alike_whatever_the_database_prints(postgres: Server, kind: str, key: str) -> None:
    with source(postgres, "printed", partitions=4) as printed:
        printed.psql(
            f"create table t (id {kind} primary key, n int); insert into t select {key}, i "
            "from generate_series(1, 400) i; analyze t; "
            "alter database printed set datestyle = 'German, DMY'; "
            "alter database printed set timezone = 'Asia/Kolkata'"
        )
        assert len(printed.connector.plan(printed.session, printed.request("public.t")).units) == 4
        assert sorted(printed.full("public.t").column("n")) == list(range(1, 401))


def test_a_shared_snapshot_ends_with_the_last_of_its_ranges(postgres: Server) -> None:
    held = (
        "select count(*) from pg_stat_activity where application_name = 'wellhead' and datname = 'ended' "
        "and state = 'idle in transaction'"
    )
    with source(postgres, "ended", partitions=2) as ended:
        ended.psql(BIG)
        first, second = ended.connector.plan(ended.session, ended.request("public.big")).units
        ended.read(ended.request("public.big", unit=Unit(first.key, first.descriptor)))
        assert ended.psql(held).strip() == "1"
        ended.read(ended.request("public.big", unit=Unit(second.key, second.descriptor)))
        wait_until(lambda: ended.psql(held).strip() == "0", what="the snapshot's connection is gone", within_s=10)


def test_a_snapshot_whose_plan_is_of_an_earlier_session_stays_for_all_its_ranges(postgres: Server) -> None:
    with source(postgres, "resumed", partitions=2) as resumed:
        resumed.psql(BIG)
        units = [
            Unit(unit.key, unit.descriptor)
            for unit in resumed.connector.plan(resumed.session, resumed.request("public.big", generation=1)).units
        ]
        first = resumed.read(resumed.request("public.big", generation=2, unit=units[0]))
        resumed.psql("insert into big values (179999, 'new')")
        second = resumed.read(resumed.request("public.big", generation=2, unit=units[1]))
        assert first.column("id") + second.column("id") == [at * 3 for at in range(1, 60001)]


def test_ranges_of_one_session_share_a_snapshot(postgres: Server) -> None:
    with source(postgres, "shared", partitions=2) as shared:
        shared.psql(BIG)
        units = shared.connector.plan(shared.session, shared.request("public.big")).units
        first = shared.read(shared.request("public.big", unit=Unit(units[0].key, units[0].descriptor)))
        shared.psql("delete from big where id > 150000; insert into big values (179999, 'new')")
        second = shared.read(shared.request("public.big", unit=Unit(units[1].key, units[1].descriptor)))
        assert first.column("id") + second.column("id") == [at * 3 for at in range(1, 60001)]
        later = shared.read(shared.request("public.big", unit=Unit(units[1].key, units[1].descriptor), generation=1))
        assert later.column("id")[-1] == 179999


@pytest.mark.parametrize("stops", [1, 2, 3])
def test_an_interrupted_read_goes_on_behind_its_last_checkpoint(database: Source, stops: int) -> None:
    interrupted = Tape(stop_after=stops)
    with pytest.raises(StoppedError):
        database.read(database.request("public.big"), interrupted)
    kept = [key for batch in interrupted.committed for key in batch.column("id").to_pylist()]
    assert kept
    resumed = database.read(database.request("public.big", cursor=interrupted.state))
    assert kept + resumed.column("id") == [at * 3 for at in range(1, 60001)]


def test_a_key_of_several_columns_of_any_type_can_be_resumed_from(database: Source) -> None:
    database.psql(
        "create table wide_key (at timestamptz, name text, amount numeric(9,3), body text, "
        "primary key (at, name, amount)); insert into wide_key select "
        "'2024-01-01'::timestamptz + (i % 7) * interval '0.000001 s', 'n''\\' || (i % 5), i / 7.0, repeat('y', 400) "
        "from generate_series(1, 30000) i"
    )
    whole = database.full("public.wide_key", columns=("body", "amount"))
    interrupted = Tape(stop_after=1)
    with pytest.raises(StoppedError):
        database.read(database.request("public.wide_key", columns=("body", "amount")), interrupted)
    resumed = database.read(database.request("public.wide_key", columns=("body", "amount"), cursor=interrupted.state))
    assert interrupted.column("amount") + resumed.column("amount") == whole.column("amount")
    assert resumed.batches[0].schema.names == ["body", "amount"]


def test_a_table_without_a_key_offers_its_end_alone(database: Source) -> None:
    database.psql("create table heap as select i, repeat('z', 500) as body from generate_series(1, 20000) i")
    tape = database.full("public.heap")
    assert len(tape.column("i")) == 20000
    assert [batches for batches, _ in tape.states] == [len(tape.batches)]
    assert len(tape.batches) > 1
    assert database.read(database.request("public.heap", cursor=tape.state)).batches == []


def test_a_table_that_got_a_key_is_read_anew(database: Source) -> None:
    database.psql("create table keyless as select i from generate_series(1, 9) i")
    state = database.full("public.keyless").state
    database.psql("alter table keyless add primary key (i)")
    with pytest.raises(PlanStale, match="no longer none"):
        database.read(database.request("public.keyless", cursor=state))


def test_an_empty_table_is_read(database: Source) -> None:
    database.psql("create table nothing (id int primary key)")
    assert database.full("public.nothing").batches == []


def test_the_batch_size_is_what_the_server_is_asked_for_at_a_time(database: Source) -> None:
    small = database.full("public.big", batch_size=500)
    large = database.full("public.big", batch_size=10_000)
    assert small.pages > 5 * large.pages
    assert small.column("id") == large.column("id")


def _filtered(database: Source, *filters: tuple[str, str, tuple[Any, ...]]) -> list[int]:
    request = database.request("public.filtered", filters=filters)
    assert list(database.connector.pushdown(database.session, request).filters) == list(range(len(filters)))
    return [int(row) for row in database.full("public.filtered", filters=filters).column("id")]


def test_filters_are_answered_by_the_server(database: Source) -> None:
    database.psql(
        "create type colour as enum ('red', 'blue'); create table filtered (id int primary key, t text, "
        "n numeric(9,2), d date, u uuid, c colour, b bool); insert into filtered values "
        "(1, 'it''s', 1.50, '2024-01-01', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', 'red', true), "
        "(2, E'back\\\\slash', 2, '2024-01-02', null, 'blue', false), (3, null, null, null, null, null, null), "
        "(4, 'Zebra', 4, '2024-01-04', null, 'red', true), (5, 'apple', 5, '2024-01-05', null, 'red', true)"
    )
    assert _filtered(database, ("t", "=", ("it's",))) == [1]
    assert _filtered(database, ("t", "=", ("back\\slash",))) == [2]
    assert _filtered(database, ("t", "=", ("'; drop table filtered; --",))) == []
    assert _filtered(database, ("t", "<", ("a",))) == [4]
    assert _filtered(database, ("t", "in", ("it's", "apple"))) == [1, 5]
    assert _filtered(database, ("t", "in", ())) == []
    assert _filtered(database, ("t", "is_null", (True,))) == [3]
    assert _filtered(database, ("t", "is_null", (False,)), ("id", ">", (2,))) == [4, 5]
    assert _filtered(database, ("n", ">=", (2,)), ("n", "<", (4.5,))) == [2, 4]
    assert _filtered(database, ("d", "!=", ("2024-01-01",))) == [2, 4, 5]
    assert _filtered(database, ("u", "=", ("A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11",))) == [1]
    assert _filtered(database, ("c", "=", ("red",)), ("b", "=", (True,))) == [1, 4, 5]
    assert _filtered(database, ("c", "=", ("green",))) == []


@pytest.mark.parametrize(
    ("kind", "op"), [("float8", "="), ("char(5)", "="), ("json", "="), ("int[]", "="), ("uuid", "<"), ("bytea", "=")]
)
def test_a_filter_the_host_would_answer_otherwise_is_left_to_it(database: Source, kind: str, op: str) -> None:
    database.psql(f"drop table if exists left_alone; create table left_alone (id int primary key, v {kind})")
    request = database.request("public.left_alone", filters=[("v", op, ("1",))])
    assert list(database.connector.pushdown(database.session, request).filters) == []
    assert database.full("public.left_alone", filters=[("v", op, ("1",))]).batches == []


def test_a_table_altered_since_it_was_discovered_is_not_read(database: Source) -> None:
    database.psql("create table shifting (id int primary key, v int)")
    request = database.request("public.shifting")
    database.psql("alter table shifting alter v type text")
    with pytest.raises(Transient, match="altered"):
        database.read(request)


def test_a_plan_for_another_key_is_stale(database: Source) -> None:
    unit = Unit("range-0", {"key": "body", "from": None, "below": "9"})
    with pytest.raises(PlanStale):
        database.connector.check_plan(database.session, database.request("public.big"), [unit])
    with pytest.raises(PlanStale):
        database.read(database.request("public.big", cursor={"key": ["body"], "after": ["9"]}))


def test_an_abandoned_read_frees_the_server_at_once(database: Source) -> None:
    with pytest.raises(StoppedError):
        database.read(database.request("public.big"), Tape(stop_after=1))
    busy = "select count(*) from pg_stat_activity where application_name = 'wellhead' and state <> 'idle'"
    assert database.psql(busy).strip() == "0"


def test_a_server_that_dies_mid_read_is_transient(postgres: Server) -> None:
    with source(postgres, "dying") as dying:
        dying.psql(BIG.replace("60000", "200000"))

        def kill() -> None:
            dying.psql(
                "select pg_terminate_backend(pid) from pg_stat_activity "
                "where application_name = 'wellhead' and datname = 'dying'"
            )

        with pytest.raises(Transient):
            dying.read(dying.request("public.big"), Tape(on_emit=kill))


def test_a_view_that_fails_at_the_server_is_for_a_person_to_mend(database: Source) -> None:
    database.psql("create view failing as select 1 / (30000 - id / 3) as v from big")
    with pytest.raises(Configuration, match="division by zero") as caught:
        database.full("public.failing")
    assert caught.value.reason == "query_failed"


def test_is_spoken_to_over_its_socket(postgres: Server, tmp_path: Path) -> None:
    manifest = Path(__file__).parent.parent / "manifest.yaml"
    with source(postgres, "wired") as wired, started("wellhead_postgres", tmp_path, manifest) as host:
        wired.psql(BIG)
        config = {"host": "127.0.0.1", "port": postgres.port, "database": "wired", "ssl_mode": "disable"}
        identity = host.authenticate(json.dumps(config), username="postgres", password=postgres.password)
        assert identity.identity == "postgres@wired"
        assert [(probe.name, probe.ok) for probe in identity.probes] == [
            ("login", True),
            ("tls", True),
            ("schema", True),
            ("lookback", True),
        ]
        (stream,) = host.discover("public.big")
        assert stream.primary_key == ("id",)
        host.plan(m.ReadOrder("r", "public.big", m.SyncMode.FULL_REFRESH, columns=("id",)))
        heard = host.emit("r")
        assert heard.error is None
        assert heard.of(m.Failure) == []
        table: pa.Table = heard.table()
        assert table.column("id").to_pylist() == [at * 3 for at in range(1, 60001)]
        assert isinstance(heard.frames[-1], m.DoneFrame)


def test_no_session_is_left_open(postgres: Server) -> None:
    with source(postgres, "left", partitions=2) as left:
        left.psql(BIG)
        left.full("public.big")
        left.connector.close(left.session)
        left.connector.close(left.session)
        with psycopg.connect(postgres.url("postgres"), autocommit=True) as other:
            row = other.execute("select count(*) from pg_stat_activity where datname = 'left'").fetchone()
        assert row == (0,)


def test_a_request_says_what_it_wants(database: Source) -> None:
    request: ReadRequest = database.request("public.big", SyncMode.FULL_REFRESH, columns=("body",))
    assert database.connector.pushdown(database.session, request).columns is True
    tape = database.read(request)
    assert tape.batches[0].schema.names == ["body"]
