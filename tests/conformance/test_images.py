"""The SDK's suite against connectors as they ship: in their built image, in a sealed container, over its socket.

One connector alone: `make conform NAME=csv-file`. One that reads from a server is fenced as in a run, and its gateway
finds the server, which is started here, under the outbound bridge's own address.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Network, ip_network
from pathlib import Path
from typing import Any

import pytest

from tests.containers import cache, engine, labels
from tests.https_source import Asked, Reply, https_source, page
from tests.parts import ROOT, postgres_server
from wellhead.egress import network
from wellhead.egress.network import Fencer, FenceSettings
from wellhead.egress.policy import Grant, Policy, Rule
from wellhead.engine import folders
from wellhead.engine.client import Engine
from wellhead.engine.container import Attachment, Mount
from wellhead.images import base, build, engine_tar, layout
from wellhead.runners.docker import DockerRunner, Launch
from wellhead_csv_file.connector import CsvFileConnector
from wellhead_generator.connector import Generator
from wellhead_http_json.connector import HttpJsonConnector
from wellhead_postgres.connector import Postgres
from wellhead_sdk.testing import Conformance, Conversation, at_socket
from wellhead_sdk.wire.messages import OpenedHost

__all__ = ["engine"]

pytestmark = pytest.mark.real

# Neither the ranges of real runs nor those of the fence's own tests: all of them may stand beside each other.
SETTINGS = FenceSettings(
    slots=IPv4Network("198.19.64.0/18"), outbound_subnet=IPv4Network("172.31.253.0/24"), outbound="wh-conform-out"
)
OUTSIDE = SETTINGS.outbound_subnet[1]


@dataclass(frozen=True, slots=True)
class Shipped:
    """An image in the Engine, how its containers are started, and what they are told."""

    runner: DockerRunner
    image_id: str
    config: Mapping[str, Any]
    secrets: Mapping[str, str] = field(default_factory=dict)
    mounts: tuple[Mount, ...] = ()
    network: Attachment | None = None
    hosts: tuple[OpenedHost, ...] = ()

    @contextmanager
    def started(self) -> Iterator[Conversation]:
        whose = labels()
        launch = Launch(self.image_id, whose.run_id, 0, whose.connection, mounts=self.mounts, network=self.network)
        with self.runner.launch(launch) as container, at_socket(container.socket_path) as conversation:
            conversation.describe()
            conversation.authenticate(self.config, self.secrets, hosts=self.hosts)
            yield conversation


@contextmanager
def shipped(engine: Engine, connector: Path, folder: Path, config: Mapping[str, Any]) -> Iterator[Shipped]:
    """Build a connector's image, load it, and remove it at the end unless it was there before."""
    store = layout.Layout.create(folder / "store")
    built = build.build(connector, build.Inputs(base.rootfs((), cache()), ROOT / "sdk", cache()), store)
    digests = built.images[base.machine_platform()]
    was_there = any(engine.image_exists(digest) for digest in (digests.config, digests.manifest))
    image_id = engine.load(engine_tar.chunks(store, built.index_digest, base.machine_platform()))
    yield Shipped(DockerRunner(engine, f"conform-{uuid.uuid4().hex[:8]}"), image_id, config)
    if not was_there:
        engine.remove_image(image_id)


@pytest.fixture(scope="module")
def outbound(engine: Engine) -> Iterator[str]:
    """Lend the network by which every fence goes out, until the last of them is down."""
    network_id = network.ensure_outbound(engine, SETTINGS)
    yield network_id
    engine.remove_network(network_id)


@contextmanager
def fenced(engine: Engine, image: Shipped, host: str, port: int) -> Iterator[Shipped]:
    """Put up a fence that opens one server of this machine; the containers follow each other in its one place."""
    gateway = network.gateway_image(engine, base.rootfs(base.GATEWAY_PACKAGES, cache()))
    # The tests come in any order, and so two fences may be up at once.
    root = folders.default_root() / f"c{uuid.uuid4().hex[:6]}"
    policy = Policy((Rule(host, port, private=True),), {host: OUTSIDE}, (Grant(ip_network(f"{OUTSIDE}/32"), (port,)),))
    try:
        with Fencer(engine, lambda: gateway, SETTINGS, root).fence(labels(), policy) as fence:
            yield replace(image, network=fence.attachment, hosts=(OpenedHost(host, port, private=True),))
    finally:
        root.rmdir()


class _InImage(Conformance):
    """The suite, with a container for each conversation."""

    image: Shipped

    def ships(self, image: Shipped) -> None:
        """Take what the suite knows of the connection from the image's fixture."""
        self.image = image
        type(self).config, type(self).secrets = image.config, image.secrets

    @contextmanager
    def started(self) -> Iterator[Conversation]:
        with self.image.started() as conversation:
            yield conversation


