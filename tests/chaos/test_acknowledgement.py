"""A source that forgets what was acknowledged shows any acknowledgement that came before its commit: as loss."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import ledger
from tests.kills import kill_at
from tests.project import Project
from wellhead_generator.rows import Rows

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(240)]

ROWS = 20_000
PLACES = ["mid_batch", "segment_fsynced:2", "in_transaction:2", "committed:2", "checkpoint_sent:2", "file_renamed:2"]


def _run(project: Project, place: str | None) -> int:
    return project.run("forgetful", "--if-running", "wait", env=kill_at(place) if place else {}).exit_code


@pytest.mark.parametrize(
    "place",
    ["mid_batch", "segment_fsynced:2", "in_transaction:2", "committed:2", "checkpoint_sent:2", "file_renamed:2"],
)
def test_nothing_is_acknowledged_before_it_is_committed(project: Project, tmp_path: Path, place: str) -> None:
    project.configure(files={"roots": [str(tmp_path / "source")]}, secrets={"store": "local"})
    with ledger.kept(tmp_path / "source") as source:
        project.connect(
            "forgetful",
            "dev/generator",
            [{"name": "rows", "mode": "incremental", "cursor_field": "updated_at", "batch_size": 1000}],
            config={"rows": ROWS, "ledger": f"/data/source/{ledger.SOCKET_NAME}"},
            mounts={"source": str(source.folder)},
        )
        for _ in range(3):
            assert _run(project, place) == -9, f"{place} was not reached"
        assert _run(project, None) == 0
    expected = list(zip(*Rows("mixed").batch(0, ROWS).select(["id", "value"]).to_pydict().values(), strict=True))
    assert project.rows("forgetful", "rows", "id, value", "order by id") == expected
    assert source.positions == {"all": ROWS}
    assert source.acknowledgements == sorted(source.acknowledgements)
