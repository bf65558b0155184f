"""What a person says about the API: in the connection's own config, or in a profile that decides the transport.

Both end in one `Source`, so the rest of the connector does not know which it was.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic.alias_generators import to_camel

from wellhead_sdk.auth import Anonymous, ApiKey, Authenticator, Bearer
from wellhead_sdk.column_types import column_type
from wellhead_sdk.errors import Configuration
from wellhead_sdk.http import Transport
from wellhead_sdk.pagination import CursorPages, Mode, NoPages
from wellhead_sdk.retry import Backoff

#: Column of a stream that declares none: the whole record.
RECORD = "record"
#: Secret slot of each method; a profile names its own.
SLOTS: dict[str, str] = {"none": "", "bearer": "token", "api_key": "api_key"}
#: Column for the fields that a stream's declared columns leave over.
UNDECLARED = "undeclared"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _ProfilePart(BaseModel):
    """The host has validated the document; what this connector has no use for is left alone."""

    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=to_camel)


class KeyPlace(_Part):
    """Where the source wants the key."""

    name: str = Field("X-API-Key", pattern=r"^[A-Za-z0-9_-]+$", description="Header or parameter.")
    place: Literal["header", "query"] = Field("header", description="Prefer the header: addresses end in logs.")


class Pagination(_Part):
    """How the source hands out pages."""

    mode: Literal["cursor", "none"] = Field("none", description="Method.")
    request_param: str | None = Field(None, min_length=1, description="Query parameter that carries the cursor.")
    response_field: str | None = Field(None, min_length=1, description="Dotted path of the next cursor in an answer.")

    @model_validator(mode="after")
    def _whole(self) -> Pagination:
        given = (self.request_param is not None, self.response_field is not None)
        if given != ((True, True) if self.mode == "cursor" else (False, False)):
            raise ValueError("request_param and response_field both belong to mode cursor and neither to mode none")
        return self


class StreamConfig(_Part):
    """One list of records."""

    name: str = Field(min_length=1, description="Name of the stream.")
    path: str = Field(description="Below base_url.")
    records: str = Field("", description="Dotted path of the list in an answer; empty where the answer is the list.")
    query: dict[str, str] = Field(default_factory=dict, description="Parameters of every request.")
    batch_size_param: str | None = Field(None, description="Parameter that asks for so many records a page.")
    primary_key: tuple[str, ...] = Field((), description="Columns.")
    event_time: str | None = Field(None, description="Column with the source's own time of a record.")
    columns: dict[str, str] = Field(
        default_factory=dict, description="Field → type. Empty: one column `record` with each record's JSON."
    )
    undeclared: Literal["keep", "drop"] = Field(
        "keep", description="`keep` gathers fields that `columns` does not name as JSON in the column `undeclared`."
    )

    @field_validator("columns")
    @classmethod
    def _typed(cls, columns: dict[str, str]) -> dict[str, str]:
        for column, word in columns.items():
            try:
                column_type(word)
            except ValueError as exc:
                raise ValueError(f"{column}: {exc}") from None
        return columns

    @model_validator(mode="after")
    def _columns_exist(self) -> StreamConfig:
        wanted = {*self.primary_key, *((self.event_time,) if self.event_time else ())}
        if missing := sorted(wanted - set(self.columns)):
            raise ValueError(f"{', '.join(missing)} must be named in columns, with a type")
        if self.undeclared == "keep" and UNDECLARED in self.columns:
            raise ValueError(f"a column named {UNDECLARED} needs undeclared: drop")
        return self


class _Transport(_ProfilePart):
    base_url: str
    timeout_ms: int
    max_payload_bytes: int


class _SecretRef(_ProfilePart):
    name: str


class _Auth(_ProfilePart):
    mode: Literal["none", "api_key", "bearer"]
    secret_ref: _SecretRef | None = None


class _ProfilePagination(_ProfilePart):
    mode: Literal["cursor", "none"]
    request_param: str | None = None
    response_field: str | None = None


class _Retry(_ProfilePart):
    max_attempts: int
    backoff_ms: int


class _RateLimit(_ProfilePart):
    max_requests_per_minute: int


class _Spec(_ProfilePart):
    transport: _Transport
    auth: _Auth
    pagination: _ProfilePagination
    retry: _Retry
    rate_limit: _RateLimit | None = None


class Profile(_ProfilePart):
    """The profile as the host resolved and froze it for this run."""

    spec: _Spec


#: What a profile decides; config may not say it again.
_DECIDED = ("auth", "pagination", "timeout_seconds", "max_retries", "max_payload_bytes", "requests_per_minute")


class HttpJsonConfig(_Part):
    """Configuration of one connection; the manifest's schema says the same."""

    base_url: str = Field(description="https://HOST[:PORT][/PATH].")
    auth: Literal["none", "bearer", "api_key"] = Field("none", description="How requests say who asks.")
    key: KeyPlace = Field(KeyPlace(), description="Where an API key goes.")
    pagination: Pagination = Field(Pagination(), description="How pages follow each other.")
    timeout_seconds: float = Field(30.0, gt=0, le=3600, description="For one request, answer included.")
    max_retries: int = Field(3, ge=0, le=19, description="Times a request is made again.")
    max_payload_bytes: int = Field(16 * 1024 * 1024, ge=1, le=256 * 1024 * 1024, description="Largest answer taken.")
    requests_per_minute: int | None = Field(None, ge=1, description="Requests in any 60 seconds.")
    ca_pem: str | None = Field(None, description="Certificate of an authority of your own, trusted beside the public.")
    streams: tuple[StreamConfig, ...] = Field(description="What to read; at least one.")
    profile: Profile | None = Field(None, description="Set by the host where the connection names a profile.")

    @model_validator(mode="after")
    def _said_once(self) -> HttpJsonConfig:
        # By value: the host sends every default filled in.
        twice = [name for name in _DECIDED if getattr(self, name) != type(self).model_fields[name].default]
        if self.profile is not None and twice:
            raise ValueError(f"the profile decides {', '.join(twice)}; leave it out of config")
        names = [stream.name for stream in self.streams]
        if not names:
            raise ValueError("streams is empty")
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"streams: {', '.join(twice)} stands there more than once")
        return self


