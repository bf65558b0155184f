"""What the envelope takes, refuses and fills in."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from wellhead.errors import ConfigurationError, FatalError
from wellhead.ids import ConnectorId, RunId
from wellhead.sinks import envelope, event_id
from wellhead.sinks.envelope import Envelope, EnvelopeContext
from wellhead.testing.sinks import STREAM

READ = datetime(2026, 5, 6, 7, 8, 9, tzinfo=UTC)
NOW = datetime(2026, 5, 6, 7, 8, 10, tzinfo=UTC)


def made(schema: pa.Schema, **changes: Any) -> Envelope:
    context = EnvelopeContext(STREAM, ConnectorId("a/b"), "a/b@1", RunId("run"), 2, **changes)
    return Envelope(context, schema)


def wrap(
    batch: pa.RecordBatch, *, raw_ref: str = "", changes: pa.Array | None = None, **context: Any
) -> pa.RecordBatch:
    return made(batch.schema, **context).wrap(
        batch, first_sequence=5, first_ordinal=0, read_at=READ, ingested_at=NOW, raw_ref=raw_ref, changes=changes
    )


def occurred(column: pa.Array, **context: Any) -> list[datetime | None]:
    rows = wrap(pa.record_batch({"at": column}), **context)
    return list(rows.column("_occurred_at").to_pylist())


def test_the_payload_comes_first_and_unchanged() -> None:
    batch = pa.record_batch({"b": [1, None], "a": ["x", None]})
    rows = wrap(batch)
    assert rows.schema.names == ["b", "a", *envelope.NAMES]
    assert rows.select(["b", "a"]) == batch


def test_every_row_is_valid_and_the_sequence_is_dense() -> None:
    rows = wrap(pa.record_batch({"a": [1, 2, 3]}), raw_ref="sha256:ab")
    rows.validate(full=True)
    assert rows.column("_sequence").to_pylist() == [5, 6, 7]
    assert rows.column("_generation").to_pylist() == [2, 2, 2]
    assert rows.column("_raw_ref").to_pylist() == ["sha256:ab"] * 3
    assert rows.column("_op").to_pylist() == ["r"] * 3
    assert rows.column("_changes").null_count == 3
    assert {name for name in envelope.NAMES if rows.column(name).null_count} == {"_changes"}


def test_a_declared_event_time_is_taken_to_the_microsecond_and_gaps_are_filled_with_the_time_of_reading() -> None:
    column = pa.array([1_500, None], pa.timestamp("ns"))
    assert occurred(column, event_time_field="at") == [datetime(1970, 1, 1, 0, 0, 0, 1, tzinfo=UTC), READ]


def test_a_date_occurred_at_its_midnight() -> None:
    assert occurred(pa.array([date(2026, 1, 2)]), event_time_field="at") == [datetime(2026, 1, 2, tzinfo=UTC)]


def test_a_cursor_that_is_a_time_stands_in_for_the_event_time() -> None:
    column = pa.array([datetime(2026, 1, 2, tzinfo=UTC)], pa.timestamp("s", "Europe/Berlin"))
    assert occurred(column, cursor_field="at") == [datetime(2026, 1, 2, tzinfo=UTC)]
    assert occurred(pa.array([7]), cursor_field="at") == [READ]


@pytest.mark.parametrize(
    ("context", "told"),
    [
        ({"event_time_field": "t", "cursor_field": "t"}, b"event_time:t"),
        ({"cursor_field": "t"}, b"cursor:t"),
        ({"cursor_field": "n"}, b"read"),
    ],
)
def test_the_metadata_say_which_time_it_is(context: dict[str, str], told: bytes) -> None:
    schema = pa.schema([("t", pa.timestamp("us", "UTC")), ("n", pa.int64())], metadata={b"kept": b"yes"})
    metadata = made(schema, **context).schema.metadata
    assert metadata[b"wellhead.occurred_at"] == told
    assert metadata[b"kept"] == b"yes"


def test_an_event_time_that_is_no_time_is_refused() -> None:
    with pytest.raises(ConfigurationError) as caught:
        made(pa.schema([("t", pa.utf8())]), event_time_field="t")
    assert caught.value.code.name == "WH-SNK-003"


def test_an_event_time_beyond_microseconds_ends_the_run() -> None:
    batch = pa.record_batch({"at": pa.array([2**62], pa.timestamp("s"))})
    with pytest.raises(FatalError) as caught:
        wrap(batch, event_time_field="at")
    assert caught.value.code.name == "WH-SNK-005"


@pytest.mark.parametrize("name", ["_event_id", "_EVENT_ID", "_Sequence", "_pos", "_OP"])
def test_a_reserved_name_is_refused_in_any_case(name: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        envelope.check_names(pa.schema([(name, pa.int64())]), "orders", has_position=False)
    assert caught.value.code.name == "WH-SNK-002"


def test_the_protocols_own_columns_are_no_payload() -> None:
    batch = pa.record_batch({"id": [1, 2], "_op": ["c", "d"], "_pos": [10, 11]})
    rows = wrap(batch, has_position=True)
    assert rows.schema.names == ["id", *envelope.NAMES]
    assert rows.column("_op").to_pylist() == ["c", "d"]


@pytest.mark.parametrize("operations", [["x"], [None]])
def test_an_unknown_operation_ends_the_run(operations: list[str | None]) -> None:
    batch = pa.record_batch({"id": [1], "_op": pa.array(operations, pa.utf8())})
    with pytest.raises(FatalError) as caught:
        wrap(batch)
    assert caught.value.code.name == "WH-SNK-005"


def test_a_record_without_its_position_ends_the_run() -> None:
    batch = pa.record_batch({"id": [1], "_pos": pa.array([None], pa.int64())})
    with pytest.raises(FatalError) as caught:
        wrap(batch, has_position=True)
    assert caught.value.code.name == "WH-SNK-005"


@pytest.mark.parametrize("context", [{"primary_key": ("gone",)}, {"event_time_field": "gone"}, {"has_position": True}])
def test_a_column_the_stream_names_has_to_be_there(context: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        made(pa.schema([("id", pa.int64())]), **context)
    assert caught.value.code.name == "WH-SNK-004"


def test_what_the_host_altered_is_told() -> None:
    changes = pa.array([[{"column": "a", "change": "cut", "reason": "too_long"}], None], envelope.CHANGES)
    rows = wrap(pa.record_batch({"a": ["x", "y"]}), changes=changes)
    assert rows.column("_changes")[0].as_py() == [{"column": "a", "change": "cut", "reason": "too_long"}]


def test_a_batch_without_rows_can_be_wrapped() -> None:
    assert wrap(pa.record_batch({"a": pa.array([], pa.int64())})).num_rows == 0


def test_a_batch_of_more_rows_than_are_hashed_at_a_time_gets_the_ids_of_its_rows_alone() -> None:
    count = event_id.SLICE_ROWS * 2 + 3
    numbers = range(count)
    batch = pa.record_batch(
        {
            "id": pa.array(numbers, pa.int64()),
            "gap": pa.array([None if n % 3 else n for n in numbers], pa.int32()),
            "text": pa.array([None if n % 5 else "é" * (n % 7) for n in numbers]),
            "price": pa.array([None if n % 4 else Decimal(n) for n in numbers], pa.decimal128(12, 2)),
            "flag": pa.array([n % 2 == 0 for n in numbers]),
            "list": pa.array([None if n % 6 else [n, None] for n in numbers]),
            "_op": pa.array(["cud"[n % 3] for n in numbers]),
        }
    )
    whole = wrap(batch, primary_key=("id",)).column("_event_id").to_pylist()
    # Copied out, so that nothing of the whole lies before or behind the row.
    alone = {n: pa.RecordBatch.from_pylist(batch.slice(n, 1).to_pylist(), batch.schema) for n in (0, 4095, 4096, 8194)}
    ids = {n: wrap(row, primary_key=("id",)).column("_event_id")[0].as_py() for n, row in alone.items()}
    assert ids == {n: whole[n] for n in alone}
    assert len(set(whole)) == count
