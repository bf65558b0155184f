"""A connection's file: what people decided about one tenant's use of one connector.

What Wellhead decided (resolved digest, hold, approved surface) lives in the registry's ``tenant_connections``.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from wellhead import documents, replacement
from wellhead.errors import Code, ConfigurationError, Place
from wellhead.ids import ConnectionKey
from wellhead.settings import Settings, substitute

UNKNOWN = Code("WH-CFG-010", "There is no connection of that name.")
MISNAMED = Code("WH-CFG-011", "A connection's file is named differently from the connection.")
UNWRITABLE = Code("WH-CFG-012", "A connection's file cannot be written.")
BY_HAND = Code("WH-CFG-013", "A connection's file cannot be changed without changing what else it says.")

#: Where it may be said, up to its value, and the value.
_ENABLED = re.compile(r"""((["']?)\benabled\2\s*:\s*)(["']?)\w+\3""")
_BRACES = 16
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
#: What a channel may be called; one of another name would be on offer to nobody.
CHANNEL = r"[a-z][a-z0-9-]*"
OPERATORS = ("=", "!=", "<", "<=", ">", ">=", "in", "is_null")
FilterValue = bool | int | float | str


class StreamSelection(BaseModel):
    """One stream of the connection and how to read it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1, description="Name as the connector offers it.")
    mode: Literal["full_refresh", "incremental"] = Field("full_refresh", description="How to read.")
    write: Literal["replace", "append"] = Field("replace", description="What a full refresh does to the table.")
    cursor_field: str | None = Field(None, description="Column that tells new rows from old ones.")
    primary_key: tuple[str, ...] = Field((), description="Overrides the offered key.")
    columns: tuple[str, ...] = Field((), description="Wanted columns; empty means all.")
    filters: dict[str, dict[str, FilterValue | list[FilterValue]]] = Field(
        default_factory=dict, description="{column: {op: value}}, ANDed; op is one of = != < <= > >= in is_null."
    )
    batch_size: int = Field(10_000, ge=1, le=1_000_000, description="Rows asked of the source at a time.")
    since: datetime | None = Field(None, description="Lower bound while no state exists.")

    @field_validator("filters")
    @classmethod
    def _known_operators(cls, filters: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        for column, conditions in filters.items():
            for operator in conditions:
                if operator not in OPERATORS:
                    raise ValueError(f"{column}: {operator!r} is not one of {' '.join(OPERATORS)}")
                value = conditions[operator]
                if isinstance(value, list) != (operator == "in"):
                    raise ValueError(f"{column}: `in` takes a list of values, every other operator takes one value")
                if operator == "is_null" and not isinstance(value, bool):
                    raise ValueError(f"{column}: is_null takes true or false")
        return filters


class SinkSelection(BaseModel):
    """Where the rows go."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: Literal["parquet", "jsonl"] = Field("parquet", description="File format of Bronze.")
    path: Path = Field(Path("bronze"), description="Folder; relative to the project.")


class Limits(BaseModel):
    """Resources of the connector's container."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    memory_mib: int | None = Field(None, ge=64, description="Overrides resources.memory of the manifest.")
    cpus: float | None = Field(None, gt=0, description="Overrides resources.cpu of the manifest.")


class Connection(BaseModel):
    """The file ``connections/NAME.yaml``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(description="Unique within tenant and project; [a-z0-9][a-z0-9-]{0,62}.")
    tenant: str | None = Field(None, description="Default from wellhead.yaml.")
    project: str | None = Field(None, description="Default from wellhead.yaml.")
    connector: str = Field(pattern=r"^[a-z0-9-]+/[a-z0-9-]+$", description="namespace/name.")
    version: str = Field("*", description="Exact version or range: ^1, ~1.2, >=1.0 <2.")
    channel: str = Field("stable", pattern=rf"^{CHANNEL}$", description="Channel within which the range is met.")
    auto_update: Literal["none", "patch", "minor"] = Field(
        "minor", description="How far the version moves by itself within range and channel; a major one never does."
    )
    enabled: bool = Field(True, description="A disabled connection is skipped.")
    config_version: int = Field(1, ge=1, description="Version of the connector's config that `config` is written for.")
    config: dict[str, Any] = Field(default_factory=dict, description="As the connector's config schema asks.")
    secrets: dict[str, str] = Field(default_factory=dict, description="Slot → reference (vault://…, vault-dyn://…).")
    streams: tuple[StreamSelection, ...] = Field(min_length=1, description="What to read.")
    sink: SinkSelection = SinkSelection()
    profile: Path | None = Field(None, description="A reviewed profile document, relative to the project.")
    mounts: dict[str, Path] = Field(
        default_factory=dict, description="Name → folder under files.roots; appears read-only at /data/NAME."
    )
    limits: Limits = Limits()

    @field_validator("name")
    @classmethod
    def _name(cls, name: str) -> str:
        if NAME.fullmatch(name) is None:
            raise ValueError(f"{name!r} does not match {NAME.pattern}")
        return name


@dataclass(frozen=True, slots=True)
class ConnectionFile:
    """A connection, its key, and the hash of the file's bytes."""

    key: ConnectionKey
    connection: Connection
    file: Path
    sha256: str
    document: documents.Document


def key_of(settings: Settings, name: str) -> ConnectionKey:
    """Return the key of the connection called ``name``: from its file where it has one, else with the defaults.

    A connection whose file is gone still has runs, states and segments to look at.

    Raises:
        ConfigurationError: it has a file, and that is wrong, or the folder cannot be read (WH-DOC-…).
    """
    if _file_of(settings, name) is not None:
        return load(settings, name, os.environ).key
    return ConnectionKey(settings.tenant, settings.project, name)


def path_of(settings: Settings, name: str) -> Path:
    """Return where the connection called ``name`` has its file."""
    return settings.path(settings.connections) / f"{name}.yaml"


def _file_of(settings: Settings, name: str) -> Path | None:
    """Return the file of the connection called ``name``; None where the folder, which can be read, has none."""
    file = path_of(settings, name)
    try:
        if NAME.fullmatch(name) is not None and file.is_file():
            return file
    except OSError:
        # Asking for the folder's files says what is wrong with it; what it does list cannot be looked at alone.
        if file in _files(settings):
            return file
    # A folder that cannot be read does not say that there is no such file.
    _files(settings)
    return None


def _files(settings: Settings, *, must_be_there: bool = False) -> list[Path]:
    may_lack = settings.is_default("connections") and not must_be_there
    return documents.listed(settings.path(settings.connections), may_lack=may_lack)


def load(settings: Settings, name: str, environment: Mapping[str, str]) -> ConnectionFile:
    """Read one connection by name.

    Raises:
        ConfigurationError: there is none (WH-CFG-010), or its file is wrong.
    """
    file = _file_of(settings, name)
    if file is None:
        known = ", ".join(found.stem for found in _files(settings)) or "none"
        raise ConfigurationError(
            f"there is no connection {name!r} in {settings.path(settings.connections)}",
            code=UNKNOWN,
            hint=f"known connections: {known}; `wellhead connection add` makes a new one",
            place=Place(str(path_of(settings, name))),
        )
    document = documents.read(file)
    data = substitute(document.data or {}, environment, document)
    connection = documents.validate(Connection, document, data)
    if connection.name != name:
        raise ConfigurationError(
            f"{file} holds the connection {connection.name!r}",
            code=MISNAMED,
            hint=f"rename the file to {connection.name}.yaml or the connection to {name}",
            place=document.place(("name",)),
        )
    key = ConnectionKey(connection.tenant or settings.tenant, connection.project or settings.project, name)
    return ConnectionFile(key, connection, file, hashlib.sha256(document.content).hexdigest(), document)


def create(file: Path, text: str) -> bool:
    """Write the file of a new connection; return False, and leave it as it is, where there is one already.

    Raises:
        ConfigurationError: it cannot be written (WH-CFG-012).
    """
    with changing(file):
        is_new = not os.path.lexists(file)
        if is_new:
            replace(file, text)
    return is_new


def exchange(file: Path, before: str, after: str | None) -> bool:
    """Write other words where a file still has those, or remove it where ``after`` is None; return whether it had them.

    Raises:
        ConfigurationError: it cannot be written (WH-CFG-012).
    """
    with changing(file):
        is_same = file.is_file() and file.read_bytes() == before.encode()
        if is_same and after is None:
            file.unlink()
        elif is_same and after is not None:
            replace(file, after)
    return is_same


def set_enabled(settings: Settings, name: str, environment: Mapping[str, str], *, enabled: bool) -> None:
    """Say in a connection's file whether it is enabled; all else in it stays as its people wrote it.

    Raises:
        ConfigurationError: there is none (WH-CFG-010), it is wrong or cannot be written (WH-CFG-012), or it says it in
            a way that is not to be changed here (WH-CFG-013), such as by a variable.
    """
    with changing(load(settings, name, environment).file):
        # What another process has written meanwhile is not to be lost.
        found = load(settings, name, environment)
        if found.connection.enabled != enabled:
            replace(found.file, _saying(found.document, enabled))


def _saying(document: documents.Document, enabled: bool) -> str:
    wanted = {**document.data, "enabled": enabled}
    for made in _candidates(document, str(enabled).lower()):
        try:
            if documents.parse(made.encode(), document.file).data == wanted:
                return made
        except ConfigurationError:
            continue
    raise ConfigurationError(
        f"{document.file} is not of a form in which one word would say `enabled: {str(enabled).lower()}`",
        code=BY_HAND,
        hint=f"write `enabled: {str(enabled).lower()}` there by hand",
        place=document.place(("enabled",)),
    )


def _candidates(document: documents.Document, word: str) -> Iterator[str]:
    """Yield the file with each place changed where it may say so; only reading it again tells which one that is."""
    text = document.content.decode("utf-8-sig")
    if "enabled" in document.data:
        for found in _ENABLED.finditer(text):
            yield f"{text[: found.start()]}{found[1]}{word}{text[found.end() :]}"
        return
    end = "\r\n" if "\r\n" in text else "\n"
    yield f"{text}{'' if text.endswith(end) else end}enabled: {word}{end}"
    # Where the end is no place for it: before the first key, or in the first braces that are no comment's.
    lines = text.split("\n")
    first = min(document.lines.values(), default=1) - 1
    yield "\n".join([*lines[:first], f"enabled: {word}{end[:-1]}", *lines[first:]])
    for brace in list(re.finditer("{", text))[:_BRACES]:
        yield f'{text[: brace.end()]}"enabled": {word}, {text[brace.end() :]}'


def changing(file: Path) -> AbstractContextManager[None]:
    """Let one process at a time change a connection's file, as `replacement.exclusive` does (WH-CFG-012)."""
    return replacement.exclusive(file, UNWRITABLE)


def replace(file: Path, text: str) -> None:
    """Give a connection's file other words, as `replacement.write` does.

    Raises:
        ConfigurationError: it cannot be written (WH-CFG-012); it is as it was.
    """
    replacement.write(file, text.encode(), UNWRITABLE)


def load_all(
    settings: Settings, environment: Mapping[str, str], *, must_be_there: bool = False
) -> list[ConnectionFile]:
    """Read every connection of the project, by name; the first wrong file raises.

    Args:
        settings: say where the folder is.
        environment: what ``${VAR}`` stands for.
        must_be_there: the folder may not be missing, also where nobody named it: for what is deleted, moved or written
            over because of what no connection asks for.

    Raises:
        ConfigurationError: a file is wrong, or the folder is missing or cannot be read (WH-DOC-…). A new project need
            not have the folder that nobody named.
    """
    return [load(settings, file.stem, environment) for file in _files(settings, must_be_there=must_be_there)]
