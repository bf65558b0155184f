"""The program of the gateway container: the only way out of a run's network.

It runs in the gateway's image and imports the standard library and its neighbours alone. Root sets the network up, then
becomes a user without capabilities and serves until SIGTERM:

    DNS ─▶ names      a listed name gets an address of ours, an unlisted one NXDOMAIN; nothing is ever forwarded
    TCP ─▶ redirect ▶ name of the address ▶ rule ▶ SNI ▶ resolve ▶ judge every address ▶ connect ▶ splice

Standard output carries one JSON object a line: ``ready``, a ``connect`` for each connection when it is over, a ``name``
for each denied name, ``end``. Whatever fails closes: a line that cannot be written ends the gateway.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import secrets
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address
from typing import Any

from wellhead.egress import dns, tls
from wellhead.egress.policy import Policy, UnusableNameError, normalise

#: The user it becomes; neither root's nor the connector's.
UID = 65531
SPLICE_PORT = 15001
DNS_PORT = 53
SO_ORIGINAL_DST = 80

RESOLVE_TRY_S = 2.0
RESOLVE_TRIES = 3
#: A name is asked for again after this long at the latest; what it resolves to is judged at every use.
MAX_CACHE_S = 30
CONNECT_S = 10.0
HELLO_S = 10.0
#: Two sockets each, of the 1024 files a container may open.
MAX_CONNECTIONS = 400
#: Children of wildcards are chosen by the connector: each costs an address of the pool and a question to a server.
MAX_CHILDREN = 64
#: Denied names are recorded one by one up to here and counted beyond: names are free for who makes them up.
MAX_DENIED_NAMES = 256
#: Fewer, larger reads: at 64 KiB a splice takes twice the time of the processor.
READ_BYTES = 1 << 20
#: A stalled pipe keeps one read. With 800 pipes that came one after the other this sums to less than 80 MiB.
STALLED_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class Configuration:
    """What the host tells a gateway, in one read-only file.

    Attributes:
        slot: the run's network.
        address: the gateway's own in it.
        pool: the part of the slot that stands for names.
        resolver: the DNS server to ask.
        audit_max_bytes: a gateway that has written so much closes everything.
        policy: what the run may reach.
    """

    slot: IPv4Network
    address: IPv4Address
    pool: IPv4Network
    resolver: IPv4Address
    audit_max_bytes: int
    policy: Policy

    def to_json(self) -> str:
        """Return the document `from_json` reads."""
        return json.dumps(
            {
                "slot": str(self.slot),
                "address": str(self.address),
                "pool": str(self.pool),
                "resolver": str(self.resolver),
                "audit_max_bytes": self.audit_max_bytes,
                "policy": self.policy.to_json(),
            }
        )

    @classmethod
    def from_json(cls, text: str) -> Configuration:
        """Read what `to_json` wrote."""
        document = json.loads(text)
        return cls(
            slot=IPv4Network(document["slot"]),
            address=IPv4Address(document["address"]),
            pool=IPv4Network(document["pool"]),
            resolver=IPv4Address(document["resolver"]),
            audit_max_bytes=int(document["audit_max_bytes"]),
            policy=Policy.from_json(document["policy"]),
        )


# The kernel's part


def rules(configuration: Configuration, inside: str) -> str:
    """Return the nftables rules; ``inside`` is the interface on the run's network.

    The chain ``c_out`` is the second layer below the judgement in Python: no mistake above it reaches a private
    address that no grant names.
    """
    slot, pool, own = configuration.slot, configuration.pool, configuration.address
    grants = "\n".join(
        f"    ip daddr {grant.network} tcp dport {{ {', '.join(map(str, grant.ports))} }} accept"
        for grant in configuration.policy.grants
        if grant.network.version == 4 and grant.ports
    )
    return f"""
