"""(d) How fast is a CSV file in Bronze, compared with pyarrow alone doing the least of it in one process?

python -m bench.csv_file [--rows 1000000] [--rounds 5]
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import pyarrow as pa

from bench.harness import baselines, data, product, world
from bench.harness.compare import Question, Way, compare, report


def main() -> None:
    """Ask, measure, print and store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    question = Question("csv_file", "CSV file to Parquet, start-up excluded", asked.rows, asked.seed, goal=1.0)
    with world.project(world.CONNECTORS / "csv-file") as project, tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "people.csv")
        # A connector's user has to be let in.
        Path(folder).chmod(0o755)
        data.people_csv(source, asked.rows, asked.seed)
        project.configure(files={"roots": [folder]})
        config = {"path": "/data/inbox/people.csv"}
        project.connect("people", "wellhead/csv-file", ["people"], config=config, mounts={"inbox": folder})
        # All columns as text, as the connector reads them unless told otherwise: both sides do the same work.
        text = {name: pa.string() for name in data.PEOPLE}
        target = Path(folder, "baseline.parquet")
        baseline = Way(
            "pyarrow open_csv to ParquetWriter zstd-1", lambda: baselines.csv_to_parquet(source, target, text)
        )
        way = Way("wellhead run", lambda: product.full_refresh(project.root, "people"))
        report(question, compare(question, baseline, [way], asked.rounds), asked.rounds)


if __name__ == "__main__":
    main()
