"""What a program behind the fence reaches, and what is recorded of it."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from ipaddress import ip_network

import pytest

from tests.containers import created, program
from tests.integration.egress.conftest import ECHO, HOLDS, OUTSIDE, RESETS, SOURCE, TLS, Fenced, Inside, World
from tests.parts import wait_until
from wellhead.egress import audit, kernel, names
from wellhead.egress.network import AuditRecord, Fence
from wellhead.egress.policy import Grant, Rule
from wellhead.engine.container import Seal
from wellhead.errors import ConfigurationError

pytestmark = [pytest.mark.real, pytest.mark.engines]

TRY = """
import errno, json, socket, ssl, sys, time

def dial(host, port, timeout=8):
    return socket.create_connection((host, port), timeout)

def echo(host, port, count):
    with dial(host, port) as s:
        for _ in range(count // 65536): s.sendall(bytes(65536))
        s.sendall(bytes(count % 65536))
        s.shutdown(socket.SHUT_WR)
        return int(s.recv(64) or -1)

def tried(host, port, data=b"x"):
    # A TCP handshake with the gateway always succeeds; what was judged shows at the first byte.
    try:
        with dial(host, port) as s:
            s.sendall(data)
            return s.recv(64).decode() or "closed"
    except socket.gaierror as exc:
        return "no such name"
    except OSError as exc:
        return errno.errorcode.get(exc.errno, type(exc).__name__)
"""


def connects(fence: Fence) -> list[AuditRecord]:
    return [record for record in fence.close() if record.kind == "connect"]


def test_a_listed_host_is_reached_and_every_byte_is_recorded(fenced: Fenced, inside: Inside) -> None:
    with fenced(Rule("api.good.test", ECHO, private=True)) as fence:
        assert inside.json(fence, TRY + f"print(echo('api.good.test', {ECHO}, 1_000_003))") == 1_000_003
        [record] = connects(fence)
    assert (record.host, record.port, record.address) == ("api.good.test", ECHO, OUTSIDE)
    assert (record.allowed, record.reason) == (True, "closed")
    assert (record.bytes_out, record.bytes_in) == (1_000_003, 7)
    assert fence.is_complete
    assert fence.problem() is None


def test_a_server_that_speaks_first_and_much_is_carried_whole(fenced: Fenced, inside: Inside) -> None:
    text = (
        TRY
        + f"""
with dial("api.good.test", {SOURCE}) as s:
    hello = s.recv(11)
    time.sleep(0.3)
    s.sendall(b"67108864\\n")
    time.sleep(0.3)
    total = 0
    while piece := s.recv(1 << 20): total += len(piece)
print(json.dumps([hello.decode(), total]))
"""
    )
    with fenced(Rule("api.good.test", SOURCE, private=True)) as fence:
        assert inside.json(fence, text) == ["220 ready\r\n", 67108864]
        [record] = connects(fence)
    assert (record.bytes_in, record.bytes_out) == (67108864 + 11, 9)


def test_many_connections_at_once_are_each_recorded_once(fenced: Fenced, inside: Inside) -> None:
    text = (
        TRY
        + f"""
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor(64) as pool:
    print(json.dumps(sorted(pool.map(lambda n: echo("api.good.test", {ECHO}, 1000 + n), range(64)))))
"""
    )
    with fenced(Rule("api.good.test", ECHO, private=True)) as fence:
        assert inside.json(fence, text) == list(range(1000, 1064))
        records = connects(fence)
    assert sorted(record.bytes_out for record in records) == list(range(1000, 1064))


def test_a_reset_is_passed_on_and_recorded(fenced: Fenced, inside: Inside) -> None:
    with fenced(Rule("api.good.test", RESETS, private=True)) as fence:
        assert inside.run(fence, TRY + f"print(tried('api.good.test', {RESETS}))") == "ECONNRESET"
        [record] = connects(fence)
    assert (record.allowed, record.reason) == (True, "reset")


def test_a_client_that_vanishes_is_passed_on_and_recorded(fenced: Fenced, inside: Inside, world: World) -> None:
    text = (
        TRY
        + f"""
import os, struct
s = dial("api.good.test", {HOLDS}); s.recv(4)
s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)); s.close()
time.sleep(0.5)
"""
    )
    with fenced(Rule("api.good.test", HOLDS, private=True)) as fence:
        inside.run(fence, text)
        wait_until(lambda: bool(fence.audit()), what="the connection is recorded", within_s=10)
        [record] = connects(fence)
    assert record.reason == "reset"


def test_an_open_connection_ends_with_the_fence_and_is_recorded(fenced: Fenced, inside: Inside) -> None:
    text = (
        TRY
        + f"""
