"""``wellhead runs`` on a registry that somebody edited."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa

from wellhead.ids import ConnectionKey, ConnectorId, RunId
from wellhead.registry import runs
from wellhead.registry.database import Database

pytestmark = pytest.mark.slow

WELLHEAD = Path(sys.executable).parent / "wellhead"


@pytest.mark.parametrize("command", [("list",), ("list", "--json"), ("show", "run-1"), ("cancel", "run-1")])
def test_a_document_that_is_none_is_an_error_and_no_traceback(tmp_path: Path, command: tuple[str, ...]) -> None:
    (tmp_path / "wellhead.yaml").write_text("{}\n")
    database = Database.open(f"sqlite:///{tmp_path}/.wellhead/registry.db")
    database.migrate()
    with database.transaction() as tx:
        key = ConnectionKey("default", "default", "orders")
        runs.start(tx, runs.Start(RunId("run-1"), key, "run", "host-1", ConnectorId("dev/g"), 1))
        tx.execute(sa.text("update connector_runs set plan = '{\"rows\": '"))
    database.close()
    done = subprocess.run([WELLHEAD, "runs", *command], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, bool(done.stdout)) == (70, "--json" in command)
    assert "Traceback" not in done.stderr
    assert "WH-REG-011" in done.stderr
    assert "connector_runs.plan is not a JSON object in the row of run_id run-1" in done.stderr
    assert "mend  " in done.stderr
