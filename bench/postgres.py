"""(c) How fast is a PostgreSQL table in Bronze, compared with ADBC alone doing the least of it in one process?

    python -m bench.postgres [--rows 1000000] [--rounds 5]

Credentials come from a Vault and the table through the run's fence; the baseline connects directly.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from bench.harness import baselines, product, world
from bench.harness.compare import Question, Way, compare, report

TABLE = """
select setseed({seed});
create table people as select
    number::bigint as id, gen_random_uuid()::text as uuid, 'Given' || number % 100000 as full_name,
    'user' || number || '@example.com' as email, (array['NL','DE','FR','US','GB'])[1 + number % 5] as country,
    (array['active','paused','closed'])[1 + number % 3] as status, random() * 100000 as amount,
    timestamp '2026-01-01' + number * interval '1 second' as updated_at, '{{"a": ' || number % 1000 || '}}' as attrs
    from generate_series(1, {rows}) as number;
alter table people add primary key (id);
vacuum analyze people;
"""


def main() -> None:
    """Ask, measure, print and store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    question = Question("postgres", "PostgreSQL to Parquet, start-up excluded", asked.rows, asked.seed, goal=0.9)
    with (
        world.lender() as lender,
        world.project(world.CONNECTORS / "postgres") as project,
        tempfile.TemporaryDirectory() as folder,
    ):
        lender.create("bench", TABLE.format(seed=asked.seed / 100, rows=asked.rows))
        lender.introduce(project, "people")
        lender.connect(project, "people", "bench", ["public.people"])
        target = Path(folder, "baseline.parquet")
        uri = lender.postgres.url("bench")
        baseline = Way(
            "ADBC to ParquetWriter zstd-1",
            lambda: baselines.postgres_to_parquet(uri, "select * from people", target),
        )
        way = Way("wellhead run", lambda: product.full_refresh(project.root, "people"))
        report(question, compare(question, baseline, [way], asked.rounds), asked.rounds)


if __name__ == "__main__":
    main()
