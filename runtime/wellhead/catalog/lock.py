"""The lock file: which release every connection gets, down to the digest of each image, for a review and for CI.

    connectors    namespace/name → version → what was signed of it, for every platform
    connections   tenant/project/name → what its file asks for, and what that comes to

Pure: what the database and the store say comes from the caller.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from wellhead import documents
from wellhead.catalog import pinned
from wellhead.catalog.pinned import IndexDigest, PinnedRelease, Section
from wellhead.errors import Code, ConfigurationError, Place
from wellhead.ids import ConnectorId

NO_LOCK = Code("WH-CAT-112", "There is no lock file.")

_HEADER = "# Written by `wellhead lock`; `wellhead lock --check` says what is no longer so.\n"


class LockedConnection(Section):
    """One connection."""

    connector: str = Field(description="namespace/name.")
    constraint: str = Field(description="`version` of its file.")
    channel: str = Field(description="`channel` of its file.")
    version: str = Field(description="What it gets.")
    digest: IndexDigest = Field(description="Of that release's index.")


class Lock(Section):
    """The file ``wellhead.lock``."""

    version: Literal[1] = Field(description="Raised when a field means something else.")
    generated_by: str = Field(description="Program that wrote it; not compared.")
    connectors: dict[str, dict[str, PinnedRelease]] = Field(description="Connector → version → release.")
    connections: dict[str, LockedConnection] = Field(description="Connection → what it gets.")

    @model_validator(mode="after")
    def _whole(self) -> Self:
        had = {(name, version) for name, releases in self.connectors.items() for version in releases}
        for key, one in self.connections.items():
            if (one.connector, one.version) not in had:
                raise ValueError(f"connection {key} has {one.connector} {one.version}, which connectors does not list")
            if self.connectors[one.connector][one.version].digest != one.digest:
                raise ValueError(f"connection {key} has another digest than connectors lists for {one.version}")
        unused = had - {(one.connector, one.version) for one in self.connections.values()}
        for name, version in sorted(unused):
            raise ValueError(f"connectors lists {name} {version}, which no connection has")
        return self


@dataclass(frozen=True, slots=True, order=True)
class Name:
    """Which release."""

    connector: ConnectorId
    version: str

    def __str__(self) -> str:
        return f"{self.connector} {self.version}"


@dataclass(frozen=True, slots=True)
class Absent:
    """Something that should be there and is not, or not as it was signed; ``mend`` says what to do."""

    why: str
    mend: str


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not as it should be."""

    what: str
    mend: str

    def __str__(self) -> str:
        return f"{self.what}: {self.mend}"


@dataclass(frozen=True, slots=True)
class Now:
    """What is so at this moment; ``registered`` and ``stored`` have every release of the lock and of ``chosen``."""

    chosen: Mapping[str, LockedConnection | Absent]
    registered: Mapping[Name, PinnedRelease | Absent]
    """What the database says; it does not know whose signature counts, and repeats what is stored."""
    stored: Mapping[Name, PinnedRelease | Absent]


def names(lock: Lock) -> set[Name]:
    """Return the releases a lock lists."""
    return {Name(ConnectorId(name), version) for name, found in lock.connectors.items() for version in found}


def read(file: Path) -> Lock:
    """Read a lock file.

    Raises:
        ConfigurationError: there is none (WH-CAT-112), or it is not a valid one (WH-DOC-…), as when it contradicts
            itself or has a digest of a scheme this program does not know.
    """
    if not file.exists():
        raise ConfigurationError(
            f"there is no {file}", code=NO_LOCK, hint="`wellhead lock` writes it", place=Place(str(file))
        )
    return documents.validate(Lock, documents.read(file))


def render(lock: Lock) -> bytes:
    """Return the file's bytes: the same for an equal lock, whatever order its parts came in."""
    document = lock.model_dump(mode="json")
    for part in ("connectors", "connections"):
        document[part] = dict(sorted(document[part].items()))
    for name, found in document["connectors"].items():
        document["connectors"][name] = dict(sorted(found.items()))
        for release in found.values():
            release["platforms"] = dict(sorted(release["platforms"].items()))
    return pinned.rendered(_HEADER, document)


def differences(now: Now, lock: Lock | None) -> tuple[Difference, ...]:
    """Return everything that keeps lock, database and store from agreeing, connections first.

    Args:
        now: what is so.
        lock: what should be so; None where it is only about to be written.
    """
    return (*_of_connections(now, lock), *_of_releases(now, lock))


def _of_connections(now: Now, lock: Lock | None) -> Iterator[Difference]:
    should = {} if lock is None else lock.connections
    for key in sorted({*now.chosen, *should}):
        what, chosen, known = f"connection {key}", now.chosen.get(key), should.get(key)
        if chosen is None:
            yield Difference(f"{what} is locked, and no enabled connection has that name", _LOCK_AGAIN)
        elif isinstance(chosen, Absent):
            yield Difference(f"{what} gets no release: {chosen.why}", chosen.mend)
        elif lock is not None and known is None:
            yield Difference(f"{what} is not locked", _LOCK_AGAIN)
        elif known is not None:
            yield from _of_connection(key, chosen, known)


def _of_connection(key: str, chosen: LockedConnection, known: LockedConnection) -> Iterator[Difference]:
    what = f"connection {key}"
    for field in ("connector", "constraint", "channel"):
        was, is_now = getattr(known, field), getattr(chosen, field)
        if was != is_now:
            yield Difference(f"{what} is locked with {field} {was}, and its file says {is_now}", _LOCK_AGAIN)
    if known.version != chosen.version:
        yield Difference(
            f"{what} is locked to {known.version}, and would get {chosen.version}",
            f"`wellhead explain {key.rpartition('/')[2]}` says why; `wellhead lock` if that is meant, else "
            f"halt {chosen.version} in its channel, or hold the connection",
        )


def _of_releases(now: Now, lock: Lock | None) -> Iterator[Difference]:
    listed = set() if lock is None else names(lock)
    for name in sorted(now.stored):
        said = {"the database": now.registered[name], "the store": now.stored[name]}
        for found in said.values():
            if isinstance(found, Absent):
                yield Difference(f"{name}: {found.why}", found.mend)
        present = {where: found for where, found in said.items() if isinstance(found, PinnedRelease)}
        if lock is not None and name in listed:
            present = {"the lock": lock.connectors[name.connector][name.version], **present}
        for fact, values in pinned.parted(present).items():
            told = ", ".join(f"{value} in {where}" for where, value in values.items())
            yield Difference(f"{name}: its {fact} is {told}", _mend(values))


_LOCK_AGAIN = "`wellhead lock` if that is meant"


def _mend(values: Mapping[str, str]) -> str:
    if len({value for where, value in values.items() if where != "the lock"}) > 1:
        return "a release never changes: find out who can write to the database and the store"
    return "`wellhead lock` if that is meant, else find out who can write to the lock file"