s = dial("api.good.test", {HOLDS}); print(s.recv(4).decode(), flush=True); s.recv(4)
"""
    )
    with fenced(Rule("api.good.test", HOLDS, private=True)) as fence:
        spec = replace(program(inside.image_id, text), network=fence.attachment)
        with created(inside.engine, spec) as container:
            container.start()
            wait_until(lambda: "held" in container.logs(), what="the connection is open", within_s=20)
            [record] = connects(fence)
    assert (record.allowed, record.reason, record.bytes_in) == (True, "gateway_closed", 4)


DENIED = {
    "metadata.good.test": "metadata",
    "loopback.good.test": "loopback",
    "private.good.test": "private",
    "neighbour.good.test": "private",
    "slot.good.test": "benchmarking",
    "mixed.good.test": "metadata",
    "six.good.test": "metadata",
    "cname-private.good.test": "private",
    "endless.good.test": "too_many_aliases",
    "empty.good.test": "no_address",
    "gone.good.test": "no_address",
}


def test_every_address_a_name_resolves_to_is_judged(fenced: Fenced, inside: Inside) -> None:
    rules = [Rule(name, ECHO, private=True) for name in DENIED]
    text = TRY + f"print(json.dumps({{name: tried(name, {ECHO}) for name in {list(DENIED)}}}))"
    with fenced(*rules) as fence:
        assert inside.json(fence, text) == dict.fromkeys(DENIED, "ECONNRESET")
        records = connects(fence)
    assert {record.host: record.reason for record in records} == DENIED
    assert not any(record.allowed for record in records)


def test_aliases_are_followed_to_an_allowed_address(fenced: Fenced, inside: Inside) -> None:
    with fenced(Rule("alias.good.test", ECHO, private=True)) as fence:
        assert inside.json(fence, TRY + f"print(echo('alias.good.test', {ECHO}, 10))") == 10


def test_a_name_that_changes_to_a_denied_address_is_denied_from_then_on(fenced: Fenced, inside: Inside) -> None:
    text = TRY + f"print(json.dumps([echo('rebinds.good.test', {ECHO}, 5), tried('rebinds.good.test', {ECHO})]))"
    with fenced(Rule("rebinds.good.test", ECHO, private=True)) as fence:
        assert inside.json(fence, text) == [5, "ECONNRESET"]
        assert [record.reason for record in connects(fence)] == ["closed", "loopback"]


def test_a_private_address_needs_a_grant_and_a_rule_that_may_use_it(fenced: Fenced, inside: Inside) -> None:
    with fenced(Rule("api.good.test", ECHO, private=False)) as fence:
        assert inside.run(fence, TRY + f"print(tried('api.good.test', {ECHO}))") == "ECONNRESET"
        assert [record.reason for record in connects(fence)] == ["private"]


def test_a_name_the_operator_mapped_is_not_asked_of_the_resolver(fenced: Fenced, inside: Inside, world: World) -> None:
    with fenced(Rule("pg.demo", ECHO, private=True), pg_demo=OUTSIDE) as fence:
        assert inside.json(fence, TRY + f"print(echo('pg.demo', {ECHO}, 3))") == 3
    assert "pg.demo" not in {query["name"] for query in world.seen("query")}


def test_another_port_of_a_listed_host_is_reset_and_recorded(fenced: Fenced, inside: Inside) -> None:
    with fenced(Rule("api.good.test", ECHO, private=True)) as fence:
        assert inside.run(fence, TRY + f"print(tried('api.good.test', {HOLDS}))") == "ECONNRESET"
        [record] = connects(fence)
    assert (record.port, record.allowed, record.reason) == (HOLDS, False, "unlisted_port")


def test_a_listed_host_where_nobody_listens_is_recorded_as_unreachable(fenced: Fenced, inside: Inside) -> None:
    grant = Grant(ip_network(f"{OUTSIDE}/32"), (47555,))
    with fenced(Rule("api.good.test", 47555, private=True), grants=(grant,)) as fence:
        assert inside.run(fence, TRY + "print(tried('api.good.test', 47555))") == "ECONNRESET"
        [record] = connects(fence)
    assert (record.allowed, record.reason, record.address) == (True, "unreachable", OUTSIDE)


HELLO = """
def hello(host, port, asked):
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with dial(host, port) as raw, context.wrap_socket(raw, server_hostname=asked) as s:
            return s.recv(64).decode()
    except OSError as exc:
        return errno.errorcode.get(exc.errno, type(exc).__name__)
