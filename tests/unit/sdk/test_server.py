"""The SDK's half and the host's half, talking over a real socket."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import math
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn

import pyarrow as pa
import pytest
from pydantic import BaseModel, Field

import wellhead_sdk as sdk
from tests.unit.sdk.conftest import RELEASE, Start, talking
from wellhead.errors import AuthError, ConfigurationError, DataError, FatalError, ThrottledError, TransientError
from wellhead.session import failures
from wellhead.session.client import Session
from wellhead.session.stream import Batch, UnitStream
from wellhead_sdk import out as outs
from wellhead_sdk.batching import Batcher
from wellhead_sdk.wire import messages as m

SCHEMA = pa.schema([pa.field("id", pa.int64(), False), ("name", pa.string())])
STREAM = sdk.Stream("s", schema=SCHEMA, primary_key=["id"], cursor="id")
CREDIT = 16 * 1024 * 1024

Reads = Callable[[Any, sdk.ReadRequest, sdk.Out], None]


class Fake(sdk.Connector):
    """A connector whose read is a test's function; it keeps a tape of what it was told."""

    max_parallel = 4

    def __init__(self, read: Reads | None = None, **hooks: Any) -> None:
        self._read = read or (lambda session, request, out: out.emit([{"id": 1, "name": "a"}]))
        self.tape: list[tuple[str, Any]] = []
        self.sessions = 0
        for name, hook in hooks.items():
            setattr(self, name, hook)

    def authenticate(self, config: Any, secrets: Mapping[str, str]) -> int:
        self.sessions += 1
        self.tape.append(("authenticate", dict(secrets)))
        return self.sessions

    def discover(self, session: int) -> Iterable[sdk.Stream]:
        yield STREAM
        yield sdk.Stream("t", schema=pa.schema([("x", pa.bool_())]))

    def read(self, session: int, request: sdk.ReadRequest, out: sdk.Out) -> None:
        self._read(session, request, out)

    def on_committed(self, session: int, state: sdk.State) -> None:
        self.tape.append(("committed", state))

    def close(self, session: int) -> None:
        self.tape.append(("close", session))


def order(**changes: Any) -> m.ReadOrder:
    values: dict[str, Any] = {"read_id": "r", "stream": "s", "mode": m.SyncMode.FULL_REFRESH}
    return m.ReadOrder(**(values | changes))


@contextmanager
def reading(session: Session, credit: int = CREDIT, **changes: Any) -> Iterator[UnitStream]:
    plan = session.read(order(**changes))
    with session.emit("r", plan.units[0].key, credit) as unit:
        yield unit


def frames_of(session: Session, **changes: Any) -> list[Any]:
    """Read one unit to its end, giving credit back at once."""
    frames = []
    with reading(session, **changes) as unit:
        for frame in unit:
            frames.append(frame)
            unit.grant(getattr(frame, "payload_bytes", 0))
        unit.finish()
    return frames


def rows_of(frames: list[Any]) -> list[dict[str, Any]]:
    return [row for frame in frames if isinstance(frame, Batch) for row in frame.record_batch.to_pylist()]


def of(kind: type[Any], frames: list[Any]) -> list[Any]:
    return [frame for frame in frames if isinstance(frame, kind)]


# the life of a read


