"""One unit's Emit: verified frames in, credit and stops out.

    gRPC ──▶ reader thread: decode, verify ──▶ bounded queue ──▶ poll(), in the unit's own thread
    gRPC ◀── requests queue ◀── grant(), stop(), finish(), from any thread

Verifying overlaps with what the unit's thread does with the batch before: both spend their time in code that releases
the interpreter's lock. Memory is bounded by credit for records and by the queue for everything else.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any, Final

import grpc

from wellhead.clock import Clock
from wellhead.errors import Code, FatalError, TransientError, WellheadError
from wellhead.session import failures
from wellhead.session.verify import NO_CREDIT, TOO_LARGE, Batch, Schema, Verified, Verifier
from wellhead_sdk.wire import codec
from wellhead_sdk.wire import messages as m

UNDECODABLE = Code("WH-SES-005", "A message of the connector cannot be decoded.")
NO_DONE = Code("WH-SES-025", "A unit ended without saying done.")
SILENT = Code("WH-SES-026", "The connector sent nothing for too long though it had credit.")
NOT_DRAINED = Code("WH-SES-027", "A unit asked to stop did not end in time.")
READER_DIED = Code("WH-SES-029", "The host could not go on reading a unit.")

__all__ = ["Batch", "Schema", "UnitStream", "Verified"]

#: Frames waiting for the unit's thread.
_QUEUED: Final = 8
_TICK_S: Final = 0.2
#: A log line longer than this is cut, and so is a field of it; no more fields than this are kept.
_LOG_TEXT: Final = 8 * 1024
_LOG_FIELDS: Final = 32
_BLAME: Final = "this breaks the protocol: report it to the connector's owner"


class _End:
    """The connector ended the call in order."""


class UnitStream:
    """An open Emit; a context manager that cancels what was not finished. `poll` belongs to one thread."""

    def __init__(
        self,
        call: Callable[[Iterator[bytes]], Any],
        opening: m.Open,
        stream: str,
        *,
        clock: Clock,
        silence_s: float,
        finish_s: float,
        on_log: Callable[[m.LogFrame], None],
    ) -> None:
        """Open the call.

        Args:
            call: the stub of Emit, on bytes.
            opening: what the host says first.
            stream: the stream every frame must name.
            clock: for silence and the time of receipt.
            silence_s: how long no frame may come while there is credit and no Checkpoint is unanswered.
            finish_s: how long the connector may take to end the call after its last word.
            on_log: takes the connector's log lines, from the reader thread.
        """
        self._clock = clock
        self._silence_s = silence_s
        self._finish_s = finish_s
        self._on_log = on_log
        self._verifier = Verifier(stream)
        self._frames: queue.Queue[Verified | _End | WellheadError] = queue.Queue(_QUEUED)
        self._requests: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._credit = opening.credit
        self._unanswered = 0
        self._quiet_since = clock.monotonic()
        self._waits_until: datetime | None = None
        self._must_end_at: float | None = None
        self._left = threading.Event()
        self._is_over = False
        self._requests.put(codec.encode_control(opening))
        self._call = call(iter(self._requests.get, None))
        self._reader = threading.Thread(target=self._read, name=f"emit-{opening.unit}", daemon=True)
        self._reader.start()

    def __enter__(self) -> UnitStream:
        return self

    def __exit__(self, *exc: object) -> None:
        self._left.set()
        self._requests.put(None)
        self._call.cancel()
        self._reader.join()

    # the unit's thread

    def __iter__(self) -> Iterator[Verified]:
        """Yield frames up to and including done."""
        while True:
            frame = self.poll(_TICK_S)
            if frame is not None:
                yield frame
            if isinstance(frame, m.DoneFrame):
                return

    def poll(self, timeout_s: float) -> Verified | None:
        """Return the next frame, or None where none came in ``timeout_s``.

        Raises:
            FatalError: a frame breaks the protocol, or the call ended without done.
            TransientError: the connector was silent for too long, did not drain in time, or is gone.
            WellheadError: the failure the connector reports.
        """
        try:
            frame = self._frames.get(timeout=timeout_s)
        except queue.Empty:
            self._look_at_clock()
            return None
        with self._lock:
            self._quiet_since = self._clock.monotonic()
        match frame:
            case WellheadError():
                self._is_over = True
                raise frame
            case _End():
                self._is_over = True
                raise FatalError("the unit ended without done", code=NO_DONE, hint=_BLAME)
            case m.WaitFrame():
                self._waits_until = frame.until
        if not isinstance(frame, m.DoneFrame):
            # A connector that goes on talking must not be able to outlast the wish to stop.
            self._require_end(self._clock.monotonic())
        return frame

    def finish(self) -> None:
        """Half-close after the last Checkpoint was answered, and wait for the connector to end the call.

        Raises:
            FatalError: something came after done.
            TransientError: the connector does not end the call, or is gone.
        """
        self._requests.put(None)
        deadline = self._clock.monotonic() + self._finish_s
        while True:
            try:
                frame = self._frames.get(timeout=_TICK_S)
            except queue.Empty:
                if self._clock.monotonic() >= deadline:
                    raise TransientError(
                        f"the connector kept the unit open for {self._finish_s:g} s after its end", code=NOT_DRAINED
                    ) from None
                continue
            match frame:
                case WellheadError():
                    raise frame
                case _End():
                    return

    def _look_at_clock(self) -> None:
        now = self._clock.monotonic()
        self._require_end(now)
        with self._lock:
            may_be_silent = self._credit <= 0 or self._unanswered > 0 or self._is_waiting()
            if may_be_silent or self._verifier.is_done:
                self._quiet_since = now
            silent_s = now - self._quiet_since
        if silent_s > self._silence_s:
            raise TransientError(
                f"nothing came for {silent_s:.0f} s",
                code=SILENT,
                hint="raise timeouts.silence in the manifest if the source is this slow, or call out.wait()",
            )

    def _require_end(self, now: float) -> None:
        if self._must_end_at is not None and now >= self._must_end_at:
            raise TransientError("the unit was asked to stop and did not end in time", code=NOT_DRAINED)

    def _is_waiting(self) -> bool:
        return self._waits_until is not None and self._clock.now() < self._waits_until

    # any thread

    def grant(self, size_bytes: int) -> None:
        """Give back credit for payload that is in the segment or set aside."""
        with self._lock:
            if self._credit <= 0 < self._credit + size_bytes:
                self._quiet_since = self._clock.monotonic()
            self._credit += size_bytes
        if size_bytes > 0 and not self._left.is_set():
            self._requests.put(codec.encode_control(m.Credit(size_bytes)))

    def stop(self, mode: m.StopMode, deadline_s: float) -> None:
        """Ask the unit to end; `poll` raises where it has not by the deadline."""
        self._must_end_at = self._clock.monotonic() + deadline_s
        self._requests.put(codec.encode_control(m.Stop(mode, deadline_s)))

    def asking(self, change: int) -> None:
        """Note that a Checkpoint was sent (1) or answered (-1): silence does not count in between."""
        with self._lock:
            self._unanswered += change
            self._quiet_since = self._clock.monotonic()

    # the reader thread

    def _read(self) -> None:
        try:
            for data in self._call:
                frame = self._verified(data)
                if frame is not None:
                    self._hand_over(frame)
        except grpc.RpcError as exc:
            self._hand_over(failures.error_of_rpc(exc, "Emit", self._clock))
        except WellheadError as exc:
            self._call.cancel()
            self._hand_over(exc)
        except BaseException as exc:  # noqa: BLE001 - whoever waits would take a dead reader for a silent connector
            self._call.cancel()
            died = FatalError(
                f"{type(exc).__name__} while the unit was read",
                code=READER_DIED,
                hint="this is a defect of Wellhead: report it with the run's log",
            )
            died.__cause__ = exc
            self._hand_over(died)
        else:
            self._hand_over(_End())

    def _verified(self, data: bytes) -> Verified | None:
        try:
            frame = codec.decode_frame(data)
        except codec.DecodeError as exc:
            raise FatalError(str(exc), code=UNDECODABLE, hint=_BLAME) from exc
        if self._verifier.is_done:
            self._verifier.after_done(frame)
        if not isinstance(frame, m.BatchFrame) and len(data) > m.MAX_CONTROL_BYTES:
            # A state that is too large has a code of its own.
            if isinstance(frame, m.CheckpointFrame):
                self._verifier.checkpoint(frame)
            raise FatalError(f"{type(frame).__name__} has {len(data)} bytes", code=TOO_LARGE, hint=_BLAME)
        self._spend(m.cost_of(frame))
        match frame:
            case m.SchemaFrame():
                return self._verifier.schema(frame)
            case m.BatchFrame():
                return self._verifier.batch(frame, self._clock.now())
            case m.RejectedFrame():
                return self._verifier.rejected(frame)
            case m.CheckpointFrame():
                return self._verifier.checkpoint(frame)
            case m.DoneFrame():
                return self._verifier.done(frame)
            case m.LogFrame():
                self._on_log(_shortened(frame))
                with self._lock:
                    # It never reaches the unit's thread, and is a sign of life all the same.
                    self._quiet_since = self._clock.monotonic()
                return None
            case m.Failure():
                raise failures.error_of(frame, self._clock)
            case _:
                return frame

    def _spend(self, cost: int) -> None:
        if not cost:
            return
        with self._lock:
            if self._credit <= 0:
                raise FatalError(f"{cost} bytes came while no credit was left", code=NO_CREDIT, hint=_BLAME)
            self._credit -= cost

    def _hand_over(self, frame: Verified | _End | WellheadError) -> None:
        while not self._left.is_set():
            try:
                self._frames.put(frame, timeout=_TICK_S)
            except queue.Full:
                continue
            return


def _shortened(frame: m.LogFrame) -> m.LogFrame:
    fields = tuple((name[:128], value[:_LOG_TEXT]) for name, value in frame.fields[:_LOG_FIELDS])
    return m.LogFrame(frame.level, frame.message[:_LOG_TEXT], fields)
