"""`wellhead clean --images` against a real Engine: what nothing refers to goes, and nothing that is in use."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import tiny
from tests.containers import created, program
from tests.project import Warm
from wellhead.engine.client import Engine
from wellhead.images import engine_tar, oci

pytestmark = [pytest.mark.real, pytest.mark.engines]

VERSIONS = ("1.0.0", "1.1.0", "1.2.0", "1.3.0", "1.4.0", "1.5.0")


def test_images_that_nothing_refers_to_go_and_those_in_use_stay(engine: Engine, tmp_path: Path) -> None:
    project = Warm(tmp_path / "project")
    project.root.mkdir()
    project.must("init")
    built = {version: tiny.publish(project, version) for version in VERSIONS}
    project.connect("flights", "dev/tiny", ["rows"], version="1.2.0")
    store = tiny.store(project)
    loaded = {
        version: engine.load(engine_tar.chunks(store, found.index_digest, "linux/amd64"))
        for version, found in built.items()
    }
    # As after `catalog import --engine`: the Engine alone has this one's layers.
    layer = oci.image(store, built["1.3.0"].index_digest, "linux/amd64").layers[0]
    (store.path / "blobs/sha256" / layer.digest.removeprefix("sha256:")).unlink()
    try:
        with created(engine, program(loaded["1.1.0"], "")) as container:
            assert project.must("clean", "--json").document["images"] == []
            cleaned = project.must("clean", "--images", "--json").document
            # 1.1.0 is in use, 1.2.0 pinned, 1.3.0 nowhere else, and the channel offers or goes back to the last two.
            assert (cleaned["images"], cleaned["left"]) == ([loaded["1.0.0"]], [])
            assert container.inspect().image_id == loaded["1.1.0"]
            assert {version for version, found in loaded.items() if engine.image_exists(found)} == set(VERSIONS[1:])
    finally:
        for image_id in loaded.values():
            engine.remove_image(image_id)
