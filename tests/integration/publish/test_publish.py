"""Publishing on a real Engine: what is refused is refused by name, and leaves nothing that can be resolved."""

import dataclasses
import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from tests.containers import cache, engine
from wellhead.catalog import keys, records, trust, verify
from wellhead.clock import SystemClock
from wellhead.engine.client import Engine
from wellhead.engine.container import Change
from wellhead.errors import ConfigurationError, RefusedError, TransientError
from wellhead.ids import ConnectorId
from wellhead.images import base, build, layout, oci
from wellhead.lifecycle import check, publish
from wellhead.lifecycle.publish import Publisher
from wellhead.manifest.load import LoadedManifest
from wellhead.registry import alerts, catalog_events, channels, definitions
from wellhead.registry.database import Database
from wellhead.runners.docker import DockerRunner

__all__ = ["engine"]

pytestmark = pytest.mark.real

ROOT = Path(__file__).parents[3]
GENERATOR = ROOT / "tests/images/generator"
STATEFUL = ROOT / "tests/images/stateful"


@pytest.fixture
def publisher(engine: Engine, tmp_path: Path) -> Iterator[Publisher]:
    key = keys.new_pair(tmp_path / "keys", "dev")
    trust.add(tmp_path / "trust.yaml", "dev", key.public, "tests")
    clock = SystemClock()
    database = Database.open(f"sqlite:///{tmp_path}/registry.db", None, clock=clock)
    database.migrate()
    yield Publisher(
        database=database,
        store=layout.Layout.create(tmp_path / "store"),
        engine=engine,
        runner=DockerRunner(engine, "test-host"),
        inputs=build.Inputs(base.rootfs((), cache()), ROOT / "sdk", cache()),
        trust=trust.load(tmp_path / "trust.yaml"),
        keys=(key,),
        clock=clock,
        who="tester",
    )
    database.close()


