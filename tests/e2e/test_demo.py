"""The demonstration as a newcomer starts it: it keeps its promises, and its folder can be used again."""

from __future__ import annotations

import itertools
import re
import signal
import subprocess
from pathlib import Path

import pytest

from tests import parts

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]

DEMO = parts.ROOT / "scripts" / "demo.sh"


def _play(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([DEMO, folder], cwd="/", capture_output=True, text=True, check=False, timeout=390)


@pytest.fixture(scope="module")
def told(docker_engine: parts.DockerEngine, tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the demonstration prints, played once."""
    assert docker_engine.version
    played = _play(tmp_path_factory.mktemp("stage") / "state")
    assert played.returncode == 0, played.stdout + played.stderr
    return played.stdout


@pytest.mark.parametrize(
    "promise",
    [
        r"public\.flights  336,776 rows",
        r"step +read +\d+\.\d{3} s",
        r"release +wellhead/postgres 1\.0\.0  sha256:[0-9a-f]{64}",
        r"egress +allow pg\.demo:\d+",
        r"lease database/creds/flights-ro/\w+\n  created \S+  revoked \S+",
        r"\[ok\] the store no longer knows the lease",
        r"\[ok\] roles left in the database: none",
        r'"receipt_version": 1',
        r"duckdb> select carrier",
        r"\[ok\] DuckDB over Bronze equals psql over the source: rows 336,776,",
        r"\[ok\] rows read: 5\n",
        r"\[ok\] DuckDB over Bronze equals psql over the source: rows 336,779,",
        r"\[ok\] ways out tried: \d{3}",
        r"\[ok\] got out: none",
        r"\[ok\] release that ran: 1\.1\.0",
        r"\$ wellhead rollback connection flights",
        r"\[ok\] release that ran: 1\.0\.0",
        r"\[ok\] tokens but the administrator's own: none",
        r"\[ok\] containers of \d+ runs: none",
        r"\[ok\] processes of theirs: none",
        r"Everything is as promised",
    ],
)
def test_it_keeps_a_promise(told: str, promise: str) -> None:
    assert re.search(promise, told), told


def test_it_lends_a_role_to_each_run_and_shows_no_password(told: str) -> None:
    roles = re.findall(r"we are (v-token-\S+)@demo", told)
    assert len(roles) == 1
    assert "postgresql://postgres:" not in told


def test_it_leaves_somebody_elses_folder_alone(docker_engine: parts.DockerEngine, tmp_path: Path) -> None:
    assert docker_engine.version
    (tmp_path / "letter").write_text("mine")
    played = _play(tmp_path)
    assert played.returncode == 1
    assert f"{tmp_path} is not empty" in played.stdout
    assert (tmp_path / "letter").read_text() == "mine"


def test_it_ends_what_it_started_when_it_is_told_to(docker_engine: parts.DockerEngine, tmp_path: Path) -> None:
    assert docker_engine.version
    playing = subprocess.Popen(
        [DEMO, tmp_path / "state"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    with playing:
        lines = iter(playing.stdout or ())
        before = "".join(itertools.takewhile(lambda line: "loading the flights" not in line, lines))
        playing.send_signal(signal.SIGTERM)
        rest = "".join(lines)
    assert playing.returncode == 128 + signal.SIGTERM, rest
    assert "$ wellhead clean" in rest
    pids = re.findall(r"\(pid (\d+)\)", before)
    assert len(pids) == 2
    assert [pid for pid in pids if Path(f"/proc/{pid}").exists()] == []
