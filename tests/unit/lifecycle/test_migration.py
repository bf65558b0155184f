"""A config on its way to a release and back: what a run gets, what is kept of a file, and what a rollback finds."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import sqlalchemy as sa

from tests.unit.lifecycle.test_rollout import CONNECTOR, PLATFORM, Catalog
from wellhead import connections, profile
from wellhead.catalog.verify import VerifiedRelease
from wellhead.connections import ConnectionFile
from wellhead.errors import ConfigurationError, TransientError
from wellhead.ids import Digest, RunId
from wellhead.lifecycle import configuration, migration, plan, resolution, rollback
from wellhead.lifecycle.claim import Claim, onboard
from wellhead.lifecycle.host import Run
from wellhead.manifest.model import Manifest
from wellhead.registry import connections as rows
from wellhead.registry import definitions, runs
from wellhead.registry.tables import kept_configs

pytestmark = pytest.mark.slow

FILE = """\
name: orders
connector: dev/generator
version: ^1
streams: [{name: rows}]
config:
  datacenter: eu  # nearest
  tier: ${TIER:-1}
secrets: {}
"""


def schema(**properties: str) -> dict[str, Any]:
    return {
        "type": "object",
        "additionalProperties": False,
        "required": list(properties),
        "properties": {name: {"type": kind} for name, kind in properties.items()},
    }


TWO: dict[str, Any] = {
    "version": 2,
    "migrations": [{"from": 1, "to": 2, "rename": {"datacenter": "region"}, "set": {"mode": "fast"}}],
    "schema": schema(region="string", tier="integer", mode="string"),
}
THREE: dict[str, Any] = {
    "version": 3,
    "migrations": [*TWO["migrations"], {"from": 2, "to": 3, "map": {"tier": [{"from": 1, "to": "one"}]}}],
    "schema": schema(region="string", tier="string", mode="string"),
}


class World(Catalog):
    """A release for each of three versions of the config, and a connection that was written for the first."""

    platform = PLATFORM

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.publish("1.0.0", config={"schema": schema(datacenter="string", tier="integer")})
        self.publish("1.1.0", config=TWO)
        self.publish("1.2.0", config=THREE)
        self.lines: list[tuple[str, str]] = []
        (folder / "connections").mkdir()
        self.write(FILE)

    @property
    def path(self) -> Path:
        return self.settings.path(self.settings.connections) / "orders.yaml"

    def write(self, text: str) -> None:
        self.path.write_text(text)

    def file(self) -> ConnectionFile:
        return connections.load(self.settings, "orders", {})

    def manifest(self, version: str) -> Manifest:
        with self.database.read() as tx:
            return Manifest.model_validate(dict(definitions.get(tx, CONNECTOR, version).manifest))

    def at(self, version: str) -> configuration.Configuration:
        return configuration.configured(self.host, self.file(), self.manifest(version))

    def freeze(self, version: str, monkeypatch: pytest.MonkeyPatch) -> plan.Plan:
        """Plan a run of a release as a run does it; only the signature is taken for granted."""
        self.write(self.path.read_text().replace("version: ^1", f"version: {version}"))
        self.ran += 1
        file, run_id = self.file(), RunId(f"run-{self.ran}")
        images = cast(
            "Mapping[str, Any]", {PLATFORM: definitions.PlatformImage(Digest("sha256:c"), Digest("sha256:m"))}
        )

        def verified(*_: Any) -> VerifiedRelease:
            digest = Digest(f"sha256:{version}")
            return VerifiedRelease(CONNECTOR, version, digest, self.manifest(version), "00", images, ())

        monkeypatch.setattr("wellhead.catalog.verify.verify_release", verified)
        with self.database.transaction() as tx:
            onboard(tx, file)
            runs.start(tx, runs.Start(run_id, file.key, "run", "host", CONNECTOR, epoch=1))
        log = SimpleNamespace(
            write=lambda level, event, **said: self.lines.append((level.name, said.get("said", event)))
        )
        here = cast("Run", SimpleNamespace(host=self.host, claim=Claim(run_id, file.key, "here", 1), log=log))
        frozen = plan.freeze(here, file, PLATFORM)
        self.write(self.path.read_text().replace(f"\nversion: {version}", "\nversion: ^1"))
        return frozen

    def holding(self, *_: Any) -> None:
        """Stand for the store, which nothing here asks for bytes."""

    def trust(self) -> None:
        """Stand for trust.yaml, which nothing here asks."""

    def kept(self) -> dict[int, Any]:
        with self.database.read() as tx:
            return {row.config_version: row.config for row in tx.execute(sa.select(kept_configs))}

    def migrate(self) -> str:
        order = migration.rewriting(self.host, self.file())
        assert order is not None
        migration.carry_out(self.host, order)
        return self.path.read_text()


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.delenv("TIER", raising=False)
    made = World(tmp_path)
    yield made
    made.database.close()


def test_each_release_gets_the_config_it_asks_for_and_the_file_stays(world: World) -> None:
    assert [dict(world.at(version).values) for version in ("1.0.0", "1.1.0", "1.2.0")] == [
        {"datacenter": "eu", "tier": 1},
        {"region": "eu", "tier": 1, "mode": "fast"},
        {"region": "eu", "tier": "one", "mode": "fast"},
    ]
    assert world.path.read_text() == FILE
    assert world.at("1.0.0").origin.told() == ()
    assert world.at("1.2.0").origin.told() == (
        "config of version 1 is migrated to version 3: 1 → 2: datacenter is called region; "
        '1 → 2: mode is set to "fast"; 2 → 3: tier has another value',
    )


def test_a_release_with_a_migrated_config_does_not_wait_for_anybody(world: World) -> None:
    file = world.file()
    with world.database.transaction() as tx:
        onboard(tx, file)
    world.run({file.key: "1.0.0"}, "succeeded")
    assert world.versions([file])[file.key] == "1.2.0"


def test_a_run_keeps_what_was_written_and_says_what_it_got(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    frozen = world.freeze("1.1.0", monkeypatch)
    assert frozen.config == {"region": "eu", "tier": 1, "mode": "fast"}
    assert world.kept() == {1: {"datacenter": "eu", "tier": "${TIER:-1}"}}
    with world.database.read() as tx:
        run = runs.get(tx, RunId("run-1"))
        events = [event for event in runs.events(tx, run.run_id) if event.event == "connector.config.migrated"]
    assert run.plan is not None
    assert run.plan["config"] == frozen.config
    assert run.plan["config_origin"] == events[0].details
    assert (events[0].details["written_for"], events[0].details["wanted"]) == (1, 2)
    assert [level for level, said in world.lines if "is migrated to version 2" in said] == ["INFO"]
    world.freeze("1.0.0", monkeypatch)
    with world.database.read() as tx:
        names = [event.event for event in runs.events(tx, RunId("run-2"))]
    assert "connector.config.migrated" not in names


def test_what_the_environment_fills_in_is_never_kept(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIER", "271828")
    world.write(FILE.replace("secrets: {}", "secrets: {}  # vault://kv/orders#password"))
    file = connections.load(world.settings, "orders", {"TIER": "271828"})
    with world.database.transaction() as tx:
        configuration.keep(tx, file)
    assert world.kept() == {1: {"datacenter": "eu", "tier": "${TIER:-1}"}}
    world.write(FILE.replace("config:", "config_version: 2\nconfig:").replace("datacenter", "region"))
    assert world.at("1.0.0").values == {"datacenter": "eu", "tier": 271828}


def test_a_file_that_was_rewritten_finds_its_way_back(world: World) -> None:
    with world.database.transaction() as tx:
        definitions.set_status(tx, CONNECTOR, "1.2.0", "blocked", "not yet")
    assert world.migrate().splitlines() == [
        *FILE.splitlines()[:4],
        "config_version: 2",
        "config:",
        "  region: eu      # nearest",
        "  tier: ${TIER:-1}",
        "  mode: fast",
        "secrets: {}",
    ]
    assert world.at("1.1.0").values == {"region": "eu", "tier": 1, "mode": "fast"}
    assert world.at("1.1.0").origin.told() == ()
    back = world.at("1.0.0")
    assert back.values == {"datacenter": "eu", "tier": 1}
    (line,) = back.origin.told()
    assert line.startswith("config of version 1 as kept at ")
    assert migration.rewriting(world.host, world.file()) is None


def test_from_what_is_kept_a_migration_leads_on(world: World) -> None:
    world.write(FILE.replace("${TIER:-1}", "1"))
    assert "tier: one" in world.migrate()
    back = world.at("1.1.0")
    assert back.values == {"region": "eu", "tier": 1, "mode": "fast"}
    assert (back.origin.written_for, back.origin.wanted) == (1, 2)
    kept, migrated = back.origin.told()
    assert kept.startswith("config of version 1 as kept at ")
    assert migrated.startswith("it is migrated to version 2: ")


def test_without_a_kept_config_an_older_release_is_refused(world: World) -> None:
    world.write("config_version: 3\n" + FILE)
    with pytest.raises(ConfigurationError) as caught:
        world.at("1.1.0")
    assert caught.value.code.name == "WH-RUN-083"
    assert caught.value.place is not None
    assert (caught.value.place.line, caught.value.place.field) == (1, "config_version")
    assert "config_version: 2" in str(caught.value.hint)


@pytest.fixture
def onboarded(world: World) -> World:
    """The same, with the connection having run the newest release."""
    file = world.file()
    with world.database.transaction() as tx:
        onboard(tx, file)
    world.run({file.key: "1.2.0"}, "succeeded")
    return world


LEVELS = {
    "connection": lambda world: [rollback.connection(world.host, world.file(), rollback.Order("ops", "slow", "1.0.0"))],
    "tenant": lambda world: rollback.tenant(
        world.host, "default", CONNECTOR, [world.file()], rollback.Order("ops", "slow", "1.0.0")
    ),
    "channel": lambda world: rollback.channel(
        world.host, CONNECTOR, "stable", [world.file()], rollback.Order("ops", "slow", "1.0.0")
    ),
    "connector": lambda world: rollback.connector(
        world.host, CONNECTOR, [world.file()], rollback.Order("ops", "slow", "1.0.0")
    ),
}


@pytest.mark.parametrize("level", LEVELS)
def test_at_each_level_a_release_goes_back_to_the_config_it_was_given(onboarded: World, level: str) -> None:
    onboarded.write(FILE.replace("${TIER:-1}", "1"))
    onboarded.migrate()
    (back,) = LEVELS[level](onboarded)
    assert (back.before, back.to) == ("1.2.0", "1.0.0")
    assert [line.partition(" as kept")[0] for line in back.config] == ["config of version 1"]
    file = onboarded.file()
    assert onboarded.versions([file])[file.key] == "1.0.0"
    assert onboarded.at("1.0.0").values == {"datacenter": "eu", "tier": 1}


@pytest.mark.parametrize("level", LEVELS)
def test_at_no_level_anything_moves_to_a_release_that_would_get_no_config(onboarded: World, level: str) -> None:
    onboarded.write(FILE.replace("config:", "config_version: 3\nconfig:"))
    with pytest.raises(ConfigurationError) as caught:
        LEVELS[level](onboarded)
    assert caught.value.code.name == "WH-RUN-083"
    with onboarded.database.read() as tx:
        assert rows.get(tx, onboarded.file().key).hold is None
    offered = resolution.choose(onboarded.host, onboarded.file(), PLATFORM).request.offers
    assert "1.2.0" in offered


def test_a_file_that_was_never_rewritten_needs_nothing_kept(onboarded: World) -> None:
    (back,) = LEVELS["connection"](onboarded)
    assert back.config == ()
    assert onboarded.kept() == {}


def test_a_value_of_the_environment_is_not_migrated_in_a_file(world: World) -> None:
    with pytest.raises(ConfigurationError, match=r"config\.tier is filled in from the environment") as caught:
        world.migrate()
    assert caught.value.code.name == "WH-RUN-086"
    assert world.path.read_text() == FILE
    assert world.at("1.2.0").values["tier"] == "one"


def test_a_file_that_is_newer_than_its_release_is_left_alone(world: World) -> None:
    world.write(FILE.replace("config:", "config_version: 4\nconfig:"))
    with pytest.raises(ConfigurationError) as caught:
        migration.rewriting(world.host, world.file())
    assert caught.value.code.name == "WH-RUN-084"


def test_a_file_that_somebody_changes_meanwhile_is_theirs(world: World) -> None:
    world.write(FILE.replace("${TIER:-1}", "1"))
    order = migration.rewriting(world.host, world.file())
    assert order is not None
    world.write(FILE)
    with pytest.raises(TransientError) as caught:
        migration.carry_out(world.host, order)
    assert caught.value.code.name == "WH-RUN-089"
    assert world.path.read_text() == FILE


def test_a_mistake_in_a_migrated_config_names_the_way_it_came(world: World) -> None:
    world.write(FILE.replace("${TIER:-1}", "many"))
    with pytest.raises(ConfigurationError) as caught:
        world.at("1.1.0")
    assert caught.value.code.name == "WH-MAN-110"
    assert caught.value.details[-1] == "config is written for version 1, and was on its way to version 2"
    assert caught.value.place is not None
    assert caught.value.place.line == 7


def test_a_profile_joins_what_was_migrated(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Mapping[str, Any]] = []

    def joined(_: Any, config: Mapping[str, Any], *__: Any) -> profile.Resolved:
        seen.append(config)
        return profile.Resolved(cast("profile.Profile", None), config)

    monkeypatch.setattr(profile, "load", lambda path: path)
    monkeypatch.setattr(profile, "resolve", joined)
    world.write(FILE + "profile: profiles/p.yaml\n")
    world.at("1.1.0")
    assert json.dumps(seen) == json.dumps([{"tier": "1", "region": "eu", "mode": "fast"}])
