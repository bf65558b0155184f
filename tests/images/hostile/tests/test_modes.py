"""The table of modes: every mode is in it and does what it says, judged by the host's real half of the conversation."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from wellhead.clock import SystemClock
from wellhead.errors import WellheadError
from wellhead.session.client import Deadlines, Session, require_release
from wellhead.session.stream import Batch
from wellhead_hostile.frames import Said, Talk
from wellhead_hostile.modes import MODES
from wellhead_hostile.service import Connector, Mode
from wellhead_sdk.wire import messages as m

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent.parent
MANIFEST = HERE / "manifest.yaml"
TABLE: list[dict[str, Any]] = YAML(typ="safe").load(HERE / "modes.yaml")["modes"]
CAUGHT = {mode["name"]: mode for mode in TABLE if mode.get("code", "").startswith("WH-SES-")}
MIB = 1024 * 1024


@contextmanager
def session_with(mode: str, folder: Path, deadlines: Deadlines | None = None) -> Iterator[Session]:
    """Serve one mode in this process, and dial it as a run would."""
    server = Connector(MODES[mode], MODES, folder / "c.sock", MANIFEST).listen()
    try:
        with Session.open(
            folder / "c.sock",
            owner_uid=os.getuid(),
            clock=SystemClock(),
            deadlines=deadlines or Deadlines(),
            on_log=lambda _: None,
        ) as session:
            yield session
    finally:
        server.stop(None).wait()


def converse(session: Session, mode: str, stream: str = "records") -> int:
    """Hold the whole conversation of a run; return how many records came."""
    digest = hashlib.sha256(MANIFEST.read_bytes()).hexdigest()
    require_release(session.describe(), connector_id="dev/hostile", version="1.0.0", manifest_sha256=digest)
    session.authenticate(m.Credentials(json.dumps({"mode": mode}), (m.Secret("token", "hunter2-hunter2-hunter2"),)))
    session.discover((stream,))
    plan = session.read(m.ReadOrder("read-1", stream, m.SyncMode.FULL_REFRESH))
    rows, commit_no, batch_no = 0, 0, 0
    with session.emit("read-1", plan.units[0].key, 16 * MIB) as unit:
        for frame in unit:
            match frame:
                case m.CheckpointFrame(state=state, state_version=version, through_batch=batch_no):
                    commit_no += 1
                    session.checkpoint(m.Committed("read-1", plan.units[0].key, batch_no, commit_no, state, version))
                case Batch(record_batch=batch):
                    rows += batch.num_rows
        unit.finish()
    return rows


def test_the_table_names_every_mode_once() -> None:
    assert [mode["name"] for mode in TABLE] == list(dict.fromkeys(mode["name"] for mode in TABLE))
    assert {mode["name"] for mode in TABLE} == set(MODES)


def test_what_happens_before_the_config_comes_is_chosen_at_the_start() -> None:
    early = {name for name, mode in MODES.items() if mode.start or mode.serving or mode.describe or mode.authenticate}
    assert {mode["name"] for mode in TABLE if mode.get("at") == "start"} == early


def test_the_readme_shows_the_table() -> None:
    rows = [f"| `{mode['name']}` | {mode['does']} | {mode['exit_code']} | {mode.get('code', '')} |" for mode in TABLE]
    assert "\n".join(rows) in (HERE / "README.md").read_text(encoding="utf-8")


def test_the_honest_mode_is_believed(tmp_path: Path) -> None:
    with session_with("honest", tmp_path) as session:
        assert converse(session, "honest") == 20


@pytest.mark.parametrize("mode", CAUGHT)
def test_a_lie_or_failure_is_met_with_its_own_code(mode: str, tmp_path: Path) -> None:
    with session_with(mode, tmp_path) as session, pytest.raises(WellheadError) as caught:
        converse(session, mode)
    assert str(caught.value.code) == CAUGHT[mode]["code"]
    assert caught.value.exit_code == CAUGHT[mode]["exit_code"]


@pytest.mark.parametrize("mode", ["schema_flood", "rejected_flood", "leaks_in_state", "leaks_in_rejected"])
def test_what_breaks_no_promise_of_the_protocol_passes_the_session(mode: str, tmp_path: Path) -> None:
    with session_with(mode, tmp_path) as session:
        assert converse(session, mode) in (0, 10)


def test_a_connector_that_only_logs_is_not_silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It speaks for longer than it may be silent, a line at a time; each is a frame, and so a sign of life."""

    def chatters(talk: Talk) -> Iterator[Said]:
        yield talk.schema()
        for _ in range(6):
            time.sleep(0.5)  # the connector's own pace, in its own thread
            yield m.LogFrame(m.LogLevel.INFO, "still at it")
        yield from talk.end()

    monkeypatch.setitem(MODES, "chatters", Mode(emit=chatters))
    with session_with("chatters", tmp_path, Deadlines(silence_s=2.0)) as session:
        assert converse(session, "chatters") == 0


def test_every_form_of_the_secret_is_said(tmp_path: Path) -> None:
    with session_with("leaks_in_records", tmp_path) as session:
        assert converse(session, "leaks_in_records") == 39


def test_the_attempts_refuse_to_be_made_as_root(tmp_path: Path) -> None:
    """They would change this machine's routes, mounts and name."""
    child = subprocess.run(
        [sys.executable, "-c", "import os; os.geteuid = lambda: 0; import wellhead_hostile.escapes as e; e.main()"],
        input="{}",
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert child.returncode == 1
    assert re.search("never as root", child.stderr)
