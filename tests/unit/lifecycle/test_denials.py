"""A connector cannot know that the fence closed its line; whoever reads the error has to."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from wellhead.errors import Code, ThrottledError, TransientError, WellheadError
from wellhead.lifecycle.record import MAX_DENIALS, NOTHING_REACHED, _with_denials, lasting
from wellhead.lifecycle.report import ErrorReport
from wellhead.registry.egress_audit import Contact

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
