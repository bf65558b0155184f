"""Export and import between two hosts that share nothing but a public key."""

import dataclasses
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import date, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.integration.stores import releases
from tests.parts import new_registry
from wellhead import app
from wellhead.catalog import keys, resolve, trust, verify
from wellhead.catalog.keys import PrivateKey
from wellhead.catalog.lock import Absent, Name
from wellhead.cli import main
from wellhead.clock import SystemClock
from wellhead.errors import ConfigurationError, RefusedError
from wellhead.ids import ConnectorId
from wellhead.images import bundle, oci, store
from wellhead.images.layout import Layout
from wellhead.lifecycle import lock, standing, transfer
from wellhead.lifecycle.host import Host
from wellhead.registry import catalog_events, channels, definitions
from wellhead.registry.database import Database
from wellhead.settings import Settings

pytestmark = pytest.mark.slow

TINY = ConnectorId("dev/tiny")


def host(folder: Path, public: keys.PublicKey, scope: ExitStack) -> Host:
    """A host with a store, a registry and a trust of its own."""

    def missing(*_: Any) -> Any:
        raise AssertionError("nothing here may ask for an Engine")

    folder.mkdir()
    trust.add(folder / "trust.yaml", "dev", public, "tests")
    clock = SystemClock()
    database = Database.open(new_registry(folder / "registry.db"), None, clock=clock)
    scope.callback(database.close)
    kept, trusted = Layout.create(folder / "store"), trust.load(folder / "trust.yaml")
    return Host(
        settings=Settings(root=folder),
        folder=folder / ".wellhead",
        id=folder.name,
        database=database,
        clock=clock,
        platform="linux/amd64",
        layout=lambda: kept,
        trust=lambda: trusted,
        engine=missing,
        runner=missing,
        fencer=missing,
        secrets=missing,
        sink=missing,
    )


@pytest.fixture
def key(tmp_path: Path) -> PrivateKey:
    return keys.new_pair(tmp_path / "keys", "publisher")


@pytest.fixture
def hosts(tmp_path: Path, key: PrivateKey) -> Iterator[tuple[Host, Host]]:
    with ExitStack() as scope:
        yield host(tmp_path / "here", key.public, scope), host(tmp_path / "there", key.public, scope)


def publish(here: Host, version: str, key: PrivateKey, status: str = "active", channel: str = "stable") -> None:
    """Put a release into a host's store and registry, as the order of a release does."""
    scratch = here.folder.parent / f"scratch-{version}"
    scratch.mkdir()
    built = releases.publish(scratch, TINY, version, key, here.layout())
    row = definitions.Release(
        connector_id=TINY,
        version=version,
        index_digest=built.index_digest,
        manifest_sha256=built.manifest_sha256,
        platforms={name: definitions.PlatformImage(item.manifest, item.config) for name, item in built.images.items()},
        manifest=json.loads(built.loaded.canonical_json()),
        key_id=key.public.id,
        published_at=here.clock.now(),
        status=status,
        status_reason=None if status == "active" else "a reason",
    )
    with here.database.transaction() as tx:
        definitions.register(tx, row)
        channels.point(
            tx, TINY, channel, version=version, index_digest=built.index_digest, who="tests", reason="published"
        )


def export(here: Host, key: PrivateKey, *names: str) -> Path:
    file = here.folder.parent / "releases.tar"
    transfer.export(here, transfer.wanted(here, names), [key.public], file)
    return file


def stable(there: Host) -> str | None:
    with there.database.read() as tx:
        pointer = channels.current(tx, TINY).get("stable")
    return None if pointer is None else pointer.version


