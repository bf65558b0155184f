"""What was lent lives as long as the run: the keeper, with a store and a connector that take their time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest

from wellhead.clock import SystemClock
from wellhead.errors import Code, TransientError
from wellhead.lifecycle import lend
from wellhead_sdk.wire.messages import Credentials

CLOCK = SystemClock()
AWAY = TransientError("the store is away", code=Code("WH-TST-001", "A test's own."))


@dataclass
class Loan:
    """A loan whose values are due for a rotation now; ``failures`` are what the first renewals meet."""

    renew_at: datetime
    failures: list[Exception] = field(default_factory=list)
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
        self.rotate_at = None
        return {}

    def revoke_superseded(self) -> None:
        self.over.set()


@dataclass
class Session:
    """A connector that comes to a checkpoint only after the token was renewed."""

    loan: Loan
    answers: list[bool] = field(default_factory=list)

    def authenticate(self, credentials: Credentials) -> None:
        self.answers.append(self.loan.renewed.wait(5))


@dataclass
class Log:
    """A log that writes down its messages."""

    lines: list[str] = field(default_factory=list)

    def write(self, _level: object, message: str, **_fields: object) -> None:
        self.lines.append(message)


@contextmanager
def keeping(loan: Loan) -> Iterator[tuple[Session, Log]]:
    session, log = Session(loan), Log()
    here = SimpleNamespace(host=SimpleNamespace(clock=CLOCK), claim=SimpleNamespace(run_id="run-1"), log=log)
    with lend.kept(cast("Any", here), cast("Any", loan), cast("Any", session), Credentials("{}"), frozenset()):
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
