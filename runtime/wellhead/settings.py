"""wellhead.yaml: what the operator of a host decides, read once at start and frozen.

Order of precedence: defaults < wellhead.yaml < environment (``WELLHEAD__A__B``) < flags. A connection's file can never
set any of this: mapped hosts, private grants and mountable folders belong to the operator alone.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Network
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from wellhead import addresses, documents
from wellhead.errors import Code, ConfigurationError, Place

NO_PROJECT = Code("WH-CFG-001", "No wellhead.yaml was found.")
MISSING_VARIABLE = Code("WH-CFG-002", "A ${VARIABLE} is not set.")

FILE_NAME = "wellhead.yaml"
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")


class Section(BaseModel):
    """A part of the settings: frozen, and refusing keys it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class RegistrySettings(Section):
    """Where the registry lives."""

    url: str = Field(
        "sqlite:///.wellhead/registry.db",
        description="sqlite:///PATH (relative to the project) or postgresql://USER@HOST:PORT/DATABASE.",
    )
    password_file: Path | None = Field(None, description="File with the database password, mode 0600.")


class RemoteSettings(Section):
    """An OCI registry, and who we are to it."""

    registry: str | None = Field(None, description="https://HOST[:PORT][/PREFIX]; http only for loopback.")
    username: str | None = Field(None, description="Account; anonymous where none is given.")
    password_file: Path | None = Field(None, description="File with the account's password or token, mode 0600.")
    ca_file: Path | None = Field(None, description="CA bundle that signed the registry's certificate.")

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.username is None) != (self.password_file is None):
            raise ValueError("username and password_file belong together")
        if self.registry is None and (self.username is not None or self.ca_file is not None):
            raise ValueError("username, password_file and ca_file need a registry")
        return self


class StoreSettings(RemoteSettings):
    """Where published releases are kept."""

    path: Path = Field(
        Path(".wellhead/store"),
        description="OCI layout folder; with a registry, the copy that runs read, so that none of them needs it.",
    )


class MirrorSettings(RemoteSettings):
    """Another store that `wellhead mirror` copies from or to, by its name."""

    path: Path | None = Field(None, description="OCI layout folder.")

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.path is None) == (self.registry is None):
            raise ValueError("give exactly one of path and registry")
        return self


class BuildSettings(Section):
    """What releases made here say of their making."""

    builder: str = Field(
        "urn:wellhead:builder:local",
        min_length=1,
        description="Who the provenance names, such as https://ci.example.com/releases; trust.yaml may ask for it.",
    )


class DockerSettings(Section):
    """How to reach the Docker Engine."""

    host: str | None = Field(None, description="Engine address; default DOCKER_HOST or the local socket.")
    runtime: str | None = Field(None, description="OCI runtime for connectors, such as runsc.")


class AppRole(Section):
    """Login with a role id and a secret id that `wellhead vault login` stored."""

    role_id: str = Field(description="The role's id; not a secret.")
    secret_id_file: Path = Field(Path(".wellhead/vault-secret-id"), description="File with the secret id, mode 0600.")
    mount: str = Field("approle", description="Where the auth method is mounted.")


class VaultSettings(Section):
    """How to reach Vault or OpenBao."""

    address: str = Field(description="https://HOST:PORT; http only for loopback.")
    namespace: str | None = Field(None, description="Vault namespace.")
    ca_file: Path | None = Field(None, description="CA bundle that signed the server's certificate.")
    token_file: Path | None = Field(None, description="File with the host's own token, mode 0600.")
    approle: AppRole | None = Field(None, description="Login by AppRole.")
    token_role: str = Field("wellhead-run", description="Token role that mints one token a run.")
    policy_prefix: str = Field("wellhead-", description="Prefix of the policy of one connection.")

    @field_validator("address")
    @classmethod
    def _reachable(cls, address: str) -> str:
        parts = addresses.split(address)
        if parts is None:
            raise ValueError("must be https://HOST:PORT, the port from 1 to 65535")
        if "@" in parts.netloc:
            # The address stands in messages; whoever logs in is named by token_file or approle.
            raise ValueError("must be https://HOST:PORT, without a name or a password in it")
        return address

    @model_validator(mode="after")
    def _one_login(self) -> VaultSettings:
        if (self.token_file is None) == (self.approle is None):
            raise ValueError("give exactly one of token_file and approle")
        return self


