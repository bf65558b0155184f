"""The generator as a process behind the SDK, heard by a host that lets everything through."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from tests import ledger
from tests.raw_host import Heard, Host, started
from wellhead_generator.config import GeneratorConfig
from wellhead_generator.rows import EVENTS, Rows
from wellhead_sdk.wire import messages as m

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent.parent
ORDER = m.ReadOrder("read-1", "rows", m.SyncMode.FULL_REFRESH)

Start = Callable[..., Host]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start generators with the config given as keywords; each in a fresh process."""
    with ExitStack() as scope:

        def begin(**config: Any) -> Host:
            folder = tmp_path / f"run-{len(list(tmp_path.glob('run-*')))}"
            folder.mkdir()
            host = scope.enter_context(started("wellhead_generator", folder, HERE / "manifest.yaml"))
            host.authenticate(json.dumps(config))
            return host

        yield begin


def read(host: Host, order: m.ReadOrder = ORDER) -> Heard:
    [unit] = host.plan(order).units
    return host.emit(order.read_id, unit.key)


def test_it_is_the_release_its_manifest_says(start: Start) -> None:
    said = start().describe()
    assert (said.connector_id, said.version, said.max_parallel) == ("dev/generator", "1.0.0", 8)


def test_it_offers_three_streams(start: Start) -> None:
    offered = {stream.name: stream for stream in start(rows=77).discover()}
    assert list(offered) == ["rows", "events", "empty"]
    assert offered["rows"].estimated_rows == 77
    assert offered["events"].schema.equals(EVENTS)
    assert offered["events"].has_position


@pytest.mark.parametrize("style", ["columnar", "dicts"])
def test_it_sends_exactly_its_rows(start: Start, style: str) -> None:
    heard = read(start(rows=2500, seed=9, style=style, page_rows=400))
    assert heard.error is None
    assert heard.table().equals(pa.table(Rows("mixed", 9).batch(0, 2500)))
    assert heard.kinds[-1] == "done"


def test_partitions_together_are_the_whole(start: Start) -> None:
    host = start(rows=1003, partitions=4)
    plan = host.plan(ORDER)
    assert [unit.key for unit in plan.units] == ["part-00", "part-01", "part-02", "part-03"]
    assert json.loads(plan.final_state) == {"unit": "all", "next": 1003}
    table = pa.concat_tables([host.emit("read-1", unit.key).table() for unit in plan.units])
    assert table.equals(pa.table(Rows("mixed").batch(0, 1003)))


def test_a_read_goes_on_from_its_state(start: Start) -> None:
    first = read(start(rows=1000, page_rows=100))
    offer = first.of(m.CheckpointFrame)[3]
    resumed = replace(ORDER, units=(m.Unit("all", state=offer.state, state_version=offer.state_version),))
    assert read(start(rows=1000, page_rows=100), resumed).table()["id"].to_pylist() == list(range(400, 1000))


def test_a_growing_source_is_read_from_where_it_ended(start: Start, tmp_path: Path) -> None:
    number = tmp_path / "rows"
    number.write_text("300")
    order = replace(ORDER, mode=m.SyncMode.INCREMENTAL, cursor_field="updated_at")
    state = read(start(rows_file=str(number)), order).of(m.CheckpointFrame)[-1].state
    number.write_text("450")
    later = read(start(rows_file=str(number)), replace(order, units=(m.Unit("all", state=state, state_version=1),)))
    assert later.table()["id"].to_pylist() == list(range(300, 450))


