"""The SDK's suite against connectors as they ship: in their built image, in a sealed container, over its socket.

One connector alone: `make conform NAME=csv-file`. A connector that reads from a server needs a fence in front of it,
and is not here yet.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tests.containers import cache, engine, labels
from tests.parts import ROOT
from wellhead.engine.client import Engine
from wellhead.engine.container import Mount
from wellhead.images import base, build, layout
from wellhead.runners.docker import DockerRunner, Launch
from wellhead_csv_file.connector import CsvFileConnector
from wellhead_generator.connector import Generator
from wellhead_sdk.testing import Conformance, Conversation, at_socket

__all__ = ["engine"]

pytestmark = pytest.mark.real


@dataclass(frozen=True, slots=True)
class Shipped:
    """An image in the Engine and how its containers are started."""

    runner: DockerRunner
    image_id: str
    mounts: tuple[Mount, ...] = field(default=())

    @contextmanager
    def started(self, config: Mapping[str, Any]) -> Iterator[Conversation]:
        whose = labels()
        launch = Launch(self.image_id, whose.run_id, 0, whose.connection, mounts=self.mounts)
        with self.runner.launch(launch) as container, at_socket(container.socket_path) as conversation:
            conversation.describe()
            conversation.authenticate(config, {})
            yield conversation


@contextmanager
def shipped(engine: Engine, connector: Path, folder: Path, *mounts: Mount) -> Iterator[Shipped]:
    """Build a connector's image, load it, and remove it at the end unless it was there before."""
    store = layout.Layout.create(folder / "store")
    built = build.build(connector, build.Inputs(base.rootfs((), cache()), ROOT / "sdk", cache()), store)
    digests = built.images[base.machine_platform()]
    was_there = any(engine.image_exists(digest) for digest in (digests.config, digests.manifest))
    image_id = engine.load(layout.engine_tar(store, built.index_digest, base.machine_platform()))
    yield Shipped(DockerRunner(engine, f"conform-{uuid.uuid4().hex[:8]}"), image_id, mounts)
    if not was_there:
        engine.remove_image(image_id)


class _InImage(Conformance):
    """The suite, with a container for each conversation."""

    image: Shipped

    @contextmanager
    def started(self) -> Iterator[Conversation]:
        with self.image.started(self.config) as conversation:
            yield conversation


@pytest.fixture(scope="module")
def generator(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shipped]:
    with shipped(engine, ROOT / "tests/images/generator", tmp_path_factory.mktemp("generator")) as image:
        yield image


class TestGenerator(_InImage):
    connector = Generator
    config: ClassVar[Mapping[str, Any]] = {"rows": 300, "page_rows": 40, "partitions": 2}
    streams = ("rows",)

    @pytest.fixture(autouse=True)
    def _in_image(self, generator: Shipped) -> None:
        self.image = generator


@pytest.fixture(scope="module")
def csv_file(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shipped]:
    folder = tmp_path_factory.mktemp("csv-file")
    data = folder / "data"
    data.mkdir(mode=0o755)
    rows = "".join(f'{number},"name, {number}",{number}.50\n' for number in range(500))
    (data / "people.csv").write_text(f"id,name,amount\n{rows}")
    mount = Mount(data, "/data", read_only=True)
    with shipped(engine, ROOT / "connectors/csv-file", folder, mount) as image:
        yield image


class TestCsvFile(_InImage):
    connector = CsvFileConnector
    config: ClassVar[Mapping[str, Any]] = {"path": "/data/people.csv"}

    @pytest.fixture(autouse=True)
    def _in_image(self, csv_file: Shipped) -> None:
        self.image = csv_file
