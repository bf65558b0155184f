"""From a registry to a machine without a network: published, prefetched, exported, lost, imported, verified, run."""

import json
import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests import oci_registry
from tests.oci_registry import OciRegistry
from tests.project import FIXTURES, WELLHEAD, Project
from wellhead.engine.client import Engine

pytestmark = pytest.mark.e2e

VERSION = "1.0.0"


@pytest.fixture
def server() -> Iterator[OciRegistry]:
    with oci_registry.passwords() as running:
        yield running


@dataclass(frozen=True)
class Published:
    """A project whose store is a registry, with a release no other test has, and that release's image id."""

    project: Project
    server: OciRegistry
    digest: str
    image_id: str


@pytest.fixture
def published(project: Project, server: OciRegistry, engine: Engine, tmp_path: Path) -> Iterator[Published]:
    source = Path(shutil.copytree(FIXTURES / "generator", tmp_path / "source"))
    with next(source.glob("wellhead_*/__init__.py")).open("a") as file:
        file.write(f"# {uuid.uuid4()}\n")
    manifest = source / "manifest.yaml"
    manifest.write_text(manifest.read_text().replace("id: dev/generator", "id: dev/island"))
    project.configure(store={"path": str(tmp_path / "held"), **server.settings()})
    released = project.must("publish", source, "--json").document
    image_id = released["images"]["linux/amd64"]["config"]
    project.connect("numbers", "dev/island", ["rows"], config={"rows": 10})
    yield Published(project, server, released["digest"], image_id)
    engine.remove_image(image_id)


def island(published: Published, folder: Path) -> Project:
    """A project on another machine state: the same trust and connection, and nothing else of the first."""
    project = Project(folder)
    folder.mkdir()
    project.must("init")
    shutil.copyfile(published.project.root / "trust.yaml", folder / "trust.yaml")
    project.connect("numbers", "dev/island", ["rows"], config={"rows": 10})
    return project


def cut_off(project: Project, *arguments: str | Path) -> dict[str, Any]:
    """Run ``wellhead ARGUMENTS --json`` where there is no route, not even to this machine's loopback."""
    command = ["unshare", "--net", str(WELLHEAD), *map(str, arguments), "--json"]
    done = subprocess.run(
        command, cwd=project.root, env={**os.environ, "NO_COLOR": "1"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{arguments}\n{done.stdout}\n{done.stderr}"
    found: Any = json.loads(done.stdout)
    return {"items": found} if isinstance(found, list) else found


def test_a_registry_that_is_down_stops_no_run_of_a_prefetched_release(published: Published, tmp_path: Path) -> None:
    held = tmp_path / "held"
    shutil.rmtree(held)
    [fetched] = json.loads(published.project.must("prefetch", "numbers", "--json").stdout)
    assert fetched["digest"] == published.digest
    assert fetched["fetched_bytes"] > 1_000_000
    published.server.stop()
    outcome = published.project.run("numbers")
    assert outcome.exit_code == 0, outcome.stderr
    assert published.project.count("numbers", "rows") == 10
    shutil.rmtree(held)
    lost = published.project.run("numbers")
    assert lost.exit_code == 75
    assert lost.error_code == "WH-IMG-040"
    assert published.server.password not in lost.stdout + lost.stderr


def test_what_was_exported_runs_where_everything_else_was_lost(
    published: Published, engine: Engine, tmp_path: Path
) -> None:
    file = tmp_path / "releases.tar"
    exported = published.project.must("catalog", "export", file, "dev/island", "--json").document
    assert exported["releases"] == [{"connector": "dev/island", "version": VERSION}]
    again = tmp_path / "again.tar"
    published.project.must("catalog", "export", again, f"dev/island@{VERSION}")
    assert again.read_bytes() == file.read_bytes()

    published.server.wipe()
    shutil.rmtree(tmp_path / "held")
    engine.remove_image(published.image_id)
    alone = island(published, tmp_path / "island")

    [taken] = cut_off(alone, "catalog", "import", file)["items"]
    assert (taken["digest"], taken["is_new"], taken["channels"]) == (published.digest, True, ["stable"])
    assert cut_off(alone, "verify", "dev/island")["digest"] == published.digest
    assert cut_off(alone, "run", "numbers")["exit_code"] == 0
    assert alone.count("numbers", "rows") == 10
    [known] = cut_off(alone, "catalog", "import", file)["items"]
    assert (known["is_new"], known["channels"]) == (False, [])


def test_an_import_straight_into_the_engine_keeps_no_layers(
    published: Published, engine: Engine, tmp_path: Path
) -> None:
    file = tmp_path / "releases.tar"
    published.project.must("catalog", "export", file, "dev/island")
    engine.remove_image(published.image_id)
    alone = island(published, tmp_path / "island")
    [taken] = cut_off(alone, "catalog", "import", file, "--engine")["items"]
    assert taken["image_id"] == published.image_id
    kept = sum(path.stat().st_size for path in (alone.root / ".wellhead/store").rglob("*") if path.is_file())
    assert kept < 100_000
    assert cut_off(alone, "run", "numbers")["exit_code"] == 0


def test_a_key_in_the_file_is_trusted_by_nobody(published: Published, tmp_path: Path) -> None:
    file = tmp_path / "releases.tar"
    published.project.must("catalog", "export", file, "dev/island")
    stranger = Project(tmp_path / "stranger")
    stranger.root.mkdir()
    stranger.must("init")
    refused = stranger.call("catalog", "import", file)
    assert refused.exit_code == 76
    assert "WH-CAT-021" in refused.stderr
    assert json.loads(stranger.must("catalog", "list", "--json").stdout) == []


def test_a_mirror_has_every_byte_and_runs(published: Published, tmp_path: Path) -> None:
    folder = tmp_path / "mirror"
    [row] = json.loads(published.project.must("mirror", "store", folder, "--json").stdout)
    assert (row["connector"], row["version"], row["names"]) == ("dev/island", VERSION, 4)
    [nothing] = json.loads(published.project.must("mirror", "store", folder, "dev/island", "--json").stdout)
    assert nothing["moved_bytes"] == 0
    published.server.wipe()
    published.project.must("mirror", folder, "store")
    shutil.rmtree(tmp_path / "held")
    assert published.project.run("numbers").exit_code == 0
