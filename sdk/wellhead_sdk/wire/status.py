"""Failures as google.rpc.Status and back: the error table's kinds as gRPC codes, the rest as typed details.

    kind        code                  kind also of
    transient   UNAVAILABLE           ABORTED, DEADLINE_EXCEEDED, CANCELLED
    throttled   RESOURCE_EXHAUSTED    (with RetryInfo)
    auth        UNAUTHENTICATED       PERMISSION_DENIED (permission_denied)
    permanent   INVALID_ARGUMENT      FAILED_PRECONDITION (plan_stale, not_authenticated), NOT_FOUND (not_found),
                                      UNIMPLEMENTED (unsupported)
    data        DATA_LOSS             OUT_OF_RANGE (out_of_range)
    internal    INTERNAL              UNKNOWN and every code not named here

Nothing reads the message's text.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from google.protobuf.message import DecodeError as ProtobufError
from google.rpc.code_pb2 import Code as GrpcCode
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from wellhead_sdk.wire import messages as m

#: The domain of every ErrorInfo of this protocol.
ERROR_DOMAIN = "wellhead"
#: Bytes of each text, and how many config fields: the whole, in base64, must fit into gRPC's 8 KiB of metadata.
MAX_MESSAGE_BYTES = 1536
MAX_TEXT_BYTES = 256
MAX_FIELDS = 8

_CODE_OF_KIND: Mapping[str, int] = {
    "transient": GrpcCode.UNAVAILABLE,
    "throttled": GrpcCode.RESOURCE_EXHAUSTED,
    "auth": GrpcCode.UNAUTHENTICATED,
    "permanent": GrpcCode.INVALID_ARGUMENT,
    "data": GrpcCode.DATA_LOSS,
    "internal": GrpcCode.INTERNAL,
}
#: Reasons with a gRPC code of their own within their kind.
_CODE_OF_REASON: Mapping[tuple[str, str], int] = {
    ("auth", "permission_denied"): GrpcCode.PERMISSION_DENIED,
    ("permanent", "plan_stale"): GrpcCode.FAILED_PRECONDITION,
    ("permanent", "not_authenticated"): GrpcCode.FAILED_PRECONDITION,
    ("permanent", "not_found"): GrpcCode.NOT_FOUND,
    ("permanent", "unsupported"): GrpcCode.UNIMPLEMENTED,
    ("data", "out_of_range"): GrpcCode.OUT_OF_RANGE,
}
_KIND_OF_CODE: Mapping[int, str] = {
    **{code: kind for kind, code in _CODE_OF_KIND.items()},
    **{code: kind for (kind, _), code in _CODE_OF_REASON.items()},
    GrpcCode.ABORTED: "transient",
    GrpcCode.DEADLINE_EXCEEDED: "transient",
    GrpcCode.CANCELLED: "transient",
    GrpcCode.UNKNOWN: "internal",
}


def grpc_code_of(failure: m.Failure) -> int:
    """Return the number of the gRPC status code that carries ``failure``."""
    return _CODE_OF_REASON.get((failure.kind, failure.reason), _CODE_OF_KIND[failure.kind])


def kind_of(grpc_code: int) -> str:
    """Return the kind of failure a gRPC status code stands for; a code the table does not name is ``internal``."""
    return _KIND_OF_CODE.get(grpc_code, "internal")


def status_of(failure: m.Failure) -> Status:
    """Return ``failure`` as a google.rpc.Status small enough for trailing metadata; longer texts are cut."""
    info = ErrorInfo(reason=_cut(failure.reason, 64), domain=ERROR_DOMAIN)
    if failure.stream:
        info.metadata["stream"] = _cut(failure.stream, MAX_TEXT_BYTES)
    if failure.hint:
        info.metadata["hint"] = _cut(failure.hint, 2 * MAX_TEXT_BYTES)
    status = Status(code=grpc_code_of(failure), message=_cut(failure.message, MAX_MESSAGE_BYTES))
    # A packed detail is bytes already when the status is written, so its map needs its order here.
    status.details.add().Pack(info, deterministic=True)
    if failure.retry_after_s is not None:
        retry = RetryInfo()
        retry.retry_delay.FromTimedelta(timedelta(seconds=failure.retry_after_s))
        status.details.add().Pack(retry)
    if failure.fields:
        status.details.add().Pack(
            BadRequest(
                field_violations=[
                    BadRequest.FieldViolation(
                        field=_cut(field, MAX_TEXT_BYTES // 2), description=_cut(problem, MAX_TEXT_BYTES)
                    )
                    for field, problem in failure.fields[:MAX_FIELDS]
                ]
            )
        )
    return status


def _cut(text: str, size_bytes: int) -> str:
    encoded = text.encode()
    if len(encoded) <= size_bytes:
        return text
    return encoded[: size_bytes - 3].decode(errors="ignore") + "…"


def failure_of(status: Status) -> m.Failure:
    """Return what ``status`` says; without an ErrorInfo of ours the reason is the code's own name."""
    found = m.Failure(kind=kind_of(status.code), reason=_code_name(status.code), message=status.message)
    reason, stream, hint = found.reason, "", ""
    retry_after_s: float | None = None
    fields: tuple[tuple[str, str], ...] = ()
    for detail in status.details:
        info, retry, bad = ErrorInfo(), RetryInfo(), BadRequest()
        if detail.Is(ErrorInfo.DESCRIPTOR) and detail.Unpack(info) and info.domain == ERROR_DOMAIN:
            reason = info.reason
            stream, hint = info.metadata.get("stream", ""), info.metadata.get("hint", "")
        elif detail.Is(RetryInfo.DESCRIPTOR) and detail.Unpack(retry):
            retry_after_s = retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9
        elif detail.Is(BadRequest.DESCRIPTOR) and detail.Unpack(bad):
            fields = tuple((each.field, each.description) for each in bad.field_violations)
    return m.Failure(found.kind, reason, found.message, retry_after_s, stream, hint, fields)


def _code_name(number: int) -> str:
    names: Mapping[int, str] = {value: name for name, value in GrpcCode.items()}
    return names.get(number, "unknown").lower()


def encode(failure: m.Failure) -> bytes:
    """Encode ``failure`` for the trailing metadata of an RPC."""
    encoded: bytes = status_of(failure).SerializeToString(deterministic=True)
    return encoded


def decode(data: bytes) -> m.Failure | None:
    """Decode a failure from the trailing metadata of an RPC; None where the bytes are no status."""
    try:
        return failure_of(Status.FromString(data))
    except ProtobufError:
        return None
