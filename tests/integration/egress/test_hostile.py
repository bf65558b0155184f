"""Everything a hostile program tries from inside the fence; the judge is what arrived outside, not what it was told."""

from __future__ import annotations

import fcntl
import socket
import struct
from dataclasses import replace

import pytest

from tests.containers import created, program
from tests.integration.egress.conftest import CANARY, ECHO, OUTSIDE, Fenced, Inside, World
from tests.parts import wait_until
from wellhead.egress.policy import Rule
from wellhead.engine.container import Seal

pytestmark = [pytest.mark.real, pytest.mark.engines]

API = Rule("api.good.test", ECHO, private=True)

TRY = """
import errno, json, os, socket, struct, subprocess, time
from concurrent.futures import ThreadPoolExecutor

def what(call):
    try:
        return call() or "done"
    except TimeoutError:
        return "timeout"
    except socket.gaierror:
        return "no such name"
    except OSError as exc:
        return errno.errorcode.get(exc.errno, "error")

def http(host, port, family=socket.AF_INET):
    def call():
        with socket.socket(family) as s:
            s.settimeout(2)
            s.connect((host, port))
            s.sendall(b"GET / HTTP/1.0\\r\\n\\r\\n")
            return s.recv(32).decode("latin-1") or "closed"
    return what(call)

def udp(host, port, data=b"x" * 12, family=socket.AF_INET, options=()):
    def call():
        with socket.socket(family, socket.SOCK_DGRAM) as s:
            s.settimeout(1)
            for option in options: s.setsockopt(*option)
            s.sendto(data, (host, port))
            return "answered " + s.recv(512).hex()
    return what(call)

def ask(server, name, kind, tcp=False, port=53):
    wire = b"".join(bytes([len(p)]) + p.encode() for p in name.split(".")) + b"\\0"
    packet = os.urandom(2) + bytes.fromhex("01000001000000000000") + wire + struct.pack("!HH", kind, 1)
    def call():
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM) as s:
            s.settimeout(1)
            s.connect((server, port))
            s.sendall((struct.pack("!H", len(packet)) if tcp else b"") + packet)
            reply = s.recv(1024)[2 if tcp else 0:]
            return f"code {reply[3] & 15}, {int.from_bytes(reply[6:8], 'big')} answers"
    return what(call)

def at_once(*calls):
    with ThreadPoolExecutor(32) as pool:
        return list(pool.map(lambda call: call(), calls))
"""


def host_addresses() -> list[str]:
    """Every IPv4 address of this host's interfaces: what a service on 0.0.0.0 listens on."""
    found = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        for _, name in socket.if_nameindex():
            try:
                answer = fcntl.ioctl(asking, 0x8915, struct.pack("256s", name.encode()))
            except OSError:
                continue
            found.append(socket.inet_ntoa(answer[20:24]))
    return [address for address in found if not address.startswith("127.")]


def test_no_query_for_an_unlisted_name_leaves_the_fence(fenced: Fenced, inside: Inside, world: World) -> None:
    text = TRY + (
        "own = open('/etc/resolv.conf').read().split()[1]\n"
        "names = ['evil.test', 'x.api.good.test', 'host.docker.internal', 'metadata.google.internal',\n"
        "         'dGVzdA.tunnel.test', 'localhost.localdomain', 'private.good.test']\n"
        "calls = [lambda n=n, k=k, s=s, t=t: ask(s, n, k, t) for n in names for k in (1, 16, 28, 255, 12)\n"
        f"         for s in (own, '127.0.0.11', '{OUTSIDE}', '8.8.8.8') for t in (False, True)]\n"
        "told = at_once(*calls)\n"
        "libc = {n: what(lambda n=n: socket.getaddrinfo(n, 80) and 'resolved') for n in names}\n"
        "print(json.dumps([sorted(set(told)), libc, ask(own, 'api.good.test', 1), ask(own, 'api.good.test', 28)]))\n"
    )
    before = len(world.seen("query"))
    with fenced(API) as fence:
        told, libc, listed, other = inside.json(fence, text, within_s=100)
        records = fence.close()
    assert [query["name"] for query in world.seen("query")[before:]] == []
    assert set(libc.values()) == {"no such name"}
    assert (listed, other) == ("code 0, 1 answers", "code 0, 0 answers")
    assert not [answer for answer in told if answer.startswith("code 0")]
    assert {"evil.test", "dgvzda.tunnel.test"} <= {record.host.lower() for record in records if record.kind == "name"}
    assert not any(record.allowed for record in records)