@pytest.fixture(scope="module")
def stateful_image(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The connector that keeps a file, built with its Dockerfile."""
    stage = tmp_path_factory.mktemp("stage")
    build.stage(STATEFUL, build.Inputs(base.rootfs((), cache()), ROOT / "sdk", cache()), stage)
    name = f"wellhead-test-{uuid.uuid4().hex[:12]}"
    subprocess.run(["docker", "import", str(stage / "base.tar"), f"{name}:base"], check=True, capture_output=True)
    yield docker_build(STATEFUL / "Dockerfile", stage, f"{name}:base", f"{name}:image")
    engine.remove_image(f"{name}:image")
    engine.remove_image(f"{name}:base")


def unique(source: Path, folder: Path) -> Path:
    """A copy of a connector whose image no other test has, so that removing it disturbs nobody."""
    copied = Path(shutil.copytree(source, folder / source.name, ignore=shutil.ignore_patterns("__pycache__", "tests")))
    (package,) = copied.glob("wellhead_*/__init__.py")
    with package.open("a") as file:
        file.write(f"# {uuid.uuid4()}\n")
    return copied


def docker_build(dockerfile: Path, context: Path, base_image: str, tag: str) -> str:
    command = ["docker", "build", "--build-arg", f"BASE_IMAGE={base_image}", "-t", tag, "-f", str(dockerfile)]
    environment = {"DOCKER_BUILDKIT": "0", "PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/tmp"}
    environment |= {name: os.environ[name] for name in ("DOCKER_HOST",) if name in os.environ}
    subprocess.run([*command, str(context)], env=environment, check=True, capture_output=True)
    return tag


def nothing_is_published(here: Publisher) -> bool:
    with here.database.read() as tx:
        return definitions.all_of(tx) == [] and here.store.names() == ()


@pytest.mark.timeout(300)
def test_a_release_can_be_resolved_and_verified_and_publishing_again_changes_nothing(
    publisher: Publisher, tmp_path: Path
) -> None:
    connector = unique(GENERATOR, tmp_path)
    done = publish.publish(publisher, connector, "stable")
    again = publish.publish(publisher, connector, "stable")
    assert done.checked is not None
    assert (done.checked.reached, done.checked.stopped_by) == ("read", "")
    assert done.points_channel
    assert again.checked is None
    assert not again.points_channel
    assert again.release == done.release
    with publisher.database.read() as tx:
        (known,) = definitions.all_of(tx)
        history = channels.history(tx, known.connector_id)
        events = catalog_events.all_of(tx, known.connector_id)
    assert known.index_digest == done.release.index_digest
    assert [(pointer.channel, pointer.version) for pointer in history] == [("stable", "1.0.0")]
    assert [event.event for event in events] == ["published"]
    publisher.engine.remove_image(done.checked.image_id)


@pytest.mark.timeout(300)
def test_a_collected_release_is_published_again_with_the_same_bytes(publisher: Publisher, tmp_path: Path) -> None:
    connector = unique(GENERATOR, tmp_path)
    done = publish.publish(publisher, connector, "stable")
    assert done.checked is not None
    name = (done.release.connector, done.release.version)
    with publisher.database.transaction() as tx:
        definitions.begin_collecting(tx, *name)
    with pytest.raises(TransientError) as caught:
        publish.publish(publisher, connector, "stable")
    assert caught.value.code == definitions.BEING_COLLECTED
    soon = publisher.clock.now() + timedelta(hours=1)
    publisher.store.drop(name[0], {name[1]: done.release.index_digest}, soon)
    publisher.store.sweep(soon)
    assert list((publisher.store.path / "blobs/sha256").iterdir()) == []
    with publisher.database.transaction() as tx:
        definitions.finish_collecting(tx, *name)
    again = publish.publish(publisher, connector, "stable")
    assert again.release.index_digest == done.release.index_digest
    verify.verify_layers(publisher.store, again.release)
    with publisher.database.read() as tx:
        assert definitions.get(tx, *name).collected_at is None
        assert [event.event for event in catalog_events.all_of(tx, name[0])] == ["published", "brought_back"]
    publisher.engine.remove_image(done.checked.image_id)


@pytest.mark.engines
def test_an_image_with_a_volume_is_refused_and_named(publisher: Publisher, stateful_image: str) -> None:
    tag = f"wellhead-test-{uuid.uuid4().hex[:12]}:volume"
    docker_build(ROOT / "tests/images/volume/Dockerfile", ROOT / "tests/images/volume", stateful_image, tag)
    with pytest.raises(RefusedError, match="VOLUME /var/lib/volume") as caught:
        publish.publish(publisher, STATEFUL, "stable", tag)
    publisher.engine.remove_image(tag)
    assert caught.value.code.name == "WH-CAT-035"
    assert caught.value.exit_code == 76
    assert nothing_is_published(publisher)


@pytest.mark.engines
@pytest.mark.timeout(300)
def test_an_image_that_writes_local_state_is_refused_with_its_path_and_an_alert(
    publisher: Publisher, stateful_image: str
) -> None:
    with pytest.raises(RefusedError, match="/var/lib/stateful/") as caught:
        publish.publish(publisher, STATEFUL, "stable", stateful_image)
    assert caught.value.code.name == "WH-CAT-050"
    assert caught.value.exit_code == 76
    assert nothing_is_published(publisher)
    with publisher.database.read() as tx:
        (alert,) = alerts.latest(tx, connector_id=ConnectorId("dev/stateful"))
    assert alert.alert.kind == "local_state"
    assert alert.alert.details["found"] == list(caught.value.details)


@pytest.mark.timeout(300)
def test_other_bytes_under_a_known_version_are_refused_before_they_run(
    publisher: Publisher, stateful_image: str, tmp_path: Path
) -> None:
    first = publish.publish(publisher, unique(STATEFUL, tmp_path), "stable")
    with pytest.raises(RefusedError) as caught:
        publish.publish(publisher, STATEFUL, "stable", stateful_image)
    assert caught.value.code.name == "WH-REG-020"
    assert first.checked is not None
    publisher.engine.remove_image(first.checked.image_id)


@pytest.mark.timeout(300)
def test_a_key_nobody_trusts_publishes_nothing(publisher: Publisher, tmp_path: Path) -> None:
    other = dataclasses.replace(publisher, keys=(keys.new_pair(tmp_path / "other", "dev"),))
    connector = unique(GENERATOR, tmp_path)
    with pytest.raises(RefusedError) as caught:
        publish.publish(other, connector, "stable")
    assert caught.value.code.name == "WH-CAT-021"
    built = build.build(connector, publisher.inputs, publisher.store)
    publisher.engine.remove_image(built.images[base.machine_platform()].config)
    with publisher.database.read() as tx:
        assert definitions.all_of(tx) == []


def test_a_connector_that_does_not_come_up_is_told_with_its_last_words(publisher: Publisher, tmp_path: Path) -> None:
    connector = unique(ROOT / "tests/images/tiny", tmp_path)
    with pytest.raises(ConfigurationError, match="wellhead_tiny") as caught:
        publish.publish(publisher, connector, "stable")
    assert caught.value.code.name == "WH-RUN-101"
    built = build.build(connector, publisher.inputs, publisher.store)
    assert not publisher.engine.image_exists(built.images[base.machine_platform()].config)
    assert nothing_is_published(publisher)


def test_a_manifest_with_an_error_is_not_even_built(publisher: Publisher, tmp_path: Path) -> None:
    folder = tmp_path / "connector"
    folder.mkdir()
    text = (GENERATOR / "manifest.yaml").read_text()
    (folder / "manifest.yaml").write_text(text.replace("additionalProperties: false", "additionalProperties: true"))
    with pytest.raises(ConfigurationError) as caught:
        publish.publish(publisher, folder, "stable")
    assert caught.value.code.name == "WH-CAT-052"
    assert list((publisher.store.path / "blobs/sha256").iterdir()) == []


def test_a_broken_layer_does_not_get_into_an_engine(publisher: Publisher, tmp_path: Path) -> None:
    built = build.build(unique(ROOT / "tests/images/tiny", tmp_path), publisher.inputs, publisher.store)
    verify.attach(publisher.store, publish.statement_of(built, publisher.clock.now()), *publisher.keys)
    image = oci.image(publisher.store, built.index_digest, base.machine_platform())
    blob = publisher.store.path / "blobs/sha256" / image.layers[-1].digest.removeprefix("sha256:")
    content = bytearray(blob.read_bytes())
    content[len(content) // 2] ^= 1
    blob.write_bytes(content)
    with pytest.raises(RefusedError) as caught:
        check.load_image(publisher.engine, publisher.store, built.index_digest, base.machine_platform())
    assert caught.value.code.name == "WH-IMG-012"
    assert not publisher.engine.image_exists(image.config.digest)


@pytest.mark.timeout(300)
def test_a_broken_layer_that_the_engine_has_already_is_not_published(
    publisher: Publisher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connector = unique(GENERATOR, tmp_path)
    done = publish.publish(publisher, connector, "stable")
    for name in ("manifest.yaml", "pyproject.toml"):
        file = connector / name
        file.write_text(file.read_text().replace("1.0.0", "1.0.1", 1))
    lowest = oci.image(publisher.store, done.release.index_digest, base.machine_platform()).layers[0]
    blob = publisher.store.path / "blobs/sha256" / lowest.digest.removeprefix("sha256:")
    assemble = publish._assemble

    def broken(here: Publisher, folder: Path, loaded: LoadedManifest, image: str | None) -> build.Built:
        # Only now: what was broken before is made whole where it is put again.
        built = assemble(here, folder, loaded, image)
        content = bytearray(blob.read_bytes())
        content[-1] ^= 1
        blob.write_bytes(content)
        return built

    monkeypatch.setattr(publish, "_assemble", broken)
    before = set(publisher.engine.labelled_images(build.LABEL_ID))
    with pytest.raises(RefusedError) as caught:
        publish.publish(publisher, connector, "stable")
    assert caught.value.code == oci.BROKEN_BLOB
    assert lowest.digest in caught.value.message
    assert set(publisher.engine.labelled_images(build.LABEL_ID)) == before
    with publisher.database.read() as tx:
        assert [one.version for one in definitions.all_of(tx)] == ["1.0.0"]
    assert done.checked is not None
    publisher.engine.remove_image(done.checked.image_id)


def test_only_paths_outside_the_mounts_count_and_the_deepest_are_named() -> None:
    changes = (
        Change("/run", "changed"),
        Change("/run/wellhead", "changed"),
        Change("/run/wellhead/c.sock", "added"),
        Change("/tmp/x", "added"),
        Change("/etc", "changed"),
        Change("/etc/hosts", "added"),
        Change("/var", "changed"),
        Change("/var/lib", "changed"),
        Change("/var/lib/state.db", "added"),
        Change("/tmpfile", "added"),
        Change("/usr/bin/tool", "deleted"),
    )
    assert check.outside_mounts(changes) == ["/tmpfile", "/usr/bin/tool", "/var/lib/state.db"]


def test_a_release_is_recorded_and_its_version_never_given_to_other_bytes(publisher: Publisher, tmp_path: Path) -> None:
    here = dataclasses.replace(publisher, records=tmp_path / "manifests")
    connector = unique(GENERATOR, tmp_path)
    done = publish.publish(here, connector, "stable")
    [filed] = records.read(tmp_path / "manifests").records
    assert done.record == tmp_path / "manifests" / "dev" / "generator" / "1.0.0.yaml"
    assert filed.record.digest == f"oci-index:{done.release.index_digest}"
    assert filed.record.signed_by == done.release.key_ids
    assert records.read(tmp_path / "manifests").channels.channels == {"dev/generator": {"stable": ("1.0.0",)}}
    before = done.record.read_bytes()
    assert publish.publish(here, connector, "stable").record == done.record

    # Elsewhere, where no registry knows the version: the record is what remembers.
    elsewhere = Database.open(f"sqlite:///{tmp_path}/elsewhere.db", None, clock=here.clock)
    elsewhere.migrate()
    (package,) = connector.glob("wellhead_*/__init__.py")
    package.write_text(f"{package.read_text()}# other bytes\n")
    other = dataclasses.replace(here, database=elsewhere, store=layout.Layout.create(tmp_path / "elsewhere"))
    with pytest.raises(RefusedError) as caught:
        publish.publish(other, connector, "stable")
    assert caught.value.code == records.OTHER_RECORD
    assert nothing_is_published(other)
    assert done.record.read_bytes() == before
    elsewhere.close()
