"""What was lent is what its slot asks for and lives as long as the run, whatever store and connector do meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest

from wellhead.clock import SystemClock
from wellhead.errors import AuthError, Code, ConfigurationError, TransientError
from wellhead.lifecycle import lend
from wellhead.manifest.model import Secrets, Slot
from wellhead.secrets.base import Reference, SecretValue
from wellhead.telemetry.redact import MARK, Redactor
from wellhead_sdk.wire.messages import Credentials

CLOCK = SystemClock()
AWAY = TransientError("the store is away", code=Code("WH-TST-001", "A test's own."))


@dataclass
class Loan:
    """A loan whose values are due for so many rotations now; ``failures`` are what the first renewals meet."""

    renew_at: datetime
    failures: list[Exception] = field(default_factory=list)
    values: list[str] = field(default_factory=list)
    rotations: int = 1
    accessor: None = None
    rotate_at: datetime | None = field(default_factory=CLOCK.now)
    renewed: threading.Event = field(default_factory=threading.Event)
    over: threading.Event = field(default_factory=threading.Event)

    def renew(self) -> None:
        for failure in self.failures:
            self.failures.remove(failure)
            raise failure
        self.renew_at = CLOCK.now() + timedelta(hours=1)
        self.renewed.set()

    def rotate(self) -> dict[str, Any]:
        self.rotations -= 1
        self.rotate_at = CLOCK.now() if self.rotations else None
        return {"password": SecretValue(self.values.pop(0))} if self.values else {}

    def revoke_superseded(self) -> None:
        self.over.set()


@dataclass
class Session:
    """A connector that comes to a checkpoint only after the token was renewed."""

    loan: Loan
    answers: list[bool] = field(default_factory=list)
    refusals: list[Exception] = field(default_factory=list)
    given: list[Credentials] = field(default_factory=list)

    def authenticate(self, credentials: Credentials) -> None:
        self.given.append(credentials)
        for refusal in self.refusals:
            self.refusals.remove(refusal)
            raise refusal
        self.answers.append(self.loan.renewed.wait(5))


@dataclass
class Log:
    """A log that writes down its messages."""

    lines: list[str] = field(default_factory=list)

    def write(self, _level: object, message: str, **_fields: object) -> None:
        self.lines.append(message)


def planned(slots: dict[str, Slot], references: dict[str, Reference] | None = None) -> Any:
    sensitive = frozenset(name for name, slot in slots.items() if slot.sensitive)
    manifest = SimpleNamespace(secrets=Secrets(slots=slots))
    return SimpleNamespace(references=references or {}, sensitive=sensitive, manifest=manifest)


PLAN = planned({"password": Slot(min_length=8), "user": Slot(sensitive=False)})


@contextmanager
def keeping(loan: Loan, refusals: tuple[Exception, ...] = ()) -> Iterator[tuple[Session, Log]]:
    session, log = Session(loan, refusals=list(refusals)), Log()
    here = SimpleNamespace(
        host=SimpleNamespace(clock=CLOCK), claim=SimpleNamespace(run_id="run-1"), log=log, redactor=Redactor()
    )
    with lend.kept(cast("Any", here), PLAN, cast("Any", loan), cast("Any", session), Credentials("{}")):
        yield session, log


def test_a_token_is_renewed_while_a_rotation_waits_for_the_connector() -> None:
    loan = Loan(CLOCK.now() + timedelta(milliseconds=20))
    with keeping(loan) as (session, log):
        assert loan.over.wait(20)
    assert (session.answers, log.lines) == ([True], [])


def test_a_renewal_that_fails_while_a_rotation_waits_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lend, "AGAIN_S", 0.01)
    loan = Loan(CLOCK.now(), failures=[AWAY])
    with keeping(loan) as (session, log):
        assert loan.over.wait(20)
    assert (session.answers, log.lines) == ([True], ["secrets_not_renewed"])


@pytest.mark.parametrize("failure", [AWAY, RuntimeError("a defect")])
def test_a_keeper_goes_on_after_whatever_a_renewal_meets(monkeypatch: pytest.MonkeyPatch, failure: Exception) -> None:
    monkeypatch.setattr(lend, "AGAIN_S", 0.01)
    loan = Loan(CLOCK.now(), failures=[failure], rotate_at=None)
    with keeping(loan) as (_, log):
        assert loan.renewed.wait(20)
    assert log.lines == ["secrets_not_renewed"]


def test_a_loan_without_a_near_end_is_left_alone() -> None:
    with keeping(Loan(datetime.max.replace(tzinfo=CLOCK.now().tzinfo), rotate_at=None)) as (session, log):
        assert (session.answers, log.lines) == ([], [])


REFUSED = AuthError("the source does not know the new user yet", code=Code("WH-TST-002", "A test's own."))


@pytest.mark.parametrize("refusal", [REFUSED, RuntimeError("a defect")])
def test_new_values_that_were_not_taken_are_delivered_again(
    monkeypatch: pytest.MonkeyPatch, refusal: Exception
) -> None:
    monkeypatch.setattr(lend, "AGAIN_S", 0.01)
    loan = Loan(CLOCK.now() + timedelta(milliseconds=20), values=["a-new-password", "never-asked-for"])
    with keeping(loan, (refusal, refusal)) as (session, log):
        assert loan.over.wait(20)
    assert [(one.rotation, one.secrets[0].value) for one in session.given] == [(1, "a-new-password")] * 3
    assert log.lines == ["secrets_not_renewed"] * 2


class AtOnce(ThreadPoolExecutor):
    """Has an answer before anybody waits for it: no renewal fits into the waiting."""

    def submit(self, *order: Any, **options: Any) -> Future[Any]:
        asked = super().submit(*order, **options)
        wait([asked])
        return asked


def test_what_was_lent_is_renewed_while_new_values_are_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lend, "AGAIN_S", 0.01)
    monkeypatch.setattr(lend, "ThreadPoolExecutor", AtOnce)
    loan = Loan(CLOCK.now(), values=["a-new-password"])
    with keeping(loan, (REFUSED,) * 1000) as (session, _):
        assert loan.renewed.wait(10)
        assert session.answers == []


def test_values_that_wait_are_replaced_when_their_own_time_has_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lend, "AGAIN_S", 0.01)
    loan = Loan(CLOCK.now(), values=["a-new-password", "a-newer-password"], rotations=2)
    with keeping(loan, (REFUSED,)) as (session, _):
        assert loan.over.wait(20)
    assert [one.secrets[0].value for one in session.given] == ["a-new-password", "a-newer-password"]


def test_a_new_value_that_is_too_short_is_not_delivered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lend, "AGAIN_S", 0.01)
    loan = Loan(CLOCK.now(), values=["short"])
    with keeping(loan) as (session, log):
        assert loan.renewed.wait(20)
    assert (session.given, log.lines) == ([], ["secrets_not_renewed"])


def test_values_before_a_rotation_that_failed_are_not_delivered_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lend, "AGAIN_S", 0.01)
    loan = Loan(CLOCK.now(), values=["a-new-password", "short", "the-last-password"], rotations=2)
    with keeping(loan, (REFUSED,)) as (session, log):
        # The first was not taken, the second is too short, and a few rounds later all leases are as they were.
        assert loan.renewed.wait(20)
        assert not loan.over.wait(0.3)
        assert len(session.given) == 1
    assert log.lines == ["secrets_not_renewed"] * 2


@contextmanager
def borrowing(slots: dict[str, Slot], values: dict[str, str]) -> Iterator[Redactor]:
    """Lend values as they are and yield what the run knows of them."""
    redactor = Redactor()
    loan = SimpleNamespace(
        secrets={slot: SecretValue(value) for slot, value in values.items()}, revocation_error=None, accessor=None
    )

    @contextmanager
    def lending(request: object, note: object) -> Iterator[object]:
        yield loan

    host = SimpleNamespace(secrets=lambda: SimpleNamespace(lend=lending), database=None)
    here = SimpleNamespace(host=host, claim=SimpleNamespace(run_id="run-1", connection="c"), redactor=redactor)
    references = {slot: Reference.parse(f"vault-dyn://database/creds/reader#{slot}") for slot in values}
    with lend.lent(cast("Any", here), planned(slots, references)):
        yield redactor


def test_a_value_shorter_than_its_slot_allows_is_refused_without_being_repeated() -> None:
    with (
        pytest.raises(ConfigurationError) as caught,
        borrowing({"key": Slot(min_length=16)}, {"key": "s3cr3t-of-14ch"}),
    ):
        pass
    told = f"{caught.value.message} {caught.value.hint}"
    assert caught.value.code is lend.TOO_SHORT
    assert "secret key" in told
    assert "at least 16 characters" in told
    assert "s3cr3t" not in told
    assert "14 c" not in told


@pytest.mark.parametrize(
    ("slot", "value"),
    [(Slot(min_length=6), ""), (Slot(min_length=3, sensitive=False), "me"), (Slot(min_length=1, required=False), "")],
)
def test_how_long_a_value_has_to_be_is_asked_of_each_slot(slot: Slot, value: str) -> None:
    with pytest.raises(ConfigurationError) as caught, borrowing({"key": slot, "other": Slot()}, {"key": value}):
        pass
    assert caught.value.code is lend.TOO_SHORT


def test_user_and_password_of_one_lease_are_each_judged_by_their_own_slot() -> None:
    with borrowing(
        {"username": Slot(sensitive=False), "password": Slot(min_length=8), "spare": Slot(min_length=99)},
        {"username": "me", "password": "long-enough"},
    ) as redactor:
        assert redactor.text("me: long-enough") == f"me: {MARK}"


@pytest.mark.parametrize("values", [{}, {"key": "hk_" + "a" * 20}])
def test_what_has_the_shape_of_a_slot_is_struck_whether_the_slot_is_lent_or_not(values: dict[str, str]) -> None:
    slots = {"key": Slot(redact_pattern="hk_[a-z]{20,}"), "user": Slot(redact_pattern="u-[0-9]+", sensitive=False)}
    with borrowing(slots, values) as redactor:
        assert redactor.text(f"hk_{'b' * 22} of u-17") == f"{MARK} of {MARK}"


@pytest.mark.parametrize("pattern", ["(a+)+$", "(-a*a*)*!", "(?=a)a", "a{,3}b"])
def test_a_pattern_that_may_take_hours_is_not_tried_on_what_a_connector_writes(pattern: str) -> None:
    with pytest.raises(ConfigurationError) as caught, borrowing({"key": Slot(redact_pattern=pattern)}, {}):
        pass
    assert caught.value.code is lend.SLOW_PATTERN
