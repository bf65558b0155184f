"""The real program in a project of its own, as far as it goes without an Engine."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from tests.project import Outcome, Project, Warm
from wellhead.connections import load
from wellhead.ids import WHOLE_STREAM, ConnectorId, RunId, StreamKey, StreamName, UnitKey
from wellhead.registry import alerts, connections, deadletters, generations, run_state, runs
from wellhead.registry.database import Database
from wellhead.settings import load as load_settings

pytestmark = pytest.mark.slow

RUN = RunId("0" * 20)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A fresh project."""
    project = Warm(tmp_path_factory.mktemp("project"))
    project.must("init")
    return project


@pytest.fixture
def project(made: Project, tmp_path: Path) -> Project:
    """A copy of it, with one connection and one run in its registry."""
    twin = made.copy(tmp_path)
    twin.connect("flights", "dev/generator", ["rows"])
    file = load(load_settings(twin.root / "wellhead.yaml", {}), "flights", {})
    database = Database.open(f"sqlite:///{twin.root}/.wellhead/registry.db")
    database.migrate()
    stream = StreamKey(file.key, StreamName("rows"))
    with database.transaction() as tx:
        connections.onboard(
            tx,
            file.key,
            connector_id=ConnectorId("dev/generator"),
            version_range="*",
            channel="stable",
            enabled=True,
            file_sha256=file.sha256,
        )
        lease = connections.claim_lease(tx, file.key, run_id=RUN, host_id="h", ttl_s=600)
        assert isinstance(lease, connections.Lease)
        runs.start(tx, runs.Start(RUN, file.key, "run", "h", ConnectorId("dev/generator"), lease.epoch))
        basis = generations.Basis("incremental", "append", "h", "f", "1")
        generation = generations.begin(tx, stream, basis, RUN)
        (unit,) = run_state.plan_units(
            tx, stream, generation=generation.number, epoch=1, units=[run_state.PlannedUnit(WHOLE_STREAM)]
        )
        run_state.advance(tx, unit, epoch=1, checkpoint=run_state.Checkpoint(b'{"next": 5}', 1, rows=5))
        rejected = deadletters.Rejected("malformed", "0" * 64, 10, '{"id": 7}', "value", "x", b"sample")
        deadletters.set_aside(tx, deadletters.Place(stream, unit.unit, 1, 1, 2, RUN), [rejected])
    database.close()
    return twin


def answer(outcome: Outcome) -> Any:
    """Return the JSON document of a call that had to succeed."""
    assert outcome.exit_code == 0, outcome.stderr
    return json.loads(outcome.stdout)


def test_a_new_project_has_settings_keys_trust_and_schemas(made: Project) -> None:
    assert (made.root / "wellhead.yaml").is_file()
    assert (made.root / "trust.yaml").is_file()
    private = [key for key in (made.root / ".wellhead" / "keys").iterdir() if key.stat().st_mode & 0o077 == 0]
    assert private
    assert json.loads((made.root / ".wellhead" / "schema" / "wellhead.json").read_text())["type"] == "object"


def test_a_project_is_not_made_over_another(made: Project) -> None:
    outcome = made.call("init")
    assert outcome.exit_code == 78
    assert "WH-CLI-050" in outcome.stderr


def test_the_version_is_told_to_people_and_programs(made: Project) -> None:
    assert made.must("version").stdout.startswith("wellhead ")
    assert set(answer(made.call("version", "--json"))) == {"wellhead", "protocol", "python", "platform"}


@pytest.mark.parametrize("command", [["run"], ["catalog"], ["catalog", "show"]])
def test_every_page_of_help_looks_the_same(made: Project, command: list[str]) -> None:
    for ask in ("-h", "--help"):
        told = made.must(*command, ask).stdout
        assert told.startswith(f"Usage: wellhead {' '.join(command)} ")
        assert "completion" not in told


def test_without_a_project_the_program_says_how_to_make_one(tmp_path: Path) -> None:
    outcome = Warm(tmp_path).call("connection", "list")
    assert outcome.exit_code == 78
    assert outcome.stderr.startswith("WH-CFG-001 ")
    assert "mend  run `wellhead init`" in outcome.stderr
    assert "Traceback" not in outcome.stderr


