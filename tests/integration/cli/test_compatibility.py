"""Comparing a manifest with what is published, through the real program."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.project import FIXTURES, Outcome, Project, Warm
from wellhead.ids import ConnectorId, Digest
from wellhead.registry import definitions
from wellhead.registry.database import Database

pytestmark = pytest.mark.slow

TINY = YAML(typ="safe", pure=True).load((FIXTURES / "tiny" / "manifest.yaml").read_text())
CDN = {"network": {"egress": [{"host": "cdn.example.com"}]}}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose registry knows 1.0.0, 1.1.0 with a way out, and 1.2.0, which was yanked."""
    project = Warm(tmp_path_factory.mktemp("project"))
    project.must("init")
    database = Database.open(f"sqlite:///{project.root}/.wellhead/registry.db")
    with database.transaction() as tx:
        for number, (version, rest, status) in enumerate(
            [("1.0.0", {}, "active"), ("1.1.0", CDN, "active"), ("1.2.0", {}, "yanked")]
        ):
            release = definitions.Release(
                connector_id=ConnectorId("dev/tiny"),
                version=version,
                index_digest=Digest(f"sha256:{number:064}"),
                manifest_sha256="0" * 64,
                platforms={},
                manifest=manifest(version, **rest),
                key_id="k",
                published_at=datetime(2026, 1, 1, tzinfo=UTC),
                status=status,
            )
            assert definitions.register(tx, release)
    database.close()
    return project


def manifest(version: str, **rest: Any) -> dict[str, Any]:
    return {**TINY, **rest, "metadata": {**TINY["metadata"], "version": version}}


def lint(project: Project, folder: Path, document: dict[str, Any], *options: str | Path) -> Outcome:
    file = folder / "manifest.yaml"
    YAML().dump(document, file)
    return project.call("manifest", "lint", file, *options)


def findings(outcome: Outcome) -> list[str]:
    return [finding["code"] for finding in outcome.document["findings"]]


@pytest.mark.parametrize(
    ("version", "rest", "against", "codes", "needed"),
    [
        ("1.0.1", CDN, "1.0.0", ["WH-CMP-001"], "minor"),
        ("1.1.0", CDN, "1.0.0", [], "minor"),
        ("1.1.1", CDN, "previous", [], None),
        ("1.2.1", CDN, "previous", [], None),
        ("1.0.5", CDN, "previous", ["WH-CMP-001"], "minor"),
        ("1.0.0", CDN, "1.0.0", ["WH-CMP-003"], "minor"),
    ],
)
def test_a_manifest_is_compared_with_a_published_version(
    project: Project,
    tmp_path: Path,
    version: str,
    rest: dict[str, Any],
    against: str,
    codes: list[str],
    needed: str | None,
) -> None:
    outcome = lint(project, tmp_path, manifest(version, **rest), "--against", against, "--json")
    assert outcome.exit_code == (78 if codes else 0), outcome.stderr
    assert findings(outcome) == codes
    assert outcome.document["against"]["needed"] == needed


def test_people_see_what_changed_and_what_tenants_must_agree_to(project: Project, tmp_path: Path) -> None:
    before = tmp_path / "before.yaml"
    YAML().dump(manifest("1.0.0"), before)
    outcome = lint(project, tmp_path, manifest("1.1.0", **CDN), "--against", before)
    assert outcome.exit_code == 0
    assert outcome.stdout.splitlines()[0] == "since 1.0.0"
    assert "minor  must agree  reaches cdn.example.com:443" in outcome.stdout


def test_without_an_earlier_release_there_is_nothing_to_compare_with(project: Project, tmp_path: Path) -> None:
    outcome = lint(project, tmp_path, manifest("0.9.0"), "--against", "previous")
    assert outcome.exit_code == 78
    assert "WH-CLI-022" in outcome.stderr


def test_a_manifest_that_is_not_sound_is_mended_before_it_is_compared(project: Project, tmp_path: Path) -> None:
    unsound = manifest("1.0.1", config={"schema": {"type": "object", "properties": {"a": {"minimum": "x"}}}})
    outcome = lint(project, tmp_path, unsound, "--against", "1.0.0", "--json")
    assert findings(outcome) == ["WH-MAN-010"]
    assert "against" not in outcome.document


@pytest.mark.real
def test_a_step_that_is_too_small_is_not_published(project: Project, tmp_path: Path) -> None:
    YAML().dump(manifest("1.0.1", **CDN), tmp_path / "manifest.yaml")
    outcome = Project(project.root).call("publish", tmp_path)
    assert outcome.exit_code == 78
    assert "WH-CMP-001" in outcome.stderr
    assert "reaches cdn.example.com:443: minor since 1.0.0" in outcome.stderr
    assert "raise metadata.version to 1.1.0" in outcome.stderr
    assert f"{tmp_path}/manifest.yaml:" in outcome.stderr
