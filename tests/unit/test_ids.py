"""Names that must not be mixed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from wellhead.ids import ConnectionKey, StreamKey, StreamName, is_unit_key, new_run_id


def test_run_ids_sort_by_time_and_differ_at_one_time() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    ids = [new_run_id(now + timedelta(milliseconds=step)) for step in range(100)]
    assert ids == sorted(ids)
    assert {len(made) for made in ids} == {20}
    assert len({new_run_id(now) for _ in range(1000)}) == 1000


def test_a_stream_key_reads_as_a_path() -> None:
    assert str(StreamKey(ConnectionKey("t", "p", "c"), StreamName("public.s"))) == "t/p/c/public.s"


@pytest.mark.parametrize("text", ["all", "part-00", "0", "a" * 63])
def test_a_unit_key_is_a_name_that_any_file_system_holds(text: str) -> None:
    assert is_unit_key(text)


@pytest.mark.parametrize("text", ["", "-a", "A", "a/b", "a" * 64, "a\n", ".."])
def test_anything_else_is_no_unit_key(text: str) -> None:
    assert not is_unit_key(text)
