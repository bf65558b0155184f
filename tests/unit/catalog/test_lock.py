"""Locks as values: what is told apart, what is written, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from wellhead.catalog import lock as locks
from wellhead.catalog import pinned
from wellhead.catalog.lock import Absent, Lock, LockedConnection, Name, Now
from wellhead.catalog.pinned import PinnedRelease
from wellhead.documents import parse, validate
from wellhead.errors import ConfigurationError
from wellhead.ids import ConnectorId, Digest
from wellhead.images.oci import ImageDigests
from wellhead.manifest.model import State

NAME = Name(ConnectorId("dev/tiny"), "1.0.0")
KEY = "default/default/flights"


def digest(number: int) -> Digest:
    return Digest(f"sha256:{number:064}")


def release(number: int = 0, signed_by: tuple[str, ...] = ("a",), **platforms: int) -> PinnedRelease:
    images = {
        f"linux/{name}": ImageDigests(digest(at), digest(at + 1)) for name, at in (platforms or {"amd64": 10}).items()
    }
    return pinned.pinned(digest(number), images, "0" * 64, signed_by, State())


def connection(**changed: Any) -> LockedConnection:
    said = {"connector": "dev/tiny", "constraint": "^1", "channel": "stable", "version": "1.0.0"}
    return LockedConnection.model_validate({**said, "digest": release().digest, **changed})


def lock(connections: dict[str, LockedConnection] | None = None, *releases: PinnedRelease) -> Lock:
    [found] = releases or (release(),)
    named = {"dev/tiny": {"1.0.0": found}}
    return Lock(version=1, generated_by="x", connectors=named, connections=connections or {KEY: connection()})


def now(
    chosen: LockedConnection | Absent | None = None,
    registered: PinnedRelease | Absent | None = None,
    stored: PinnedRelease | Absent | None = None,
) -> Now:
    return Now({KEY: chosen or connection()}, {NAME: registered or release()}, {NAME: stored or release()})


def told(found: Now, against: Lock | None) -> list[str]:
    return [difference.what for difference in locks.differences(found, against)]


def test_what_agrees_has_no_differences() -> None:
    assert told(now(), lock()) == []
    assert told(now(), None) == []


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (
            now(connection(constraint="~1")),
            ["connection default/default/flights is locked with constraint ^1, and its"],
        ),
        (now(connection(channel="candidate")), ["connection default/default/flights is locked with channel stable, "]),
        (now(Absent("nobody knows", "ask")), ["connection default/default/flights gets no release: nobody knows"]),
        (now(registered=Absent("not there", "ask")), ["dev/tiny 1.0.0: not there"]),
        (now(stored=Absent("not there", "ask")), ["dev/tiny 1.0.0: not there"]),
        (now(registered=release(1)), ["dev/tiny 1.0.0: its digest is "]),
        (now(stored=release(signed_by=("a", "b"))), ["dev/tiny 1.0.0: its list of signers is a in the lock, a in the"]),
        (
            now(stored=release(arm64=20, amd64=10)),
            ["dev/tiny 1.0.0: its image id for linux/arm64 is ", "dev/tiny 1.0.0: its image manifest for linux/arm64 "],
        ),
    ],
)
def test_each_difference_is_told_by_what_it_is_of(found: Now, words: list[str]) -> None:
    differences = told(found, lock())
    assert [text[: len(word)] for text, word in zip(differences, words, strict=True)] == words


def test_before_a_lock_is_written_only_database_and_store_are_compared() -> None:
    assert told(now(connection(constraint="~1")), None) == []
    (difference,) = locks.differences(now(stored=release(1)), None)
    assert difference.mend == "a release never changes: find out who can write to the database and the store"


def test_where_only_the_lock_differs_it_is_the_lock_that_is_suspected() -> None:
    other = lock({KEY: connection(digest=release(1).digest)}, release(1))
    (difference,) = locks.differences(now(), other)
    assert difference.mend == "`wellhead lock` if that is meant, else find out who can write to the lock file"


def test_a_lock_is_read_as_it_was_written_whatever_order_its_parts_came_in(tmp_path: Path) -> None:
    names = ("default/default/a", "default/default/b")
    one = lock({name: connection() for name in names}, release(amd64=10, arm64=20))
    other = lock({name: connection() for name in reversed(names)}, release(arm64=20, amd64=10))
    assert locks.render(one) == locks.render(other)
    (tmp_path / "wellhead.lock").write_bytes(locks.render(one))
    assert locks.read(tmp_path / "wellhead.lock") == one
    assert locks.names(one) == {NAME}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"oci-config:{digest(0)}", "is of the config of one platform's image, and here stands that of the index"),
        (f"md5:{digest(0)}", "has the unknown scheme 'md5'; known are oci-index: (the index of a release), "),
        (digest(0), "has the unknown scheme 'sha256'"),
        ("oci-index:sha256:12", "is not oci-index:sha256: and 64 hex digits"),
    ],
)
def test_a_digest_of_something_else_is_refused(text: str, words: str) -> None:
    document = locks.render(lock()).decode().replace(release().digest, text)
    with pytest.raises(ConfigurationError) as caught:
        validate(Lock, parse(document.encode(), "wellhead.lock"))
    assert words in "\n".join((caught.value.message, *caught.value.details))
    assert caught.value.place is not None
    assert caught.value.place.line is not None


@pytest.mark.parametrize(
    ("connections", "words"),
    [
        ({KEY: connection(version="2.0.0")}, "has dev/tiny 2.0.0, which connectors does not list"),
        ({KEY: connection(digest=release(1).digest)}, "has another digest than connectors lists for 1.0.0"),
    ],
)
def test_a_lock_that_contradicts_itself_is_refused(connections: dict[str, LockedConnection], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        lock(connections)