@pytest.fixture(scope="module")
def generator(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shipped]:
    config = {"rows": 300, "page_rows": 40, "partitions": 2}
    with shipped(engine, ROOT / "tests/images/generator", tmp_path_factory.mktemp("generator"), config) as image:
        yield image


class TestGenerator(_InImage):
    connector = Generator
    streams = ("rows",)

    @pytest.fixture(autouse=True)
    def _in_image(self, generator: Shipped) -> None:
        self.ships(generator)


@pytest.fixture(scope="module")
def csv_file(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shipped]:
    folder = tmp_path_factory.mktemp("csv-file")
    data = folder / "data"
    data.mkdir(mode=0o755)
    rows = "".join(f'{number},"name, {number}",{number}.50\n' for number in range(500))
    (data / "people.csv").write_text(f"id,name,amount\n{rows}")
    with shipped(engine, ROOT / "connectors/csv-file", folder, {"path": "/data/people.csv"}) as image:
        yield replace(image, mounts=(Mount(data, "/data", read_only=True),))


class TestCsvFile(_InImage):
    connector = CsvFileConnector

    @pytest.fixture(autouse=True)
    def _in_image(self, csv_file: Shipped) -> None:
        self.ships(csv_file)


TABLES = """
    create table orders (id bigint primary key, total numeric(12, 2), placed timestamptz, note text);
    insert into orders
        select n, n + 0.25, timestamptz '2026-01-01 00:00:00+00' + n * interval '1 minute',
               case when n % 7 = 0 then null else rpad(md5(n::text), 1000, 'x') end
        from generate_series(1, 16000) n;
    create table visits (at timestamp, page text, tags text[], seen jsonb);
    insert into visits
        select timestamp '2026-01-01' + n * interval '1 hour', '/p/' || n, array['a', n::text], '{"n": 1}'
        from generate_series(1, 50) n;
    analyze
"""


@pytest.fixture(scope="module")
def postgres_image(engine: Engine, outbound: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shipped]:
    """Two tables: one by key in two ranges of several checkpoints each, and one without a key."""
    folder = tmp_path_factory.mktemp("postgres")
    with postgres_server(listen=("0.0.0.0",)) as server:
        server.psql(TABLES)
        config = {"host": "pg.test", "port": server.port, "database": "postgres", "partitions": 2}
        with (
            shipped(engine, ROOT / "connectors/postgres", folder, config) as image,
            fenced(engine, image, "pg.test", server.port) as inside,
        ):
            yield replace(inside, secrets={"username": "postgres", "password": server.password})


class TestPostgres(_InImage):
    connector = Postgres
    streams = ("public.orders", "public.visits")

    @pytest.fixture(autouse=True)
    def _in_image(self, postgres_image: Shipped) -> None:
        self.ships(postgres_image)


TOKEN = "a-token-of-this-test"
PAGES, PAGE_ROWS = 6, 40


def _orders(asked: Asked) -> Reply:
    """Answer one page of orders to whoever has the token, with the number of the next one."""
    if asked.path != "/v1/orders" or asked.headers.get("Authorization") != f"Bearer {TOKEN}":
        return Reply(401)
    number = int(dict(asked.query).get("after", "0"))
    rows = [{"id": n, "total": n + 0.5} for n in range(number * PAGE_ROWS, (number + 1) * PAGE_ROWS)]
    return page({"data": rows, "next": str(number + 1) if number + 1 < PAGES else None})


@pytest.fixture(scope="module")
def http_json(engine: Engine, outbound: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shipped]:
    folder = tmp_path_factory.mktemp("http-json")
    with https_source(folder, address="0.0.0.0", name="api.test") as source:
        source.route = _orders
        columns = {"id": "int", "total": "decimal(12,2)"}
        stream = {"name": "orders", "path": "orders", "records": "data", "primary_key": ["id"], "columns": columns}
        config = {
            "base_url": f"{source.base_url}/v1",
            "ca_pem": source.ca_pem,
            "auth": "bearer",
            "pagination": {"mode": "cursor", "request_param": "after", "response_field": "next"},
            "streams": [stream],
        }
        port = int(source.base_url.rpartition(":")[2])
        with (
            shipped(engine, ROOT / "connectors/http-json", folder, config) as image,
            fenced(engine, image, "api.test", port) as inside,
        ):
            yield replace(inside, secrets={"token": TOKEN})


class TestHttpJson(_InImage):
    connector = HttpJsonConnector

    @pytest.fixture(autouse=True)
    def _in_image(self, http_json: Shipped) -> None:
        self.ships(http_json)
