"""How a Parquet file is laid out, which is what bounds the memory that writing it takes."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from wellhead.sinks.parquet_file import ROW_GROUP_BYTES, Encoder


def _texts(size: int, rows: int = 1) -> pa.RecordBatch:
    return pa.record_batch({"n": pa.array(range(rows)), "text": [f"{row:0{size}}" for row in range(rows)]})


def _written(file: Path, *batches: pa.RecordBatch) -> pq.FileMetaData:
    encoder = Encoder(file, batches[0].schema)
    for batch in batches:
        encoder.write(batch)
    encoder.close({})
    assert pq.read_table(file).equals(pa.Table.from_batches(batches))
    return pq.read_metadata(file)


@pytest.mark.parametrize(
    ("shares", "groups"),
    [
        pytest.param((0.9, 0.9, 0.9), [1, 1, 1], id="large ones are not encoded together"),
        pytest.param((0.3, 0.3, 0.3, 0.3), [3, 1], id="ordinary ones are gathered"),
        pytest.param((0.1, 2.0, 0.1), [1, 1, 1], id="one that is too large stands alone"),
    ],
)
def test_a_row_group_is_no_larger_than_its_bound_or_one_batch(
    tmp_path: Path, shares: tuple[float, ...], groups: list[int]
) -> None:
    found = _written(tmp_path / "f", *(_texts(int(ROW_GROUP_BYTES * share)) for share in shares))
    assert [found.row_group(at).num_rows for at in range(found.num_row_groups)] == groups


@pytest.mark.parametrize(("size", "has"), [(100, True), (5000, False)])
def test_only_values_that_fit_into_statistics_are_copied_for_them(tmp_path: Path, size: int, has: bool) -> None:
    group = _written(tmp_path / "f", _texts(size, rows=50)).row_group(0)
    number, text = group.column(0), group.column(1)
    assert number.is_stats_set
    assert (number.statistics.min, number.statistics.max) == (0, 49)
    assert text.is_stats_set is has