def test_a_whole_conversation() -> None:
    def read(session: int, request: sdk.ReadRequest, out: sdk.Out) -> None:
        out.count(requests=2, pages=1, bytes=10)
        out.emit([{"id": 1, "name": "a"}, {"id": 2}], raw=b"page")
        out.log("info", "read", page=1)
        out.checkpoint({"page": 1}, watermark=datetime(2026, 1, 1, tzinfo=UTC))

    connector = Fake(read)
    logged: list[m.LogFrame] = []
    with talking(connector, logged.append) as session:
        description = session.describe((1,), (), "0.1")
        assert (
            description.connector_id,
            description.version,
            description.manifest_sha256,
            description.max_parallel,
        ) == (
            RELEASE.connector_id,
            RELEASE.version,
            RELEASE.manifest_sha256,
            4,
        )
        session.authenticate(m.Credentials("{}", (m.Secret("password", "p"),)))
        assert [stream.name for stream in session.discover(())] == ["s", "t"]
        assert session.discover(("t",))[0].schema == pa.schema([("x", pa.bool_())])
        session.checkpoint(m.Committed("r", "all", 0, 0, b'{"page":0}', 1))
        frames = frames_of(session)
        session.checkpoint(m.Committed("r", "all", 1, 1, b"opaque", 1))
    assert [type(frame).__name__ for frame in frames] == [
        "Schema",
        "Batch",
        "ProgressFrame",
        "CheckpointFrame",
        "DoneFrame",
    ]
    _, batch, progress, checkpoint, done = frames
    assert rows_of(frames) == [{"id": 1, "name": "a"}, {"id": 2, "name": None}]
    assert batch.raw_ref == f"sha256:{hashlib.sha256(b'page').hexdigest()}"
    assert progress == m.ProgressFrame(2, 0, 10, 1, 0)
    assert json.loads(checkpoint.state) == {"page": 1}
    assert checkpoint.watermark == datetime(2026, 1, 1, tzinfo=UTC)
    assert done == m.DoneFrame(m.DoneReason.COMPLETE, (m.StreamTotals("s", 2, 0, 1),))
    assert logged == [m.LogFrame(m.LogLevel.INFO, "read", (("page", "1"),))]
    assert connector.tape == [
        ("authenticate", {"password": "p"}),
        ("committed", {"page": 0}),
        ("committed", b"opaque"),
        ("close", 1),
    ]


def test_a_host_of_another_protocol_gets_no_version() -> None:
    with talking(Fake()) as session, pytest.raises(FatalError, match="version 0"):
        session.describe((7,))


def test_a_read_that_offers_no_checkpoint_ends_with_one(start: Start) -> None:
    frames = frames_of(start(Fake()), units=(m.Unit("all", state=b'{"from":"before"}'),))
    assert [type(frame).__name__ for frame in frames[-2:]] == ["CheckpointFrame", "DoneFrame"]
    assert (frames[-2].rows_since_last, frames[-2].state) == (1, b'{"from":"before"}')


def test_an_empty_read_offers_a_checkpoint_of_no_rows(start: Start) -> None:
    frames = frames_of(start(Fake(lambda *_: None)))
    assert [type(frame).__name__ for frame in frames] == ["Schema", "CheckpointFrame", "DoneFrame"]


def test_a_request_carries_what_was_ordered(start: Start) -> None:
    requests: list[sdk.ReadRequest] = []
    session = start(Fake(lambda session, request, out: requests.append(request)))
    since = datetime(2026, 1, 1, tzinfo=UTC)
    wanted = sdk.Filter("id", ">", (5,))
    frames_of(
        session,
        mode=m.SyncMode.INCREMENTAL,
        cursor_field="id",
        columns=("name",),
        filters=(wanted,),
        since=since,
        batch_rows=7,
        generation=3,
        units=(m.Unit("all", b'{"d":1}', b'{"c":2}', 1),),
    )
    (request,) = requests
    assert request == sdk.ReadRequest(
        stream="s",
        mode=m.SyncMode.INCREMENTAL,
        schema=pa.schema([("name", pa.string())]),
        unit=sdk.Unit("all", {"d": 1}),
        cursor={"c": 2},
        state=b'{"c":2}',
        state_version=1,
        since=since,
        columns=("name",),
        filters=(wanted,),
        batch_size=7,
        cursor_field="id",
        primary_key=("id",),
        generation=3,
    )


