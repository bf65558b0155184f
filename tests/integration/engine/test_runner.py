"""The Docker runner against a real Engine: what it lends, what it says when nothing comes up, what it leaves behind."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.containers import created, labels, program
from wellhead.engine import folders
from wellhead.engine.client import Engine
from wellhead.engine.container import Labels, Resources
from wellhead.errors import ConfigurationError, FatalError, RefusedError, TransientError
from wellhead.runners.docker import DockerRunner, Launch

pytestmark = [pytest.mark.real, pytest.mark.engines]

SERVES = """
import os, signal, socket, sys, time
os.umask(0o007)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
listener = socket.socket(socket.AF_UNIX)
listener.bind("/run/wellhead/c.sock")
listener.listen()
print("serving", flush=True)
"""
WAITS = "\nwhile True: time.sleep(60)"


@pytest.fixture
def root() -> Iterator[Path]:
    """A folder for run folders with a path short enough for a socket, on the file system both Engines see."""
    path = Path("/run/wellhead" if os.geteuid() == 0 else f"/tmp/wh-{os.geteuid()}") / f"t{os.getpid()}"
    folders.prepare_root(path)
    yield path
    left = sorted(found.name for found in path.iterdir())
    shutil.rmtree(path)
    assert left == [], "a run left folders behind"


@pytest.fixture
def runner(engine: Engine, root: Path) -> DockerRunner:
    return DockerRunner(engine, "test-host", root)


def launch(image_id: str, text: str, **changes: Any) -> Launch:
    mine = labels()
    plain = Launch(image_id=image_id, run_id=mine.run_id, epoch=1, connection=mine.connection, command=(text,))
    return replace(plain, **changes)


def remaining(engine: Engine, run_id: str) -> list[str]:
    return [container.name for container, _ in engine.containers(run_id)]


def test_lends_a_connector_with_its_socket_and_leaves_nothing(
    engine: Engine, runner: DockerRunner, python_image: str
) -> None:
    wanted = launch(python_image, SERVES + WAITS)
    with runner.launch(wanted) as started:
        found = started.socket_path.lstat()
        assert stat.S_ISSOCK(found.st_mode)
        assert (found.st_uid, started.owner_uid) == (65532, 65532)
        assert started.image_id == python_image
        assert started.state().running
        assert started.violation() is None
        [(_, whose)] = engine.containers(wanted.run_id)
        assert whose == Labels(wanted.run_id, "test-host", 1, wanted.connection, "connector")
    assert remaining(engine, wanted.run_id) == []
    assert not started.socket_path.parent.exists()


def test_a_launched_connector_is_sealed(runner: DockerRunner, python_image: str) -> None:
    probe = """
