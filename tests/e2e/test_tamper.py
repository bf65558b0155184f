"""A changed release never runs: every case of `tests.tampering` through `wellhead run`, in and out of the Engine."""

from __future__ import annotations

import os
import shutil
import sqlite3
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tests.project import FIXTURES, Project, Warm, make
from tests.tampering import CASES, Case, Victim
from wellhead.catalog import keys
from wellhead.engine.client import Engine
from wellhead.ids import ConnectorId
from wellhead.images import base, layout, naming, oci

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

CONNECTOR = ConnectorId("dev/generator")


def victim_of(project: Project, scratch: Path) -> Victim:
    """Give the project a store of its own, with blobs shared by links, and return its release."""
    settings = YAML(typ="safe").load(project.root / "wellhead.yaml")
    store = project.root / ".wellhead/own-store"
    shutil.copytree(settings["store"]["path"], store, copy_function=os.link)
    project.configure(store={"path": str(store)})
    found = layout.Layout.open(store).named(naming.name_of(CONNECTOR, "1.0.0"))
    assert found is not None
    return Victim(
        store=layout.Layout.open(store),
        connector=CONNECTOR,
        version="1.0.0",
        digest=found.digest,
        platform=base.machine_platform(),
        key=keys.load_private(project.root / ".wellhead/keys/dev.key"),
        trust_file=project.root / "trust.yaml",
        scratch=scratch,
    )


def rewrite_row(project: Project, victim: Victim) -> None:
    """Let the registry say what the case wants it to say, as somebody who may write to its database would."""
    with sqlite3.connect(project.root / ".wellhead/registry.db") as database:
        database.execute(
            "UPDATE connector_definitions SET index_digest = ?, version = ? WHERE connector_id = ?",
            (victim.digest, victim.version, victim.connector),
        )
        database.execute(
            "UPDATE channels SET index_digest = ?, version = ? WHERE connector_id = ?",
            (victim.digest, victim.version, victim.connector),
        )


def published(folder: Path) -> Project:
    """A project with a connector whose image nobody else has, so that it may be taken out of the Engine."""
    source = FIXTURES / "generator"
    connector = Path(shutil.copytree(source, folder / "generator", ignore=shutil.ignore_patterns("__pycache__")))
    (connector / "wellhead_generator/unique.py").write_text(f"# {uuid.uuid4()}\n")
    return make(folder / "made", connector)


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory, engine: Engine) -> Iterator[Project]:
    """A project whose image is in the Engine, as publishing leaves it."""
    project = published(tmp_path_factory.mktemp("loaded"))
    yield project
    assert taken_out(project, engine)


@pytest.fixture(scope="module")
def unloaded(tmp_path_factory: pytest.TempPathFactory, engine: Engine) -> Iterator[Project]:
    """A project whose image the Engine does not have."""
    project = published(tmp_path_factory.mktemp("unloaded"))
    assert taken_out(project, engine)
    yield project
    assert not taken_out(project, engine)


def taken_out(project: Project, engine: Engine) -> bool:
    """Take the image out of the Engine; say whether it was there."""
    store = layout.Layout.open(project.root / ".wellhead/store")
    found = store.named(naming.name_of(CONNECTOR, "1.0.0"))
    assert found is not None
    image = oci.image(store, found.digest, base.machine_platform())
    there = [digest for digest in (image.config.digest, image.manifest.digest) if engine.image_exists(digest)]
    for digest in there:
        engine.remove_image(digest)
    return bool(there)


def refuse(project: Project, case: Case, scratch: Path) -> None:
    """Do what the case does to a copy of the project, and require that a run is refused for it."""
    own = Warm(project.copy(scratch).root)
    victim = victim_of(own, scratch)
    own.connect("numbers", CONNECTOR, ["rows"])
    case.do(victim)
    rewrite_row(own, victim)
    done = own.run("numbers")
    assert done.exit_code == 76, done.stderr
    assert "Traceback" not in done.stderr
    assert done.error_code == case.code
    assert case.where in done.document["error"]["message"]
    assert not own.table("numbers", "rows").exists()


@pytest.mark.parametrize("case", [case for case in CASES if case.is_always_read], ids=lambda case: case.name)
def test_a_changed_release_is_refused_though_its_image_is_in_the_engine(
    loaded: Project, case: Case, tmp_path: Path
) -> None:
    refuse(loaded, case, tmp_path)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_changed_release_is_refused_when_its_image_has_to_be_loaded(
    unloaded: Project, case: Case, tmp_path: Path
) -> None:
    refuse(unloaded, case, tmp_path)
