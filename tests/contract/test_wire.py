"""The bytes of every message, as a released peer would have sent them: a lost or renumbered field shows here."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest

from tests.golden import Golden
from wellhead_sdk.wire import arrow, service, status
from wellhead_sdk.wire import messages as m

AT = datetime(2026, 1, 2, 3, 4, 5, 678_900, tzinfo=UTC)
# Opaque bytes in place of Arrow's own, whose padding may differ from one pyarrow to the next.
UNIT = m.Unit("part-01", b"descriptor", b"state", 2, complete=True, estimated_rows=7)

MESSAGES: dict[str, tuple[service.Method[Any, Any], str, Any]] = {
    "describe_request": (service.DESCRIBE, "request", m.Hello((1,), ("f",), "0.1.0")),
    "describe_response": (
        service.DESCRIBE,
        "response",
        m.Description(1, ("f",), "dev/x", "1.2.3", "ab" * 32, 4, "wellhead-sdk 0.1.0"),
    ),
    "authenticate_request": (
        service.AUTHENTICATE,
        "request",
        m.Credentials(
            '{"host":"db.example.com"}',
            (m.Secret("password", "p", AT),),
            (m.OpenedHost("db.example.com", 5432, True),),
            ("login",),
            3,
        ),
    ),
    "authenticate_response": (
        service.AUTHENTICATE,
        "response",
        m.Identity("reader", ("read",), AT, (m.Probe("login", True, "ok", 12),)),
    ),
    "discover_request": (service.DISCOVER, "request", ("orders",)),
    "read_request": (
        service.READ,
        "request",
        m.ReadOrder(
            "r1",
            "orders",
            m.SyncMode.INCREMENTAL,
            m.WriteMode.APPEND,
            5,
            AT,
            m.Until.CAUGHT_UP,
            ("id",),
            (m.Filter("id", "in", (1, 2.5, "a", True)), m.Filter("x", "is_null", (False,))),
            10_000,
            (UNIT,),
            "updated_at",
            ("id",),
        ),
    ),
    "read_response": (service.READ, "response", m.ReadPlan((UNIT,), b"final", 2, True, (0, 1))),
    "emit_open": (service.EMIT, "request", m.Open("r1", "all", 16 << 20)),
    "emit_credit": (service.EMIT, "request", m.Credit(4096)),
    "emit_stop": (service.EMIT, "request", m.Stop(m.StopMode.DRAIN, 10.0)),
    "batch": (service.EMIT, "response", m.BatchFrame(1, "orders", 2, 0xE3069283, b"arrow", AT, "sha256:00")),
    "checkpoint": (
        service.EMIT,
        "response",
        m.CheckpointFrame(b'{"n":1}', 2, 1, 2, 3, m.CheckpointType.WATERMARK, AT),
    ),
    "rejected": (
        service.EMIT,
        "response",
        m.RejectedFrame("orders", "too_large", b"\1" * 32, 9, '{"id":1}', b"sample", "c", "text"),
    ),
    "wait": (service.EMIT, "response", m.WaitFrame(AT, "quota")),
    "progress": (service.EMIT, "response", m.ProgressFrame(1, 2, 3, 4, 5)),
    "log": (service.EMIT, "response", m.LogFrame(m.LogLevel.WARNING, "slow", (("page", "3"),))),
    "violation": (service.EMIT, "response", m.ViolationFrame("local_state", "/var/x", "read-only")),
    "failure": (service.EMIT, "response", m.Failure("throttled", "rate_limited", "later", 2.5, "orders", "wait")),
    "done": (
        service.EMIT,
        "response",
        m.DoneFrame(m.DoneReason.STOPPED, (m.StreamTotals("orders", 2, 1, 1),)),
    ),
    "checkpoint_request": (service.CHECKPOINT, "request", m.Committed("r1", "all", 1, 7, b"state", 2)),
}


@pytest.mark.parametrize("name", MESSAGES)
def test_a_message_is_written_and_read_as_ever(name: str, golden: Golden) -> None:
    method, side, value = MESSAGES[name]
    encoded: bytes = getattr(method, f"encode_{side}")(value)
    golden.check(f"{name}.hex", "\n".join(encoded.hex()[at : at + 96] for at in range(0, 2 * len(encoded), 96)) + "\n")
    stored = bytes.fromhex((golden.folder / f"{name}.hex").read_text())
    assert getattr(method, f"decode_{side}")(stored) == value


def test_an_arrow_batch_stored_by_an_earlier_version_is_read(golden: Golden) -> None:
    """The writer may change its padding; what an older one wrote must stay readable."""
    schema = pa.schema([pa.field("id", pa.int64(), False, {"wellhead.source_type": "oid"}), ("name", pa.string())])
    batch = pa.record_batch([[1, 2], ["a", None]], schema=schema)
    stored = bytes.fromhex((golden.folder / "arrow_batch.hex").read_text())
    assert arrow.from_ipc(stored).equals(batch, check_metadata=True)


def test_a_status_in_trailing_metadata_is_written_as_ever(golden: Golden) -> None:
    failure = m.Failure("permanent", "invalid_config", "2 wrong fields", fields=(("host", "missing"), ("port", "low")))
    golden.check("status.hex", status.encode(failure).hex() + "\n")
