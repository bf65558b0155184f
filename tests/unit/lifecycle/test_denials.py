"""A connector cannot know that the fence closed its line; whoever reads the error has to."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import pytest
from typer.testing import CliRunner, Result

import wellhead_sdk as sdk
from tests.parts import wait_until
from tests.unit.lifecycle.conftest import World
from wellhead import app as services
from wellhead.cli import connection
from wellhead.egress.network import AUDIT_FULL, GATEWAY_ENDED, AuditRecord
from wellhead.egress.policy import Policy, Rule
from wellhead.errors import Code, ConfigurationError, ThrottledError, TransientError, WellheadError
from wellhead.ids import ConnectorId, RunId
from wellhead.lifecycle import run as lifecycle
from wellhead.lifecycle.fence import fenced
from wellhead.lifecycle.host import Run
from wellhead.lifecycle.record import DENIED_EGRESS, HOLE_EVENT, MAX_DENIALS, NOTHING_REACHED, _with_denials, lasting
from wellhead.lifecycle.report import ErrorReport, Report, Status
from wellhead.lifecycle.stop import Stop
from wellhead.registry import egress_audit, runs
from wellhead.registry.egress_audit import Contact
from wellhead.session import failures
from wellhead.telemetry.redact import Redactor
from wellhead_generator.connector import Generator

ERROR = ErrorReport("WH-SES-040", "TRANSIENT", "server closed the connection", "see that the server runs", None)


def _contact(host: str, verdict: str, reason: str) -> Contact:
    return Contact(datetime(2026, 1, 2, tzinfo=UTC), host, 5432, verdict, reason)


def test_an_error_names_each_denied_host_once_and_the_way_to_open_it() -> None:
    contacts = [_contact("db.test", "deny", "private"), _contact("db.test", "deny", "private")]
    told = _with_denials(ERROR, [*contacts, _contact("api.test", "allow", "listed")])
    assert told.details == ("the fence denied db.test:5432: private",)
    assert told.hint is not None
    assert told.hint.startswith("see that the server runs; ")
    assert "network.grants" in told.hint


def test_an_error_without_a_denial_stays_as_it_is() -> None:
    assert _with_denials(ERROR, [_contact("api.test", "allow", "listed")]) is ERROR


TRANSIENT = TransientError("could not connect", code=failures.TRANSIENT)
OURS = TransientError("the Engine does not answer", code=Code("WH-TST-001", "A test's own."))
THROTTLED = ThrottledError("later", code=Code("WH-TST-001", "A test's own."))


@pytest.mark.parametrize(
    ("reasons", "exit_code"),
    [(["no_address"], 78), (["no_address", "no_address"], 78), (["private"], 76), (["no_address", "private"], 76)],
)
def test_denials_that_stay_are_nothing_to_try_again(reasons: list[str], exit_code: int) -> None:
    found = lasting(TRANSIENT, [_contact("db.test", "deny", reason) for reason in reasons])
    assert (found.exit_code, found.code) == (exit_code, NOTHING_REACHED)
    assert "db.test:5432" in found.message
    assert "could not connect" in found.message


@pytest.mark.parametrize(
    ("error", "contacts"),
    [
        (TRANSIENT, []),
        (TRANSIENT, [("deny", "resolver_failed")]),
        (TRANSIENT, [("deny", "gateway_closed")]),
        (TRANSIENT, [("deny", "client_left")]),
        (OURS, [("deny", "private")]),
        (OURS, [("deny", "no_address")]),
        (TRANSIENT, [("deny", "no_address"), ("allow", "listed")]),
        (THROTTLED, [("deny", "no_address")]),
    ],
)
def test_what_may_pass_by_itself_is_left_to_be_tried_again(
    error: WellheadError, contacts: list[tuple[str, str]]
) -> None:
    assert lasting(error, [_contact("db.test", *contact) for contact in contacts]) is error


def test_a_scan_of_many_hosts_is_not_listed_whole() -> None:
    many = [_contact(f"h{number}.test", "deny", "not_listed") for number in range(50)]
    assert len(_with_denials(ERROR, many).details) == MAX_DENIALS


class Fencer:
    """A fence that denied one connection."""

    attachment = None
    unrecorded_names = 0
    reason = "private"

    @contextmanager
    def fence(self, labels: object, policy: Policy, meanwhile: Callable[[], None]) -> Iterator[Any]:
        yield self

    def problem(self) -> None:
        return None

    def close(self) -> list[AuditRecord]:
        at = datetime(2026, 1, 2, tzinfo=UTC)
        return [AuditRecord(at, "connect", "db.test", 5432, "10.0.0.7", False, self.reason, 0, 0, 1.0)]


class Away(Generator):
    """Whose line is closed by the fence."""

    def authenticate(self, config: Any, secrets: Mapping[str, str]) -> Any:
        raise sdk.Transient("the server closed the connection")


class Lame(Generator):
    """Logs in, and reaches nothing afterwards."""

    def probes(self, session: Any) -> dict[str, Callable[[], str]]:
        def fail() -> str:
            raise sdk.Transient("the server closed the connection")

        return {"login": lambda: "as reader", "first page": fail}


@pytest.fixture
def denied(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """A connection whose fence denies what it wants to reach."""
    world.policy = Policy((Rule("db.test", 5432),))
    world.fencer = Fencer()

    @contextmanager
    def opened(config: object) -> Iterator[Any]:
        yield SimpleNamespace(settings=world.settings, host=world.host)

    monkeypatch.setattr(services, "opened", opened)
    return world


def _checked(world: World, *options: str) -> Result:
    world.connect(config={"rows": 1})
    return CliRunner().invoke(connection.app, ["check", "flights", *options])


def test_a_check_that_was_denied_says_what_the_run_would_say(denied: World) -> None:
    denied.connector = Away
    checked = _checked(denied)
    told = denied.run(denied.connect(config={"rows": 1})).error
    error = checked.exception
    assert told is not None
    assert isinstance(error, WellheadError)
    assert told.details == ("the fence denied db.test:5432 at 10.0.0.7: private",)
    assert (str(error.code), error.message, error.hint, error.details, error.exit_code) == (
        told.code,
        told.message,
        told.hint,
        told.details,
        76,
    )


def test_the_document_of_a_check_holds_what_the_fence_denied(denied: World) -> None:
    denied.connector = Away
    document = json.loads(_checked(denied, "--json").stdout)
    assert document["release"] is None
    assert (document["error"]["code"], document["error"]["details"]) == (
        NOTHING_REACHED.name,
        ["the fence denied db.test:5432 at 10.0.0.7: private"],
    )


def test_what_was_denied_stands_with_a_probe_that_failed(denied: World) -> None:
    denied.connector = Lame
    checked = _checked(denied, "--json")
    document = json.loads(checked.stdout)
    assert (checked.exit_code, document["exit_code"]) == (78, 78)
    assert [(probe["name"], probe["ok"]) for probe in document["probes"]] == [("login", True), ("first page", False)]
    assert document["error"]["code"] == connection.PROBES_FAILED.name
    assert "first page" in document["error"]["message"]
    assert document["error"]["details"] == ["the fence denied db.test:5432 at 10.0.0.7: private"]


def test_a_check_that_finds_all_well_has_no_error(denied: World) -> None:
    document = json.loads(_checked(denied, "--json").stdout)
    assert document["error"] is None
    assert document["release"] == {"id": "dev/generator", "version": "1.0.0"}


@pytest.mark.parametrize("reason", ["private", "unlisted_port", "sni_mismatch", "not_tls", "too_many_names"])
def test_what_the_policy_denied_ends_a_run_where_the_operator_wants_it(denied: World, reason: str) -> None:
    denied.configure(egress={"on_denied": "fail"})
    denied.fencer.reason = reason
    report = denied.run(denied.connect(config={"rows": 1}))
    assert report.error is not None
    assert (report.exit_code, report.error.code) == (76, DENIED_EGRESS.name)


@pytest.mark.parametrize(
    "reason", ["resolver_failed", "too_many_connections", "gateway_closed", "client_left", "no_address"]
)
def test_a_mishap_is_no_denial_of_the_policy(denied: World, reason: str) -> None:
    denied.configure(egress={"on_denied": "fail"})
    denied.fencer.reason = reason
    report = denied.run(denied.connect(config={"rows": 1}))
    assert (report.exit_code, report.egress["denied"]) == (0, 1)


ENDED = TransientError("the egress gateway ended during the run", code=GATEWAY_ENDED)


@dataclass
class Falling:
    """A fence whose gateway ends by itself in the first attempts."""

    falls: int = 1
    error: WellheadError = ENDED
    unrecorded_names: int = 0
    stood: int = 0
    attachment: None = None
    is_complete = True

    @contextmanager
    def fence(self, labels: object, policy: Policy, meanwhile: Callable[[], None]) -> Iterator[Any]:
        self.stood += 1
        yield self

    def problem(self) -> WellheadError | None:
        return self.error if self.stood <= self.falls else None

    def close(self) -> list[AuditRecord]:
        return []


@pytest.fixture
def falling(world: World) -> World:
    """A connection whose gateway ends in the first attempt."""
    world.policy = Policy((Rule("db.test", 5432),))
    world.fencer = Falling()
    return world


def _holes(world: World, report: Report) -> list[Mapping[str, Any]]:
    with world.database.read() as tx:
        return [event.details for event in runs.events(tx, RunId(report.run_id)) if event.event == HOLE_EVENT]


@pytest.mark.parametrize("falls", [1, 9])
def test_a_run_whose_connector_did_not_notice_that_its_gateway_ended_has_not_succeeded(
    falling: World, falls: int
) -> None:
    falling.fencer.falls = falls
    report = falling.run(falling.connect(config={"rows": 3}))
    assert report.error is not None
    assert (report.status, report.exit_code, report.error.code) == (Status.FAILED, 75, GATEWAY_ENDED.name)
    assert _holes(falling, report)[0] == {"code": GATEWAY_ENDED.name, "is_noticed": False, "unrecorded_names": 0}
    # What is committed stays.
    assert falling.ids() == [0, 1, 2]
    assert falling.run(falling.connect(config={"rows": 3})).exit_code == (0 if falls == 1 else 75)


def test_a_run_whose_record_was_full_is_not_tried_again(falling: World) -> None:
    falling.fencer.error = ConfigurationError("the record is full", code=AUDIT_FULL)
    report = falling.run(falling.connect(config={"rows": 3}))
    assert report.error is not None
    assert (report.exit_code, report.error.code, falling.fencer.stood) == (78, AUDIT_FULL.name, 1)


def test_a_probe_whose_gateway_ended_says_so(falling: World) -> None:
    opened = lifecycle.probe(falling.host(), falling.connect(config={"rows": 1}), Stop(), lifecycle.Watch())
    with pytest.raises(TransientError) as caught, opened:
        pass
    assert caught.value.code == GATEWAY_ENDED


def test_a_run_that_recovered_in_its_next_attempt_has_succeeded_and_says_what_is_missing(falling: World) -> None:
    class Once(Generator):
        def authenticate(self, config: Any, secrets: Mapping[str, str]) -> Any:
            if falling.fencer.stood == 1:
                raise sdk.Transient("the server closed the connection")
            return super().authenticate(config, secrets)

    falling.connector = Once
    report = falling.run(falling.connect(config={"rows": 3}))
    assert (report.exit_code, report.attempts, falling.ids()) == (0, 2, [0, 1, 2])
    assert _holes(falling, report) == [{"code": GATEWAY_ENDED.name, "is_noticed": True, "unrecorded_names": 0}]


class Breaking(Generator):
    """Whose first attempt fails in `events`, or in the second part of `rows` once the first is complete."""

    world: World

    def read(self, session: Any, request: Any, out: Any) -> None:
        if self.world.fencer.stood == 1:
            if request.unit.key == "part-01":
                wait_until(lambda: self.world.units()["part-00"].complete, what="the first part is read", within_s=10)
            if request.stream == "events" or request.unit.key == "part-01":
                raise sdk.Transient("the server closed the connection")
        super().read(session, request, out)


@pytest.fixture
def breaking(falling: World) -> World:
    """A connection whose gateway ends in the first attempt, which one of its reads notices and another does not."""
    falling.connector = type("Breaking", (Breaking,), {"world": falling})
    return falling


UNSELECTABLE = {"name": "empty", "columns": ["nobody has it"]}


@pytest.mark.parametrize(
    ("streams", "partitions"),
    [(("rows", "events"), 1), (("rows",), 2), (("rows", UNSELECTABLE, "events"), 1)],
    ids=["a stream", "a unit", "in part"],
)
def test_what_was_completed_behind_a_gateway_that_ended_is_told_though_another_read_noticed(
    breaking: World, streams: tuple[str | dict[str, Any], ...], partitions: int
) -> None:
    report = breaking.run(breaking.connect(*streams, config={"rows": 4, "partitions": partitions}))
    assert report.error is not None
    assert (report.status, report.exit_code, report.error.code) == (Status.FAILED, 75, GATEWAY_ENDED.name)
    assert "rows may be missing" in report.error.message
    assert _holes(breaking, report) == [{"code": GATEWAY_ENDED.name, "is_noticed": False, "unrecorded_names": 0}]
    assert (report.attempts, breaking.ids()) == (2, [0, 1, 2, 3])


def test_what_was_only_committed_before_a_gateway_ended_is_made_up_for(falling: World) -> None:
    falling.configure(commit={"max_bytes": 1})
    with falling.failing(fail_at=3, fail_once=True, page_rows=1):
        report = falling.run(falling.connect(config={"rows": 4}))
    assert (report.exit_code, report.attempts, falling.ids()) == (0, 2, [0, 1, 2, 3])
    assert _holes(falling, report) == [{"code": GATEWAY_ENDED.name, "is_noticed": True, "unrecorded_names": 0}]


def test_what_was_complete_before_is_no_sign_of_a_loss(falling: World) -> None:
    file = falling.connect("rows", {"name": "events", "mode": "incremental"}, config={"rows": 4})
    falling.fencer.falls = 0
    assert falling.run(file).exit_code == 0
    falling.fencer = Falling()
    with falling.failing(fail_at=0, fail_once=True):
        report = falling.run(file, full_refresh=True)
    assert _holes(falling, report)[0]["is_noticed"]


def test_an_attempt_with_nothing_left_to_read_is_not_made(falling: World) -> None:
    report = falling.run(falling.connect("rows", UNSELECTABLE, config={"rows": 3}))
    assert report.error is not None
    assert "rows may be missing" in report.error.message
    assert (report.exit_code, report.attempts, falling.fencer.stood) == (75, 1, 1)


@dataclass
class Late(Falling):
    """A fence of whose gateway something is only known once it has fallen, or is asked for in vain before that."""

    is_complete: bool = False
    is_silent: bool = False
    has_fallen: bool = False

    def problem(self) -> WellheadError | None:
        if self.is_silent and not self.has_fallen:
            raise TransientError("the Engine does not answer", code=Code("WH-TST-001", "A test's own."))
        return super().problem() if self.has_fallen else None

    def close(self) -> list[AuditRecord]:
        self.has_fallen = True
        return []


def test_a_last_line_that_is_missing_does_not_fail_a_run_whose_gateway_outlived_its_connector(falling: World) -> None:
    falling.fencer = Late()
    report = falling.run(falling.connect(config={"rows": 3}))
    assert (report.exit_code, report.attempts, falling.ids()) == (0, 1, [0, 1, 2])
    assert _holes(falling, report) == [{"code": GATEWAY_ENDED.name, "is_noticed": True, "unrecorded_names": 0}]


@pytest.mark.parametrize("fencer", [Late(is_complete=True), Late(is_silent=True)], ids=["its own end", "unknown"])
def test_a_gateway_that_may_have_ended_before_its_connector_fails_the_run(falling: World, fencer: Late) -> None:
    falling.fencer = fencer
    report = falling.run(falling.connect(config={"rows": 3}))
    assert report.error is not None
    assert (report.exit_code, report.error.code) == (75, GATEWAY_ENDED.name)
    assert not _holes(falling, report)[0]["is_noticed"]


def test_an_engine_that_does_not_say_whether_a_gateway_runs_is_believed_its_last_line(falling: World) -> None:
    falling.fencer = Late(falls=0, is_silent=True)
    report = falling.run(falling.connect(config={"rows": 3}))
    assert (report.exit_code, report.attempts, _holes(falling, report)) == (0, 1, [])


def test_names_that_were_only_counted_are_told(falling: World) -> None:
    falling.fencer = Falling(falls=0, unrecorded_names=144)
    report = falling.run(falling.connect(config={"rows": 1}))
    assert report.exit_code == 0
    assert _holes(falling, report) == [{"code": None, "is_noticed": False, "unrecorded_names": 144}]


class Hung(Fencer):
    """Whose gateway the Engine does not end."""

    def close(self) -> list[AuditRecord]:
        raise TransientError("the Engine does not answer", code=Code("WH-TST-001", "A test's own."))

    def audit(self) -> list[AuditRecord]:
        return super().close()


@pytest.mark.parametrize("connector", [Generator, Away])
def test_what_was_seen_is_stored_though_the_engine_is_away(denied: World, connector: type[Generator]) -> None:
    denied.fencer = Hung()
    denied.connector = connector
    report = denied.run(denied.connect(config={"rows": 1}))
    with denied.database.read() as tx:
        hosts = {contact.host for contact in egress_audit.of_run(tx, RunId(report.run_id))}
    assert report.exit_code != 0
    assert hosts == {"db.test"}


def test_what_stands_for_a_star_is_stored_without_secrets(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    file, redactor = world.connect(config={"rows": 1}), Redactor()
    redactor.add("tops3cret")
    claim = SimpleNamespace(run_id=RunId("0-run"), host_id="host-1", epoch=1, connection=file.key)
    here = SimpleNamespace(host=world.host(), claim=claim, redactor=redactor)
    hosts = ["tops3cret.good.test", "api-tops3cret.good.test"]
    at = datetime(2026, 1, 2, tzinfo=UTC)
    monkeypatch.setattr(
        Fencer, "close", lambda _: [AuditRecord(at, "connect", host, 443, None, True, "closed") for host in hosts]
    )
    world.fencer = Fencer()
    with world.database.transaction() as tx:
        runs.start(tx, runs.Start(claim.run_id, file.key, "run", "host-1", ConnectorId("dev/generator"), 1))
    # The second name is the policy's own word, whatever it looks like.
    policy = Policy((Rule("*.good.test", 443), Rule("API-tops3cret.good.test", 443)))
    with fenced(cast("Run", here), policy):
        pass
    with world.database.read() as tx:
        stored = [contact.host for contact in egress_audit.of_run(tx, claim.run_id)]
    assert stored == ["***.good.test", "api-tops3cret.good.test"]
