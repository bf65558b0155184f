"""The connector as a process behind the SDK, reading from a real HTTPS source and heard over its socket."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pyarrow as pa
import pytest

from tests.https_source import Asked, Reply, Source, https_source, page
from tests.raw_host import Heard, Host, started
from wellhead_sdk.wire import messages as m
from wellhead_sdk.wire import service, status

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent.parent
ORDER = m.ReadOrder("read-1", "items", m.SyncMode.FULL_REFRESH, batch_rows=2)
COLUMNS = {"id": "int", "price": "decimal(10,2)", "at": "timestamptz"}
STREAM = {"name": "items", "path": "items", "records": "data.items", "primary_key": ["id"], "columns": COLUMNS}
CURSOR = {"mode": "cursor", "request_param": "after", "response_field": "meta.next"}

Start = Callable[..., Host]


@pytest.fixture
def source(tmp_path: Path) -> Iterator[Source]:
    with https_source(tmp_path) as served:
        yield served


@pytest.fixture
def identities() -> dict[Host, m.Identity]:
    """What each started connector said of the connection."""
    return {}


@pytest.fixture
def start(tmp_path: Path, source: Source, identities: dict[Host, m.Identity]) -> Iterator[Start]:
    """Start connectors with the config given as keywords, each in a fresh process; ``secrets`` are lent."""
    with ExitStack() as scope:

        def begin(secrets: dict[str, str] | None = None, **config: Any) -> Host:
            folder = tmp_path / f"run-{len(list(tmp_path.glob('run-*')))}"
            folder.mkdir()
            host = scope.enter_context(started("wellhead_http_json", folder, HERE / "manifest.yaml"))
            base = {"base_url": source.base_url, "ca_pem": source.ca_pem, "streams": [STREAM], "pagination": CURSOR}
            identities[host] = host.authenticate(json.dumps(base | config), **(secrets or {}))
            source.tape.clear()  # the probe's own request
            return host

        yield begin


def item(number: int) -> dict[str, Any]:
    return {"id": number, "price": number + 0.25, "at": "2026-03-01T12:00:00Z", "extra": {"n": number}}


def numbered(pages: int, size: int = 2) -> Callable[[Asked], Reply]:
    """Serve pages of numbered items; the cursor is the next page's number."""

    def route(asked: Asked) -> Reply:
        number = int(dict(asked.query).get("after", "0"))
        items = [item(number * size + offset) for offset in range(size)]
        return page({"data": {"items": items}, "meta": {"next": str(number + 1) if number + 1 < pages else None}})

    return route


def read(host: Host, **changed: Any) -> Heard:
    order = replace(ORDER, **changed)
    host.plan(order)
    return host.emit(order.read_id, order.units[0].key if order.units else "all")


def failure(caught: pytest.ExceptionInfo[grpc.RpcError]) -> m.Failure:
    """Return what the connector said of its failure."""
    (packed,) = (one.value for one in caught.value.trailing_metadata() if one.key == service.STATUS_KEY)
    found = status.decode(packed)
    assert found is not None
    return found


def test_streams_are_offered_without_asking_the_source(start: Start, source: Source) -> None:
    source.route = numbered(1)
    (stream,) = start().discover()
    assert source.tape == []
    assert stream.schema.names == ["id", "price", "at", "undeclared"]
    assert stream.schema.field("price").type == pa.decimal128(10, 2)
    assert (stream.primary_key, stream.sync_modes) == (("id",), (m.SyncMode.FULL_REFRESH,))


def test_every_page_arrives_once_with_the_hash_of_its_bytes_and_a_checkpoint_behind_it(
    start: Start, source: Source
) -> None:
    source.route = numbered(3)
    heard = read(start())
    table = heard.table()
    assert table.column("id").to_pylist() == list(range(6))
    assert table.column("undeclared").to_pylist()[0] == '{"extra":{"n":0}}'
    assert [asked.query for asked in source.tape] == [(), (("after", "1"),), (("after", "2"),)]
    batches = heard.of(m.BatchFrame)
    bodies = [numbered(3)(asked).body for asked in source.tape]
    assert [batch.raw_ref for batch in batches] == [f"sha256:{hashlib.sha256(body).hexdigest()}" for body in bodies]
    assert [json.loads(offer.state) for offer in heard.of(m.CheckpointFrame)] == [
        {"complete": False, "cursor": "1"},
        {"complete": False, "cursor": "2"},
        {"complete": True, "cursor": None},
    ]
    last = heard.of(m.ProgressFrame)[-1]
    assert (last.requests_total, last.pages_processed_total, last.requests_failed_total) == (3, 3, 0)
    assert last.bytes_ingested_total == sum(len(body) for body in bodies)


@pytest.mark.parametrize(
    ("state", "ids"), [({"cursor": "2", "complete": False}, [4, 5]), ({"cursor": None, "complete": True}, [])]
)
def test_a_read_goes_on_behind_the_stored_page_in_a_fresh_process(
    state: dict[str, Any], ids: list[int], start: Start, source: Source
) -> None:
    source.route = numbered(3)
    heard = read(start(), units=(m.Unit("all", state=json.dumps(state).encode(), state_version=1),))
    assert [row["id"] for frame in heard.of(m.BatchFrame) for row in rows_of(frame)] == ids
    assert heard.kinds[-1] == "done"


def rows_of(frame: m.BatchFrame) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = Heard([frame]).table().to_pylist()
    return found


def test_a_page_that_broke_off_is_asked_for_again_and_no_record_comes_twice(start: Start, source: Source) -> None:
    host = start()
    route = numbered(3)
    broken = replace(route(Asked("", (), {})), fault="truncated")
    source.answer(broken, broken)
    source.route = route
    heard = read(host)
    assert heard.table().column("id").to_pylist() == list(range(6))
    assert heard.of(m.ProgressFrame)[-1].retries_total == 2


