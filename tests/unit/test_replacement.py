"""Files that people read, given other content where they really are."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from wellhead import connections, replacement
from wellhead.catalog import keys, pinned, trust
from wellhead.errors import ConfigurationError

CODE = connections.UNWRITABLE


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """A file that a project has as a link, by way of another link."""
    (tmp_path / "shared").mkdir()
    (tmp_path / "project").mkdir()
    file = tmp_path / "shared" / "file.yaml"
    file.write_text("before")
    (tmp_path / "shared" / "current.yaml").symlink_to("file.yaml")
    (tmp_path / "project" / "file.yaml").symlink_to("../shared/current.yaml")
    return file


@pytest.fixture
def link(shared: Path) -> Path:
    """The link in the project."""
    return shared.parents[1] / "project" / "file.yaml"


def listed(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


def test_what_a_link_leads_to_is_replaced_and_the_link_stays(shared: Path, link: Path) -> None:
    before = listed(link.parents[1])
    replacement.write(link, b"after", CODE)
    assert (shared.read_bytes(), link.is_symlink(), shared.is_symlink()) == (b"after", True, False)
    assert (shared.parent / "current.yaml").is_symlink()
    assert listed(link.parents[1]) == before


def test_a_link_to_nothing_gets_its_target(shared: Path, link: Path) -> None:
    shared.unlink()
    replacement.write(link, b"after", CODE)
    assert (shared.read_bytes(), link.is_symlink()) == (b"after", True)


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664])
def test_the_mode_stays(shared: Path, link: Path, mode: int) -> None:
    shared.chmod(mode)
    replacement.write(link, b"after", CODE)
    assert shared.stat().st_mode & 0o7777 == mode


def test_a_new_file_can_be_read_by_others(tmp_path: Path) -> None:
    replacement.write(tmp_path / "new", b"x", CODE)
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o644


def test_what_could_not_be_written_is_as_it_was(shared: Path, link: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = listed(link.parents[1])
    monkeypatch.setattr("os.fsync", _full)
    with pytest.raises(ConfigurationError, match="No space"):
        replacement.write(link, b"after", CODE)
    assert (shared.read_text(), listed(link.parents[1])) == ("before", before)


def _full(*_: object) -> None:
    raise OSError(28, "No space left on device")


def test_what_is_no_file_is_never_replaced(shared: Path, link: Path) -> None:
    shared.unlink()
    os.mkfifo(shared)
    before = listed(link.parents[1])
    with pytest.raises(ConfigurationError, match="it is no regular file"):
        replacement.write(link, b"after", CODE)
    assert shared.is_fifo()
    assert listed(link.parents[1]) == before


def test_a_key_that_is_revoked_by_way_of_a_link_is_revoked_for_all_who_share_the_file(shared: Path, link: Path) -> None:
    key = keys.new_pair(link.parent / "keys", "dev").public
    shared.unlink()
    trust.add(link, "dev", key, "")
    trust.revoke(link, key.id, None)
    assert link.is_symlink()
    assert trust.load(shared).rules["dev"].signers[0].revoked_from is not None


@pytest.mark.parametrize(
    "written",
    [
        lambda file: connections.replace(file, "after"),
        lambda file: pinned.write(file, b"after"),
    ],
)
def test_a_connection_and_a_lock_that_are_links_stay_links(
    shared: Path, link: Path, written: Callable[[Path], None]
) -> None:
    written(link)
    assert (shared.read_text(), link.is_symlink()) == ("after", True)


@pytest.mark.parametrize(
    ("written", "code"),
    [
        (lambda file: connections.replace(file, "after"), "WH-CFG-012"),
        (lambda file: pinned.write(file, b"after"), "WH-CAT-113"),
        (lambda file: trust.revoke(file, keys.KeyId("ed25519:0"), None), "WH-CAT-013"),
    ],
)
def test_a_file_whose_folder_is_gone_is_told_to_be_unwritable(
    shared: Path, link: Path, written: Callable[[Path], None], code: str
) -> None:
    shared.unlink()
    (shared.parent / "current.yaml").unlink()
    shared.parent.rmdir()
    with pytest.raises(ConfigurationError) as caught:
        written(link)
    assert caught.value.code.name == code


def test_where_folders_cannot_be_locked_files_are_changed_all_the_same(
    shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EBADF, "Bad file descriptor")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with replacement.exclusive(shared, CODE):
        replacement.write(shared, b"after", CODE)
    assert shared.read_bytes() == b"after"


def test_a_folder_whose_lock_fails_is_told(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(fcntl, "flock", fail)
    with pytest.raises(ConfigurationError, match="Input/output error") as caught, replacement.exclusive(shared, CODE):
        raise AssertionError("it was taken")
    assert caught.value.code == CODE
