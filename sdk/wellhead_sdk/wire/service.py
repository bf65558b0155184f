"""The RPCs as a table, from which both halves build their side without generated service code.

gRPC is handed plain bytes both ways: a message that cannot be decoded is then an error of ours, with its own code,
instead of a line in gRPC's log and a bare INTERNAL.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import grpc

from wellhead_sdk.wire import codec
from wellhead_sdk.wire import messages as m

SERVICE = "wellhead.connector.v1.Connector"
#: Trailing metadata that carries a google.rpc.Status.
STATUS_KEY = "grpc-status-details-bin"

Asked = TypeVar("Asked")
Answered = TypeVar("Answered")


@dataclass(frozen=True, slots=True)
class Method(Generic[Asked, Answered]):
    """One RPC: its name, which of its sides are streams, and how each side becomes bytes."""

    name: str
    encode_request: Callable[[Asked], bytes]
    decode_request: Callable[[bytes], Asked]
    encode_response: Callable[[Answered], bytes]
    decode_response: Callable[[bytes], Answered]
    streams_requests: bool = False
    streams_responses: bool = False

    @property
    def path(self) -> str:
        """The method's full name, as HTTP/2 sees it."""
        return f"/{SERVICE}/{self.name}"


DESCRIBE: Method[m.Hello, m.Description] = Method(
    "Describe", codec.encode_hello, codec.decode_hello, codec.encode_description, codec.decode_description
)
AUTHENTICATE: Method[m.Credentials, m.Identity] = Method(
    "Authenticate", codec.encode_credentials, codec.decode_credentials, codec.encode_identity, codec.decode_identity
)
DISCOVER: Method[tuple[str, ...], m.OfferedStream] = Method(
    "Discover",
    codec.encode_discover,
    codec.decode_discover,
    codec.encode_offered,
    codec.decode_offered,
    streams_responses=True,
)
READ: Method[m.ReadOrder, m.ReadPlan] = Method(
    "Read", codec.encode_order, codec.decode_order, codec.encode_plan, codec.decode_plan
)
EMIT: Method[m.Control, m.Frame] = Method(
    "Emit",
    codec.encode_control,
    codec.decode_control,
    codec.encode_frame,
    codec.decode_frame,
    streams_requests=True,
    streams_responses=True,
)
CHECKPOINT: Method[m.Committed, None] = Method(
    "Checkpoint", codec.encode_committed, codec.decode_committed, codec.encode_nothing, codec.decode_nothing
)

METHODS: tuple[Method[Any, Any], ...] = (DESCRIBE, AUTHENTICATE, DISCOVER, READ, EMIT, CHECKPOINT)

#: Behaviours take and return bytes (or iterators of bytes) and the call's context.
Behaviour = Callable[[Any, grpc.ServicerContext], Any]


def handlers(behaviours: Mapping[str, Behaviour]) -> grpc.GenericRpcHandler:
    """Return the server's side: one behaviour a method name, each on bytes.

    A method without a behaviour answers UNIMPLEMENTED.
    """
    return grpc.method_handlers_generic_handler(
        SERVICE,
        {method.name: _handler(method, behaviours[method.name]) for method in METHODS if method.name in behaviours},
    )


def _handler(method: Method[Any, Any], behaviour: Behaviour) -> grpc.RpcMethodHandler[Any, Any]:
    make = {
        (False, False): grpc.unary_unary_rpc_method_handler,
        (False, True): grpc.unary_stream_rpc_method_handler,
        (True, True): grpc.stream_stream_rpc_method_handler,
    }[method.streams_requests, method.streams_responses]
    return make(behaviour)


def stub(channel: grpc.Channel, method: Method[Any, Any]) -> Any:
    """Return the client's side of ``method``: a gRPC multi-callable on bytes."""
    make = {
        (False, False): channel.unary_unary,
        (False, True): channel.unary_stream,
        (True, True): channel.stream_stream,
    }[method.streams_requests, method.streams_responses]
    return make(method.path)