"""


def test_tls_must_ask_for_the_host_it_was_allowed(fenced: Fenced, inside: Inside) -> None:
    text = (
        TRY
        + HELLO
        + f"""
print(json.dumps([
    hello("tls.good.test", {TLS}, "tls.good.test"),
    hello("tls.good.test", {TLS}, "TLS.Good.Test"),
    hello("a.wild.test", {TLS}, "a.wild.test"),
    hello("tls.good.test", {TLS}, "other.test"),
    hello("tls.good.test", {TLS}, None),
    tried("tls.good.test", {TLS}, b"GET / HTTP/1.1\\r\\n\\r\\n"),
    hello("a.wild.test", {TLS}, "b.wild.test"),
]))
"""
    )
    with fenced(
        Rule("tls.good.test", TLS, tls=True, private=True), Rule("*.wild.test", TLS, tls=True, private=True)
    ) as fence:
        told = inside.json(fence, text)
        records = connects(fence)
    assert told[:3] == ["hello over tls"] * 3
    assert set(told[3:]) == {"ECONNRESET"}
    assert [record.reason for record in records[3:]] == ["sni_mismatch", "no_sni", "not_tls", "sni_mismatch"]
    assert [record.allowed for record in records] == [True] * 3 + [False] * 4


def test_children_of_a_wildcard_are_bounded_and_never_cost_an_exact_name(fenced: Fenced, inside: Inside) -> None:
    text = (
        TRY
        + f"""
def known(name):
    try: return bool(socket.gethostbyname(name))
    except socket.gaierror: return False
flood = sum(known(f"c{{n}}.wild.test") for n in range(200))
print(json.dumps([flood, echo("api.good.test", {ECHO}, 4)]))
"""
    )
    with fenced(Rule("*.wild.test", ECHO, private=True), Rule("api.good.test", ECHO, private=True)) as fence:
        assert inside.json(fence, text, within_s=100) == [names.MAX_CHILDREN, 4]
        fence.close()
        assert {record.reason for record in fence.audit() if record.kind == "name"} == {"too_many_names"}


def test_a_flood_of_made_up_names_is_bounded_in_the_record_and_counted(fenced: Fenced, inside: Inside) -> None:
    text = (
        TRY
        + """
for n in range(400):
    try: socket.gethostbyname(f"secret-{n}.evil.test")
    except socket.gaierror: pass
"""
    )
    with fenced(Rule("api.good.test", ECHO, private=True)) as fence:
        inside.run(fence, text)
        records = fence.close()
    assert len(records) == audit.MAX_DENIED_NAMES
    assert fence.unrecorded_names == 400 - audit.MAX_DENIED_NAMES


def test_a_full_record_closes_everything(fenced: Fenced, inside: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wellhead.egress.network.AUDIT_MAX_BYTES", 2000)
    text = (
        TRY
        + f"""
address = socket.gethostbyname("api.good.test")
for _ in range(30): tried(address, {HOLDS})
try: print(json.dumps(dial(address, {ECHO}, 2).recv(1).decode()))
except OSError: print(json.dumps("cut off"))
"""
    )
    with fenced(Rule("api.good.test", ECHO, private=True)) as fence:
        assert inside.json(fence, text.replace("timeout=8", "timeout=1")) == "cut off"
        wait_until(lambda: fence.problem() is not None, what="the gateway has closed", within_s=20)
        problem = fence.problem()
    assert problem is not None
    assert problem.code.name == "WH-EGR-006"
    assert 0 < len(fence.audit()) < 30


def test_a_gateway_that_is_killed_takes_every_connection_with_it(fenced: Fenced, inside: Inside) -> None:
    text = (
        TRY
        + f"""
s = dial("api.good.test", {HOLDS}); print(s.recv(4).decode(), flush=True)
s.settimeout(60)
while True:
    time.sleep(0.2)
    try: dial("api.good.test", {ECHO}, 2)
    except OSError: break
