"""What a manifest may say: one frozen model per section of ``manifest.yaml``.

Strict (invariant 16): a key that is not here is refused, so that a typing mistake never becomes a silent default. Keys
that start with ``x-`` are the author's own and are left alone. Whether the sections agree with each other is for
`lint` to say.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import semver
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from wellhead.manifest import patterns

Text = Annotated[str, Field(min_length=1, max_length=2000)]
Slug = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
#: A parameter of a config, with dots into objects.
Parameter = Annotated[str, Field(pattern=r"^[^.\s]+(\.[^.\s]+)*$")]
Classification = Literal["public", "internal", "confidential", "restricted"]
#: Lowest first; a stream's may not stand after its connector's.
CLASSIFICATIONS: tuple[Classification, ...] = ("public", "internal", "confidential", "restricted")
SyncMode = Literal["full_refresh", "incremental", "cdc"]
LoginType = Literal[
    "none",
    "basic",
    "api_key",
    "bearer",
    "password",
    "oauth2_client_credentials",
    "oauth2_refresh_token",
    "saml_assertion",
    "certificate",
]
Pagination = Literal["cursor", "offset", "page", "time_window", "none"]

#: What `images.naming` takes as well: a registry refuses a dash at the end.
CONNECTOR_ID = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?/[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"


def _version(text: str) -> str:
    try:
        parsed = semver.Version.parse(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a semantic version such as 1.4.2") from None
    if parsed.build is not None:
        raise ValueError(f"{text!r} has build metadata, which an image tag cannot carry")
    return text


Version = Annotated[str, AfterValidator(_version)]


class Section(BaseModel):
    """A part of the manifest: frozen, refusing unknown keys, ignoring ``x-`` ones."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", json_schema_extra={"patternProperties": {"^x-": True}}, populate_by_name=True
    )

    @model_validator(mode="before")
    @classmethod
    def _without_extensions(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        return {key: value for key, value in data.items() if not str(key).startswith("x-")}


class Publisher(Section):
    """Who answers for the connector."""

    name: Text = Field(description="Name of the team or company.")
    url: str | None = Field(None, description="Home page.")
    contact: str | None = Field(None, description="Mail address or channel.")


class Metadata(Section):
    """Who this connector is."""

    id: str = Field(pattern=CONNECTOR_ID, description="namespace/name; never used again for something else.")
    version: Version = Field(description="Semantic version without build metadata.")
    title: Text = Field(description="Name people see.")
    summary: str = Field("", max_length=2000, description="What it reads, in a sentence.")
    publisher: Publisher = Field(description="Who answers for it.")
    license: Text = Field(description="SPDX expression.")
    links: dict[str, str] = Field(default_factory=dict, description="documentation, source, changelog …")
    icon: str | None = Field(None, description="File beside the manifest.")


class Taxonomy(Section):
    """What kind of thing it reads, and how."""

    type: Literal["http", "database", "queue", "file", "webhook"] = Field(description="Decides the rules of `lint`.")
    category: Slug = Field(description="Such as crm, analytics, database, storage.")
    vendor: str = Field("", description="Who makes the source.")
    product: Text = Field(description="The source.")
    method: Slug = Field(description="How it is read: rest, bulk, sql, files … One artifact per method.")
    tags: tuple[Slug, ...] = Field((), description="For searching.")


class Protocol(Section):
    """Protocol versions the connector speaks."""

    min: int = Field(1, ge=1, description="Lowest version.")
    max: int = Field(1, ge=1, description="Highest version.")

    @model_validator(mode="after")
    def _ordered(self) -> Protocol:
        if self.max < self.min:
            raise ValueError(f"max {self.max} is below min {self.min}")
        return self


class Runners(Section):
    """Where it may run."""

    docker: bool = Field(True, description="As a container of a Docker Engine.")
    kubernetes: bool = Field(False, description="As a pod.")
    process: bool = Field(False, description="As a process of the host; development only.")


class Sandbox(Section):
    """What the container may look like inside; the host allows no more than this in any case."""

    tmp_mib: int = Field(64, ge=1, le=4096, description="Size of /tmp, in memory.")
    gvisor: bool = Field(True, description="Works under gVisor.")


class Timeouts(Section):
    """Deadlines that differ from the host's; the host's own are upper bounds."""

    start_s: float | None = Field(None, gt=0, description="Until the socket answers.")
    silence_s: float | None = Field(None, gt=0, description="Without a frame while it has credit.")
    total_s: float | None = Field(None, gt=0, description="Until a run must have ended.")
    stop_grace_s: float = Field(10.0, gt=0, le=300, description="From SIGTERM to SIGKILL.")


class Runtime(Section):
    """How it is started and where."""

    protocol: Protocol = Protocol()
    host: str = Field("*", description="Range of Wellhead versions, such as >=0.1 <1.")
    entrypoint: tuple[Text, ...] = Field(min_length=1, description="Program and arguments; no shell.")
    platforms: tuple[Literal["linux/amd64", "linux/arm64"], ...] = Field(
        ("linux/amd64",), min_length=1, description="Platforms it may be built for."
    )
    runners: Runners = Runners()
    sandbox: Sandbox = Sandbox()
    timeouts: Timeouts = Timeouts()


class Checkpoints(Section):
    """How finely reading can be resumed."""

    granularity: Literal["record", "page", "batch", "unit", "stream"] = Field("page", description="What one covers.")
    resumable: bool = Field(True, description="A fresh process can go on from one.")


class Capabilities(Section):
    """What it can do; the host asks for nothing else."""

    sync_modes: tuple[SyncMode, ...] = Field(min_length=1, description="Modes any stream supports.")
    direction: Literal["source", "export", "bidirectional"] = Field("source", description="Which way data flows.")
    pagination: tuple[Pagination, ...] = Field((), description="Modes it uses.")
    discover: Literal["static", "dynamic"] = Field("dynamic", description="Streams known beforehand, or found.")
    deletes: Literal["none", "soft", "hard"] = Field("none", description="How deletions at the source show.")
    checkpoint: Checkpoints = Checkpoints()
    replay: Literal["position", "redelivery", "none"] = Field("position", description="What can be read again.")
    ack: Literal["batch", "each"] = Field("batch", description="`each` commits at every offered checkpoint.")
    parallel_units: int = Field(1, ge=1, le=64, description="Units it reads at the same time.")
    stateless: Literal[True] = Field(True, description="Keeps nothing on disk; checked, not believed.")
    idempotent_reads: bool = Field(True, description="Reading from one state twice gives the same.")


class Egress(Section):
    """One way out of the container."""

    host: Text = Field(description="DNS name; ${config.x} and ${config.x#host} are filled in; `*.` as leftmost label.")
    port: int | str = Field(443, description="TCP port, or ${config.x} or ${config.x#port}.")
    protocol: Slug = Field("https", description="https, postgresql … ; for people, and `https` asks for TLS.")
    tls: Literal["required", "optional", "none"] = Field("required", description="`required` checks the SNI.")
    open: Literal["manifest", "operator"] = Field(
        "manifest", description="`operator`: closed until an operator approves the rendered host:port."
    )
    private: bool | None = Field(None, description="May be private with an operator's grant; default private_networks.")
    purpose: str = Field("data", description="Why.")
    required: bool = Field(True, description="Without it nothing works; an optional one may render to nothing.")

    @field_validator("port")
    @classmethod
    def _port(cls, port: int | str) -> int | str:
        if isinstance(port, str) and re.fullmatch(r"\$\{config\.[A-Za-z0-9_.-]+(#port)?\}", port) is None:
            raise ValueError(f"{port!r} is neither a number nor ${{config.NAME}} nor ${{config.NAME#port}}")
        if isinstance(port, int) and not 1 <= port <= 65535:
            raise ValueError(f"{port} is not a TCP port")
        return port


class Variable(Section):
    """What a ``${config.x}`` in an egress entry may be: exactly one of an enum and a pattern."""

    enum: tuple[str, ...] = Field((), description="Every value.")
    pattern: str | None = Field(None, description="Regular expression of the whole value.")

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, pattern: str | None) -> str | None:
        return None if pattern is None else _regular_expression(pattern)

    @model_validator(mode="after")
    def _one(self) -> Variable:
        if bool(self.enum) == (self.pattern is not None):
            raise ValueError("give exactly one of enum and pattern")
        return self


