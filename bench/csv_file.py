"""(d) How fast is a CSV file in Bronze, compared with pyarrow alone doing the least of it in one process?

    python -m bench.csv_file --project DIR --connection NAME --file FILE

``DIR`` is a project whose connection NAME reads FILE with the csv-file connector; ``--write`` makes the file first.
Without a project only the baseline is measured.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import pyarrow as pa

from bench.harness import baselines, data, product
from bench.harness.compare import Question, Way, compare, report


def main() -> None:
    """Ask, measure, print and store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--file", type=Path, help="the CSV file; made in a temporary folder unless given")
    parser.add_argument("--write", action="store_true", help="make --file from the seed first")
    parser.add_argument("--project", type=Path)
    parser.add_argument("--connection", default="people")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="wellhead-bench-") as folder:
        source = asked.file or Path(folder, "people.csv")
        if asked.file is None or asked.write:
            data.people_csv(source, asked.rows, asked.seed)
        target = Path(folder, "baseline.parquet")
        text = {name: pa.string() for name in data.PEOPLE}
        question = Question("csv_file", "CSV file to Parquet, start-up excluded", asked.rows, asked.seed, goal=1.0)
        # All columns as text, as the connector reads them unless told otherwise: both sides do the same work.
        baseline = Way(
            "pyarrow open_csv to ParquetWriter zstd-1", lambda: baselines.csv_to_parquet(source, target, text)
        )
        ways = [Way("wellhead run", lambda: product.full_refresh(asked.project, asked.connection))]
        report(question, compare(question, baseline, ways if asked.project else [], asked.rounds), asked.rounds)


if __name__ == "__main__":
    main()
