"""Cuts a CSV file into blocks of whole records, so that each can be parsed, retried and resumed by itself.

A record ends at a line feed outside quotes, and quotes come in pairs (RFC 4180 §2), so counting them tells where a
record ends: the C speed of ``bytes.count`` is what makes this free. A quote inside an unquoted field breaks the
pairing; then no end is found behind it, and the line it stands in is cut off alone for the parser to judge.

Knows bytes only: no columns, no types. Everything here is UTF-8 text; `Text` turns other encodings into it.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from wellhead_csv_file.edition import Edition
from wellhead_sdk.errors import Data, Transient, counted

#: Parsed, such a block is about one batch of the wire's 4 MiB.
BLOCK_BYTES = 4 * 1024 * 1024
#: No end of a record in this many bytes: a quote is open that never closes, or this is not a CSV file.
MAX_RECORD_BYTES = 64 * 1024 * 1024
_READ_BYTES = 1024 * 1024
_BAD = "wellhead.mark_undecodable"


@dataclass(frozen=True, slots=True)
class Block:
    """Whole records and the offset behind them."""

    data: bytes
    end: int


class Text:
    """One edition of a file as UTF-8 text, read forward.

    Offsets count UTF-8 bytes, for a UTF-8 file those of the file itself. What is appended belongs to another edition.

    Bytes that are wrong in the file's encoding become bytes that are wrong in UTF-8: the records they stand in are
    found and set aside by the parser, not altered.
    """

    def __init__(self, path: Path, encoding: str, edition: Edition | None = None) -> None:
        """Open ``path``, for the given edition of it or for the one it is now.

        Raises:
            OSError: it cannot be opened.
            Transient: it holds that edition no longer.
        """
        self._decoder: codecs.IncrementalDecoder | None = None
        if codecs.lookup(encoding).name not in ("utf-8", "ascii"):
            self._decoder = codecs.getincrementaldecoder(encoding)(_BAD)
        self._path = path
        self._pending = b""
        self._file = path.open("rb", buffering=0)
        try:
            self.edition = edition or Edition.of(self._file.fileno())
            self.require(self.edition)
        except BaseException:
            self._file.close()
            raise
        self._left = self.edition.size

    def __enter__(self) -> Text:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def require(self, edition: Edition) -> None:
        """Refuse to go on where the file does not begin with ``edition``, or does so no longer.

        Raises:
            Transient: it is another file, or was written to other than at its end.
        """
        if difference := edition.difference(self._file.fileno()):
            raise changed(self._path, difference)

    def skip(self, offset: int) -> None:
        """Go to ``offset``; a file in another encoding is decoded up to there."""
        if self._decoder is None:
            self._file.seek(offset)
            self._left = max(0, self._left - offset)
            return
        while offset > 0 and (piece := self.read(min(offset, _READ_BYTES))):
            offset -= len(piece)

    def read(self, size: int) -> bytes:
        """Return up to ``size`` bytes; nothing at the end."""
        if self._decoder is None:
            return self._raw(size)
        while not self._pending and self._left > 0:
            raw = self._raw(size)
            # A block can end within a character; only the last may not.
            text = self._decoder.decode(raw, final=self._left == 0)
            self._pending = text.encode("utf-8", "surrogateescape")
        piece, self._pending = self._pending[:size], self._pending[size:]
        return piece

    def _raw(self, size: int) -> bytes:
        wanted = min(size, self._left)
        piece = self._file.read(wanted) or b""
        if wanted and not piece:
            # Taken for the end, all that stood behind it would be lost and nobody told.
            raise changed(self._path, f"it ends {counted(self._left, 'byte')} early")
        self._left -= len(piece)
        return piece


def changed(path: Path, difference: str) -> Transient:
    """Return the error that makes the run be tried anew, with the file as it then is."""
    return Transient(
        f"{path} has changed while it was in use: {difference}",
        reason="file_changed",
        hint="write a new file beside it and rename that into its place once it is whole; appending may go on",
    )


def blocks(text: Text, start: int, block_bytes: int = BLOCK_BYTES) -> Iterator[Block]:
    """Yield the records from offset ``start`` on, in blocks of about ``block_bytes``.

    Raises:
        Data: 64 MiB hold no line end.
    """
    offset, rest, wanted = start, b"", block_bytes
    while True:
        piece = text.read(wanted - len(rest))
        data = rest + piece
        if not data:
            return
        end = whole_records(data) if piece else _tail(data)
        if end == 0 and piece and len(data) < MAX_RECORD_BYTES:
            wanted, rest = max(wanted, 2 * len(data)), data
            continue
        # A quote without a partner stands in the first line: cut that off alone.
        end = end or _line(data, offset)
        offset += end
        yield Block(data[:end], offset)
        rest = data[end:]
        wanted = max(block_bytes, len(rest) + _READ_BYTES)


def whole_records(data: bytes) -> int:
    """Return where the last whole record of ``data`` ends, 0 where none does; ``data`` begins with a record."""
    end = data.rfind(b"\n") + 1
    quotes = data.count(b'"', 0, end)
    while end and quotes % 2:
        # The newest quote before here opened a field; no record ends between the two.
        opened = data.rfind(b'"', 0, end)
        before = data.rfind(b"\n", 0, opened) + 1
        quotes -= data.count(b'"', before, end)
        end = before
    return end


def middle(data: bytes) -> int:
    """Return an end of a record near the middle of ``data``, 0 where it holds but one record."""
    half = len(data) // 2
    quotes, counted = 0, 0
    end = data.find(b"\n", half) + 1
    while 0 < end < len(data):
        quotes += data.count(b'"', counted, end)
        counted = end
        if quotes % 2 == 0:
            return end
        end = data.find(b"\n", end) + 1
    return whole_records(data[:half])


def _tail(data: bytes) -> int:
    """Judge the end of the file, where a last record may lack its line end."""
    return len(data) if data.count(b'"') % 2 == 0 else whole_records(data)


def _line(data: bytes, offset: int) -> int:
    end = data.find(b"\n") + 1
    if end == 0 and len(data) >= MAX_RECORD_BYTES:
        raise Data(
            f"no line ends within {MAX_RECORD_BYTES} bytes from byte {offset} on",
            hint="check that the file is CSV, in the stated encoding, with LF or CRLF line ends; CR alone ends no line",
        )
    return end or len(data)


def _mark(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    # Half a surrogate: encoded with surrogateescape it is one byte that is never valid UTF-8.
    return "\udcff", error.end


codecs.register_error(_BAD, _mark)
