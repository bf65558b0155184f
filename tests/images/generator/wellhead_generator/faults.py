"""What can be asked to go wrong while rows flow: typed errors, crashes, rejected and oversize rows.

These are the failures of an honest connector and an unlucky source. Lies and attacks belong to `dev/hostile`.
"""

from __future__ import annotations

import os
import signal
from typing import Literal, assert_never

import pyarrow as pa
import pyarrow.compute as pc

import wellhead_sdk as sdk

Fault = Literal["transient", "throttled", "auth", "configuration", "data", "fatal", "exception", "crash", "exit"]

#: One byte more than the largest frame, before Arrow adds its own: such a row can never travel in a batch.
OVERSIZE_BYTES = 16 * 1024 * 1024 + 1


def fail(fault: Fault, row: int, retry_after_s: float) -> None:
    """End this read as asked; never returns.

    Raises:
        sdk.Failed: the typed error of that name, or ZeroDivisionError for ``exception``.
    """
    where = f"asked to fail at row {row}"
    match fault:
        case "transient":
            raise sdk.Transient(where)
        case "throttled":
            raise sdk.Throttled(where, retry_after_s=retry_after_s)
        case "auth":
            raise sdk.Auth(where)
        case "configuration":
            raise sdk.Configuration(where, fields={"fail_at": "names a row that exists"})
        case "data":
            raise sdk.Data(where)
        case "fatal":
            raise sdk.Fatal(where)
        case "exception":
            raise ZeroDivisionError(where)
        case "crash":
            os.kill(os.getpid(), signal.SIGKILL)
        case "exit":
            # Past every handler and `finally`: the process is gone as if it had ended well.
            os._exit(0)
        case _:
            assert_never(fault)


def reject(out: sdk.Out, batch: pa.RecordBatch, every: int) -> pa.RecordBatch:
    """Set aside each row whose id is a multiple of ``every`` and return the others."""
    chosen = pc.equal(_modulo(batch.column("id"), every), 0)
    for record in batch.filter(chosen).to_pylist():
        out.reject(record, reason="malformed", column="value", text=str(record["value"]))
    return batch.filter(pc.invert(chosen))


def oversize(batch: pa.RecordBatch, every: int) -> pa.RecordBatch:
    """Blow up the note of each row whose id is one below a multiple of ``every`` past what a frame may hold."""
    place = batch.schema.get_field_index("note")
    chosen = pc.equal(_modulo(batch.column("id"), every), every - 1)
    notes = pc.if_else(chosen, pa.scalar("x" * OVERSIZE_BYTES), batch.column("note"))
    return batch.set_column(place, batch.schema.field(place), notes)


def _modulo(column: pa.Array, divisor: int) -> pa.Array:
    return pc.subtract(column, pc.multiply(pc.divide(column, divisor), divisor))