@dataclass(frozen=True, slots=True)
class Source:
    """How the API is talked to, whoever decided it."""

    transport: Transport
    authenticator: Authenticator
    mode: Mode


def source(config: HttpJsonConfig, secrets: Mapping[str, str], user_agent: str) -> Source:
    """Bring config, profile and secrets together.

    Raises:
        Configuration: a secret the method needs was not delivered.
        Auth: a secret no header can carry.
    """
    if config.profile is None:
        auth: str = config.auth
        slot = SLOTS[auth]
        pagination = config.pagination
        transport = Transport(
            config.base_url,
            config.timeout_seconds,
            config.max_payload_bytes,
            Backoff(config.max_retries + 1),
            config.requests_per_minute,
            config.ca_pem,
            user_agent,
        )
    else:
        spec = config.profile.spec
        auth = spec.auth.mode
        slot = spec.auth.secret_ref.name if spec.auth.secret_ref else ""
        pagination = Pagination.model_validate(spec.pagination.model_dump(exclude_none=True))
        transport = Transport(
            spec.transport.base_url,
            spec.transport.timeout_ms / 1000,
            spec.transport.max_payload_bytes,
            Backoff(spec.retry.max_attempts, spec.retry.backoff_ms / 1000),
            spec.rate_limit.max_requests_per_minute if spec.rate_limit else None,
            config.ca_pem,
            user_agent,
        )
    return Source(transport, _authenticator(auth, slot, config.key, secrets), _mode(pagination))


def _authenticator(mode: str, slot: str, place: KeyPlace, secrets: Mapping[str, str]) -> Authenticator:
    if mode == "none":
        return Anonymous()
    if slot not in secrets:
        raise Configuration(
            f"auth {mode} needs the secret {slot!r}, which was not delivered",
            reason="secret_missing",
            fields={f"secrets.{slot}": "missing"},
            hint=f"map {slot} in the connection's secrets",
        )
    return Bearer(secrets[slot]) if mode == "bearer" else ApiKey(secrets[slot], place.name, place.place)


def _mode(pagination: Pagination) -> Mode:
    if pagination.request_param is None or pagination.response_field is None:
        return NoPages()
    return CursorPages(pagination.request_param, pagination.response_field)
