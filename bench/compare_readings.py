"""How long, and with how much memory, are two readings of ten million rows compared, as `wellhead shadow` does it?

    python -m bench.compare_readings [--rows 10000000] [--rounds 1]

The readings are the generator's rows in ten files each; in the second one every thousandth row has another value.
The baseline is DuckDB, which joins the same files by key and may take as much memory as it likes. Every way is a
process of its own, so that its peak is its own.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bench.harness.compare import Question, Sample, Way, compare, report

FILES = 10
GROUP_ROWS = 100_000
EVERY = 1000


def main() -> None:
    """Ask, measure, print and store; with ``--way`` be one of the ways."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--way", choices=sorted(WAYS), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.way:
        _be(asked.way, asked.folder)
        return
    with tempfile.TemporaryDirectory() as folder:
        _make(Path(folder), asked.rows)
        question = Question("compare_readings", "two readings compared", asked.rows, 0)
        baseline, *ways = (Way(name, partial(_measure, name, Path(folder))) for name in WAYS)
        report(question, compare(question, baseline, ways, asked.rounds), asked.rounds)


def _make(folder: Path, rows: int) -> None:
    from wellhead_generator.rows import Rows, partitions

    table = Rows("mixed")
    for side in ("present", "candidate"):
        for number, (start, stop) in enumerate(partitions(rows, FILES)):
            with pq.ParquetWriter(folder / f"{side}-{number}.parquet", table.schema, compression="zstd") as out:
                for batch in table.pages(start, stop, GROUP_ROWS):
                    out.write_batch(_changed(batch) if side == "candidate" else batch)


def _changed(batch: pa.RecordBatch) -> pa.RecordBatch:
    ids = batch["id"]
    is_chosen = pc.equal(ids, pc.multiply(pc.divide(ids, EVERY), EVERY))
    at = batch.schema.get_field_index("value")
    value = pc.if_else(is_chosen, pc.add(batch["value"], 1), batch["value"])
    return batch.set_column(at, batch.schema.field("value"), value)


def _measure(way: str, folder: Path) -> Sample:
    command = [sys.executable, "-m", "bench.compare_readings", "--way", way, "--folder", str(folder)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    told = json.loads(done.stdout)
    return Sample(told.pop("seconds"), told.pop("rows"), told)


def _be(way: str, folder: Path) -> None:
    began = time.perf_counter()
    rows, found = WAYS[way](folder)
    seconds = time.perf_counter() - began
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(json.dumps({"seconds": seconds, "rows": rows, "changed": found, "peak_memory_mib": peak_mib}))


def _duckdb(folder: Path) -> tuple[int, int]:
    import duckdb

    sides = [f"read_parquet('{folder}/{side}-*.parquet')" for side in ("present", "candidate")]
    with duckdb.connect() as database:
        names = [row[0] for row in database.execute(f"describe select * exclude (id) from {sides[0]}").fetchall()]
        differs = " or ".join(f'a."{name}" is distinct from b."{name}"' for name in names)
        query = f"select count(*), count(*) filter ({differs}) from {sides[0]} a full join {sides[1]} b using (id)"
        row = database.execute(query).fetchone()
    assert row is not None
    return int(row[0]), int(row[1])


def _by_key(folder: Path) -> tuple[int, int]:
    return _compared(folder, ("id",))


def _by_content(folder: Path) -> tuple[int, int]:
    return _compared(folder, ())


def _compared(folder: Path, key: tuple[str, ...]) -> tuple[int, int]:
    from wellhead.compat import readings

    sides = [sorted(folder.glob(f"{side}-*.parquet")) for side in ("present", "candidate")]
    one, other = (readings.Reading(pq.read_schema(files[0]), tuple(files)) for files in sides)
    found = readings.compare(one, other, readings.Terms(key=key))
    return found.rows[0], found.changed or found.present_only


#: The baseline first.
WAYS: dict[str, Callable[[Path], tuple[int, int]]] = {
    "DuckDB, by key": _duckdb,
    "wellhead, by key": _by_key,
    "wellhead, by content": _by_content,
}


if __name__ == "__main__":
    main()
