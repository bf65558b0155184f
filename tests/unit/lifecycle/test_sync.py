"""Applying records and channels: all or nothing, once, and over nobody's head."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from tests.unit.lifecycle.test_transfer import TINY, host
from tests.unit.lifecycle.test_transfer import publish as put
from wellhead.catalog import keys, policy, records, verify
from wellhead.catalog.channels import Rollout
from wellhead.catalog.keys import PrivateKey
from wellhead.errors import ConfigurationError
from wellhead.lifecycle import publish, rollout, sync
from wellhead.lifecycle.host import Host
from wellhead.lifecycle.sync import Plan, Pointing
from wellhead.registry import catalog_events, channels, definitions
from wellhead.registry.tables import metadata

pytestmark = pytest.mark.slow

OTHER = "sha256:" + "0" * 64


@dataclasses.dataclass
class World:
    """Where releases are published and recorded, and a host that shares only the store, the key and the folder."""

    here: Host
    there: Host
    key: PrivateKey
    folder: Path

    def release(self, *versions: str, channel: str = "stable") -> None:
        """Publish and record releases here."""
        for version in versions:
            put(self.here, version, self.key, channel=channel)
            with self.here.database.read() as tx:
                row = definitions.get(tx, TINY, version)
            release = verify.verify_release(self.here.layout(), row.index_digest, TINY, version, self.here.trust())
            publish.write_record(self.here.database, self.here.clock, release, channel, self.folder)

    def sync(self, *, dry_run: bool = False) -> Plan:
        return sync.sync(self.there, self.folder, who="ci", dry_run=dry_run)

    def refused(self) -> ConfigurationError:
        """Sync, which must fail and change nothing."""
        before = self.rows()
        with pytest.raises(ConfigurationError) as caught:
            self.sync()
        assert self.rows() == before
        return caught.value

    def rows(self) -> dict[str, list[Any]]:
        """Return every row of the other host's registry."""
        with self.there.database.read() as tx:
            return {table.name: list(tx.execute(sa.select(table))) for table in metadata.sorted_tables}

    def offers(self, channel: str = "stable") -> list[str]:
        with self.there.database.read() as tx:
            return [row.version for row in channels.history(tx, TINY, channel)]

    def edit(self, version: str, pattern: str, new: str) -> None:
        """Change a record behind everybody's back."""
        file = records.path(self.folder, TINY, version)
        text, count = re.subn(pattern, new, file.read_text())
        assert count == 1
        file.write_text(text)

    def falsify(self, version: str, scheme: str) -> None:
        """Let a record name something else by the digest of one scheme."""
        self.edit(version, f"{scheme}:sha256:[0-9a-f]+", f"{scheme}:{OTHER}")

    def list(self, *versions: str) -> None:
        """Write channels.yaml by hand."""
        text = f"format: 1\nchannels:\n  dev/tiny:\n    stable: [{', '.join(versions)}]\n"
        (self.folder / records.CHANNELS).write_text(text)

    def promote(self, version: str, percent: float, channel: str = "stable") -> None:
        order = rollout.Order(TINY, version, channel, "ops", "slowly", Rollout(percent))
        rollout.promote(self.there.database, self.there.clock, order)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    key = keys.new_pair(tmp_path / "keys", "publisher")
    with ExitStack() as scope:
        here, there = host(tmp_path / "here", key.public, scope), host(tmp_path / "there", key.public, scope)
        yield World(here, dataclasses.replace(there, layout=here.layout), key, tmp_path / "manifests")


def place(error: ConfigurationError) -> tuple[str | None, str | None, int | None]:
    assert error.place is not None
    assert error.place.file is not None
    return Path(error.place.file).name, error.place.field, error.place.line


def test_what_is_recorded_and_stored_is_registered_and_offered(world: World) -> None:
    world.release("1.0.0", "1.1.0")
    plan = world.sync()
    assert [one.version for one in plan.releases] == ["1.0.0", "1.1.0"]
    assert plan.pointings == (Pointing(TINY, "stable", "1.0.0"), Pointing(TINY, "stable", "1.1.0"))
    assert plan.left == ()
    with world.here.database.read() as before, world.there.database.read() as after:
        assert definitions.all_of(after) == definitions.all_of(before)
        [pointer] = channels.current(after, TINY).values()
        events = [(event.event, event.version, event.who) for event in catalog_events.all_of(after, TINY)]
    assert (pointer.version, pointer.who, pointer.rollout) == ("1.1.0", "ci", None)
    assert pointer.reason == f"listed in {world.folder / 'channels.yaml'}"
    assert events == [
        ("synced", "1.0.0", "ci"),
        ("synced", "1.1.0", "ci"),
        ("promoted", "1.0.0", "ci"),
        ("promoted", "1.1.0", "ci"),
    ]


def test_a_second_time_there_is_nothing_to_do(world: World) -> None:
    world.release("1.0.0")
    world.sync()
    before = world.rows()
    assert world.sync() == Plan((), (), (), (), ())
    assert world.rows() == before


