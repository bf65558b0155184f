"""A connector profile: how one source is talked to, written once, reviewed, versioned, and holding no secret.

A profile is resolved when a run is planned, joins the connector's config under the key ``profile``, and is frozen with
the plan: attempts and later runs of that plan never see an edited file. What is frozen is the whole document in
canonical JSON with its SHA-256, so that a run's record says which words it ran under.

It may only narrow: its ``dnsAllowlist`` takes hosts away from what the manifest and the operator opened and never adds
one.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import semver
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic.alias_generators import to_camel

from wellhead import addresses, documents
from wellhead.errors import Code, ConfigurationError

DISAGREES = Code("WH-PRO-001", "A connection's file and its profile contradict each other.")

_HOST = re.compile(r"(?!-)[a-z0-9-]{1,63}(\.[a-z0-9-]{1,63})+")


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel)


class Metadata(_Part):
    """Who answers for the profile, and which one it is."""

    kind: Literal["http"] = Field(
        description="Connector type it is made for; what it decides has a meaning for HTTP alone."
    )
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$", description="Name of the profile.")
    version: str = Field(description="Semantic version; raised with every change.")
    description: str = Field(min_length=1, description="What it is for, in a sentence.")
    owners: tuple[str, ...] = Field(min_length=1, description="Who reviews changes.")

    @field_validator("version")
    @classmethod
    def _semantic(cls, version: str) -> str:
        if not semver.Version.is_valid(version):
            raise ValueError(f"{version!r} is not a semantic version such as 1.0.0")
        return version


class Transport(_Part):
    """Where the source is and how long and large an answer may be."""

    base_url: str = Field(description="https://HOST[:PORT][/PATH].")
    timeout_ms: int = Field(30_000, ge=1, le=3_600_000, description="For one request, answer included.")
    max_payload_bytes: int = Field(16 * 1024 * 1024, ge=1, le=256 * 1024 * 1024, description="Largest answer taken.")

    @field_validator("base_url")
    @classmethod
    def _plain(cls, base_url: str) -> str:
        parts = addresses.split(base_url)
        if parts is None or parts.scheme != "https":
            raise ValueError("must be https://HOST[:PORT][/PATH]")
        if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
            # The text itself stays out of the message: what stands there may be a secret.
            raise ValueError("holds a user, a password, a query or a fragment; a profile never holds a secret")
        return base_url

    @property
    def host(self) -> str:
        """The base URL's host, lower-case."""
        return (urlsplit(self.base_url).hostname or "").lower()