def test_what_was_acknowledged_is_gone_for_every_later_read(start: Start, tmp_path: Path) -> None:
    with ledger.kept(tmp_path / "source") as source:
        config = {"rows": 1000, "page_rows": 100, "ledger": str(source.folder / ledger.SOCKET_NAME)}
        host = start(**config)
        offer = read(host).of(m.CheckpointFrame)[4]
        host.checkpoint(m.Committed("read-1", "all", offer.through_batch, 1, offer.state, offer.state_version))
        assert source.acknowledgements == [("all", 500)]
        # A host that acknowledged before it committed would now start anew, and find the first half gone.
        assert read(start(**config)).table()["id"].to_pylist() == list(range(500, 1000))


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("transient", "transient"),
        ("throttled", "throttled"),
        ("auth", "auth"),
        ("configuration", "permanent"),
        ("data", "data"),
        ("fatal", "internal"),
        ("exception", "internal"),
    ],
)
def test_it_fails_at_the_row_it_was_told_to(start: Start, fault: str, kind: str) -> None:
    heard = read(start(rows=1000, page_rows=300, fail_at=450, fail_as=fault))
    assert heard.of(m.Failure)[-1].kind == kind
    assert heard.table().num_rows == 450


@pytest.mark.parametrize("fault", ["crash", "exit"])
def test_its_process_can_vanish_in_mid_read(start: Start, fault: str) -> None:
    heard = read(start(rows=1000, page_rows=300, fail_at=600, fail_as=fault))
    assert heard.error is grpc.StatusCode.UNAVAILABLE
    assert heard.of(m.DoneFrame) == []


def test_it_can_fail_once_and_then_not_again(start: Start) -> None:
    config = {"rows": 1000, "page_rows": 300, "fail_at": 600, "fail_once": True}
    state = read(start(**config)).of(m.CheckpointFrame)[-1].state
    resumed = replace(ORDER, units=(m.Unit("all", state=state, state_version=1),))
    assert read(start(**config), resumed).table()["id"].to_pylist() == list(range(600, 1000))


def test_rejected_rows_are_told_and_not_sent(start: Start) -> None:
    heard = read(start(rows=100, reject_every=25))
    assert [json.loads(frame.key_json)["id"] for frame in heard.of(m.RejectedFrame)] == [0, 25, 50, 75]
    assert heard.table().num_rows == 96


def test_an_oversize_row_becomes_a_rejected_one(start: Start) -> None:
    heard = read(start(rows=20, oversize_every=10))
    assert [frame.reason for frame in heard.of(m.RejectedFrame)] == ["too_large", "too_large"]
    assert not pc.any(pc.is_in(heard.table()["id"], pa.array([9, 19]))).as_py()


def test_the_schema_grows_at_its_row_and_directly_behind_a_checkpoint(start: Start) -> None:
    heard = read(start(rows=500, page_rows=200, change_schema_at=300))
    table = heard.table()
    assert table["added"].to_pylist() == [None] * 300 + list(range(300, 500))
    second = [place for place, kind in enumerate(heard.kinds) if kind == "schema"][1]
    assert heard.kinds[second - 1] == "checkpoint"


def test_states_can_be_made_heavy(start: Start) -> None:
    heard = read(start(rows=10, state_bytes=5000))
    assert len(heard.of(m.CheckpointFrame)[-1].state) > 5000


def test_it_can_ask_to_be_waited_for(start: Start) -> None:
    heard = read(start(rows=10, page_rows=5, wait_at=5, retry_after_s=0.2))
    assert len(heard.of(m.WaitFrame)) == 1
    assert heard.table().num_rows == 10


def test_an_empty_stream_has_a_schema_a_checkpoint_and_an_end(start: Start) -> None:
    assert read(start(), replace(ORDER, stream="empty")).kinds == ["schema", "checkpoint", "done"]


def test_events_carry_operations_and_positions(start: Start) -> None:
    table = read(start(rows=450, page_rows=60), replace(ORDER, stream="events")).table()
    assert table.num_rows == 450
    assert set(table["_op"].to_pylist()) == {"c", "u", "d"}


def test_the_manifest_offers_exactly_the_settings_the_model_takes() -> None:
    from wellhead.manifest import load

    offered = load.load(HERE / "manifest.yaml").manifest.config.properties
    fields = GeneratorConfig.model_fields
    assert set(offered) == set(fields)
    assert {name: schema["description"] for name, schema in offered.items()} == {
        name: field.description for name, field in fields.items()
    }
    assert {name: schema.get("default") for name, schema in offered.items()} == {
        name: field.default for name, field in fields.items()
    }