def test_a_dry_run_says_what_would_be_done_and_changes_nothing(world: World) -> None:
    world.release("1.0.0", "1.1.0")
    before = world.rows()
    said = world.sync(dry_run=True)
    assert world.rows() == before
    assert world.sync() == said


def _record_without_release(world: World) -> None:
    world.release("1.0.0")
    file = records.path(world.folder, TINY, "1.1.0")
    file.write_text(records.path(world.folder, TINY, "1.0.0").read_text().replace("1.0.0", "1.1.0"))


def test_a_record_of_what_the_store_lost_and_no_channel_lists_is_left_and_told(world: World) -> None:
    _record_without_release(world)
    plan = world.sync()
    assert [one.version for one in plan.releases] == ["1.0.0"]
    assert [one.version for one in plan.absent] == ["1.1.0"]
    assert world.offers() == ["1.0.0"]


def test_a_listed_release_the_store_does_not_have_stops_everything(world: World) -> None:
    _record_without_release(world)
    world.list("1.0.0", "1.1.0")
    error = world.refused()
    assert error.code == sync.NOT_STORED
    assert place(error) == ("1.1.0.yaml", "digest", 6)


SAID = [
    ("oci-index", "digest", 6),
    ("oci-config", "platforms.linux/amd64.image_id", 10),
    ("wellhead-manifest", "manifest", 11),
]


@pytest.mark.parametrize(("scheme", "field", "line"), SAID)
def test_a_record_that_says_something_else_than_the_store_stops_everything(
    scheme: str, field: str, line: int, world: World
) -> None:
    world.release("1.0.0", "1.1.0")
    world.falsify("1.0.0", scheme)
    error = world.refused()
    assert (error.code, error.exit_code) == (sync.OTHER_RELEASE, 76)
    assert error.message.endswith(f" in {world.there.layout().where}")
    assert place(error) == ("1.0.0.yaml", field, line)


@pytest.mark.parametrize(("scheme", "field", "line"), SAID)
def test_a_record_that_says_something_else_than_the_database_stops_everything(
    scheme: str, field: str, line: int, world: World
) -> None:
    world.release("1.0.0")
    world.sync()
    world.release("1.1.0")
    world.falsify("1.0.0", scheme)
    error = world.refused()
    assert (error.code, error.exit_code) == (sync.OTHER_RELEASE, 76)
    assert error.message.endswith(" in the database")
    assert place(error) == ("1.0.0.yaml", field, line)


def test_what_a_stranger_signed_stops_everything(world: World, tmp_path: Path) -> None:
    world.release("1.0.0")
    put(world.here, "1.1.0", keys.new_pair(tmp_path / "keys", "stranger"))
    with world.here.database.read() as tx:
        [own, other] = [f"oci-index:{row.index_digest}" for row in definitions.all_of(tx, TINY)]
    text = records.path(world.folder, TINY, "1.0.0").read_text()
    records.path(world.folder, TINY, "1.1.0").write_text(text.replace("1.0.0", "1.1.0").replace(own, other))
    error = world.refused()
    assert (error.code.name, error.exit_code) == ("WH-CAT-021", 76)
    assert place(error) == ("1.1.0.yaml", "digest", 6)


def test_a_release_that_a_policy_keeps_out_stops_everything(world: World, tmp_path: Path) -> None:
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "none.yaml").write_text(
        "name: none\ndescription: None.\nwhen: [admission]\nif: 'true'\neffect: deny\nmessage: no\nmend: ask\n"
    )
    world.release("1.0.0")
    governed = policy.load(tmp_path / "policies")
    world.there = dataclasses.replace(world.there, policies=lambda: governed)
    error = world.refused()
    assert (error.code.name, error.exit_code) == ("WH-POL-010", 76)
    assert place(error)[0] == "1.0.0.yaml"


def test_a_channel_that_lists_what_nobody_knows_stops_everything(world: World) -> None:
    world.release("1.0.0")
    world.list("1.0.0", "9.9.9")
    error = world.refused()
    assert error.code == sync.NOT_KNOWN
    assert place(error) == ("channels.yaml", "channels.dev/tiny.stable.1", 4)


@pytest.mark.parametrize("status", ["yanked", "blocked"])
def test_a_channel_that_lists_what_nobody_should_be_given_stops_everything(status: str, world: World) -> None:
    world.release("1.0.0")
    world.sync()
    with world.there.database.transaction() as tx:
        definitions.set_status(tx, TINY, "1.0.0", status, "it leaks")
    world.release("1.1.0")
    error = world.refused()
    assert error.code == rollout.NOT_PROMOTABLE
    assert error.message == f"dev/tiny 1.0.0 is {status}: it leaks"
    assert place(error) == ("channels.yaml", "channels.dev/tiny.stable.0", 6)


