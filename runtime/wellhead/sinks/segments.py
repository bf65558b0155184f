"""Segments in a local folder: staged beside the sink, published by rename, exchanged by generation.

    bronze/<tenant>/<project>/<connection>/<stream>/                  the table: what readers see, whole files only
        part-{unit}-{generation}-{epoch}-{commit_no}.parquet
    bronze.staging/sink-id                                            proves that two hosts share this folder
    bronze.staging/<tenant>/<project>/<connection>/<stream>/
        part-….parquet.seg                                            being written, or committed and not yet published
        g{n}/part-….parquet                                           generation n of a replaced table, until complete
        old-{n}/part-….parquet                                        what generation n has replaced
        publish.lock                                                  held by the one publisher of the table

Staging is outside the table because readers that glob do not skip hidden names, and beside it because a rename does
not cross filesystems. The order of every publish: file durable, its folder durable, commit (elsewhere), rename,
folders durable.

Arrow is imported where rows are encoded: recovering and publishing need none of it, and come before the connector is
started, where every tenth of a second is waited for.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import hashlib
import os
import re
import secrets
import shutil
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib.parse import quote

import google_crc32c

from wellhead.errors import Code, ConfigurationError, FatalError, TransientError, WellheadError
from wellhead.ids import ConnectionKey, StreamKey, UnitKey
from wellhead.sinks.base import Segment, SegmentKey

if TYPE_CHECKING:
    import pyarrow as pa

DISK_FULL = Code("WH-SNK-010", "The disk of the sink is full.")
NOT_WRITABLE = Code("WH-SNK-011", "The sink cannot be written.")
MOUNT_POINT = Code("WH-SNK-012", "The sink's folder is a mount point.")
NO_EXCHANGE = Code("WH-SNK-013", "The filesystem cannot exchange two folders in one step.")
SEGMENT_MISSING = Code("WH-SNK-014", "A committed segment's file is missing.")
SEGMENT_DIFFERS = Code("WH-SNK-015", "A file differs from the segment that was committed.")
GENERATION_MISSING = Code("WH-SNK-016", "A complete generation's files are missing.")
PUBLISHER_BUSY = Code("WH-SNK-017", "Another process is publishing the table.")
NOT_ENCODABLE = Code("WH-SNK-018", "The file format cannot hold a column.")
NO_RENAME = Code("WH-SNK-019", "The filesystem cannot rename a file without replacing another.")

#: Bytes a writer holds unencoded: two batches of the usual size, so that encoding overlaps receiving.
QUEUED_BYTES = 8 * 1024 * 1024
STAGED = ".seg"

_LOCK_WAIT_S = 60.0
_NAME_BYTES = 60
_PART = re.compile(r"part-(?P<unit>.+)-(?P<generation>\d+)-(?P<epoch>\d+)-(?P<commit_no>\d+)(?P<suffix>\.[a-z]+)")


@dataclass(frozen=True, slots=True)
class Part:
    """What a file's name says about it."""

    unit: UnitKey
    generation: int
    epoch: int
    commit_no: int


def part_of(name: str) -> Part | None:
    """Read a segment's file name, staged or published; None for any other file."""
    found = _PART.fullmatch(name.removesuffix(STAGED))
    if found is None:
        return None
    return Part(UnitKey(found["unit"]), int(found["generation"]), int(found["epoch"]), int(found["commit_no"]))


def folder_name(name: str) -> str:
    """Encode a name as one path segment: percent-encoded outside ``[A-Za-z0-9._-]``, at most 60 bytes.

    Longer names are cut and end in ``~`` and 8 hex digits of their SHA-256; a leading dot is encoded, so that no name
    is hidden or leads upwards.
    """
    encoded = quote(name, safe="").replace("~", "%7E")
    if encoded.startswith("."):
        encoded = "%2E" + encoded[1:]
    if len(encoded) <= _NAME_BYTES:
        return encoded
    cut = re.sub(r"%[0-9A-F]?$", "", encoded[: _NAME_BYTES - 9])
    return f"{cut}~{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def crc32c(path: Path) -> int:
    """Return the CRC-32C of a file's bytes."""
    total = 0
    with path.open("rb") as file:
        while chunk := file.read(1024 * 1024):
            total = google_crc32c.extend(total, chunk)
    return total


