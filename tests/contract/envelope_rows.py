"""Rows of every type, and event ids computed as docs/explain/envelope.md tells, a row at a time."""

from __future__ import annotations

import hashlib
import json
import math
import struct
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa

from wellhead.ids import ConnectionKey, ConnectorId, RunId, StreamKey, StreamName
from wellhead.sinks.envelope import Envelope, EnvelopeContext

STREAM = StreamKey(ConnectionKey("acme", "main", "shop"), StreamName("public.orders"))
MOMENT = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)

#: name → (Arrow type, form as the page tells it, two values, the bytes of each: fixed, variable).
_I = struct.Struct("<q")
CASES: dict[str, tuple[pa.DataType, str, list[Any], list[tuple[bytes, bytes]]]] = {
    "a_int8": (pa.int8(), "int", [-1, 7], [(_I.pack(-1), b""), (_I.pack(7), b"")]),
    "b_int64": (pa.int64(), "int", [-(2**63), 2**53 + 1], [(_I.pack(-(2**63)), b""), (_I.pack(2**53 + 1), b"")]),
    "c_uint64": (pa.uint64(), "int", [2**64 - 1, 0], [(b"\xff" * 8, b""), (b"\x00" * 8, b"")]),
    "d_double": (
        pa.float64(),
        "float",
        [-0.0, math.nan],
        [(b"\x00" * 7 + b"\x80", b""), (bytes.fromhex("000000000000f87f"), b"")],
    ),
    "e_float": (pa.float32(), "float", [1.5, -2.0], [(struct.pack("<d", 1.5), b""), (struct.pack("<d", -2.0), b"")]),
    "f_bool": (pa.bool_(), "bool", [True, False], [(b"\x01", b""), (b"\x00", b"")]),
    "g_decimal": (
        pa.decimal128(10, 2),
        "decimal(2)",
        [Decimal("-1.25"), Decimal("99999999.99")],
        [((-125).to_bytes(16, "little", signed=True), b""), ((9999999999).to_bytes(16, "little"), b"")],
    ),
    "h_date": (pa.date32(), "date", [-1, 20_000], [(_I.pack(-1), b""), (_I.pack(20_000), b"")]),
    "i_instant": (pa.timestamp("us", "UTC"), "instant(us)", [-1, 5], [(_I.pack(-1), b""), (_I.pack(5), b"")]),
    "j_timestamp": (pa.timestamp("ns"), "timestamp(ns)", [1, 2], [(_I.pack(1), b""), (_I.pack(2), b"")]),
    "k_time": (pa.time32("ms"), "time(ms)", [1, 86_399_999], [(_I.pack(1), b""), (_I.pack(86_399_999), b"")]),
    "l_duration": (pa.duration("s"), "duration(s)", [-3, 3], [(_I.pack(-3), b""), (_I.pack(3), b"")]),
    "m_text": (
        pa.utf8(),
        "text",
        ["", "größe 🚀"],
        [(b"\x00" * 4, b""), (struct.pack("<I", 12), "größe 🚀".encode())],
    ),
    "n_bytes": (
        pa.binary(),
        "bytes",
        [b"\x00\xff", b"x"],
        [(struct.pack("<I", 2), b"\x00\xff"), (struct.pack("<I", 1), b"x")],
    ),
    "o_fixed": (pa.binary(2), "bytes", [b"ab", b"cd"], [(struct.pack("<I", 2), b"ab"), (struct.pack("<I", 2), b"cd")]),
    "p_dictionary": (
        pa.dictionary(pa.int8(), pa.utf8()),
        "text",
        ["x", "y"],
        [(struct.pack("<I", 1), b"x"), (struct.pack("<I", 1), b"y")],
    ),
    "q_list": (
        pa.list_(pa.int32()),
        "list(int)",
        [[1, None], []],
        [
            (struct.pack("<I", 14), struct.pack("<I", 2) + b"\x01" + _I.pack(1) + b"\x00"),
            (struct.pack("<I", 4), struct.pack("<I", 0)),
        ],
    ),
    "r_struct": (
        pa.struct([("t", pa.utf8()), ("l", pa.list_(pa.utf8()))]),
        "struct(t:text,l:list(text))",
        [{"t": "ab", "l": ["c"]}, {"t": None, "l": None}],
        [
            (
                struct.pack("<I", 22),
                b"\x01"
                + struct.pack("<I", 2)
                + b"ab"
                + b"\x01"
                + struct.pack("<I", 10)
                + struct.pack("<I", 1)
                + b"\x01"
                + struct.pack("<I", 1)
                + b"c",
            ),
            (struct.pack("<I", 2), b"\x00\x00"),
        ],
    ),
    "s_map": (
        pa.map_(pa.utf8(), pa.int8()),
        "list(struct(key:text,value:int))",
        [[("k", 1)], []],
        [
            (
                struct.pack("<I", 24),
                struct.pack("<I", 1)
                + b"\x01"
                + struct.pack("<I", 15)
                + b"\x01"
                + struct.pack("<I", 1)
                + b"k"
                + b"\x01"
                + _I.pack(1),
            ),
            (struct.pack("<I", 4), struct.pack("<I", 0)),
        ],
    ),
    "t_decimal256": (
        pa.decimal256(50, 1),
        "decimal(1)",
        [Decimal("-0.1"), Decimal("7.0")],
        [((-1).to_bytes(32, "little", signed=True), b""), ((70).to_bytes(32, "little"), b"")],
    ),
}


