"""What a row is: a function of seed and index, the same however it is cut or shaped."""

from __future__ import annotations

import pyarrow as pa
import pytest

from wellhead_generator import rows
from wellhead_generator.rows import Profile, Rows

PROFILES: tuple[Profile, ...] = ("narrow", "mixed", "wide")


def test_a_row_is_what_it_always_was() -> None:
    """Changing these changes what every stored benchmark and ledger means."""
    first, far = (Rows("mixed", seed=7).batch(at, at + 1).to_pylist()[0] for at in (0, 12_345_679))
    assert first["value"] == 7740123847762582305
    assert first["updated_at"] == rows.EPOCH
    assert far == {
        "id": 12_345_679,
        "updated_at": far["updated_at"],
        "value": far["value"],
        "amount": None,
        "active": bool(far["value"] & 1),
        "label": f"label-{far['value'] >> 8 & 15}",
        "note": f"row-12345679-{far['value'] & 0xFFFFFF}",
    }
    assert (far["updated_at"] - rows.EPOCH).total_seconds() == 12_345.679


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("page_rows", [1, 7, 1000])
def test_pages_put_together_are_the_whole(profile: Profile, page_rows: int) -> None:
    table = Rows(profile, seed=3)
    assert pa.Table.from_batches(table.pages(5, 505, page_rows)).equals(pa.table(table.batch(5, 505)))


@pytest.mark.parametrize("profile", PROFILES)
def test_dicts_hold_what_columns_hold(profile: Profile) -> None:
    table = Rows(profile, seed=3)
    assert table.dicts(10, 200) == table.batch(10, 200).to_pylist()


def test_another_seed_gives_other_values_for_the_same_keys() -> None:
    ours, theirs = (Rows("narrow", seed).batch(0, 1000) for seed in (0, 5000))
    assert ours.column("id").equals(theirs.column("id"))
    assert not set(ours.column("value").to_pylist()) & set(theirs.column("value").to_pylist())


def test_values_do_not_repeat() -> None:
    values = Rows("narrow").batch(0, 100_000).column("value")
    assert len(values.unique()) == 100_000


@pytest.mark.parametrize(("count", "of"), [(10, 3), (2, 5), (0, 4), (1_000_003, 64)])
def test_partitions_cover_every_row_once(count: int, of: int) -> None:
    cut = rows.partitions(count, of)
    assert len(cut) == of
    assert [start for start, _ in cut] == [0, *(stop for _, stop in cut[:-1])]
    assert cut[-1][1] == count
    assert max(stop - start for start, stop in cut) - min(stop - start for start, stop in cut) <= 1


def test_events_create_update_and_delete_each_key_in_turn() -> None:
    life = [event for event in rows.events(0, 0, 500).to_pylist() if event["key"] == 42]
    assert [event["_op"] for event in life] == ["c", "u", "u", "d", "c"]
    assert [event["value"] is None for event in life] == [False, False, False, True, False]
    assert [event["_pos"] for event in life] == sorted(event["_pos"] for event in life)
