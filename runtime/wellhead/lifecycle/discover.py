"""What the source offers, checked against what was selected, and remembered with its versions."""

from __future__ import annotations

from collections.abc import Sequence

from wellhead.errors import Code, ConfigurationError
from wellhead.ids import ConnectorId, StreamKey, StreamName
from wellhead.lifecycle.host import Run
from wellhead.registry import alerts, streams
from wellhead.session.client import Session
from wellhead.sinks import envelope
from wellhead_sdk.wire import arrow
from wellhead_sdk.wire.messages import OfferedStream

NOT_OFFERED = Code("WH-RUN-060", "The source does not offer a selected stream.")

SCHEMA_CHANGED = "schema_changed"


def discover(
    here: Run, session: Session, names: Sequence[str], *, connector_id: ConnectorId, version: str
) -> list[OfferedStream]:
    """Return the selected streams in the order they were selected.

    A stream whose schema differs from the one last seen gets a new version in ``stream_registry`` and an alert.

    Raises:
        ConfigurationError: a stream is not offered (WH-RUN-060), or has a column with one of the envelope's names.
    """
    offered = {stream.name: stream for stream in session.discover(tuple(names))}
    missing = [name for name in names if name not in offered]
    if missing:
        raise ConfigurationError(
            f"the source does not offer {', '.join(map(repr, missing))}",
            code=NOT_OFFERED,
            hint=f"`wellhead streams {here.claim.connection.name}` lists what it offers",
        )
    found = [offered[name] for name in names]
    for stream in found:
        envelope.check_names(stream.schema, stream.name, has_position=stream.has_position)
        if not here.claim.is_probe:
            _observe(here, stream, connector_id, version)
    return found


def _observe(here: Run, stream: OfferedStream, connector_id: ConnectorId, version: str) -> None:
    key = StreamKey(here.claim.connection, StreamName(stream.name))
    schema = arrow.schema_bytes(stream.schema)
    # Invariant 15: names are the connector's words. A password that is also a column's name is no reason to read
    # nothing, so they are struck and not refused; what tells versions apart is the fingerprint.
    shape = streams.Shape(
        fingerprint=arrow.fingerprint(schema),
        arrow_schema=here.redactor.masked(schema),
        primary_key=tuple(here.redactor.known(name) for name in stream.primary_key),
        cursor_fields=tuple(here.redactor.known(name) for name in stream.cursor_fields),
    )
    with here.host.database.read() as tx:
        before = streams.latest(tx, key)
    if before is not None and before.shape == shape:
        return
    with here.host.database.transaction() as tx:
        streams.observe(tx, key, shape, release_version=version, run_id=here.claim.run_id)
        if before is not None:
            alerts.note(
                tx,
                alerts.NewAlert(
                    kind=SCHEMA_CHANGED,
                    severity="warning",
                    connector_id=connector_id,
                    message=f"the schema of {stream.name} changed: {_difference(before.shape, shape)}",
                    version=version,
                    connection=here.claim.connection,
                    stream=key.stream,
                    run_id=here.claim.run_id,
                ),
            )


def _difference(before: streams.Shape, now: streams.Shape) -> str:
    old = {field.name: str(field.type) for field in arrow.schema_from_bytes(before.arrow_schema)}
    new = {field.name: str(field.type) for field in arrow.schema_from_bytes(now.arrow_schema)}
    parts = [f"+{name} {new[name]}" for name in new if name not in old]
    parts += [f"-{name}" for name in old if name not in new]
    parts += [f"{name} {old[name]} → {new[name]}" for name in new if name in old and old[name] != new[name]]
    return ", ".join(parts) or "order, nullability, keys or metadata"
