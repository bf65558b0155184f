"""Carrying bytes between two sockets, both ways, at the price of one copy in and one out."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable

#: Fewer, larger reads: at 64 KiB a splice takes twice the time of the processor.
READ_BYTES = 1 << 20
#: A stalled pipe keeps one read. With 800 pipes that came one after the other this sums to less than 80 MiB.
STALLED_BYTES = 16 << 20


class Buffer:
    """The memory all pipes read into, one after the other; the more pipes there are, the less each reads at once."""

    def __init__(self) -> None:
        self._memory = memoryview(bytearray(READ_BYTES))
        self.pipes = 0

    def room(self) -> memoryview:
        """Return where the next read goes; what is in it is gone at the next call."""
        return self._memory[: STALLED_BYTES // max(1, self.pipes)]


class Pipe:
    """One direction of a splice: from one socket to the other, with at most one read in between.

    The loop is given file numbers: of a socket it does not know it makes a text first, at two calls of the kernel.
    """

    def __init__(
        self, source: socket.socket, sink: socket.socket, buffer: Buffer, over: Callable[[OSError | None], None]
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._buffer = buffer
        self._source = source
        self._sink = sink
        self._over = over
        self._pending = b""
        self._is_reading = False
        self._is_writing = False
        self.bytes = 0
        self.is_done = False

    def start(self, prefix: bytes) -> None:
        """Send what was already read from the source, then everything that follows."""
        self._buffer.pipes += 1
        self._pending = prefix
        if prefix:
            self._await_sink()
        else:
            self._await_source()

    def stop(self) -> None:
        """Let go of both sockets, once."""
        self._buffer.pipes -= 1
        self.is_done = True
        self._await_nothing()

    def _await_source(self) -> None:
        self._loop.add_reader(self._source.fileno(), self._read)
        self._is_reading = True

    def _await_sink(self) -> None:
        self._loop.add_writer(self._sink.fileno(), self._write)
        self._is_writing = True

    def _await_nothing(self) -> None:
        if self._is_reading:
            self._loop.remove_reader(self._source.fileno())
        if self._is_writing:
            self._loop.remove_writer(self._sink.fileno())
        self._is_reading = self._is_writing = False

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
            self._await_nothing()
            self._await_sink()

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
            self._await_nothing()
            self._await_source()

    def _end(self) -> None:
        self._await_nothing()
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
