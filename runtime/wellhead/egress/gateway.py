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
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from ipaddress import IPv4Address
from typing import Any

from wellhead.egress import kernel, tls
from wellhead.egress.audit import Audit, AuditFullError
from wellhead.egress.kernel import Configuration
from wellhead.egress.names import Answering, Names
from wellhead.egress.policy import Policy, UnusableNameError, normalise
from wellhead.egress.resolver import Resolver, UnresolvableError
from wellhead.egress.splice import Buffer, reset, splice

SO_ORIGINAL_DST = 80

CONNECT_S = 10.0
HELLO_S = 10.0
#: Two sockets each, of the 1024 files a container may open.
MAX_CONNECTIONS = 400


class DeniedError(Exception):
    """A connection is not let out."""

    def __init__(self, reason: str, address: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.address = address


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

    def accept(self, listener: socket.socket) -> None:
        """Take one connection that waits; the ones already taken get their turn before the next."""
        try:
            client, _ = listener.accept()
        except (BlockingIOError, ConnectionError):
            return  # it went away while it waited
        client.setblocking(False)
        task = asyncio.ensure_future(self.handle(client, *original_destination(client)))
        self._open.add(task)
        task.add_done_callback(self._open.discard)

    async def close(self) -> None:
        """End every connection and wait until each is recorded."""
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def handle(self, client: socket.socket, address: IPv4Address | None, port: int) -> None:
        """Serve one connection that was meant for an address of the pool, where there is room to record it."""
        with client:
            try:
                self._audit.reserve()
                await self._serve(client, address, port)
            except AuditFullError:
                reset(client)
                self._close()

    async def _serve(self, client: socket.socket, address: IPv4Address | None, port: int) -> None:
        started = time.monotonic()
        name = self._names.by_address.get(address) if address is not None else None
        fields: dict[str, Any] = {"host": name or str(address), "port": port, "address": None}
        sent = received = 0
        verdict = "deny"
        try:
            prefix, found = await self._judge(client, name, port)
            verdict = "allow"
            fields["address"] = str(found[0])
            server, reached = await self._connect(found, port)
            with server:
                fields["address"] = str(reached)
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
        self._audit.connection(
            **fields,
            verdict=verdict,
            reason=reason,
            bytes_out=sent,
            bytes_in=received,
            duration_ms=round((time.monotonic() - started) * 1000, 3),
        )

    async def _judge(self, client: socket.socket, name: str | None, port: int) -> tuple[bytes, list[IPv4Address]]:
        """Return what was already read from the client, and the addresses to try, all of them allowed."""
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

    async def _connect(self, addresses: list[IPv4Address], port: int) -> tuple[socket.socket, IPv4Address]:
        problem: OSError = OSError("no address")
        for address in addresses[:3]:
            server = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            try:
                server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                server.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                # Not wait_for, which makes a task and so costs two more turns of the loop.
                async with asyncio.timeout(CONNECT_S):
                    await asyncio.get_running_loop().sock_connect(server, (str(address), port))
            except OSError as exc:
                server.close()
                problem = exc
            except asyncio.CancelledError:
                server.close()
                raise
            else:
                return server, address
        raise problem


async def read_hello(client: socket.socket, name: str) -> bytes:
    """Read a client's TLS hello and return its bytes, which still have to be sent on.

    Raises:
        DeniedError: it is not TLS (``not_tls``), asks for no name (``no_sni``) or for another (``sni_mismatch``), or
            the client left before it was through (``client_left``).
    """
    data = b""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + HELLO_S
    while True:
        try:
            async with asyncio.timeout_at(deadline):
                piece = await loop.sock_recv(client, 16384)
        except ConnectionError as exc:
            raise DeniedError("client_left") from exc
        except OSError as exc:
            raise DeniedError("not_tls") from exc
        data += piece
        try:
            asked = tls.server_name(data)
        except tls.IncompleteError:
            if not piece:
                raise DeniedError("client_left") from None
            if len(data) > 2 * tls.MAX_HELLO:
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

    def failed(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        # What the loop calls itself has nobody else to raise to: a gateway that cannot accept or answer closes.
        loop.default_exception_handler(context)
        closing.set()

    loop.set_exception_handler(failed)
    loop.add_reader(dns_socket, answering.receive, dns_socket)
    server = await asyncio.start_server(answering.serve, sock=dns_listener)
    loop.add_reader(listener, gateway.accept, listener)
    audit.event("ready")
    await closing.wait()
    loop.remove_reader(listener)
    listener.close()
    loop.remove_reader(dns_socket)
    server.close()
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
    kernel.set_up(configuration)
    own = str(configuration.address)
    dns_socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    dns_socket.bind((own, kernel.DNS_PORT))
    dns_listener = socket.create_server((own, kernel.DNS_PORT))
    # Only on the run's own network: nothing on the outbound side can reach it, not even the gateway itself.
    listener = socket.create_server((own, kernel.SPLICE_PORT), backlog=512)
    listener.setblocking(False)
    kernel.drop_privileges()
    asyncio.run(serve(configuration, dns_socket, dns_listener, listener))


if __name__ == "__main__":
    main()
