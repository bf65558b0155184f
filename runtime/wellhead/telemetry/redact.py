"""Takes the secrets of a run out of whatever leaves it.

A value is found as it is and in the forms programs print it in: escaped for JSON or a URL, in hex, and in base64 at
each of the three alignments it can have inside a longer text (`user:password` of a Basic header, say). Each of these
is also found when zlib compressed it alone, whatever container it is in (gzip, zlib, none): as bytes, as Python prints
them, in hex and in base64. What a connector does to its own secret beyond that (encryption, compression together with
other text or by another program, one letter a line) cannot be recognised.

A text also loses what has the shape of a secret, where the manifest describes one (`Redactor.add_pattern`). Bytes and
names do not: what is no secret of the run stands in data by right.
"""

from __future__ import annotations

import base64
import json
import re
import threading
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import AnyStr, Generic, Protocol
from urllib.parse import quote, quote_plus

from wellhead.errors import Code, ConfigurationError, counted

TOO_SHORT = Code("WH-SEC-030", "A secret is too short to be kept out of logs.")

#: Shorter values occur by chance in ordinary text, so that taking them out would hide nothing and damage everything.
MIN_LENGTH = 6
MARK = "***"

#: A line of a longer secret, such as a private key, that is worth recognising alone: logs are read by lines.
_MIN_LINE = 12

#: What a pattern is tried on: whole lines, without halves of a character, which UTF-8 does not know.
_LINE = re.compile(r"[^\r\n]+")
_HALF = re.compile("[\ud800-\udfff]")
#: Characters of one line that the search for its matches may look at. One search takes time that grows with the line,
#: but each match begins another, and a hostile line can have one at each character. Of 64 matches all over the longest
#: line of a log each is still told apart.
_MOST_LOOKS = 1 << 20
#: What a pattern may take, compiled: with less RE2 forgets what it learned of the text, and is ten times slower.
_MOST_BYTES = 8 << 20
#: RE2 takes this for plain text, Python for a repeat.
_OPEN_BELOW = re.compile(r"\{,\d*\}")


@dataclass(frozen=True, slots=True)
class _Patterns(Generic[AnyStr]):
    """A compiled search for every form, and the length of the longest."""

    search: re.Pattern[AnyStr] | None
    longest: int
    mark: AnyStr

    def spans(self, text: AnyStr) -> Iterator[tuple[int, int]]:
        """Yield the stretches that belong to some secret; they may overlap."""
        if self.search is None:
            return
        found = self.search.search(text)
        while found is not None:
            yield found.span()
            # From its second character on, so that a secret which begins inside another one is found too.
            found = self.search.search(text, found.start() + 1)

    def replace(self, text: AnyStr, also: Iterable[tuple[int, int]] = ()) -> AnyStr:
        pieces: list[AnyStr] = []
        done = 0
        for start, end in _merged([*self.spans(text), *also]):
            pieces += [text[done:start], self.mark]
            done = end
        if not pieces:
            return text
        pieces.append(text[done:])
        return text[:0].join(pieces)


class _Match(Protocol):
    """Where a shape was found."""

    def span(self) -> tuple[int, int]:
        """Return where it begins and ends."""
        ...


class Shape(Protocol):
    """A search for what looks like a secret; equal for equal patterns."""

    def finditer(self, text: str, /) -> Iterator[_Match]:
        """Yield what is found, from left to right."""
        ...