try: open("/data/probe", "w")
except OSError as exc: print("root", exc.errno)
try: socket.create_connection(("192.0.2.1", 80), 1)
except OSError as exc: print("network", exc.errno)
"""
    with runner.launch(launch(python_image, SERVES.replace("os.umask", probe + "os.umask") + WAITS)) as started:
        assert started.logs().split("\n")[:2] == ["root 30", "network 101"]


def test_a_connector_that_heeds_sigterm_ends_by_itself(runner: DockerRunner, python_image: str) -> None:
    before = time.monotonic()
    with runner.launch(launch(python_image, SERVES + WAITS, stop_grace_s=30.0)):
        pass
    assert time.monotonic() - before < 10


def test_a_connector_that_ignores_sigterm_is_killed_after_its_grace(
    engine: Engine, runner: DockerRunner, python_image: str
) -> None:
    deaf = SERVES + "signal.signal(signal.SIGTERM, signal.SIG_IGN)" + WAITS
    wanted = launch(python_image, deaf, stop_grace_s=1.0)
    with runner.launch(wanted):
        pass
    assert remaining(engine, wanted.run_id) == []


def test_an_error_in_the_run_leaves_nothing(engine: Engine, runner: DockerRunner, python_image: str) -> None:
    wanted = launch(python_image, SERVES + WAITS)
    with pytest.raises(ZeroDivisionError), runner.launch(wanted):
        _ = 1 / 0
    assert remaining(engine, wanted.run_id) == []


def test_a_container_that_ends_at_once_is_told_with_its_exit_code_and_last_lines(
    engine: Engine, runner: DockerRunner, python_image: str
) -> None:
    wanted = launch(python_image, "import sys; print('no licence file'); sys.exit(41)")
    with pytest.raises(ConfigurationError) as caught, runner.launch(wanted):
        pass
    assert caught.value.code.name == "WH-RUN-101"
    assert "exit code 41" in caught.value.message
    assert "no licence file" in caught.value.message
    assert python_image in caught.value.message
    assert remaining(engine, wanted.run_id) == []


def test_a_container_that_runs_out_of_memory_is_told_to_get_more(runner: DockerRunner, python_image: str) -> None:
    hungry = "x = []\nwhile True: x.append(bytearray(1 << 20))"
    with (
        pytest.raises(ConfigurationError) as caught,
        runner.launch(launch(python_image, hungry, resources=Resources(memory_mib=64))),
    ):
        pass
    assert caught.value.code.name == "WH-RUN-102"
    assert "resources.memory" in (caught.value.hint or "")


def test_a_connector_without_a_socket_is_given_up(engine: Engine, runner: DockerRunner, python_image: str) -> None:
    wanted = launch(python_image, "import time; print('thinking', flush=True); time.sleep(600)", start_s=1.5)
    with pytest.raises(TransientError) as caught, runner.launch(wanted):
        pass
    assert caught.value.code.name == "WH-RUN-103"
    assert "thinking" in caught.value.message
    assert remaining(engine, wanted.run_id) == []


def test_an_image_the_engine_lacks_is_told(runner: DockerRunner) -> None:
    with pytest.raises(ConfigurationError) as caught, runner.launch(launch("sha256:" + "0" * 64, SERVES)):
        pass
    assert caught.value.code.name == "WH-ENG-005"


@pytest.mark.parametrize(
    ("plant", "named"),
    [
        ("os.symlink('/etc/passwd', '/run/wellhead/c.sock')", "a symbolic link"),
        ("open('/run/wellhead/c.sock', 'w')", "a file"),
        ("os.mkdir('/run/wellhead/c.sock')", "a folder"),
        ("os.mkfifo('/run/wellhead/c.sock')", "something"),
    ],
)
def test_what_is_planted_in_the_sockets_place_ends_the_run(
    engine: Engine, runner: DockerRunner, python_image: str, plant: str, named: str
) -> None:
    wanted = launch(python_image, f"import os, time\n{plant}\ntime.sleep(600)")
    with pytest.raises(RefusedError) as caught, runner.launch(wanted):
        pass
    assert caught.value.code.name == "WH-RUN-104"
    assert named in caught.value.message
    assert remaining(engine, wanted.run_id) == []


@pytest.mark.parametrize(
    "later",
    [
        "open('/run/wellhead/state.json', 'w').write('x')",
        "os.mkdir('/run/wellhead/deep', 0o700); open('/run/wellhead/deep/x', 'w')",
        "os.rename('/run/wellhead/c.sock', '/run/wellhead/old.sock')",
    ],
)
def test_whatever_else_appears_beside_the_socket_kills_the_connector(
    runner: DockerRunner, python_image: str, later: str
) -> None:
    text = SERVES + f"listener.accept()\n{later}" + WAITS
    with runner.launch(launch(python_image, text)) as started:
        with socket.socket(socket.AF_UNIX) as dialling:
            dialling.connect(str(started.socket_path))
        assert started.container.wait(20) == 137
        violation = started.violation()
    assert violation is not None
    assert violation.code.name == "WH-RUN-104"


def test_the_sockets_folder_cannot_fill_the_hosts_disk(runner: DockerRunner, python_image: str) -> None:
    # Deleted at once, so that only the size of the file system is in the way.
    text = SERVES + (
        "fd = os.open('/run/wellhead', os.O_TMPFILE | os.O_WRONLY)\n"
        "written = 0\n"
        "try:\n"
        "    while written < 4 << 20: written += os.write(fd, bytes(65536))\n"
        "except OSError as exc: print('refused', exc.errno, written >> 10, flush=True)\n"
        "listener.accept()\n"
    )
    with runner.launch(launch(python_image, text)) as started:
        with socket.socket(socket.AF_UNIX) as dialling:
            dialling.connect(str(started.socket_path))
        started.container.wait(20)
        assert "refused 28" in started.logs()


def test_another_image_than_the_verified_one_is_never_used(
    engine: Engine, root: Path, python_image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = engine.create
    runner = DockerRunner(engine, "test-host", root)
    monkeypatch.setattr(engine, "create", lambda spec: create(program(python_image, SERVES + WAITS, of=spec.labels)))
    wanted = launch("sha256:" + "1" * 64, SERVES + WAITS, start_s=2.0)
    monkeypatch.setattr("wellhead.runners.docker._is_socket", lambda path: True)
    with pytest.raises(FatalError) as caught, runner.launch(wanted):
        pass
    assert caught.value.code.name == "WH-RUN-105"
    assert remaining(engine, wanted.run_id) == []


def test_the_container_is_gone_from_the_engine_even_when_it_was_removed_twice(
    engine: Engine, python_image: str
) -> None:
    with created(engine, program(python_image, "pass")) as container:
        container.start()
        container.remove()
        container.remove()
        container.stop(1)
        container.kill()
