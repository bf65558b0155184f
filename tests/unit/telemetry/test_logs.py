from __future__ import annotations

import errno
import json
import os
import stat
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from wellhead.ids import ConnectionKey, RunId
from wellhead.telemetry import logs
from wellhead.telemetry.logs import Level, RunLog
from wellhead.telemetry.redact import Redactor

CANARY = 'canary"7f3a/9c'


class Clock:
    """A clock that stands still."""

    def now(self) -> datetime:
        return datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)

    def monotonic(self) -> float:
        return 0.0


def _open(file: Path, **options: object) -> RunLog:
    redactor = Redactor()
    redactor.add(CANARY)
    redactor.add_pattern("hk_[a-z]{20,}")
    key = ConnectionKey("acme", "data", "flights")
    return RunLog(file, redactor, Clock(), run_id=RunId("r1"), connection=key, **options)  # type: ignore[arg-type]


def _lines(file: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_a_line_says_when_who_and_what(tmp_path: Path) -> None:
    with _open(tmp_path / "runs" / "r1.jsonl") as log:
        log.write(Level.INFO, "committed", rows=3, stream="orders")
    assert _lines(tmp_path / "runs" / "r1.jsonl") == [
        {
            "time": "2026-01-02T03:04:05.678Z",
            "level": "info",
            "source": "host",
            "run_id": "r1",
            "connection": "acme/data/flights",
            "message": "committed",
            "rows": 3,
            "stream": "orders",
        }
    ]


def test_the_file_is_private(tmp_path: Path) -> None:
    _open(tmp_path / "log").close()
    assert stat.S_IMODE((tmp_path / "log").stat().st_mode) == 0o600


def test_a_planted_symlink_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "log").symlink_to(tmp_path / "elsewhere")
    with _open(tmp_path / "log") as log:
        log.write(Level.INFO, "hello")
    assert not (tmp_path / "elsewhere").exists()
    assert log.loss == f"1 line of the run's log could not be written: {os.strerror(errno.ELOOP)}"


def test_a_log_on_a_full_disk_raises_nothing_and_tells_what_is_lost() -> None:
    seen: list[str] = []
    with _open(Path("/dev/full"), echo=lambda _, line: seen.append(line)) as log:
        before = log.loss
        log.write(Level.INFO, "one")
        log.write(Level.INFO, "two")
    assert before is None
    assert log.loss == f"2 lines of the run's log could not be written: {os.strerror(errno.ENOSPC)}"
    assert seen == ["one", "two"]


