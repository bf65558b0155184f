"""A collection on a host with a store, a registry and connections of its own."""

import dataclasses
import json
import os
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.integration.stores import releases
from tests.unit.lifecycle.test_transfer import TINY, export, host, publish
from wellhead import connections as project_files
from wellhead.catalog import keys, verify
from wellhead.catalog.garbage import Limits
from wellhead.catalog.keys import PrivateKey
from wellhead.connections import ConnectionFile
from wellhead.errors import ConfigurationError, RefusedError
from wellhead.ids import ConnectionKey, Digest, RunId, StreamKey, StreamName
from wellhead.images import oci, store
from wellhead.lifecycle import collect, resolution, rollback, rollout, transfer
from wellhead.lifecycle.collect import Done, Project
from wellhead.lifecycle.host import Host
from wellhead.registry import catalog_events, channels, checkpoints, connections, definitions, runs

pytestmark = pytest.mark.slow

KEY = ConnectionKey("default", "default", "orders")
#: Only references keep.
STRICT = Limits(keep=1, older_than=timedelta(seconds=1))


class Ahead:
    """A clock two days ahead: everything was published and stored long ago."""

    def now(self) -> datetime:
        return datetime.now(UTC) + timedelta(days=2)

    def monotonic(self) -> float:
        raise AssertionError("nothing here measures")


@pytest.fixture
def key(tmp_path: Path) -> PrivateKey:
    return keys.new_pair(tmp_path / "keys", "publisher")


@pytest.fixture
def here(tmp_path: Path, key: PrivateKey) -> Iterator[Host]:
    with ExitStack() as scope:
        made = host(tmp_path / "here", key.public, scope)
        for version in ("1.0.0", "1.1.0", "1.2.0", "1.3.0"):
            publish(made, version, key)
        yield made


def later(here: Host) -> Host:
    return dataclasses.replace(here, clock=Ahead())


def gc(here: Host, *files: ConnectionFile, limits: Limits = STRICT) -> Done:
    return collect.collect(later(here), Project(files), limits, "tests")


def versions(done: Done) -> list[str]:
    return sorted(row.version for row in done.collected)


def stored(here: Host) -> list[str]:
    return [version for _, version in store.releases(here.layout())]


def connect(here: Host, version: str = "^1") -> ConnectionFile:
    folder = here.settings.root / "connections"
    folder.mkdir(exist_ok=True)
    document = {"name": "orders", "connector": TINY, "version": version, "streams": [{"name": "rows"}]}
    (folder / "orders.yaml").write_text(json.dumps(document))
    return project_files.load(here.settings, "orders", {})


def onboard(here: Host, version: str) -> None:
    with here.database.transaction() as tx:
        connections.onboard(
            tx, KEY, connector_id=TINY, version_range="^1", channel="nowhere", enabled=True, file_sha256=""
        )
        digest = definitions.get(tx, TINY, version).index_digest
        connections.set_resolved(tx, KEY, version=version, digest=digest, decision={})


def test_what_nothing_refers_to_goes_with_all_that_is_said_about_it(here: Host) -> None:
    with here.database.read() as tx:
        digests = {row.version: row.index_digest for row in definitions.all_of(tx)}
    done = gc(here)
    assert versions(done) == ["1.0.0", "1.1.0"]
    assert stored(here) == ["1.2.0", "1.3.0"]
    assert done.swept.bytes > 0
    for version in ("1.0.0", "1.1.0"):
        assert not any(digests[version].removeprefix("sha256:") in name for name in here.layout().names())
        assert not here.layout().holds(oci.Descriptor(oci.INDEX, digests[version], 0))
    for version in ("1.2.0", "1.3.0"):
        whole = verify.verify_release(here.layout(), digests[version], TINY, version, here.trust())
        verify.verify_layers(here.layout(), whole)
    with here.database.read() as tx:
        assert [event.version for event in catalog_events.all_of(tx, TINY) if event.event == "collected"] == [
            "1.0.0",
            "1.1.0",
        ]
        assert definitions.get(tx, TINY, "1.0.0").manifest["metadata"]["version"] == "1.0.0"


def test_a_survey_changes_nothing_and_tells_every_reason(here: Host) -> None:
    names = here.layout().names()
    judged = collect.survey(later(here), Project((connect(here, "1.0.0"),)), STRICT)
    assert {one.release.version: [reason.said for reason in one.reasons] for one in judged} == {
        "1.0.0": ["connection default/default/orders is pinned to it", "connection default/default/orders may get it"],
        "1.1.0": [],
        "1.2.0": ["channel stable may go back to it"],
        "1.3.0": ["channel stable points to it", "channel stable offers it", "among the 1 newest"],
    }
    assert here.layout().names() == names
    with here.database.read() as tx:
        assert all(row.collected_at is None for row in definitions.all_of(tx))


