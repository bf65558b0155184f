from __future__ import annotations

import base64
import gzip
import json
import random
import re
import time
import zlib
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wellhead.errors import ConfigurationError
from wellhead.telemetry import redact
from wellhead.telemetry.redact import MARK, Redactor

CANARIES = [
    "canary7f3a9c",
    'can"ary\\7f/3a +9c=ünï',
    "-----BEGIN KEY-----\nMIIEvQIBADANBgkq\nhkiG9w0BAQEFAASC\n-----END KEY-----",
]


def _url_lower(text: str) -> str:
    return quote(text, safe="").replace("%2F", "%2f").replace("%3D", "%3d").replace("%C3", "%c3")


ENCODINGS: dict[str, Callable[[str], str]] = {
    "raw": lambda value: value,
    "json": lambda value: json.dumps({"password": value}),
    "json in utf-8": lambda value: json.dumps({"password": value}, ensure_ascii=False),
    "json in json": lambda value: json.dumps(json.dumps({"password": value})),
    "json with escaped slash": lambda value: json.dumps(value).replace("/", "\\/"),
    "url": lambda value: f"https://host.example/?p={quote(value, safe='')}",
    "url path": lambda value: f"https://host.example/{quote(value)}",
    "url plus": quote_plus,
    "hex": lambda value: value.encode().hex(),
    "HEX": lambda value: value.encode().hex().upper(),
    "base64, first alignment": lambda value: base64.b64encode(b"abc" + value.encode() + b"xyz").decode(),
    "base64, second alignment": lambda value: base64.b64encode(b"a" + value.encode() + b"xyz").decode(),
    "base64, third alignment": lambda value: base64.b64encode(b"ab" + value.encode() + b"xyz").decode(),
    "base64, alone": lambda value: base64.b64encode(value.encode()).decode(),
    "base64, urlsafe": lambda value: base64.urlsafe_b64encode(b"user:" + value.encode()).decode(),
    "gzip, in base64": lambda value: base64.b64encode(gzip.compress(value.encode())).decode(),
    "gzip of json, in base64": lambda value: base64.b64encode(gzip.compress(json.dumps(value).encode())).decode(),
    "gzip of the url form, in hex": lambda value: gzip.compress(quote(value, safe="").encode()).hex(),
    "gzip of hex, in HEX": lambda value: gzip.compress(value.encode().hex().encode()).hex().upper(),
    "gzip of base64, in base64": lambda value: base64.b64encode(
        gzip.compress(base64.b64encode(value.encode()))
    ).decode(),
    "gzip, as Python prints it": lambda value: repr(gzip.compress(value.encode(), mtime=0)),
    "gzip, as Python prints it, in json": lambda value: json.dumps(repr(gzip.compress(value.encode(), mtime=0))),
    "zlib, in hex": lambda value: zlib.compress(value.encode(), 1).hex(),
    "base64 in a url": lambda value: quote(base64.b64encode(b"user:" + value.encode()).decode(), safe=""),
}


def _traces(value: str) -> set[str]:
    """Pieces of eight characters of each form: if one is left, part of the secret is.

    Without printed bytes: most of their characters say nothing, and stand in any gzip's header as well.
    """
    spoken = [form for form in redact.forms(value) if "\\x" not in form]
    return {form[at : at + 8] for form in spoken for at in range(len(form) - 7)}


@pytest.mark.parametrize("value", CANARIES, ids=["plain", "awkward", "multi-line"])
@pytest.mark.parametrize("encode", ENCODINGS.values(), ids=ENCODINGS.keys())
def test_finds_a_secret_in_every_form(value: str, encode: Callable[[str], str]) -> None:
    redactor = Redactor()
    redactor.add(value)
    text = f"before {encode(value)} after"
    clean = redactor.text(text)
    assert MARK in clean
    assert clean.startswith("before ")
    assert clean.endswith(" after")
    assert not [trace for trace in _traces(value) if trace in clean]
    assert redactor.bytes(text.encode()) == clean.encode()


@pytest.mark.parametrize("value", CANARIES, ids=["plain", "awkward", "multi-line"])
@pytest.mark.parametrize("encode", ENCODINGS.values(), ids=ENCODINGS.keys())
def test_finds_a_secret_split_over_chunks_at_every_place(value: str, encode: Callable[[str], str]) -> None:
    redactor = Redactor()
    redactor.add(value)
    text = f"before {encode(value)} after"
    for cut in range(len(text)):
        stream = redactor.stream()
        assert stream.feed(text[:cut]) + stream.feed(text[cut:]) + stream.finish() == redactor.text(text)


