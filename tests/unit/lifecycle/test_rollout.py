"""Promotion over many connections: who gets the new version, how it grows, and how it halts by itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
import sqlalchemy as sa

from tests.parts import new_registry
from wellhead import documents
from wellhead.catalog.channels import Guard, Rollout
from wellhead.catalog.policy import Policy
from wellhead.clock import SystemClock
from wellhead.connections import Connection, ConnectionFile
from wellhead.errors import Code, ConfigurationError, RefusedError, TransientError
from wellhead.ids import ConnectionKey, ConnectorId, Digest, RunId
from wellhead.lifecycle import plan, resolution, rollout
from wellhead.lifecycle import run as lifecycle
from wellhead.lifecycle.host import Host, Run
from wellhead.registry import alerts, channels, connections, definitions, runs
from wellhead.registry.database import Database, Transaction
from wellhead.registry.definitions import PlatformImage, Release
from wellhead.settings import Settings

from .conftest import MANIFEST, World

pytestmark = pytest.mark.slow

CODE = Code("WH-TST-001", "A test's own.")
CONNECTOR = ConnectorId("dev/generator")
PLATFORM = "linux/amd64"


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.at = datetime.now(UTC) + timedelta(minutes=1)

    def now(self) -> datetime:
        return self.at


class Catalog:
    """A registry with releases and connections, as runs would have left it."""

    def __init__(self, folder: Path) -> None:
        self.database = Database.open(new_registry(folder / "registry.db"))
        self.clock = Clock()
        self.ran = 0
        self.settings = Settings(root=folder)
        self.host = cast("Host", self)
        self.governed: tuple[Policy, ...] = ()

    def policies(self) -> tuple[Policy, ...]:
        return self.governed

    def publish(self, *versions: str, to: str = "stable", **sections: Any) -> None:
        with self.database.transaction() as tx:
            for version in versions:
                digest = Digest(f"sha256:{version}")
                image = PlatformImage(digest, digest)
                definitions.register(
                    tx,
                    Release(
                        CONNECTOR,
                        version,
                        digest,
                        "00",
                        {PLATFORM: image},
                        {**MANIFEST.document.data, **sections},
                        "k",
                        self.clock.at,
                    ),
                )
                if to:
                    channels.point(
                        tx, CONNECTOR, to, version=version, index_digest=digest, who="ci", reason="published"
                    )

    def connect(self, count: int, tenant: str = "acme") -> list[ConnectionFile]:
        with self.database.transaction() as tx:
            return [self._file(tx, tenant, f"orders-{number}") for number in range(count)]

    def _file(self, tx: Transaction, tenant: str, name: str) -> ConnectionFile:
        said: dict[str, Any] = {"name": name, "connector": CONNECTOR, "version": "^1", "streams": [{"name": "rows"}]}
        key = ConnectionKey(tenant, "default", name)
        connections.onboard(
            tx, key, connector_id=CONNECTOR, version_range="^1", channel="stable", enabled=True, file_sha256=""
        )
        return ConnectionFile(
            key, Connection.model_validate(said), Path(name), "", documents.Document(name, b"", said, {})
        )

    def versions(self, files: list[ConnectionFile]) -> dict[ConnectionKey, str]:
        return {
            key: found.require().version for key, found in resolution.choose_all(self.host, files, PLATFORM).items()
        }

    def promote(self, version: str, share: Rollout | None, channel: str = "stable") -> None:
        order = rollout.Order(CONNECTOR, version, channel, "ops", "new", share)
        rollout.promote(self.database, cast("Any", self.clock), order)

    def settle(self) -> list[rollout.Halted]:
        return rollout.settle(self.database, cast("Any", self.clock), CONNECTOR)

    def run(self, chosen: dict[ConnectionKey, str], status: str, rows: int = 10) -> None:
        """Write down one run of each connection on the version it was given."""
        for key, version in chosen.items():
            self.ran += 1
            run_id = RunId(f"run-{self.ran}")
            digest = Digest(f"sha256:{version}")
            with self.database.transaction() as tx:
                runs.start(tx, runs.Start(run_id, key, "run", "host", CONNECTOR, epoch=1))
                runs.set_plan(tx, run_id, version=version, index_digest=digest, plan={})
                connections.set_resolved(tx, key, version=version, digest=digest, decision={})
                streams = {"rows": {"rows": rows, "dead_letters": 0}}
                runs.finish(tx, run_id, runs.Outcome(status, 0 if status == "succeeded" else 70, streams=streams))


@pytest.fixture
def catalog(tmp_path: Path) -> Iterable[Catalog]:
    made = Catalog(tmp_path)
    yield made
    made.database.close()


def test_a_tenth_of_a_thousand_connections_gets_the_new_version_and_no_one_loses_it(catalog: Catalog) -> None:
    catalog.publish("1.0.0")
    catalog.publish("1.1.0", to="")
    files = catalog.connect(1000)
    assert Counter(catalog.versions(files).values()) == {"1.0.0": 1000}
    catalog.promote("1.1.0", Rollout(10, step=30, every_s=3600))
    first = {key for key, version in catalog.versions(files).items() if version == "1.1.0"}
    assert 80 <= len(first) <= 120
    before = first
    for _ in range(3):
        catalog.clock.at += timedelta(hours=1)
        grown = {key for key, version in catalog.versions(files).items() if version == "1.1.0"}
        assert before < grown
        before = grown
    assert len(before) == 1000


def test_a_version_that_fails_is_halted_and_everybody_is_back_on_the_old_one(catalog: Catalog) -> None:
    catalog.publish("1.0.0")
    catalog.publish("1.1.0", to="")
    files = catalog.connect(60)
    catalog.run(catalog.versions(files), "succeeded")
    catalog.promote("1.1.0", Rollout(30))
    chosen = catalog.versions(files)
    new = {key: version for key, version in chosen.items() if version == "1.1.0"}
    old = {key: version for key, version in chosen.items() if version == "1.0.0"}
    assert new
    catalog.run(old, "succeeded")
    assert catalog.settle() == []
    catalog.run(new, "failed")
    (halted,) = catalog.settle()
    assert (halted.version, halted.channel) == ("1.1.0", "stable")
    assert halted.reason.startswith("failures 100.0%")
    assert catalog.settle() == []
    assert set(catalog.versions(files).values()) == {"1.0.0"}
    with catalog.database.read() as tx:
        assert [alert.alert.kind for alert in alerts.latest(tx, connector_id=CONNECTOR)] == ["rollout_halted"]
    catalog.promote("1.1.0", Rollout(30))
    assert "1.1.0" in catalog.versions(files).values()


def test_runs_that_read_nothing_halt_a_rollout_as_well(catalog: Catalog) -> None:
    catalog.publish("1.0.0")
    catalog.publish("1.1.0", to="")
    files = catalog.connect(20)
    catalog.promote("1.1.0", Rollout(60, guard=Guard(zero_rows=0.2)))
    chosen = catalog.versions(files)
    catalog.run({key: version for key, version in chosen.items() if version == "1.0.0"}, "succeeded")
    catalog.run({key: version for key, version in chosen.items() if version == "1.1.0"}, "succeeded", rows=0)
    assert [item.reason.split()[0] for item in catalog.settle()] == ["zero_rows"]


def test_a_rollout_is_never_promoted_to_fewer(catalog: Catalog) -> None:
    catalog.publish("1.0.0", "1.1.0")
    with pytest.raises(ConfigurationError) as caught:
        catalog.promote("1.1.0", Rollout(10))
    assert caught.value.code.name == "WH-CAT-070"


@pytest.mark.parametrize("status", ["yanked", "blocked"])
def test_what_nobody_should_run_is_not_promoted(catalog: Catalog, status: str) -> None:
    catalog.publish("1.0.0")
    with catalog.database.transaction() as tx:
        definitions.set_status(tx, CONNECTOR, "1.0.0", status, "leaks")
    with pytest.raises(RefusedError) as caught:
        catalog.promote("1.0.0", None, "candidate")
    assert caught.value.code.name == "WH-CAT-072"


def test_only_what_is_on_offer_is_halted(catalog: Catalog) -> None:
    catalog.publish("1.0.0")
    clock = cast("Any", catalog.clock)
    with pytest.raises(ConfigurationError) as caught:
        rollout.halt(catalog.database, clock, CONNECTOR, "1.1.0", "stable", "ops", "why")
    assert caught.value.code.name == "WH-CAT-071"
    rollout.halt(catalog.database, clock, CONNECTOR, "1.0.0", "stable", "ops", "why")
    decision = resolution.choose(catalog.host, catalog.connect(1)[0], PLATFORM)
    assert [item.reason for item in decision.rejected] == ["not in the channel stable"]


# ----- judged when a run has closed


@pytest.fixture
def rolling(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """A connection that gets 1.1.0, which is being rolled out and has failed twice, while 1.0.0 has not."""
    with world.database.transaction() as tx:
        for number, version in enumerate(("1.0.0", "1.1.0")):
            digest = Digest(f"sha256:{number}" + "0" * 63)
            image = PlatformImage(digest, digest)
            published = Release(
                CONNECTOR, version, digest, "00", {PLATFORM: image}, MANIFEST.document.data, "k", datetime.now(UTC)
            )
            definitions.register(tx, published)
    for version, share in (("1.0.0", None), ("1.1.0", Rollout(50))):
        rollout.promote(world.database, SystemClock(), rollout.Order(CONNECTOR, version, "stable", "ops", "new", share))
    key = ConnectionKey("default", "default", "others")
    ran = [("1.0.0", "succeeded")] * 3 + [("1.1.0", "failed")] * 2
    with world.database.transaction() as tx:
        for number, (version, status) in enumerate(ran):
            run_id = RunId(f"before-{number}")
            runs.start(tx, runs.Start(run_id, key, "run", "host", CONNECTOR, epoch=1))
            runs.set_plan(tx, run_id, version=version, index_digest=Digest("sha256:1"), plan={})
            streams = {"rows": {"rows": 1, "dead_letters": 0}}
            runs.finish(tx, run_id, runs.Outcome(status, 0 if status == "succeeded" else 70, streams=streams))
    frozen = vars(lifecycle)["freeze"]

    def freeze(here: Run, file: ConnectionFile, platform: str) -> plan.Plan:
        with here.host.database.transaction() as tx:
            runs.set_plan(tx, here.claim.run_id, version="1.1.0", index_digest=Digest("sha256:1"), plan={})
        made: plan.Plan = frozen(here, file, platform)
        return made

    monkeypatch.setattr("wellhead.lifecycle.run.freeze", freeze)
    return world


FAILS = {"rows": 9, "fail_at": 0, "fail_as": "fatal"}


def kinds(world: World) -> list[str]:
    """Return what was done in the channel, oldest first."""
    with world.database.read() as tx:
        return [row.kind for row in channels.history(tx, CONNECTOR, "stable")]


def test_the_run_that_is_one_failure_too_many_halts_the_rollout_itself(rolling: World) -> None:
    assert rolling.run(rolling.connect(config=FAILS)).exit_code == 70
    assert kinds(rolling) == ["promote", "promote", "halt"]


def test_a_run_below_the_guards_count_halts_nothing(rolling: World) -> None:
    with rolling.database.transaction() as tx:
        tx.execute(sa.text("delete from connector_runs where run_id = 'before-4'"))
    assert rolling.run(rolling.connect(config=FAILS)).exit_code == 70
    assert kinds(rolling) == ["promote", "promote"]


@pytest.mark.parametrize("error", [TransientError("locked", code=CODE), KeyError("percent")])
def test_a_run_has_ended_whatever_judging_its_rollout_comes_to(
    rolling: World, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(rollout, "settle", fail)
    report = rolling.run(rolling.connect(config={"rows": 3}))
    assert (report.exit_code, rolling.ids()) == (0, [0, 1, 2])
    with rolling.database.read() as tx:
        assert runs.get(tx, RunId(report.run_id)).status == "succeeded"
    log = rolling.host().log_file(RunId(report.run_id)).read_text()
    assert "rollout_not_judged" in log
    assert type(error).__name__ in log
