"""The protocol's messages as frozen values, for both halves; what each field means is told in connector.proto.

Nothing here knows protobuf or gRPC: `codec` turns these values into generated messages and back.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

#: Payload of one batch or rejected frame at the most.
MAX_BATCH_BYTES = 16 * 1024 * 1024
#: Where the SDK cuts a batch.
TARGET_BATCH_BYTES = 4 * 1024 * 1024
MAX_STATE_BYTES = 1024 * 1024
MAX_SAMPLE_BYTES = 4 * 1024
#: Protocol versions this code speaks.
PROTOCOL_VERSIONS = (1,)
#: gRPC receive limit: the largest batch and room for its frame.
MAX_MESSAGE_BYTES = 17 * 1024 * 1024
#: Rows of one batch at the most: each row costs the host its envelope, however little it weighs itself.
MAX_BATCH_ROWS = 262_144
#: A frame that carries no records, encoded: the largest state and room for the rest.
MAX_CONTROL_BYTES = MAX_STATE_BYTES + 64 * 1024


class SyncMode(Enum):
    """How a stream is read."""

    FULL_REFRESH = "full_refresh"
    INCREMENTAL = "incremental"


class Replay(Enum):
    """What a source does for records that were read but not committed."""

    POSITION = "position"
    REDELIVERY = "redelivery"
    NONE = "none"


class WriteMode(Enum):
    """What a full refresh does to the table."""

    REPLACE = "replace"
    APPEND = "append"


class Until(Enum):
    """When a read is over."""

    CAUGHT_UP = "caught_up"
    FOREVER = "forever"


class StopMode(Enum):
    """How gently a unit is stopped."""

    DRAIN = "drain"
    NOW = "now"


class CheckpointType(Enum):
    """What a state means."""

    CURSOR = "cursor"
    OFFSET = "offset"
    WATERMARK = "watermark"


class DoneReason(Enum):
    """Why a unit ended."""

    COMPLETE = "complete"
    STOPPED = "stopped"


class LogLevel(Enum):
    """Severity of a connector's log line."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


FilterScalar = bool | int | float | str


@dataclass(frozen=True, slots=True)
class Filter:
    """One ANDed condition; ``op`` is one of ``= != < <= > >= in is_null``."""

    column: str
    op: str
    values: tuple[FilterScalar, ...]


@dataclass(frozen=True, slots=True)
class Hello:
    """What Describe asks with: the host's side of the handshake."""

    protocol_versions: tuple[int, ...]
    features: tuple[str, ...] = ()
    host_version: str = ""


@dataclass(frozen=True, slots=True)
class Description:
    """A connector's answer to the handshake."""

    protocol_version: int
    features: tuple[str, ...]
    connector_id: str
    version: str
    manifest_sha256: str
    max_parallel: int
    sdk: str


@dataclass(frozen=True, slots=True)
class Secret:
    """One secret of one run; its value never shows in a repr."""

    name: str
    value: str = field(repr=False)
    expires_at: datetime | None = None
    plain: bool = False
    """Whether the manifest says that the slot holds no secret, such as a user name: messages may show the value."""


@dataclass(frozen=True, slots=True)
class OpenedHost:
    """A host:port pair the run may reach."""

    host: str
    port: int
    private: bool


@dataclass(frozen=True, slots=True)
class Credentials:
    """What Authenticate delivers."""

    config_json: str
    secrets: tuple[Secret, ...] = ()
    hosts: tuple[OpenedHost, ...] = ()
    probes: tuple[str, ...] = ()
    rotation: int = 0


@dataclass(frozen=True, slots=True)
class Probe:
    """One named test of the connection."""

    name: str
    ok: bool
    detail: str = ""
    duration_ms: int = 0


@dataclass(frozen=True, slots=True)
class Identity:
    """Who we are at the source."""

    identity: str = ""
    scopes: tuple[str, ...] = ()
    expires_at: datetime | None = None
    probes: tuple[Probe, ...] = ()


@dataclass(frozen=True, slots=True)
class OfferedStream:
    """One stream a source offers."""

    name: str
    schema: pa.Schema
    primary_key: tuple[str, ...] = ()
    cursor_fields: tuple[str, ...] = ()
    sync_modes: tuple[SyncMode, ...] = (SyncMode.FULL_REFRESH,)
    replay: Replay = Replay.POSITION
    estimated_rows: int | None = None
    estimated_bytes: int | None = None
    event_time_field: str = ""
    has_position: bool = False


@dataclass(frozen=True, slots=True)
class Unit:
    """What one cursor covers, with its last committed state; ``state`` is empty where there is none."""

    key: str
    descriptor: bytes = b""
    state: bytes = b""
    state_version: int = 0
    complete: bool = False
    estimated_rows: int | None = None


