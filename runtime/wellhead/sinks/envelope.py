"""The envelope: the columns every Bronze record carries beside its payload.

    payload columns … | _event_id _occurred_at _ingested_at _source_ref _raw_ref _tenant_id _project_id
                        _connector_id _stream _sequence _op _generation _run_id _changes

Made over whole columns, never row by row. Two columns may come in with the payload and are the protocol's own: ``_op``
(what was done to the record) and ``_pos`` (where in the source it stands, which the event id rests on).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from wellhead.errors import Code, ConfigurationError, FatalError
from wellhead.ids import ConnectorId, RunId, StreamKey
from wellhead.sinks import event_id
from wellhead.sinks.event_id import Identity, Kind

RESERVED_NAME = Code("WH-SNK-002", "A payload column has a reserved name.")
NOT_A_TIME = Code("WH-SNK-003", "The event time's column holds no time.")
UNKNOWN_COLUMN = Code("WH-SNK-004", "A column the stream names is not in its schema.")
BROKEN_ROW = Code("WH-SNK-005", "A record breaks the event contract.")

OP, POSITION = "_op", "_pos"
OPERATIONS = ("r", "c", "u", "d")

TIME = pa.timestamp("us", "UTC")
CONSTANT = pa.dictionary(pa.int8(), pa.utf8())
CHANGES = pa.list_(
    pa.struct([pa.field("column", pa.utf8()), pa.field("change", pa.utf8()), pa.field("reason", pa.utf8())])
)

#: The envelope's own columns, in order.
FIELDS: tuple[pa.Field, ...] = (
    pa.field("_event_id", pa.utf8(), nullable=False),
    pa.field("_occurred_at", TIME, nullable=False),
    pa.field("_ingested_at", TIME, nullable=False),
    pa.field("_source_ref", CONSTANT, nullable=False),
    pa.field("_raw_ref", CONSTANT),
    pa.field("_tenant_id", CONSTANT, nullable=False),
    pa.field("_project_id", CONSTANT, nullable=False),
    pa.field("_connector_id", CONSTANT, nullable=False),
    pa.field("_stream", CONSTANT, nullable=False),
    pa.field("_sequence", pa.int64(), nullable=False),
    pa.field(OP, CONSTANT, nullable=False),
    pa.field("_generation", pa.int64(), nullable=False),
    pa.field("_run_id", CONSTANT, nullable=False),
    pa.field("_changes", CHANGES),
)
NAMES = tuple(field.name for field in FIELDS)
_RESERVED = {name.casefold() for name in (*NAMES, POSITION)}

TimeSource = Literal["event_time", "cursor", "read"]


@dataclass(frozen=True, slots=True)
class EnvelopeContext:
    """What is the same for all rows of one stream in one run.

    ``event_time_field`` and ``cursor_field`` are empty where there is none; a cursor that is no time is passed over.
    """

    stream: StreamKey
    connector_id: ConnectorId
    source_ref: str
    run_id: RunId
    generation: int
    primary_key: tuple[str, ...] = ()
    event_time_field: str = ""
    cursor_field: str = ""
    has_position: bool = False


def check_names(schema: pa.Schema, stream: str, *, has_position: bool) -> None:
    """Refuse a payload whose columns would meet the envelope's; readers such as DuckDB do not tell case apart.

    Raises:
        ConfigurationError: a reserved name (WH-SNK-002).
    """
    own = {OP, POSITION} if has_position else {OP}
    taken = [name for name in schema.names if name.casefold() in _RESERVED and name not in own]
    if taken:
        raise ConfigurationError(
            f"stream {stream} has columns named like the envelope's: {', '.join(taken)}",
            code=RESERVED_NAME,
            hint="leave them out with `columns`, or let the source name them differently (a view does)",
        )


class Envelope:
    """Wraps the batches of one stream and one schema; holds no state, so that threads may share it."""

    def __init__(self, context: EnvelopeContext, schema: pa.Schema) -> None:
        """Settle what the ids and times rest on.

        Raises:
            ConfigurationError: a reserved name (WH-SNK-002), a time column that is none (WH-SNK-003), a column that is
                not there (WH-SNK-004).
        """
        stream = context.stream.stream
        check_names(schema, stream, has_position=context.has_position)
        named = [*context.primary_key, *filter(None, [context.event_time_field])]
        named += [POSITION] if context.has_position else []
        missing = [name for name in named if name not in schema.names]
        if missing:
            raise ConfigurationError(
                f"stream {stream} has no column {', '.join(missing)}",
                code=UNKNOWN_COLUMN,
                hint="primary key, event time and position have to be among the columns read",
            )
        self._context = context
        self._payload = [name for name in schema.names if name not in (OP, POSITION)]
        self._has_op = OP in schema.names
        self._identity = Identity(str(context.stream), *_identity(context))
        self._time_source, self._time_field = _time(context, schema)
        payload = [schema.field(name) for name in self._payload]
        self.schema: pa.Schema = pa.schema([*payload, *FIELDS], metadata=self._metadata(schema))

    def wrap(
        self,
        batch: pa.RecordBatch,
        *,
        first_sequence: int,
        first_ordinal: int,
        read_at: datetime,
        ingested_at: datetime,
        raw_ref: str = "",
        changes: pa.Array | None = None,
    ) -> pa.RecordBatch:
        """Return ``batch`` with the envelope's columns, in `schema`.

        Args:
            batch: rows as decoded, with the schema given at construction.
            first_sequence: rows written before in this unit, over its life.
            first_ordinal: rows written before in this unit and generation.
            read_at: when the rows' page was read.
            ingested_at: now.
            raw_ref: ``sha256:…`` of the raw page; empty where none is kept.
            changes: what the host altered, a row; None where nothing.

        Raises:
            FatalError: ``_op`` or ``_pos`` holds what may not be there (WH-SNK-005).
        """
        context, rows = self._context, batch.num_rows
        op = self._op(batch) if self._has_op else None
        subject = batch.select([POSITION] if context.has_position else self._payload)
        if context.has_position and subject.column(0).null_count:
            raise self._broken("a record has no position")
        arrays = {
            "_event_id": event_id.ids(self._identity, subject, op, first_ordinal),
            "_occurred_at": self._occurred_at(batch, read_at),
            "_ingested_at": pa.repeat(pa.scalar(ingested_at, TIME), rows),
            "_source_ref": _constant(context.source_ref, rows),
            "_raw_ref": _constant(raw_ref or None, rows),
            "_tenant_id": _constant(context.stream.connection.tenant, rows),
            "_project_id": _constant(context.stream.connection.project, rows),
            "_connector_id": _constant(context.connector_id, rows),
            "_stream": _constant(context.stream.stream, rows),
            "_sequence": pa.array(np.arange(first_sequence, first_sequence + rows, dtype=np.int64)),
            OP: _constant("r", rows) if op is None else op.dictionary_encode().cast(CONSTANT),
            "_generation": pa.array(np.full(rows, context.generation, dtype=np.int64)),
            "_run_id": _constant(context.run_id, rows),
            "_changes": pa.nulls(rows, CHANGES) if changes is None else changes,
        }
        payload = [batch.column(name) for name in self._payload]
        return pa.RecordBatch.from_arrays([*payload, *(arrays[name] for name in NAMES)], schema=self.schema)

    def _op(self, batch: pa.RecordBatch) -> pa.Array:
        column = batch.column(OP).cast(pa.utf8())
        if column.null_count or not pc.all(pc.is_in(column, pa.array(OPERATIONS)), min_count=0).as_py():
            raise self._broken(f"{OP} is not one of {' '.join(OPERATIONS)}")
        return column

    def _occurred_at(self, batch: pa.RecordBatch, read_at: datetime) -> pa.Array:
        read = pa.scalar(read_at, TIME)
        if not self._time_field:
            return pa.repeat(read, batch.num_rows)
        column = batch.column(self._time_field)
        if pa.types.is_date(column.type):
            column = column.cast(pa.timestamp("s"))
        # A zone-less time is taken as UTC: the source said nothing else. Finer than microseconds is cut.
        try:
            moments = pc.cast(column, options=pc.CastOptions(TIME, allow_time_truncate=True))
        except pa.ArrowInvalid as failure:
            raise self._broken(f"{self._time_field} holds a time beyond what microseconds can tell") from failure
        return moments.fill_null(read)

    def _broken(self, what: str) -> FatalError:
        return FatalError(
            f"stream {self._context.stream.stream}: {what}",
            code=BROKEN_ROW,
            hint="the connector breaks its own contract; report it to its publisher",
        )

    def _metadata(self, schema: pa.Schema) -> dict[bytes, bytes]:
        told = self._time_source + (f":{self._time_field}" if self._time_field else "")
        return {
            **(schema.metadata or {}),
            b"wellhead.envelope": b"1",
            b"wellhead.occurred_at": told.encode(),
            b"wellhead.event_id": self._identity.kind.encode(),
        }


def _identity(context: EnvelopeContext) -> tuple[Kind, tuple[str, ...]]:
    if context.has_position:
        return "position", (POSITION,)
    return ("key", context.primary_key) if context.primary_key else ("content", ())


def _time(context: EnvelopeContext, schema: pa.Schema) -> tuple[TimeSource, str]:
    if context.event_time_field:
        if not _is_time(schema.field(context.event_time_field).type):
            raise ConfigurationError(
                f"the event time {context.event_time_field} of stream {context.stream.stream} "
                f"is {schema.field(context.event_time_field).type}, not a time",
                code=NOT_A_TIME,
                hint="let the connector declare a timestamp or date column, or none",
            )
        return "event_time", context.event_time_field
    cursor = context.cursor_field
    if cursor in schema.names and _is_time(schema.field(cursor).type):
        return "cursor", cursor
    return "read", ""


def _is_time(kind: pa.DataType) -> bool:
    return bool(pa.types.is_timestamp(kind) or pa.types.is_date(kind))


def _constant(value: str | None, rows: int) -> pa.DictionaryArray:
    """Return one value for all rows: a byte each, whatever its length."""
    if value is None:
        return pa.nulls(rows, CONSTANT)
    indices = pa.array(np.zeros(rows, dtype=np.int8))
    return pa.DictionaryArray.from_arrays(indices, pa.array([value], pa.utf8()))
