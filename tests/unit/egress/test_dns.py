"""The gateway's DNS: nothing it is sent can make it fail, and only answers to our own questions count."""

from __future__ import annotations

import asyncio
import socket
import struct
from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wellhead.egress import dns, names
from wellhead.egress.audit import Audit
from wellhead.egress.names import Answering, Names
from wellhead.egress.policy import Policy, Rule

QUERY = dns.write_query(4660, "api.good.test", dns.A)


def name(text: str) -> bytes:
    return b"".join(bytes([len(part)]) + part.encode() for part in text.split(".")) + b"\0"


def record(owner: str, kind: int, data: bytes, ttl: int = 60) -> bytes:
    return name(owner) + struct.pack("!HHIH", kind, 1, ttl, len(data)) + data


def reply(*records: bytes, flags: int = 0x8180, number: int = 4660, question: bytes = QUERY[12:]) -> bytes:
    return struct.pack("!HHHHHH", number, flags, 1, len(records), 0, 0) + question + b"".join(records)


ONE = IPv4Address("192.0.2.1").packed
TWO = IPv4Address("192.0.2.2").packed


def test_a_query_comes_back_from_its_bytes() -> None:
    query = dns.read_query(QUERY)
    assert (query.id, query.name, query.type, query.is_plain) == (4660, "api.good.test", dns.A, True)


def test_an_answer_repeats_the_question_and_holds_the_address() -> None:
    answer = dns.write_answer(dns.read_query(QUERY), dns.NOERROR, IPv4Address("198.18.7.129"))
    read = dns.read_reply(answer, QUERY)
    assert (read.code, read.addresses, read.ttl) == (0, (ip_address("198.18.7.129"),), 30)


def test_addresses_are_those_at_the_end_of_the_alias_chain() -> None:
    read = dns.read_reply(
        reply(
            record("api.good.test", dns.CNAME, name("one.test")),
            record("one.test", dns.CNAME, name("two.test")),
            record("two.test", dns.A, ONE, ttl=7),
            record("three.test", dns.A, TWO),
        ),
        QUERY,
    )
    assert read.addresses == (ip_address("192.0.2.1"),)
    assert read.strays == (ip_address("192.0.2.2"),)
    assert (read.aliases, read.ttl) == (2, 7)


def test_aliases_that_go_in_a_circle_lead_to_no_address() -> None:
    circle = reply(
        record("api.good.test", dns.CNAME, name("one.test")), record("one.test", dns.CNAME, name("api.good.test"))
    )
    assert dns.read_reply(circle, QUERY).addresses == ()


@pytest.mark.parametrize(
    "packet",
    [
        reply(record("api.good.test", dns.A, ONE), number=1),
        reply(record("api.good.test", dns.A, ONE), question=dns.write_query(0, "evil.test", dns.A)[12:]),
        reply(record("api.good.test", dns.A, ONE), question=dns.write_query(0, "api.good.test", dns.AAAA)[12:]),
        QUERY,
        reply(record("api.good.test", dns.A, ONE[:3])),
        reply(record("api.good.test", dns.A, ONE))[:-1],
        reply()[:8],
        reply(b"\xc0\x0c" + b"\0" * 3),
        b"",
    ],
    ids=["other id", "other name", "other type", "a query", "short address", "cut", "header", "record", "empty"],
)
def test_what_is_no_answer_to_our_question_is_refused(packet: bytes) -> None:
    with pytest.raises(dns.MalformedError):
        dns.read_reply(packet, QUERY)


def test_a_pointer_to_itself_ends() -> None:
    with pytest.raises(dns.MalformedError, match="leads nowhere"):
        dns.read_query(struct.pack("!HHHHHH", 1, 0x100, 1, 0, 0, 0) + b"\xc0\x0c\0\1\0\1")


def test_a_dot_inside_a_label_never_makes_a_listed_name() -> None:
    packet = struct.pack("!HHHHHH", 1, 0x100, 1, 0, 0, 0) + b"\x08api.good\x04test\0\0\1\0\1"
    assert dns.read_query(packet).name == "api\\.good.test"


def answering() -> tuple[Answering, list[bytes]]:
    lines: list[bytes] = []
    policy = Policy(rules=(Rule("api.good.test", 443), Rule("waits.good.test", 443, approved=False)))
    served = Names(policy, IPv4Network("198.18.7.128/25"))
    return Answering(served, Audit(1 << 20, lines.append), lambda: None), lines