class Encoder(Protocol):
    """Turns batches into the bytes of one file."""

    def write(self, batch: pa.RecordBatch) -> None:
        """Add rows."""
        ...

    def close(self, footer: Mapping[str, str]) -> None:
        """Write what is held back and the end of the file."""
        ...

    def discard(self) -> None:
        """Let go of the file without caring for its content."""
        ...


class Writer:
    """An open segment: one file, one thread that encodes, and a bound on the bytes that wait for it."""

    def __init__(self, folder: Folder, key: SegmentKey, schema: pa.Schema, queued_bytes: int) -> None:
        """Open the file; see `Folder.open_segment`."""
        self._folder = folder
        self._key = key
        self._path = folder.staged(key)
        self._limit = queued_bytes
        self._queued = 0
        self._room = threading.Condition()
        self._pending: deque[Future[None]] = deque()
        self._failure: WellheadError | None = None
        self._rows = 0
        self._min: int | None = None
        self._max: int | None = None
        self._is_open = True
        with _translated(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with _encoding(self._path):
                self._encoder = folder.encoder(self._path, schema)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"segment-{key.unit}")

    def write(self, batch: pa.RecordBatch, payload_bytes: int, on_written: Callable[[int], None]) -> None:
        """See `base.SegmentWriter`. A batch larger than the bound is taken when nothing else waits."""
        with self._room:
            self._room.wait_for(lambda: self._queued == 0 or self._queued + payload_bytes <= self._limit)
            self._queued += payload_bytes
        self._raise_failure(wait=False)
        self._pending.append(self._thread.submit(self._encode, batch, payload_bytes, on_written))

    def finish(self, footer: Mapping[str, str]) -> Segment:
        """See `base.SegmentWriter`; the segment is abandoned where this raises."""
        try:
            self._raise_failure(wait=True)
            self._thread.shutdown(wait=True)
            with _translated(self._path):
                with _encoding(self._path):
                    self._encoder.close(footer)
                _sync(self._path)
                _sync_made(self._path.parent, self._folder.staging)
                size, checksum = self._path.stat().st_size, crc32c(self._path)
        except BaseException:
            self.abandon()
            raise
        self._is_open = False
        _release_buffers()
        name = self._folder.published_name(self._key)
        return Segment(self._key, name, size, checksum, self._rows, self._min, self._max)

    def abandon(self) -> None:
        """See `base.SegmentWriter`."""
        self._thread.shutdown(wait=True, cancel_futures=True)
        if self._is_open:
            self._is_open = False
            self._encoder.discard()
            self._path.unlink(missing_ok=True)

    def _encode(self, batch: pa.RecordBatch, payload_bytes: int, on_written: Callable[[int], None]) -> None:
        try:
            if self._failure is None:
                with _translated(self._path), _encoding(self._path):
                    self._encoder.write(batch)
                self._count(batch)
        except WellheadError as failure:
            self._failure = failure
        finally:
            with self._room:
                self._queued -= payload_bytes
                self._room.notify_all()
        on_written(payload_bytes)

    def _count(self, batch: pa.RecordBatch) -> None:
        self._rows += batch.num_rows
        if batch.num_rows:
            sequence = batch.column("_sequence")
            self._min = sequence[0].as_py() if self._min is None else self._min
            self._max = sequence[-1].as_py()

    def _raise_failure(self, *, wait: bool) -> None:
        # Asking each future raises what the thread met and did not expect; what it expected is in _failure.
        while self._pending and (wait or self._pending[0].done()):
            self._pending.popleft().result()
        if self._failure is not None:
            raise self._failure