table inet wellhead {{
  chain c_pre {{
    type nat hook prerouting priority dstnat; policy accept;
    iifname "{inside}" ip saddr {slot} ip daddr {pool} meta l4proto tcp redirect to :{SPLICE_PORT}
  }}
  chain c_in {{
    type filter hook input priority filter; policy drop;
    iif lo accept
    ct state established,related accept
    iifname "{inside}" ip saddr {slot} ip daddr {own} udp dport {DNS_PORT} accept
    iifname "{inside}" ip saddr {slot} ip daddr {own} tcp dport {DNS_PORT} accept
    iifname "{inside}" ip saddr {slot} ct status dnat tcp dport {SPLICE_PORT} ct original ip daddr {pool} accept
    iifname "{inside}" meta l4proto tcp counter reject with tcp reset
    iifname "{inside}" meta l4proto udp counter reject
    counter drop
  }}
  chain c_fwd {{
    type filter hook forward priority filter; policy drop;
    counter drop
  }}
  chain c_out {{
    type filter hook output priority filter; policy drop;
    oif lo accept
    ct direction reply accept
    ct state established accept
    ip daddr {configuration.resolver} meta l4proto {{ tcp, udp }} th dport {DNS_PORT} accept
{grants}
    ip daddr {{ 0.0.0.0/8, 10.0.0.0/8, 100.64.0.0/10, 127.0.0.0/8, 168.63.129.16, 169.254.0.0/16, 172.16.0.0/12,
      192.0.0.0/24, 192.0.2.0/24, 192.88.99.0/24, 192.168.0.0/16, 198.18.0.0/15, 198.51.100.0/24, 203.0.113.0/24,
      224.0.0.0/3 }} counter reject with icmp admin-prohibited
    meta nfproto ipv4 meta l4proto tcp accept
    counter drop
  }}
}}
"""


def set_up(configuration: Configuration) -> None:
    """Take the pool's addresses, load the rules and give up every privilege.

    Raises:
        OSError, CalledProcessError: the kernel refused; the gateway must not start.
    """
    inside = _interface_of(configuration.address)
    # AnyIP: the kernel answers for the whole pool without an address on any interface.
    subprocess.run(["ip", "route", "add", "local", str(configuration.pool), "dev", "lo"], check=True)
    subprocess.run(["nft", "-f", "-"], input=rules(configuration, inside).encode(), check=True)


def drop_privileges() -> None:
    """Become a user that owns nothing; root's capabilities go with it.

    Raises:
        PermissionError: some capability is left.
    """
    os.setgroups([])
    os.setresgid(UID, UID, UID)
    os.setresuid(UID, UID, UID)
    with open("/proc/self/status") as status:
        left = {line.split()[1] for line in status if line.startswith(("CapEff:", "CapPrm:"))}
    if left != {"0" * 16}:
        raise PermissionError(f"capabilities are left: {', '.join(sorted(left))}")


def _interface_of(address: IPv4Address) -> str:
    get_address = 0x8915  # SIOCGIFADDR
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        for _, name in socket.if_nameindex():
            try:
                answer = fcntl.ioctl(asking, get_address, struct.pack("256s", name.encode()))
            except OSError:
                continue  # an interface without an IPv4 address
            if answer[20:24] == address.packed:
                return name
    raise OSError(f"no interface has {address}")


# Audit


class AuditFullError(Exception):
    """The record has reached its bound, or can no longer be written."""


class Audit:
    """The record of everything asked and done; ``write`` gets whole lines."""

    def __init__(self, max_bytes: int, write: Callable[[bytes], None]) -> None:
        self._left = max_bytes
        self._write = write
        self._denied_names: set[str] = set()
        self.connections = 0
        self.unrecorded_names = 0
        self.is_full = False

    def connection(self, **fields: Any) -> None:
        """Record one connection that is over.

        Raises:
            AuditFullError: it is not recorded, and the gateway must close.
        """
        self._line({"kind": "connect", **fields})
        self.connections += 1

    def denied_name(self, name: str, reason: str) -> None:
        """Record a name that was not answered, the first time it is asked for.

        Raises:
            AuditFullError: it is not recorded, and the gateway must close.
        """
        name = name[:255]
        if name in self._denied_names:
            return
        if len(self._denied_names) >= MAX_DENIED_NAMES:
            self.unrecorded_names += 1
            return
        self._denied_names.add(name)
        self._line({"kind": "name", "host": name, "verdict": "deny", "reason": reason})

    def event(self, kind: str, **fields: Any) -> None:
        """Write a line that is about the gateway and always fits."""
        self._write(_line(kind, fields))

    def _line(self, fields: dict[str, Any]) -> None:
        line = _line(fields.pop("kind"), fields)
        if self.is_full or len(line) > self._left:
            self.is_full = True
            raise AuditFullError
        self._left -= len(line)
        self._write(line)


def _line(kind: str, fields: dict[str, Any]) -> bytes:
    return json.dumps({"kind": kind, "at": time.time(), **fields}).encode() + b"\n"


# Names


class Names:
    """Which address of the pool stands for which name. Exact names have theirs from the start."""

    def __init__(self, policy: Policy, pool: IPv4Network) -> None:
        self._policy = policy
        # Neither the first, which nobody needs, nor the last, which is the slot's broadcast address.
        self._free = list(reversed(list(pool)[1:-1]))
        self._children = 0
        self._by_name: dict[str, IPv4Address] = {}
        self.by_address: dict[IPv4Address, str] = {}
        for name in sorted({rule.host for rule in policy.rules if rule.approved and not rule.is_wildcard}):
            self._assign(name)

    def look_up(self, asked: str) -> tuple[IPv4Address | None, str]:
        """Return the address that stands for a name as asked, or None and the reason."""
        try:
            name = normalise(asked)
        except UnusableNameError as exc:
            return None, exc.reason
        if name in self._by_name:
            return self._by_name[name], "listed"
        if not self._policy.is_listed(name):
            waits = any(rule.names(name) for rule in self._policy.rules)
            return None, "needs_approval" if waits else "unlisted_host"
        if self._children >= MAX_CHILDREN or not self._free:
            return None, "too_many_names"
        self._children += 1
        return self._assign(name), "listed"

    def _assign(self, name: str) -> IPv4Address:
        address = self._free.pop()
        self._by_name[name] = address
        self.by_address[address] = name
        return address


class Answering:
    """The DNS server: over UDP by `receive`, over TCP by `serve`."""

    def __init__(self, names: Names, audit: Audit, close: Callable[[], None]) -> None:
        self._names = names
        self._audit = audit
        self._close = close

    def receive(self, own: socket.socket) -> None:
        """Answer the query that waits at a UDP socket."""
        try:
            packet, asker = own.recvfrom(4096)
            reply = self.answer(packet)
            if reply is not None:
                own.sendto(reply, asker)
        except OSError:
            pass  # the asker is gone, or its queue is full: it asks again

    def answer(self, packet: bytes) -> bytes | None:
        """Return the answer to one packet, or None where silence is right; nothing is ever asked of anybody else."""
        try:
            query = dns.read_query(packet)
        except dns.MalformedError:
            return dns.write_refusal(packet, dns.FORMERR)
        if not query.is_plain:
            return dns.write_answer(query, dns.NOTIMP)
        address, reason = self._names.look_up(query.name)
        if address is None:
            try:
                self._audit.denied_name(query.name, reason)
            except AuditFullError:
                self._close()
            # Not REFUSED, which makes resolvers try the next server and the next search domain.
            return dns.write_answer(query, dns.NXDOMAIN)
        return dns.write_answer(query, dns.NOERROR, address if query.type == dns.A else None)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the queries of one TCP connection."""
        try:
            while True:
                length = int.from_bytes(await asyncio.wait_for(reader.readexactly(2), HELLO_S), "big")
                reply = self.answer(await asyncio.wait_for(reader.readexactly(length), HELLO_S))
                if reply is None:
                    break
                writer.write(len(reply).to_bytes(2, "big") + reply)
                await writer.drain()
        except (asyncio.IncompleteReadError, TimeoutError, ConnectionError):
            pass  # a client that goes away owes us nothing
        finally:
            writer.close()


