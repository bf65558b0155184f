"""The connector as a process behind the SDK, heard over its socket."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pyarrow as pa
import pytest

from tests.raw_host import Heard, Host, started
from wellhead_sdk.wire import messages as m
from wellhead_sdk.wire import service, status

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent.parent
ORDER = m.ReadOrder("read-1", "people", m.SyncMode.FULL_REFRESH)
HEADER = b"id,name,amount\n"

Start = Callable[..., Host]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    found = tmp_path / "people.csv"
    found.write_bytes(HEADER + b"1,Ada,1.50\n2,Bob,x\n3,\xc3\xa9,\n")
    return found


@pytest.fixture
def start(tmp_path: Path, file: Path) -> Iterator[Start]:
    """Start connectors with the config given as keywords, each in a fresh process."""
    with ExitStack() as scope:

        def begin(**config: Any) -> Host:
            folder = tmp_path / f"run-{len(list(tmp_path.glob('run-*')))}"
            folder.mkdir()
            host = scope.enter_context(started("wellhead_csv_file", folder, HERE / "manifest.yaml"))
            host.authenticate(json.dumps({"path": str(file), **config}))
            return host

        yield begin


def failure(caught: pytest.ExceptionInfo[grpc.RpcError]) -> m.Failure:
    """Return what the connector said of its failure."""
    (packed,) = (one.value for one in caught.value.trailing_metadata() if one.key == service.STATUS_KEY)
    found = status.decode(packed)
    assert found is not None
    return found


def read(host: Host, **changed: Any) -> Heard:
    order = replace(ORDER, **changed)
    host.plan(order)
    return host.emit(order.read_id)


def test_it_answers_for_the_release_its_manifest_states(start: Start) -> None:
    said = start().describe()
    assert (said.connector_id, said.version) == ("wellhead/csv-file", "1.0.0")


def test_the_file_is_offered_as_one_stream_of_text_read_whole(start: Start, file: Path) -> None:
    (stream,) = start().discover()
    assert stream.name == "people"
    assert stream.schema == pa.schema([("id", pa.string()), ("name", pa.string()), ("amount", pa.string())])
    assert stream.sync_modes == (m.SyncMode.FULL_REFRESH,)
    assert stream.replay is m.Replay.POSITION
    assert stream.estimated_bytes == file.stat().st_size


def test_every_record_arrives_and_the_last_checkpoint_stands_behind_the_file(start: Start, file: Path) -> None:
    heard = read(start())
    assert heard.table().to_pylist() == [
        {"id": "1", "name": "Ada", "amount": "1.50"},
        {"id": "2", "name": "Bob", "amount": "x"},
        {"id": "3", "name": "é", "amount": None},
    ]
    last = heard.of(m.CheckpointFrame)[-1]
    assert json.loads(last.state) == {"offset": file.stat().st_size, "records": 3}
    assert last.checkpoint_type is m.CheckpointType.OFFSET
    assert heard.kinds[-1] == "done"


def test_a_record_that_does_not_fit_is_a_dead_letter_with_its_number_and_text(start: Start) -> None:
    heard = read(start(columns={"id": "int", "amount": "decimal(10,2)"}))
    assert heard.table().column("id").to_pylist() == [1, 3]
    (rejected,) = heard.of(m.RejectedFrame)
    assert (rejected.reason, rejected.column, rejected.text) == ("unrepresentable", "amount", "x")
    assert (json.loads(rejected.key_json), rejected.sample) == ({"record": 2}, b"2,Bob,x\n")
    assert heard.of(m.CheckpointFrame)[0].rejected_since_last == 1


def test_inferred_types_change_mid_file_without_losing_a_row(start: Start, file: Path) -> None:
    small = b"".join(b"%d,n,1\n" % number for number in range(600_000))
    file.write_bytes(HEADER + small + b"600000,n,1.5\n600001,n,2\n")
    heard = read(start(types="inferred"))
    table = heard.table()
    assert table.schema.field("amount").type == pa.int64()
    assert table.num_rows == 600_001
    (rejected,) = heard.of(m.RejectedFrame)
    assert (rejected.column, rejected.text, json.loads(rejected.key_json)) == ("amount", "1.5", {"record": 600_001})


def test_a_read_goes_on_behind_any_checkpoint_in_a_fresh_process(start: Start, file: Path) -> None:
    rows = [f"{number},name {number},x\n".encode() for number in range(400_000)]
    file.write_bytes(HEADER + b"".join(rows))
    first = start(columns={"id": "int"})
    plan = first.plan(ORDER)
    heard = first.emit("read-1")
    offers = heard.of(m.CheckpointFrame)
    assert len(offers) == 2
    covered = json.loads(offers[0].state)["records"]
    again = start(columns={"id": "int"})
    again.plan(replace(ORDER, units=(replace(plan.units[0], state=offers[0].state, state_version=1),)))
    rest = again.emit("read-1").table().column("id").to_pylist()
    assert rest == list(range(covered, 400_000))


def test_a_file_that_changed_since_its_plan_makes_the_plan_stale(start: Start, file: Path) -> None:
    host = start()
    plan = host.plan(ORDER)
    with file.open("ab") as grown:
        grown.write(b"4,Dee,1\n")
    with pytest.raises(grpc.RpcError) as caught:
        start().plan(replace(ORDER, units=plan.units))
    assert failure(caught).reason == "plan_stale"


def test_rows_appended_after_the_plan_belong_to_the_next_read(start: Start, file: Path) -> None:
    host = start()
    host.plan(ORDER)
    with file.open("ab") as grown:
        grown.write(b"4,Dee,1\n")
    assert host.emit("read-1").table().num_rows == 3


def test_a_file_replaced_after_its_plan_ends_the_attempt_and_is_read_whole_by_the_next(
    start: Start, file: Path
) -> None:
    host = start()
    plan = host.plan(ORDER)
    new = file.with_suffix(".new")
    new.write_bytes(b"name,id\n" + b"Ada,1\n" * 5000)
    new.replace(file)
    heard = host.emit("read-1")
    (failed,) = heard.of(m.Failure)
    assert (failed.kind, failed.reason, bool(failed.hint)) == ("transient", "file_changed", True)
    assert heard.of(m.BatchFrame) == heard.of(m.CheckpointFrame) == []
    again = start()
    with pytest.raises(grpc.RpcError) as caught:
        again.plan(replace(ORDER, units=plan.units))
    assert failure(caught).reason == "plan_stale"
    assert read(again).table().to_pylist() == [{"name": "Ada", "id": "1"}] * 5000


def test_unwanted_columns_are_left_out_by_the_connector_itself(start: Start) -> None:
    host = start()
    plan = host.plan(replace(ORDER, columns=("amount", "id")))
    assert plan.columns_pushed_down
    assert plan.filters_pushed_down == ()
    assert host.emit("read-1").table().column_names == ["amount", "id"]


def test_incremental_is_refused_with_what_is_offered(start: Start) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        start().plan(replace(ORDER, mode=m.SyncMode.INCREMENTAL, cursor_field="id"))
    told = failure(caught)
    assert (told.kind, told.reason, told.stream) == ("permanent", "unsupported", "people")
    assert "incremental" in told.message
    assert "full_refresh" in told.hint


def test_a_file_in_another_encoding_with_other_delimiter_and_no_header_is_read(start: Start, file: Path) -> None:
    file.write_bytes("1;Zoë;€\n2;José;£\n".encode("cp1252"))
    host = start(
        encoding="windows-1252", delimiter=";", has_header=False, stream="people", column_names=["a", "b", "c"]
    )
    assert read(host).table().to_pylist() == [{"a": "1", "b": "Zoë", "c": "€"}, {"a": "2", "b": "José", "c": "£"}]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_byte_order_mark_is_no_part_of_the_first_column(encoding: str, start: Start, file: Path) -> None:
    file.write_bytes('\ufeff"id",name\n1,a\n'.encode(encoding))
    assert read(start(encoding=encoding)).table().to_pylist() == [{"id": "1", "name": "a"}]


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"column_names": ["x", "y"]}, [{"x": "2", "y": "b"}]),
        ({"has_header": False}, [{"column_1": "1", "column_2": "a"}, {"column_1": "2", "column_2": "b"}]),
    ],
)
def test_without_names_columns_are_numbered_and_a_header_is_replaced(
    config: dict[str, Any], expected: list[dict[str, str]], start: Start, file: Path
) -> None:
    file.write_bytes(b"1,a\n2,b\n")
    assert read(start(**config)).table().to_pylist() == expected


def test_a_file_with_nothing_but_a_header_offers_its_columns_and_no_rows(start: Start, file: Path) -> None:
    file.write_bytes(b"id,name\n")
    heard = read(start(types="inferred"))
    assert heard.kinds == ["schema", "checkpoint", "done"]


def test_a_header_without_a_line_end_is_an_empty_table(start: Start, file: Path) -> None:
    file.write_bytes(b"id,name")
    assert read(start()).kinds == ["schema", "checkpoint", "done"]


@pytest.mark.parametrize(
    "content", [b"\n\r\nid,name\n1,a\n", b"id,name\r\r\n1,a\r\r\n", b'"id","na\rme"\n1,a\n', b"id,name\n1,a\r"]
)
def test_a_cr_that_ends_no_record_of_its_own_does_no_harm(content: bytes, start: Start, file: Path) -> None:
    file.write_bytes(content)
    assert [list(row.values()) for row in read(start()).table().to_pylist()] == [["1", "a"]]


def test_a_file_cut_off_within_quotes_ends_in_a_dead_letter(start: Start, file: Path) -> None:
    file.write_bytes(b'id,name\n1,a\n2,"b')
    heard = read(start())
    assert heard.table().to_pylist() == [{"id": "1", "name": "a"}]
    (rejected,) = heard.of(m.RejectedFrame)
    assert (rejected.reason, rejected.text) == ("malformed", "a quote is opened and never closed")
    assert (json.loads(rejected.key_json), rejected.sample) == ({"record": 2}, b'2,"b')


def test_integers_larger_than_64_bits_arrive_as_they_are_written(start: Start, file: Path) -> None:
    file.write_bytes(b"id\n12345678901234567890\n")
    assert read(start(types="inferred")).table().to_pylist() == [{"id": "12345678901234567890"}]


def test_the_connection_test_says_what_it_found(start: Start, tmp_path: Path, file: Path) -> None:
    folder = tmp_path / "probe"
    folder.mkdir()
    with started("wellhead_csv_file", folder, HERE / "manifest.yaml") as host:
        identity = host.authenticate(json.dumps({"path": str(file)}))
    (probe,) = identity.probes
    assert (probe.name, probe.ok) == ("file", True)
    assert probe.detail == f"people.csv: 3 columns, {file.stat().st_size} bytes"


@pytest.mark.parametrize(
    ("content", "config", "field", "told"),
    [
        (b"", {}, "path", "empty"),
        (b"id,id\n", {}, "column_names", "'id'"),
        (b"id,\n", {}, "column_names", "column 2 has no name"),
        (b"id,b\n", {"column_names": ["a"]}, "column_names", "1 name,"),
        (b"id,b\n", {"columns": {"c": "int"}}, "columns.c", "no column c"),
        (b"id\n", {"columns": {"id": "number"}}, "columns", "columns"),
        (b"id,name\r1,a\r2,b\r3,c\r", {}, "path", "CR"),
        (b"id,name\r1,a\r2,b\n3,c\n", {}, "path", "CR"),
        (b"id,name\r1,a\r2,b\n3,c\n", {"column_names": ["a", "b"]}, "path", "CR"),
        (b"id\n", {"encoding": "klingon"}, "encoding", "encoding"),
        (b"id\n", {"encoding": "rot13"}, "encoding", "encoding"),
        (b"id\n", {"delimiter": "\n"}, "delimiter", "delimiter"),
    ],
)
def test_a_wrong_parameter_is_named_with_the_mend(
    content: bytes, config: dict[str, Any], field: str, told: str, start: Start, file: Path
) -> None:
    file.write_bytes(content)
    with pytest.raises(grpc.RpcError) as caught:
        start(**config)
    found = failure(caught)
    assert found.kind == "permanent"
    assert dict(found.fields).keys() == {field}
    assert told in found.message
    assert found.hint


def test_a_file_that_is_not_there_is_a_configuration_error(start: Start, file: Path) -> None:
    file.unlink()
    with pytest.raises(grpc.RpcError) as caught:
        start()
    found = failure(caught)
    assert (found.kind, dict(found.fields)) == ("permanent", {"path": "No such file or directory"})
    assert "mounts" in found.hint


def test_a_file_that_may_not_be_read_is_a_configuration_error(start: Start, file: Path) -> None:
    file.unlink()
    file.mkdir()
    with pytest.raises(grpc.RpcError) as caught:
        start()
    assert "directory" in failure(caught).message


def test_nothing_is_left_beside_the_file(start: Start, file: Path) -> None:
    before = set(os.listdir(file.parent))
    read(start())
    assert {name for name in set(os.listdir(file.parent)) - before if not name.startswith("run-")} == set()