class SecretsSettings(Section):
    """Which secret store serves references."""

    store: Literal["vault", "local"] = Field("vault", description="`local` reads env:// and file://, development only.")


class Grant(Section):
    """The operator's leave for one connection to reach a private range."""

    connection: str = Field(description="Connection name.")
    cidr: IPv4Network | IPv6Network = Field(description="Range, such as 10.1.2.3/32.")
    ports: tuple[int, ...] = Field(description="TCP ports.")


class NetworkSettings(Section):
    """The host's side of every fence."""

    outbound_subnet: IPv4Network = Field(IPv4Network("172.31.255.0/24"), description="Subnet of wellhead-out.")
    slots: IPv4Network = Field(IPv4Network("198.18.0.0/15"), description="Where one /24 a run comes from.")
    resolver: IPv4Address | None = Field(None, description="DNS server for gateways; default the host's own.")
    hosts: dict[str, IPv4Address] = Field(default_factory=dict, description="Names the resolver does not know.")
    grants: tuple[Grant, ...] = Field((), description="Private ranges connections may reach.")


class FilesSettings(Section):
    """The only folders a connection may have mounted."""

    roots: tuple[Path, ...] = Field((), description="Absolute folders, compared after symlinks are resolved.")

    @field_validator("roots")
    @classmethod
    def _absolute(cls, roots: tuple[Path, ...]) -> tuple[Path, ...]:
        for root in roots:
            if not root.is_absolute():
                raise ValueError(f"{root} is not an absolute path")
        return roots


class CommitSettings(Section):
    """When gathered rows are committed."""

    max_bytes: int = Field(64 * 1024 * 1024, ge=1, description="Payload bytes that force a commit.")
    max_s: float = Field(10.0, gt=0, description="Seconds that force a commit.")


class LeaseSettings(Section):
    """How long the right to run a connection outlives its last renewal."""

    ttl_s: float = Field(30.0, gt=0, description="Seconds until others may take over.")


class EgressSettings(Section):
    """What a denied connection does to a run."""

    on_denied: Literal["record", "fail"] = Field("record", description="`fail` ends the run with exit 76.")


class DeadLetterSettings(Section):
    """How many records a run may set aside, whichever bound is larger; both 0 allow none."""

    max_rows: int = Field(100, ge=0, description="Records per stream and run.")
    max_share: float = Field(0.01, ge=0, le=1, description="Share of the records per stream and run.")


class RunSettings(Section):
    """Deadlines and attempts of a run."""

    start_s: float = Field(20.0, gt=0, description="Until the connector's socket answers.")
    silence_s: float = Field(60.0, gt=0, description="Without a frame while it has credit.")
    total_s: float = Field(6 * 3600.0, gt=0, description="Until the whole run must have ended.")
    max_wait_s: float = Field(300.0, ge=0, description="Longest throttling to sit out before parking.")
    idle_attempts: int = Field(3, ge=1, description="Attempts without a committed row in between.")
    attempts: int = Field(10, ge=1, description="Attempts in all.")
    in_flight_bytes: int = Field(64 * 1024 * 1024, ge=1024 * 1024, description="Credit of a run.")
    unit_in_flight_bytes: int = Field(16 * 1024 * 1024, ge=1024 * 1024, description="Credit of a unit.")
    keep_generations: int = Field(1, ge=0, description="Old generations kept beside the table.")


