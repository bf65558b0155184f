"""Columns and filters as the host applies them."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from wellhead.errors import ConfigurationError
from wellhead.lifecycle import select
from wellhead_sdk.wire.messages import Filter

BATCH = pa.record_batch(
    {
        "id": pa.array([1, 2, 3, None], pa.int64()),
        "name": pa.array(["a", None, "c", "d"]),
        "at": pa.array([0, 86_400_000_000, None, 3], pa.timestamp("us", "UTC")),
        "price": pa.array([1, 2, 3, 4], pa.decimal128(5, 2)),
        "_op": pa.array(["c", "u", "d", "r"]),
    }
)


def ids(*filters: Filter) -> list[Any]:
    return list(select.narrow(BATCH, (), filters).column("id").to_pylist())


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (Filter("id", "=", (2,)), [2]),
        (Filter("id", "!=", (2,)), [1, 3]),
        (Filter("id", "<", (2,)), [1]),
        (Filter("id", "<=", (2,)), [1, 2]),
        (Filter("id", ">", (2,)), [3]),
        (Filter("id", ">=", (2.0,)), [2, 3]),
        (Filter("id", ">=", ("2",)), [2, 3]),
        (Filter("id", "in", (1, 3)), [1, 3]),
        (Filter("id", "in", ()), []),
        (Filter("name", "is_null", (True,)), [2]),
        (Filter("name", "is_null", (False,)), [1, 3, None]),
        (Filter("at", ">=", ("1970-01-02T00:00:00Z",)), [2]),
        (Filter("price", "<", (2.5,)), [1, 2]),
    ],
)
def test_a_filter_keeps_the_rows_that_meet_it(condition: Filter, expected: list[Any]) -> None:
    assert ids(condition) == expected


def test_filters_are_met_together() -> None:
    assert ids(Filter("id", ">", (1,)), Filter("name", "is_null", (False,))) == [3]


@pytest.mark.parametrize(
    "condition",
    [
        Filter("id", "=", ("x",)),
        Filter("id", ">", (1.5,)),
        Filter("id", "=", (2**70,)),
        Filter("name", "=", (5,)),
        Filter("at", "<", ("yesterday",)),
    ],
)
def test_a_value_that_does_not_fit_its_column_is_refused(condition: Filter) -> None:
    with pytest.raises(ConfigurationError) as caught:
        select.narrow(BATCH, (), [condition])
    assert caught.value.code == select.BAD_FILTER


def test_columns_come_in_the_wanted_order_and_keep_what_the_protocol_reserves() -> None:
    assert select.narrow(BATCH, ["name", "id"], ()).schema.names == ["name", "id", "_op"]


def test_every_unknown_name_is_told_at_once() -> None:
    with pytest.raises(ConfigurationError, match="'one', 'two'") as caught:
        select.check(BATCH.schema, ["two", "id"], [Filter("one", "=", (1,))], "rows")
    assert caught.value.hint == "its columns are id, name, at, price, _op"


def test_a_filter_that_may_be_left_to_the_host_asks_for_its_column() -> None:
    filters = [Filter("name", "=", ("a",)), Filter("id", ">", (0,))]
    assert select.asked(("id",), filters) == ("id", "name")
    assert select.asked((), filters) == ()
    assert select.left(("id",), filters, is_pushed_down=True) == ("id",)
    assert select.left(("id", "name"), filters, is_pushed_down=True) == ()
    assert select.left(("id",), [], is_pushed_down=False) == ("id",)