@pytest.mark.parametrize(
    ("asked", "kind", "code", "count"),
    [
        ("api.good.test", dns.A, dns.NOERROR, 1),
        ("API.GOOD.TEST", dns.A, dns.NOERROR, 1),
        ("api.good.test", dns.AAAA, dns.NOERROR, 0),
        ("api.good.test", 16, dns.NOERROR, 0),
        ("waits.good.test", dns.A, dns.NXDOMAIN, 0),
        ("evil.test", dns.A, dns.NXDOMAIN, 0),
        ("evil.test", 16, dns.NXDOMAIN, 0),
    ],
)
def test_only_open_names_are_answered(asked: str, kind: int, code: int, count: int) -> None:
    answer = answering()[0].answer(dns.write_query(9, asked, kind))
    assert answer is not None
    number, flags, _, answers, *_ = struct.unpack_from("!HHHHHH", answer)
    assert (number, flags & 15, answers) == (9, code, count)


def test_a_response_is_never_answered() -> None:
    assert answering()[0].answer(reply()) is None


def broken(_: bytes) -> None:
    raise BrokenPipeError


def unrecorded() -> tuple[Answering, list[bool]]:
    """A server whose record can no longer be written."""
    closed: list[bool] = []
    served = Names(Policy(rules=(Rule("api.good.test", 443),)), IPv4Network("198.18.7.128/25"))
    return Answering(served, Audit(1 << 20, broken), lambda: closed.append(True)), closed


EVIL = dns.write_query(9, "evil.test", dns.A)


def test_a_name_whose_line_cannot_be_written_closes_the_gateway() -> None:
    server, closed = unrecorded()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as own:
        own.bind(("127.0.0.1", 0))
        own.sendto(EVIL, own.getsockname())
        server.receive(own)
    assert closed == [True]


class Writer:
    """A TCP client that has an end, and reads nothing."""

    def __init__(self) -> None:
        self.transport = self
        self.is_aborted = False

    def write(self, data: bytes) -> None:
        pass

    async def drain(self) -> None:
        await asyncio.Event().wait()

    def abort(self) -> None:
        self.is_aborted = True


@pytest.mark.usefixtures("short_patience")
def test_a_name_asked_for_over_tcp_closes_the_gateway_too() -> None:
    server, closed = unrecorded()
    writer = serve_one(server, EVIL)
    assert (closed, writer.is_aborted) == ([True], True)


def serve_one(server: Answering, packet: bytes) -> Writer:
    """Serve a client that sends one query and never reads."""
    writer: Any = Writer()

    async def main() -> None:
        reader = asyncio.StreamReader()
        reader.feed_data(len(packet).to_bytes(2, "big") + packet)
        reader.feed_eof()
        await asyncio.wait_for(server.serve(reader, writer), 10)

    asyncio.run(main())
    assert isinstance(writer, Writer)
    return writer


@pytest.fixture
def short_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that takes no answer is waited for, but not for seconds."""
    monkeypatch.setattr(names, "IDLE_S", 0.05)


@pytest.mark.usefixtures("short_patience")
def test_a_client_that_takes_no_answer_is_ended() -> None:
    assert serve_one(answering()[0], QUERY).is_aborted


def test_more_clients_than_a_resolver_needs_are_not_answered() -> None:
    packet = len(QUERY).to_bytes(2, "big") + QUERY

    async def ask(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, bytes]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(packet)
        try:
            return reader, writer, await reader.read(2)
        except ConnectionError:
            return reader, writer, b""

    async def main() -> tuple[list[bytes], bytes, bytes]:
        server = await asyncio.start_server(answering()[0].serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        held = [await ask(port) for _ in range(names.MAX_TCP_CLIENTS)]
        beyond = await ask(port)
        # One that leaves makes room.
        held[0][1].close()
        await held[0][1].wait_closed()
        while not (again := await ask(port))[2]:
            again[1].close()
        for _, writer, _ in (*held, beyond, again):
            writer.close()
        server.close()
        return [said for _, _, said in held], beyond[2], again[2]

    held, beyond, again = asyncio.run(asyncio.wait_for(main(), 20))
    assert all(len(said) == 2 for said in held)
    assert (beyond, len(again)) == (b"", 2)


@given(packet=st.binary(max_size=300))
def test_no_packet_makes_the_server_fail(packet: bytes) -> None:
    server, lines = answering()
    answer = server.answer(packet)
    assert answer is None or answer[:2] == packet[:2]
    assert len(lines) <= 1


@given(tail=st.binary(max_size=200), flags=st.integers(0, 0xFFFF), count=st.integers(0, 50))
def test_no_reply_makes_the_reader_fail_otherwise_than_by_refusing(tail: bytes, flags: int, count: int) -> None:
    packet = struct.pack("!HHHHHH", 4660, flags, 1, count, 0, 0) + QUERY[12:] + tail
    try:
        read = dns.read_reply(packet, QUERY)
    except dns.MalformedError:
        return
    assert all(isinstance(found, IPv4Address | IPv6Address) for found in (*read.addresses, *read.strays))
