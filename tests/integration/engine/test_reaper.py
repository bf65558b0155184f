"""The reaper against a real Engine: it removes what dead runs left, and nothing else."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from tests.containers import labels, program
from wellhead.engine import folders, reaper
from wellhead.engine.client import ConflictError, Engine, NetworkSpec
from wellhead.engine.container import Labels

pytestmark = [pytest.mark.real, pytest.mark.engines]

SUBNET = IPv4Network("198.19.240.0/24")


@pytest.fixture
def root() -> Iterator[Path]:
    path = Path("/run/wellhead" if os.geteuid() == 0 else f"/tmp/wh-{os.geteuid()}") / f"r{os.getpid()}"
    folders.prepare_root(path)
    yield path
    shutil.rmtree(path)


def bridge(whose: Labels) -> NetworkSpec:
    return NetworkSpec(f"wh-test-{whose.run_id}", SUBNET, str(SUBNET[1]), {}, whose.as_dict(), internal=True)


def test_removes_everything_of_a_dead_run_and_nothing_of_a_living_one(
    engine: Engine, python_image: str, root: Path
) -> None:
    dead, living = labels(), labels()
    theirs = engine.create(program(python_image, "import time; time.sleep(600)", of=living))
    ours = engine.create(program(python_image, "import time; time.sleep(600)", of=dead))
    ours.start()
    network = engine.create_network(bridge(dead))
    # As after a SIGKILL: made, mounted, filled, never left.
    context = folders.socket_folder(engine, root, dead, python_image)
    folder = context.__enter__()
    (folder.path / "c.sock").write_text("left over")
    try:
        reaped = reaper.reap(engine, lambda found: found.run_id != dead.run_id, root)
        assert reaped.containers == (ours.name,)
        assert reaped.networks == (f"wh-test-{dead.run_id}",)
        assert reaped.folders == (str(folder.path),)
        assert reaped.left == ()
        assert [container.id for container, _ in engine.containers(living.run_id)] == [theirs.id]
        assert not folder.path.exists()
        assert not folder.path.is_mount()
        assert list(root.iterdir()) == []
    finally:
        theirs.remove()
        ours.remove()
        engine.remove_network(network)
        context.__exit__(None, None, None)


def test_a_network_that_overlaps_another_is_a_conflict(engine: Engine) -> None:
    one, other = labels(), labels()
    network = engine.create_network(bridge(one))
    try:
        with pytest.raises(ConflictError) as caught:
            engine.create_network(bridge(other))
        assert caught.value.code.name == "WH-ENG-008"
    finally:
        engine.remove_network(network)
    engine.remove_network(network)


def test_what_is_not_ours_is_never_listed(engine: Engine) -> None:
    assert {network.name for network in engine.networks() if network.labels is None} >= {"bridge", "host", "none"}
