"""The gateway's parts on loopback: the record, the names, the resolver and the splice."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import Callable, Coroutine
from ipaddress import IPv4Address, IPv4Network, ip_address
from typing import Any

import pytest

from wellhead.egress import audit, gateway, kernel, splice
from wellhead.egress.audit import Audit, AuditFullError
from wellhead.egress.kernel import Configuration
from wellhead.egress.names import Names
from wellhead.egress.policy import Grant, Policy, Rule
from wellhead.egress.resolver import Resolver, UnresolvableError

POOL = IPv4Network("198.18.7.128/25")
CONFIGURATION = Configuration(
    slot=IPv4Network("198.18.7.0/24"),
    address=IPv4Address("198.18.7.2"),
    pool=POOL,
    resolver=IPv4Address("10.0.0.53"),
    audit_max_bytes=1000,
    policy=Policy((Rule("a.test", 443, tls=True),), {}, (Grant(IPv4Network("10.1.2.3/32"), (5432, 5433)),)),
)


def run(main: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(main, 20))


def test_a_configuration_comes_back_from_its_document() -> None:
    assert Configuration.from_json(CONFIGURATION.to_json()) == CONFIGURATION


def test_the_rules_open_grants_for_their_ports_and_the_resolver_alone() -> None:
    rules = kernel.rules(CONFIGURATION, "eth0")
    assert "ip daddr 10.1.2.3/32 tcp dport { 5432, 5433 } accept" in rules
    assert "ip daddr 10.0.0.53 meta l4proto { tcp, udp } th dport 53 accept" in rules
    assert rules.count("policy drop") == 3


class TestAudit:
    """The record and its bound."""

    def test_a_line_that_no_longer_fits_is_refused_and_so_is_every_later_one(self) -> None:
        lines: list[bytes] = []
        record = Audit(300, lines.append)
        record.connection(host="a.test")
        with pytest.raises(AuditFullError):
            record.connection(host="b" * 300)
        with pytest.raises(AuditFullError):
            record.connection(host="c.test")
        assert [json.loads(line)["host"] for line in lines] == ["a.test"]
        assert record.is_full

    def test_what_has_room_reserved_is_recorded_when_all_else_is_full(self) -> None:
        lines: list[bytes] = []
        record = Audit(audit.MAX_LINE_BYTES + 100, lines.append)
        record.reserve()
        with pytest.raises(AuditFullError):
            record.denied_name("evil.test", "unlisted_host")
        with pytest.raises(AuditFullError):
            record.reserve()
        record.connection(host="a.test")
        with pytest.raises(AuditFullError):
            record.connection(host="b.test")
        assert [json.loads(line)["host"] for line in lines] == ["a.test"]

    def test_a_connection_takes_no_more_of_the_bound_than_its_line(self) -> None:
        lines: list[bytes] = []
        record = Audit(2 * audit.MAX_LINE_BYTES, lines.append)
        for _ in range(8):
            record.reserve()
            record.connection(host="a.test")
        assert len(lines) == 8

    def test_the_longest_line_of_a_connection_fits_what_is_reserved(self) -> None:
        lines: list[bytes] = []
        Audit(1 << 20, lines.append).connection(
            host="a" * 253,
            port=65535,
            address="ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff%interface-name",
            verdict="allow",
            reason="too_many_connections",
            bytes_out=1 << 64,
            bytes_in=1 << 64,
            duration_ms=round(1e12 / 7, 3),
        )
        assert len(lines[0]) < audit.MAX_LINE_BYTES

    def test_a_line_that_cannot_be_written_is_as_one_that_does_not_fit(self) -> None:
        def broken(_: bytes) -> None:
            raise BrokenPipeError

        record = Audit(1 << 20, broken)
        with pytest.raises(AuditFullError):
            record.denied_name("evil.test", "unlisted_host")
        with pytest.raises(AuditFullError):
            record.reserve()

    def test_a_denied_name_is_written_once(self) -> None:
        lines: list[bytes] = []
        record = Audit(1 << 20, lines.append)
        for _ in range(3):
            record.denied_name("evil.test", "unlisted_host")
        assert len(lines) == 1

    def test_beyond_their_bound_denied_names_are_counted(self) -> None:
        lines: list[bytes] = []
        record = Audit(1 << 20, lines.append)
        for number in range(audit.MAX_DENIED_NAMES + 7):
            record.denied_name(f"n{number}.test", "unlisted_host")
        assert (len(lines), record.unrecorded_names) == (audit.MAX_DENIED_NAMES, 7)


class TestNames:
    """Which address stands for which name."""

    def test_each_name_has_its_own_address_of_the_pool_for_good(self) -> None:
        names = Names(Policy((Rule("a.test", 1), Rule("b.test", 1), Rule("b.test", 2))), POOL)
        first, second = names.look_up("a.test")[0], names.look_up("B.test.")[0]
        assert first is not None
        assert second is not None
        assert first != second
        assert {first, second} <= set(POOL)
        assert POOL[-1] not in {first, second}
        assert (names.by_address[first], names.by_address[second]) == ("a.test", "b.test")
        assert names.look_up("a.test")[0] == first

    def test_children_of_wildcards_end_before_the_pool_does(self) -> None:
        rules = (Rule("*.w.test", 1), *(Rule(f"h{number}.test", 1) for number in range(110)))
        names = Names(Policy(rules), POOL)
        given = [names.look_up(f"c{number}.w.test")[0] for number in range(100)]
        assert len([address for address in given if address is not None]) == POOL.num_addresses - 2 - 110
        assert names.look_up("c99.w.test") == (None, "too_many_names")
        assert all(names.look_up(f"h{number}.test")[0] for number in range(110))


class Server(asyncio.DatagramProtocol):
    """A resolver that says what it is told to."""

    def __init__(self, answer: Callable[[bytes], bytes | None]) -> None:
        self.asked: list[int] = []
        self._answer = answer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.asked.append(int.from_bytes(data[-4:-2], "big"))
        reply = self._answer(data)
        if reply is not None:
            self._transport.sendto(reply, addr)


def says(four: str | None, ttl: int = 60, code: int = 0, six: bool = True) -> Callable[[bytes], bytes | None]:
    def answer(query: bytes) -> bytes | None:
        kind = int.from_bytes(query[-4:-2], "big")
        if kind == 28 and not six:
            return query[:2] + struct.pack("!HHHHH", 0x8182, 1, 0, 0, 0) + query[12:]
        found = [four] if four and kind == 1 else []
        records = b"".join(b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, ttl, 4) + ip_address(text).packed for text in found)
        return query[:2] + struct.pack("!HHHHH", 0x8180 | code, 1, len(found), 0, 0) + query[12:] + records

    return answer


async def resolving(
    answer: Callable[[bytes], bytes | None], use: Callable[[Resolver], Coroutine[Any, Any, Any]]
) -> tuple[Any, Server]:
    loop = asyncio.get_running_loop()
    server = Server(answer)
    transport, _ = await loop.create_datagram_endpoint(lambda: server, ("127.0.0.1", 0))
    try:
        port = transport.get_extra_info("sockname")[1]
        return await use(Resolver(IPv4Address("127.0.0.1"), {"pg.demo": ip_address("10.9.9.9")}, port)), server
    finally:
        transport.close()


class TestResolver:
    """Asking the operator's resolver."""

    def test_a_name_is_asked_for_once_by_many(self) -> None:
        async def use(resolver: Resolver) -> Any:
            return await asyncio.gather(*(resolver.resolve("a.test") for _ in range(20)))

        found, server = run(resolving(says("192.0.2.9"), use))
        assert set(found) == {(ip_address("192.0.2.9"),)}
        assert sorted(server.asked) == [1, 28]

    def test_an_answer_without_a_lifetime_is_not_kept(self) -> None:
        async def use(resolver: Resolver) -> Any:
            return [await resolver.resolve("a.test"), await resolver.resolve("a.test")]

        _, server = run(resolving(says("192.0.2.9", ttl=0), use))
        assert sorted(server.asked) == [1, 1, 28, 28]

    def test_a_mapped_name_is_never_asked_for(self) -> None:
        found, server = run(resolving(says("192.0.2.9"), lambda resolver: resolver.resolve("pg.demo")))
        assert found == (ip_address("10.9.9.9"),)
        assert server.asked == []

    def test_a_resolver_that_fails_on_ipv6_alone_is_enough(self) -> None:
        found, _ = run(resolving(says("192.0.2.9", six=False), lambda resolver: resolver.resolve("a.test")))
        assert found == (ip_address("192.0.2.9"),)

    @pytest.mark.parametrize(("answer", "reason"), [(says(None), "no_address"), (says(None, code=3), "no_address")])
    def test_a_name_without_an_address_is_told(self, answer: Callable[[bytes], bytes], reason: str) -> None:
        with pytest.raises(UnresolvableError, match=reason):
            run(resolving(answer, lambda resolver: resolver.resolve("a.test")))

    def test_a_resolver_that_keeps_silent_is_given_up(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("wellhead.egress.resolver.TRY_S", 0.02)
        with pytest.raises(UnresolvableError, match="resolver_failed"):
            run(resolving(lambda query: None, lambda resolver: resolver.resolve("a.test")))


def pair() -> tuple[socket.socket, socket.socket]:
    """Two ends of one TCP connection; the second does not block."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        far, _ = listener.accept()
    near.settimeout(10)
    far.setblocking(False)
    return near, far


def test_the_more_pipes_there_are_the_less_each_may_hold_back() -> None:
    buffer = splice.Buffer()
    held = 0
    for buffer.pipes in range(1, 2 * gateway.MAX_CONNECTIONS + 1):
        held += len(buffer.room())
    assert len(buffer.room()) >= 16384
    assert held < 80 << 20


class TestSplice:
    """Bytes and ends, both ways."""

    def test_bytes_and_ends_pass_both_ways_and_are_counted(self) -> None:
        client, inner = pair()
        server, outer = pair()

        def talk() -> bytes:
            client.sendall(b"ask")
            client.shutdown(socket.SHUT_WR)
            with server.makefile("rb") as asked:
                server.sendall(asked.read())
            server.close()
            return client.recv(100) + client.recv(100)

        async def main() -> tuple[bytes, tuple[int, int, str]]:
            talking = asyncio.get_running_loop().run_in_executor(None, talk)
            ended = await splice.splice(inner, outer, b"hello, ", splice.Buffer())
            return await talking, ended

        with client, inner, server, outer:
            assert run(main()) == (b"hello, ask", (10, 10, "closed"))

    def test_a_slow_reader_slows_the_sender_and_loses_nothing(self) -> None:
        client, inner = pair()
        server, outer = pair()
        data = bytes(range(256)) * 80_000

        def send() -> None:
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)

        def receive() -> bytes:
            got = bytearray()
            while piece := server.recv(7001):
                got += piece
            server.close()
            return bytes(got)

        async def main() -> Any:
            loop = asyncio.get_running_loop()
            sending, receiving = loop.run_in_executor(None, send), loop.run_in_executor(None, receive)
            ended = await splice.splice(inner, outer, b"", splice.Buffer())
            await sending
            return await receiving, ended

        with client, inner, server, outer:
            got, ended = run(main())
        assert got == data
        assert ended == (len(data), 0, "closed")

    @pytest.mark.parametrize("who", ["client", "server"])
    def test_a_reset_of_either_side_resets_the_other(self, who: str) -> None:
        client, inner = pair()
        server, outer = pair()
        breaking, waiting = {"client": (client, server), "server": (server, client)}[who]

        async def main() -> Any:
            splicing = asyncio.ensure_future(splice.splice(inner, outer, b"", splice.Buffer()))
            await asyncio.sleep(0)
            splice.reset(breaking)
            breaking.close()
            return await splicing

        with client, server:
            with inner, outer:
                assert run(main()) == (0, 0, "reset")
            with pytest.raises(ConnectionResetError):
                waiting.recv(1)

    def test_a_cancelled_splice_says_what_had_passed(self) -> None:
        client, inner = pair()
        server, outer = pair()

        async def main() -> Any:
            splicing = asyncio.ensure_future(splice.splice(inner, outer, b"abc", splice.Buffer()))
            loop = asyncio.get_running_loop()
            assert await loop.run_in_executor(None, server.recv, 3) == b"abc"
            splicing.cancel()
            return await splicing

        with client, inner, server, outer:
            assert run(main()) == (3, 0, "gateway_closed")


class TestGateway:
    """One connection after the other, as it is taken."""

    def test_what_an_open_connection_carried_is_recorded_however_many_are_denied_meanwhile(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        lines: list[bytes] = []
        closed: list[bool] = []
        rules = (Rule("a.test", 5432, private=True),)
        grants = (Grant(IPv4Network("10.9.9.9/32"), (5432,)),)
        policy = Policy(rules, {"a.test": IPv4Address("10.9.9.9")}, grants)
        names = Names(policy, POOL)
        served = gateway.Gateway(
            policy,
            names,
            Resolver(IPv4Address("127.0.0.1"), dict(policy.hosts)),
            Audit(5000, lines.append),
            lambda: closed.append(True),
        )
        place = names.look_up("a.test")[0]
        client, inner = pair()
        server, outer = pair()

        async def connect(addresses: list[IPv4Address], port: int) -> tuple[socket.socket, IPv4Address]:
            return outer, addresses[0]

        monkeypatch.setattr(served, "_connect", connect)

        async def main() -> None:
            loop = asyncio.get_running_loop()
            allowed = asyncio.ensure_future(served.handle(inner, place, 5432))
            await loop.run_in_executor(None, client.sendall, b"x" * 1000)
            await loop.run_in_executor(None, server.recv, 1, socket.MSG_PEEK)
            for _ in range(40):
                near, far = pair()
                with near:
                    await served.handle(far, place, 5433)
            allowed.cancel()
            await allowed

        with client, server, outer:
            run(main())
        told = [json.loads(line) for line in lines]
        assert [(line["verdict"], line["bytes_out"]) for line in told if line["verdict"] == "allow"] == [
            ("allow", 1000)
        ]
        assert 0 < len(told) < 40
        assert sum(map(len, lines)) <= 5000
        assert closed

    def test_a_connection_that_cannot_be_recorded_is_reset_and_the_gateway_closes(self) -> None:
        closed: list[bool] = []
        policy = Policy((Rule("a.test", 443),))
        names = Names(policy, POOL)
        served = gateway.Gateway(
            policy, names, Resolver(IPv4Address("127.0.0.1"), {}), Audit(10, print), lambda: closed.append(True)
        )
        near, far = pair()
        with near:
            run(served.handle(far, names.look_up("a.test")[0], 443))
            with pytest.raises(ConnectionResetError):
                near.recv(1)
        assert closed == [True]

    @pytest.mark.parametrize(
        ("said", "is_reset", "reason"),
        [
            (b"", False, "client_left"),
            (b"", True, "client_left"),
            (b"\x16\3\1", False, "client_left"),
            (b"GET /", False, "not_tls"),
        ],
    )
    def test_a_client_that_leaves_before_its_hello_is_told_from_one_that_speaks_no_tls(
        self, said: bytes, is_reset: bool, reason: str
    ) -> None:
        near, far = pair()
        near.sendall(said)
        if is_reset:
            splice.reset(near)
        near.close()
        with far, pytest.raises(gateway.DeniedError, match=reason):
            run(gateway.read_hello(far, "a.test"))

    def test_a_client_that_says_nothing_speaks_no_tls(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(gateway, "HELLO_S", 0.01)
        near, far = pair()
        with near, far, pytest.raises(gateway.DeniedError, match="not_tls"):
            run(gateway.read_hello(far, "a.test"))


def test_a_gateway_that_fails_while_it_takes_a_connection_closes(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[bytes] = []
    monkeypatch.setattr(gateway, "_to_stdout", lines.append)
    asking, deaf = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) for _ in range(2))
    with asking, deaf, socket.create_server(("127.0.0.1", 0)) as names:
        asking.bind(("127.0.0.1", 0))
        deaf.bind(("127.0.0.1", 0))
        # There is something to take, and the kernel refuses to accept it.
        asking.sendto(b"x", deaf.getsockname())
        run(gateway.serve(CONFIGURATION, asking, names, deaf))
    assert [json.loads(line)["kind"] for line in lines] == ["ready", "end"]
