"""Releases that a newer Wellhead has put into the registry: one of them keeps nobody here from the others."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.unit.lifecycle.conftest import MANIFEST
from tests.unit.lifecycle.test_rollout import CONNECTOR, PLATFORM, Catalog
from wellhead import __version__
from wellhead.catalog.resolve import Rejected
from wellhead.connections import ConnectionFile
from wellhead.errors import ConfigurationError
from wellhead.lifecycle import publish, resolution, rollback, upgrade
from wellhead.manifest import load
from wellhead.registry import connections, definitions

pytestmark = pytest.mark.slow

ELSEWHERE: dict[str, Any] = {"future": {"yes": True}}


class World(Catalog):
    platform = PLATFORM


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.database.close()


@pytest.mark.parametrize(
    "sections",
    [
        {"runtime": {**MANIFEST.document.data["runtime"], "future": 1}},
        {"runtime": {**MANIFEST.document.data["runtime"], "platforms": ["linux/riscv64"]}},
        {"runtime": None},
        {"compatibility": {"future": 1}},
    ],
)
def test_a_release_that_says_how_it_runs_in_words_of_later_is_for_newer_hosts(
    world: World, sections: dict[str, Any]
) -> None:
    world.publish("1.0.0")
    world.publish("1.1.0", **sections)
    ran, new = world.connect(2)
    world.run({ran.key: "1.0.0"}, "succeeded")
    assert set(world.versions([ran, new]).values()) == {"1.0.0"}
    reason = Rejected("1.1.0", f"needs Wellhead >{__version__}, this is {__version__}")
    assert resolution.choose(world.host, new, PLATFORM).rejected == (reason,)
    with pytest.raises(ConfigurationError) as caught:
        resolution.exactly(world.host, new, PLATFORM, "1.1.0").require()
    assert caught.value.code.name == "WH-CAT-040"
    assert reason.reason in caught.value.message


def test_nobody_is_moved_to_a_release_that_says_anything_else_in_words_of_later(world: World) -> None:
    world.publish("1.0.0")
    world.publish("1.1.0", **ELSEWHERE)
    (file,) = world.connect(1)
    world.run({file.key: "1.0.0"}, "succeeded")
    assert world.versions([file]) == {file.key: "1.0.0"}
    decision = resolution.choose(world.host, file, PLATFORM)
    # It waits for nobody's word: no word would let it in.
    assert decision.waiting == ()
    (refused,) = decision.rejected
    assert refused.reason.startswith("this host cannot run it: ")
    assert refused.reason.endswith("future is not a known key")
    with pytest.raises(ConfigurationError, match="future is not a known key"):
        upgrade.upgrade(world.host, file, "1.1.0", "ops")


def test_nobody_is_upgraded_by_hand_to_a_release_that_cannot_be_read(world: World) -> None:
    world.publish("1.0.0")
    world.publish("1.1.0", **ELSEWHERE)
    world.publish("1.2.0")
    (file,) = world.connect(1)
    world.run({file.key: "1.0.0"}, "succeeded")
    with pytest.raises(ConfigurationError, match="future is not a known key"):
        upgrade.upgrade(world.host, file, "1.1.0", "ops")


def any_version(file: ConnectionFile) -> ConnectionFile:
    return replace(file, connection=file.connection.model_copy(update={"version": "*"}))


def test_a_major_version_that_cannot_be_read_waits_for_nobody(world: World) -> None:
    world.publish("1.0.0", "2.0.0")
    world.publish("3.0.0", "4.0.0", **ELSEWHERE)
    file = any_version(world.connect(1)[0])
    world.run({file.key: "1.0.0"}, "succeeded")
    decision = resolution.choose(world.host, file, PLATFORM)
    assert decision.require().version == "1.0.0"
    assert [item.version for item in decision.waiting] == ["2.0.0"]
    assert [item.reason[:23] for item in decision.rejected[:2]] == ["this host cannot run it"] * 2
    assert upgrade.upgrade(world.host, file, None, "ops").to == "2.0.0"


def test_an_upgrade_passes_over_what_cannot_be_read_also_where_nothing_else_fits(world: World) -> None:
    world.publish("1.0.0", "2.0.0")
    world.publish("3.0.0", **ELSEWHERE)
    file = any_version(world.connect(1)[0])
    world.run({file.key: "1.0.0"}, "succeeded")
    with world.database.transaction() as tx:
        definitions.set_status(tx, CONNECTOR, "1.0.0", "blocked", "leaks")
    assert upgrade.upgrade(world.host, file, None, "ops").to == "2.0.0"


def test_nobody_begins_with_a_release_that_says_anything_in_words_of_later(world: World) -> None:
    world.publish("1.0.0")
    world.publish("1.1.0", **ELSEWHERE)
    file, other = world.connect(2)
    # Of many at once too, where nobody asks what waits.
    assert set(world.versions([file, other]).values()) == {"1.0.0"}
    decision = resolution.choose(world.host, file, PLATFORM)
    assert decision.require().version == "1.0.0"
    assert decision.waiting == ()
    assert [item.reason[:23] for item in decision.rejected] == ["this host cannot run it"]


def test_nothing_goes_back_to_a_release_that_cannot_be_read(world: World) -> None:
    world.publish("1.0.0", **ELSEWHERE)
    world.publish("1.1.0")
    (file,) = world.connect(1)
    world.run({file.key: "1.1.0"}, "succeeded")
    with pytest.raises(ConfigurationError) as caught:
        rollback.connection(world.host, file, rollback.Order("ops", "slow", "1.0.0"))
    assert caught.value.code.name == "WH-DOC-003"
    assert caught.value.message.startswith(f"the manifest of {CONNECTOR} 1.0.0 ")
    assert "upgrade Wellhead" in (caught.value.hint or "")
    with world.database.read() as tx:
        assert connections.get(tx, file.key).hold is None


def test_who_fetches_a_manifest_of_later_is_told_to_upgrade() -> None:
    content = json.dumps({**MANIFEST.document.data, **ELSEWHERE}).encode()
    with pytest.raises(ConfigurationError) as caught:
        load.from_canonical_json(content)
    assert caught.value.code.name == "WH-DOC-003"
    assert "upgrade Wellhead" in (caught.value.hint or "")


def test_a_manifest_that_is_known_is_read_as_it_stands_with_its_release() -> None:
    assert load.of_release(CONNECTOR, "1.0.0", MANIFEST.document.data) == MANIFEST.manifest


def test_what_is_published_or_kept_beside_such_a_release_is_told_why_it_cannot_be(world: World) -> None:
    world.publish("1.0.0", **ELSEWHERE)
    later = MANIFEST.manifest.metadata.model_copy(update={"version": "1.1.0"})
    with world.database.read() as tx:
        (row,) = definitions.all_of(tx, CONNECTOR)
        with pytest.raises(ConfigurationError) as caught:
            publish.previous(tx, MANIFEST.manifest.model_copy(update={"metadata": later}))
    assert caught.value.code.name == "WH-DOC-003"
    assert "upgrade Wellhead" in (caught.value.hint or "")
    # Of what says which states it reads, nothing else has to be known.
    assert load.compatibility_of(row.connector_id, row.version, row.manifest) == MANIFEST.manifest.compatibility