def test_a_mistake_is_told_with_code_place_and_mend(project: Project) -> None:
    (project.root / "connections" / "flights.yaml").write_text("name: flights\nconnektor: x\n")
    outcome = project.call("connection", "check", "flights")
    assert outcome.exit_code == 78
    assert outcome.stderr.startswith("WH-DOC-003 ")
    assert "flights.yaml:2 (connektor): connektor is not a known key" in outcome.stderr
    assert "  mend  " in outcome.stderr
    assert "Traceback" not in outcome.stderr


@pytest.mark.parametrize("arguments", [["run"], ["nonsense"], ["run", "flights", "--if-running", "perhaps"]])
def test_a_command_that_cannot_be_meant_is_2(project: Project, arguments: list[str]) -> None:
    assert project.call(*arguments).exit_code == 2


def test_what_keeps_a_run_from_beginning_is_one_document_too(project: Project) -> None:
    outcome = project.run("nowhere")
    assert outcome.exit_code == 78
    assert (outcome.document["status"], outcome.document["exit_code"]) == ("failed", 78)
    assert outcome.document["error"]["code"] == "WH-CFG-010"
    held = project.run("flights", "--if-running", "fail")
    assert (held.exit_code, held.document["error"]["code"]) == (75, "WH-RUN-001")
    assert project.run("flights", "--streams", "other").exit_code == 2


def test_a_connection_that_is_run_elsewhere_or_switched_off_is_skipped(project: Project) -> None:
    assert (project.run("flights").exit_code, project.run("flights").document["run_id"]) == (0, RUN)
    project.must("connection", "disable", "flights")
    outcome = project.run("flights")
    assert (outcome.exit_code, outcome.document["status"]) == (0, "skipped")
    project.must("connection", "enable", "flights")
    assert answer(project.call("connection", "list", "--json"))[0]["enabled"] is True


def test_a_connection_is_listed_with_what_runs_and_removed_when_confirmed(project: Project) -> None:
    (listed,) = answer(project.call("connection", "list", "--json"))
    assert (listed["connection"], listed["running"], listed["resolved"]) == ("flights", RUN, None)
    refused = project.call("connection", "remove", "flights")
    assert refused.exit_code == 2
    assert (project.root / "connections" / "flights.yaml").exists()
    project.must("connection", "remove", "flights", "--yes")
    assert answer(project.call("connection", "list", "--json")) == []


@pytest.mark.parametrize("name", ["../outside", "Upper", "a/b"])
def test_a_name_that_is_none_is_refused_before_anything_is_written(project: Project, name: str) -> None:
    before = set(project.root.parent.rglob("*.yaml"))
    outcome = project.call("connection", "add", name, "--connector", "dev/generator", "--stream", "rows")
    assert outcome.exit_code == 2
    assert set(project.root.parent.rglob("*.yaml")) == before


def test_a_connection_to_an_unknown_connector_leaves_no_file(project: Project) -> None:
    outcome = project.call("connection", "add", "other", "--connector", "dev/none", "--stream", "rows")
    assert outcome.exit_code == 78
    assert not (project.root / "connections" / "other.yaml").exists()


def test_a_state_is_shown_set_and_reset(project: Project) -> None:
    assert '{"next": 5}' in project.must("state", "show", "flights").stdout
    assert project.call("state", "set", "flights", "rows", "{}").exit_code == 2
    project.must("state", "set", "flights", "rows", '{"next": 3}', "--yes")
    assert '{"next": 3}' in project.must("state", "show", "flights").stdout
    project.must("state", "reset", "flights", "rows", "--yes")
    assert '{"next"' not in project.must("state", "show", "flights").stdout


def test_a_first_read_in_parts_can_be_given_up(project: Project) -> None:
    key = StreamKey(load(load_settings(project.root / "wellhead.yaml"), "flights", {}).key, StreamName("parts"))
    database = Database.open(f"sqlite:///{project.root}/.wellhead/registry.db")
    with database.transaction() as tx:
        basis = generations.Basis("full_refresh", "replace", "h", "f", "1")
        begun = generations.begin(tx, key, basis, RunId("run-1"))
        units = [run_state.PlannedUnit(UnitKey(name)) for name in ("one", "two")]
        run_state.plan_units(tx, key, generation=begun.number, epoch=1, units=units)
    database.close()
    assert "forgot 2 read units" in project.must("state", "reset", "flights", "parts", "--yes").stdout