class EgressPolicy(_Part):
    """Which of the opened hosts remain open under this profile."""

    dns_allowlist: tuple[str, ...] = Field(min_length=1, description="Exact DNS names.")

    @field_validator("dns_allowlist")
    @classmethod
    def _names(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if _HOST.fullmatch(name) is None or name.rsplit(".", 1)[-1].isdigit():
                raise ValueError(f"{name!r} is not an exact lower-case DNS name")
        return names


class SecretRef(_Part):
    """Which secret is used: the connection's slot and, where given, the field its reference must name."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$", description="Secret slot of the connection.")
    key: str | None = Field(None, pattern=r"^[A-Za-z0-9_.-]+$", description="Field behind the # of the reference.")


class Auth(_Part):
    """How requests say who asks."""

    mode: Literal["none", "api_key", "bearer"] = Field("none", description="Method.")
    secret_ref: SecretRef | None = Field(None, description="Needed by every mode but none.")

    @model_validator(mode="after")
    def _whole(self) -> Auth:
        if (self.mode == "none") != (self.secret_ref is None):
            raise ValueError("secretRef belongs to every mode but none")
        return self


class Pagination(_Part):
    """How the source hands out pages."""

    mode: Literal["cursor", "none"] = Field("none", description="Method.")
    request_param: str | None = Field(None, min_length=1, description="Query parameter that carries the cursor.")
    response_field: str | None = Field(None, min_length=1, description="Dotted path of the next cursor in an answer.")

    @model_validator(mode="after")
    def _whole(self) -> Pagination:
        both = self.request_param is not None and self.response_field is not None
        neither = self.request_param is None and self.response_field is None
        if not (both if self.mode == "cursor" else neither):
            raise ValueError("requestParam and responseField both belong to mode cursor and neither to mode none")
        return self


class Retry(_Part):
    """How often a request is made again."""

    max_attempts: int = Field(4, ge=1, le=20, description="Attempts in all; 1 never asks again.")
    backoff_ms: int = Field(1_000, ge=1, le=300_000, description="First wait; doubled each time up to 5 minutes.")


class RateLimit(_Part):
    """The quota the source grants."""

    max_requests_per_minute: int = Field(ge=1, description="Requests in any 60 seconds.")


class Spec(_Part):
    """Everything the profile decides."""

    transport: Transport
    egress_policy: EgressPolicy
    auth: Auth = Auth()
    pagination: Pagination = Pagination()
    retry: Retry = Retry()
    rate_limit: RateLimit | None = None

    @model_validator(mode="after")
    def _reachable(self) -> Spec:
        if self.transport.host not in self.egress_policy.dns_allowlist:
            raise ValueError(f"egressPolicy.dnsAllowlist leaves out {self.transport.host}, the host of baseUrl")
        return self


class Profile(_Part):
    """The document, checked; ``canonical`` and ``sha256`` are what a run records of it."""

    api_version: Literal["wellhead/v1"] = Field(description="Version of this document's form.")
    kind: Literal["Profile"] = Field(description="Always Profile.")
    metadata: Metadata
    spec: Spec

    @property
    def canonical(self) -> str:
        """The whole document, defaults filled in, as JSON with sorted keys: equal words give equal text."""
        return json.dumps(self.document(), sort_keys=True, separators=(",", ":"), ensure_ascii=False)

    @property
    def sha256(self) -> str:
        """Lower-case hex digest of `canonical`."""
        return hashlib.sha256(self.canonical.encode()).hexdigest()

    @property
    def label(self) -> str:
        """``name@version``."""
        return f"{self.metadata.name}@{self.metadata.version}"

    def document(self) -> dict[str, Any]:
        """Return the document as plain JSON values under its own (camel-case) keys."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)

    def allows(self, host: str) -> bool:
        """Say whether this profile leaves ``host`` open; it cannot open what others have not."""
        return host.lower().rstrip(".") in self.spec.egress_policy.dns_allowlist


@dataclass(frozen=True, slots=True)
class Resolved:
    """A profile joined with one connection: the config to send, and which profile it came from."""

    profile: Profile
    config: Mapping[str, Any]


def load(path: Path) -> Profile:
    """Read one profile.

    Raises:
        ConfigurationError: the file is unreadable, not YAML, or not a profile (WH-DOC-…), with every mistake and place.
    """
    return documents.validate(Profile, documents.read(path))


def resolve(
    profile: Profile, config: Mapping[str, Any], references: Mapping[str, str], connector_type: str
) -> Resolved:
    """Join a profile with a connection's config; the result is what the plan freezes.

    The profile's document stands under ``profile``, and its base URL under ``base_url``, from which the manifest
    renders the egress policy.

    Args:
        profile: as loaded.
        config: the connection's own config.
        references: the connection's secret references by slot.
        connector_type: the type the manifest states.

    Raises:
        ConfigurationError: WH-PRO-001, with every contradiction as a detail.
    """
    found = tuple(_contradictions(profile, config, references, connector_type))
    if found:
        raise ConfigurationError(
            f"the connection disagrees with its profile {profile.label}: {found[0]}",
            code=DISAGREES,
            hint="mend the connection's file, or have the profile changed, reviewed and given a new version",
            details=found,
        )
    return Resolved(profile, {**config, "base_url": profile.spec.transport.base_url, "profile": profile.document()})


def _contradictions(
    profile: Profile, config: Mapping[str, Any], references: Mapping[str, str], connector_type: str
) -> list[str]:
    found = []
    base_url = profile.spec.transport.base_url
    if profile.metadata.kind != connector_type:
        found.append(f"the profile is for connectors of type {profile.metadata.kind}, this one is of {connector_type}")
    if "profile" in config:
        found.append("config.profile is set; the profile is named by the connection's own key `profile`")
    if config.get("base_url", base_url) != base_url:
        found.append("config.base_url differs from the profile's baseUrl; leave it out")
    wanted = profile.spec.auth.secret_ref
    if wanted is not None and wanted.name not in references:
        found.append(f"auth.secretRef names the slot {wanted.name}, for which the connection has no secret")
    elif wanted is not None and wanted.key is not None and _field(references[wanted.name]) != wanted.key:
        found.append(
            f"auth.secretRef asks for the field {wanted.key} in slot {wanted.name}; its reference names another"
        )
    return found


def _field(reference: str) -> str:
    """What a reference reads: the part behind #, or its last segment."""
    path, _, field = reference.partition("#")
    return field or path.rsplit("/", 1)[-1]
