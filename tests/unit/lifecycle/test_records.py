"""What is written down of a release once it is registered."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.unit.lifecycle.test_transfer import TINY, host
from tests.unit.lifecycle.test_transfer import publish as put
from wellhead.catalog import keys, records, verify
from wellhead.catalog.channels import Rollout
from wellhead.catalog.keys import PrivateKey
from wellhead.lifecycle import publish, rollout
from wellhead.lifecycle.host import Host
from wellhead.registry import definitions


@pytest.fixture
def key(tmp_path: Path) -> PrivateKey:
    return keys.new_pair(tmp_path / "keys", "publisher")


@pytest.fixture
def here(tmp_path: Path, key: PrivateKey) -> Iterator[Host]:
    with ExitStack() as scope:
        yield host(tmp_path / "here", key.public, scope)


def write(here: Host, version: str, folder: Path, channel: str = "stable") -> Path:
    with here.database.read() as tx:
        row = definitions.get(tx, TINY, version)
    release = verify.verify_release(here.layout(), row.index_digest, TINY, version, here.trust())
    return publish.write_record(here.database, here.clock, release, channel, folder)


def test_a_release_is_recorded_with_the_day_it_was_registered_and_its_channel(
    here: Host, key: PrivateKey, tmp_path: Path
) -> None:
    put(here, "1.0.0", key)
    assert write(here, "1.0.0", tmp_path / "manifests") == tmp_path / "manifests" / "dev" / "tiny" / "1.0.0.yaml"
    found = records.read(tmp_path / "manifests")
    with here.database.read() as tx:
        row = definitions.get(tx, TINY, "1.0.0")
    [filed] = found.records
    assert filed.record.released_at == row.published_at
    assert filed.record.digest == f"oci-index:{row.index_digest}"
    assert found.channels.channels == {"dev/tiny": {"stable": ("1.0.0",)}}


def test_a_channel_that_offers_it_to_a_share_is_not_written_down(here: Host, key: PrivateKey, tmp_path: Path) -> None:
    put(here, "1.0.0", key, channel="candidate")
    order = rollout.Order(TINY, "1.0.0", "stable", "ops", "slowly", Rollout(10.0))
    rollout.promote(here.database, here.clock, order)
    write(here, "1.0.0", tmp_path)
    assert records.read(tmp_path).channels.channels == {}


def test_a_channel_the_release_was_taken_out_of_is_not_written_down(
    here: Host, key: PrivateKey, tmp_path: Path
) -> None:
    put(here, "1.0.0", key)
    rollout.halt(here.database, here.clock, TINY, "1.0.0", "stable", "ops", "it loses rows")
    write(here, "1.0.0", tmp_path)
    assert records.read(tmp_path).channels.channels == {}