class Redactor:
    """The secrets of one run; values are added as they are lent, and none is ever taken back.

    Safe to share between threads.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._forms: frozenset[str] = frozenset()
        self._packed: frozenset[bytes] = frozenset()
        self._shapes: frozenset[Shape] = frozenset()
        self._patterns: tuple[_Patterns[str], _Patterns[bytes]] | None = None

    def __repr__(self) -> str:
        return f"Redactor({counted(len(self._forms), 'form')})"

    def add(self, value: str) -> None:
        """Know one more secret from now on.

        Raises:
            ConfigurationError: WH-SEC-030, it has fewer than 6 characters. Slots whose manifest says
                ``sensitive: false``, such as a user name, need not be added.
        """
        if len(value) < MIN_LENGTH:
            raise ConfigurationError(
                f"a secret of {counted(len(value), 'character')} cannot be kept out of logs",
                code=TOO_SHORT,
                hint=f"use a secret of at least {MIN_LENGTH} characters",
            )
        with self._lock:
            self._forms |= forms(value)
            self._packed |= compressed(value)
            self._patterns = None

    def add_pattern(self, pattern: str) -> None:
        """Strike from every whole text from now on what ``pattern`` finds in a line of it, as it stands there.

        An empty match strikes nothing.

        Raises:
            ValueError: see `shape_of`.
        """
        shape = shape_of(pattern)
        with self._lock:
            self._shapes |= {shape}

    @property
    def in_text(self) -> _Patterns[str]:
        """Return the search in text for what is known now."""
        return self._compiled()[0]

    def _compiled(self) -> tuple[_Patterns[str], _Patterns[bytes]]:
        # At the first use after the last value was added: it takes as long as ten values take to add.
        with self._lock:
            if self._patterns is None:
                encoded = {form.encode() for form in self._forms} | self._packed
                # Each byte as the one character of its number, and back.
                of_bytes = _any_of(form.decode("latin-1") for form in encoded).encode("latin-1")
                self._patterns = (
                    _Patterns(_search(_any_of(self._forms)), max(map(len, self._forms), default=0), MARK),
                    _Patterns(_search(of_bytes), max(map(len, encoded), default=0), MARK.encode()),
                )
            return self._patterns

    def text(self, text: str) -> str:
        """Return ``text`` with every form of every secret, and what has the shape of one, replaced by ``***``."""
        # Both are looked for in the text as it came: a shape struck first could leave half a secret that nobody knows.
        return self.in_text.replace(text, (span for shape in self._shapes for span in _found(shape, text)))

    def known(self, text: str) -> str:
        """Return ``text`` with every form of every secret replaced by ``***``, and what only looks like one left.

        For names and digests, which are compared later: a long one can have the shape of a token by chance.
        """
        return self.in_text.replace(text)

    def masked(self, data: bytes) -> bytes:
        """Return ``data`` with each byte of a secret replaced by ``*``: what has lengths inside stays readable."""
        masked = bytearray(data)
        for start, end in self._compiled()[1].spans(data):
            masked[start:end] = b"*" * (end - start)
        return bytes(masked)

    def bytes(self, data: bytes) -> bytes:
        """Return ``data`` with every form of every secret, in UTF-8 or compressed, replaced by ``***``."""
        return self._compiled()[1].replace(data)

    def value(self, value: object) -> object:
        """Return a JSON-like value with its texts redacted, its keys and numbers too."""
        match value:
            case str():
                return self.text(value)
            case dict():
                return {self.text(str(key)): self.value(inner) for key, inner in value.items()}
            case list() | tuple():
                return [self.value(inner) for inner in value]
            case bool() | None:
                return value
            case _:
                printed = str(value)
                clean = self.text(printed)
                return value if clean == printed and isinstance(value, int | float) else clean

    def stream(self) -> Stream:
        """Begin a text that arrives in pieces."""
        return Stream(self)


class Stream:
    """One text in pieces: holds back the tail in which a secret may have begun.

    Knows secrets alone: what only has the shape of one is found in whole lines.
    """

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._held = ""

    def feed(self, piece: str) -> str:
        """Return as much of the text so far as no later piece can turn into a secret."""
        patterns = self._redactor.in_text
        text = self._held + piece
        # A form that begins before this point lies wholly inside the text; one that begins later may still grow.
        settled = max(len(text) - max(patterns.longest - 1, 0), 0)
        pieces: list[str] = []
        done = 0
        for start, end in _merged(patterns.spans(text)):
            if start >= settled:
                break
            pieces += [text[done:start], patterns.mark]
            done = end
        keep_from = max(done, settled)
        pieces.append(text[done:keep_from])
        self._held = text[keep_from:]
        return "".join(pieces)

    def finish(self) -> str:
        """Return what was held back, redacted."""
        rest, self._held = self._redactor.in_text.replace(self._held), ""
        return rest


def forms(value: str) -> frozenset[str]:
    """Return the texts in which ``value`` may appear; each of its longer lines counts as a value of its own."""
    found: set[str] = set()
    for part in {value, *(line for line in value.splitlines() if len(line) >= _MIN_LINE)}:
        data = part.encode()
        escaped = {json.dumps(part)[1:-1], json.dumps(part, ensure_ascii=False)[1:-1]}
        escaped |= {form.replace("/", "\\/") for form in escaped}
        escaped |= {json.dumps(form)[1:-1] for form in escaped}
        in_base64 = set(_base64_forms(data))
        in_url = {quote(form, safe=safe) for form in {part, *in_base64} for safe in ("", "/")} | {quote_plus(part)}
        in_url |= {re.sub("%[0-9A-F]{2}", lambda code: code.group().lower(), form) for form in in_url}
        found |= {part, data.hex(), data.hex().upper(), *escaped, *in_url, *in_base64}
    for body in compressed(value):
        printed = repr(body)[2:-1]
        found |= {printed, json.dumps(printed)[1:-1], body.hex(), body.hex().upper(), *_base64_forms(body)}
    return frozenset(form for form in found if len(form) >= MIN_LENGTH)


def compressed(value: str) -> frozenset[bytes]:
    """Return what stands between header and trailer where zlib compressed ``value`` alone, as it is or in a form."""
    data = value.encode()
    texts = {value, json.dumps(value), json.dumps(value)[1:-1], quote(value, safe=""), quote_plus(value)}
    forms_ = {*(text.encode() for text in texts), data.hex().encode(), data.hex().upper().encode()}
    for lead in range(3):
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            # Alone means with its own edges: cut after the bytes before it, and with and without its padding.
            whole = encode(b"\0" * lead + data)[4 if lead else 0 :]
            forms_ |= {whole, whole.rstrip(b"=")}
    return frozenset(_deflated(form, level) for form in forms_ for level in range(1, 10))


def _deflated(data: bytes, level: int) -> bytes:
    packer = zlib.compressobj(level, wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


def shape_of(pattern: str) -> Shape:
    """Return a search for ``pattern``, read and run by RE2: in time that grows with the text, whatever that holds.

    Python's own would let one hostile line hold up the whole program.

    Raises:
        ValueError: RE2 does not know what the pattern asks for, such as a look ahead or a back reference, or reads it
            otherwise than Python.
    """
    # Only where a manifest has a pattern: no other run pays for it.
    import re2

    below = _OPEN_BELOW.search(pattern)
    if below is not None:
        raise ValueError(f"{below.group()} has no lower bound")
    options = re2.Options()
    options.log_errors = False
    options.never_capture = True
    options.max_mem = _MOST_BYTES
    try:
        found: Shape = re2.compile(pattern, options)
    except re2.error as exc:
        said = exc.args[0]
        raise ValueError(said.decode(errors="replace") if isinstance(said, bytes) else str(said)) from exc
    return found


def _found(shape: Shape, text: str) -> Iterator[tuple[int, int]]:
    """Yield what ``shape`` matches in the lines of ``text``; the rest of a line that has too many matches as well."""
    for line in _LINE.finditer(text):
        content, looks = _HALF.sub("\N{REPLACEMENT CHARACTER}", line.group()), 0
        for found in shape.finditer(content):
            start, end = found.span()
            looks += len(content) - start
            if looks > _MOST_LOOKS:
                yield line.start() + start, line.end()
                break
            if start < end:
                yield line.start() + start, line.start() + end


def _merged(spans: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Yield stretches in their order, as one where they overlap or touch."""
    start = end = -1
    for first, last in sorted(spans):
        if first > end:
            if end >= 0:
                yield start, end
            start = first
        end = max(end, last)
    if end >= 0:
        yield start, end


