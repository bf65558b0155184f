"""The host's half of the conversation without any check: for tests of the connectors that are fixtures.

The real half, in `wellhead.session`, refuses what it does not like; here everything is let through and kept.
"""

from __future__ import annotations

import os
import queue
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pyarrow as pa

from tests import parts, warm
from wellhead_sdk.wire import arrow, service
from wellhead_sdk.wire import messages as m

#: Long enough for a busy machine.
DEADLINE_S = 30.0
PLENTY = 1 << 40


@dataclass
class Heard:
    """Everything one Emit said, in order."""

    frames: list[m.Frame] = field(default_factory=list)
    error: grpc.StatusCode | None = None

    def of(self, kind: type[Any]) -> list[Any]:
        """Return the frames of one kind."""
        return [frame for frame in self.frames if isinstance(frame, kind)]

    def table(self) -> pa.Table:
        """Return all rows, whatever schema they came in, as one table."""
        batches = [pa.Table.from_batches([arrow.from_ipc(frame.arrow_ipc)]) for frame in self.of(m.BatchFrame)]
        return pa.concat_tables(batches, promote_options="default")

    @property
    def kinds(self) -> list[str]:
        """Return the names of the frames, for comparing orders."""
        return [type(frame).__name__.removesuffix("Frame").lower() for frame in self.frames]


class Host:
    """One dialled connector."""

    def __init__(self, socket: Path) -> None:
        self._channel = grpc.insecure_channel(
            f"unix:{socket}",
            options=[("grpc.max_receive_message_length", -1), ("grpc.use_local_subchannel_pool", 1)],
        )

    def close(self) -> None:
        """Hang up."""
        self._channel.close()

    def _ask(self, method: service.Method[Any, Any], request: Any) -> Any:
        call = service.stub(self._channel, method)
        # grpc's own way of waiting until a channel is ready looks five times a second, and as long at the end.
        answer = call(method.encode_request(request), timeout=DEADLINE_S, wait_for_ready=True)
        return method.decode_response(answer)

    def describe(self) -> m.Description:
        """Shake hands."""
        return self._ask(service.DESCRIBE, m.Hello(m.PROTOCOL_VERSIONS))  # type: ignore[no-any-return]

    def authenticate(self, config_json: str, **secrets: str) -> m.Identity:
        """Deliver config and secrets."""
        lent = tuple(m.Secret(name, value) for name, value in secrets.items())
        return self._ask(service.AUTHENTICATE, m.Credentials(config_json, lent))  # type: ignore[no-any-return]

    def discover(self, *names: str) -> list[m.OfferedStream]:
        """List the offered streams."""
        method = service.DISCOVER
        answers = service.stub(self._channel, method)(method.encode_request(names), timeout=DEADLINE_S)
        return [method.decode_response(answer) for answer in answers]

    def plan(self, order: m.ReadOrder) -> m.ReadPlan:
        """Open a read."""
        return self._ask(service.READ, order)  # type: ignore[no-any-return]

    def checkpoint(self, committed: m.Committed) -> None:
        """Say that everything so far is committed."""
        self._ask(service.CHECKPOINT, committed)

    def emit(self, read_id: str, unit: str = "all", *, credit: int = PLENTY, stop: bool = False) -> Heard:
        """Hear one unit to its end, answering `done` by hanging up."""
        method = service.EMIT
        controls: queue.Queue[m.Control | None] = queue.Queue()
        controls.put(m.Open(read_id, unit, credit))
        if stop:
            controls.put(m.Stop(m.StopMode.DRAIN, 5.0))
        heard = Heard()

        def asked() -> Iterator[bytes]:
            while (control := controls.get()) is not None:
                yield method.encode_request(control)

        try:
            for answer in service.stub(self._channel, method)(asked(), timeout=DEADLINE_S):
                frame = method.decode_response(answer)
                heard.frames.append(frame)
                if isinstance(frame, m.DoneFrame | m.Failure):
                    controls.put(None)
        except grpc.RpcError as exc:
            heard.error = exc.code()
        finally:
            controls.put(None)
        return heard


@contextmanager
def started(package: str, folder: Path, manifest: Path) -> Iterator[Host]:
    """Start ``python -m package`` as a process and dial it; its socket lies in ``folder``, and it ends by SIGKILL."""
    socket = folder / "c.sock"
    env = {**os.environ, "WELLHEAD_SOCKET": str(socket), "WELLHEAD_MANIFEST": str(manifest)}
    output = folder / "output"
    child = warm.start(package, env=env, folder=folder, stdout=output, stderr=output)
    try:
        parts.wait_until(lambda: socket.exists() or not child.is_alive(), what=f"{package} listens")
        host = Host(socket)
        try:
            yield host
        finally:
            host.close()
    finally:
        child.kill()
        child.join()
        child.close()
