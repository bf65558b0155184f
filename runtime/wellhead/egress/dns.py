"""As much of DNS as the gateway speaks: reading queries and answers, writing answers and queries. Pure; RFC 1035.

Whatever a peer sends, reading it either gives a value or raises `MalformedError`; nothing else, and always in time
linear in the packet.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

A = 1
CNAME = 5
AAAA = 28
IN = 1

NOERROR = 0
FORMERR = 1
NXDOMAIN = 3
NOTIMP = 4

#: A chain of aliases longer than this is somebody's game; resolvers stop between 8 and 16.
MAX_ALIASES = 8
MAX_LABELS = 128

_HEADER = struct.Struct("!HHHHHH")
_QUESTION_END = struct.Struct("!HH")
_RECORD = struct.Struct("!HHIH")
_RESPONSE = 0x8000
_TRUNCATED = 0x0200
_RECURSION_WANTED = 0x0100
_RECURSION_OFFERED = 0x0080
_OPCODE = 0x7800


class MalformedError(ValueError):
    """A packet is not DNS, or not a kind of it that we read."""


@dataclass(frozen=True, slots=True)
class Query:
    """One question; ``name`` is as asked, without the root dot, and ``wire`` its bytes to repeat in the answer."""

    id: int
    name: str
    type: int
    wire: bytes
    is_plain: bool
    recursion_wanted: bool


@dataclass(frozen=True, slots=True)
class Reply:
    """What a resolver said.

    Attributes:
        code: the response code.
        is_truncated: the answer did not fit and must be asked for over TCP.
        addresses: those at the end of the alias chain that starts at the name asked for.
        strays: addresses in the answer that are not; a resolver has no business sending them.
        ttl: the smallest of all records.
        aliases: how long the chain is.
    """

    code: int
    is_truncated: bool
    addresses: tuple[IPv4Address | IPv6Address, ...]
    strays: tuple[IPv4Address | IPv6Address, ...]
    ttl: int
    aliases: int


def read_query(packet: bytes) -> Query:
    """Read a query with exactly one question.

    Raises:
        MalformedError: it is no query, or has another number of questions.
    """
    number, flags, questions, *_ = _header(packet)
    if flags & _RESPONSE or questions != 1:
        raise MalformedError("not a query with one question")
    name, end = _name(packet, _HEADER.size)
    if end + 4 > len(packet):
        raise MalformedError("the question is cut off")
    kind, klass = _QUESTION_END.unpack_from(packet, end)
    return Query(
        id=number,
        name=name,
        type=kind,
        wire=packet[_HEADER.size : end + 4],
        is_plain=not flags & _OPCODE and klass == IN,
        recursion_wanted=bool(flags & _RECURSION_WANTED),
    )


def write_answer(query: Query, code: int, address: IPv4Address | None = None, ttl: int = 30) -> bytes:
    """Answer a query with one address or none; without one, NOERROR means that the name has no such record."""
    flags = _RESPONSE | _RECURSION_OFFERED | code | (_RECURSION_WANTED if query.recursion_wanted else 0)
    packet = _HEADER.pack(query.id, flags, 1, int(address is not None), 0, 0) + query.wire
    if address is not None:
        # 0xC00C points back to the name in the question.
        packet += b"\xc0\x0c" + _RECORD.pack(A, IN, ttl, 4) + address.packed
    return packet


def write_refusal(packet: bytes, code: int) -> bytes | None:
    """Answer what `read_query` could not read; None for what must not be answered, lest two programs talk forever."""
    try:
        number, flags, *_ = _header(packet)
    except MalformedError:
        return None
    if flags & _RESPONSE:
        return None
    return _HEADER.pack(number, _RESPONSE | code, 0, 0, 0, 0)


def write_query(number: int, name: str, kind: int) -> bytes:
    """Ask for one record type of ``name``, which is in normal form."""
    labels = b"".join(bytes([len(label)]) + label.encode("ascii") for label in name.split("."))
    flags = _RECURSION_WANTED
    return _HEADER.pack(number, flags, 1, 0, 0, 0) + labels + b"\x00" + _QUESTION_END.pack(kind, IN)


def read_reply(packet: bytes, query: bytes) -> Reply:
    """Read the answer to the packet ``query``.

    Raises:
        MalformedError: it is no answer, or one to another question.
    """
    number, flags, questions, answers, *_ = _header(packet)
    if not flags & _RESPONSE or number != _header(query)[0] or questions != 1:
        raise MalformedError("not an answer to our query")
    name, end = _name(packet, _HEADER.size)
    asked, asked_end = _name(query, _HEADER.size)
    if name.lower() != asked or packet[end : end + 4] != query[asked_end:]:
        raise MalformedError("an answer to another question")
    records, ttl = _records(packet, end + 4, answers)
    owners = {asked}
    at = asked
    aliases = {owner: str(value) for owner, value in records if isinstance(value, str)}
    while at in aliases and aliases[at] not in owners and len(owners) <= len(aliases):
        at = aliases[at]
        owners.add(at)
    found = [(owner, value) for owner, value in records if not isinstance(value, str)]
    return Reply(
        code=flags & 0x000F,
        is_truncated=bool(flags & _TRUNCATED),
        addresses=tuple(value for owner, value in found if owner == at),
        strays=tuple(value for owner, value in found if owner != at),
        ttl=ttl,
        aliases=len(owners) - 1,
    )


def _records(packet: bytes, at: int, count: int) -> tuple[list[tuple[str, IPv4Address | IPv6Address | str]], int]:
    records: list[tuple[str, IPv4Address | IPv6Address | str]] = []
    lowest = 0x7FFFFFFF
    for _ in range(count):
        owner, at = _name(packet, at)
        if at + _RECORD.size > len(packet):
            raise MalformedError("a record is cut off")
        kind, klass, ttl, length = _RECORD.unpack_from(packet, at)
        at += _RECORD.size
        data = packet[at : at + length]
        if len(data) != length:
            raise MalformedError("a record is cut off")
        if klass == IN and kind in (A, AAAA, CNAME):
            lowest = min(lowest, ttl)
            records.append((owner.lower(), _value(packet, kind, data, at)))
        at += length
    return records, lowest if records else 0


def _value(packet: bytes, kind: int, data: bytes, at: int) -> IPv4Address | IPv6Address | str:
    if kind == CNAME:
        return _name(packet, at)[0].lower()
    if len(data) != (4 if kind == A else 16):
        raise MalformedError("an address of the wrong length")
    return IPv4Address(data) if kind == A else IPv6Address(data)


def _header(packet: bytes) -> tuple[int, int, int, int, int, int]:
    if len(packet) < _HEADER.size:
        raise MalformedError("shorter than a header")
    fields: tuple[int, int, int, int, int, int] = _HEADER.unpack_from(packet)
    return fields


def _name(packet: bytes, at: int) -> tuple[str, int]:
    """Return the name at ``at`` and where it ends; a dot inside a label gets a backslash, which no host name has."""
    labels: list[str] = []
    end = 0
    jumps = 0
    while True:
        if at >= len(packet):
            raise MalformedError("a name is cut off")
        length = packet[at]
        if length == 0:
            return ".".join(labels), end or at + 1
        if length & 0xC0 == 0xC0:
            if at + 1 >= len(packet) or jumps >= MAX_LABELS:
                raise MalformedError("a pointer leads nowhere")
            end = end or at + 2
            at = (length & 0x3F) << 8 | packet[at + 1]
            jumps += 1
        elif length > 63 or at + 1 + length > len(packet) or len(labels) >= MAX_LABELS:
            raise MalformedError("a label is cut off or of an unknown kind")
        else:
            labels.append(packet[at + 1 : at + 1 + length].decode("latin-1").replace(".", "\\."))
            at += 1 + length
