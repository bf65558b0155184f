"""Folders for sockets: whose they may be and how long their names."""

from __future__ import annotations

from pathlib import Path

import pytest

from wellhead.engine import folders
from wellhead.engine.container import Labels
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
