"""Reading SNI from hellos of a real TLS library, whole and in pieces."""

from __future__ import annotations

import functools
import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wellhead.egress import tls


@functools.cache
def hello(name: str | None) -> bytes:
    """What OpenSSL sends first."""
    context = ssl.create_default_context()
    context.check_hostname = False
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing, server_hostname=name).do_handshake()
    return outgoing.read()


def in_records(data: bytes, size: int) -> bytes:
    """The same hello, cut into smaller records, as RFC 8446 allows."""
    body = data[5:]
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(data[:3] + len(piece).to_bytes(2, "big") + piece for piece in pieces)


def test_the_name_a_client_asks_for_is_read() -> None:
    assert tls.server_name(hello("api.good.test")) == "api.good.test"


def test_a_client_that_asks_for_no_name_is_known() -> None:
    assert tls.server_name(hello(None)) is None


@pytest.mark.parametrize("size", [1, 3, 64, 200])
def test_a_hello_spread_over_records_is_read(size: int) -> None:
    assert tls.server_name(in_records(hello("api.good.test"), size)) == "api.good.test"


def test_a_hello_that_has_not_come_whole_is_waited_for() -> None:
    whole = hello("api.good.test")
    for length in range(len(whole)):
        with pytest.raises(tls.IncompleteError):
            tls.server_name(whole[:length])


def test_what_follows_the_hello_does_not_matter() -> None:
    assert tls.server_name(hello("api.good.test") + b"\x17\x03\x03\0\1x") == "api.good.test"


def test_two_names_in_one_hello_are_refused() -> None:
    whole = hello("api.good.test")
    at = whole.index(b"api.good.test") - 3
    entry = whole[at : at + 3 + len("api.good.test")]
    doubled = bytearray(whole[:at] + entry + entry + whole[at + len(entry) :])
    for place, size in ((at - 2, 2), (at - 4, 2), (3, 2), (6, 3)):
        number = int.from_bytes(doubled[place : place + size], "big") + len(entry)
        doubled[place : place + size] = number.to_bytes(size, "big")
    # The length of all extensions stands before the first of them.
    session = 9 + 2 + 32
    ciphers = session + 1 + doubled[session]
    extensions = ciphers + 2 + int.from_bytes(doubled[ciphers : ciphers + 2], "big") + 2
    number = int.from_bytes(doubled[extensions : extensions + 2], "big") + len(entry)
    doubled[extensions : extensions + 2] = number.to_bytes(2, "big")
    with pytest.raises(tls.NotTlsError, match="more than one"):
        tls.server_name(bytes(doubled))


def made(extensions: bytes, behind: bytes = b"") -> bytes:
    """The shortest hello with these extensions, and what stands behind them."""
    body = bytes(2 + 32) + b"\0" + b"\0\2\x13\1" + b"\1\0" + sized(2, extensions) + behind
    return b"\x16\3\1" + sized(2, b"\1" + sized(3, body))


def sized(size: int, data: bytes) -> bytes:
    return len(data).to_bytes(size, "big") + data


def sni(name: bytes, behind: bytes = b"") -> bytes:
    return b"\0\0" + sized(2, sized(2, b"\0" + sized(2, name)) + behind)


OTHER = b"\0\x17\0\0"


def test_the_name_is_found_wherever_it_stands() -> None:
    assert tls.server_name(made(OTHER + sni(b"api.good.test") + OTHER)) == "api.good.test"
    assert tls.server_name(made(OTHER)) is None


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (made(sni(b"api.good.test") + OTHER + sni(b"evil.test")), "more than one"),
        (made(sni(b"api.good.test") + sni(b"api.good.test")), "more than one"),
        (made(sni(b"api.good.test", b"\0\0\1x")), "behind the server name"),
        (made(sni(b"api.good.test"), b"\0\0"), "behind the extensions"),
        (made(sni(b"api.good.test") + OTHER[:3]), "ends early"),
    ],
    ids=["other name", "same name", "behind the name", "behind all", "cut"],
)
def test_a_hello_that_two_readers_could_read_differently_is_refused(data: bytes, why: str) -> None:
    with pytest.raises(tls.NotTlsError, match=why):
        tls.server_name(data)


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n",
        b"\x80\x2e\x01\x03\x01",
        b"\x16\x02\x00\x00\x05\x01\x00\x00\x01\x00",
        b"\x16\x03\x01\x00\x00",
        b"\x16\x03\x01\xff\xff",
        b"\x16\x03\x01\x00\x04\x02\x00\x00\x01",
        b"\x16\x03\x01\x00\x04\x01\xff\xff\xff",
        b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00",
    ],
)
def test_what_is_not_tls_is_known_at_once(data: bytes) -> None:
    with pytest.raises(tls.NotTlsError):
        tls.server_name(data)


@given(data=st.binary(max_size=200))
def test_no_bytes_make_the_reader_fail_otherwise(data: bytes) -> None:
    try:
        answer = tls.server_name(b"\x16\x03\x01" + data)
    except (tls.NotTlsError, tls.IncompleteError):
        return
    assert answer is None or isinstance(answer, str)


@given(place=st.integers(0, 500), value=st.integers(0, 255))
def test_a_changed_byte_never_does_more_than_change_the_answer(place: int, value: int) -> None:
    changed = bytearray(hello("api.good.test"))
    changed[place % len(changed)] = value
    try:
        answer = tls.server_name(bytes(changed))
    except (tls.NotTlsError, tls.IncompleteError):
        return
    assert answer is None or isinstance(answer, str)
