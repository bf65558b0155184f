"""Which server a TLS client asks for: the one field of a ClientHello the gateway reads. Pure; RFC 8446, RFC 6066."""

from __future__ import annotations

#: Hellos with post-quantum keys take two kilobytes; this is far beyond any of them.
MAX_HELLO = 65536

_HANDSHAKE = 22
_CLIENT_HELLO = 1
_SERVER_NAME = 0
_HOST_NAME = 0


class NotTlsError(ValueError):
    """The bytes are not the start of a TLS conversation."""


class IncompleteError(Exception):
    """The hello goes on in bytes that have not come yet."""


def server_name(data: bytes) -> str | None:
    """Return the name in SNI as the client wrote it, or None if it asks for no name.

    Args:
        data: everything the client has sent so far.

    Raises:
        NotTlsError: no ClientHello, or a broken one.
        IncompleteError: more bytes are needed.
    """
    hello = _Cursor(_message(data))
    hello.take(2 + 32)
    hello.take(hello.number(1))
    hello.take(hello.number(2))
    hello.take(hello.number(1))
    if hello.is_done:
        return None
    extensions = _Cursor(hello.take(hello.number(2)))
    hello.end("the extensions")
    name = None
    while not extensions.is_done:
        kind = extensions.number(2)
        body = _Cursor(extensions.take(extensions.number(2)))
        if kind == _SERVER_NAME:
            if name is not None:
                # RFC 8446, 4.2 forbids it, and a server may go by either of them.
                raise NotTlsError("more than one server name")
            name = _host_name(body)
    return name


def _host_name(body: _Cursor) -> str:
    names = _Cursor(body.take(body.number(2)))
    if names.number(1) != _HOST_NAME:
        raise NotTlsError("a server name of an unknown kind")
    name = names.take(names.number(2))
    if not names.is_done:
        # Two names would let client and server each choose theirs.
        raise NotTlsError("more than one server name")
    body.end("the server name")
    return name.decode("latin-1")


def _message(data: bytes) -> bytes:
    """Put the ClientHello together from the records it may be spread over."""
    gathered = bytearray()
    at = 0
    while True:
        if at < len(data) and data[at] != _HANDSHAKE:
            raise NotTlsError("no handshake record")
        if at + 1 < len(data) and data[at + 1] != 3:
            raise NotTlsError("no version of TLS")
        if at + 5 > len(data):
            raise IncompleteError
        length = int.from_bytes(data[at + 3 : at + 5], "big")
        if not 0 < length <= 1 << 14:
            raise NotTlsError("a record of an impossible length")
        gathered += data[at + 5 : at + 5 + length]
        if gathered[:1] and gathered[0] != _CLIENT_HELLO:
            raise NotTlsError("no ClientHello")
        if len(gathered) >= 4:
            needed = 4 + int.from_bytes(gathered[1:4], "big")
            if needed > MAX_HELLO:
                raise NotTlsError("a hello of an impossible length")
            if len(gathered) >= needed:
                return bytes(gathered[4:needed])
        if at + 5 + length > len(data):
            raise IncompleteError
        at += 5 + length


class _Cursor:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def is_done(self) -> bool:
        return self._at >= len(self._data)

    def take(self, count: int) -> bytes:
        taken = self._data[self._at : self._at + count]
        if len(taken) != count:
            raise NotTlsError("a hello that ends early")
        self._at += count
        return taken

    def end(self, what: str) -> None:
        if not self.is_done:
            raise NotTlsError(f"bytes behind {what}")

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")
