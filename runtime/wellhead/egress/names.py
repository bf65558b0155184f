"""The names of a run: which address of the pool stands for which, and the DNS server that says so.

Nothing it is asked is ever asked of anybody else.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network

from wellhead.egress import dns
from wellhead.egress.audit import Audit, AuditFullError
from wellhead.egress.policy import Policy, UnusableNameError, normalise

#: Children of wildcards are chosen by the connector: each costs an address of the pool and a question to a server.
MAX_CHILDREN = 64
#: How long a TCP client may take for its next query, and to take an answer.
IDLE_S = 10.0
#: Each costs a file of the 1024 a container may open; a resolver has one or two.
MAX_TCP_CLIENTS = 32


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
        self._tcp_clients = 0

    def receive(self, own: socket.socket) -> None:
        """Answer what waits at a UDP socket: a resolver sends its questions for both kinds of address at once."""
        try:
            for _ in range(2):
                packet, asker = own.recvfrom(4096)
                reply = self.answer(packet)
                if reply is not None:
                    own.sendto(reply, asker)
        except OSError:
            pass  # no second one waits, the asker is gone, or its queue is full: it asks again

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
        """Answer the queries of one TCP connection; one too many gets no answer."""
        if self._tcp_clients >= MAX_TCP_CLIENTS:
            writer.transport.abort()
            return
        self._tcp_clients += 1
        try:
            while True:
                length = int.from_bytes(await asyncio.wait_for(reader.readexactly(2), IDLE_S), "big")
                reply = self.answer(await asyncio.wait_for(reader.readexactly(length), IDLE_S))
                if reply is None:
                    break
                writer.write(len(reply).to_bytes(2, "big") + reply)
                await asyncio.wait_for(writer.drain(), IDLE_S)
        except (asyncio.IncompleteReadError, TimeoutError, ConnectionError):
            pass  # a client that goes away owes us nothing
        finally:
            self._tcp_clients -= 1
            # Not close, which would wait for as long as the client reads nothing.
            writer.transport.abort()
