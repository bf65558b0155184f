"""The conversation, held below the SDK: honest everywhere but where the mode steps in.

A mode is a set of replacements, one per place of a connector's life; what it leaves out is done honestly. gRPC is given
bytes, so a mode may also send what no message could say.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from wellhead_hostile import frames
from wellhead_hostile.frames import Said, Talk
from wellhead_sdk.wire import messages as m
from wellhead_sdk.wire import service

SOCKET = Path(os.environ.get("WELLHEAD_SOCKET", "/run/wellhead/c.sock"))
MANIFEST = Path(os.environ.get("WELLHEAD_MANIFEST", "/wellhead/manifest.yaml"))

Socket = Path


@dataclass(frozen=True, slots=True)
class Mode:
    """One attack: what it does instead of the honest thing, and where."""

    start: Callable[[Socket], None] | None = None
    """Before anything is served; may never come back."""
    serving: Callable[[Socket], None] | None = None
    """Once the socket listens."""
    describe: Callable[[m.Description], m.Description] | None = None
    authenticate: Callable[[m.Credentials], m.Identity] | None = None
    discover: Callable[[], Iterator[m.OfferedStream]] | None = None
    plan: Callable[[m.ReadPlan], m.ReadPlan] | None = None
    emit: Callable[[Talk], Iterator[Said]] | None = None
    checkpoint: Callable[[m.Committed], None] | None = None
    terminated: Callable[[], None] | None = None
    """On SIGTERM."""
    lingers: bool = False
    """Keep an Emit open after its last frame although the host has hung up."""


class Connector:
    """A started connector of one mode; what Authenticate brings may choose another."""

    def __init__(
        self, mode: Mode, modes: Mapping[str, Mode], socket: Socket = SOCKET, manifest: Path = MANIFEST
    ) -> None:
        self.socket = socket
        self._manifest = manifest
        self._mode = mode
        self._modes = modes
        self._config: Mapping[str, Any] = {}
        self._secrets: Mapping[str, str] = {}
        self._orders: dict[str, m.ReadOrder] = {}
        self._ended = threading.Event()

    def serve(self) -> None:
        """Serve until SIGTERM, under umask 007 as the SDK does."""
        if self._mode.start is not None:
            self._mode.start(self.socket)
        signal.signal(signal.SIGTERM, lambda *_: self._terminate())
        os.umask(0o007)
        server = self.listen()
        if self._mode.serving is not None:
            self._mode.serving(self.socket)
        self._ended.wait()
        server.stop(1).wait()

    def listen(self) -> grpc.Server:
        """Start to serve, and return."""
        # A thread for every call there may be: a mode that hangs in one must not keep the next from being heard.
        server = grpc.server(ThreadPoolExecutor(64), options=[("grpc.max_send_message_length", -1)])
        server.add_generic_rpc_handlers((service.handlers(self.behaviours()),))
        server.add_insecure_port(f"unix:{self.socket}")
        server.start()
        return server

    def behaviours(self) -> dict[str, service.Behaviour]:
        """Return what each RPC does."""
        return {
            service.DESCRIBE.name: self._describe,
            service.AUTHENTICATE.name: self._authenticate,
            service.DISCOVER.name: self._discover,
            service.READ.name: self._read,
            service.EMIT.name: self._emit,
            service.CHECKPOINT.name: self._checkpoint,
        }

    def _terminate(self) -> None:
        if self._mode.terminated is None:
            self._ended.set()
        else:
            self._mode.terminated()

    def _describe(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        service.DESCRIBE.decode_request(request)
        text = self._manifest.read_bytes()
        answer = m.Description(1, (), *_identity(text), hashlib.sha256(text).hexdigest(), 4, "none of yours")
        return service.DESCRIBE.encode_response(self._mode.describe(answer) if self._mode.describe else answer)

    def _authenticate(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        credentials = service.AUTHENTICATE.decode_request(request)
        self._config = json.loads(credentials.config_json or "{}")
        self._secrets = {secret.name: secret.value for secret in credentials.secrets}
        if "mode" in self._config:
            self._mode = self._modes[self._config["mode"]]
        answer = self._mode.authenticate(credentials) if self._mode.authenticate else m.Identity("nobody")
        return service.AUTHENTICATE.encode_response(answer)

    def _discover(self, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        names = service.DISCOVER.decode_request(request)
        offered = self._mode.discover() if self._mode.discover else _offered(names)
        for stream in offered:
            yield service.DISCOVER.encode_response(stream)

    def _read(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        order = service.READ.decode_request(request)
        self._orders[order.read_id] = order
        plan = m.ReadPlan(order.units or (m.Unit("all"),))
        return service.READ.encode_response(self._mode.plan(plan) if self._mode.plan else plan)

    def _emit(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        opening = service.EMIT.decode_request(next(requests))
        if not isinstance(opening, m.Open):
            return
        order = self._orders[opening.read_id]
        units = {unit.key: unit for unit in order.units}
        talk = Talk(order, units.get(opening.unit, m.Unit(opening.unit)), self._config, self._secrets)
        talk.credit.grant(opening.credit)
        hung_up = threading.Event()
        threading.Thread(target=_hear, args=(requests, talk, hung_up), daemon=True).start()
        frame: Said = b""
        for frame in (self._mode.emit or frames.honest)(talk):
            yield frame if isinstance(frame, bytes) else service.EMIT.encode_response(frame)
        if isinstance(frame, m.DoneFrame):
            hung_up.wait()
        if self._mode.lingers:
            frames.forever()

    def _checkpoint(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        committed = service.CHECKPOINT.decode_request(request)
        if self._mode.checkpoint is not None:
            self._mode.checkpoint(committed)
        return service.CHECKPOINT.encode_response(None)


def _hear(requests: Iterator[bytes], talk: Talk, hung_up: threading.Event) -> None:
    # A broken call ends the iterator with an RpcError: for us the same as hanging up.
    with contextlib.suppress(grpc.RpcError):
        for request in requests:
            match service.EMIT.decode_request(request):
                case m.Credit(size_bytes=granted):
                    talk.credit.grant(granted)
                case m.Stop():
                    talk.credit.stop()
    talk.credit.stop()
    hung_up.set()


def _offered(names: tuple[str, ...]) -> Iterator[m.OfferedStream]:
    modes = (m.SyncMode.FULL_REFRESH, m.SyncMode.INCREMENTAL)
    for stream in (
        m.OfferedStream("records", frames.RECORDS, ("id",), ("id",), modes),
        m.OfferedStream("attempts", frames.ATTEMPTS),
    ):
        if not names or stream.name in names:
            yield stream


def _identity(manifest: bytes) -> tuple[str, str]:
    """Return id and version out of the manifest's own lines; this image has no YAML parser."""
    found: dict[str, str] = {}
    for line in manifest.decode().splitlines():
        key, _, value = line.strip().partition(": ")
        if key in ("id", "version"):
            found.setdefault(key, value.strip().strip('"'))
    return found["id"], found["version"]
