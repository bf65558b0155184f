"""What commands refuse instead of taking it for something else, and failures of the machine that are no tracebacks."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from wellhead import connections, documents
from wellhead.catalog import lock as locks
from wellhead.cli import channel, doctor, main, options, runs
from wellhead.errors import WellheadError
from wellhead.images import layout
from wellhead.registry import connections as rows
from wellhead.secrets import local

Call = Callable[..., WellheadError]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "project"
    root.mkdir()
    (root / "wellhead.yaml").write_text("{}\n")
    monkeypatch.chdir(root)
    return root


@pytest.fixture
def refused(project: Path) -> Call:
    def call(*arguments: str) -> WellheadError:
        done = CliRunner().invoke(main.app, list(arguments))
        assert isinstance(done.exception, WellheadError), done.output
        return done.exception

    return call


@pytest.mark.parametrize(
    "guard",
    [
        *(f"failures={value}" for value in ("nan", "5", "-0.1", "inf", "")),
        *("dead_letters=1.01", "zero_rows=nan", "speed=0.1"),
        *(f"min_runs={value}" for value in ("nan", "inf", "1.5", "-1")),
    ],
)
def test_a_guard_that_would_never_halt_anything_is_refused(refused: Call, guard: str) -> None:
    error = refused("channel", "promote", "dev/tiny", "1.0.0", "--percent", "10", "--guard", guard)
    assert (error.code, error.exit_code) == (channel.BAD_GUARD, 2)


def test_a_password_of_the_database_that_others_can_read_is_refused(refused: Call, project: Path) -> None:
    url = "postgresql://u@127.0.0.1:1/x"
    (project / "wellhead.yaml").write_text(f"registry: {{url: '{url}', password_file: database-password}}\n")
    password = project / "database-password"
    assert refused("runs", "list").code == local.UNREADABLE
    password.write_text("Secret\n")
    password.chmod(0o640)
    error = refused("runs", "list")
    assert (error.code, error.exit_code) == (local.EXPOSED, 78)
    password.chmod(0o600)
    assert refused("runs", "list").exit_code == 75


@pytest.mark.parametrize("option", [("--guard", "failures=0.1"), ("--step", "10")])
def test_what_would_watch_or_widen_nothing_is_refused(refused: Call, option: tuple[str, str]) -> None:
    error = refused("channel", "promote", "dev/tiny", "1.0.0", *option)
    assert (error.code, error.exit_code) == (channel.NOTHING_TO_WATCH, 2)


def test_guards_that_can_be_meant_are_taken() -> None:
    found = channel._guard(["failures=0", "dead_letters=1", "zero_rows=0.5", "min_runs=7"])
    assert (found.failures, found.dead_letters, found.zero_rows, found.min_runs) == (0, 1, 0.5, 7)


@pytest.mark.parametrize("name", ["BETA", "no such/thing", "", "1st", "beta\n"])
@pytest.mark.parametrize(
    "command", [("channel", "promote", "dev/tiny", "1.0.0", "--to"), ("publish", ".", "--channel")]
)
def test_a_channel_no_connection_can_ask_for_is_refused(refused: Call, command: tuple[str, ...], name: str) -> None:
    assert refused(*command, name).code == options.BAD_CHANNEL


@pytest.mark.parametrize("text", ["9999999999d", "36501d", "0s", "nan", "1"])
def test_a_duration_beyond_the_calendar_is_refused(refused: Call, text: str) -> None:
    assert refused("catalog", "gc", "--older-than", text).code == options.BAD_DURATION


@pytest.mark.parametrize("of", [("connection", "a"), ("tenant", "t", "dev/x"), ("connector", "dev/x")])
def test_going_back_to_an_empty_version_does_not_mean_the_one_before(
    refused: Call, project: Path, of: tuple[str, ...]
) -> None:
    (project / "connections").mkdir()
    (project / "connections" / "a.yaml").write_text('{"name": a, "connector": dev/x, "streams": [{"name": s}]}')
    assert refused("rollback", *of, "--to", "").code == options.EMPTY


@pytest.mark.parametrize(
    "command",
    [
        ("catalog", "gc"),
        ("catalog", "gc", "--dry-run"),
        ("clean", "--images"),
        ("rollback", "tenant", "t", "dev/x"),
        ("rollback", "channel", "dev/x", "stable"),
        ("rollback", "connector", "dev/x"),
    ],
)
def test_what_no_connection_asks_for_is_not_told_by_a_folder_that_is_missing(
    refused: Call, command: tuple[str, ...]
) -> None:
    assert refused(*command).code == documents.NO_FOLDER


@pytest.mark.parametrize("command", [("lock",), ("lock", "--check")])
@pytest.mark.parametrize("lost", ["connections", "connections and the lock's shape"])
def test_a_lock_with_connections_is_not_written_over_because_their_folder_is_missing(
    refused: Call, project: Path, command: tuple[str, ...], lost: str
) -> None:
    connection = {
        "connector": "dev/x",
        "constraint": "*",
        "channel": "stable",
        "version": "1.0.0",
        "digest": "sha256:0",
    }
    whole: dict[str, Any] = {"version": 1, "generated_by": "w", "connectors": {}, "connections": {"t/p/a": connection}}
    broken: dict[str, Any] = {"version": "<<<<<<< HEAD"}
    said = {"connections": whole, "connections and the lock's shape": broken}[lost]
    text = json.dumps(said)
    (project / "wellhead.lock").write_text(text)
    assert refused(*command).code == documents.NO_FOLDER
    assert (project / "wellhead.lock").read_text() == text


def test_a_project_without_connections_can_be_locked_and_locked_again(project: Path) -> None:
    for _ in range(2):
        assert CliRunner().invoke(main.app, ["lock"]).exit_code == 0
    assert locks.read(project / "wellhead.lock").connections == {}


@pytest.mark.parametrize("command", [("policy", "list"), ("policy", "test"), ("connection", "list"), ("lock",)])
def test_a_folder_that_was_named_and_is_not_there_ends_who_asks_for_it(
    refused: Call, project: Path, command: tuple[str, ...]
) -> None:
    (project / "wellhead.yaml").write_text("policies: gone\nconnections: gone\n")
    error = refused(*command)
    assert (error.code, error.exit_code) == (documents.NO_FOLDER, 78)


def test_the_doctor_tells_of_policies_that_cannot_be_read(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "manifests").touch()
    monkeypatch.setattr(doctor, "_CHECKS", (("policies", doctor._policies),))
    done = CliRunner().invoke(main.app, ["doctor", "--json"])
    (finding,) = json.loads(done.stdout)
    assert (done.exit_code, finding["ok"]) == (78, False)
    assert finding["said"].startswith("WH-DOC-001 cannot read")


@pytest.mark.parametrize("run", ["../../../evil", "/evil", "", ".", "../logs/x", "a" * 300])
def test_a_run_whose_name_leads_out_of_the_logs_has_none(refused: Call, project: Path, run: str) -> None:
    (project.parent / "evil.jsonl").write_text("told\n")
    (project / ".wellhead" / "logs").mkdir(parents=True)
    (project / ".wellhead" / "logs" / "x.jsonl").write_text("told\n")
    assert refused("runs", "logs", run).code == runs.NO_LOG


def test_the_log_of_a_run_is_printed(project: Path) -> None:
    (project / ".wellhead" / "logs").mkdir(parents=True)
    (project / ".wellhead" / "logs" / "0198f-x.jsonl").write_text("told\n")
    assert CliRunner().invoke(main.app, ["runs", "logs", "0198f-x"]).stdout == "told\n"


def test_a_dead_letter_beyond_all_numbers_is_a_mistake_of_the_command_line(project: Path) -> None:
    done = CliRunner().invoke(main.app, ["deadletters", "show", "99999999999999999999", "--json"])
    assert (done.exit_code, json.loads(done.stdout)["error"]["code"]) == (2, main.MISCALLED.name)


def test_a_file_is_no_store(refused: Call, project: Path) -> None:
    (project / "file").touch()
    assert refused("mirror", "store", str(project / "file")).code == layout.NO_STORE


@pytest.mark.parametrize(
    "command",
    [
        ("runs", "show", "\udcff"),
        ("catalog", "show", "dev/\udcff"),
        ("catalog", "list", "\udcff"),
        ("manifest", "lint", ".", "--against", "\udcff"),
    ],
)
def test_an_argument_that_is_no_text_is_refused_and_can_be_shown(refused: Call, command: tuple[str, ...]) -> None:
    error = refused(*command)
    assert (error.code, error.exit_code) == (main.NOT_TEXT, 2)
    assert "\\xff" in error.message
    assert error.message.isprintable()


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.ENOSPC, errno.ENAMETOOLONG])
def test_what_the_machine_denies_a_command_is_told_in_words(
    refused: Call, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def denied(*_: object, **__: object) -> None:
        raise OSError(number, "no", "connections/a.yaml.new")

    monkeypatch.setattr(connections, "load_all", denied)
    error = refused("connection", "list")
    assert (error.code, error.exit_code) == (main.DENIED_HERE, 78)
    assert error.message == "the system refuses it: connections/a.yaml.new: no"


def test_a_failure_of_the_system_that_nobody_can_mend_stays_a_fault_of_ours(
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise OSError(errno.EBADF, "no")

    monkeypatch.setattr(connections, "load_all", broken)
    assert isinstance(CliRunner().invoke(main.app, ["connection", "list"]).exception, OSError)


def test_who_lets_go_of_a_connection_that_never_ran_is_told_what_onboards_it(refused: Call) -> None:
    error = refused("hold", "release", "a")
    assert error.code == rows.NOT_ONBOARDED
    assert "connection add" not in (error.hint or "")
    assert "first `wellhead run` onboards it" in (error.hint or "")