def test_a_log_whose_folder_cannot_be_made_raises_nothing_and_tells_it(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("a file")
    with _open(tmp_path / "logs" / "r1.jsonl") as log:
        log.write(Level.INFO, "one")
    assert log.loss is not None
    assert log.loss.startswith("1 line")


def test_a_disk_that_was_full_for_a_while_costs_whole_lines_and_no_halves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write

    def fill(descriptor: int, data: bytes) -> int:
        write(descriptor, data[:7])
        raise OSError(errno.ENOSPC, "full")

    with _open(tmp_path / "log") as log:
        log.write(Level.INFO, "one")
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", fill)
            log.write(Level.INFO, "two")
        log.write(Level.INFO, "three")
    assert [line["message"] for line in _lines(tmp_path / "log")] == ["one", "three", "full: 1 lines were dropped"]


def test_a_log_that_cannot_be_kept_at_its_end_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(os, "fsync", fail)
    with _open(tmp_path / "log") as log:
        log.write(Level.INFO, "one")
    assert log.loss == "0 lines of the run's log could not be written: broken"


def test_a_watcher_who_went_away_is_told_nothing_more(tmp_path: Path) -> None:
    seen: list[str] = []

    def leave(_level: Level, line: str) -> None:
        seen.append(line)
        raise BrokenPipeError(errno.EPIPE, "gone")

    with _open(tmp_path / "log", echo=leave) as log:
        log.write(Level.INFO, "one")
        log.write(Level.INFO, "two")
    assert seen == ["one"]
    assert [line["message"] for line in _lines(tmp_path / "log")] == ["one", "two"]


def test_no_secret_reaches_the_file_or_the_watcher(tmp_path: Path) -> None:
    watched: list[str] = []
    with _open(tmp_path / "log", echo=lambda level, line: watched.append(line)) as log:
        log.write(Level.ERROR, f"failed with {CANARY}", source="connector", value=CANARY, deep=[{"x": CANARY}])
    written = (tmp_path / "log").read_text() + "".join(watched)
    assert CANARY not in written
    assert json.dumps(CANARY)[1:-1] not in written
    assert _lines(tmp_path / "log")[0]["deep"] == [{"x": "***"}]
    assert watched == ['failed with *** value=*** deep="[{\\"x\\": \\"***\\"}]"']


def test_what_has_the_shape_of_a_secret_reaches_neither_the_file_nor_the_watcher(tmp_path: Path) -> None:
    watched: list[str] = []
    token = "hk_" + "a" * 20
    with _open(tmp_path / "log", echo=lambda level, line: watched.append(line)) as log:
        log.write(Level.ERROR, f"once it was {token},\nnow {token}s", source="connector", value=[f"{token}!"])
    assert token not in (tmp_path / "log").read_text()
    assert _lines(tmp_path / "log")[0]["message"] == "once it was ***,\nnow ***"
    assert watched == ['once it was ***,\nnow *** value="[\\"***!\\"]"']


def test_a_secret_is_struck_from_the_names_of_fields_too(tmp_path: Path) -> None:
    seen: list[str] = []
    with _open(tmp_path / "r1.jsonl", echo=lambda _, line: seen.append(line)) as log:
        fields: dict[str, Any] = {f"name {CANARY}": 1}
        log.write(Level.INFO, "said", **fields)
    assert [list(line)[-1] for line in _lines(tmp_path / "r1.jsonl")] == ["name ***"]
    assert seen == ["said name ***=1"]


def test_a_secret_at_the_cut_of_a_long_message_is_struck_whole(tmp_path: Path) -> None:
    # Redacting makes it short again, so that what stood at the cut would be kept.
    said = "x" * 9 + f"{CANARY} " * (logs.MAX_LINE // len(CANARY))
    with _open(tmp_path / "r1.jsonl") as log:
        log.write(Level.INFO, said)
    assert CANARY[:5] not in (tmp_path / "r1.jsonl").read_text()


def test_a_field_cannot_replace_what_the_host_says(tmp_path: Path) -> None:
    with _open(tmp_path / "log") as log:
        log.write(Level.INFO, "hello", source="connector", run_id="forged", level="error", mine=1)
    (line,) = _lines(tmp_path / "log")
    assert (line["run_id"], line["level"], line["mine"]) == ("r1", "info", 1)


def test_a_flood_is_bounded_and_counted(tmp_path: Path) -> None:
    with _open(tmp_path / "log", max_bytes=2_000) as log:
        for number in range(1_000):
            log.write(Level.INFO, "flood", number=number)
    lines = _lines(tmp_path / "log")
    assert (tmp_path / "log").stat().st_size < 2_500
    assert lines[-1]["dropped"] == 1_000 - (len(lines) - 1)


@pytest.mark.parametrize("message", ["x" * 1_000_000, "\n\r\x00\udcff" * 3, "é" * 20_000])
def test_any_message_is_one_line_of_bounded_length(tmp_path: Path, message: str) -> None:
    with _open(tmp_path / "log") as log:
        log.write(Level.INFO, message, other=message)
    content = (tmp_path / "log").read_bytes()
    assert content.count(b"\n") == 1
    assert len(content) <= 2 * logs.MAX_LINE
    json.loads(content)


def test_closing_twice_and_writing_afterwards_are_safe(tmp_path: Path) -> None:
    log = _open(tmp_path / "log")
    log.close()
    log.close()
    log.write(Level.INFO, "too late")
    assert (tmp_path / "log").read_text() == ""


def test_threads_never_tear_a_line(tmp_path: Path) -> None:
    with _open(tmp_path / "log") as log:

        def write_many() -> None:
            for _ in range(50):
                log.write(Level.INFO, "x" * 500)

        threads = [threading.Thread(target=write_many) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(_lines(tmp_path / "log")) == 200