def _search(pattern: AnyStr) -> re.Pattern[AnyStr] | None:
    return re.compile(pattern) if pattern else None


def _any_of(texts: Iterable[str]) -> str:
    """Return a pattern of the longest of ``texts`` that stands at a place.

    As a tree of what they begin with: trying each of some hundred texts at each place would be several times slower.
    """
    branches = []
    for _, group in groupby(sorted(set(texts)), key=lambda text: text[0]):
        begun = list(group)
        # What the first and the last share in this order, all between them share.
        first, last = begun[0], begun[-1]
        stem = first[
            : next((at for at, pair in enumerate(zip(first, last, strict=False)) if pair[0] != pair[1]), len(first))
        ]
        ends = [text[len(stem) :] for text in begun if text != stem]
        rest = f"(?:{_any_of(ends)}){'?' if stem in begun else ''}" if ends else ""
        branches.append(re.escape(stem) + rest)
    return "|".join(branches)


def _base64_forms(data: bytes) -> Iterator[str]:
    """Yield what stands in a base64 text whatever precedes and follows ``data`` in it."""
    for before in range(3):
        # The first characters mix bits of what precedes, a last one bits of what follows: leave them out.
        first = (0, 2, 3)[before]
        last = (before + len(data)) * 8 // 6
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            yield encode(b"\0" * before + data).decode()[first:last]