def test_a_channel_cannot_begin_to_offer_what_was_collected(world: World) -> None:
    world.release("1.0.0", "1.1.0")
    world.list("1.0.0")
    world.sync()
    with world.there.database.transaction() as tx:
        now = tx.time()
        tx.execute(sa.update(metadata.tables["connector_definitions"]).values(collected_at=now))
    assert (world.sync().releases, world.sync().pointings) == ((), ())
    world.list("1.0.0", "1.1.0")
    error = world.refused()
    assert error.code == definitions.COLLECTED
    assert place(error) == ("channels.yaml", "channels.dev/tiny.stable.1", 4)


def test_all_problems_are_told_at_once_and_a_refusal_decides_the_exit_code(world: World) -> None:
    world.release("1.0.0", "1.1.0")
    world.list("1.0.0", "8.0.0", "9.0.0")
    world.falsify("1.1.0", "wellhead-manifest")
    error = world.refused()
    assert error.exit_code == 76
    assert place(error) == ("1.1.0.yaml", "manifest", 11)
    assert [detail.partition(" lists ")[2][:5] for detail in error.details] == ["8.0.0", "9.0.0"]


def test_nothing_is_applied_where_the_last_step_fails(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.release("1.0.0")

    def fail(*_: object) -> None:
        raise ConfigurationError("no", code=sync.NOT_KNOWN)

    monkeypatch.setattr("wellhead.lifecycle.rollout.offer", fail)
    assert world.refused().message == "no"


def test_a_key_that_was_changed_since_does_not_matter(world: World) -> None:
    world.release("1.0.0")
    world.edit("1.0.0", world.key.public.id, "ed25519:long-ago")
    assert [one.version for one in world.sync().releases] == ["1.0.0"]


def test_a_channel_with_a_rollout_is_left_alone_and_the_others_are_not(world: World) -> None:
    world.release("1.0.0", "1.1.0")
    world.sync()
    world.release("1.2.0", channel="candidate")
    world.sync()
    world.promote("1.2.0", 10.0)
    world.release("1.3.0")
    world.release("1.4.0", channel="candidate")
    plan = world.sync()
    assert [left.why for left in plan.left] == ["1.2.0 is being rolled out to 10 %; 1.3.0 must wait"]
    assert plan.pointings == (Pointing(TINY, "candidate", "1.4.0"),)
    assert world.offers() == ["1.0.0", "1.1.0", "1.2.0"]


def test_a_rollout_is_not_finished_by_listing_its_version(world: World) -> None:
    world.release("1.0.0")
    world.release("1.1.0", channel="candidate")
    world.sync()
    world.promote("1.1.0", 10.0)
    world.list("1.0.0", "1.1.0")
    plan = world.sync()
    assert [left.why for left in plan.left] == ["1.1.0 is being rolled out to 10 %"]
    assert plan.pointings == ()


def test_what_was_halted_or_gone_back_from_is_not_put_back(world: World) -> None:
    world.release("1.0.0", "1.1.0", "1.2.0")
    world.sync()
    rollout.halt(world.there.database, world.there.clock, TINY, "1.2.0", "stable", "guard", "it fails")
    with world.there.database.transaction() as tx:
        digest = definitions.get(tx, TINY, "1.0.0").index_digest
        channels.point(
            tx, TINY, "stable", version="1.0.0", index_digest=digest, who="ops", reason="it loses rows", kind="back"
        )
    world.release("1.3.0")
    plan = world.sync()
    assert [(left.why.partition(" at ")[0], left.why.rpartition(": ")[2]) for left in plan.left] == [
        ("1.1.0 was taken out by ops", "it loses rows"),
        ("1.2.0 was taken out by ops", "it loses rows"),
    ]
    assert plan.pointings == (Pointing(TINY, "stable", "1.3.0"),)


def test_what_is_on_offer_beyond_the_file_is_told_and_taken_from_nobody(world: World) -> None:
    world.release("1.0.0", "1.1.0")
    world.sync()
    world.list("1.0.0")
    plan = world.sync()
    assert [left.why for left in plan.left] == ["1.1.0 is on offer, and channels.yaml lists nothing as high"]
    assert world.offers() == ["1.0.0", "1.1.0"]


def test_a_release_is_never_registered_as_of_the_future(world: World) -> None:
    world.release("1.0.0")
    now = world.there.clock.now()
    filed = records.read(world.folder).records[0].record
    late = filed.model_copy(update={"released_at": now + timedelta(days=3)})
    records.path(world.folder, TINY, "1.0.0").write_bytes(records.render(late))
    world.sync()
    with world.there.database.read() as tx:
        assert definitions.get(tx, TINY, "1.0.0").published_at < now + timedelta(days=1)


def test_a_folder_without_channels_registers_and_offers_nothing(world: World) -> None:
    world.release("1.0.0")
    (world.folder / records.CHANNELS).unlink()
    plan = world.sync()
    assert (len(plan.releases), plan.pointings) == (1, ())