def test_no_address_is_reached_past_the_gateway_by_any_protocol(fenced: Fenced, inside: Inside, world: World) -> None:
    targets = [*host_addresses(), "1.1.1.1", "8.8.8.8", "169.254.169.254", "10.0.0.1", "100.64.0.1", "192.168.0.1"]
    text = TRY + (
        f"targets = {targets}\n"
        "own = open('/etc/resolv.conf').read().split()[1]\n"
        "slot = own.rsplit('.', 1)[0]\n"
        "targets += [slot + '.1', slot + '.2', slot + '.200', slot + '.255', '172.31.254.2', '172.31.254.3']\n"
        f"ports = [{CANARY}, 22, 80, 443, 2375, 15001, {ECHO}]\n"
        "tcp = at_once(*[lambda t=t, p=p: http(t, p) for t in targets for p in ports])\n"
        "packets = at_once(*[lambda t=t, p=p: udp(t, p) for t in targets for p in (53, 123, 443, 5353, 1900)])\n"
        "packets += at_once(\n"
        "    lambda: udp('255.255.255.255', 67, options=[(1, 6, 1)]), lambda: udp('224.0.0.251', 5353),\n"
        "    lambda: udp('8.8.8.8', 53, options=[(0, 15, 1)]),  # IP_FREEBIND\n"
        ")\n"
        "def ping(t):\n"
        "    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM, 1) as s:\n"
        "        s.settimeout(1); s.sendto(b'\\x08\\0\\0\\0\\0\\1\\0\\1', (t, 0)); s.recv(64)\n"
        "pings = at_once(*[lambda t=t: what(lambda: ping(t)) for t in targets])\n"
        "six = at_once(*[lambda t=t: http(t, 80, socket.AF_INET6) for t in\n"
        "    ('2606:4700:4700::1111', '::ffff:1.1.1.1', 'fd00:ec2::254', 'fe80::1', 'ff02::1', '::ffff:127.0.0.1')])\n"
        "print(json.dumps([tcp, packets, six, pings]))\n"
    )
    packets_before, canary_before = len(world.seen("packet")), len(world.seen("canary"))
    with fenced(API) as fence:
        tcp, packets, six, _ = inside.json(fence, text, within_s=110)
        records = fence.close()
    assert not [answer for answer in tcp + six if answer.startswith("HTTP")]
    assert not [answer for answer in packets if answer == "done"]
    assert not any(record.allowed for record in records)
    assert world.seen("canary")[canary_before:] == []
    assert world.seen("packet")[packets_before:] == []


