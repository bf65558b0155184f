"""What publishing leaves behind where the registry or the database did not take the release."""

import dataclasses
import io
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.parts import new_registry
from wellhead.app import App
from wellhead.catalog import keys, trust, verify
from wellhead.clock import SystemClock
from wellhead.errors import RefusedError, TransientError
from wellhead.ids import ConnectorId
from wellhead.images import build, layer, oci, provenance, sbom, store, transport
from wellhead.images.layout import Layout
from wellhead.images.oci import Descriptor
from wellhead.images.store import Store
from wellhead.lifecycle import publish
from wellhead.lifecycle.publish import Publisher
from wellhead.manifest.load import LoadedManifest
from wellhead.registry.database import Database
from wellhead.settings import Settings, StoreSettings

pytestmark = pytest.mark.slow

TINY = ConnectorId("dev/tiny")
CONNECTOR = Path(__file__).parents[2] / "images/tiny"
NAME = verify.release_name(TINY, "1.0.0")


class Away(Layout):
    """A registry nobody reaches."""

    def named(self, name: str) -> Descriptor | None:
        raise TransientError(f"nobody asks for {name}", code=transport.UNREACHABLE, hint="try again later")


@pytest.fixture
def publisher(tmp_path: Path) -> Iterator[Publisher]:
    """A publisher whose folder is a cache; no Engine tries what it publishes."""
    key = keys.new_pair(tmp_path / "keys", "publisher")
    trust.add(tmp_path / "trust.yaml", "dev", key.public, "tests")
    clock = SystemClock()
    database = Database.open(new_registry(tmp_path / "registry.db"), None, clock=clock)
    nothing: Any = None
    yield Publisher(
        database=database,
        store=Layout.create(tmp_path / "cache", is_cache=True),
        engine=nothing,
        runner=nothing,
        inputs=build.Inputs(nothing, tmp_path, tmp_path),
        trust=trust.load(tmp_path / "trust.yaml"),
        keys=(key,),
        clock=clock,
        who="tests",
        remote=Layout.create(tmp_path / "remote"),
    )
    database.close()


@pytest.fixture
def publishes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[Publisher, bytes], publish.Published]:
    """Publish the tiny connector with these bytes as its code."""

    def run(here: Publisher, code: bytes) -> publish.Published:
        def assemble(_: Publisher, __: Path, loaded: LoadedManifest, ___: str | None) -> build.Built:
            tar = io.BytesIO()
            layer.write([layer.Entry.file("opt/wellhead/app/tiny.py", code)], tar)
            tar.seek(0)
            packed = layer.pack(tar, tmp_path / "layer.tar.gz")
            stacks = {"linux/amd64": build.Stack([packed, packed])}
            parts = [sbom.Component("pypi", "tiny", "1.0.0")]
            return build.assemble(loaded, stacks, parts, provenance.Making(), here.store)

        monkeypatch.setattr(publish, "_assemble", assemble)
        monkeypatch.setattr(publish, "_check", lambda *_: None)
        return publish.publish(here, CONNECTOR, "stable")

    return run


def means(kept: Store | None) -> oci.Descriptor:
    assert kept is not None
    found = kept.named(NAME)
    assert found is not None
    return found


def test_a_version_the_registry_never_got_may_be_published_with_other_bytes(
    publisher: Publisher, publishes: Callable[[Publisher, bytes], publish.Published], tmp_path: Path
) -> None:
    away = dataclasses.replace(publisher, remote=Away.create(tmp_path / "away"))
    with pytest.raises(TransientError):
        publishes(away, b"with a bug")
    done = publishes(publisher, b"mended").release
    assert means(publisher.store).digest == means(publisher.remote).digest == done.index_digest


def test_a_publisher_the_registry_refused_still_gets_what_was_registered(
    publisher: Publisher, publishes: Callable[[Publisher, bytes], publish.Published], tmp_path: Path
) -> None:
    other = dataclasses.replace(publisher, store=Layout.create(tmp_path / "other", is_cache=True))
    done = publishes(other, b"was there first").release
    unaware = Database.open(new_registry(tmp_path / "unaware.db"), None, clock=publisher.clock)
    with pytest.raises(RefusedError) as caught:
        publishes(dataclasses.replace(publisher, database=unaware), b"came later")
    unaware.close()
    assert caught.value.code.name == "WH-IMG-016"
    assert means(publisher.store).digest != done.index_digest
    held = store.hold(publisher.remote, publisher.store, TINY, "1.0.0", done.index_digest)
    assert means(held).digest == done.index_digest
    verify.verify_release(held, done.index_digest, TINY, "1.0.0", publisher.trust)


def test_publishing_again_brings_no_older_signature_back_into_the_registry(
    publisher: Publisher, publishes: Callable[[Publisher, bytes], publish.Published]
) -> None:
    assert publisher.remote is not None
    done = publishes(publisher, b"x = 1").release
    name = verify.signature_name(TINY, done.index_digest)
    first = publisher.remote.named(name)
    assert done.statement is not None
    # Another host has signed it anew; this one does not know.
    later = dataclasses.replace(done.statement, issued_at=done.statement.issued_at + timedelta(seconds=1))
    verify.attach(publisher.remote, later, *publisher.keys)
    second = publisher.remote.named(name)
    publishes(publisher, b"x = 1")
    assert publisher.remote.named(name) == second != first


@pytest.mark.parametrize(("spec", "is_cache"), [({}, False), ({"registry": "https://registry.example"}, True)])
def test_the_folder_is_a_cache_where_a_registry_is_the_store(
    spec: dict[str, Any], is_cache: bool, tmp_path: Path
) -> None:
    with ExitStack() as scope:
        app = App(Settings(root=tmp_path, store=StoreSettings(**spec)), scope)
        assert app.layout.is_cache is is_cache