def test_units_are_read_side_by_side(start: Start) -> None:
    together = threading.Barrier(3, timeout=5)

    def read(session: int, request: sdk.ReadRequest, out: sdk.Out) -> None:
        together.wait()
        out.emit({"id": int(request.unit.key[-1]), "name": request.unit.key})

    units = tuple(sdk.Unit(f"part-{index}", {"index": index}) for index in range(3))
    session = start(Fake(read, plan=lambda session, request: sdk.Plan(units, {"final": 1})))
    plan = session.read(order())
    assert (json.loads(plan.final_state), [unit.key for unit in plan.units]) == (
        {"final": 1},
        ["part-0", "part-1", "part-2"],
    )
    rows: list[dict[str, Any]] = []

    def take(key: str) -> None:
        with session.emit("r", key, CREDIT) as unit:
            rows.extend(rows_of(list(unit)))
            unit.finish()

    threads = [threading.Thread(target=take, args=(unit.key,)) for unit in plan.units]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(row["id"] for row in rows) == [0, 1, 2]


def test_a_stored_plan_is_served_again_or_refused_as_stale(start: Start) -> None:
    session = start(Fake())
    sent = (m.Unit("all", b"", b"{}", 1),)
    assert session.read(order(units=sent)).units == sent
    with pytest.raises(ConfigurationError) as caught:
        session.read(order(units=(m.Unit("part-1"), m.Unit("part-2"))))
    assert caught.value.code is failures.PLAN_STALE


def test_what_is_pushed_down_is_said(start: Start) -> None:
    hooks: dict[str, Any] = {"pushdown": lambda session, request: sdk.Pushdown(columns=True, filters=[0])}
    plan = start(Fake(**hooks)).read(order(filters=(sdk.Filter("id", "=", (1,)),)))
    assert (plan.columns_pushed_down, plan.filters_pushed_down) == (True, (0,))


# back-pressure, linger, rejects


def test_the_author_waits_while_the_host_gives_no_credit(start: Start) -> None:
    emitted = threading.Semaphore(0)

    def read(session: int, request: sdk.ReadRequest, out: sdk.Out) -> None:
        for index in range(3):
            out.emit(pa.record_batch({"id": [index] * 200_000, "name": ["x"] * 200_000}))
            emitted.release()

    with reading(start(Fake(read)), credit=1) as unit:
        assert type(unit.poll(5)).__name__ == "Schema"
        first = unit.poll(5)
        assert isinstance(first, Batch)
        assert emitted.acquire(timeout=5)
        assert not emitted.acquire(timeout=0.3)
        unit.grant(first.payload_bytes + 1)
        assert emitted.acquire(timeout=5)


def test_a_slow_sources_rows_travel_within_the_linger(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outs, "LINGER_S", 0.05)
    go_on = threading.Event()

    def read(session: int, request: sdk.ReadRequest, out: sdk.Out) -> None:
        out.emit({"id": 1})
        assert go_on.wait(5)

    with reading(start(Fake(read))) as unit:
        assert type(unit.poll(5)).__name__ == "Schema"
        assert isinstance(unit.poll(5), Batch)
        go_on.set()


def test_pages_with_their_own_raw_reference_do_not_share_a_batch(start: Start) -> None:
    def read(session: int, request: sdk.ReadRequest, out: sdk.Out) -> None:
        out.emit({"id": 1}, raw="sha256:1")
        out.emit({"id": 2}, raw="sha256:1")
        out.emit({"id": 3}, raw="sha256:2")

    batches = of(Batch, frames_of(start(Fake(read))))
    assert [(batch.raw_ref, batch.record_batch.num_rows) for batch in batches] == [("sha256:1", 2), ("sha256:2", 1)]


def test_rejected_records_are_counted_and_carry_their_key(start: Start) -> None:
    def read(session: int, request: sdk.ReadRequest, out: sdk.Out) -> None:
        out.reject({"id": 7, "name": "x" * 9000}, reason="malformed", column="name", text="x")
        out.reject(b"raw bytes", reason="malformed")
        out.emit([{"id": "no number"}])

    frames = frames_of(start(Fake(read)))
    first, second, third = of(m.RejectedFrame, frames)
    assert (first.key_json, len(first.sample), first.size > 9000, first.column) == ('{"id": 7}', 4096, True, "name")
    assert (second.sample, second.size, len(second.sha256)) == (b"raw bytes", 9, 32)
    assert (third.reason, third.column) == ("unrepresentable", "id")
    assert frames[-1].totals == (m.StreamTotals("s", 0, 3, 0),)


