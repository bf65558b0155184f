"""(a) and (b) How fast do rows that cost nothing to make arrive in Bronze: as Arrow batches, and as one dict each?

    python -m bench.generator [--rows 10000000] [--dict-rows 1000000] [--rounds 3]

The baseline makes the same rows in one process and writes them with ParquetWriter, without envelope, ids or commits.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from bench.harness import baselines, product, world
from bench.harness.compare import Question, Way, compare, report
from wellhead_generator.rows import Rows

PAGE_ROWS = 50_000


def main() -> None:
    """Ask, measure, print and store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--dict-rows", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    questions = (
        (Question("generator_columnar", "Arrow batches to Parquet", asked.rows, asked.seed), "columnar"),
        (
            Question("generator_dicts", "dicts to Parquet", asked.dict_rows, asked.seed, goal_rows_per_s=250_000),
            "dicts",
        ),
    )
    with world.project(world.FIXTURES / "generator") as project, tempfile.TemporaryDirectory() as folder:
        for question, style in questions:
            config = {"rows": question.rows, "seed": asked.seed, "style": style, "page_rows": PAGE_ROWS}
            project.connect(style, "dev/generator", ["rows"], config=config)
            _ask(question, style, project.root, Path(folder, "baseline.parquet"), asked.rounds)


def _ask(question: Question, style: str, project: Path, target: Path, rounds: int) -> None:
    made = Rows("mixed", question.seed)
    baseline = Way(
        f"the same {style} to ParquetWriter zstd-1",
        lambda: baselines.generator_to_parquet(made, question.rows, PAGE_ROWS, style, target),
    )
    way = Way("wellhead run", lambda: product.full_refresh(project, style))
    report(question, compare(question, baseline, [way], rounds), rounds)


if __name__ == "__main__":
    main()