class Network(Section):
    """Everything it may reach; nothing listed means no network at all."""

    egress: tuple[Egress, ...] = Field((), description="The ways out.")
    variables: dict[str, Variable] = Field(default_factory=dict, description="Limits of ${config.x} in egress.")
    private_networks: Literal["never", "with_operator_grant"] = Field("never", description="Private addresses.")


class AuthMethod(Section):
    """One way to log in at the source."""

    id: Slug = Field(description="Name of the method.")
    type: LoginType = Field(description="Kind of login.")
    secrets: tuple[Slug, ...] = Field((), description="Slots it uses.")
    scopes: tuple[str, ...] = Field((), description="Scopes it asks for.")
    token_url: str | None = Field(None, description="Where tokens are fetched.")
    placement: dict[str, str] = Field(default_factory=dict, description="{in: header, name: …, format: …}.")
    deprecated: bool = Field(False, description="Still works, should not be chosen.")


class Auth(Section):
    """The ways to log in."""

    methods: tuple[AuthMethod, ...] = Field((), description="At least one where slots exist.")
    default: str | None = Field(None, description="Method a new connection gets.")


class Slot(Section):
    """One secret; the connection holds a reference, the run lends the value."""

    kind: Literal["identifier", "opaque", "password", "token", "private_key", "certificate"] = Field(
        "opaque", description="What it is."
    )
    sensitive: bool = Field(True, description="Struck from logs and errors; false for a user name and the like.")
    required: bool = Field(True, description="A connection must give it.")
    min_length: int = Field(0, ge=0, le=65536, description="Shorter values are refused.")
    redact_pattern: str | None = Field(
        None, description="What else of its shape is struck from logs: an RE2 regular expression."
    )
    description: str = Field("", description="Where to find it.")

    @field_validator("redact_pattern")
    @classmethod
    def _compiles(cls, pattern: str | None) -> str | None:
        return None if pattern is None else _regular_expression(pattern)