def test_an_unknown_field_is_logged_once(start: Start) -> None:
    logged: list[m.LogFrame] = []

    def read(session: int, request: sdk.ReadRequest, out: sdk.Out) -> None:
        out.emit([{"id": 1, "extra": 1}])
        out.checkpoint({})
        out.emit([{"id": 2, "extra": 1}])

    frames_of(start(Fake(read), logged.append))
    assert [line.fields for line in logged] == [(("field", "extra"), ("stream", "s"))]


def test_a_schema_may_change_behind_a_checkpoint_only(start: Start) -> None:
    wide = SCHEMA.append(pa.field("more", pa.bool_()))

    def read(session: int, request: sdk.ReadRequest, out: sdk.Out) -> None:
        out.emit({"id": 1})
        out.checkpoint({})
        out.change_schema(wide)
        out.emit({"id": 2, "more": True})
        out.change_schema(SCHEMA)

    with pytest.raises(FatalError, match="directly after"):
        frames_of(start(Fake(read)))


# stop and rotation


def endless(session: int, request: sdk.ReadRequest, out: sdk.Out) -> None:
    number = (request.cursor or {"n": 0})["n"]
    while True:
        number += 1
        out.emit({"id": number, "name": f"session {session}"})
        out.checkpoint({"n": number})


def test_a_drained_unit_says_done_behind_a_checkpoint(start: Start) -> None:
    frames: list[Any] = []
    with reading(start(Fake(endless))) as unit:
        for frame in unit:
            frames.append(frame)
            unit.grant(getattr(frame, "payload_bytes", 0))
            if len(frames) == 5:
                unit.stop(m.StopMode.DRAIN, 5)
        unit.finish()
    assert frames[-1].reason is m.DoneReason.STOPPED
    assert isinstance(frames[-2], m.CheckpointFrame)
    assert [row["id"] for row in rows_of(frames)] == list(range(1, len(rows_of(frames)) + 1))


def test_a_drain_wakes_a_unit_that_waits(start: Start) -> None:
    def read(session: int, request: sdk.ReadRequest, out: sdk.Out) -> None:
        out.emit({"id": 1})
        out.checkpoint({"n": 1})
        out.wait(datetime.now(UTC) + timedelta(hours=1), "quota")

    with reading(start(Fake(read))) as unit:
        frames: list[Any] = []
        for frame in unit:
            frames.append(frame)
            if isinstance(frame, m.WaitFrame):
                unit.stop(m.StopMode.DRAIN, 5)
        unit.finish()
    assert frames[-1].reason is m.DoneReason.STOPPED
    assert frames[-2].reason == "quota"


def test_leaving_a_unit_unwinds_its_read(start: Start) -> None:
    unwound = threading.Event()

    def read(session: int, request: sdk.ReadRequest, out: sdk.Out) -> None:
        try:
            endless(session, request, out)
        finally:
            unwound.set()

    with reading(start(Fake(read))) as unit:
        assert unit.poll(5) is not None
    assert unwound.wait(5)


def test_an_author_who_catches_every_exception_is_unwound_all_the_same(start: Start) -> None:
    def read(session: int, request: sdk.ReadRequest, out: sdk.Out) -> None:
        number = 0
        while True:
            number += 1
            try:
                out.emit({"id": number})
                out.checkpoint({"n": number})
            except Exception:  # noqa: BLE001 - the author's mistake under test
                continue

    with reading(start(Fake(read))) as unit:
        assert unit.poll(5) is not None
        unit.stop(m.StopMode.DRAIN, 5)
        frames: list[Any] = list(unit)
    assert frames[-1].reason is m.DoneReason.STOPPED


def test_an_author_who_swallows_the_unwinding_has_not_read_to_the_end(start: Start) -> None:
    def read(session: int, request: sdk.ReadRequest, out: sdk.Out) -> None:
        with contextlib.suppress(BaseException):
            endless(session, request, out)

    with reading(start(Fake(read))) as unit:
        assert unit.poll(5) is not None
        unit.stop(m.StopMode.DRAIN, 5)
        frames: list[Any] = list(unit)
    assert frames[-1].reason is m.DoneReason.STOPPED