def test_an_import_gives_the_same_rows_names_and_channels(hosts: tuple[Host, Host], key: PrivateKey) -> None:
    here, there = hosts
    publish(here, "1.0.0", key, status="blocked")
    publish(here, "1.1.0", key)
    taken = transfer.take_in(there, export(here, key), who="somebody")
    assert [(item.version, item.is_new, item.channels) for item in taken] == [
        ("1.0.0", True, ()),
        ("1.1.0", True, ("stable",)),
    ]
    with here.database.read() as before, there.database.read() as after:
        assert definitions.all_of(after) == definitions.all_of(before)
        assert [event.event for event in catalog_events.all_of(after, TINY)] == ["imported"] * 2
    assert there.layout().names() == here.layout().names()


def test_an_import_keeps_until_when_a_release_may_be_run_and_what_replaces_it(
    hosts: tuple[Host, Host], key: PrivateKey
) -> None:
    here, there = hosts
    publish(here, "1.0.0", key)
    publish(here, "1.1.0", key)
    order = standing.Order(
        TINY, "1.0.0", "deprecated", "tests", "it is slow", replaced_by="1.1.0", sunset=date(2027, 3, 31)
    )
    standing.declare(here.database, order, date(2027, 1, 1))
    transfer.take_in(there, export(here, key), who="somebody")
    with there.database.read() as tx:
        assert definitions.get(tx, TINY, "1.0.0").status_details == {
            "since": "2027-01-01",
            "sunset": "2027-03-31",
            "replaced_by": "1.1.0",
        }
        assert standing.told(definitions.get(tx, TINY, "1.0.0")) == (
            "dev/tiny 1.0.0 is deprecated: it is slow; not to be run after 2027-03-31; use 1.1.0 instead"
        )


def test_an_import_again_changes_nothing(hosts: tuple[Host, Host], key: PrivateKey) -> None:
    here, there = hosts
    publish(here, "1.0.0", key)
    file = export(here, key)
    transfer.take_in(there, file, who="somebody")
    with there.database.transaction() as tx:
        definitions.set_status(tx, TINY, "1.0.0", "blocked", "we know better")
    [again] = transfer.take_in(there, file, who="somebody")
    assert (again.is_new, again.channels) == (False, ())
    with there.database.read() as tx:
        assert definitions.get(tx, TINY, "1.0.0").status == "blocked"


def sign(there: Host, key: PrivateKey, by: timedelta) -> None:
    """Sign the release a host has anew, so much later than it was signed there."""
    with there.database.read() as tx:
        digest = definitions.get(tx, TINY, "1.0.0").index_digest
    known = verify.verify_release(there.layout(), digest, TINY, "1.0.0", there.trust()).statement
    assert known is not None
    verify.attach(there.layout(), dataclasses.replace(known, issued_at=known.issued_at + by), key)


def signature(there: Host) -> oci.Descriptor | None:
    with there.database.read() as tx:
        digest = definitions.get(tx, TINY, "1.0.0").index_digest
    return there.layout().named(verify.signature_name(TINY, digest))


def test_an_old_file_brings_no_older_signature_back(hosts: tuple[Host, Host], key: PrivateKey) -> None:
    here, there = hosts
    publish(here, "1.0.0", key)
    file = export(here, key)
    transfer.take_in(there, file, who="somebody")
    first = signature(there)
    sign(there, key, timedelta(seconds=1))
    second = signature(there)
    transfer.take_in(there, file, who="somebody")
    assert signature(there) == second != first


def test_a_new_file_brings_the_newer_signature(hosts: tuple[Host, Host], key: PrivateKey) -> None:
    here, there = hosts
    publish(here, "1.0.0", key)
    transfer.take_in(there, export(here, key), who="somebody")
    sign(here, key, timedelta(seconds=1))
    transfer.take_in(there, export(here, key), who="somebody")
    assert signature(there) == signature(here)


def test_a_later_signature_that_does_not_count_is_replaced(
    hosts: tuple[Host, Host], key: PrivateKey, tmp_path: Path
) -> None:
    here, there = hosts
    publish(here, "1.0.0", key)
    file = export(here, key)
    transfer.take_in(there, file, who="somebody")
    sign(there, keys.new_pair(tmp_path / "keys", "stranger"), timedelta(seconds=1))
    transfer.take_in(there, file, who="somebody")
    assert signature(there) == signature(here)