@pytest.mark.parametrize("value", CANARIES, ids=["plain", "awkward", "multi-line"])
@pytest.mark.parametrize("level", range(1, 10))
@pytest.mark.parametrize(
    "encode",
    [
        lambda value: value,
        lambda value: json.dumps(value)[1:-1],
        lambda value: quote(value, safe=""),
        lambda value: value.encode().hex(),
        lambda value: base64.b64encode(value.encode()).decode(),
        lambda value: base64.b64encode(b"ab" + value.encode()).decode()[4:],
    ],
    ids=["raw", "json", "url", "hex", "base64", "base64, another alignment"],
)
def test_finds_in_bytes_what_was_compressed_alone(value: str, level: int, encode: Callable[[str], str]) -> None:
    redactor = Redactor()
    redactor.add(value)
    packed = gzip.compress(encode(value).encode(), level, mtime=0)
    header, trailer = packed[:10], packed[-8:]
    assert redactor.bytes(b"<" + packed + b">") == b"<" + header + MARK.encode() + trailer + b">"


@given(st.lists(st.text("ab.\\", min_size=1, max_size=5), min_size=1, max_size=12), st.text("ab.\\", max_size=40))
def test_the_longest_of_many_texts_is_found_at_each_place(texts: list[str], text: str) -> None:
    search = re.compile(redact._any_of(texts))
    for at in range(len(text)):
        longest = max((len(one) for one in texts if text.startswith(one, at)), default=None)
        found = search.match(text, at)
        assert (found and found.end() - at) == longest


def test_a_line_of_a_longer_secret_is_found_alone() -> None:
    redactor = Redactor()
    redactor.add(CANARIES[2])
    assert redactor.text("line: MIIEvQIBADANBgkq.") == f"line: {MARK}."


def test_a_secret_that_begins_inside_another_one_is_taken_out_whole() -> None:
    redactor = Redactor()
    redactor.add("abcdefgh")
    redactor.add("efghijkl")
    redactor.add("abcdefghij-longer")
    assert redactor.text("<abcdefghijkl>") == f"<{MARK}>"
    stream = redactor.stream()
    assert stream.feed("<abcdefgh") + stream.feed("ij-longer>") + stream.finish() == f"<{MARK}>"


@pytest.mark.slow
@given(st.lists(st.text("ab1", min_size=6, max_size=8), min_size=1, max_size=3), st.text("ab1", max_size=60), st.data())
def test_chunks_never_change_what_is_taken_out(secrets: list[str], text: str, data: st.DataObject) -> None:
    redactor = Redactor()
    for secret in secrets:
        redactor.add(secret)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=5)))
    stream = redactor.stream()
    pieces = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    streamed = "".join(stream.feed(piece) for piece in pieces) + stream.finish()
    assert streamed.replace(MARK * 2, MARK) == redactor.text(text).replace(MARK * 2, MARK)
    assert not [secret for secret in secrets if secret in streamed]


def test_what_is_not_secret_passes_untouched() -> None:
    redactor = Redactor()
    assert redactor.text("nothing known yet") == "nothing known yet"
    redactor.add("canary7f3a9c")
    letters = random.Random(7)
    text = "".join(letters.choice("cany7f3 ") for _ in range(10_000))
    assert redactor.text(text) == text


def test_a_value_added_later_is_found_by_a_stream_that_is_open() -> None:
    redactor = Redactor()
    stream = redactor.stream()
    assert stream.feed("hello ") == "hello "
    redactor.add("canary7f3a9c")
    assert stream.feed("canary7f") + stream.feed("3a9c!") + stream.finish() == f"{MARK}!"


def test_values_are_redacted_in_depth() -> None:
    redactor = Redactor()
    redactor.add("canary7f3a9c")
    redactor.add("12345678")
    value = {"canary7f3a9c": ["x canary7f3a9c", 12345678, 1.5, None, True, {"deep": ("canary7f3a9c",)}]}
    assert redactor.value(value) == {MARK: [f"x {MARK}", MARK, 1.5, None, True, {"deep": [MARK]}]}


def test_a_secret_too_short_to_be_found_is_refused_without_being_repeated() -> None:
    with pytest.raises(ConfigurationError) as caught:
        Redactor().add("s3cr3")
    assert caught.value.code is redact.TOO_SHORT
    assert "s3cr3" not in f"{caught.value.message} {caught.value.hint}"


SHAPE = "hk_[A-Za-z0-9]{20,}"
TOKEN = "hk_" + "aB3" * 10
#: One character here, four bytes in UTF-8.
WIDE = "\N{GRINNING FACE}"


