"""A look at a stream: as many rows as were asked for, wherever they lie, and nothing committed."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.lifecycle.conftest import World
from wellhead.lifecycle import run as lifecycle
from wellhead.lifecycle.preview import preview
from wellhead.lifecycle.stop import Stop

pytestmark = pytest.mark.slow


def _ids(world: World, stream: dict[str, Any], limit: int, **config: Any) -> list[int]:
    file = world.connect(stream, config=config)
    with lifecycle.probe(world.host(), file, Stop(), lifecycle.Watch()) as (_, plan, session, _identity):
        rows, _columns = preview(session, plan, "rows", limit)
    return [row["id"] for row in rows]


@pytest.mark.parametrize(("limit", "expected"), [(2, 2), (3, 3), (10, 10), (50, 12)])
def test_rows_are_gathered_from_as_many_units_as_it_takes(world: World, limit: int, expected: int) -> None:
    assert _ids(world, {"name": "rows"}, limit, rows=12, partitions=4) == list(range(expected))
    assert world.units() == {}


def test_units_without_a_row_that_is_wanted_are_passed_over(world: World) -> None:
    stream = {"name": "rows", "filters": {"id": {">=": 7}}}
    assert _ids(world, stream, 4, rows=12, partitions=4) == [7, 8, 9, 10]


def test_records_set_aside_do_not_use_up_the_credit(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wellhead.lifecycle.preview.CREDIT_BYTES", 1024)
    config = {"rows": 200, "page_rows": 10, "reject_every": 2}
    assert _ids(world, {"name": "rows"}, 90, **config) == list(range(1, 181, 2))