class Settings(Section):
    """Everything in wellhead.yaml; relative paths are relative to its folder, ``root``."""

    root: Path = Field(Path("."), description="Folder of wellhead.yaml; set by the loader.")
    environment: Literal["development", "production"] = Field("production", description="Loosens nothing by itself.")
    tenant: str = Field("default", description="Tenant of connections that name none.")
    project: str = Field("default", description="Project of connections that name none.")
    connections: Path = Field(Path("connections"), description="Folder of connection files.")
    trust: Path = Field(Path("trust.yaml"), description="Namespaces and the keys that may sign for them.")
    policies: Path = Field(Path("manifests/policies"), description="Folder of policies; none there, none asked.")
    tenants: dict[str, dict[str, bool | int | str | tuple[str, ...]]] = Field(
        default_factory=dict, description="Tenant → labels that policies may ask about, such as {region: eu}."
    )
    registry: RegistrySettings = RegistrySettings()
    store: StoreSettings = StoreSettings()
    mirrors: dict[str, MirrorSettings] = Field(default_factory=dict, description="Stores `wellhead mirror` knows.")
    build: BuildSettings = BuildSettings()
    docker: DockerSettings = DockerSettings()
    vault: VaultSettings | None = Field(None, description="Needed by vault:// and vault-dyn:// references.")
    secrets: SecretsSettings = SecretsSettings()
    network: NetworkSettings = NetworkSettings()
    files: FilesSettings = FilesSettings()
    commit: CommitSettings = CommitSettings()
    lease: LeaseSettings = LeaseSettings()
    egress: EgressSettings = EgressSettings()
    dead_letters: DeadLetterSettings = DeadLetterSettings()
    run: RunSettings = RunSettings()

    def path(self, relative: Path) -> Path:
        """Return ``relative`` as seen from the project's folder."""
        return relative if relative.is_absolute() else self.root / relative

    def is_default(self, name: str) -> bool:
        """Say whether nobody has set ``name``: what a default names need not be there, what a person names must."""
        return name not in self.model_fields_set


def find(start: Path) -> Path:
    """Return the wellhead.yaml of ``start`` or of the nearest folder above it.

    Raises:
        ConfigurationError: WH-CFG-001, none of them has one.
    """
    for folder in (start, *start.parents):
        if (folder / FILE_NAME).is_file():
            return folder / FILE_NAME
    raise ConfigurationError(
        f"no {FILE_NAME} in {start} or any folder above it",
        code=NO_PROJECT,
        hint="run `wellhead init` here, or name the file with --config",
        place=Place(str(start)),
    )


def load(file: Path, environment: Mapping[str, str] = os.environ) -> Settings:
    """Read ``file``, substitute ``${VAR}``, lay the environment over it and validate.

    Raises:
        ConfigurationError: unreadable or invalid (WH-DOC-…), or a variable is missing (WH-CFG-002).
    """
    document = documents.read(file)
    data = substitute(document.data or {}, environment, document)
    said: dict[tuple[str | int, ...], str] = {}
    for name, text in environment.items():
        if name.startswith("WELLHEAD__"):
            for path in _lay_over(data, name.removeprefix("WELLHEAD__").lower().split("__"), text):
                said[path] = name
    if isinstance(data, dict):
        data["root"] = file.resolve().parent
    # Who mends wellhead.yaml because a variable is wrong looks for a mistake where there is none.
    return documents.validate(Settings, replace(document, variables=said), data)


def substitute(
    data: Any, environment: Mapping[str, str], document: documents.Document, path: tuple[str | int, ...] = ()
) -> Any:
    """Return ``data`` with each ``${VAR}`` and ``${VAR:-default}`` in its texts replaced.

    Raises:
        ConfigurationError: WH-CFG-002, naming the variable and its place.
    """
    match data:
        case dict():
            return {key: substitute(value, environment, document, (*path, key)) for key, value in data.items()}
        case list():
            return [substitute(value, environment, document, (*path, index)) for index, value in enumerate(data)]
        case str():

            def value(found: re.Match[str]) -> str:
                name, default = found.group(1), found.group(2)
                if name in environment:
                    return environment[name]
                if default is not None:
                    return default
                raise ConfigurationError(
                    f"the variable {name} is not set",
                    code=MISSING_VARIABLE,
                    hint=f"export {name}, or write ${{{name}:-default}}",
                    place=document.place(path),
                )

            return _VARIABLE.sub(value, data)
        case _:
            return data


def _lay_over(data: Any, keys: list[str], text: str) -> Iterator[tuple[str, ...]]:
    """Put a variable's text where its name says, and yield the paths that were not there before or are its own."""
    for depth, key in enumerate(keys[:-1], 1):
        if not isinstance(data, dict):
            return
        if key not in data:
            yield tuple(keys[:depth])
        data = data.setdefault(key, {})
    if isinstance(data, dict):
        data[keys[-1]] = text
        yield tuple(keys)