def column(name: str, rows: list[Any]) -> pa.Array:
    """Return a column of a case's type."""
    kind = CASES[name][0]
    by_count = pa.types.is_temporal(kind)
    base = pa.int32() if by_count and kind.bit_width == 32 else pa.int64()
    return pa.array(rows, base).cast(kind) if by_count else pa.array(rows, kind)


def batch() -> pa.RecordBatch:
    """Return three rows: both values of each case, and nulls everywhere; the key is no null."""
    columns = {name: column(name, [*case[2], None]) for name, case in CASES.items()}
    return pa.RecordBatch.from_pydict({"id": pa.array([1, 2, 3], pa.int64()), **columns})


def sized(content: bytes) -> bytes:
    """Return the length, then the content."""
    return struct.pack("<I", len(content)) + content


def expected(kind: str, key: list[str], op: str, ordinal: int, row: int) -> tuple[bytes, str]:
    """Compute one row's prefix and canonical bytes, one after the other, and its id as the page tells it."""
    identity = {"id": ("int", (_I.pack(row + 1), b""))}
    cases: dict[str, tuple[str, tuple[bytes, bytes] | None]] = {
        name: (form, [*values, None][row]) for name, (_, form, _, values) in CASES.items()
    }
    widths = {name: len(values[0][0]) for name, (_, _, _, values) in CASES.items()} | {"id": 8}
    fields = {**identity, **cases}
    order = key + sorted(set(fields) - set(key), key=str.encode)
    prefix = b"wellhead event id 2\n" + kind.encode() + sized(str(STREAM).encode())
    extra = [("_op", "op", op.encode())] + [("", "int", _I.pack(ordinal))] * (kind == "c")
    prefix += struct.pack("<II", len(key), len(order) + len(extra))
    fixed = variable = b""
    for name in order:
        form, value = fields[name]
        prefix += sized(name.encode()) + sized(form.encode())
        fixed += b"\x00" * (1 + widths[name]) if value is None else b"\x01" + value[0]
        variable += b"" if value is None else value[1]
    for name, form, content in extra:
        prefix += sized(name.encode()) + sized(form.encode())
        fixed += b"\x01" + content
    canonical = hashlib.sha256(prefix).digest() + fixed + variable
    return prefix + canonical, hashlib.sha256(canonical).hexdigest()[:32]


def envelope(schema: pa.Schema, *, key: tuple[str, ...] = ("id",), has_position: bool = False) -> Envelope:
    """Return an envelope for the stream of the golden files."""
    context = EnvelopeContext(
        STREAM, ConnectorId("acme/shop"), "acme/shop@1.0.0", RunId("run-1"), 3, key, has_position=has_position
    )
    return Envelope(context, schema)


def wrapped(kind: str) -> pa.RecordBatch:
    """Return the rows in an envelope whose ids are of one kind."""
    rows = batch()
    if kind == "position":
        rows = rows.append_column("_pos", pa.array(["0/1:0", "0/1:1", "0/2:0"]))
    made = envelope(rows.schema, key=("id",) if kind == "key" else (), has_position=kind == "position")
    return made.wrap(
        rows, first_sequence=40, first_ordinal=10, read_at=MOMENT, ingested_at=MOMENT, raw_ref="sha256:" + "ab" * 32
    )


def schema_text() -> str:
    """Return the envelope's own columns as text."""
    fields = wrapped("key").schema
    return "".join(f"{field}\n" for field in fields if field.name.startswith("_"))


def golden() -> dict[str, str]:
    """Return what the golden files hold now."""
    ids = {kind: wrapped(kind).column("_event_id").to_pylist() for kind in ("position", "key", "content")}
    row = {
        name: str(wrapped("key").column(name)[0].as_py())
        for name in wrapped("key").schema.names
        if name.startswith("_")
    }
    return {
        "schema.txt": schema_text(),
        "event_ids.json": json.dumps(ids, indent=2) + "\n",
        "canonical_key_row_1.hex": expected("k", ["id"], "r", 10, 0)[0].hex() + "\n",
        "row.json": json.dumps(row, indent=2) + "\n",
    }
