import datetime

from google.protobuf import descriptor_pb2 as _descriptor_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.rpc import status_pb2 as _status_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SyncMode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SYNC_MODE_UNSPECIFIED: _ClassVar[SyncMode]
    SYNC_MODE_FULL_REFRESH: _ClassVar[SyncMode]
    SYNC_MODE_INCREMENTAL: _ClassVar[SyncMode]

class Replay(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    REPLAY_UNSPECIFIED: _ClassVar[Replay]
    REPLAY_POSITION: _ClassVar[Replay]
    REPLAY_REDELIVERY: _ClassVar[Replay]
    REPLAY_NONE: _ClassVar[Replay]

class WriteMode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    WRITE_MODE_UNSPECIFIED: _ClassVar[WriteMode]
    WRITE_MODE_REPLACE: _ClassVar[WriteMode]
    WRITE_MODE_APPEND: _ClassVar[WriteMode]

class Until(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    UNTIL_UNSPECIFIED: _ClassVar[Until]
    UNTIL_CAUGHT_UP: _ClassVar[Until]
    UNTIL_FOREVER: _ClassVar[Until]

class FilterOp(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FILTER_OP_UNSPECIFIED: _ClassVar[FilterOp]
    FILTER_OP_EQ: _ClassVar[FilterOp]
    FILTER_OP_NE: _ClassVar[FilterOp]
    FILTER_OP_LT: _ClassVar[FilterOp]
    FILTER_OP_LE: _ClassVar[FilterOp]
    FILTER_OP_GT: _ClassVar[FilterOp]
    FILTER_OP_GE: _ClassVar[FilterOp]
    FILTER_OP_IN: _ClassVar[FilterOp]
    FILTER_OP_IS_NULL: _ClassVar[FilterOp]

class StopMode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    STOP_MODE_UNSPECIFIED: _ClassVar[StopMode]
    STOP_MODE_DRAIN: _ClassVar[StopMode]
    STOP_MODE_NOW: _ClassVar[StopMode]

class CheckpointType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CHECKPOINT_TYPE_UNSPECIFIED: _ClassVar[CheckpointType]
    CHECKPOINT_TYPE_CURSOR: _ClassVar[CheckpointType]
    CHECKPOINT_TYPE_OFFSET: _ClassVar[CheckpointType]
    CHECKPOINT_TYPE_WATERMARK: _ClassVar[CheckpointType]

class LogLevel(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    LOG_LEVEL_UNSPECIFIED: _ClassVar[LogLevel]
    LOG_LEVEL_DEBUG: _ClassVar[LogLevel]
    LOG_LEVEL_INFO: _ClassVar[LogLevel]
    LOG_LEVEL_WARNING: _ClassVar[LogLevel]
    LOG_LEVEL_ERROR: _ClassVar[LogLevel]

class DoneReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DONE_REASON_UNSPECIFIED: _ClassVar[DoneReason]
    DONE_REASON_COMPLETE: _ClassVar[DoneReason]
    DONE_REASON_STOPPED: _ClassVar[DoneReason]
SYNC_MODE_UNSPECIFIED: SyncMode
SYNC_MODE_FULL_REFRESH: SyncMode
SYNC_MODE_INCREMENTAL: SyncMode
REPLAY_UNSPECIFIED: Replay
REPLAY_POSITION: Replay
REPLAY_REDELIVERY: Replay
REPLAY_NONE: Replay
WRITE_MODE_UNSPECIFIED: WriteMode
WRITE_MODE_REPLACE: WriteMode
WRITE_MODE_APPEND: WriteMode
UNTIL_UNSPECIFIED: Until
UNTIL_CAUGHT_UP: Until
UNTIL_FOREVER: Until
FILTER_OP_UNSPECIFIED: FilterOp
FILTER_OP_EQ: FilterOp
FILTER_OP_NE: FilterOp
FILTER_OP_LT: FilterOp
FILTER_OP_LE: FilterOp
FILTER_OP_GT: FilterOp
FILTER_OP_GE: FilterOp
FILTER_OP_IN: FilterOp
FILTER_OP_IS_NULL: FilterOp
STOP_MODE_UNSPECIFIED: StopMode
STOP_MODE_DRAIN: StopMode
STOP_MODE_NOW: StopMode
CHECKPOINT_TYPE_UNSPECIFIED: CheckpointType
CHECKPOINT_TYPE_CURSOR: CheckpointType
CHECKPOINT_TYPE_OFFSET: CheckpointType
CHECKPOINT_TYPE_WATERMARK: CheckpointType
LOG_LEVEL_UNSPECIFIED: LogLevel
LOG_LEVEL_DEBUG: LogLevel
LOG_LEVEL_INFO: LogLevel
LOG_LEVEL_WARNING: LogLevel
LOG_LEVEL_ERROR: LogLevel
DONE_REASON_UNSPECIFIED: DoneReason
DONE_REASON_COMPLETE: DoneReason
DONE_REASON_STOPPED: DoneReason
SENSITIVE_FIELD_NUMBER: _ClassVar[int]
sensitive: _descriptor.FieldDescriptor

class DescribeRequest(_message.Message):
    __slots__ = ("protocol_versions", "features", "host_version")
    PROTOCOL_VERSIONS_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    HOST_VERSION_FIELD_NUMBER: _ClassVar[int]
    protocol_versions: _containers.RepeatedScalarFieldContainer[int]
    features: _containers.RepeatedScalarFieldContainer[str]
    host_version: str
    def __init__(self, protocol_versions: _Optional[_Iterable[int]] = ..., features: _Optional[_Iterable[str]] = ..., host_version: _Optional[str] = ...) -> None: ...

class DescribeResponse(_message.Message):
    __slots__ = ("protocol_version", "features", "connector_id", "version", "manifest_sha256", "max_parallel", "sdk")
    PROTOCOL_VERSION_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    CONNECTOR_ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_SHA256_FIELD_NUMBER: _ClassVar[int]
    MAX_PARALLEL_FIELD_NUMBER: _ClassVar[int]
    SDK_FIELD_NUMBER: _ClassVar[int]
    protocol_version: int
    features: _containers.RepeatedScalarFieldContainer[str]
    connector_id: str
    version: str
    manifest_sha256: str
    max_parallel: int
    sdk: str
    def __init__(self, protocol_version: _Optional[int] = ..., features: _Optional[_Iterable[str]] = ..., connector_id: _Optional[str] = ..., version: _Optional[str] = ..., manifest_sha256: _Optional[str] = ..., max_parallel: _Optional[int] = ..., sdk: _Optional[str] = ...) -> None: ...

class Secret(_message.Message):
    __slots__ = ("name", "value", "expires_at", "plain")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    PLAIN_FIELD_NUMBER: _ClassVar[int]
    name: str
    value: str
    expires_at: _timestamp_pb2.Timestamp
    plain: bool
    def __init__(self, name: _Optional[str] = ..., value: _Optional[str] = ..., expires_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., plain: _Optional[bool] = ...) -> None: ...

class OpenedHost(_message.Message):
    __slots__ = ("host", "port", "private")
    HOST_FIELD_NUMBER: _ClassVar[int]
    PORT_FIELD_NUMBER: _ClassVar[int]
    PRIVATE_FIELD_NUMBER: _ClassVar[int]
    host: str
    port: int
    private: bool
    def __init__(self, host: _Optional[str] = ..., port: _Optional[int] = ..., private: _Optional[bool] = ...) -> None: ...

class AuthenticateRequest(_message.Message):
    __slots__ = ("config_json", "secrets", "probes", "hosts", "rotation")
    CONFIG_JSON_FIELD_NUMBER: _ClassVar[int]
    SECRETS_FIELD_NUMBER: _ClassVar[int]
    PROBES_FIELD_NUMBER: _ClassVar[int]
    HOSTS_FIELD_NUMBER: _ClassVar[int]
    ROTATION_FIELD_NUMBER: _ClassVar[int]
    config_json: str
    secrets: _containers.RepeatedCompositeFieldContainer[Secret]
    probes: _containers.RepeatedScalarFieldContainer[str]
    hosts: _containers.RepeatedCompositeFieldContainer[OpenedHost]
    rotation: int
    def __init__(self, config_json: _Optional[str] = ..., secrets: _Optional[_Iterable[_Union[Secret, _Mapping]]] = ..., probes: _Optional[_Iterable[str]] = ..., hosts: _Optional[_Iterable[_Union[OpenedHost, _Mapping]]] = ..., rotation: _Optional[int] = ...) -> None: ...

class Probe(_message.Message):
    __slots__ = ("name", "ok", "detail", "duration_ms")
    NAME_FIELD_NUMBER: _ClassVar[int]
    OK_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    DURATION_MS_FIELD_NUMBER: _ClassVar[int]
    name: str
    ok: bool
    detail: str
    duration_ms: int
    def __init__(self, name: _Optional[str] = ..., ok: _Optional[bool] = ..., detail: _Optional[str] = ..., duration_ms: _Optional[int] = ...) -> None: ...

class AuthenticateResponse(_message.Message):
    __slots__ = ("identity", "scopes", "expires_at", "probes")
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    SCOPES_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    PROBES_FIELD_NUMBER: _ClassVar[int]
    identity: str
    scopes: _containers.RepeatedScalarFieldContainer[str]
    expires_at: _timestamp_pb2.Timestamp
    probes: _containers.RepeatedCompositeFieldContainer[Probe]
    def __init__(self, identity: _Optional[str] = ..., scopes: _Optional[_Iterable[str]] = ..., expires_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., probes: _Optional[_Iterable[_Union[Probe, _Mapping]]] = ...) -> None: ...

class DiscoverRequest(_message.Message):
    __slots__ = ("names",)
    NAMES_FIELD_NUMBER: _ClassVar[int]
    names: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, names: _Optional[_Iterable[str]] = ...) -> None: ...

class DiscoverResponse(_message.Message):
    __slots__ = ("stream",)
    STREAM_FIELD_NUMBER: _ClassVar[int]
    stream: OfferedStream
    def __init__(self, stream: _Optional[_Union[OfferedStream, _Mapping]] = ...) -> None: ...

class OfferedStream(_message.Message):
    __slots__ = ("name", "arrow_schema", "primary_key", "cursor_fields", "sync_modes", "replay", "estimated_rows", "estimated_bytes", "event_time_field", "has_position")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ARROW_SCHEMA_FIELD_NUMBER: _ClassVar[int]
    PRIMARY_KEY_FIELD_NUMBER: _ClassVar[int]
    CURSOR_FIELDS_FIELD_NUMBER: _ClassVar[int]
    SYNC_MODES_FIELD_NUMBER: _ClassVar[int]
    REPLAY_FIELD_NUMBER: _ClassVar[int]
    ESTIMATED_ROWS_FIELD_NUMBER: _ClassVar[int]
    ESTIMATED_BYTES_FIELD_NUMBER: _ClassVar[int]
    EVENT_TIME_FIELD_FIELD_NUMBER: _ClassVar[int]
    HAS_POSITION_FIELD_NUMBER: _ClassVar[int]
    name: str
    arrow_schema: bytes
    primary_key: _containers.RepeatedScalarFieldContainer[str]
    cursor_fields: _containers.RepeatedScalarFieldContainer[str]
    sync_modes: _containers.RepeatedScalarFieldContainer[SyncMode]
    replay: Replay
    estimated_rows: int
    estimated_bytes: int
    event_time_field: str
    has_position: bool
    def __init__(self, name: _Optional[str] = ..., arrow_schema: _Optional[bytes] = ..., primary_key: _Optional[_Iterable[str]] = ..., cursor_fields: _Optional[_Iterable[str]] = ..., sync_modes: _Optional[_Iterable[_Union[SyncMode, str]]] = ..., replay: _Optional[_Union[Replay, str]] = ..., estimated_rows: _Optional[int] = ..., estimated_bytes: _Optional[int] = ..., event_time_field: _Optional[str] = ..., has_position: _Optional[bool] = ...) -> None: ...

class Scalar(_message.Message):
    __slots__ = ("bool_value", "int_value", "double_value", "string_value")
    BOOL_VALUE_FIELD_NUMBER: _ClassVar[int]
    INT_VALUE_FIELD_NUMBER: _ClassVar[int]
    DOUBLE_VALUE_FIELD_NUMBER: _ClassVar[int]
    STRING_VALUE_FIELD_NUMBER: _ClassVar[int]
    bool_value: bool
    int_value: int
    double_value: float
    string_value: str
    def __init__(self, bool_value: _Optional[bool] = ..., int_value: _Optional[int] = ..., double_value: _Optional[float] = ..., string_value: _Optional[str] = ...) -> None: ...

class Filter(_message.Message):
    __slots__ = ("column", "op", "values")
    COLUMN_FIELD_NUMBER: _ClassVar[int]
    OP_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    column: str
    op: FilterOp
    values: _containers.RepeatedCompositeFieldContainer[Scalar]
    def __init__(self, column: _Optional[str] = ..., op: _Optional[_Union[FilterOp, str]] = ..., values: _Optional[_Iterable[_Union[Scalar, _Mapping]]] = ...) -> None: ...

class Unit(_message.Message):
    __slots__ = ("key", "descriptor", "state", "state_version", "complete", "estimated_rows")
    KEY_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTOR_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    STATE_VERSION_FIELD_NUMBER: _ClassVar[int]
    COMPLETE_FIELD_NUMBER: _ClassVar[int]
    ESTIMATED_ROWS_FIELD_NUMBER: _ClassVar[int]
    key: str
    descriptor: bytes
    state: bytes
    state_version: int
    complete: bool
    estimated_rows: int
    def __init__(self, key: _Optional[str] = ..., descriptor: _Optional[bytes] = ..., state: _Optional[bytes] = ..., state_version: _Optional[int] = ..., complete: _Optional[bool] = ..., estimated_rows: _Optional[int] = ...) -> None: ...

class ReadRequest(_message.Message):
    __slots__ = ("read_id", "streams", "mode", "write", "generation", "since", "until", "columns", "filters", "batch_rows", "units", "cursor_field", "primary_key")
    READ_ID_FIELD_NUMBER: _ClassVar[int]
    STREAMS_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    WRITE_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    UNTIL_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    FILTERS_FIELD_NUMBER: _ClassVar[int]
    BATCH_ROWS_FIELD_NUMBER: _ClassVar[int]
    UNITS_FIELD_NUMBER: _ClassVar[int]
    CURSOR_FIELD_FIELD_NUMBER: _ClassVar[int]
    PRIMARY_KEY_FIELD_NUMBER: _ClassVar[int]
    read_id: str
    streams: _containers.RepeatedScalarFieldContainer[str]
    mode: SyncMode
    write: WriteMode
    generation: int
    since: _timestamp_pb2.Timestamp
    until: Until
    columns: _containers.RepeatedScalarFieldContainer[str]
    filters: _containers.RepeatedCompositeFieldContainer[Filter]
    batch_rows: int
    units: _containers.RepeatedCompositeFieldContainer[Unit]
    cursor_field: str
    primary_key: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, read_id: _Optional[str] = ..., streams: _Optional[_Iterable[str]] = ..., mode: _Optional[_Union[SyncMode, str]] = ..., write: _Optional[_Union[WriteMode, str]] = ..., generation: _Optional[int] = ..., since: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., until: _Optional[_Union[Until, str]] = ..., columns: _Optional[_Iterable[str]] = ..., filters: _Optional[_Iterable[_Union[Filter, _Mapping]]] = ..., batch_rows: _Optional[int] = ..., units: _Optional[_Iterable[_Union[Unit, _Mapping]]] = ..., cursor_field: _Optional[str] = ..., primary_key: _Optional[_Iterable[str]] = ...) -> None: ...

class ReadResponse(_message.Message):
    __slots__ = ("units", "final_state", "final_state_version", "columns_pushed_down", "filters_pushed_down")
    UNITS_FIELD_NUMBER: _ClassVar[int]
    FINAL_STATE_FIELD_NUMBER: _ClassVar[int]
    FINAL_STATE_VERSION_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_PUSHED_DOWN_FIELD_NUMBER: _ClassVar[int]
    FILTERS_PUSHED_DOWN_FIELD_NUMBER: _ClassVar[int]
    units: _containers.RepeatedCompositeFieldContainer[Unit]
    final_state: bytes
    final_state_version: int
    columns_pushed_down: bool
    filters_pushed_down: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, units: _Optional[_Iterable[_Union[Unit, _Mapping]]] = ..., final_state: _Optional[bytes] = ..., final_state_version: _Optional[int] = ..., columns_pushed_down: _Optional[bool] = ..., filters_pushed_down: _Optional[_Iterable[int]] = ...) -> None: ...

class EmitRequest(_message.Message):
    __slots__ = ("open", "credit", "stop")
    OPEN_FIELD_NUMBER: _ClassVar[int]
    CREDIT_FIELD_NUMBER: _ClassVar[int]
    STOP_FIELD_NUMBER: _ClassVar[int]
    open: Open
    credit: Credit
    stop: Stop
    def __init__(self, open: _Optional[_Union[Open, _Mapping]] = ..., credit: _Optional[_Union[Credit, _Mapping]] = ..., stop: _Optional[_Union[Stop, _Mapping]] = ...) -> None: ...

class Open(_message.Message):
    __slots__ = ("read_id", "unit", "credit")
    READ_ID_FIELD_NUMBER: _ClassVar[int]
    UNIT_FIELD_NUMBER: _ClassVar[int]
    CREDIT_FIELD_NUMBER: _ClassVar[int]
    read_id: str
    unit: str
    credit: int
    def __init__(self, read_id: _Optional[str] = ..., unit: _Optional[str] = ..., credit: _Optional[int] = ...) -> None: ...

class Credit(_message.Message):
    __slots__ = ("bytes",)
    BYTES_FIELD_NUMBER: _ClassVar[int]
    bytes: int
    def __init__(self, bytes: _Optional[int] = ...) -> None: ...

class Stop(_message.Message):
    __slots__ = ("mode", "deadline_ms")
    MODE_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_MS_FIELD_NUMBER: _ClassVar[int]
    mode: StopMode
    deadline_ms: int
    def __init__(self, mode: _Optional[_Union[StopMode, str]] = ..., deadline_ms: _Optional[int] = ...) -> None: ...

class EmitResponse(_message.Message):
    __slots__ = ("schema", "batch", "checkpoint", "rejected", "wait", "progress", "log", "violation", "failure", "done")
    SCHEMA_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    REJECTED_FIELD_NUMBER: _ClassVar[int]
    WAIT_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    LOG_FIELD_NUMBER: _ClassVar[int]
    VIOLATION_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    schema: SchemaFrame
    batch: BatchFrame
    checkpoint: CheckpointFrame
    rejected: RejectedFrame
    wait: WaitFrame
    progress: ProgressFrame
    log: LogFrame
    violation: ViolationFrame
    failure: _status_pb2.Status
    done: DoneFrame
    def __init__(self, schema: _Optional[_Union[SchemaFrame, _Mapping]] = ..., batch: _Optional[_Union[BatchFrame, _Mapping]] = ..., checkpoint: _Optional[_Union[CheckpointFrame, _Mapping]] = ..., rejected: _Optional[_Union[RejectedFrame, _Mapping]] = ..., wait: _Optional[_Union[WaitFrame, _Mapping]] = ..., progress: _Optional[_Union[ProgressFrame, _Mapping]] = ..., log: _Optional[_Union[LogFrame, _Mapping]] = ..., violation: _Optional[_Union[ViolationFrame, _Mapping]] = ..., failure: _Optional[_Union[_status_pb2.Status, _Mapping]] = ..., done: _Optional[_Union[DoneFrame, _Mapping]] = ...) -> None: ...

class SchemaFrame(_message.Message):
    __slots__ = ("stream", "arrow_schema", "fingerprint")
    STREAM_FIELD_NUMBER: _ClassVar[int]
    ARROW_SCHEMA_FIELD_NUMBER: _ClassVar[int]
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    stream: str
    arrow_schema: bytes
    fingerprint: str
    def __init__(self, stream: _Optional[str] = ..., arrow_schema: _Optional[bytes] = ..., fingerprint: _Optional[str] = ...) -> None: ...

class BatchFrame(_message.Message):
    __slots__ = ("batch_no", "stream", "rows", "crc32c", "arrow_ipc", "read_at", "raw_ref")
    BATCH_NO_FIELD_NUMBER: _ClassVar[int]
    STREAM_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    CRC32C_FIELD_NUMBER: _ClassVar[int]
    ARROW_IPC_FIELD_NUMBER: _ClassVar[int]
    READ_AT_FIELD_NUMBER: _ClassVar[int]
    RAW_REF_FIELD_NUMBER: _ClassVar[int]
    batch_no: int
    stream: str
    rows: int
    crc32c: int
    arrow_ipc: bytes
    read_at: _timestamp_pb2.Timestamp
    raw_ref: str
    def __init__(self, batch_no: _Optional[int] = ..., stream: _Optional[str] = ..., rows: _Optional[int] = ..., crc32c: _Optional[int] = ..., arrow_ipc: _Optional[bytes] = ..., read_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., raw_ref: _Optional[str] = ...) -> None: ...

class CheckpointFrame(_message.Message):
    __slots__ = ("state", "state_version", "checkpoint_type", "through_batch", "rows_since_last", "rejected_since_last", "watermark")
    STATE_FIELD_NUMBER: _ClassVar[int]
    STATE_VERSION_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_TYPE_FIELD_NUMBER: _ClassVar[int]
    THROUGH_BATCH_FIELD_NUMBER: _ClassVar[int]
    ROWS_SINCE_LAST_FIELD_NUMBER: _ClassVar[int]
    REJECTED_SINCE_LAST_FIELD_NUMBER: _ClassVar[int]
    WATERMARK_FIELD_NUMBER: _ClassVar[int]
    state: bytes
    state_version: int
    checkpoint_type: CheckpointType
    through_batch: int
    rows_since_last: int
    rejected_since_last: int
    watermark: _timestamp_pb2.Timestamp
    def __init__(self, state: _Optional[bytes] = ..., state_version: _Optional[int] = ..., checkpoint_type: _Optional[_Union[CheckpointType, str]] = ..., through_batch: _Optional[int] = ..., rows_since_last: _Optional[int] = ..., rejected_since_last: _Optional[int] = ..., watermark: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class RejectedFrame(_message.Message):
    __slots__ = ("stream", "reason", "sha256", "size", "key_json", "sample", "column", "text")
    STREAM_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    KEY_JSON_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_FIELD_NUMBER: _ClassVar[int]
    COLUMN_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    stream: str
    reason: str
    sha256: bytes
    size: int
    key_json: str
    sample: bytes
    column: str
    text: str
    def __init__(self, stream: _Optional[str] = ..., reason: _Optional[str] = ..., sha256: _Optional[bytes] = ..., size: _Optional[int] = ..., key_json: _Optional[str] = ..., sample: _Optional[bytes] = ..., column: _Optional[str] = ..., text: _Optional[str] = ...) -> None: ...

class WaitFrame(_message.Message):
    __slots__ = ("until", "reason")
    UNTIL_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    until: _timestamp_pb2.Timestamp
    reason: str
    def __init__(self, until: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., reason: _Optional[str] = ...) -> None: ...

class ProgressFrame(_message.Message):
    __slots__ = ("requests_total", "requests_failed_total", "bytes_ingested_total", "pages_processed_total", "retries_total")
    REQUESTS_TOTAL_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_FAILED_TOTAL_FIELD_NUMBER: _ClassVar[int]
    BYTES_INGESTED_TOTAL_FIELD_NUMBER: _ClassVar[int]
    PAGES_PROCESSED_TOTAL_FIELD_NUMBER: _ClassVar[int]
    RETRIES_TOTAL_FIELD_NUMBER: _ClassVar[int]
    requests_total: int
    requests_failed_total: int
    bytes_ingested_total: int
    pages_processed_total: int
    retries_total: int
    def __init__(self, requests_total: _Optional[int] = ..., requests_failed_total: _Optional[int] = ..., bytes_ingested_total: _Optional[int] = ..., pages_processed_total: _Optional[int] = ..., retries_total: _Optional[int] = ...) -> None: ...

class LogFrame(_message.Message):
    __slots__ = ("level", "message", "fields")
    class FieldsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    FIELDS_FIELD_NUMBER: _ClassVar[int]
    level: LogLevel
    message: str
    fields: _containers.ScalarMap[str, str]
    def __init__(self, level: _Optional[_Union[LogLevel, str]] = ..., message: _Optional[str] = ..., fields: _Optional[_Mapping[str, str]] = ...) -> None: ...

class ViolationFrame(_message.Message):
    __slots__ = ("kind", "path", "message")
    KIND_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    kind: str
    path: str
    message: str
    def __init__(self, kind: _Optional[str] = ..., path: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class StreamTotals(_message.Message):
    __slots__ = ("stream", "rows", "rejected", "batches")
    STREAM_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    REJECTED_FIELD_NUMBER: _ClassVar[int]
    BATCHES_FIELD_NUMBER: _ClassVar[int]
    stream: str
    rows: int
    rejected: int
    batches: int
    def __init__(self, stream: _Optional[str] = ..., rows: _Optional[int] = ..., rejected: _Optional[int] = ..., batches: _Optional[int] = ...) -> None: ...

class DoneFrame(_message.Message):
    __slots__ = ("reason", "totals")
    REASON_FIELD_NUMBER: _ClassVar[int]
    TOTALS_FIELD_NUMBER: _ClassVar[int]
    reason: DoneReason
    totals: _containers.RepeatedCompositeFieldContainer[StreamTotals]
    def __init__(self, reason: _Optional[_Union[DoneReason, str]] = ..., totals: _Optional[_Iterable[_Union[StreamTotals, _Mapping]]] = ...) -> None: ...

class CheckpointRequest(_message.Message):
    __slots__ = ("read_id", "unit", "through_batch", "commit_no", "state", "state_version")
    READ_ID_FIELD_NUMBER: _ClassVar[int]
    UNIT_FIELD_NUMBER: _ClassVar[int]
    THROUGH_BATCH_FIELD_NUMBER: _ClassVar[int]
    COMMIT_NO_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    STATE_VERSION_FIELD_NUMBER: _ClassVar[int]
    read_id: str
    unit: str
    through_batch: int
    commit_no: int
    state: bytes
    state_version: int
    def __init__(self, read_id: _Optional[str] = ..., unit: _Optional[str] = ..., through_batch: _Optional[int] = ..., commit_no: _Optional[int] = ..., state: _Optional[bytes] = ..., state_version: _Optional[int] = ...) -> None: ...

class CheckpointResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
