"""(e) How long does a run of one row take, cold, compared with `docker run` alone?

    python -m bench.start_up [--rounds 10]

Cold means: the image is loaded and nothing of it runs. Measured is the whole life of the process `wellhead run`.
e1 is the generator without any network; e2 is PostgreSQL with credentials from a Vault and a gateway of its own.
"""

from __future__ import annotations

import argparse
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from bench.harness import product, world
from bench.harness.compare import Question, Sample, Way, compare, report
from tests.project import Project


def main() -> None:
    """Ask, measure, print and store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    asked = parser.parse_args()
    with world.project(world.FIXTURES / "generator", world.CONNECTORS / "postgres") as project:
        project.connect("one", "dev/generator", ["rows"], config={"rows": 1})
        _ask("start_up_e1", "one row, no network", 1.2, project, "one", asked.rounds)
        with world.lender() as lender:
            lender.create("bench", "create table people (id bigint primary key); insert into people values (1)")
            lender.introduce(project, "people")
            lender.connect(project, "people", "bench", ["public.people"])
            _ask("start_up_e2", "one row, PostgreSQL with Vault and gateway", 2.0, project, "people", asked.rounds)


def _ask(name: str, text: str, goal_s: float, project: Project, connection: str, rounds: int) -> None:
    product.full_refresh(project.root, connection)
    question = Question(name, text, 1, 0, goal_s=goal_s)
    baseline = Way(
        "docker run of the same image, importing the SDK's server", _bare(_image_of(project.root, connection))
    )
    way = Way("wellhead run", lambda: product.whole_run(project.root, connection))
    report(question, compare(question, baseline, [way], rounds), rounds)


def _image_of(project: Path, connection: str) -> str:
    """Return what the Engine knows the connection's image by; a run has just loaded it."""
    runs = product.wellhead(project, "runs", "list", "--json").stdout
    found = next(run for run in product.documents(runs) if run["connection"]["name"] == connection)
    return str(found["image_id"])


def _bare(image_id: str) -> Callable[[], Sample]:
    command = ["docker", "run", "--rm", "--network", "none", "--entrypoint", "python3", image_id]

    def run() -> Sample:
        began = time.perf_counter()
        subprocess.run([*command, "-c", "import wellhead_sdk.server"], check=True, capture_output=True)
        return Sample(time.perf_counter() - began, 1)

    return run


if __name__ == "__main__":
    main()
