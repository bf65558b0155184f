"""A fence on a real Engine, and the world outside it."""

from __future__ import annotations

import json
import os
import subprocess
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network, ip_network
from pathlib import Path
from typing import Any

import pytest

from tests.containers import cache, created, engine, labels, program, python_image
from tests.parts import DockerEngine, certificate, wait_until
from wellhead.egress import network
from wellhead.egress.network import Fence, Fencer, FenceSettings
from wellhead.egress.policy import Grant, Policy, Rule
from wellhead.engine import folders
from wellhead.engine.client import Engine
from wellhead.engine.container import ContainerSpec
from wellhead.images import base

__all__ = ["engine", "python_image"]

# Not the ranges of real runs: tests stand beside them.
SETTINGS = FenceSettings(
    slots=IPv4Network("198.19.0.0/18"),
    outbound_subnet=IPv4Network("172.31.254.0/24"),
    resolver=IPv4Address("172.31.254.1"),
    outbound="wh-test-out",
)
OUTSIDE = "172.31.254.1"
ECHO, SOURCE, RESETS, HOLDS, TLS = PORTS = (47000, 47001, 47002, 47003, 47443)
CANARY = 47999
GRANT = Grant(ip_network(f"{OUTSIDE}/32"), PORTS)

ZONE: dict[str, dict[str, Any]] = {
    "api.good.test": {"A": [OUTSIDE]},
    "tls.good.test": {"A": [OUTSIDE]},
    "a.wild.test": {"A": [OUTSIDE]},
    "alias.good.test": {"aliases": ["one.good.test", "two.good.test"], "A": [OUTSIDE]},
    "endless.good.test": {"aliases": [f"a{number}.good.test" for number in range(20)], "A": [OUTSIDE]},
    "metadata.good.test": {"A": ["169.254.169.254"]},
    "loopback.good.test": {"A": ["127.0.0.1"]},
    "private.good.test": {"A": ["10.20.30.40"]},
    "neighbour.good.test": {"A": ["172.31.254.2"]},
    "slot.good.test": {"A": ["198.19.1.2"]},
    "mixed.good.test": {"A": [OUTSIDE, "169.254.169.254"]},
    "six.good.test": {"A": [OUTSIDE], "AAAA": ["fd00:ec2::254"]},
    "cname-private.good.test": {"aliases": ["internal.corp.test"], "A": ["192.168.1.1"]},
    "rebinds.good.test": {"turns": [[OUTSIDE], ["127.0.0.1"]], "ttl": 0},
    "empty.good.test": {},
}


@dataclass(frozen=True, slots=True)
class World:
    """The servers outside, and what they saw."""

    container: str
    host: str

    def seen(self, event: str) -> list[dict[str, Any]]:
        """Everything of one kind since the world began."""
        written = subprocess.run(
            ["docker", "--host", self.host, "logs", self.container], capture_output=True, text=True, check=True
        ).stdout
        lines = [json.loads(line) for line in written.splitlines()]
        return [line for line in lines if line["event"] == event]


@pytest.fixture(scope="session")
def gateway_image(engine: Engine) -> str:
    return network.gateway_image(engine, base.rootfs(base.GATEWAY_PACKAGES, cache()))


@pytest.fixture(scope="session")
def root() -> Iterator[Path]:
    path = folders.default_root() / f"e{os.getpid()}"
    folders.prepare_root(path)
    yield path
    left = list(path.iterdir())
    path.rmdir()
    assert left == [], "a fence left files behind"


@pytest.fixture(scope="session")
def fencer(engine: Engine, gateway_image: str, root: Path) -> Iterator[Fencer]:
    outbound = network.ensure_outbound(engine, SETTINGS)
    yield Fencer(engine, lambda: gateway_image, SETTINGS, root)
    engine.remove_network(outbound)


@pytest.fixture(scope="session")
def world(
    docker_engine: DockerEngine, fencer: Fencer, python_image: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    """Servers on the outbound bridge's own address. In the host's network, which only this container of ours is."""
    made = certificate(tmp_path_factory.mktemp("certificate"), "tls.good.test", "a.wild.test")
    document = {
        "bridge": SETTINGS.outbound,
        "address": OUTSIDE,
        "zone": ZONE,
        "ports": PORTS,
        "canary": CANARY,
        "pem": made.certificate.read_text() + made.key.read_text(),
    }
    name = f"wh-test-world-{uuid.uuid4().hex[:8]}"
    docker = ["docker", "--host", docker_engine.host]
    # NET_RAW is what the packet watch needs; it is in the Engine's default set.
    run = ["run", "--detach", "--network", "host", "--name", name, "--env", f"WORLD={json.dumps(document)}"]
    program = Path(__file__).with_name("world.py").read_text()
    subprocess.run([*docker, *run, python_image, program], check=True, capture_output=True)
    world = World(name, docker_engine.host)
    try:
        wait_until(lambda: bool(world.seen("ready")), what="the world outside is ready")
        yield world
    finally:
        subprocess.run([*docker, "rm", "--force", "--volumes", name], check=True, capture_output=True)


Fenced = Callable[..., AbstractContextManager[Fence]]


@pytest.fixture
def fenced(fencer: Fencer, world: World) -> Fenced:
    """Put up a fence for some rules, with the outside world granted."""

    @contextmanager
    def put_up(*rules: Rule, grants: tuple[Grant, ...] = (GRANT,), **hosts: str) -> Iterator[Fence]:
        mapped = {name.replace("_", "."): IPv4Address(address) for name, address in hosts.items()}
        with fencer.fence(labels(), Policy(rules, mapped, grants)) as fence:
            yield fence

    return put_up


@dataclass(frozen=True, slots=True)
class Inside:
    """Runs programs where a connector would run."""

    engine: Engine
    image_id: str

    def run(self, fence: Fence, text: str, *, within_s: float = 60.0, **changes: Any) -> str:
        """Run a Python text inside the fence and return what it wrote."""
        spec: ContainerSpec = replace(program(self.image_id, text), network=fence.attachment, **changes)
        with created(self.engine, spec) as container:
            container.start()
            code = container.wait(within_s)
            written = container.logs(1 << 20)
        assert code == 0, written
        return written.strip()

    def json(self, fence: Fence, text: str, **changes: Any) -> Any:
        """Run a Python text inside the fence and read its last line as JSON."""
        return json.loads(self.run(fence, text, **changes).splitlines()[-1])


@pytest.fixture
def inside(engine: Engine, python_image: str) -> Inside:
    return Inside(engine, python_image)
