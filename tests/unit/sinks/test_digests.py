"""Many digests at once are the digests hashlib makes one by one."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pytest

from wellhead.sinks import digests

VALUES = [bytes(range(256)) * (number % 3) + str(number).encode() for number in range(2 * digests.MANY)]


@pytest.fixture(autouse=True)
def _loaded_anew() -> Iterator[None]:
    digests._loaded.cache_clear()
    yield
    digests._loaded.cache_clear()


def texts(values: pa.LargeBinaryArray) -> list[str]:
    return [bytes(row).decode() for row in digests.sha256(values)]


def expected(values: list[bytes]) -> list[str]:
    return [hashlib.sha256(value).hexdigest() for value in values]


def test_the_locked_release_can_be_called() -> None:
    assert digests._loaded() is not None


@pytest.mark.parametrize("count", [0, 1, digests.MANY - 1, digests.MANY, len(VALUES)])
def test_they_are_those_of_hashlib(count: int) -> None:
    assert texts(pa.array(VALUES[:count], pa.large_binary())) == expected(VALUES[:count])


def test_a_slice_has_the_digests_of_its_own_values() -> None:
    values = pa.array(VALUES, pa.large_binary())
    assert texts(values.slice(7, digests.MANY)) == expected(VALUES[7 : 7 + digests.MANY])


def test_threads_may_hash_at_once() -> None:
    values = pa.array(VALUES, pa.large_binary())
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(texts, [values] * 16))
    assert found == [expected(VALUES)] * 16


def test_what_was_handed_over_is_given_back() -> None:
    before = pa.total_allocated_bytes()
    values = pa.array(VALUES, pa.large_binary())
    for _ in range(8):
        digests.sha256(values)
    del values
    assert pa.total_allocated_bytes() == before


def test_a_plugin_of_another_convention_is_not_called(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digests, "_VERSION", (0, 2))
    assert digests._loaded() is None
    assert texts(pa.array(VALUES, pa.large_binary())) == expected(VALUES)


@pytest.mark.slow
def test_hashing_many_values_imports_no_polars() -> None:
    program = f"""
import sys
import pyarrow as pa
from wellhead.sinks import digests
digests.sha256(pa.array([b"x"] * {digests.MANY}, pa.large_binary()))
assert digests._loaded() is not None
sys.exit(any(name.partition(".")[0] in ("polars", "_polars_runtime_32") for name in sys.modules))
"""
    assert subprocess.run([sys.executable, "-c", program], check=False, capture_output=True).returncode == 0