@pytest.mark.parametrize("named", [("nosuch", "rows"), ("flights", "nosuch")])
def test_a_state_that_is_not_there_is_neither_set_nor_reset(project: Project, named: tuple[str, str]) -> None:
    for refused in (
        project.call("state", "reset", *named, "--yes"),
        project.call("state", "set", *named, "{}", "--yes"),
    ):
        assert (refused.exit_code, refused.stderr.split()[0], refused.stdout) == (78, "WH-REG-051", "")


def test_runs_are_listed_shown_and_cancelled(project: Project) -> None:
    (listed,) = answer(project.call("runs", "list", "--json"))
    assert (listed["run_id"], listed["status"]) == (RUN, "running")
    shown = project.must("runs", "show", RUN).stdout.splitlines()
    assert (shown[0].split()[1], shown[3].split()) == (RUN, ["host", "h"])
    project.must("runs", "cancel", RUN)
    unknown = project.call("runs", "show", "nothing")
    assert (unknown.exit_code, unknown.stderr.split()[0]) == (78, "WH-REG-040")


def test_a_run_whose_process_is_gone_is_told_from_one_that_goes_on(project: Project) -> None:
    project.configure(lease={"ttl_s": 600})
    alive = project.must("clean", "--json")
    assert alive.document["going_on"] == [RUN]
    told = project.must("clean").stderr
    assert "left alone what belongs to 1 run that may still go on" in told
    assert f"{RUN} of flights on h: counts as dead from 20" in told
    assert answer(project.call("runs", "list", "--json"))[0]["silent"] is False
    with sqlite3.connect(project.root / ".wellhead" / "registry.db") as database:
        database.execute("update connector_runs set heartbeat_at = '2026-01-01 00:00:00.000000'")
    database.close()
    listed = project.must("runs", "list")
    assert f"{RUN}  flights     run   silent" in listed.stdout
    assert "wellhead clean" in listed.stderr
    assert "running, silent since 2026-01-01 00:00:00Z" in project.must("runs", "show", RUN).stdout
    assert answer(project.call("runs", "list", "--json"))[0]["silent"] is True


def test_alerts_are_listed_until_somebody_has_judged_them(project: Project) -> None:
    key = load(load_settings(project.root / "wellhead.yaml"), "flights", {}).key
    connector = ConnectorId("dev/generator")
    database = Database.open(f"sqlite:///{project.root}/.wellhead/registry.db")
    with database.transaction() as tx:
        drift = alerts.note(tx, alerts.NewAlert("schema_changed", "warning", connector, "b is gone", "1.0.0", key))
        alerts.note(tx, alerts.NewAlert("local_state", "breaking", connector, "writes /var", "1.0.0"))
    database.close()
    assert [one["alert"]["kind"] for one in answer(project.call("alerts", "list", "--json"))] == [
        "local_state",
        "schema_changed",
    ]
    assert "b is gone" in project.must("alerts", "list", "flights").stdout
    unknown = project.call("alerts", "acknowledge", str(drift), "4711")
    assert (unknown.exit_code, unknown.stderr.split()[0]) == (78, "WH-REG-070")
    assert project.call("alerts", "acknowledge", "9" * 20).exit_code == 2
    project.must("alerts", "acknowledge", str(drift))
    assert "Nothing waits" in project.must("alerts", "list", "flights").stdout
    (judged,) = answer(project.call("alerts", "list", "flights", "--all", "--json"))
    assert judged["acknowledged_by"]


def test_dead_letters_are_listed_with_their_reason(project: Project) -> None:
    assert "malformed" in project.must("deadletters", "list", "flights").stdout


def test_a_rollback_without_releases_changes_nothing(project: Project) -> None:
    outcome = project.call("rollback", "connection", "flights")
    assert (outcome.exit_code, outcome.stderr.split()[0]) == (78, "WH-CAT-060")
    assert answer(project.call("hold", "list", "--json")) == []
    assert project.call("hold", "release", "flights").exit_code == 78


def test_explaining_without_releases_says_that_none_is_published(project: Project) -> None:
    outcome = project.call("explain", "flights")
    assert (outcome.exit_code, outcome.stderr.split()[0]) == (78, "WH-CAT-040")
