"""How long does the catalog take: resolving a thousand connections, and publishing a change of one layer?

    python -m bench.catalog [--releases 2000] [--connections 1000] [--rounds 5]

Resolving reads releases, channels, connections and states from a SQLite registry; the baseline asks for one connection
after the other. Publishing is the whole life of the process `wellhead publish` after one line of the connector has
changed, its trial in a container included; the baseline is `wellhead build` of another such change.
"""

from __future__ import annotations

import argparse
import itertools
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from bench.harness import product, world
from bench.harness.compare import Question, Sample, Way, compare, report
from tests.project import Project
from wellhead import documents
from wellhead.clock import SystemClock
from wellhead.connections import Connection, ConnectionFile
from wellhead.ids import ConnectionKey, ConnectorId, Digest
from wellhead.lifecycle import resolution
from wellhead.lifecycle.host import Host
from wellhead.manifest.load import load
from wellhead.registry import channels, connections, definitions
from wellhead.registry.database import Database
from wellhead.registry.definitions import PlatformImage, Release
from wellhead.settings import Settings

PLATFORM = "linux/amd64"
CONNECTORS = 20


def main() -> None:
    """Ask, measure, print and store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--releases", type=int, default=2000)
    parser.add_argument("--connections", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    _resolving(asked.releases, asked.connections, asked.rounds)
    _publishing(asked.rounds)


def _resolving(releases: int, count: int, rounds: int) -> None:
    text = f"{count} connections over {releases} releases of {CONNECTORS} connectors"
    question = Question("resolve", text, count, 0, goal_s=1.0)
    with _registry(releases, count) as (host, files):

        def together() -> None:
            resolution.choose_all(host, files, PLATFORM)

        def one_by_one() -> None:
            for file in files:
                resolution.choose(host, file, PLATFORM)

        baseline = Way("one after the other", lambda: _timed(one_by_one, count))
        report(
            question, compare(question, baseline, [Way("together", lambda: _timed(together, count))], rounds), rounds
        )


def _timed(work: Callable[[], None], rows: int) -> Sample:
    began = time.perf_counter()
    work()
    return Sample(time.perf_counter() - began, rows)


@contextmanager
def _registry(releases: int, count: int) -> Iterator[tuple[Host, list[ConnectionFile]]]:
    """Lend a host whose registry knows releases of several connectors, and connections that ran one of them before."""
    manifest = load(world.FIXTURES / "generator").document.data
    with tempfile.TemporaryDirectory() as folder:
        database = Database.open(f"sqlite:///{folder}/registry.db")
        database.migrate()
        clock = SystemClock()
        with database.transaction() as tx:
            for number in range(releases):
                connector, version = _release(number)
                digest = Digest(f"sha256:{number:064x}")
                image = PlatformImage(digest, digest)
                definitions.register(
                    tx, Release(connector, version, digest, "00", {PLATFORM: image}, manifest, "key", clock.now())
                )
                channels.point(tx, connector, "stable", version=version, index_digest=digest, who="ci", reason="new")
            files = [_connection(number) for number in range(count)]
            for file in files:
                connector = ConnectorId(file.connection.connector)
                connections.onboard(
                    tx,
                    file.key,
                    connector_id=connector,
                    version_range="^1",
                    channel="stable",
                    enabled=True,
                    file_sha256="",
                )
                connections.set_resolved(tx, file.key, version="1.0.0", digest=Digest("sha256:0"), decision={})
        parts = SimpleNamespace(
            database=database, clock=clock, settings=Settings(root=Path(folder)), policies=lambda: ()
        )
        yield cast("Host", parts), files
        database.close()


def _release(number: int) -> tuple[ConnectorId, str]:
    connector, own = number % CONNECTORS, number // CONNECTORS
    return ConnectorId(f"bench/connector-{connector}"), f"1.{own // 10}.{own % 10}"


def _connection(number: int) -> ConnectionFile:
    name = f"orders-{number}"
    said: dict[str, Any] = {
        "name": name,
        "connector": _release(number)[0],
        "version": "^1",
        "streams": [{"name": "rows"}],
    }
    key = ConnectionKey("bench", "default", name)
    return ConnectionFile(key, Connection.model_validate(said), Path(name), "", documents.Document(name, b"", said, {}))


def _publishing(rounds: int) -> None:
    question = Question("publish", "a change of one line in one connector", 1, 0, goal_s=2.0)
    with world.project(world.FIXTURES / "generator") as project, tempfile.TemporaryDirectory() as folder:
        source = Path(shutil.copytree(world.FIXTURES / "generator", Path(folder, "source")))
        numbers = itertools.count(1)
        baseline = Way("wellhead build", lambda: _whole(project, source, next(numbers), "build"))
        way = Way("wellhead publish", lambda: _whole(project, source, next(numbers), "publish"))
        report(question, compare(question, baseline, [way], rounds), rounds)


def _whole(project: Project, source: Path, number: int, verb: str) -> Sample:
    before, now = f"1.0.{number - 1}", f"1.0.{number}"
    for name in ("manifest.yaml", "pyproject.toml"):
        file = source / name
        file.write_text(file.read_text().replace(before, now, 1))
    with (source / "wellhead_generator" / "__init__.py").open("a") as code:
        # Never the same twice: an Engine that has had the image before is sent nothing.
        code.write(f"# {secrets.token_hex(8)}\n")
    return Sample(product.wellhead(project.root, verb, str(source)).wall_s, 1)


if __name__ == "__main__":
    main()