def test_a_connection_of_another_project_keeps_what_it_runs(here: Host) -> None:
    onboard(here, "1.0.0")
    assert versions(gc(here)) == ["1.1.0"]


def test_a_run_at_work_keeps_its_release_and_a_silent_one_does_not(here: Host) -> None:
    with here.database.transaction() as tx:
        start = runs.Start(RunId("run-1"), KEY, "run", "host-1", TINY, epoch=1)
        runs.start(tx, start)
        digest = definitions.get(tx, TINY, "1.0.0").index_digest
        runs.set_plan(tx, RunId("run-1"), version="1.0.0", index_digest=digest, plan={})
    lasting = dataclasses.replace(
        here,
        settings=here.settings.model_copy(
            update={"lease": here.settings.lease.model_copy(update={"ttl_s": 3 * 86_400.0})}
        ),
    )
    assert versions(gc(lasting)) == ["1.1.0"]
    assert versions(gc(here)) == ["1.0.0"]


def test_a_kept_checkpoint_keeps_a_release_that_reads_it(here: Host, key: PrivateKey, tmp_path: Path) -> None:
    with here.database.transaction() as tx:
        start = runs.Start(RunId("run-1"), KEY, "run", "host-1", TINY, epoch=1)
        runs.start(tx, start)
        # Its connection was removed since; the format is one that every release reads but the newest two.
        checkpoints.keep(tx, checkpoints.Kept(StreamKey(KEY, StreamName("rows")), 1, b"x", 1, 0))
    reads_another(here, "1.2.0")
    reads_another(here, "1.3.0")
    done = gc(here)
    assert versions(done) == ["1.0.0"]
    (kept,) = [one for one in done.kept if one.release.version == "1.1.0"]
    assert [reason.kind for reason in kept.reasons] == ["state"]


def reads_another(here: Host, version: str) -> None:
    from wellhead.registry.tables import connector_definitions as table

    with here.database.transaction() as tx:
        row = definitions.get(tx, TINY, version)
        manifest = {**row.manifest, "compatibility": {"state": {"reads": [2], "writes": 2}}}
        tx.execute(table.update().where(table.c.version == version).values(manifest=manifest))


def test_what_was_collected_is_not_chosen_promoted_exported_or_gone_back_to(here: Host) -> None:
    gc(here)
    pinned = resolution.choose(here, connect(here, "1.1.0"), here.platform)
    with pytest.raises(ConfigurationError) as caught:
        pinned.require()
    assert caught.value.code.name == "WH-CAT-040"
    assert "1.1.0: collected: nothing referred to it" in " ".join(caught.value.details)
    with pytest.raises(ConfigurationError) as caught:
        rollout.promote(here.database, here.clock, rollout.Order(TINY, "1.1.0", "edge", "tests", "why not"))
    assert caught.value.code == definitions.COLLECTED
    with pytest.raises(ConfigurationError) as caught:
        transfer.wanted(here, ("dev/tiny@1.1.0",))
    assert caught.value.code == definitions.COLLECTED
    assert [row.version for row in transfer.wanted(here, ())] == ["1.2.0", "1.3.0"]
    (back,) = rollback.tenant(here, "default", TINY, [connect(here)], rollback.Order("tests", "slow", to="1.2.0"))
    assert back.to == "1.2.0"
    with pytest.raises(ConfigurationError) as caught:
        rollback.connection(here, connect(here), rollback.Order("tests", "slow", to="1.1.0"))
    assert caught.value.code == definitions.COLLECTED


def test_a_channel_goes_back_over_what_was_collected(here: Host) -> None:
    with here.database.transaction() as tx:
        definitions.begin_collecting(tx, TINY, "1.2.0")
        definitions.finish_collecting(tx, TINY, "1.2.0")
    rollback.channel(here, TINY, "stable", [], rollback.Order("tests", "slow"))
    with here.database.read() as tx:
        assert channels.current(tx, TINY)["stable"].version == "1.1.0"


def test_a_collected_release_is_imported_again_with_the_same_bytes(here: Host, key: PrivateKey) -> None:
    file = export(here, key, "dev/tiny@1.0.0")
    gc(here)
    [taken] = transfer.take_in(here, file, who="somebody")
    assert (taken.version, taken.is_new) == ("1.0.0", False)
    assert "1.0.0" in stored(here)
    with here.database.read() as tx:
        assert definitions.get(tx, TINY, "1.0.0").collected_at is None
        assert [event.event for event in catalog_events.all_of(tx, TINY)][-1] == "brought_back"


def test_other_bytes_under_a_collected_version_are_refused(here: Host, tmp_path: Path) -> None:
    gc(here)
    other = keys.new_pair(tmp_path / "keys", "again")
    with ExitStack() as scope:
        there = host(tmp_path / "there", other.public, scope)
        publish(there, "1.0.0", other)
        with there.database.read() as tx:
            row = definitions.get(tx, TINY, "1.0.0")
    with pytest.raises(RefusedError) as caught, here.database.transaction() as tx:
        definitions.register(tx, dataclasses.replace(row, index_digest=oci.digest_of(b"other")))
    assert caught.value.code == definitions.OTHER_BYTES


