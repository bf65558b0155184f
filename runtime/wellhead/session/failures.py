"""A connector's failure, or the connection's, as an error of ours: by status code and details, never by text."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import grpc

from wellhead.clock import Clock
from wellhead.errors import (
    AuthError,
    Code,
    ConfigurationError,
    DataError,
    FatalError,
    ThrottledError,
    TransientError,
    WellheadError,
)
from wellhead_sdk.wire import service, status
from wellhead_sdk.wire.messages import Failure

CONNECTION_LOST = Code("WH-SES-002", "The connection to the connector broke.")
DEADLINE = Code("WH-SES-003", "The connector did not answer in time.")
FRAME_TOO_LARGE = Code("WH-SES-018", "A message of the connector is larger than the protocol allows.")
TRANSIENT = Code("WH-SES-040", "The connector reports that its source is not available.")
THROTTLED = Code("WH-SES-041", "The source asks us to come back later.")
AUTH = Code("WH-SES-042", "The source did not accept the credentials.")
CONFIGURATION = Code("WH-SES-043", "The connector cannot work with this configuration.")
DATA = Code("WH-SES-044", "The source handed out data that cannot be taken.")
FAULT = Code("WH-SES-045", "The connector failed by its own fault.")
PLAN_STALE = Code("WH-SES-046", "The connector can no longer serve the stored read units.")

#: What a throttled source that names no time is given.
DEFAULT_RETRY_S = 60.0
#: A time further away is a mistake or an attack: a year.
MAX_RETRY_S = 366 * 86_400.0


def error_of(failure: Failure, clock: Clock) -> WellheadError:
    """Return what the host does about ``failure``, as an error."""
    said = f"{failure.stream}: {failure.message}" if failure.stream else failure.message
    message = f"{said} ({failure.reason})"
    hint = failure.hint or None
    details = tuple(f"{field}: {problem}" for field, problem in failure.fields)
    match failure.kind:
        case "transient":
            return TransientError(message, code=TRANSIENT, hint=hint)
        case "throttled":
            wait_s = DEFAULT_RETRY_S if failure.retry_after_s is None else failure.retry_after_s
            retry_at = clock.now() + timedelta(seconds=min(max(wait_s, 0.0), MAX_RETRY_S))
            return ThrottledError(message, code=THROTTLED, retry_at=retry_at, hint=hint)
        case "auth":
            return AuthError(
                message, code=AUTH, hint=hint or "check the secret and the rights it gives", details=details
            )
        case "permanent":
            code = PLAN_STALE if failure.reason == "plan_stale" else CONFIGURATION
            return ConfigurationError(message, code=code, hint=hint, details=details)
        case "data":
            return DataError(message, code=DATA, hint=hint)
        case _:
            return FatalError(message, code=FAULT, hint=hint or "see the connector's log: `wellhead runs logs`")


def error_of_rpc(error: grpc.RpcError, rpc: str, clock: Clock) -> WellheadError:
    """Return what the host does about an RPC that failed: as the connector says, else as gRPC does."""
    failure = _said(error)
    if failure is not None:
        return error_of(failure, clock)
    code, text = error.code(), error.details() or ""
    match code:
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return TransientError(f"{rpc} was not answered in time", code=DEADLINE)
        case grpc.StatusCode.RESOURCE_EXHAUSTED:
            # A connector that throttles says so with details; without them it is gRPC's own limit on a message.
            return FatalError(f"{rpc}: {text}", code=FRAME_TOO_LARGE, hint="report this to the connector's owner")
        case grpc.StatusCode.UNAVAILABLE | grpc.StatusCode.CANCELLED:
            return TransientError(f"{rpc}: the connector is gone ({text})", code=CONNECTION_LOST)
        case _:
            kind = status.kind_of(code.value[0])
            return error_of(Failure(kind, code.name.lower(), f"{rpc}: {text}"), clock)


def _said(error: grpc.RpcError) -> Failure | None:
    metadata: Any = error.trailing_metadata() or ()
    for key, value in metadata:
        if key == service.STATUS_KEY and isinstance(value, bytes):
            failure = status.decode(value)
            # The code decides the reaction; the details must not contradict it.
            if failure is not None and failure.kind == status.kind_of(error.code().value[0]):
                return failure
    return None
