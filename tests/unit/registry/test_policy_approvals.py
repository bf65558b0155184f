"""What a person allowed under a policy: for one connection, one connector and one wording."""

from __future__ import annotations

from wellhead.ids import ConnectorId
from wellhead.registry import policy_approvals
from wellhead.registry.database import Database

from .conftest import KEY

ONE, OTHER = ConnectorId("acme/one"), ConnectorId("acme/other")


def approve(database: Database, sha256: str = "aa") -> bool:
    with database.transaction() as tx:
        return policy_approvals.approve(tx, KEY, ONE, "restricted", sha256, who="op", reason="asked legal")


def active(database: Database, connector: ConnectorId = ONE) -> set[tuple[str, str]]:
    with database.read() as tx:
        return policy_approvals.active(tx, KEY, connector)


def test_an_approval_counts_for_the_wording_it_was_given_to(database: Database) -> None:
    assert approve(database)
    assert not approve(database)
    assert active(database) == {("restricted", "aa")}
    assert approve(database, "bb")
    assert active(database) == {("restricted", "aa"), ("restricted", "bb")}


def test_an_approval_does_not_carry_over_to_another_connector(database: Database) -> None:
    assert approve(database)
    assert active(database, OTHER) == set()


def test_an_approval_that_is_taken_back_stays_in_the_history(database: Database) -> None:
    approve(database)
    with database.transaction() as tx:
        assert policy_approvals.revoke(tx, KEY, "restricted")
        assert not policy_approvals.revoke(tx, KEY, "restricted")
    assert active(database) == set()
    with database.read() as tx:
        (told,) = policy_approvals.history(tx, KEY)
    assert (told.who, told.reason, told.connector_id) == ("op", "asked legal", ONE)
    assert told.revoked_at is not None
    assert approve(database)