def test_a_release_whose_files_were_just_stored_is_left_to_its_publisher(here: Host) -> None:
    done = collect.collect(here, Project(), dataclasses.replace(STRICT, older_than=timedelta(0)), "tests")
    assert versions(done) == []
    kinds = {one.release.version: [reason.kind for reason in one.reasons] for one in done.kept}
    assert kinds["1.0.0"] == kinds["1.1.0"] == ["written"]


def test_a_publisher_that_comes_between_judging_and_dropping_keeps_the_release(
    here: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It puts the index again after the survey and the mark: the names stay, and so does the row."""
    with here.database.read() as tx:
        index = definitions.get(tx, TINY, "1.0.0").index_digest
    mark = collect._mark

    def marked(*given: object) -> list[definitions.Release]:
        found = mark(*given)  # type: ignore[arg-type]
        ahead = (Ahead().now() + timedelta(minutes=1)).timestamp()
        os.utime(here.layout().path / "blobs/sha256" / index.removeprefix("sha256:"), (ahead, ahead))
        return found

    monkeypatch.setattr(collect, "_mark", marked)
    done = gc(here)
    assert versions(done) == ["1.1.0"]
    assert "1.0.0" in stored(here)
    with here.database.read() as tx:
        assert definitions.get(tx, TINY, "1.0.0").collected_at is None


def test_a_connection_that_comes_between_survey_and_mark_keeps_its_release(
    here: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    survey = collect.survey

    def surveyed(*given: object) -> list[collect.Judged]:
        found = survey(*given)  # type: ignore[arg-type]
        onboard(here, "1.0.0")
        return found

    monkeypatch.setattr(collect, "survey", surveyed)
    assert versions(gc(here)) == ["1.1.0"]
    assert "1.0.0" in stored(here)


def test_a_store_that_others_use_too_keeps_all_of_the_connector(here: Host, key: PrivateKey, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    releases.publish(tmp_path / "elsewhere", TINY, "7.0.0", key, here.layout())
    done = gc(here)
    assert versions(done) == []
    (kept,) = [one for one in done.kept if one.release.version == "1.0.0"]
    assert [(reason.kind, "7.0.0" in reason.said) for reason in kept.reasons] == [("shared", True)]


def test_a_collection_that_was_killed_is_gone_on_with(here: Host) -> None:
    with here.database.transaction() as tx:
        definitions.begin_collecting(tx, TINY, "1.0.0")
    done = gc(here)
    assert versions(done) == ["1.0.0", "1.1.0"]
    assert stored(here) == ["1.2.0", "1.3.0"]
    assert versions(gc(here)) == []


def test_what_was_collected_elsewhere_leaves_this_hosts_folder_too(here: Host) -> None:
    with here.database.transaction() as tx:
        definitions.begin_collecting(tx, TINY, "1.0.0")
        definitions.finish_collecting(tx, TINY, "1.0.0")
    gc(here)
    assert "1.0.0" not in stored(here)


def test_a_damaged_store_is_collected_from_by_nobody(here: Host) -> None:
    with here.database.read() as tx:
        index = definitions.get(tx, TINY, "1.3.0").index_digest
    (here.layout().path / "blobs/sha256" / index.removeprefix("sha256:")).unlink()
    with pytest.raises(RefusedError) as caught:
        gc(here)
    assert caught.value.code == oci.NO_BLOB
    with here.database.read() as tx:
        assert all(row.collected_at is None for row in definitions.all_of(tx))


def test_images_go_whose_releases_nothing_refers_to_and_the_store_has(here: Host) -> None:
    with here.database.read() as tx:
        images = {row.version: row.platforms["linux/amd64"] for row in definitions.all_of(tx)}
    onboard(here, "1.0.0")
    assert collect.unneeded_images(later(here), Project()) == {
        images["1.1.0"].config_digest,
        images["1.1.0"].manifest_digest,
    }


def test_an_image_whose_layers_the_store_lacks_stays_until_its_release_is_collected(here: Host) -> None:
    found = oci.image(here.layout(), index_of(here, "1.1.0"), "linux/amd64")
    blob = here.layout().path / "blobs/sha256" / found.layers[0].digest.removeprefix("sha256:")
    blob.unlink()
    free = collect.unneeded_images(later(here), Project())
    assert found.config.digest not in free
    with here.database.transaction() as tx:
        definitions.begin_collecting(tx, TINY, "1.1.0")
    assert found.config.digest in collect.unneeded_images(later(here), Project())


def index_of(here: Host, version: str) -> Digest:
    with here.database.read() as tx:
        return definitions.get(tx, TINY, version).index_digest
