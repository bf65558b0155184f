"""The catalog as files: what was released, and which releases each channel offers.

    channels.yaml                    connector → channel → versions on offer to everybody
    NAMESPACE/NAME/VERSION.yaml      one release: written when it is published, and never changed

A record is a claim under review, and nobody's word that its bytes are good: whoever applies it verifies the release
from the trusted key down. Rollouts to a share of the connections are an operator's work of hours and stand in no file.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, AwareDatetime, Field
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from semver import Version

from wellhead import documents, replacement
from wellhead.catalog import pinned
from wellhead.catalog.pinned import Fact, PinnedRelease, Section
from wellhead.catalog.verify import VerifiedRelease
from wellhead.documents import Document
from wellhead.errors import Code, ConfigurationError, Place, RefusedError
from wellhead.ids import ConnectorId, Digest
from wellhead.manifest.model import CONNECTOR_ID

OTHER_RECORD = Code("WH-CAT-120", "A release record says something else of a release.")
NO_RECORDS = Code("WH-CAT-121", "A folder holds no release records.")
MISPLACED = Code("WH-CAT-122", "A release record does not stand where its connector and version belong.")

CHANNELS = "channels.yaml"

_RECORD_HEADER = "# Written when the release was published. Records are added, and never changed.\n"
_CHANNELS_HEADER = """\
# Connector → channel → versions on offer to everybody. `wellhead publish --record` adds to it, people may, and
# `wellhead catalog sync` applies it.
format: 1
"""


def _release_version(text: str) -> str:
    if not Version.is_valid(text):
        raise ValueError(f"{text!r} is no semantic version")
    return text


ConnectorName = Annotated[str, Field(pattern=CONNECTOR_ID)]
ChannelName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*$")]
ReleaseVersion = Annotated[str, AfterValidator(_release_version)]


class Record(PinnedRelease):
    """One release, as it was when it was published."""

    format: Literal[1] = Field(description="Raised when a field means something else.")
    connector: ConnectorName = Field(description="namespace/name.")
    version: ReleaseVersion = Field(description="Its version.")
    released_at: AwareDatetime = Field(description="When it was published first.")


class Channels(Section):
    """The file ``channels.yaml``."""

    format: Literal[1] = Field(description="Raised when a field means something else.")
    channels: dict[ConnectorName, dict[ChannelName, tuple[ReleaseVersion, ...]]] = Field(
        default_factory=dict, description="Connector → channel → versions on offer to everybody."
    )


@dataclass(frozen=True, slots=True)
class Filed:
    """A record and the file it stands in."""

    record: Record
    document: Document


@dataclass(frozen=True, slots=True)
class Folder:
    """What a folder holds; ``document`` is that of channels.yaml, and None where there is none."""

    records: tuple[Filed, ...]
    channels: Channels
    document: Document | None


def of(release: VerifiedRelease, released_at: datetime) -> Record:
    """Return the record of a release that was verified."""
    return Record(
        **dict(pinned.of(release)),
        format=1,
        connector=release.connector,
        version=release.version,
        released_at=released_at,
    )


def path(folder: Path, connector: str, version: str) -> Path:
    """Return where a release's record stands."""
    return folder / connector / f"{version}.yaml"


def require_same_digest(folder: Path, connector: ConnectorId, version: str, digest: Digest) -> None:
    """Refuse bytes whose version a record gives to others; the digest of an index covers all the rest.

    Raises:
        RefusedError: it does (WH-CAT-120).
        ConfigurationError: the record is no valid one (WH-DOC-…, WH-CAT-122).
    """
    file = path(folder, connector, version)
    if not file.exists():
        return
    known = _read(folder, file)
    if pinned.bare(known.record.digest) != digest:
        told = {"record": known.record.digest, "release": pinned.prefixed(pinned.INDEX, digest)}
        raise _other(known, pinned.DIGEST, told)


def add(folder: Path, record: Record) -> bool:
    """Write a record, and say whether it is new; one that says the same stays as it is, with its own date.

    Raises:
        RefusedError: one is there that says something else (WH-CAT-120).
        ConfigurationError: the one that is there is no valid one, or the file cannot be written (WH-CAT-113).
    """
    file = path(folder, record.connector, record.version)
    with _changing(file):
        if file.exists():
            known = _read(folder, file)
            for fact, told in pinned.parted({"record": known.record, "release": record}).items():
                raise _other(known, fact, told)
            return False
        pinned.write(file, render(record))
    return True