class Folder(ABC):
    """A sink in a local folder; subclasses say how a file is encoded."""

    #: File name's end, with its dot.
    suffix: str

    def __init__(self, path: Path, *, queued_bytes: int = QUEUED_BYTES) -> None:
        """Make the folder and its staging where they are missing.

        Raises:
            ConfigurationError: it is a mount point (WH-SNK-012) or cannot be made (WH-SNK-011).
        """
        self.path = path.absolute()
        self.staging = self.path.with_name(self.path.name + ".staging")
        self._queued_bytes = queued_bytes
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self.staging.mkdir(parents=True, exist_ok=True)
            shared = self.path.stat().st_dev == self.staging.stat().st_dev
        except OSError as failure:
            raise ConfigurationError(
                f"cannot make the sink's folder {self.path}: {failure.strerror}",
                code=NOT_WRITABLE,
                hint="set sink.path to a folder this user may write",
            ) from failure
        # A bind mount may show the same device number, and a rename across it fails all the same.
        if not shared or self.path.is_mount() or self.staging.is_mount():
            raise ConfigurationError(
                f"the sink's folder {self.path} is a mount point, so files staged beside it cannot be renamed into it",
                code=MOUNT_POINT,
                hint=f"set sink.path to a folder inside it, such as {self.path / 'bronze'}",
            )

    @abstractmethod
    def encoder(self, path: Path, schema: pa.Schema) -> Encoder:
        """Open ``path`` for writing rows of ``schema``."""

    def identity(self) -> str:
        """See `base.Sink`; made at the first call, by the call that publishing needs: who lacks it is told here."""
        marker = self.staging / "sink-id"
        if not marker.exists():
            fresh = self.staging / f"sink-id.{secrets.token_hex(8)}"
            fresh.write_text(secrets.token_hex(16))
            _sync(fresh)
            # Renaming fails where another host was first, and never shows half a file.
            try:
                with contextlib.suppress(FileExistsError):
                    _move(fresh, marker)
            finally:
                fresh.unlink(missing_ok=True)
            _sync(self.staging)
        return marker.read_text()

    def check_replace(self) -> None:
        """See `base.Sink`; tries the call on two folders of its own."""
        trial = self.staging / f"trial-{secrets.token_hex(8)}"
        try:
            (trial / "a").mkdir(parents=True)
            (trial / "b").mkdir()
            rename(trial / "a", trial / "b", _EXCHANGE)
        except OSError as failure:
            raise ConfigurationError(
                f"the filesystem of {self.path} cannot exchange two folders in one step: {failure.strerror}",
                code=NO_EXCHANGE,
                hint="put the sink on ext4, XFS, Btrfs or tmpfs, or let the stream `write: append`",
            ) from failure
        finally:
            shutil.rmtree(trial, ignore_errors=True)

    def open_segment(self, key: SegmentKey, schema: pa.Schema) -> Writer:
        """See `base.Sink`."""
        return Writer(self, key, schema, self._queued_bytes)

    def publish(self, segment: Segment) -> None:
        """See `base.Sink`."""
        stream = segment.key.stream
        # By its own name: a folder whose format was changed holds what was committed in the former one.
        staged, name = self.staging / (segment.name + STAGED), Path(segment.name).name
        home = self.table(stream) if segment.key.write == "append" else self._generation(stream, segment.key.generation)
        with self._publisher(stream), _translated(staged):
            # A replaced table may have taken its place already: then the file is there and not in the generation.
            for place in (home / name, self.table(stream) / name):
                if place.exists():
                    self._require_same(place, segment)
                    staged.unlink(missing_ok=True)
                    return
            if not staged.exists():
                raise FatalError(
                    f"the committed segment {segment.name} is neither staged nor published",
                    code=SEGMENT_MISSING,
                    hint=f"was {self.staging} emptied or moved? `wellhead state reset` reads the stream again",
                )
            self._require_same(staged, segment)
            home.mkdir(parents=True, exist_ok=True)
            _move(staged, home / name)
            _sync_made(home, self.path if segment.key.write == "append" else self.staging)
            _sync(staged.parent)

    def swap(self, stream: StreamKey, generation: int, *, keep: int) -> bool:
        """See `base.Sink`.

        Looks before it acts: repeating an exchange would bring the old generation back.
        """
        table, staged = self.table(stream), self._generation(stream, generation)
        with self._publisher(stream), _translated(table):
            is_due = not self._holds(table, generation)
            if is_due:
                self._exchange(table, staged, stream, generation)
            if staged.exists():
                # What is under the generation's name now is what it replaced.
                rename(staged, staged.with_name(f"old-{generation}"), _NOREPLACE)
                _sync(staged.parent)
            self._prune(staged.parent, keep)
        return is_due

    def staged_generations(self, stream: StreamKey) -> list[int]:
        """See `base.Sink`."""
        folders = self._staging_of(stream).glob("g*")
        return sorted(int(folder.name[1:]) for folder in folders if folder.name[1:].isdecimal())

    def discard_generation(self, stream: StreamKey, generation: int) -> None:
        """See `base.Sink`; leaves alone what is the table already."""
        with self._publisher(stream):
            if self._holds(self.table(stream), generation):
                return
            shutil.rmtree(self._generation(stream, generation), ignore_errors=True)
            for path in self._staged_files(self._staging_of(stream)):
                part = part_of(path.name)
                if part is not None and part.generation == generation:
                    path.unlink(missing_ok=True)

    def sweep(
        self, connection: ConnectionKey, *, committed: Collection[str], epoch: int, older_than_s: float = 3600.0
    ) -> list[str]:
        """See `base.Sink`; a file's age is the time since it was last written."""
        gone: list[str] = []
        oldest = time.time() - older_than_s
        root = self.staging.joinpath(*_folders(connection))
        for path in sorted(root.rglob(f"*{STAGED}")):
            part = part_of(path.name)
            name = str(path.relative_to(self.staging)).removesuffix(STAGED)
            if part is None or name in committed or part.epoch >= epoch or path.stat().st_mtime > oldest:
                continue
            path.unlink(missing_ok=True)
            gone.append(name)
        return gone

    def table(self, stream: StreamKey) -> Path:
        """See `base.Sink`."""
        return self.path.joinpath(*_folders(stream.connection), folder_name(stream.stream))

    def published_files(self, stream: StreamKey) -> list[str]:
        """See `base.Sink`."""
        table = self.table(stream)
        if not table.is_dir():
            return []
        return sorted(str(path.relative_to(self.path)) for path in table.iterdir() if part_of(path.name) is not None)

    def published_name(self, key: SegmentKey) -> str:
        """Return the name under which a segment is published, relative to the sink."""
        name = f"part-{key.unit}-{key.generation}-{key.epoch}-{key.commit_no}{self.suffix}"
        return str((self.table(key.stream) / name).relative_to(self.path))

    def staged(self, key: SegmentKey) -> Path:
        """Return where a segment's file is until it is published."""
        return self.staging / (self.published_name(key) + STAGED)

    def _staging_of(self, stream: StreamKey) -> Path:
        return self.staging / self.table(stream).relative_to(self.path)

    def _generation(self, stream: StreamKey, generation: int) -> Path:
        return self._staging_of(stream) / f"g{generation}"

    def _staged_files(self, folder: Path) -> list[Path]:
        return sorted(folder.glob(f"*{STAGED}")) if folder.is_dir() else []

    def _holds(self, table: Path, generation: int) -> bool:
        if not table.is_dir():
            return False
        parts = (part_of(path.name) for path in table.iterdir())
        return any(part is not None and part.generation == generation for part in parts)

    def _exchange(self, table: Path, staged: Path, stream: StreamKey, generation: int) -> None:
        if not self._holds(staged, generation):
            raise FatalError(
                f"generation {generation} of {stream} is complete, but neither staged nor the table",
                code=GENERATION_MISSING,
                hint=f"was {self.staging} emptied or moved? `wellhead state reset` reads the stream again",
            )
        table.parent.mkdir(parents=True, exist_ok=True)
        rename(staged, table, _EXCHANGE if table.exists() else _NOREPLACE)
        _sync_made(table.parent, self.path)
        _sync(staged.parent)

    def _prune(self, folder: Path, keep: int) -> None:
        old = sorted(folder.glob("old-*"), key=lambda path: int(path.name.removeprefix("old-")), reverse=True)
        for path in old[keep:]:
            shutil.rmtree(path)

    def _require_same(self, path: Path, segment: Segment) -> None:
        size = path.stat().st_size
        if size != segment.size_bytes or crc32c(path) != segment.crc32c:
            raise FatalError(
                f"{path} has {size} bytes and is not the segment that was committed ({segment.size_bytes} bytes, "
                f"CRC-32C {segment.crc32c:08x})",
                code=SEGMENT_DIFFERS,
                hint="the file was changed or its disk lost writes; nothing was published over it",
            )

    @contextmanager
    def _publisher(self, stream: StreamKey) -> Iterator[None]:
        """Be the one publisher of a table; the lock falls with its process."""
        folder = self._staging_of(stream)
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / "publish.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            deadline = time.monotonic() + _LOCK_WAIT_S
            while not _locked(descriptor):
                if time.monotonic() > deadline:
                    raise TransientError(
                        f"another process has been publishing {stream} for {_LOCK_WAIT_S:.0f} s",
                        code=PUBLISHER_BUSY,
                        hint="see whether a stopped wellhead process still holds the table",
                    )
                time.sleep(0.02)
            yield
        finally:
            os.close(descriptor)