def test_the_opened_hosts_are_known_before_authenticate() -> None:
    host = m.OpenedHost("db.example.com", 5432, private=True)
    connector = Fake(identify=lambda session: sdk.Identity(session))

    def authenticate(config: Any, secrets: Mapping[str, str]) -> str:
        return f"{connector.hosts[0].host}:{connector.hosts[0].port}"

    connector.authenticate = authenticate  # type: ignore[method-assign, assignment]
    with talking(connector) as session:
        assert session.authenticate(m.Credentials("{}", hosts=(host,))).identity == "db.example.com:5432"


def test_rotation_moves_an_open_read_to_the_new_session_and_closes_the_old(start: Start) -> None:
    connector = Fake(endless)
    session = start(connector)
    frames: list[Any] = []
    rotated = threading.Thread(
        target=lambda: session.authenticate(m.Credentials("{}", (m.Secret("password", "second"),), rotation=1))
    )
    with reading(session) as unit:
        for frame in unit:
            frames.append(frame)
            unit.grant(getattr(frame, "payload_bytes", 0))
            if len(frames) == 5:
                rotated.start()
            if isinstance(frame, Batch) and frame.record_batch.column("name")[0].as_py() == "session 2":
                unit.stop(m.StopMode.DRAIN, 5)
        unit.finish()
    rotated.join(5)
    assert not rotated.is_alive()
    rows = rows_of(frames)
    assert [row["id"] for row in rows] == list(range(1, len(rows) + 1))
    assert {row["name"] for row in rows} == {"session 1", "session 2"}
    assert ("close", 1) in connector.tape
    assert len([frame for frame in frames if type(frame).__name__ == "Schema"]) == 1


def test_rotation_is_answered_only_after_every_open_unit_has_moved(start: Start) -> None:
    began, go_on = threading.Event(), threading.Event()

    def read(session: int, request: sdk.ReadRequest, out: sdk.Out) -> None:
        out.emit({"id": session})
        began.set()
        assert go_on.wait(5)
        out.checkpoint({"n": session})

    session = start(Fake(read))
    answered = threading.Event()

    def rotate() -> None:
        session.authenticate(m.Credentials("{}", rotation=1))
        answered.set()

    with reading(session) as unit:
        # A unit that has sent its schema may not have taken its session yet, and then takes the new one.
        assert began.wait(5)
        thread = threading.Thread(target=rotate)
        thread.start()
        assert not answered.wait(0.3)
        go_on.set()
        assert answered.wait(5)
        thread.join()
        assert [row["id"] for row in rows_of(list(unit))] == [1, 2]


# errors