def test_a_cursor_handed_out_twice_stops_the_read_with_a_data_error(start: Start, source: Source) -> None:
    source.route = lambda asked: page({"data": {"items": [item(1)]}, "meta": {"next": "again"}})
    heard = read(start())
    (told,) = heard.of(m.Failure)
    assert (told.kind, told.stream) == ("data", "items")
    assert "one cursor twice" in told.message
    assert len(source.tape) == 2


def test_records_that_do_not_fit_are_dead_letters_and_the_page_goes_on(start: Start, source: Source) -> None:
    host = start(pagination={"mode": "none"})
    source.answer(page({"data": {"items": [item(1), {**item(2), "price": 2.005}, 7, item(4)]}}))
    heard = read(host)
    assert heard.table().column("id").to_pylist() == [1, 4]
    told = {(one.reason, one.column, one.key_json, one.text) for one in heard.of(m.RejectedFrame)}
    assert told == {("unrepresentable", "price", '{"id": 2}', "2.005"), ("malformed", "", "", "not an object")}


def test_throttling_shows_as_a_wait_with_the_time_the_source_gave(start: Start, source: Source) -> None:
    host = start(pagination={"mode": "none"})
    source.answer(Reply(429, headers={"Retry-After": "2"}), page({"data": {"items": []}}))
    heard = read(host)
    (wait,) = heard.of(m.WaitFrame)
    assert wait.reason == "GET localhost/items answered 429"
    assert heard.kinds[-1] == "done"


@pytest.mark.parametrize(
    ("config", "secrets", "header", "query"),
    [
        ({"auth": "bearer"}, {"token": "t0k3n"}, ("Authorization", "Bearer t0k3n"), ()),
        ({"auth": "api_key"}, {"api_key": "k3y"}, ("X-API-Key", "k3y"), ()),
        ({"auth": "api_key", "key": {"name": "X-Auth"}}, {"api_key": "k3y"}, ("X-Auth", "k3y"), ()),
        (
            {"auth": "api_key", "key": {"name": "appid", "place": "query"}},
            {"api_key": "k3y"},
            ("Accept", "application/json"),
            (("appid", "k3y"),),
        ),
    ],
)
def test_the_secret_goes_where_the_source_wants_it(
    config: dict[str, Any],
    secrets: dict[str, str],
    header: tuple[str, str],
    query: tuple[tuple[str, str], ...],
    start: Start,
    source: Source,
) -> None:
    source.route = numbered(1)
    read(start(secrets, **config))
    (asked,) = source.tape
    assert asked.headers[header[0]] == header[1]
    assert asked.query == query


def test_a_missing_secret_is_named(start: Start) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        start(auth="bearer")
    told = failure(caught)
    assert (told.reason, dict(told.fields)) == ("secret_missing", {"secrets.token": "missing"})


@pytest.mark.parametrize(
    ("reply", "ok", "detail"),
    [
        (page({"data": {"items": [item(1)]}, "meta": {}}), True, "items: 1 record on the first page"),
        (Reply(401), False, "GET localhost/items answered 401"),
        (Reply(404), False, "GET localhost/items answered 404"),
        (page({"rows": []}), False, "the answer for items has no list at data.items"),
    ],
)
def test_the_connection_test_tells_what_the_first_page_is(
    reply: Reply, ok: bool, detail: str, start: Start, source: Source, identities: dict[Host, m.Identity]
) -> None:
    source.answer(reply)
    host = start()
    (probe,) = identities[host].probes
    assert (probe.name, probe.ok, probe.detail) == ("first_page", ok, detail)


def test_incremental_is_refused_with_what_is_offered(start: Start) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        start().plan(replace(ORDER, mode=m.SyncMode.INCREMENTAL, cursor_field="at"))
    told = failure(caught)
    assert (told.kind, told.stream) == ("permanent", "items")
    assert "full_refresh" in told.hint


def test_the_asked_page_size_reaches_a_source_that_knows_one(start: Start, source: Source) -> None:
    source.route = numbered(1)
    read(start(streams=[STREAM | {"batch_size_param": "limit", "query": {"sort": "id"}}]), batch_rows=500)
    assert source.tape[0].query == (("sort", "id"), ("limit", "500"))


def test_without_columns_a_record_arrives_as_its_own_json(start: Start, source: Source) -> None:
    source.route = lambda _: Reply(body=b'[{"price": 1.10, "big": 123456789012345678901234567890}]')
    heard = read(start(pagination={"mode": "none"}, streams=[{"name": "items", "path": "items"}]))
    assert heard.table().to_pylist() == [{"record": '{"price":1.10,"big":123456789012345678901234567890}'}]


def test_wanted_columns_alone_travel(start: Start, source: Source) -> None:
    source.route = numbered(1)
    assert read(start(), columns=("at", "id")).table().column_names == ["at", "id"]


@pytest.mark.parametrize(
    ("config", "field"),
    [
        ({"base_url": "http://api.example.com"}, "base_url"),
        ({"ca_pem": "nonsense"}, "ca_pem"),
        ({"pagination": {"mode": "cursor"}}, "pagination"),
        ({"streams": [STREAM | {"columns": {"id": "number"}}]}, "streams.0.columns"),
        ({"streams": [STREAM | {"primary_key": ["nope"]}]}, "streams.0"),
        ({"streams": [STREAM, STREAM]}, "config"),
        ({"streams": []}, "config"),
    ],
)
def test_a_wrong_parameter_is_named(config: dict[str, Any], field: str, start: Start) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        start(**config)
    told = failure(caught)
    assert told.kind == "permanent"
    assert dict(told.fields).keys() == {field}
