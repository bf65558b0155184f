"""The generator behind the SDK: three streams, cut into pages."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import wellhead_sdk as sdk
from wellhead_generator import faults, rows
from wellhead_generator.config import GeneratorConfig
from wellhead_generator.ledger import Ledger
from wellhead_sdk.connector import WHOLE_STREAM


@dataclass(frozen=True, slots=True)
class Source:
    """The opened source: its settings, its table and the ledger it forgets by, if it has one."""

    config: GeneratorConfig
    table: rows.Rows
    ledger: Ledger | None

    def size(self) -> int:
        """Return how many rows the source has now."""
        if self.config.rows_file is None:
            return self.config.rows
        return int(Path(self.config.rows_file).read_text(encoding="ascii"))

    def first(self, unit: str) -> int:
        """Return the first row of ``unit`` the source has not yet forgotten."""
        return 0 if self.ledger is None else self.ledger.position(unit)


class Generator(sdk.Connector):
    """Streams `rows` (keyed, may be partitioned), `events` (a change log) and `empty`."""

    Config = GeneratorConfig
    max_parallel = 8

    def authenticate(self, config: GeneratorConfig, secrets: Mapping[str, str]) -> Source:
        """Open the source; it knows no credentials."""
        ledger = Ledger(config.ledger) if config.ledger else None
        return Source(config, rows.Rows(config.profile, config.seed), ledger)

    def discover(self, session: Source) -> Iterator[sdk.Stream]:
        """Offer the three streams."""
        size = session.size()
        yield sdk.Stream(
            "rows",
            schema=session.table.schema,
            primary_key=["id"],
            cursor="updated_at",
            event_time="updated_at",
            estimated_rows=size,
        )
        yield sdk.Stream("events", schema=rows.EVENTS, cursor="_pos", event_time="at", has_position=True)
        yield sdk.Stream("empty", schema=session.table.schema, primary_key=["id"], cursor="updated_at")

    def plan(self, session: Source, request: sdk.ReadRequest) -> sdk.Plan:
        """Cut a full refresh of `rows` into ranges of ids; everything else is one unit."""
        size = session.size()
        count = session.config.partitions
        if request.stream != "rows" or request.mode is not sdk.SyncMode.FULL_REFRESH or count == 1:
            return sdk.Plan(units=(sdk.Unit(WHOLE_STREAM),))
        units = tuple(
            sdk.Unit(f"part-{number:02d}", {"start": start, "stop": stop})
            for number, (start, stop) in enumerate(rows.partitions(size, count))
        )
        return sdk.Plan(units=units, final_state={"unit": WHOLE_STREAM, "next": size})

    def check_plan(self, session: Source, request: sdk.ReadRequest, units: Sequence[sdk.Unit]) -> None:
        """Take back any plan: a range of ids says all there is to know about it."""

    def read(self, session: Source, request: sdk.ReadRequest, out: sdk.Out) -> None:
        """Send the unit's rows page by page, offering a checkpoint every so many pages."""
        reading = Reading(session, request, out)
        if reading.position == reading.stop:
            out.checkpoint(reading.state())
        while reading.position < reading.stop:
            reading.page()

    def on_committed(self, session: Source, state: sdk.State) -> None:
        """Let the source forget what is now in Bronze."""
        if session.ledger is not None and isinstance(state, dict):
            session.ledger.acknowledge(state["unit"], state["next"])


class Reading:
    """One unit on its way: where it stands, and what happens at which row."""

    def __init__(self, source: Source, request: sdk.ReadRequest, out: sdk.Out) -> None:
        self._source = source
        self._config = source.config
        self._request = request
        self._out = out
        self._pages = 0
        self._grown = False
        part = request.unit.descriptor
        start: int = part["start"] if isinstance(part, dict) else 0
        self.stop: int = part["stop"] if isinstance(part, dict) else source.size()
        if request.stream == "empty":
            self.stop = 0
        if request.cursor is not None:
            start = request.cursor["next"]
        # What the source forgot is gone, whatever the state says.
        self.position = min(max(start, source.first(request.unit.key)), self.stop)

    def state(self) -> dict[str, Any]:
        """Return what a later read needs to go on from here."""
        state: dict[str, Any] = {"unit": self._request.unit.key, "next": self.position}
        if self._config.state_bytes:
            state["padding"] = "x" * self._config.state_bytes
        return state

    def page(self) -> None:
        """Send the rows up to the next page border, or to the next row at which something happens."""
        self._happenings()
        end = min(self.position + (self._config.page_rows or self._request.batch_size), self._next_happening())
        self._send(self.position, end)
        self.position = end
        self._pages += 1
        self._out.count(requests=1, pages=1)
        if self._config.log_every and self._pages % self._config.log_every == 0:
            self._out.log("info", "page read", next=end)
        if self._pages % self._config.checkpoint_every == 0 or end == self.stop:
            self._out.checkpoint(self.state())
        if self._config.page_sleep_ms:
            time.sleep(self._config.page_sleep_ms / 1000)

    def _happenings(self) -> None:
        config = self._config
        if config.fail_at == self.position and not (config.fail_once and self._request.cursor is not None):
            faults.fail(config.fail_as, self.position, config.retry_after_s)
        if config.wait_at == self.position:
            self._out.wait(datetime.now(UTC) + timedelta(seconds=config.retry_after_s), "asked to wait")
        if self._is_grown() and not self._grown:
            # A schema stands directly behind a checkpoint.
            self._out.checkpoint(self.state())
            self._out.change_schema(self._request.schema.append(rows.ADDED))
            self._grown = True

    def _next_happening(self) -> int:
        """Return the next row before which something happens: pages end there."""
        config = self._config
        marks = (self.stop, config.fail_at, config.wait_at, config.change_schema_at)
        return min(mark for mark in marks if mark is not None and mark > self.position)

    def _is_grown(self) -> bool:
        at = self._config.change_schema_at
        return self._request.stream == "rows" and at is not None and self.position >= at

    def _send(self, start: int, stop: int) -> None:
        config = self._config
        if self._request.stream == "events":
            self._out.emit(rows.events(config.seed, start, stop))
            return
        if config.style == "dicts":
            self._out.emit(self._source.table.dicts(start, stop))
            return
        batch = self._source.table.batch(start, stop)
        if config.reject_every:
            batch = faults.reject(self._out, batch, config.reject_every)
        if config.oversize_every:
            batch = faults.oversize(batch, config.oversize_every)
        self._out.emit(rows.with_added(batch) if self._grown else batch)