@pytest.mark.parametrize(
    ("raised", "kind", "code"),
    [
        (sdk.Transient("m"), TransientError, failures.TRANSIENT),
        (sdk.Throttled("m", retry_after_s=5), ThrottledError, failures.THROTTLED),
        (sdk.Auth("m"), AuthError, failures.AUTH),
        (sdk.Configuration("m", fields={"host": "wrong"}), ConfigurationError, failures.CONFIGURATION),
        (sdk.Data("m"), DataError, failures.DATA),
        (sdk.Fatal("m"), FatalError, failures.FAULT),
        (ZeroDivisionError("m"), FatalError, failures.FAULT),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_an_author_raises_reaches_the_host_in_its_class(
    raised: Exception, kind: type[Exception], code: Any, start: Start
) -> None:
    def read(session: int, request: sdk.ReadRequest, out: sdk.Out) -> None:
        out.emit({"id": 1})
        raise raised

    with pytest.raises(kind) as caught:
        frames_of(start(Fake(read)))
    assert caught.value.code is code  # type: ignore[attr-defined]
    assert "s: " in str(caught.value)


def test_rows_that_are_lost_beside_the_author_end_the_read(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    lost = threading.Event()

    def columns(self: Batcher, rows: object) -> NoReturn:
        lost.set()
        raise RuntimeError("a defect")

    def read(session: int, request: sdk.ReadRequest, out: sdk.Out) -> None:
        out.checkpoint({"n": 0})
        out.emit({"id": 1})
        # Sent by the thread that sends what has waited long enough, which then fails.
        assert lost.wait(5)

    monkeypatch.setattr(outs, "LINGER_S", 0.05)
    monkeypatch.setattr(Batcher, "_columns", columns)
    with pytest.raises(FatalError, match="a defect"):
        frames_of(start(Fake(read)))


@pytest.mark.parametrize(
    "go_on",
    [
        lambda out: out.emit({"id": 3}),
        lambda out: out.checkpoint({"n": 3}),
        lambda out: out.change_schema(SCHEMA),
        lambda out: out.reject({}, reason="malformed"),
        lambda out: None,
    ],
    ids=["emit", "checkpoint", "change_schema", "reject", "return"],
)
def test_an_author_who_swallows_a_failed_emit_has_not_read_to_the_end(
    go_on: Callable[[sdk.Out], None], start: Start
) -> None:
    def read(session: int, request: sdk.ReadRequest, out: sdk.Out) -> None:
        out.emit([{"id": 1}])
        with contextlib.suppress(sdk.Fatal):
            out.emit([{"id": 2}, None])
        go_on(out)

    with pytest.raises(FatalError, match="number 1 of this list is NoneType"):
        frames_of(start(Fake(read)))


@pytest.mark.parametrize("state", [3, "abc", ["x"], None, {"at": datetime(2026, 1, 1, tzinfo=UTC)}, {"x": math.nan}])
def test_a_state_that_would_not_come_back_as_it_is_is_refused(state: Any, start: Start) -> None:
    def read(session: int, request: sdk.ReadRequest, out: sdk.Out) -> None:
        out.checkpoint(state)

    with pytest.raises(FatalError, match="a state"):
        frames_of(start(Fake(read)))


def test_a_reason_that_is_no_word_is_refused_without_repeating_it(start: Start) -> None:
    def read(session: int, request: sdk.ReadRequest, out: sdk.Out) -> None:
        out.reject({"id": 1}, reason="cannot parse canary")

    with pytest.raises(FatalError, match="no single lower-case word") as caught:
        frames_of(start(Fake(read)))
    assert "canary" not in str(caught.value)


def test_a_secret_in_an_error_never_leaves_the_connector(start: Start) -> None:
    def read(session: int, request: sdk.ReadRequest, out: sdk.Out) -> None:
        raise RuntimeError("login with canary-secret failed")

    with pytest.raises(FatalError) as caught:
        frames_of(start(Fake(read)))
    assert "canary-secret" not in str(caught.value)
    assert "login with ••• failed" in str(caught.value)


def test_a_user_name_that_is_no_secret_stands_in_an_error() -> None:
    def refused() -> str:
        raise sdk.Auth("role flights_ro may not log in with canary-secret")

    lent = (m.Secret("username", "flights_ro", plain=True), m.Secret("password", "canary-secret"))
    with talking(Fake(probes=lambda session: {"login": refused})) as session:
        (probe,) = session.authenticate(m.Credentials("{}", lent)).probes
        assert probe.detail == "role flights_ro may not log in with •••"


@pytest.mark.parametrize(("number", "kind"), [(errno.EROFS, "local_state"), (errno.ENOSPC, "no_space")])
def test_an_attempt_to_keep_local_state_is_reported(number: int, kind: str, start: Start) -> None:
    def read(session: int, request: sdk.ReadRequest, out: sdk.Out) -> None:
        raise OSError(number, "refused", "/var/state.db")

    with reading(start(Fake(read))) as unit:
        frames: list[Any] = []
        with pytest.raises(FatalError):
            frames.extend(iter(lambda: unit.poll(5), object()))
    violations = []
    with reading(start(Fake(read))) as unit:
        assert type(unit.poll(5)).__name__ == "Schema"
        violations.append(unit.poll(5))
    assert violations == [m.ViolationFrame(kind, "/var/state.db", "refused")]


class Settings(BaseModel):
    host: str
    port: int = Field(5432, ge=1)


class Configured(Fake):
    Config = Settings


def test_every_wrong_field_of_the_config_is_told_at_once_without_its_value() -> None:
    with talking(Configured()) as session, pytest.raises(ConfigurationError) as caught:
        session.authenticate(m.Credentials('{"port": "canary"}'))
    assert [detail.split(":")[0] for detail in caught.value.details] == ["host", "port"]
    assert "the connection's config lacks host, and is wrong in port" in caught.value.message
    assert "canary" not in str(caught.value) + str(caught.value.details)


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ("{}", "the connection's config lacks host"),
        ('{"host": 1}', "the connection's config is wrong in host"),
        ("[]", "the connection's config is wrong in its whole"),
    ],
)
def test_what_a_connection_lacks_is_not_called_wrong(config: str, says: str) -> None:
    with talking(Configured()) as session, pytest.raises(ConfigurationError) as caught:
        session.authenticate(m.Credentials(config))
    assert caught.value.message == f"{says} (invalid_config)"


def test_a_missing_secret_is_a_configuration_error() -> None:
    connector = Fake(authenticate=lambda config, secrets: secrets["token"])
    with talking(connector) as session, pytest.raises(ConfigurationError, match="'token' was not delivered"):
        session.authenticate(m.Credentials("{}"))


def test_nothing_is_answered_before_authenticate() -> None:
    with talking(Fake()) as session, pytest.raises(ConfigurationError, match="Authenticate comes first"):
        session.discover(())


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"stream": "nope"}, "no stream 'nope'"),
        ({"stream": "t", "mode": m.SyncMode.INCREMENTAL}, "cannot be read in mode incremental"),
        ({"mode": m.SyncMode.INCREMENTAL, "cursor_field": "name"}, "cursor_field"),
        ({"columns": ("id", "nope")}, "nope"),
        ({"filters": (sdk.Filter("nope", "=", (1,)),)}, "nope"),
    ],
)
def test_a_read_that_cannot_be_is_refused_by_name(changes: dict[str, Any], names: str, start: Start) -> None:
    with pytest.raises(ConfigurationError, match=names):
        start(Fake()).read(order(**changes))


