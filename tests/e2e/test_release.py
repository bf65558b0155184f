"""`make release`: from a connector's folder to a record that goes into Git."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.project import CONNECTORS, Project
from wellhead.catalog import records

pytestmark = [pytest.mark.e2e, pytest.mark.real, pytest.mark.timeout(300)]


def test_make_release_publishes_a_connector_and_writes_its_record(project: Project, tmp_path: Path) -> None:
    project.own_store()
    config = project.root / "wellhead.yaml"
    ran = subprocess.run(
        ["make", "release", "NAME=csv-file", f"CONFIG={config}", f"INTO={tmp_path / 'manifests'}"],
        cwd=CONNECTORS.parent,
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    found = records.read(tmp_path / "manifests")
    [filed] = found.records
    version = filed.record.version
    assert filed.record.connector == "wellhead/csv-file"
    assert found.channels.channels == {"wellhead/csv-file": {"stable": (version,)}}
    listed = json.loads(project.must("catalog", "list", "wellhead/csv-file", "--json").stdout)
    assert [f"oci-index:{row['digest']}" for row in listed] == [filed.record.digest]