@dataclass(frozen=True, slots=True)
class ReadOrder:
    """What Read asks for; no units means: plan them."""

    read_id: str
    stream: str
    mode: SyncMode
    write: WriteMode = WriteMode.REPLACE
    generation: int = 0
    since: datetime | None = None
    until: Until = Until.CAUGHT_UP
    columns: tuple[str, ...] = ()
    filters: tuple[Filter, ...] = ()
    batch_rows: int = 10_000
    units: tuple[Unit, ...] = ()
    cursor_field: str = ""
    primary_key: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ReadPlan:
    """What Read answers."""

    units: tuple[Unit, ...]
    final_state: bytes = b""
    final_state_version: int = 0
    columns_pushed_down: bool = False
    filters_pushed_down: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Open:
    """The host's first word in an Emit: which unit, and how many bytes may come before more is granted."""

    read_id: str
    unit: str
    credit: int


@dataclass(frozen=True, slots=True)
class Credit:
    """That many more bytes of payload may come."""

    size_bytes: int


@dataclass(frozen=True, slots=True)
class Stop:
    """The unit shall end; past the deadline the host ends it by force."""

    mode: StopMode
    deadline_s: float


Control = Open | Credit | Stop


@dataclass(frozen=True, slots=True)
class SchemaFrame:
    """The schema of every later batch of the stream."""

    stream: str
    schema: pa.Schema
    fingerprint: str


@dataclass(frozen=True, slots=True)
class BatchFrame:
    """Records, still as the Arrow IPC bytes that travelled."""

    batch_no: int
    stream: str
    rows: int
    crc32c: int
    arrow_ipc: bytes
    read_at: datetime | None = None
    raw_ref: str = ""


@dataclass(frozen=True, slots=True)
class CheckpointFrame:
    """An offer of a state that covers everything up to ``through_batch``."""

    state: bytes
    state_version: int
    through_batch: int
    rows_since_last: int
    rejected_since_last: int
    checkpoint_type: CheckpointType = CheckpointType.CURSOR
    watermark: datetime | None = None


@dataclass(frozen=True, slots=True)
class RejectedFrame:
    """A record set aside by the connector."""

    stream: str
    reason: str
    sha256: bytes
    size: int
    key_json: str = ""
    sample: bytes = field(default=b"", repr=False)
    column: str = ""
    text: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class WaitFrame:
    """Throttled until then."""

    until: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class ProgressFrame:
    """Counters since the start of the Emit."""

    requests_total: int = 0
    requests_failed_total: int = 0
    bytes_ingested_total: int = 0
    pages_processed_total: int = 0
    retries_total: int = 0


@dataclass(frozen=True, slots=True)
class LogFrame:
    """A line of the connector's log."""

    level: LogLevel
    message: str
    fields: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class ViolationFrame:
    """The connector met its own attempt to leave its rules."""

    kind: str
    path: str
    message: str


@dataclass(frozen=True, slots=True)
class StreamTotals:
    """What one Emit said to have sent of one stream."""

    stream: str
    rows: int
    rejected: int
    batches: int


@dataclass(frozen=True, slots=True)
class DoneFrame:
    """The last frame of a unit that ended well."""

    reason: DoneReason
    totals: tuple[StreamTotals, ...]


@dataclass(frozen=True, slots=True)
class Failure:
    """An error of the connector: a class of the error table, a reason, a message and where it belongs.

    ``kind`` is one of ``transient throttled auth permanent data internal``; it decides the gRPC code and the host's
    reaction. ``retry_after_s`` belongs to ``throttled``; ``fields`` lists (config field, what is wrong) pairs.
    """

    kind: str
    reason: str
    message: str
    retry_after_s: float | None = None
    stream: str = ""
    hint: str = ""
    fields: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Committed:
    """What Checkpoint says: everything through ``through_batch`` is in the registry."""

    read_id: str
    unit: str
    through_batch: int
    commit_no: int
    state: bytes
    state_version: int


Frame = (
    SchemaFrame
    | BatchFrame
    | CheckpointFrame
    | RejectedFrame
    | WaitFrame
    | ProgressFrame
    | LogFrame
    | ViolationFrame
    | Failure
    | DoneFrame
)


def cost_of(frame: Frame) -> int:
    """Return how many bytes of credit ``frame`` takes: the records it carries, nothing for the rest."""
    if isinstance(frame, BatchFrame):
        return len(frame.arrow_ipc)
    if isinstance(frame, RejectedFrame):
        return len(frame.sample)
    return 0
