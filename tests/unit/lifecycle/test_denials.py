"""A connector cannot know that the fence closed its line; whoever reads the error has to."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner, Result

import wellhead_sdk as sdk
from tests.unit.lifecycle.conftest import World
from wellhead import app as services
from wellhead.cli import connection
from wellhead.egress.network import AuditRecord
from wellhead.egress.policy import Policy, Rule
from wellhead.errors import Code, ThrottledError, TransientError, WellheadError
from wellhead.lifecycle.record import MAX_DENIALS, NOTHING_REACHED, _with_denials, lasting
from wellhead.lifecycle.report import ErrorReport
from wellhead.registry.egress_audit import Contact
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


TRANSIENT = TransientError("could not connect", code=Code("WH-TST-001", "A test's own."))
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

    @contextmanager
    def fence(self, labels: object, policy: Policy, meanwhile: Callable[[], None]) -> Iterator[Any]:
        yield self

    def problem(self) -> None:
        return None

    def close(self) -> list[AuditRecord]:
        at = datetime(2026, 1, 2, tzinfo=UTC)
        return [AuditRecord(at, "connect", "db.test", 5432, "10.0.0.7", False, "private", 0, 0, 1.0)]


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