print("cut off", flush=True)
"""
    )
    with fenced(Rule("api.good.test", HOLDS, private=True), Rule("api.good.test", ECHO, private=True)) as fence:
        spec = replace(program(inside.image_id, text), network=fence.attachment)
        with created(inside.engine, spec) as container:
            container.start()
            wait_until(lambda: "held" in container.logs(), what="the connection is open", within_s=20)
            inside.engine.container(fence.gateway_id).kill()
            assert container.wait(60) == 0
            assert "cut off" in container.logs()
        wait_until(lambda: fence.problem() is not None, what="its end is noticed", within_s=20)
        problem = fence.problem()
    assert problem is not None
    assert problem.code.name == "WH-EGR-005"
    assert not fence.is_complete


def beside(world: World, fence: Fence, image_id: str, text: str) -> str:
    """Run a Python text as root in the gateway's own network and among its processes; return what it wrote.

    A container of its own: `docker exec` is not to be trusted where the Engine lives in a changed root.
    """
    gateway = f"container:{fence.gateway_id}"
    return subprocess.run(
        [
            *("docker", "--host", world.host, "run", "--rm", "--network", gateway, "--pid", gateway),
            *("--cap-drop", "ALL", "--cap-add", "NET_ADMIN", image_id, text),
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def test_below_the_judgement_the_kernel_refuses_private_addresses_too(
    fenced: Fenced, world: World, python_image: str
) -> None:
    """Root in the gateway itself, past all of our Python, is still held by the chain c_out."""
    text = (
        "import errno, json, socket\n"
        "def tried(host, port):\n"
        "    try: socket.create_connection((host, port), 4).close()\n"
        "    except OSError as exc: return errno.errorcode.get(exc.errno, 'timeout')\n"
        "    return 'connected'\n"
        f"print(json.dumps([tried('{OUTSIDE}', {ECHO}), tried('{OUTSIDE}', 47999), tried('169.254.169.254', 80),"
        " tried('10.0.0.1', 80)]))"
    )
    with fenced(Rule("api.good.test", ECHO, private=True)) as fence:
        told = json.loads(beside(world, fence, python_image, text))
    assert told == ["connected", "EHOSTUNREACH", "EHOSTUNREACH", "EHOSTUNREACH"]


def test_the_gateway_serves_without_any_privilege(fenced: Fenced, world: World, python_image: str) -> None:
    text = (
        "print(*(line.split()[1] for line in open('/proc/1/status') if line.startswith(('Uid', 'CapEff', 'CapPrm'))))"
    )
    with fenced(Rule("api.good.test", ECHO, private=True)) as fence:
        assert beside(world, fence, python_image, text).split() == [str(kernel.UID), "0" * 16, "0" * 16]


def test_the_gateway_shows_the_run_no_port_but_that_of_dns(fenced: Fenced, inside: Inside) -> None:
    text = TRY + (
        "own = open('/etc/resolv.conf').read().split()[1]\n"
        "def reached(port):\n"
        "    try: dial(own, port, 3).close()\n"
        "    except OSError as exc: return errno.errorcode.get(exc.errno, 'timeout')\n"
        "    return 'connected'\n"
        f"print(json.dumps([reached(port) for port in (53, {kernel.SPLICE_PORT}, 22)]))"
    )
    with fenced(Rule("api.good.test", ECHO, private=True)) as fence:
        assert inside.json(fence, text) == ["connected", "ECONNREFUSED", "ECONNREFUSED"]


def test_the_gateway_forwards_nothing_by_itself(fenced: Fenced, world: World, python_image: str) -> None:
    text = (
        "import subprocess\n"
        "print(open('/proc/sys/net/ipv4/ip_forward').read().strip())\n"
        "subprocess.run(['nft', 'list', 'chain', 'inet', 'wellhead', 'c_fwd'], check=True)\n"
    )
    with fenced(Rule("api.good.test", ECHO, private=True)) as fence:
        told = beside(world, fence, python_image, text)
    assert "hook forward priority filter; policy drop;" in told
    assert "0" in told.splitlines()


def test_a_gateway_that_cannot_set_its_rules_lets_no_run_begin(
    fenced: Fenced, inside: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wellhead.egress.network.Seal", lambda **fields: Seal(**{**fields, "capabilities": ()}))
    before = {network.id for network in inside.engine.networks()}
    with pytest.raises(ConfigurationError) as caught, fenced(Rule("api.good.test", ECHO)):
        pass
    assert caught.value.code.name == "WH-EGR-001"
    assert "Operation not permitted" in caught.value.message
    assert {network.id for network in inside.engine.networks()} == before
