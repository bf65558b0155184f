"""Every table of the registry, written once; the migrations are checked against this by a test.

    connector_definitions   releases we know                with channels, catalog_events
    tenant_connections      connections, each with lease    with approvals, policy_approvals, kept_configs
    connector_runs          one row a claim                 with run_events, pending_revocations, egress_audit
    connector_run_state     one row a read unit             with kept_checkpoints, generations, segments, dead_letters
    stream_registry         versions of a stream's schema   with compat_alerts

Times are stored in UTC and come back aware. Bytes that must come back unchanged are stored as bytes, documents as JSON.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ColumnElement,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Row,
    Table,
    UniqueConstraint,
    and_,
)

from wellhead.ids import ConnectionKey
from wellhead.registry.columns import JsonArray, JsonObject, String, Text, Utc, watch

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)

#: SQLite numbers rows only in a column of type INTEGER.
_Serial = BigInteger().with_variant(Integer(), "sqlite")


def belongs_to(table: Table, connection: ConnectionKey, stream: str | None = None) -> ColumnElement[bool]:
    """Return the condition that a row is of ``connection``, and of ``stream`` where one is named."""
    condition = and_(
        table.c.tenant_id == connection.tenant,
        table.c.project_id == connection.project,
        table.c.connection == connection.name,
    )
    return condition if stream is None else and_(condition, table.c.stream == stream)


def key_values(connection: ConnectionKey) -> dict[str, Any]:
    """Return the three key columns of ``connection`` as values to insert."""
    return {"tenant_id": connection.tenant, "project_id": connection.project, "connection": connection.name}


def key_of(row: Row[Any]) -> ConnectionKey:
    """Return whose row it is."""
    return ConnectionKey(row.tenant_id, row.project_id, row.connection)


def _id() -> Column[int]:
    return Column("id", _Serial, primary_key=True, autoincrement=True)


def _connection(*, primary_key: bool = False) -> list[Column[Any]]:
    return [
        Column("tenant_id", String, primary_key=primary_key, nullable=False),
        Column("project_id", String, primary_key=primary_key, nullable=False),
        Column("connection", String, primary_key=primary_key, nullable=False),
    ]


def _one_of(column: str, *values: str) -> CheckConstraint:
    listed = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({listed})", name=column)


connector_definitions = Table(
    "connector_definitions",
    metadata,
    Column("connector_id", String, primary_key=True),
    Column("version", String, primary_key=True),
    Column("index_digest", String, nullable=False, unique=True),
    Column("manifest_sha256", String, nullable=False),
    Column("platforms", JsonObject, nullable=False),
    Column("manifest", JsonObject, nullable=False),
    Column("key_id", String, nullable=False),
    Column("status", String, nullable=False),
    Column("status_reason", Text),
    Column("status_details", JsonObject),
    Column("published_at", Utc, nullable=False),
    Column("collected_at", Utc),
    Column("collecting_until", Utc),
    _one_of("status", "active", "deprecated", "yanked", "blocked"),
)

channels = Table(
    "channels",
    metadata,
    _id(),
    Column("connector_id", String, nullable=False),
    Column("channel", String, nullable=False),
    Column("version", String, nullable=False),
    Column("index_digest", String, nullable=False),
    Column("kind", String, nullable=False),
    Column("rollout", JsonObject),
    Column("who", String, nullable=False),
    Column("reason", Text, nullable=False),
    Column("pointed_at", Utc, nullable=False),
    _one_of("kind", "promote", "back", "halt"),
    Index(None, "connector_id", "channel", "id"),
)

catalog_events = Table(
    "catalog_events",
    metadata,
    _id(),
    Column("happened_at", Utc, nullable=False),
    Column("event", String, nullable=False),
    Column("connector_id", String, nullable=False),
    Column("version", String),
    Column("who", String, nullable=False),
    Column("details", JsonObject, nullable=False),
    Index(None, "connector_id", "id"),
)

tenant_connections = Table(
    "tenant_connections",
    metadata,
    *_connection(primary_key=True),
    Column("connector_id", String, nullable=False),
    Column("version_range", String, nullable=False),
    Column("channel", String, nullable=False),
    Column("enabled", Boolean, nullable=False),
    Column("file_sha256", String, nullable=False),
    Column("status", String, nullable=False),
    Column("resolved_version", String),
    Column("resolved_digest", String),
    Column("resolved_at", Utc),
    Column("decision", JsonObject),
    Column("hold_version", String),
    Column("hold_who", String),
    Column("hold_reason", Text),
    Column("hold_at", Utc),
    Column("hold_until", Utc),
    Column("approved_surface", JsonObject),
    Column("sink_id", String),
    Column("lease_run", String),
    Column("lease_epoch", BigInteger, nullable=False),
    Column("lease_until", Utc),
    Column("lease_host", String),
    Column("created_at", Utc, nullable=False),
    Column("updated_at", Utc, nullable=False),
    _one_of("status", "created", "configured", "ready", "error"),
)

approvals = Table(
    "approvals",
    metadata,
    _id(),
    *_connection(),
    Column("host", String, nullable=False),
    Column("port", Integer, nullable=False),
    Column("who", String, nullable=False),
    Column("reason", Text, nullable=False),
    Column("approved_at", Utc, nullable=False),
    Column("revoked_at", Utc),
    # Empty in rows of before migration 0005.
    Column("connector_id", String),
    Index(None, "tenant_id", "project_id", "connection"),
)

policy_approvals = Table(
    "policy_approvals",
    metadata,
    _id(),
    *_connection(),
    Column("connector_id", String, nullable=False),
    Column("policy", String, nullable=False),
    Column("sha256", String, nullable=False),
    Column("who", String, nullable=False),
    Column("reason", Text, nullable=False),
    Column("approved_at", Utc, nullable=False),
    Column("revoked_at", Utc),
    Index(None, "tenant_id", "project_id", "connection"),
)

connector_runs = Table(
    "connector_runs",
    metadata,
    Column("run_id", String, primary_key=True),
    *_connection(),
    Column("kind", String, nullable=False),
    Column("logical_run_id", String),
    Column("attempt", Integer, nullable=False),
    Column("epoch", BigInteger),
    Column("host_id", String, nullable=False),
    Column("status", String, nullable=False),
    Column("connector_id", String, nullable=False),
    Column("version", String),
    Column("index_digest", String),
    Column("image_id", String),
    Column("plan", JsonObject),
    Column("token_accessor", String),
    Column("exit_code", Integer),
    Column("error_class", String),
    Column("error_code", String),
    Column("error_message", Text),
    Column("error_hint", Text),
    Column("retry_at", Utc),
    Column("streams", JsonObject),
    Column("metrics", JsonObject),
    Column("cost", JsonObject),
    Column("timings", JsonObject),
    Column("receipt", JsonObject),
    Column("started_at", Utc, nullable=False),
    Column("heartbeat_at", Utc, nullable=False),
    Column("finished_at", Utc),
    _one_of("kind", "run", "probe"),
    _one_of("status", "running", "succeeded", "partial", "parked", "stopped", "refused", "failed", "lost"),
    Index(None, "tenant_id", "project_id", "connection", "run_id"),
    Index(None, "tenant_id", "project_id", "connection", "logical_run_id"),
    Index(None, "status"),
)

run_events = Table(
    "run_events",
    metadata,
    _id(),
    Column("run_id", String, nullable=False),
    Column("happened_at", Utc, nullable=False),
    Column("event", String, nullable=False),
    Column("details", JsonObject, nullable=False),
    Index(None, "run_id", "id"),
)

pending_revocations = Table(
    "pending_revocations",
    metadata,
    Column("accessor", String, primary_key=True),
    Column("run_id", String, nullable=False),
    Column("created_at", Utc, nullable=False),
    Column("expires_at", Utc, nullable=False),
    Index(None, "run_id"),
)

egress_audit = Table(
    "egress_audit",
    metadata,
    _id(),
    Column("run_id", String, nullable=False),
    Column("happened_at", Utc, nullable=False),
    Column("host", String, nullable=False),
    Column("port", Integer, nullable=False),
    Column("address", String),
    Column("verdict", String, nullable=False),
    Column("reason", String, nullable=False),
    Column("bytes_sent", BigInteger, nullable=False),
    Column("bytes_received", BigInteger, nullable=False),
    Column("duration_ms", BigInteger, nullable=False),
    _one_of("verdict", "allow", "deny"),
    Index(None, "run_id", "id"),
)

connector_run_state = Table(
    "connector_run_state",
    metadata,
    *_connection(primary_key=True),
    Column("stream", String, primary_key=True),
    Column("unit", String, primary_key=True),
    Column("epoch", BigInteger, nullable=False),
    Column("commit_no", BigInteger, nullable=False),
    Column("state", LargeBinary, nullable=False),
    Column("state_version", Integer, nullable=False),
    Column("checkpoint_type", String, nullable=False),
    Column("watermark", Utc),
    Column("generation", BigInteger, nullable=False),
    Column("position", Integer, nullable=False),
    Column("descriptor", LargeBinary, nullable=False),
    Column("estimated_rows", BigInteger),
    Column("complete", Boolean, nullable=False),
    Column("retired", Boolean, nullable=False),
    Column("rows_total", BigInteger, nullable=False),
    Column("rows_generation", BigInteger, nullable=False),
    Column("rejected_total", BigInteger, nullable=False),
    Column("updated_at", Utc, nullable=False),
)

kept_configs = Table(
    "kept_configs",
    metadata,
    *_connection(primary_key=True),
    Column("connector_id", String, primary_key=True),
    Column("config_version", Integer, primary_key=True),
    Column("config", JsonObject, nullable=False),
    Column("kept_at", Utc, nullable=False),
)

kept_checkpoints = Table(
    "kept_checkpoints",
    metadata,
    *_connection(primary_key=True),
    Column("stream", String, primary_key=True),
    Column("state_version", Integer, primary_key=True),
    Column("state", LargeBinary, nullable=False),
    Column("generation", BigInteger, nullable=False),
    Column("rows_total", BigInteger, nullable=False),
    Column("kept_at", Utc, nullable=False),
)

generations = Table(
    "generations",
    metadata,
    *_connection(primary_key=True),
    Column("stream", String, primary_key=True),
    Column("number", BigInteger, primary_key=True),
    Column("status", String, nullable=False),
    Column("mode", String, nullable=False),
    Column("write", String, nullable=False),
    Column("selection_hash", String, nullable=False),
    Column("schema_fingerprint", String, nullable=False),
    Column("state_writes", String, nullable=False),
    Column("final_state", LargeBinary, nullable=False),
    Column("final_state_version", Integer, nullable=False),
    Column("run_id", String, nullable=False),
    Column("started_at", Utc, nullable=False),
    Column("completed_at", Utc),
    Column("swapped_at", Utc),
    # Empty in rows of before migration 0008.
    Column("sink_id", String),
    Column("sink_path", Text),
    _one_of("status", "open", "complete", "swapped", "abandoned"),
    _one_of("mode", "full_refresh", "incremental"),
    _one_of("write", "replace", "append"),
)

segments = Table(
    "segments",
    metadata,
    _id(),
    *_connection(),
    Column("stream", String, nullable=False),
    Column("unit", String, nullable=False),
    Column("generation", BigInteger, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("commit_no", BigInteger, nullable=False),
    Column("run_id", String, nullable=False),
    Column("write", String, nullable=False),
    Column("name", Text, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("crc32c", BigInteger, nullable=False),
    Column("rows", BigInteger, nullable=False),
    Column("min_sequence", BigInteger),
    Column("max_sequence", BigInteger),
    Column("status", String, nullable=False),
    Column("committed_at", Utc, nullable=False),
    Column("published_at", Utc),
    _one_of("status", "committed", "published", "discarded"),
    _one_of("write", "replace", "append"),
    UniqueConstraint(
        "tenant_id",
        "project_id",
        "connection",
        "stream",
        "unit",
        "generation",
        "epoch",
        "commit_no",
        name="uq_segments_commit",
    ),
    Index(None, "tenant_id", "project_id", "connection", "status"),
)

dead_letters = Table(
    "dead_letters",
    metadata,
    _id(),
    *_connection(),
    Column("stream", String, nullable=False),
    Column("unit", String, nullable=False),
    Column("generation", BigInteger, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("commit_no", BigInteger, nullable=False),
    Column("run_id", String, nullable=False),
    Column("reason", String, nullable=False),
    Column("column_name", String, nullable=False),
    Column("text", Text, nullable=False),
    Column("key_json", Text, nullable=False),
    Column("sha256", String, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("sample", LargeBinary, nullable=False),
    Column("status", String, nullable=False),
    Column("set_aside_at", Utc, nullable=False),
    _one_of("status", "open", "replayed", "dropped"),
    Index(None, "tenant_id", "project_id", "connection", "stream", "id"),
    Index(None, "run_id"),
)

stream_registry = Table(
    "stream_registry",
    metadata,
    *_connection(primary_key=True),
    Column("stream", String, primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("fingerprint", String, nullable=False),
    Column("arrow_schema", LargeBinary, nullable=False),
    Column("primary_key", JsonArray, nullable=False),
    Column("cursor_fields", JsonArray, nullable=False),
    Column("release_version", String, nullable=False),
    Column("run_id", String, nullable=False),
    Column("first_seen_at", Utc, nullable=False),
)

compat_alerts = Table(
    "compat_alerts",
    metadata,
    _id(),
    Column("raised_at", Utc, nullable=False),
    Column("kind", String, nullable=False),
    Column("severity", String, nullable=False),
    Column("connector_id", String, nullable=False),
    Column("version", String),
    Column("tenant_id", String),
    Column("project_id", String),
    Column("connection", String),
    Column("stream", String),
    Column("run_id", String),
    Column("message", Text, nullable=False),
    Column("details", JsonObject, nullable=False),
    Column("acknowledged_at", Utc),
    Column("acknowledged_by", String),
    _one_of("severity", "info", "warning", "breaking"),
    Index(None, "connector_id", "id"),
)

for _table in metadata.tables.values():
    for _column in _table.columns:
        watch(_column)