def test_an_old_registry_brings_no_older_signature_back(
    hosts: tuple[Host, Host], key: PrivateKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = hosts
    publish(here, "1.0.0", key)
    store.copy_release(here.layout(), there.layout(), TINY, "1.0.0")
    with here.database.read() as tx, there.database.transaction() as into:
        definitions.register(into, definitions.get(tx, TINY, "1.0.0"))
    first = signature(there)
    sign(there, key, timedelta(seconds=1))
    second = signature(there)
    (tmp_path / "there/wellhead.yaml").write_text("store: {path: store}\n")
    monkeypatch.chdir(tmp_path / "there")
    done = CliRunner().invoke(main.app, ["mirror", str(here.layout().path), "store"])
    assert done.exit_code == 0, done.output
    assert signature(there) == second != first
    # The other way it is the newer one.
    done = CliRunner().invoke(main.app, ["mirror", "store", str(here.layout().path)])
    assert done.exit_code == 0, done.output
    assert signature(here) == second


def test_a_prefetch_brings_no_older_signature_back(
    hosts: tuple[Host, Host], key: PrivateKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = hosts
    publish(here, "1.0.0", key)
    transfer.take_in(there, export(here, key), who="somebody")
    sign(there, key, timedelta(seconds=1))
    second = signature(there)
    root = tmp_path / "there"
    (root / "wellhead.yaml").write_text("store: {path: store}\nregistry: {url: 'sqlite:///registry.db'}\n")
    (root / "connections").mkdir()
    for name in ("one", "two"):
        said = {"name": name, "connector": TINY, "version": "*", "streams": [{"name": "rows"}]}
        (root / f"connections/{name}.yaml").write_text(json.dumps(said))
    asked: list[str] = []
    copy_index = store.copy_index

    def counted(source: Any, target: Any, connector: Any, digest: Any, release: str, **rest: Any) -> Any:
        asked.append(release)
        return copy_index(source, target, connector, digest, release, **rest)

    def chosen(*_: Any) -> Any:
        with there.database.read() as tx:
            row = definitions.get(tx, TINY, "1.0.0")
        candidate = resolve.Candidate(row.version, row.index_digest)
        return SimpleNamespace(require=lambda: candidate)

    monkeypatch.chdir(root)
    monkeypatch.setattr(app.App, "remote", here.layout())
    monkeypatch.setattr(app.App, "host", lambda _: there)
    monkeypatch.setattr(store, "copy_index", counted)
    monkeypatch.setattr("wellhead.lifecycle.resolution.choose", chosen)
    done = CliRunner().invoke(main.app, ["prefetch", "--all"])
    assert done.exit_code == 0, (done.output, done.exception)
    assert signature(there) == second
    assert asked == ["dev/tiny:1.0.0"]


def changed(here: Host, key: PrivateKey, change: Callable[[Layout, dict[str, Any]], None]) -> Path:
    """An export of a release whose index a trusted publisher has written otherwise, and signed."""
    folder = here.folder.parent
    release = verify.verify_release(here.layout(), digest_of(here, "1.0.0"), TINY, "1.0.0", here.trust())
    opened, said = bundle.unpack(export(here, key), folder / "opened")
    found = Layout(opened.path, is_cache=True)
    document = found.document(release.index_digest, "the index")
    change(found, document)
    index = found.put(oci.canonical(document), oci.INDEX)
    assert release.statement is not None
    verify.attach(found, dataclasses.replace(release.statement, index_digest=index.digest), key)
    found.name("dev/tiny:1.0.0", index)
    file = folder / "changed.tar"
    bundle.pack(found, {bundle.RECORDS: said.replace(release.index_digest.encode(), index.digest.encode())}, file)
    return file


def digest_of(here: Host, version: str) -> Any:
    with here.database.read() as tx:
        return definitions.get(tx, TINY, version).index_digest


def of_manifest(document: dict[str, Any]) -> dict[str, Any]:
    """Return what an index says of the connector manifest's artifact."""
    [found] = [
        child for child in document["manifests"] if child.get("annotations", {}).get(oci.ROLE_ANNOTATION) == "manifest"
    ]
    return dict(found)


def rewrite(found: Layout, document: dict[str, Any], change: Callable[[list[dict[str, Any]]], None]) -> None:
    """Change the layers of the connector manifest's artifact."""
    child = of_manifest(document)
    artifact = found.document(child["digest"], "the artifact")
    change(artifact["layers"])
    made = found.put(oci.canonical(artifact), oci.MANIFEST)
    place = document["manifests"].index(child)
    document["manifests"][place] = {**child, "digest": made.digest, "size": made.size}


def kept(there: Host) -> list[Path]:
    return list((there.layout().path / "blobs/sha256").iterdir())


@pytest.mark.parametrize("field", ["config", "layers"])
def test_what_an_index_calls_otherwise_is_no_connector_manifest(
    hosts: tuple[Host, Host], key: PrivateKey, field: str
) -> None:
    here, there = hosts
    publish(here, "1.0.0", key)

    def twice(_: Layout, document: dict[str, Any]) -> None:
        child = of_manifest(document)
        document[field] = child if field == "config" else [child]

    transfer.take_in(there, changed(here, key, twice), who="somebody")
    with here.database.read() as before, there.database.read() as after:
        known, taken = definitions.get(before, TINY, "1.0.0"), definitions.get(after, TINY, "1.0.0")
    assert taken.manifest == known.manifest


def test_a_connector_manifest_that_stands_twice_is_refused_and_nothing_is_kept(
    hosts: tuple[Host, Host], key: PrivateKey
) -> None:
    here, there = hosts
    publish(here, "1.0.0", key)

    def twice(found: Layout, document: dict[str, Any]) -> None:
        rewrite(found, document, lambda layers: layers.append(layers[0]))

    with pytest.raises(RefusedError) as caught:
        transfer.take_in(there, changed(here, key, twice), who="somebody")
    assert caught.value.code == verify.OTHER_MANIFEST
    assert kept(there) == []


def test_a_release_that_cannot_be_copied_to_its_end_is_refused_before_anything_is_kept(
    hosts: tuple[Host, Host], key: PrivateKey
) -> None:
    here, there = hosts
    publish(here, "1.0.0", key)

    def lacking(_: Layout, document: dict[str, Any]) -> None:
        # The last of all, so that a copy would have kept the rest.
        document["manifests"].append(oci.Descriptor(oci.CONFIG, oci.digest_of(b"nowhere"), 7).document())

    with pytest.raises(RefusedError) as caught:
        transfer.take_in(there, changed(here, key, lacking), who="somebody")
    assert caught.value.code == oci.NO_BLOB
    assert kept(there) == []


def test_a_release_that_is_for_newer_hosts_keeps_nobody_from_what_is_beside_it(
    hosts: tuple[Host, Host], key: PrivateKey
) -> None:
    here, there = hosts
    publish(here, "1.0.0", key)
    publish(here, "1.1.0", key)

    def of_later(found: Layout, document: dict[str, Any]) -> None:
        def add(layers: list[dict[str, Any]]) -> None:
            [place] = [number for number, item in enumerate(layers) if item["mediaType"] == oci.CONNECTOR_MANIFEST]
            said = {**found.document(layers[place]["digest"], "it"), "future": 1}
            layers[place] = found.put(oci.canonical(said), oci.CONNECTOR_MANIFEST).document()

        rewrite(found, document, add)

    file = changed(here, key, of_later)
    later, other = transfer.held(there, file)
    assert later.refused is not None
    assert later.refused.code.name == "WH-DOC-003"
    assert "upgrade Wellhead" in (later.refused.hint or "")
    assert other.refused is None
    opened, _ = bundle.unpack(file, there.folder.parent / "again")
    absent = lock._stored(there, opened, Name(TINY, "1.0.0"))
    assert isinstance(absent, Absent)
    assert "WH-DOC-003" in absent.why


def test_a_channel_that_points_elsewhere_stays_unless_told(hosts: tuple[Host, Host], key: PrivateKey) -> None:
    here, there = hosts
    publish(here, "1.0.0", key)
    publish(there, "1.1.0", key)
    file = export(here, key)
    transfer.take_in(there, file, who="somebody")
    assert stable(there) == "1.1.0"
    [moved] = transfer.take_in(there, file, who="somebody", move_channels=True)
    assert moved.channels == ("stable",)
    assert stable(there) == "1.0.0"


def test_what_a_stranger_signed_is_refused_and_nothing_is_kept(
    hosts: tuple[Host, Host], key: PrivateKey, tmp_path: Path
) -> None:
    here, there = hosts
    publish(here, "1.0.0", key)
    file = export(here, key)
    other = keys.new_pair(tmp_path / "keys", "other")
    with ExitStack() as scope:
        stranger = host(tmp_path / "stranger", other.public, scope)
        with pytest.raises(RefusedError) as caught:
            transfer.take_in(stranger, file, who="somebody")
        assert caught.value.code.name == "WH-CAT-021"
        assert stranger.layout().names() == ()
        assert list((stranger.layout().path / "blobs/sha256").iterdir()) == []
    assert there.layout().names() == ()


def test_a_version_known_with_other_bytes_refuses_the_whole_file(hosts: tuple[Host, Host], key: PrivateKey) -> None:
    here, there = hosts
    publish(here, "1.0.0", key)
    publish(here, "1.1.0", key)
    file = export(here, key)
    with there.database.transaction() as tx, here.database.read() as known:
        row = definitions.get(known, TINY, "1.1.0")
        definitions.register(tx, dataclasses.replace(row, index_digest=oci.digest_of(b"other")))
    with pytest.raises(RefusedError) as caught:
        transfer.take_in(there, file, who="somebody")
    assert caught.value.code == definitions.OTHER_BYTES
    assert there.layout().names() == ()


def test_a_record_that_says_another_version_than_was_signed_is_refused(
    hosts: tuple[Host, Host], key: PrivateKey, tmp_path: Path
) -> None:
    here, there = hosts
    publish(here, "1.0.0", key)
    found, said = bundle.unpack(export(here, key), tmp_path / "opened")
    changed = said.replace(b'"version":"1.0.0"', b'"version":"9.0.0"')
    bundle.pack(found, {bundle.RECORDS: changed}, tmp_path / "changed.tar")
    with pytest.raises(RefusedError) as caught:
        transfer.take_in(there, tmp_path / "changed.tar", who="somebody")
    assert caught.value.code.name == "WH-CAT-032"


@pytest.mark.parametrize("records", [b"{}", b"[]", b'{"format": 2, "releases": [], "channels": []}', b"\xff"])
def test_records_of_another_form_are_refused(
    records: bytes, hosts: tuple[Host, Host], key: PrivateKey, tmp_path: Path
) -> None:
    here, there = hosts
    publish(here, "1.0.0", key)
    found, _ = bundle.unpack(export(here, key), tmp_path / "opened")
    bundle.pack(found, {bundle.RECORDS: records}, tmp_path / "changed.tar")
    with pytest.raises(ConfigurationError) as caught:
        transfer.take_in(there, tmp_path / "changed.tar", who="somebody")
    assert caught.value.code.name == "WH-CAT-081"


def test_what_is_not_known_is_not_exported(hosts: tuple[Host, Host], key: PrivateKey) -> None:
    here, _ = hosts
    for names in ((), ("dev/unknown",)):
        with pytest.raises(ConfigurationError) as caught:
            transfer.wanted(here, names)
        assert caught.value.code.name == "WH-CAT-080"
    publish(here, "1.0.0", key)
    assert [one.version for one in transfer.wanted(here, ("dev/tiny@1.0.0", "dev/tiny"))] == ["1.0.0"]
