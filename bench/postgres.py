"""(c) How fast is a PostgreSQL table in Bronze, compared with ADBC alone doing the least of it in one process?

    python -m bench.postgres --uri URI --query SQL --rows N --project DIR --connection NAME

``DIR`` is a project whose connection NAME reads the same rows with the postgres connector. Without a project only the
baseline is measured.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from bench.harness import baselines, product
from bench.harness.compare import Question, Way, compare, report


def main() -> None:
    """Ask, measure, print and store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--uri", required=True, help="postgresql://USER:PASSWORD@HOST:PORT/DATABASE")
    parser.add_argument("--query", required=True, help="what the connection's stream reads")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=42, help="of the table's contents, for the record")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--project", type=Path)
    parser.add_argument("--connection", default="people")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="wellhead-bench-") as folder:
        target = Path(folder, "baseline.parquet")
        question = Question("postgres", "PostgreSQL to Parquet, start-up excluded", asked.rows, asked.seed, goal=0.9)
        baseline = Way(
            "ADBC to ParquetWriter zstd-1", lambda: baselines.postgres_to_parquet(asked.uri, asked.query, target)
        )
        ways = [Way("wellhead run", lambda: product.full_refresh(asked.project, asked.connection))]
        report(question, compare(question, baseline, ways if asked.project else [], asked.rounds), asked.rounds)


if __name__ == "__main__":
    main()