@pytest.mark.parametrize(
    ("pattern", "text", "clean"),
    [
        (SHAPE, f"a {TOKEN}, b {TOKEN}", f"a {MARK}, b {MARK}"),
        (SHAPE, f"one\n{TOKEN}\r\nthree", f"one\n{MARK}\r\nthree"),
        (SHAPE, "hk_short", "hk_short"),
        ("^key .*$", "a key\nkey of mine\nkey", f"a key\n{MARK}\nkey"),
        (f"({SHAPE})?", f"as it was, but {TOKEN}", f"as it was, but {MARK}"),
        ("x*", "nothing of it", "nothing of it"),
        (r"\bhk_\w+", "ahk_1 hk_1", f"ahk_1 {MARK}"),
        (SHAPE, f"{WIDE}é {TOKEN} {WIDE}\n{WIDE}{TOKEN}é", f"{WIDE}é {MARK} {WIDE}\n{WIDE}{MARK}é"),
        (f"({SHAPE})|(x)*", f"é{TOKEN} xé", f"é{MARK} {MARK}é"),
    ],
    ids=["shape", "lines", "too short", "anchors", "also empty", "empty", "words", "wide", "groups"],
)
def test_what_has_the_shape_of_a_secret_is_struck_from_a_text(pattern: str, text: str, clean: str) -> None:
    redactor = Redactor()
    redactor.add_pattern(pattern)
    assert redactor.text(text) == clean
    assert redactor.value({"said": [text]}) == {"said": [clean]}
    assert redactor.bytes(text.encode()) == redactor.masked(text.encode()) == text.encode()


@pytest.mark.parametrize("before", [0, 900, 1000, 1010, 1024, 2000, 2030, 2047, 2048, 3070, 9000])
@pytest.mark.parametrize("length", [20, 600, 1020, 2045])
def test_a_shape_is_found_wherever_it_stands_in_a_long_line(before: int, length: int) -> None:
    redactor = Redactor()
    redactor.add_pattern(SHAPE)
    token = "hk_" + "a" * length
    assert redactor.text("." * before + token + "." * 3000) == "." * before + MARK + "." * 3000


def test_each_of_64_tokens_in_the_longest_line_of_a_log_is_struck_alone() -> None:
    redactor = Redactor()
    redactor.add_pattern(SHAPE)
    line = (TOKEN + " " * (256 - len(TOKEN))) * 64
    assert redactor.text(line) == line.replace(TOKEN, MARK)


def test_a_shape_is_found_beside_half_a_character() -> None:
    redactor = Redactor()
    redactor.add_pattern(SHAPE)
    assert redactor.text(f"\ud83d{TOKEN}\udca9 {TOKEN}") == f"\ud83d{MARK}\udca9 {MARK}"


def test_a_search_takes_time_that_grows_with_the_line() -> None:
    redactor = Redactor()
    for pattern in ("a+b", "[a-z]*[a-z]*!", "(a+){1,99}!", "(?:-(?:a?){20})*!", "tok(?:_[A-Za-z0-9]+[0-9a-z]*)+="):
        redactor.add_pattern(pattern)
    began = time.process_time()
    # Python's own search would take from ten seconds to ages: from each place it runs to the end.
    assert redactor.text("a" * 150_000) == "a" * 150_000
    assert time.process_time() - began < 4


def test_of_a_line_with_very_many_matches_the_rest_is_struck() -> None:
    redactor = Redactor()
    redactor.add_pattern("a(?:.*b)?")
    began = time.process_time()
    # Each match looks for its end in all that is left of the line.
    assert redactor.text("a!" * 20_000 + "\nsecond a") == f"{MARK}!" * 26 + MARK + f"\nsecond {MARK}"
    assert time.process_time() - began < 4


@pytest.mark.parametrize(
    "pattern", ["(?=a)a", r"(a)\1", "(?<!a)b", "a{1001}", "a{,3}b", "a{,}b", "(", "\ud83d", r"\Z", "([a-z]{9}){999}"]
)
def test_what_cannot_be_searched_for_in_bounded_time_is_refused(pattern: str) -> None:
    redactor = Redactor()
    with pytest.raises(ValueError, match=r"\w"):
        redactor.add_pattern(pattern)
    assert redactor.text("aab") == "aab"


def test_of_a_name_or_a_digest_known_values_alone_are_struck() -> None:
    redactor = Redactor()
    redactor.add("canary7f3a9c")
    redactor.add_pattern("[A-Za-z0-9]{6,}")
    assert redactor.known("canary7f3a9c of customers") == f"{MARK} of customers"
    assert redactor.text("canary7f3a9c of customers") == f"{MARK} of {MARK}"


def test_a_shape_that_covers_half_a_secret_leaves_nothing_of_the_other_half() -> None:
    redactor = Redactor()
    redactor.add("canary7f3a9c")
    redactor.add_pattern("can[a-z]+")
    redactor.add_pattern("9c-[a-z]+")
    assert redactor.text("<canary7f3a9c-tail> cannot") == f"<{MARK}> {MARK}"


def test_a_text_in_pieces_knows_secrets_and_no_shapes() -> None:
    redactor = Redactor()
    redactor.add_pattern("[a-z]+")
    stream = redactor.stream()
    assert stream.feed("hello ") + stream.feed("there") + stream.finish() == "hello there"