def test_an_unknown_unit_is_refused(start: Start) -> None:
    session = start(Fake())
    session.read(order())
    with session.emit("r", "part-9", CREDIT) as unit, pytest.raises(ConfigurationError, match="planned no unit"):
        unit.poll(5)


def test_a_stream_that_names_a_column_it_lacks_is_a_fault(start: Start) -> None:
    wrong = sdk.Stream("s", schema=SCHEMA, primary_key=["missing"])
    with pytest.raises(FatalError, match="'missing'"):
        start(Fake(discover=lambda session: [wrong])).discover(())


def test_a_state_over_the_limit_is_the_connectors_fault(start: Start) -> None:
    def read(session: int, request: sdk.ReadRequest, out: sdk.Out) -> None:
        out.checkpoint(b"x" * (m.MAX_STATE_BYTES + 1))

    with pytest.raises(FatalError, match="state_too_large"):
        frames_of(start(Fake(read)))


def test_probes_run_by_name_and_tell_what_they_found() -> None:
    def refused() -> str:
        raise sdk.Auth("no rights for canary-secret")

    connector = Fake(
        probes=lambda session: {"login": lambda: "as reader", "rights": refused},
        identify=lambda session: sdk.Identity("reader", ["read"]),
    )
    with talking(connector) as session:
        secret = (m.Secret("password", "canary-secret"),)
        identity = session.authenticate(m.Credentials("{}", secret))
        assert (identity.identity, identity.scopes) == ("reader", ("read",))
        assert [(probe.name, probe.ok, probe.detail) for probe in identity.probes] == [
            ("login", True, "as reader"),
            ("rights", False, "no rights for •••"),
        ]
        one = session.authenticate(m.Credentials("{}", secret, probes=("login",)))
        assert [probe.name for probe in one.probes] == ["login"]
        with pytest.raises(ConfigurationError, match="no probe 'nope'"):
            session.authenticate(m.Credentials("{}", secret, probes=("nope",)))
