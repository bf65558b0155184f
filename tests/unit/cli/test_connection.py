"""What `wellhead connection` does to a connection's file while somebody else is at it."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import pytest

from tests.parts import new_registry
from wellhead import app, connections
from wellhead.cli import connection, output
from wellhead.errors import ConfigurationError
from wellhead.registry import connections as rows

FILE = "name: flights\nconnector: dev/generator\nstreams: [{name: rows}]\n"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / ".wellhead").mkdir()
    new_registry(tmp_path / ".wellhead" / "registry.db")
    (tmp_path / "wellhead.yaml").write_text("{}\n")
    (tmp_path / "connections").mkdir()
    (tmp_path / "connections" / "flights.yaml").write_text(FILE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set once the command has read the file and asks whether it is meant."""
    happened = threading.Event()

    def ask(*_: Any, **__: Any) -> bool:
        happened.set()
        return True

    monkeypatch.setattr(output, "ask", ask)
    return happened


def test_a_connection_that_is_disabled_while_it_is_removed_does_not_come_back(
    project: Path, asked: threading.Event
) -> None:
    file = project / "connections" / "flights.yaml"
    with ThreadPoolExecutor(1) as pool, app.opened(None) as here:
        with connections.changing(file):
            removed = pool.submit(connection.remove, "flights", yes=True)
            assert asked.wait(20)
            # It has to wait for the lock all that time; without one it would be done.
            wait([removed], 1.0)
            connections.replace(file, FILE + "enabled: false\n")
        removed.result()
        assert not file.exists()
        with pytest.raises(ConfigurationError) as caught:
            connections.set_enabled(here.settings, "flights", {}, enabled=True)
        assert caught.value.code == connections.UNKNOWN
        with here.database.read() as tx:
            assert rows.all_of(tx) == []


def test_of_two_who_remove_a_connection_at_once_both_have(project: Path, asked: threading.Event) -> None:
    file = project / "connections" / "flights.yaml"
    with ThreadPoolExecutor(1) as pool:
        with connections.changing(file):
            removed = pool.submit(connection.remove, "flights", yes=True)
            assert asked.wait(20)
            file.unlink()
        removed.result()
    assert not file.exists()
