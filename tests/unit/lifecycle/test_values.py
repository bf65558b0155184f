"""The small values of a run: its latch, its timeline, its judgement, its report, its folders."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from wellhead.errors import (
    Code,
    ConfigurationError,
    DataError,
    FatalError,
    RefusedError,
    TransientError,
    WellheadError,
)
from wellhead.ids import StreamName
from wellhead.lifecycle.launch import NO_FOLDER, OUTSIDE_ROOTS, mounts
from wellhead.lifecycle.record import Ending, _judge
from wellhead.lifecycle.report import ErrorReport, Report, Status, StreamReport
from wellhead.lifecycle.stop import Reason, Stop
from wellhead.lifecycle.timeline import Timeline

CODE = Code("WH-TST-001", "A test's own.")
LATER = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def test_the_first_reason_to_stop_stays_but_a_lost_lease_beats_it() -> None:
    stop = Stop()
    seen = [stop.reason]
    for reason in (Reason.TERMINATED, Reason.INTERRUPTED, Reason.FENCED, Reason.CANCELLED):
        stop.request(reason)
        seen.append(stop.reason)
    assert seen == [None, Reason.TERMINATED, Reason.TERMINATED, Reason.FENCED, Reason.FENCED]


def test_a_wait_lasts_while_nobody_asked_to_end() -> None:
    assert not Stop().wait(0)


def test_a_wait_ends_at_once_when_the_run_is_to_end() -> None:
    stop = Stop()
    waiter = threading.Thread(target=stop.wait, args=(60,))
    waiter.start()
    stop.request(Reason.CANCELLED)
    waiter.join(5)
    assert not waiter.is_alive()


@pytest.mark.parametrize(
    ("reason", "code"), [(Reason.INTERRUPTED, 130), (Reason.TERMINATED, 143), (Reason.DEADLINE, 75)]
)
def test_each_reason_has_the_exit_code_of_its_kind(reason: Reason, code: int) -> None:
    assert reason.exit_code == code


class _Clock:
    def __init__(self) -> None:
        self.at = 0.0

    def now(self) -> datetime:
        return LATER

    def monotonic(self) -> float:
        self.at += 1.0
        return self.at


def test_a_step_that_comes_again_adds_up_and_one_that_fails_counts() -> None:
    told: list[str] = []
    timeline = Timeline(_Clock(), told.append)
    with timeline.step("lend"):
        pass
    with pytest.raises(KeyError), timeline.step("lend"):
        raise KeyError
    assert timeline.seconds()["lend"] == 2.0
    assert told == ["lend", "lend"]


def ending(
    error: WellheadError | None = None,
    *,
    stopped: Reason | None = None,
    retry_at: datetime | None = None,
    failed: bool = False,
    is_done: bool = False,
) -> Ending:
    streams = {StreamName("s"): DataError("bad", code=CODE)} if failed else {}
    return Ending({}, {**streams}, 1, stopped, error, retry_at, {}, (), is_done)


TRANSIENT, FATAL = TransientError("t", code=CODE), FatalError("f", code=CODE)
REFUSED, WRONG = RefusedError("r", code=CODE), ConfigurationError("c", code=CODE)


@pytest.mark.parametrize(
    ("case", "status", "exit_code"),
    [
        (ending(), Status.SUCCEEDED, 0),
        (ending(failed=True), Status.PARTIAL, 3),
        (ending(TRANSIENT), Status.FAILED, 75),
        (ending(FATAL), Status.FAILED, 70),
        (ending(REFUSED), Status.REFUSED, 76),
        (ending(WRONG), Status.FAILED, 78),
        (ending(TRANSIENT, retry_at=LATER), Status.PARKED, 75),
        (ending(stopped=Reason.INTERRUPTED), Status.STOPPED, 130),
        (ending(TRANSIENT, stopped=Reason.TERMINATED), Status.STOPPED, 143),
        (ending(FATAL, stopped=Reason.TERMINATED), Status.FAILED, 70),
        (ending(stopped=Reason.INTERRUPTED, is_done=True), Status.SUCCEEDED, 0),
        (ending(stopped=Reason.FENCED, is_done=True), Status.FAILED, 75),
        (ending(FATAL, stopped=Reason.FENCED), Status.FAILED, 75),
    ],
)
def test_each_ending_is_judged(case: Ending, status: Status, exit_code: int) -> None:
    assert _judge(case)[:2] == (status, exit_code)


def test_the_report_is_the_document_that_schedulers_know() -> None:
    error = ErrorReport("WH-TST-001", "DATA", "bad", "mend it", "f.yaml:3 (a)", ("more",))
    stream = StreamReport("s", "incremental", 5, 1, 100, "{}", 0xABC, "/bronze/s", error)
    release = {"id": "a/b", "version": "1.0.0", "digest": "sha256:0"}
    report = Report(
        "r", "l", "c", Status.PARTIAL, 3, release, True, LATER, 2, "/b", (stream,), timings={"total": 1.23456}
    )
    said = {
        "code": "WH-TST-001",
        "category": "DATA",
        "message": "bad",
        "hint": "mend it",
        "place": "f.yaml:3 (a)",
        "details": ["more"],
    }
    assert report.document() == {
        "schema_version": 1,
        "run_id": "r",
        "logical_run_id": "l",
        "connection": "c",
        "release": release,
        "held": True,
        "status": "partial",
        "exit_code": 3,
        "retry_at": "2026-01-02T03:04:05+00:00",
        "attempts": 2,
        "bronze_path": "/b",
        "streams": [
            {
                "name": "s",
                "mode": "incremental",
                "rows": 5,
                "dead_letters": 1,
                "bytes": 100,
                "checkpoint": "{}",
                "content_crc32c": "00000abc",
                "table": "/bronze/s",
                "error": said,
            }
        ],
        "egress": {"allowed": 0, "denied": 0},
        "timings": {"total": 1.2346},
        "error": None,
    }


def test_a_folder_under_a_root_is_mounted_as_what_it_really_is(tmp_path: Path) -> None:
    (tmp_path / "root" / "real").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "root" / "real")
    (found,) = mounts({"in": tmp_path / "link"}, (tmp_path / "root",))
    assert (found.source, found.target) == (tmp_path / "root" / "real", "/data/in")


def test_a_link_out_of_the_roots_is_refused(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "link").symlink_to("/etc")
    with pytest.raises(RefusedError) as caught:
        mounts({"in": tmp_path / "root" / "link"}, (tmp_path / "root",))
    assert caught.value.code == OUTSIDE_ROOTS


def test_a_folder_beside_a_root_with_its_name_as_a_beginning_is_refused(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root-2").mkdir()
    with pytest.raises(RefusedError):
        mounts({"in": tmp_path / "root-2"}, (tmp_path / "root",))


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        mounts({"in": tmp_path / "missing"}, (tmp_path,))
    assert caught.value.code == NO_FOLDER
