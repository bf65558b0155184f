"""Folders for sockets: whose they may be, how long their names, and whose the reaper takes for ours."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import cast

import pytest

from wellhead.engine import folders, reaper
from wellhead.engine.client import Engine
from wellhead.engine.container import ContainerSpec, Labels
from wellhead.errors import ConfigurationError

LABELS = Labels("r1", "host", 1, "acme/main/orders", "gateway")


def test_a_root_is_made_for_this_user_alone(tmp_path: Path) -> None:
    root = tmp_path / "r"
    folders.prepare_root(root)
    assert root.stat().st_mode & 0o777 == 0o700
    folders.prepare_root(root)


def test_a_root_others_may_write_in_is_refused(tmp_path: Path) -> None:
    root = tmp_path / "r"
    root.mkdir()
    root.chmod(0o777)
    with pytest.raises(ConfigurationError, match="nobody else may write") as caught:
        folders.prepare_root(root)
    assert caught.value.code is folders.UNUSABLE


def test_a_root_behind_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "r").symlink_to(tmp_path / "real")
    with pytest.raises(ConfigurationError, match="not a folder of this user"):
        folders.prepare_root(tmp_path / "r")


def test_a_root_too_long_for_a_socket_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="longer than sockets allow"):
        folders.prepare_root(Path("/tmp") / ("x" * 80))


def test_a_file_folder_has_a_card_while_it_lives(tmp_path: Path) -> None:
    with folders.file_folder(tmp_path, LABELS) as folder:
        (folder.path / "policy.json").write_text("{}")
        assert [(found.path, found.labels) for found in folders.existing(tmp_path)] == [(folder.path, LABELS)]
    assert list(tmp_path.iterdir()) == []


def test_a_card_that_cannot_be_read_names_no_folder(tmp_path: Path) -> None:
    (tmp_path / "0123456789ab.json").write_text('{"labels": ')
    assert folders.existing(tmp_path) == []


def planted(root: Path) -> Path:
    """Write a card whose folder is not made yet, and return where that belongs."""
    path = root / "0123456789ab"
    path.with_name(f"{path.name}.json").write_text(json.dumps({"labels": LABELS.as_dict(), "image_id": "sha256:0"}))
    return path


def test_a_folder_is_ours_or_was_given_to_its_connector(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = planted(tmp_path)
    path.mkdir()
    owner = path.stat().st_uid
    monkeypatch.setattr(folders, "_is_private", lambda root: True)
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    assert folders.existing(tmp_path) == []
    monkeypatch.setattr(folders, "CONNECTOR_UID", owner)
    assert [found.path for found in folders.existing(tmp_path)] == [path]


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o1777])
def test_a_root_others_may_write_in_holds_no_folder_of_ours(tmp_path: Path, mode: int) -> None:
    planted(tmp_path).mkdir()
    assert len(folders.existing(tmp_path)) == 1
    tmp_path.chmod(mode)
    assert folders.existing(tmp_path) == []


def test_a_root_of_another_user_holds_no_folder_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planted(tmp_path)
    assert len(folders.existing(tmp_path)) == 1
    monkeypatch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid + 1)
    assert folders.existing(tmp_path) == []


def test_a_root_behind_a_link_or_not_there_holds_no_folder_of_ours(tmp_path: Path) -> None:
    real = tmp_path / "real"
    real.mkdir(mode=0o700)
    planted(real).mkdir()
    (tmp_path / "r").symlink_to(real)
    assert folders.existing(tmp_path / "r") == []
    assert folders.existing(tmp_path / "none") == []


class Tape:
    """An Engine that has nothing of ours but every image, and writes down which containers are asked for."""

    def __init__(self) -> None:
        self.created: list[ContainerSpec] = []

    def containers(self) -> list[object]:
        return []

    def networks(self) -> list[object]:
        return []

    def image_exists(self, image_id: str) -> bool:
        return True

    def create(self, spec: ContainerSpec) -> None:
        self.created.append(spec)
        raise AssertionError


def test_a_linked_folder_is_never_swept(tmp_path: Path) -> None:
    home, root = tmp_path / "home", tmp_path / "root"
    home.mkdir()
    (home / "letter").touch()
    root.mkdir(mode=0o700)
    planted(root).symlink_to(home)
    tape = Tape()
    reaped = reaper.reap(cast(Engine, tape), lambda labels: False, root)
    assert (reaped.folders, tape.created) == ((), [])
    assert (home / "letter").exists()


def test_the_card_of_a_folder_that_is_gone_is_removed(tmp_path: Path) -> None:
    path = planted(tmp_path)
    reaped = reaper.reap(cast(Engine, Tape()), lambda labels: False, tmp_path)
    assert reaped.folders == (str(path),)
    assert list(tmp_path.iterdir()) == []
