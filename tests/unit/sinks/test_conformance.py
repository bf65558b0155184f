"""Both sinks against the suite that is offered to outsiders."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq

from wellhead.sinks.base import Sink
from wellhead.sinks.jsonl import Jsonl
from wellhead.sinks.parquet import Parquet
from wellhead.testing.sinks import SinkSuite


class TestParquet(SinkSuite):
    def open(self, path: Path) -> Sink:
        return Parquet(path)

    def ids(self, file: Path) -> list[int]:
        return list(pq.read_table(file, partitioning=None).column("id").to_pylist())


class TestJsonl(SinkSuite):
    def open(self, path: Path) -> Sink:
        return Jsonl(path)

    def ids(self, file: Path) -> list[int]:
        return [json.loads(line)["data"]["id"] for line in file.read_text().splitlines()]