# Resolving


class UnresolvableError(Exception):
    """The name has no address we could use; ``reason`` is the verdict's word."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Resolution:
    """Every address an answer held, good until ``until`` on the monotonic clock; only IPv4 is connected to."""

    addresses: tuple[IPv4Address | IPv6Address, ...]
    until: float


class Resolver:
    """Asks the operator's resolver for names, never for the connector but for itself, at a connect."""

    def __init__(self, server: IPv4Address, mapped: dict[str, IPv4Address | IPv6Address], port: int = DNS_PORT) -> None:
        self._server = (str(server), port)
        self._mapped = mapped
        self._known: dict[str, Resolution] = {}
        self._asking: dict[str, asyncio.Task[Resolution]] = {}

    async def resolve(self, name: str) -> tuple[IPv4Address | IPv6Address, ...]:
        """Return every address of ``name``, the operator's own map first.

        Raises:
            UnresolvableError: the resolver does not answer (``resolver_failed``), knows no address (``no_address``) or
                sends a chain of aliases without an end (``too_many_aliases``).
        """
        if name in self._mapped:
            return (self._mapped[name],)
        known = self._known.get(name)
        if known is not None and known.until > time.monotonic():
            return known.addresses
        task = self._asking.get(name)
        if task is None:
            task = self._asking[name] = asyncio.ensure_future(self._ask_both(name))
            task.add_done_callback(lambda _: self._asking.pop(name, None))
        # Shielded: one client that gives up must not take the answer from the others.
        resolution = await asyncio.shield(task)
        self._known[name] = resolution
        return resolution.addresses

    async def _ask_both(self, name: str) -> Resolution:
        four, six = await asyncio.gather(self._ask(name, dns.A), self._ask(name, dns.AAAA), return_exceptions=True)
        if isinstance(four, BaseException):
            raise four
        # Some resolvers fail on AAAA alone. IPv6 is never connected to: its answers are judged where there are any.
        replies = [four] if isinstance(six, BaseException) else [four, six]
        if any(reply.aliases > dns.MAX_ALIASES for reply in replies):
            raise UnresolvableError("too_many_aliases")
        addresses = tuple(found for reply in replies for found in (*reply.addresses, *reply.strays))
        if not four.addresses:
            raise UnresolvableError("no_address")
        ttl = min(MAX_CACHE_S, *(reply.ttl for reply in replies if reply.addresses))
        return Resolution(addresses, time.monotonic() + ttl)

    async def _ask(self, name: str, kind: int) -> dns.Reply:
        for _ in range(RESOLVE_TRIES):
            packet = dns.write_query(secrets.randbelow(65536), name, kind)
            try:
                reply = await asyncio.wait_for(self._exchange(packet), RESOLVE_TRY_S)
                if reply.is_truncated:
                    reply = await asyncio.wait_for(self._exchange_by_tcp(packet), RESOLVE_TRY_S)
            except (TimeoutError, OSError, EOFError, dns.MalformedError):
                continue
            if reply.code == dns.NXDOMAIN:
                raise UnresolvableError("no_address")
            if reply.code == dns.NOERROR:
                return reply
        raise UnresolvableError("resolver_failed")

    async def _exchange(self, packet: bytes) -> dns.Reply:
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as asking:
            # Connected: the kernel takes answers from that server alone, at a port nobody could foresee.
            asking.connect(self._server)
            await loop.sock_sendall(asking, packet)
            while True:
                try:
                    return dns.read_reply(await loop.sock_recv(asking, 4096), packet)
                except dns.MalformedError:
                    continue  # not the answer to this question; it may still come

    async def _exchange_by_tcp(self, packet: bytes) -> dns.Reply:
        reader, writer = await asyncio.open_connection(*self._server)
        try:
            writer.write(len(packet).to_bytes(2, "big") + packet)
            length = int.from_bytes(await reader.readexactly(2), "big")
            return dns.read_reply(await reader.readexactly(length), packet)
        finally:
            writer.close()


