"""Images and containers for tests of the runner and the fence: programs are Python texts given as arguments."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.parts import DockerEngine
from wellhead.engine.client import Container, Engine
from wellhead.engine.container import ContainerSpec, Labels
from wellhead.images import base

CHUNK = 1 << 20


def cache() -> Path:
    """The folder in which root file systems outlive one session of tests."""
    home = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    return home / "wellhead" / "images"


def chunks(file: Path) -> Iterator[bytes]:
    with file.open("rb") as opened:
        while piece := opened.read(CHUNK):
            yield piece


def labels(run_id: str = "", role: str = "connector", host_id: str = "test-host") -> Labels:
    return Labels(run_id or f"t{uuid.uuid4().hex[:12]}", host_id, 1, "acme/main/orders", role)


@pytest.fixture(scope="session")
def engine(docker_engine: DockerEngine) -> Iterator[Engine]:
    """Our own client of the machine's Engine."""
    connected = Engine.connect(docker_engine.host)
    yield connected
    connected.close()


@pytest.fixture(scope="session")
def python_image(engine: Engine) -> Iterator[str]:
    """An image of the base root file system that runs the Python text it gets as its argument."""
    tag = f"wellhead-test-python:{uuid.uuid4().hex[:12]}"
    image_id = engine.import_rootfs(
        chunks(base.rootfs(base.GATEWAY_PACKAGES, cache())), tag, ('ENTRYPOINT ["python3", "-I", "-c"]',), {}
    )
    yield image_id
    engine.remove_image(image_id)


@contextmanager
def created(engine: Engine, spec: ContainerSpec) -> Iterator[Container]:
    """A container that is removed whatever happens."""
    container = engine.create(spec)
    try:
        yield container
    finally:
        container.remove()


def program(image_id: str, text: str, *, of: Labels | None = None) -> ContainerSpec:
    """What runs a Python text, sealed as a connector is."""
    whose = of or labels()
    return ContainerSpec(name=f"wh-test-{uuid.uuid4().hex[:12]}", image_id=image_id, labels=whose, command=(text,))


def output(engine: Engine, spec: ContainerSpec, *, within_s: float = 30.0) -> str:
    """Run a program to its end and return what it wrote."""
    with created(engine, spec) as container:
        container.start()
        container.wait(within_s)
        return container.logs(1 << 20)
