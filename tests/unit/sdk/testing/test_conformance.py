"""The suite passes an honest connector, and each of its tests catches the one that breaks its rule."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa
import pytest
from pydantic import BaseModel, ConfigDict

import wellhead_sdk as sdk
from wellhead_sdk.testing import Broken, Conformance, Failed, running

SCHEMA = pa.schema([pa.field("id", pa.int64(), False), ("name", pa.string())])
PAGE = 10


class Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    host: str
    rows: int = 35


class Honest(sdk.Connector):
    """Two streams of numbered rows, one of them in two partitions."""

    Config = Settings
    max_parallel = 2

    def authenticate(self, config: Settings, secrets: Mapping[str, str]) -> Settings:
        if secrets["token"] != "right-token":
            raise sdk.Auth("the token is wrong")
        return config

    def discover(self, session: Settings) -> Iterable[sdk.Stream]:
        yield sdk.Stream("numbers", schema=SCHEMA, primary_key=["id"])
        yield sdk.Stream("parts", schema=SCHEMA, primary_key=["id"], cursor="id")

    def plan(self, session: Settings, request: sdk.ReadRequest) -> sdk.Plan:
        half = session.rows // 2
        parts = [sdk.Unit("low", {"from": 0, "to": half}), sdk.Unit("high", {"from": half, "to": session.rows})]
        whole = [sdk.Unit("all", {"from": 0, "to": session.rows})]
        return sdk.Plan(parts if request.stream == "parts" else whole, {"done": True})

    def read(self, session: Settings, request: sdk.ReadRequest, out: sdk.Out) -> None:
        assert isinstance(request.unit.descriptor, dict)
        at = (request.cursor or {"next": request.unit.descriptor["from"]})["next"]
        while at < request.unit.descriptor["to"]:
            end = min(at + PAGE, request.unit.descriptor["to"])
            out.emit(self.page(at, end))
            at = end
            out.checkpoint(self.state(at))

    def page(self, at: int, end: int) -> list[dict[str, Any]]:
        return [{"id": number, "name": f"row {number}"} for number in range(at, end)]

    def state(self, at: int) -> dict[str, Any]:
        return {"next": at}


class TestHonest(Conformance):
    connector = Honest
    config = {"host": "db.example.com"}  # noqa: RUF012 - as authors write it
    secrets = {"token": "right-token"}  # noqa: RUF012


class Skips(Honest):
    def state(self, at: int) -> dict[str, Any]:
        return {"next": at + 1}


class Repeats(Honest):
    def state(self, at: int) -> dict[str, Any]:
        return {"next": max(at - 1, 0)} if at % PAGE == 0 else {"next": at}


class Forgetful(Honest):
    read_before = 0

    def page(self, at: int, end: int) -> list[dict[str, Any]]:
        Forgetful.read_before += 1
        return [{"id": number, "name": f"read {Forgetful.read_before}"} for number in range(at, end)]


class Stubborn(Honest):
    """Takes being asked to stop for an error; looks for the wish for a while, so that it is heard."""

    def read(self, session: Settings, request: sdk.ReadRequest, out: sdk.Out) -> None:
        out.emit({"id": 1})
        with contextlib.suppress(BaseException):
            out.checkpoint({"next": 1})
        stopping = any(out.stopping or threading.Event().wait(0.01) for _ in range(50))
        if stopping:
            raise sdk.Fatal("I was not through")


class Vague(Honest):
    def describe(self, session: Settings, name: str) -> sdk.Stream:
        return sdk.Stream(name, schema=SCHEMA)


class Leaky(Honest):
    def state(self, at: int) -> dict[str, Any]:
        return {"next": at, "token": "right-token"}


class Once(Honest):
    commits = 0

    def on_committed(self, session: Settings, state: sdk.State) -> None:
        self.commits += 1
        if self.commits > 1:
            raise sdk.Fatal("committed twice")


class Drifting(Honest):
    def read(self, session: Settings, request: sdk.ReadRequest, out: sdk.Out) -> None:
        out.change_schema(SCHEMA.append(pa.field("more", pa.bool_())))


@pytest.mark.parametrize(
    ("connector", "test"),
    [
        (Skips, "test_a_read_cut_at_any_checkpoint_goes_on_without_loss_or_repetition"),
        (Repeats, "test_a_read_cut_at_any_checkpoint_goes_on_without_loss_or_repetition"),
        (Stubborn, "test_a_read_asked_to_drain_ends_in_order"),
        (Forgetful, "test_two_full_reads_are_equal"),
        (Vague, "test_each_stream_is_described_by_name_as_in_the_list"),
        (Vague, "test_an_unknown_stream_is_refused"),
        (Leaky, "test_states_are_json_objects_or_bytes_without_secrets"),
        (Once, "test_a_commit_is_taken_by_a_fresh_process_and_twice"),
        (Drifting, "test_records_have_the_offered_schema"),
        (Drifting, "test_chosen_columns_come_alone_and_in_order"),
    ],
)
def test_a_connector_that_breaks_a_rule_is_caught_by_its_test(connector: type[Honest], test: str) -> None:
    class Suite(TestHonest):
        pass

    Suite.connector = connector
    with pytest.raises((Broken, Failed)):
        getattr(Suite(), test)()


def test_a_refused_secret_is_told_as_a_failure() -> None:
    with pytest.raises(Failed) as caught, running(Honest(), TestHonest.config, {"token": "wrong"}):
        pass
    assert caught.value.failure.kind == "auth"


def test_a_reading_hands_out_rows_and_states() -> None:
    with running(Honest(), TestHonest.config, TestHonest.secrets) as conversation:
        readings = conversation.read("parts", cut_after=1)
        assert {key: reading.cursor for key, reading in readings.items()} == {"low": {"next": 10}, "high": {"next": 27}}
        assert [row["id"] for row in readings["low"].covered] == list(range(10))
        rest = conversation.read("parts", units=(readings["low"].rest,))
        assert [row["id"] for row in rest["low"].rows] == list(range(10, 17))
