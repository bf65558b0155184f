"""A connector as a process: it knows its release, listens, and ends when told or when nobody is there."""

from __future__ import annotations

import hashlib
import importlib
import os
import signal
import stat
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from wellhead_sdk.testing import at_socket

pytestmark = pytest.mark.slow

MANIFEST = "# a comment\nmetadata:\n  id: dev/x\n  version: 1.2.3\n  title: X\n"
PROGRAM = """
    import importlib

    import pyarrow as pa
    import wellhead_sdk as sdk

    class Numbers(sdk.Connector):
        def authenticate(self, config, secrets):
            return object()

        def discover(self, session):
            yield sdk.Stream("numbers", schema=pa.schema([("id", pa.int64())]))

        def read(self, session, request, out):
            out.emit([{"id": number} for number in range(10)])

    process = importlib.import_module("wellhead_sdk.serve")
    process.IDLE_EXIT_S = IDLE_S
    sdk.serve(Numbers)
"""
#: The function `wellhead_sdk.serve` hides the module of its name.
process = importlib.import_module("wellhead_sdk.serve")


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="wh") as name:
        yield Path(name)


def begin(folder: Path, idle_s: float) -> subprocess.Popen[bytes]:
    (folder / "manifest.yaml").write_text(MANIFEST)
    program = textwrap.dedent(PROGRAM).replace("= IDLE_S", f"= {idle_s}")
    return subprocess.Popen(
        [sys.executable, "-c", program],
        env={
            **os.environ,
            "WELLHEAD_SOCKET": str(folder / "c.sock"),
            "WELLHEAD_MANIFEST": str(folder / "manifest.yaml"),
        },
        stderr=subprocess.PIPE,
    )


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < deadline, "no socket"
        time.sleep(0.01)


def test_a_process_serves_and_ends_on_sigterm(folder: Path) -> None:
    started = begin(folder, 60)
    wait_for(folder / "c.sock")
    assert stat.S_IMODE((folder / "c.sock").stat().st_mode) & 0o007 == 0
    with at_socket(folder / "c.sock") as conversation:
        description = conversation.describe()
        conversation.authenticate()
        rows = conversation.read("numbers")["all"].rows
    assert (description.connector_id, description.version) == ("dev/x", "1.2.3")
    assert description.manifest_sha256 == hashlib.sha256(MANIFEST.encode()).hexdigest()
    assert len(rows) == 10
    started.send_signal(signal.SIGTERM)
    _, stderr = started.communicate(timeout=15)
    assert (started.returncode, stderr) == (0, b"")


def test_a_process_nobody_talks_to_ends_by_itself(folder: Path) -> None:
    started = begin(folder, 0.5)
    _, stderr = started.communicate(timeout=30)
    assert started.returncode == 0
    assert b"the host is gone" in stderr


@pytest.mark.parametrize(
    "text",
    [
        MANIFEST,
        "metadata:\n  version: \"1.2.3\"  # exact\n  id: 'dev/x'\n",
        "x: 1\nmetadata:   # who\n\n    # more\n    id: dev/x\n    links:\n      id: no\n    version: 1.2.3\nid: no\n",
    ],
)
def test_the_release_is_read_from_the_manifest(text: str, tmp_path: Path) -> None:
    (tmp_path / "m.yaml").write_text(text)
    release = process.read_release(tmp_path / "m.yaml")
    assert (release.connector_id, release.version) == ("dev/x", "1.2.3")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "metadata: {id: dev/x, version: 1.2.3}\n",
        "metadata:\n  id: dev/x\n",
        "metadata:\n  links:\n    id: dev/x\n    version: 1.2.3\n",
        "metadata:\n  id: *anchor\n  version: 1.2.3\n",
        "other:\n  id: dev/x\n  version: 1.2.3\n",
    ],
)
def test_a_manifest_that_does_not_plainly_say_its_release_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "m.yaml").write_text(text)
    with pytest.raises(SystemExit, match="metadata"):
        process.read_release(tmp_path / "m.yaml")


def test_a_missing_manifest_is_named(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"m\.yaml: No such file"):
        process.read_release(tmp_path / "m.yaml")