class Secrets(Section):
    """The slots, by name."""

    slots: dict[Slug, Slot] = Field(default_factory=dict, description="Name → what it is.")


class Mapped(Section):
    """One value of a parameter before and after a migration."""

    from_: Any = Field(alias="from", description="Value before; a text that plainly is it counts as well.")
    to: Any = Field(description="Value after.")


class Migration(Section):
    """How a config of an earlier version becomes one of the next; done in the order of these keys.

    A parameter is named from the top, with dots into objects: ``server.host``. What a config does not say stays unsaid,
    but for `set`.
    """

    from_: int = Field(alias="from", ge=1, description="Version before.")
    to: int = Field(ge=2, description="Version after.")
    rename: dict[Parameter, Parameter] = Field(
        default_factory=dict, description="Old name → new name, all at once; into another object it is a move."
    )
    map: dict[Parameter, tuple[Mapped, ...]] = Field(
        default_factory=dict, description="New name → [{from, to}]; a value that is not listed stays."
    )
    remove: tuple[Parameter, ...] = Field((), description="Names that are gone.")
    set: dict[Parameter, Any] = Field(default_factory=dict, description="New name → value where none is given.")


class Config(Section):
    """What a connection must say."""

    schema_: dict[str, Any] = Field(
        default_factory=lambda: {"type": "object", "properties": {}, "additionalProperties": False},
        alias="schema",
        description="JSON Schema (2020-12) of an object.",
    )
    version: int = Field(1, ge=1, description="Raised when a config must be migrated.")
    migrations: tuple[Migration, ...] = Field((), description="From each version to the next.")

    @property
    def properties(self) -> dict[str, dict[str, Any]]:
        """The schema of each top-level parameter."""
        found = self.schema_.get("properties", {})
        return {name: schema for name, schema in found.items() if isinstance(schema, dict)}


def parameter(schema: Mapping[str, Any], name: str, *, open_ones: bool = True) -> dict[str, Any] | None:
    """Return the schema of one parameter, named with dots into objects; None where a config may not have it.

    Within an object whose properties are not all listed, nothing is known of a parameter: its schema is empty, or None
    without ``open_ones``.
    """
    for part in name.split("."):
        found = schema.get("properties", {}).get(part)
        if isinstance(found, dict):
            schema = found
        else:
            is_object = "object" in schema.get("type", "object")
            is_open = is_object and (found is not None or schema.get("additionalProperties", True) is not False)
            return {} if open_ones and is_open else None
    return dict(schema)


class Cursor(Section):
    """The column that tells new rows from old ones."""

    field: Text = Field(description="Column.")
    type: str = Field("timestamp", description="Type of the column.")
    order: Literal["ascending", "unordered"] = Field("ascending", description="Order within a page.")
    lookback_s: float = Field(600.0, ge=0, description="How late a row may appear and still be read.")


class Personal(Section):
    """What a column says about a person."""

    pii: Slug = Field(description="Such as contact, name, government_id, health.")
    classification: Classification | None = Field(None, description="If it differs from the stream's.")
    treat: str | None = Field(None, description="What may be done to it.")


class Stream(Section):
    """One stream known beforehand, or a family of streams (`pattern`) that Discover finds."""

    name: str | None = Field(None, min_length=1, description="Exact name.")
    pattern: str | None = Field(None, description="Regular expression of names.")
    schema_: dict[str, Any] | str | None = Field(None, alias="schema", description="JSON Schema, or a file with one.")
    primary_key: tuple[str, ...] = Field((), description="Columns.")
    cursor: Cursor | None = Field(None, description="For incremental reads.")
    sync_modes: tuple[SyncMode, ...] = Field((), description="Default: the connector's.")
    pagination: Pagination | None = Field(None, description="Mode it uses.")
    classification: Classification | None = Field(None, description="Default: the connector's.")
    fields: dict[str, Personal] = Field(default_factory=dict, description="Columns that say something about people.")

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, pattern: str | None) -> str | None:
        return None if pattern is None else _regular_expression(pattern)

    @model_validator(mode="after")
    def _one(self) -> Stream:
        if (self.name is None) == (self.pattern is None):
            raise ValueError("give exactly one of name and pattern")
        return self


