"""Asking the operator's resolver where an allowed name is, for the gateway itself and only at a connect."""

from __future__ import annotations

import asyncio
import secrets
import socket
import time
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from wellhead.egress import dns

PORT = 53
TRY_S = 2.0
TRIES = 3
#: A name is asked for again after this long at the latest; what it resolves to is judged at every use.
MAX_CACHE_S = 30


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

    def __init__(self, server: IPv4Address, mapped: dict[str, IPv4Address | IPv6Address], port: int = PORT) -> None:
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
        for _ in range(TRIES):
            packet = dns.write_query(secrets.randbelow(65536), name, kind)
            try:
                reply = await asyncio.wait_for(self._exchange(packet), TRY_S)
                if reply.is_truncated:
                    reply = await asyncio.wait_for(self._exchange_by_tcp(packet), TRY_S)
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
