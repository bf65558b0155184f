"""How much of a connection's speed does the gateway take, and how long does it add to connecting?

    python -m bench.egress_splice [--mib 2048] [--connects 300] [--rounds 3]

The client is a container in a run's fence; the baseline is the same container on the outbound bridge itself.
The server is this process, on the bridge's own address.
"""

from __future__ import annotations

import argparse
import json
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, ip_network

from bench.harness.compare import Measured, Question, Sample, Way, compare, report
from tests.containers import cache, chunks, created, labels, program
from tests.parts import docker_engine_of_machine
from wellhead.egress import network
from wellhead.egress.network import Fencer, FenceSettings
from wellhead.egress.policy import Grant, Policy, Rule
from wellhead.engine.client import Engine
from wellhead.engine.container import Attachment
from wellhead.images import base

# Not the ranges of real runs: a benchmark stands beside them.
OUTSIDE = "172.31.253.1"
SETTINGS = FenceSettings(
    slots=IPv4Network("198.19.128.0/18"),
    outbound_subnet=IPv4Network("172.31.253.0/24"),
    resolver=IPv4Address(OUTSIDE),
    outbound="wh-bench-out",
)
PORT = 47100
HOST = "source.test"
MIB = 1 << 20
GOAL_BITS_PER_S = 5e9
GOAL_ADDED_MS = 0.5

#: Told the host, how often to connect and how many bytes to take; says how long each took.
CLIENT = """
import json, socket, time
host, port, connects, size = {host!r}, {port}, {connects}, {size}
began = time.perf_counter()
for _ in range(connects):
    with socket.create_connection((host, port)) as s:
        assert s.recv(1) == b"!"
connecting = time.perf_counter() - began
buffer = bytearray(1 << 20)
with socket.create_connection((host, port)) as s:
    assert s.recv(1) == b"!"
    began = time.perf_counter()
    s.sendall(b"%d\\n" % size)
    taken = 0
    while got := s.recv_into(buffer):
        taken += got
    took = time.perf_counter() - began
print(json.dumps([connecting, took, taken]))
"""


def main() -> None:
    """Ask, measure, print and store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mib", type=int, default=2048)
    parser.add_argument("--connects", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    speed = Question(
        "egress_throughput", "MiB through the gateway", asked.mib, 0, goal_rows_per_s=GOAL_BITS_PER_S / 8 / MIB
    )
    connecting = Question("egress_connect", "connections through the gateway", asked.connects, 0)
    with docker_engine_of_machine() as docker:
        engine = Engine.connect(docker.host)
        with _python_image(engine) as image, _outbound(engine) as outbound, _server():
            fencer = Fencer(engine, lambda: _gateway(engine), SETTINGS)
            rules = (Rule(HOST, PORT, private=True),)
            policy = Policy(rules, {HOST: IPv4Address(OUTSIDE)}, (Grant(ip_network(f"{OUTSIDE}/32"), (PORT,)),))
            with fencer.fence(labels(), policy) as fence:
                direct = Attachment(outbound, str(SETTINGS.outbound_subnet[9]), dns="")

                def client(attachment: Attachment, host: str, connects: int, mib: int) -> Callable[[], Sample]:
                    text = CLIENT.format(host=host, port=PORT, connects=connects, size=mib * MIB)
                    return lambda: _ran(engine, image, attachment, text, connects, mib)

                for question, connects, mib in ((speed, 1, asked.mib), (connecting, asked.connects, 0)):
                    baseline = Way("the bridge alone", client(direct, OUTSIDE, connects, mib))
                    way = Way("through the gateway", client(fence.attachment, HOST, connects, mib))
                    measured = compare(question, baseline, [way], asked.rounds)
                    report(question, measured, asked.rounds)
                _tell_added(measured, asked.connects)
        engine.close()


def _tell_added(measured: list[Measured], connects: int) -> None:
    alone, through = (one.median_s for one in measured)
    added_ms = (through - alone) / connects * 1000
    sys.stdout.write(f"  added to a connect: {added_ms:.2f} ms\n  goal: {GOAL_ADDED_MS} ms\n")


def _ran(engine: Engine, image: str, attachment: Attachment, text: str, connects: int, mib: int) -> Sample:
    with created(engine, replace(program(image, text), network=attachment)) as container:
        container.start()
        code = container.wait(120.0)
        said = container.logs(1 << 16)
    if code != 0:
        raise RuntimeError(f"the client ended with {code}: {said}")
    connecting, took, taken = json.loads(said.splitlines()[-1])
    return Sample(took, taken // MIB) if mib else Sample(connecting, connects)


@contextmanager
def _python_image(engine: Engine) -> Iterator[str]:
    tar = chunks(base.rootfs(base.GATEWAY_PACKAGES, cache()))
    image = engine.import_rootfs(tar, "wellhead-bench-python:1", ('ENTRYPOINT ["python3", "-I", "-c"]',), {})
    try:
        yield image
    finally:
        engine.remove_image(image)


def _gateway(engine: Engine) -> str:
    return network.gateway_image(engine, base.rootfs(base.GATEWAY_PACKAGES, cache()))


@contextmanager
def _outbound(engine: Engine) -> Iterator[str]:
    network_id = network.ensure_outbound(engine, SETTINGS)
    try:
        yield network_id
    finally:
        engine.remove_network(network_id)


@contextmanager
def _server() -> Iterator[None]:
    """Greet each client with one byte, then send as many as it asks for."""
    with socket.create_server((OUTSIDE, PORT), backlog=512) as listener:
        thread = threading.Thread(target=_serve, args=(listener,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            # Wakes accept, which closing alone does not.
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def _serve(listener: socket.socket) -> None:
    piece = memoryview(bytes(MIB))
    while True:
        try:
            client, _ = listener.accept()
        except OSError:
            return
        # A client that only connects is gone by the time it is asked.
        with client, suppress(ConnectionError):
            client.sendall(b"!")
            left = int(client.recv(64) or b"0")
            while left:
                left -= client.send(piece[: min(left, MIB)])


if __name__ == "__main__":
    main()
