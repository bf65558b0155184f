"""Which socket is dialled, and what is believed of the answers."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pyarrow as pa
import pytest

from tests.unit.session.conftest import DESCRIPTION, SCHEMA, Dial, Liar, StillClock, serving
from wellhead.errors import AuthError, ConfigurationError, FatalError, RefusedError, TransientError
from wellhead.session import client, failures, stream
from wellhead.session.client import Deadlines, Session
from wellhead_sdk.wire import codec, status
from wellhead_sdk.wire import messages as m

OFFERED = m.OfferedStream("s", SCHEMA, ("id",), ("id",))
ORDER = m.ReadOrder("r", "s", m.SyncMode.FULL_REFRESH)


def open_at(path: Path, owner_uid: int | None = None) -> Session:
    uid = os.getuid() if owner_uid is None else owner_uid
    return Session.open(path, owner_uid=uid, clock=StillClock(), deadlines=Deadlines(), on_log=lambda _: None)


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="wh") as name:
        yield Path(name)


def test_a_link_is_never_followed_though_it_leads_to_a_socket(folder: Path) -> None:
    with serving(Liar().behaviours()) as real:
        (folder / "c.sock").symlink_to(real)
        with pytest.raises(RefusedError) as caught:
            open_at(folder / "c.sock")
    assert caught.value.code is client.UNTRUSTED_SOCKET


def test_a_socket_of_another_user_is_refused() -> None:
    with serving(Liar().behaviours()) as path, pytest.raises(RefusedError, match="not a socket of uid 65532") as caught:
        open_at(path, 65532)
    assert caught.value.code is client.UNTRUSTED_SOCKET


@pytest.mark.parametrize("make", [Path.touch, Path.mkdir, os.mkfifo])
def test_what_is_no_socket_is_refused(make: Any, folder: Path) -> None:
    make(folder / "c.sock")
    with pytest.raises(RefusedError) as caught:
        open_at(folder / "c.sock")
    assert caught.value.code is client.UNTRUSTED_SOCKET


def test_a_missing_socket_may_come_back(folder: Path) -> None:
    with pytest.raises(TransientError) as caught:
        open_at(folder / "c.sock")
    assert caught.value.code is client.NO_SOCKET


def test_the_descriptor_is_dialled_not_the_name(folder: Path) -> None:
    """Whoever replaces the file after it was judged gains nothing."""
    evil_liar = Liar(description=b"\xff")
    with (
        serving(Liar().behaviours()) as real,
        serving(evil_liar.behaviours()) as evil,
        open_at(real) as session,
    ):
        real.rename(folder / "moved")
        real.symlink_to(evil)
        assert session.describe().connector_id == "dev/liar"
        real.unlink()


def test_closing_gives_the_descriptor_back() -> None:
    with serving(Liar().behaviours()) as path:
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(3):
            session = open_at(path)
            session.close()
            session.close()
        assert len(os.listdir("/proc/self/fd")) == before


def test_a_number_used_again_leads_to_the_new_connector() -> None:
    other = m.Description(1, (), "dev/other", "1.0.0", "0" * 64, 4, "sdk")
    with serving(Liar().behaviours()) as first, serving(Liar(description=other).behaviours()) as second:
        for path, name in ((first, "dev/liar"), (second, "dev/other"), (first, "dev/liar")):
            with open_at(path) as session:
                assert session.describe().connector_id == name


def test_a_socket_that_does_not_listen_yet_is_waited_for(folder: Path) -> None:
    path = folder / "c.sock"
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(path))
        deadlines = Deadlines(describe_s=0.3)
        with (
            Session.open(
                path, owner_uid=os.getuid(), clock=StillClock(), deadlines=deadlines, on_log=lambda _: None
            ) as session,
            pytest.raises(TransientError) as caught,
        ):
            session.describe()
    assert caught.value.code is failures.DEADLINE


@pytest.mark.parametrize("version", [0, 2, 99])
def test_a_version_that_was_not_offered_is_refused(version: int, dial: Dial) -> None:
    session = dial(Liar(description=m.Description(version, (), "dev/liar", "1.0.0", "", 1, "")))
    with pytest.raises(FatalError) as caught:
        session.describe((1,))
    assert caught.value.code is client.PROTOCOL


def test_a_connector_that_allows_no_unit_is_refused(dial: Dial) -> None:
    session = dial(Liar(description=m.Description(1, (), "dev/liar", "1.0.0", "", 0, "")))
    with pytest.raises(FatalError, match="no unit"):
        session.describe()


@pytest.mark.parametrize(
    ("expected", "names"),
    [
        ({"connector_id": "dev/other"}, "connector: started dev/liar, signed dev/other"),
        ({"version": "1.0.1"}, "version: started 1.0.0, signed 1.0.1"),
        ({"manifest_sha256": "f" * 64}, "manifest sha256"),
    ],
)
def test_another_release_than_the_signed_one_is_refused(expected: dict[str, str], names: str) -> None:
    signed = {"connector_id": "dev/liar", "version": "1.0.0", "manifest_sha256": "0" * 64}
    client.require_release(DESCRIPTION, **signed)
    with pytest.raises(RefusedError) as caught:
        client.require_release(DESCRIPTION, **(signed | expected))
    assert caught.value.code is client.OTHER_RELEASE
    assert names in caught.value.details[0]


def test_an_answer_that_is_no_message_is_refused(dial: Dial) -> None:
    with pytest.raises(FatalError) as caught:
        dial(Liar(identity=b"\xff\xff")).authenticate(m.Credentials("{}"))
    assert caught.value.code is stream.UNDECODABLE


def test_refused_credentials_are_an_auth_error(dial: Dial) -> None:
    liar = Liar(identity=m.Failure("auth", "permission_denied", "may not read", hint="grant SELECT"))
    with pytest.raises(AuthError, match="may not read") as caught:
        dial(liar).authenticate(m.Credentials("{}"))
    assert caught.value.hint == "grant SELECT"


@pytest.mark.parametrize(
    ("offered", "names"),
    [
        ((OFFERED, OFFERED), ()),
        ((OFFERED,), ("t",)),
        ((), ("s",)),
        ((m.OfferedStream("", SCHEMA),), ()),
        ((m.OfferedStream("s", SCHEMA, ("missing",)),), ()),
        ((m.OfferedStream("s", SCHEMA, event_time_field="missing"),), ()),
    ],
    ids=["twice", "unasked", "left out", "nameless", "key not in schema", "event time not in schema"],
)
def test_a_discovery_that_makes_no_sense_is_refused(offered: Any, names: tuple[str, ...], dial: Dial) -> None:
    with pytest.raises(FatalError) as caught:
        dial(Liar(offered=offered)).discover(names)
    assert caught.value.code is client.BAD_DISCOVERY


def test_a_discovery_without_end_is_cut_off(dial: Dial, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "MAX_STREAMS", 5)
    offered = tuple(m.OfferedStream(f"s{index}", SCHEMA) for index in range(7))
    with pytest.raises(FatalError, match="more than 5 streams"):
        dial(Liar(offered=offered)).discover()


def test_offered_streams_come_in_order(dial: Dial) -> None:
    other = m.OfferedStream("t", pa.schema([("x", pa.bool_())]))
    assert dial(Liar(offered=(OFFERED, other))).discover() == [OFFERED, other]


@pytest.mark.parametrize(
    "plan",
    [
        m.ReadPlan(()),
        m.ReadPlan((m.Unit("a"), m.Unit("a"))),
        m.ReadPlan((m.Unit("Not-A-Key"),)),
        m.ReadPlan((m.Unit("../etc"),)),
        m.ReadPlan((m.Unit("all"), m.Unit("a"))),
        m.ReadPlan((m.Unit("all"),), filters_pushed_down=(0,)),
        m.ReadPlan((m.Unit("all"),), final_state=b"x" * (m.MAX_STATE_BYTES + 1)),
        m.ReadPlan((m.Unit("all", b"x" * (m.MAX_STATE_BYTES + 1)),)),
    ],
    ids=[
        "no unit",
        "twice",
        "no key",
        "a path",
        "all beside others",
        "no such filter",
        "large state",
        "large descriptor",
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(plan: m.ReadPlan, dial: Dial) -> None:
    with pytest.raises(FatalError) as caught:
        dial(Liar(plan=plan)).read(ORDER)
    assert caught.value.code is client.BAD_PLAN


def test_other_units_than_those_sent_are_refused(dial: Dial) -> None:
    order = m.ReadOrder("r", "s", m.SyncMode.FULL_REFRESH, units=(m.Unit("all", b"before"),))
    with pytest.raises(FatalError, match="not those that were sent"):
        dial(Liar(plan=m.ReadPlan((m.Unit("all", b"after"),)))).read(order)


def test_a_stale_plan_is_told_apart(dial: Dial) -> None:
    with pytest.raises(ConfigurationError) as caught:
        dial(Liar(plan=m.Failure("permanent", "plan_stale", "gone"))).read(ORDER)
    assert caught.value.code is failures.PLAN_STALE


def test_a_checkpoint_is_tried_three_times_and_then_ends_the_attempt(dial: Dial) -> None:
    heard: list[m.Committed] = []

    def refuse(committed: m.Committed) -> m.Failure:
        heard.append(committed)
        return m.Failure("internal", "bug", "no")

    committed = m.Committed("r", "all", 1, 1, b"{}", 1)
    with pytest.raises(TransientError) as caught:
        dial(Liar(committed=refuse)).checkpoint(committed)
    assert heard == [committed] * 3
    assert caught.value.code is client.CHECKPOINT_UNANSWERED


def test_a_checkpoint_that_succeeds_later_is_fine(dial: Dial) -> None:
    answers = iter([m.Failure("transient", "reset", "no"), m.Failure("transient", "reset", "no"), None])
    dial(Liar(committed=lambda _: next(answers))).checkpoint(m.Committed("r", "all", 0, 0, b"", 0))


def test_details_that_contradict_the_code_are_not_believed() -> None:
    """A status whose details claim another class than its code is judged by the code."""

    class Contradiction:
        def code(self) -> Any:
            return grpc.StatusCode.INTERNAL

        def details(self) -> str:
            return "bug"

        def trailing_metadata(self) -> Any:
            return (("grpc-status-details-bin", status.encode(m.Failure("transient", "r", "again"))),)

    error = failures.error_of_rpc(Contradiction(), "Read", StillClock())  # type: ignore[arg-type]
    assert isinstance(error, FatalError)


def test_a_connector_that_dies_is_transient() -> None:
    with serving(Liar().behaviours()) as path:
        session = open_at(path)
        session.describe()
    with session, pytest.raises(TransientError) as caught:
        session.authenticate(m.Credentials("{}"))
    assert caught.value.code is failures.CONNECTION_LOST


def test_a_secret_is_not_in_the_error_of_a_refused_authenticate(dial: Dial) -> None:
    liar = Liar(identity=m.Failure("auth", "password", "wrong"))
    credentials = m.Credentials("{}", (m.Secret("password", "canary-value"),))
    with pytest.raises(AuthError) as caught:
        dial(liar).authenticate(credentials)
    assert "canary-value" not in repr(caught.value.__dict__)
    assert b"canary-value" in codec.encode_credentials(credentials)