# Connections


class DeniedError(Exception):
    """A connection is not let out."""

    def __init__(self, reason: str, address: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.address = address


class Buffer:
    """The memory all pipes read into, one after the other; the more pipes there are, the less each reads at once."""

    def __init__(self) -> None:
        self._memory = memoryview(bytearray(READ_BYTES))
        self.pipes = 0

    def room(self) -> memoryview:
        """Return where the next read goes; what is in it is gone at the next call."""
        return self._memory[: STALLED_BYTES // max(1, self.pipes)]


class Pipe:
    """One direction of a splice: from one socket to the other, with at most one read in between."""

    def __init__(
        self, source: socket.socket, sink: socket.socket, buffer: Buffer, over: Callable[[OSError | None], None]
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._buffer = buffer
        self._source = source
        self._sink = sink
        self._over = over
        self._pending = b""
        self.bytes = 0
        self.is_done = False

    def start(self, prefix: bytes) -> None:
        """Send what was already read from the source, then everything that follows."""
        self._buffer.pipes += 1
        self._pending = prefix
        if prefix:
            self._loop.add_writer(self._sink, self._write)
        else:
            self._loop.add_reader(self._source, self._read)

    def stop(self) -> None:
        """Let go of both sockets, once."""
        self._buffer.pipes -= 1
        self.is_done = True
        self._loop.remove_reader(self._source)
        self._loop.remove_writer(self._sink)

    def _read(self) -> None:
        room = self._buffer.room()
        try:
            count = self._source.recv_into(room)
        except BlockingIOError:
            return
        except OSError as exc:
            self._over(exc)
            return
        if count == 0:
            self._end()
            return
        try:
            sent = self._sink.send(room[:count])
        except BlockingIOError:
            sent = 0
        except OSError as exc:
            self._over(exc)
            return
        self.bytes += sent
        if sent < count:
            # The sink is full: read no more until it has taken the rest. The buffer is everybody's, so copy.
            self._pending = bytes(room[sent:count])
            self._loop.remove_reader(self._source)
            self._loop.add_writer(self._sink, self._write)

    def _write(self) -> None:
        try:
            sent = self._sink.send(self._pending)
        except BlockingIOError:
            return
        except OSError as exc:
            self._over(exc)
            return
        self.bytes += sent
        self._pending = self._pending[sent:]
        if not self._pending:
            self._loop.remove_writer(self._sink)
            self._loop.add_reader(self._source, self._read)

    def _end(self) -> None:
        self._loop.remove_reader(self._source)
        self.is_done = True
        try:
            self._sink.shutdown(socket.SHUT_WR)
        except OSError as exc:
            self._over(exc)
            return
        self._over(None)


async def splice(client: socket.socket, server: socket.socket, prefix: bytes, buffer: Buffer) -> tuple[int, int, str]:
    """Carry bytes both ways until both sides have ended; return bytes out, bytes in and how it ended.

    An end of one direction is passed on and leaves the other open. A reset is passed on as a reset.
    """
    finished: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def over(problem: OSError | None) -> None:
        if finished.done():
            return
        if problem is not None:
            finished.set_result("reset")
        elif out.is_done and back.is_done:
            finished.set_result("closed")

    out, back = Pipe(client, server, buffer, over), Pipe(server, client, buffer, over)
    out.start(prefix)
    back.start(b"")
    try:
        ended = await finished
    except asyncio.CancelledError:
        ended = "gateway_closed"
    finally:
        out.stop()
        back.stop()
    if ended != "closed":
        reset(client)
        reset(server)
    return out.bytes, back.bytes, ended


def reset(side: socket.socket) -> None:
    """Make the coming close of ``side`` an immediate reset."""
    side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


class Gateway:
    """Lets connections out, or not, and records each."""

    def __init__(
        self, policy: Policy, names: Names, resolver: Resolver, audit: Audit, close: Callable[[], None]
    ) -> None:
        self._policy = policy
        self._names = names
        self._resolver = resolver
        self._audit = audit
        self._close = close
        self._buffer = Buffer()
        self._open: set[asyncio.Task[None]] = set()

    async def accept(self, listener: socket.socket) -> None:
        """Take connections until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                client, _ = await loop.sock_accept(listener)
            except ConnectionError:
                continue  # it went away while it waited
            original = original_destination(client)
            task = asyncio.ensure_future(self.handle(client, *original))
            self._open.add(task)
            task.add_done_callback(self._open.discard)
            # A waiting connection is taken without a pause; the ones already taken must get their turn.
            await asyncio.sleep(0)

    async def close(self) -> None:
        """End every connection and wait until each is recorded."""
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def handle(self, client: socket.socket, address: IPv4Address | None, port: int) -> None:
        """Serve one connection that was meant for an address of the pool."""
        started = time.monotonic()
        name = self._names.by_address.get(address) if address is not None else None
        fields: dict[str, Any] = {"host": name or str(address), "port": port, "address": None}
        sent = received = 0
        verdict = "deny"
        with client:
            try:
                prefix, found = await self._judge(client, name, port)
                verdict = "allow"
                fields["address"] = str(found[0])
                server = await self._connect(found, port)
                with server:
                    fields["address"] = server.getpeername()[0]
                    sent, received, reason = await splice(client, server, prefix, self._buffer)
            except DeniedError as exc:
                reason = exc.reason
                fields["address"] = exc.address
                reset(client)
            except OSError:
                # Allowed, but nobody is there: the client sees a reset, as it would without us.
                reason = "unreachable"
                reset(client)
            except asyncio.CancelledError:
                reason = "gateway_closed"
                reset(client)
        try:
            self._audit.connection(
                **fields,
                verdict=verdict,
                reason=reason,
                bytes_out=sent,
                bytes_in=received,
                duration_ms=round((time.monotonic() - started) * 1000, 3),
            )
        except AuditFullError:
            self._close()

    async def _judge(self, client: socket.socket, name: str | None, port: int) -> tuple[bytes, list[IPv4Address]]:
        """Return what was already read from the client, and the addresses to try, all of them allowed."""
        if self._audit.is_full:
            raise DeniedError("audit_full")
        if name is None:
            raise DeniedError("unassigned_address")
        if len(self._open) > MAX_CONNECTIONS:
            raise DeniedError("too_many_connections")
        decision = self._policy.decide(name, port)
        if not decision.allowed or decision.rule is None:
            raise DeniedError(decision.reason)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        prefix = await read_hello(client, name) if decision.rule.tls else b""
        try:
            found = await self._resolver.resolve(name)
        except UnresolvableError as exc:
            raise DeniedError(exc.reason) from exc
        for each in found:
            verdict = self._policy.judge(decision.rule, each)
            if not verdict.allowed:
                # One bad address among good ones is refused too: the next answer may hold it alone.
                raise DeniedError(verdict.reason, str(each))
        usable = [each for each in found if isinstance(each, IPv4Address)]
        if not usable:
            raise DeniedError("no_address")
        return prefix, usable

    async def _connect(self, addresses: list[IPv4Address], port: int) -> socket.socket:
        problem: OSError = OSError("no address")
        for address in addresses[:3]:
            server = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            try:
                server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                server.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                await asyncio.wait_for(asyncio.get_running_loop().sock_connect(server, (str(address), port)), CONNECT_S)
            except OSError as exc:
                server.close()
                problem = exc
            except asyncio.CancelledError:
                server.close()
                raise
            else:
                return server
        raise problem


async def read_hello(client: socket.socket, name: str) -> bytes:
    """Read a client's TLS hello and return its bytes, which still have to be sent on.

    Raises:
        DeniedError: it is not TLS (``not_tls``), asks for no name (``no_sni``) or for another (``sni_mismatch``).
    """
    data = b""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + HELLO_S
    while True:
        try:
            piece = await asyncio.wait_for(loop.sock_recv(client, 16384), deadline - loop.time())
        except OSError as exc:
            raise DeniedError("not_tls") from exc
        data += piece
        try:
            asked = tls.server_name(data)
        except tls.IncompleteError:
            if not piece or len(data) > 2 * tls.MAX_HELLO:
                raise DeniedError("not_tls") from None
            continue
        except tls.NotTlsError as exc:
            raise DeniedError("not_tls") from exc
        if asked is None:
            raise DeniedError("no_sni")
        try:
            matches = normalise(asked) == name
        except UnusableNameError:
            matches = False
        if not matches:
            raise DeniedError("sni_mismatch")
        return data


def original_destination(client: socket.socket) -> tuple[IPv4Address | None, int]:
    """Return where the connector meant to connect to, before the redirect; None where there was none."""
    try:
        packed = client.getsockopt(socket.SOL_IP, SO_ORIGINAL_DST, 16)
    except OSError:
        return None, 0
    return IPv4Address(packed[4:8]), int.from_bytes(packed[2:4], "big")


async def serve(
    configuration: Configuration, dns_socket: socket.socket, dns_listener: socket.socket, listener: socket.socket
) -> None:
    """Serve until SIGTERM or until the record is full; the sockets are bound already."""
    loop = asyncio.get_running_loop()
    closing = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, closing.set)
    audit = Audit(configuration.audit_max_bytes, _to_stdout)
    names = Names(configuration.policy, configuration.pool)
    answering = Answering(names, audit, closing.set)
    resolver = Resolver(configuration.resolver, dict(configuration.policy.hosts))
    gateway = Gateway(configuration.policy, names, resolver, audit, closing.set)
    loop.add_reader(dns_socket, answering.receive, dns_socket)
    server = await asyncio.start_server(answering.serve, sock=dns_listener)
    accepting = asyncio.ensure_future(gateway.accept(listener))
    audit.event("ready")
    # A task that ends by itself has failed; that closes as well.
    accepting.add_done_callback(lambda _: closing.set())
    await closing.wait()
    listener.close()
    loop.remove_reader(dns_socket)
    server.close()
    accepting.cancel()
    await gateway.close()
    audit.event(
        "end",
        connections=audit.connections,
        unrecorded_names=audit.unrecorded_names,
        reason="audit_full" if audit.is_full else "stopped",
    )


def _to_stdout(line: bytes) -> None:
    while line:
        line = line[os.write(1, line) :]


def main() -> None:
    """Set the network up from the file named on the command line, and serve."""
    with open(sys.argv[1]) as file:
        configuration = Configuration.from_json(file.read())
    set_up(configuration)
    own = str(configuration.address)
    dns_socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    dns_socket.bind((own, DNS_PORT))
    dns_listener = socket.create_server((own, DNS_PORT))
    # Only on the run's own network: nothing on the outbound side can reach it, not even the gateway itself.
    listener = socket.create_server((own, SPLICE_PORT), backlog=512)
    listener.setblocking(False)
    drop_privileges()
    asyncio.run(serve(configuration, dns_socket, dns_listener, listener))


if __name__ == "__main__":
    main()