def test_root_with_every_network_right_inside_the_fence_gets_no_further(
    fenced: Fenced, inside: Inside, world: World
) -> None:
    """Beyond what a connector has: were it to gain root in its own network, the fence must hold from outside."""
    text = TRY + (
        "own = open('/etc/resolv.conf').read().split()[1]\n"
        "slot = own.rsplit('.', 1)[0]\n"
        "def ip(*words): return subprocess.run(['ip', *words], capture_output=True).returncode\n"
        "done = [ip('route', 'replace', 'default', 'via', own), ip('addr', 'add', slot + '.1/24', 'dev', 'eth0'),\n"
        "        ip('addr', 'add', slot + '.130/32', 'dev', 'lo')]\n"
        f"targets = {[*host_addresses(), '1.1.1.1', '169.254.169.254', OUTSIDE]}\n"
        f"tcp = at_once(*[lambda t=t, p=p: http(t, p) for t in targets for p in ({CANARY}, 80, {ECHO})])\n"
        "ip('route', 'del', 'default'); ip('route', 'add', 'default', 'dev', 'eth0')\n"
        f"tcp += at_once(*[lambda t=t, p=p: http(t, p) for t in targets for p in ({CANARY}, 80, {ECHO})])\n"
        "print(json.dumps([done, tcp]))\n"
    )
    packets_before, canary_before = len(world.seen("packet")), len(world.seen("canary"))
    with fenced(API) as fence:
        done, tcp = inside.json(
            fence, text, within_s=110, user="0:0", seal=Seal(capabilities=("NET_ADMIN", "NET_RAW"), seccomp=False)
        )
    assert done == [0, 0, 0]
    assert not [answer for answer in tcp if answer.startswith("HTTP")]
    assert world.seen("canary")[canary_before:] == []
    assert world.seen("packet")[packets_before:] == []


def test_two_runs_do_not_see_each_other(fenced: Fenced, inside: Inside) -> None:
    listening = "import socket\ns = socket.create_server(('0.0.0.0', 8080))\nprint('up', flush=True)\ns.accept()"
    with fenced(API) as one, fenced(API) as other:
        spec = replace(program(inside.image_id, listening), network=one.attachment)
        with created(inside.engine, spec) as neighbour:
            neighbour.start()
            wait_until(lambda: "up" in neighbour.logs(), what="the neighbour listens", within_s=20)
            text = TRY + (
                f"print(json.dumps(at_once(lambda: http('{one.attachment.address}', 8080),"
                f" lambda: http('{one.dns}', {ECHO}), lambda: ask('{one.dns}', 'api.good.test', 1))))"
            )
            told = inside.json(other, text)
    assert not [answer for answer in told if answer.startswith(("HTTP", "code", "closed", "done"))]


def test_the_program_cannot_change_how_it_asks_for_names(fenced: Fenced, inside: Inside) -> None:
    text = TRY + (
        "print(json.dumps([what(lambda: open('/etc/resolv.conf', 'w').close()),"
        " what(lambda: open('/etc/hosts', 'w').close()), open('/etc/resolv.conf').read()]))"
    )
    with fenced(API) as fence:
        resolv, hosts, told = inside.json(fence, text)
    assert {resolv, hosts} <= {"EROFS", "EACCES"}
    assert told == f"nameserver {fence.dns}\noptions ndots:0 timeout:3 attempts:2\n"


def test_a_flood_of_connections_is_bounded_and_the_gateway_stands(fenced: Fenced, inside: Inside) -> None:
    text = TRY + (
        "address = socket.gethostbyname('api.good.test')\n"
        "held = []\n"
        "for _ in range(900):\n"
        "    s = socket.socket(); s.settimeout(2)\n"
        "    try: s.connect((address, " + str(ECHO) + ")); held.append(s)\n"
        "    except OSError: s.close()\n"
        "for s in held: s.close()\n"
        "time.sleep(1)\n"
        "with socket.create_connection((address, " + str(ECHO) + "), 8) as s:\n"
        "    s.sendall(b'abc'); s.shutdown(1); print(json.dumps(s.recv(8).decode()))\n"
    )
    with fenced(API) as fence:
        assert inside.json(fence, text) == "3"
        reasons = {record.reason for record in fence.close()}
    assert "too_many_connections" in reasons


def test_every_fence_that_stood_is_gone(fenced: Fenced, inside: Inside) -> None:
    before = {network.id for network in inside.engine.networks()}
    with pytest.raises(ZeroDivisionError), fenced(API) as fence:
        _ = 1 / 0
    assert {network.id for network in inside.engine.networks()} == before
    assert fence.gateway_id not in {container.id for container, _ in inside.engine.containers()}
    assert fence.resolv_conf is not None
    assert not fence.resolv_conf.exists()
