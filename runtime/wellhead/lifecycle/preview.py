"""A few rows of a stream, for a person to look at: read, shown, forgotten."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from wellhead.connections import StreamSelection
from wellhead.errors import ConfigurationError
from wellhead.lifecycle import select
from wellhead.lifecycle.discover import NOT_OFFERED
from wellhead.lifecycle.plan import Plan
from wellhead.lifecycle.stream import filters_of
from wellhead.session.client import Session
from wellhead.session.stream import UnitStream
from wellhead.session.verify import Batch
from wellhead_sdk.wire.messages import DoneFrame, ReadOrder, RejectedFrame, StopMode, SyncMode

#: Little credit, so that the connector does not read far ahead of what is shown.
CREDIT_BYTES = 1024 * 1024
STOP_S = 5.0
POLL_S = 1.0


def preview(session: Session, plan: Plan, stream: str, limit: int) -> tuple[list[dict[str, Any]], list[str]]:
    """Return up to ``limit`` rows of the stream, unit after unit, narrowed as it is selected, and the columns.

    Raises:
        ConfigurationError: the stream is not offered, or the selection does not fit it.
        WellheadError: whatever reading reports.
    """
    offered = next(iter(session.discover((stream,))), None)
    if offered is None:
        raise ConfigurationError(
            f"the source does not offer {stream!r}", code=NOT_OFFERED, hint="`wellhead streams` lists what it offers"
        )
    selected = next((known for known in plan.connection.streams if known.name == stream), StreamSelection(name=stream))
    filters = filters_of(selected)
    select.check(offered.schema, selected.columns, filters, stream)
    order = ReadOrder(
        read_id=f"preview-{stream}",
        stream=stream,
        mode=SyncMode.FULL_REFRESH if SyncMode.FULL_REFRESH in offered.sync_modes else SyncMode.INCREMENTAL,
        columns=select.asked(selected.columns, filters),
        filters=filters,
        batch_rows=min(limit, selected.batch_size),
        cursor_field=selected.cursor_field or next(iter(offered.cursor_fields), ""),
        primary_key=selected.primary_key or offered.primary_key,
    )
    answer = session.read(order)
    left = tuple(condition for index, condition in enumerate(filters) if index not in answer.filters_pushed_down)
    columns = select.left(selected.columns, filters, is_pushed_down=answer.columns_pushed_down)
    rows: list[dict[str, Any]] = []
    for unit in answer.units:
        if len(rows) < limit:
            with session.emit(order.read_id, unit.key, CREDIT_BYTES) as frames:
                for batch in _batches(frames):
                    rows += select.narrow(batch.record_batch, columns, left).slice(0, limit - len(rows)).to_pylist()
                    if len(rows) >= limit:
                        frames.stop(StopMode.NOW, STOP_S)
                        break
    names = list(selected.columns) or [name for name in offered.schema.names if name not in ("_op", "_pos")]
    return rows, names


def _batches(frames: UnitStream) -> Iterator[Batch]:
    """Yield a unit's batches, giving back the credit of each once the next one is asked for."""
    while True:
        frame = frames.poll(POLL_S)
        match frame:
            case Batch():
                yield frame
                frames.grant(frame.payload_bytes)
            case RejectedFrame():
                frames.grant(len(frame.sample))
            case DoneFrame():
                frames.finish()
                return
            case _:
                continue
