"""Deprecated, yanked, blocked and back: who is told, and what can still be run."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from wellhead.errors import RefusedError, UsageError
from wellhead.lifecycle import resolution, standing
from wellhead.registry import alerts, catalog_events, definitions

from .test_rollout import CONNECTOR, PLATFORM, Catalog

TODAY = date(2026, 5, 1)


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    made = Catalog(tmp_path)
    made.publish("1.0.0", "1.1.0")
    yield made
    made.database.close()


def declare(catalog: Catalog, said: standing.Standing, version: str = "1.1.0", **fields: Any) -> list[str]:
    order = standing.Order(CONNECTOR, version, said, "ops", "leaks memory", **fields)
    return [key.name for key in standing.declare(catalog.database, order, TODAY)]


def told(catalog: Catalog, version: str = "1.1.0") -> str | None:
    with catalog.database.read() as tx:
        return standing.told(definitions.get(tx, CONNECTOR, version))


def test_who_runs_a_release_gets_an_alert(catalog: Catalog) -> None:
    files = catalog.connect(3)
    catalog.run({files[1].key: "1.1.0"}, "succeeded")
    assert declare(catalog, "deprecated", replaced_by="1.0.0", sunset=date(2026, 6, 1)) == ["orders-1"]
    with catalog.database.read() as tx:
        (alert,) = alerts.latest(tx, connection=files[1].key)
        assert [event.event for event in catalog_events.all_of(tx, CONNECTOR)] == ["deprecated"]
    assert alert.alert.kind == "release_deprecated"
    assert told(catalog) == (
        "dev/generator 1.1.0 is deprecated: leaks memory; not to be run after 2026-06-01; use 1.0.0 instead"
    )
    assert declare(catalog, "active") == ["orders-1"]
    assert told(catalog) is None


@pytest.mark.parametrize("itself", ["1.1.0", CONNECTOR])
def test_a_release_is_not_replaced_by_itself(catalog: Catalog, itself: str) -> None:
    with pytest.raises(UsageError) as caught:
        declare(catalog, "deprecated", replaced_by=itself)
    assert caught.value.code.name == "WH-CAT-102"
    assert told(catalog) is None


def test_a_yanked_release_goes_on_where_it_runs_and_nowhere_else(catalog: Catalog) -> None:
    there, new = catalog.connect(2)
    catalog.run({there.key: "1.1.0"}, "succeeded")
    declare(catalog, "yanked")
    assert catalog.versions([there, new]) == {there.key: "1.1.0", new.key: "1.0.0"}


def test_a_blocked_release_runs_nowhere(catalog: Catalog) -> None:
    there, new = catalog.connect(2)
    catalog.run({there.key: "1.1.0"}, "succeeded")
    declare(catalog, "blocked")
    assert catalog.versions([new]) == {new.key: "1.0.0"}
    with pytest.raises(RefusedError) as caught:
        resolution.choose(catalog.host, there, PLATFORM).require()
    assert caught.value.exit_code == 76
    assert "1.1.0: blocked: leaks memory" in caught.value.details


def test_a_replacement_has_to_be_known(catalog: Catalog) -> None:
    with pytest.raises(UsageError) as caught:
        declare(catalog, "deprecated", replaced_by="1.7.0")
    assert caught.value.code.name == "WH-CAT-100"
    assert told(catalog) is None


def test_the_last_day_lies_ahead(catalog: Catalog) -> None:
    with pytest.raises(UsageError) as caught:
        declare(catalog, "deprecated", sunset=date(2026, 4, 30))
    assert caught.value.code.name == "WH-CAT-101"
