"""A host that is not root: the same runner and the same fence, by group and setgid instead of by ownership."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.containers import cache
from tests.integration.engine import plain_user
from tests.parts import DockerEngine
from wellhead.egress.network import gateway_image
from wellhead.engine.client import Engine
from wellhead.images import base

pytestmark = [pytest.mark.real, pytest.mark.engines]

ROOT = Path(__file__).parents[3]


@pytest.fixture
def root() -> Iterator[Path]:
    """A folder of the plain user's, at a path short enough for a socket and without secrets above it."""
    path = Path("/tmp") / f"wh-plain-{os.getpid()}"
    path.mkdir(mode=0o700)
    shutil.chown(path, plain_user.UID, plain_user.UID)
    yield path
    shutil.rmtree(path)


def test_a_plain_user_in_the_engines_group_runs_and_fences_connectors(
    docker_engine: DockerEngine, engine: Engine, python_image: str, root: Path
) -> None:
    gateway = gateway_image(engine, base.rootfs(base.GATEWAY_PACKAGES, cache()))
    done = subprocess.run(
        [sys.executable, plain_user.__file__, docker_engine.host, python_image, gateway, str(root)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told == {
        "uid": plain_user.UID,
        "hello": "hello",
        "folder": "0o2770",
        "planted": "WH-RUN-104",
        "resolved": told["resolved"],
        "denied": ["evil.test"],
        "left": [],
        "cards": 0,
    }
    assert told["resolved"].startswith("198.19.")
