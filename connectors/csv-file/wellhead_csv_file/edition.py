"""What tells one edition of a file from another, and what lets a file grow behind one that is being read.

Appending leaves all that was there as it is; anything else that is done to a file makes offsets and columns that were
learned from it worthless. The bytes at both ends tell the two apart for the price of two small reads. What escapes
them is a file rewritten in place, no shorter, with the very same bytes at both ends.

Knows open files only: no paths, no CSV.
"""

from __future__ import annotations

import os
import zlib
from dataclasses import dataclass

#: Of each end; a header is rarely longer, and the last few rows of two exports are rarely the same.
_END_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Edition:
    """A file at one moment; ``head`` and ``tail`` are checksums of its first and last bytes, which stay in it."""

    size: int
    mtime_ns: int
    inode: int
    head: int
    tail: int

    @classmethod
    def of(cls, file: int) -> Edition:
        """Return the edition that the open ``file`` is now."""
        status = os.fstat(file)
        return cls(status.st_size, status.st_mtime_ns, status.st_ino, *_ends(file, status.st_size))

    def difference(self, file: int) -> str:
        """Say what has become of this edition in the open ``file``; nothing where it at most grew behind its end."""
        status = os.fstat(file)
        if status.st_ino != self.inode:
            return "another file stands in its place"
        if status.st_size < self.size:
            return f"it has shrunk from {self.size:,} to {status.st_size:,} bytes"
        if status.st_size == self.size and status.st_mtime_ns != self.mtime_ns:
            return "it was written to, and has not grown"
        if _ends(file, self.size) != (self.head, self.tail):
            return "what stood in it was overwritten"
        return ""


def _ends(file: int, size: int) -> tuple[int, int]:
    wanted = min(size, _END_BYTES)
    return zlib.crc32(os.pread(file, wanted, 0)), zlib.crc32(os.pread(file, wanted, size - wanted))
