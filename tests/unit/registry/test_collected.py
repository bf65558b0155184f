"""Rows of releases whose files were collected: nobody begins to need one, and its version never means other bytes."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from tests.unit.registry.test_runs import RELEASE
from wellhead.errors import ConfigurationError, RefusedError, TransientError
from wellhead.ids import Digest
from wellhead.registry import definitions
from wellhead.registry.database import Database

NAME = (RELEASE.connector_id, RELEASE.version)


@pytest.fixture
def registered(database: Database) -> Database:
    with database.transaction() as tx:
        definitions.register(tx, RELEASE)
    return database


def collected(database: Database) -> bool:
    with database.read() as tx:
        return definitions.get(tx, *NAME).collected_at is not None


def test_nobody_begins_to_need_what_is_collected_and_its_row_stays(registered: Database) -> None:
    with registered.transaction() as tx:
        definitions.begin_collecting(tx, *NAME)
        definitions.finish_collecting(tx, *NAME)
    with pytest.raises(ConfigurationError) as caught, registered.transaction() as tx:
        definitions.refer_to(tx, *NAME)
    assert caught.value.code == definitions.COLLECTED
    with registered.read() as tx:
        assert definitions.get(tx, *NAME).manifest == RELEASE.manifest


def test_a_collected_version_with_other_bytes_is_refused(registered: Database) -> None:
    with registered.transaction() as tx:
        definitions.begin_collecting(tx, *NAME)
        definitions.finish_collecting(tx, *NAME)
    with pytest.raises(RefusedError) as caught, registered.transaction() as tx:
        definitions.register(tx, replace(RELEASE, index_digest=Digest("sha256:ee")))
    assert caught.value.code == definitions.OTHER_BYTES


def test_what_was_collected_comes_back_once_it_is_published_again(registered: Database) -> None:
    with registered.transaction() as tx:
        assert not definitions.bring_back(tx, *NAME)
        definitions.begin_collecting(tx, *NAME)
        definitions.finish_collecting(tx, *NAME)
    with registered.transaction() as tx:
        assert definitions.bring_back(tx, *NAME)
        assert not definitions.register(tx, RELEASE)
    assert not collected(registered)


def test_what_is_being_collected_does_not_come_back_before_that_is_over(registered: Database) -> None:
    with registered.transaction() as tx:
        definitions.begin_collecting(tx, *NAME)
    with pytest.raises(TransientError) as caught, registered.transaction() as tx:
        definitions.bring_back(tx, *NAME)
    assert caught.value.code == definitions.BEING_COLLECTED
    assert collected(registered)
    with registered.transaction() as tx:
        definitions.interrupt_collecting(tx, *NAME)
    with registered.transaction() as tx:
        assert definitions.bring_back(tx, *NAME)


def test_a_release_that_was_collected_while_it_was_stored_again_is_not_taken_for_there(registered: Database) -> None:
    with registered.transaction() as tx:
        definitions.begin_collecting(tx, *NAME)
        definitions.finish_collecting(tx, *NAME)
    with pytest.raises(TransientError) as caught, registered.transaction() as tx:
        definitions.register(tx, RELEASE)
    assert caught.value.code == definitions.BEING_COLLECTED


def test_a_release_is_not_marked_while_somebody_begins_to_need_it(registered: Database) -> None:
    asked, tape = threading.Event(), []

    def collect() -> None:
        asked.set()
        with registered.transaction() as tx:
            definitions.all_of(tx, lock="update")
            tape.append("judged")

    thread = threading.Thread(target=collect)
    with registered.transaction() as tx:
        definitions.refer_to(tx, *NAME)
        thread.start()
        asked.wait()
        thread.join(0.3)
        tape.append("referred to")
    thread.join()
    assert tape == ["referred to", "judged"]