_NOREPLACE = 1
_EXCHANGE = 2
_AT_FDCWD = -100
_libc = ctypes.CDLL(None, use_errno=True)


def rename(source: Path, target: Path, flags: int) -> None:
    """Call renameat2(2), which Python does not offer: refuse an existing target, or exchange two names in one step."""
    if _libc.renameat2(_AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target), ctypes.c_uint(flags)) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(source), None, str(target))


def _move(source: Path, target: Path) -> None:
    try:
        rename(source, target, _NOREPLACE)
    except OSError as failure:
        if failure.errno not in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
            raise
        raise ConfigurationError(
            f"the filesystem of {target.parent} cannot rename a file without replacing another: {failure.strerror}",
            code=NO_RENAME,
            hint="put the sink on ext4, XFS, Btrfs or tmpfs: NFS, for one, has no such call",
        ) from failure


def _folders(connection: ConnectionKey) -> tuple[str, str, str]:
    return folder_name(connection.tenant), folder_name(connection.project), folder_name(connection.name)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_made(folder: Path, root: Path) -> None:
    """Make a folder's entries durable, and those of the folders above it that may be new."""
    while True:
        _sync(folder)
        if folder == root:
            return
        folder = folder.parent


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as failure:
        if failure.errno in (errno.ENOSPC, errno.EDQUOT):
            raise TransientError(
                f"the disk of {path.parent} is full",
                code=DISK_FULL,
                hint="free space; the next run goes on from the last commit",
            ) from failure
        raise TransientError(
            f"cannot write {path}: {failure.strerror or failure}",
            code=NOT_WRITABLE,
            hint="check the disk and the folder's permissions",
        ) from failure


@contextmanager
def _encoding(path: Path) -> Iterator[None]:
    """Turn Arrow's errors into ours; what the disk refuses passes."""
    import pyarrow as pa

    try:
        yield
    except pa.ArrowNotImplementedError as failure:
        raise ConfigurationError(
            f"the file format cannot hold a column of this stream: {failure}",
            code=NOT_ENCODABLE,
            hint="leave the column out with `columns`, or let the connector offer it as text",
        ) from failure
    except pa.ArrowException as failure:
        raise FatalError(
            f"rows cannot be encoded for {path.name}: {failure}",
            code=NOT_ENCODABLE,
            hint="this is a defect of Wellhead or of the connector; nothing of this segment is committed",
        ) from failure


def _release_buffers() -> None:
    """Give the encoder's buffers back to the system, so that they do not add to the next segment's peak."""
    import pyarrow as pa

    pa.default_memory_pool().release_unused()
