"""Releases that ask for more than was agreed to, and releases that are taken by hand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.lifecycle.test_rollout import CONNECTOR, PLATFORM, Catalog
from wellhead.catalog.policy import Policy
from wellhead.compat import surface
from wellhead.connections import ConnectionFile
from wellhead.errors import ConfigurationError
from wellhead.lifecycle import resolution, upgrade
from wellhead.registry import connections, policy_approvals

pytestmark = pytest.mark.slow

NEWS: dict[str, Any] = {"network": {"egress": [{"host": "new.example.com", "port": 443}]}}
NEEDS_MORE: dict[str, Any] = {
    "config": {"schema": {"type": "object", "required": ["region"], "properties": {"region": {}}}}
}


class World(Catalog):
    """One connection that runs 1.0.0 and has agreed to no way out."""

    platform = PLATFORM

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.publish("1.0.0")
        (self.file,) = self.connect(1)
        self.run({self.file.key: "1.0.0"}, "succeeded")
        self.agree(surface.Surface((), (), "internal"))

    def agree(self, agreed: surface.Surface) -> None:
        with self.database.transaction() as tx:
            connections.approve_surface(tx, self.file.key, agreed.document())

    @property
    def version(self) -> str:
        return self.versions([self.file])[self.file.key]

    @property
    def waiting(self) -> dict[str, str]:
        decision = resolution.choose(self.host, self.file, PLATFORM)
        return {item.version: item.reason for item in decision.waiting}

    def upgrade(self, to: str | None = None) -> upgrade.Upgraded:
        return upgrade.upgrade(self.host, self.file, to, "ops")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.database.close()


def test_a_release_with_a_new_host_waits_and_the_old_one_goes_on(world: World) -> None:
    world.publish("1.1.0", **NEWS)
    assert world.version == "1.0.0"
    assert world.waiting == {"1.1.0": "needs approval: host new.example.com:443"}
    way = surface.Way("new.example.com", 443, "required", "manifest", private=False)
    world.agree(surface.Surface((way,), (), "internal"))
    assert world.version == "1.1.0"


def test_one_that_waits_does_not_keep_a_smaller_step_away(world: World) -> None:
    world.publish("1.0.1")
    world.publish("1.1.0", **NEWS)
    assert world.version == "1.0.1"


def test_a_higher_classification_waits(world: World) -> None:
    world.publish("1.1.0", compliance={"classification": "restricted"})
    assert world.waiting == {"1.1.0": "needs approval: classification restricted instead of internal"}


def test_a_release_that_the_file_does_not_fit_waits_instead_of_breaking_the_run(world: World) -> None:
    world.publish("1.1.0", **NEEDS_MORE)
    assert world.version == "1.0.0"
    assert world.waiting["1.1.0"].startswith("the connection's file does not fit it: ")
    assert "region" in world.waiting["1.1.0"]


def policy(effect: str) -> Policy:
    return Policy.model_validate(
        {
            "name": "certified",
            "description": "d",
            "when": ["run"],
            "if": "manifest.support.level != 'private'",
            "effect": effect,
            "message": "others see it",
            "mend": "ask",
        }
    )


COMMUNITY: dict[str, Any] = {"support": {"level": "community", "lifecycle": "experimental"}}


def test_a_release_that_a_policy_denies_is_not_moved_to(world: World) -> None:
    world.governed = (policy("deny"),)
    world.publish("1.0.1")
    world.publish("1.1.0", **COMMUNITY)
    assert world.version == "1.0.1"
    world.governed = (policy("warn"),)
    assert world.version == "1.1.0"


def test_a_release_that_a_policy_asks_about_is_moved_to_once_somebody_approved(world: World) -> None:
    asks = policy("require_approval")
    world.governed = (asks,)
    world.publish("1.1.0", **COMMUNITY)
    assert world.version == "1.0.0"
    assert world.waiting == {"1.1.0": "needs approval under policy certified: others see it"}
    with world.database.transaction() as tx:
        policy_approvals.approve(tx, world.file.key, CONNECTOR, asks.name, asks.sha256, who="op", reason="fine")
    assert world.version == "1.1.0"


def asking(world: World, **fields: Any) -> ConnectionFile:
    said = world.file.connection.model_copy(update=fields)
    return ConnectionFile(world.file.key, said, world.file.file, "", world.file.document)


def test_a_major_step_is_taken_by_hand(world: World) -> None:
    world.file = asking(world, version="*")
    world.publish("2.0.0")
    assert world.version == "1.0.0"
    done = world.upgrade()
    assert (done.before, done.to) == ("1.0.0", "2.0.0")
    assert world.version == "2.0.0"


def test_a_step_beyond_auto_update_is_taken_by_hand(world: World) -> None:
    world.file = asking(world, auto_update="none")
    world.publish("1.0.1")
    assert world.version == "1.0.0"
    assert world.upgrade("1.0.1").to == "1.0.1"
    assert world.version == "1.0.1"


@pytest.mark.parametrize(
    ("to", "why"),
    [
        ("1.1.0", "needs approval: host new.example.com:443"),
        ("1.0.0", "it runs already"),
        ("0.9.0", "it runs 1.0.0; going back takes `wellhead rollback`"),
        ("2.0.0", "not in the range ^1"),
        ("1.7.0", "no such release is known"),
    ],
)
def test_an_upgrade_that_cannot_be_says_why(world: World, to: str, why: str) -> None:
    world.publish("0.9.0")
    world.publish("1.1.0", **NEWS)
    world.publish("2.0.0")
    with pytest.raises(ConfigurationError) as caught:
        world.upgrade(to)
    assert caught.value.code.name == "WH-CAT-067"
    assert caught.value.message == f"orders-0 cannot be upgraded to {to}: {why}"
    assert world.version == "1.0.0"


def test_what_is_held_is_not_upgraded(world: World) -> None:
    with world.database.transaction() as tx:
        connections.hold(tx, world.file.key, version="1.0.0", who="ops", reason="slow", until=None)
    with pytest.raises(ConfigurationError) as caught:
        world.upgrade()
    assert caught.value.code.name == "WH-CAT-066"


@pytest.mark.parametrize("to", ["9", "latest", "1", "^2", "9.9.9", "1.0"])
def test_what_is_no_version_is_not_upgraded_to(world: World, to: str) -> None:
    world.publish("2.0.0")
    with pytest.raises(ConfigurationError, match="no such release is known") as caught:
        world.upgrade(to)
    assert caught.value.code == upgrade.NOT_ON_OFFER
    assert world.version == "1.0.0"


def test_a_version_that_is_empty_does_not_mean_the_highest(world: World) -> None:
    world.publish("2.0.0")
    with pytest.raises(ConfigurationError, match="a version that is empty") as caught:
        world.upgrade("")
    assert caught.value.code == upgrade.NOT_ON_OFFER
    assert world.version == "1.0.0"