class RateLimit(Section):
    """How fast the source may be asked."""

    id: Slug = Field(description="Name of the limit.")
    scope: Literal["credential", "tenant", "connector"] = Field("credential", description="Who shares it.")
    limit: int = Field(ge=1, description="Requests …")
    period_s: float = Field(gt=0, description="… in so many seconds.")
    burst: int | None = Field(None, ge=1, description="At once.")
    concurrency: int | None = Field(None, ge=1, description="At the same time.")


class ErrorRule(Section):
    """What an answer of the source means."""

    when: dict[str, Any] = Field(min_length=1, description="Such as {http: [429]} or {sqlstate: ['57014']}.")
    retry: Literal["transient", "throttled", "auth", "permanent"] = Field(description="Retry class.")
    category: Literal["TRANSIENT", "CONFIGURATION", "DATA", "FATAL"] = Field(description="Who must act.")


class Resources(Section):
    """What its container gets."""

    memory_mib: int = Field(256, ge=64, le=1_048_576, description="Memory, swap included.")
    cpus: float = Field(1.0, gt=0, le=256, description="CPUs.")
    pids: int = Field(128, ge=8, le=32768, description="Processes and threads.")


class Reviewed(Section):
    """Who looked at it."""

    by: Text = Field(description="Person or team.")
    date: datetime.date = Field(description="Day.")


class Compliance(Section):
    """What governance needs to know."""

    classification: Classification = Field("confidential", description="Highest any stream may have.")
    data_categories: tuple[Slug, ...] = Field((), description="personal, commercial, health, payment, children …")
    residency: tuple[Slug, ...] = Field((), description="Regions the source keeps data in.")
    retention_days: int | None = Field(None, ge=1, description="Hint for Bronze.")
    terms: str | None = Field(None, description="The source's terms.")
    reviewed: Reviewed | None = Field(None, description="Last review.")


class State(Section):
    """Checkpoint formats; they decide whether a rollback is safe."""

    writes: int = Field(1, ge=0, description="Format this release writes.")
    reads: tuple[int, ...] = Field((1,), min_length=1, description="Formats this release reads.")


class Breaking(Section):
    """One incompatible change."""

    version: Version = Field(description="Release that brought it.")
    summary: Text = Field(description="What changed.")
    streams: tuple[str, ...] = Field((), description="Streams concerned; empty means all.")
    action: Literal["none", "reconfigure", "reauthenticate", "refresh_streams", "reset"] = Field(
        description="What people must do."
    )
    guide: str | None = Field(None, description="Where it is explained.")
    upgrade_by: datetime.date | None = Field(None, description="Deadline.")


class Compatibility(Section):
    """How releases follow each other."""

    state: State = State()
    rollback_floor: Version | None = Field(None, description="Oldest release that reads what this one writes.")
    breaking: tuple[Breaking, ...] = Field((), description="Newest first.")


class Deprecation(Section):
    """The end of a connector."""

    since: datetime.date = Field(description="Day it was announced.")
    sunset: datetime.date | None = Field(None, description="Day it stops working.")
    replaced_by: str | None = Field(None, pattern=CONNECTOR_ID, description="What to use instead.")
    message: str = Field("", description="Why.")


class Support(Section):
    """Who helps, and for how long."""

    level: Literal["certified", "community", "experimental", "private"] = Field("private", description="Promise.")
    lifecycle: Literal["experimental", "production", "deprecated", "retired"] = Field(
        "production", description="Stage."
    )
    owner: str = Field("", description="Team.")
    deprecation: Deprecation | None = Field(None, description="Set when it ends.")


class Manifest(Section):
    """The whole of ``manifest.yaml``."""

    api_version: Literal["wellhead/v1"] = Field(alias="apiVersion", description="Format of this file.")
    kind: Literal["Connector"] = Field(description="Kind of document.")
    metadata: Metadata
    taxonomy: Taxonomy
    runtime: Runtime
    capabilities: Capabilities
    network: Network = Network()
    auth: Auth = Auth()
    secrets: Secrets = Secrets()
    config: Config = Config()
    streams: tuple[Stream, ...] = Field((), description="What is known before Discover.")
    rate_limits: tuple[RateLimit, ...] = Field((), description="How fast the source may be asked.")
    errors: tuple[ErrorRule, ...] = Field((), description="What the source's answers mean.")
    resources: Resources = Resources()
    compliance: Compliance = Compliance()
    compatibility: Compatibility = Compatibility()
    support: Support = Support()


def _regular_expression(pattern: str) -> str:
    try:
        re.compile(pattern)
    except patterns.UNREADABLE as exc:
        raise ValueError(f"{pattern!r} is not a regular expression: {exc}") from None
    return pattern