def render(record: Record) -> bytes:
    """Return the bytes of a record's file, the same for an equal record."""
    document = record.model_dump(mode="json")
    document["platforms"] = dict(sorted(document["platforms"].items()))
    first = ("format", "connector", "version", "released_at")
    return pinned.rendered(_RECORD_HEADER, {name: document.pop(name) for name in first} | document)


def offer(folder: Path, connector: str, channel: str, version: str) -> bool:
    """Add a version to a channel in channels.yaml and say whether it was missing; people's comments stay.

    Raises:
        ConfigurationError: the file is no valid one (WH-DOC-…), or cannot be written (WH-CAT-113).
    """
    file = folder / CHANNELS
    with _changing(file):
        text = file.read_text("utf-8") if file.exists() else _CHANNELS_HEADER
        known = documents.validate(Channels, documents.parse(text.encode(), str(file)))
        listed = known.channels.get(connector, {}).get(channel, ())
        if version in listed:
            return False
        pinned.write(file, _offering(text, connector, channel, version, listed))
    return True


def _offering(text: str, connector: str, channel: str, version: str, listed: Sequence[str]) -> bytes:
    yaml = YAML(typ="rt", pure=True)
    yaml.width = 4096
    tree = yaml.load(text)
    named = tree.setdefault("channels", CommentedMap()).setdefault(connector, CommentedMap())
    if channel not in named:
        named[channel] = CommentedSeq()
        named[channel].fa.set_flow_style()
    # After the last that is lower: what is there keeps the order people gave it.
    lower = [number for number, other in enumerate(listed) if Version.parse(other) < Version.parse(version)]
    named[channel].insert(lower[-1] + 1 if lower else 0, version)
    out = io.StringIO()
    yaml.dump(tree, out)
    return out.getvalue().encode()


def read(folder: Path) -> Folder:
    """Read every record of a folder, and its channels.

    Raises:
        ConfigurationError: there is neither (WH-CAT-121), a file is no valid one (WH-DOC-…), or a record stands in
            another place than its own (WH-CAT-122).
    """
    file = folder / CHANNELS
    found = tuple(_read(folder, each) for each in sorted(folder.glob("*/*/*.yaml")))
    if not file.exists() and not found:
        raise ConfigurationError(
            f"{folder} holds neither {CHANNELS} nor release records",
            code=NO_RECORDS,
            hint="name the folder that `wellhead publish --record` wrote to",
            place=Place(str(folder)),
        )
    if not file.exists():
        return Folder(found, Channels(format=1), None)
    document = documents.read(file)
    return Folder(found, documents.validate(Channels, document), document)


@contextmanager
def _changing(file: Path) -> Iterator[None]:
    """Make the folder of a file, and let one process at a time change the file (WH-CAT-113)."""
    # Where it cannot be made it cannot be locked either, and that is told with the file's name.
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
    with replacement.exclusive(file, pinned.UNWRITABLE):
        yield


def _read(folder: Path, file: Path) -> Filed:
    document = documents.read(file)
    record = documents.validate(Record, document)
    if file != path(folder, record.connector, record.version):
        own = path(Path(), record.connector, record.version)
        field = "connector" if file.parent != folder / record.connector else "version"
        raise ConfigurationError(
            f"{file} is the record of {record.connector} {record.version}, which belongs into {own}",
            code=MISPLACED,
            hint="move it back, or restore it from the history: records are added, and never changed",
            place=document.place((field,)),
        )
    return Filed(record, document)


def _other(known: Filed, fact: Fact, told: Mapping[str, str]) -> RefusedError:
    record = known.record
    return RefusedError(
        f"the record of {record.connector} {record.version} says its {fact} is {told['record']}, and now it is "
        f"{told['release']}",
        code=OTHER_RECORD,
        hint="records are added, and never changed: give other bytes a new version; sign again without --record",
        place=known.document.place(fact.field),
    )
