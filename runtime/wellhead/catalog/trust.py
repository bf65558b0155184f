"""``trust.yaml``: which keys may sign for which namespace; the operator's word, out of every publisher's reach.

    keys:
      - {id: "ed25519:5f2c…", public: "base64 of 32 bytes", comment: data platform, 2026}
    namespaces:
      acme: {keys: ["ed25519:5f2c…"]}

The store and the registry hold signatures, never keys: whoever can rewrite both still cannot make a release trusted.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator
from ruamel.yaml import YAML

from wellhead import documents
from wellhead.catalog.keys import KeyId, PublicKey
from wellhead.errors import Code, RefusedError
from wellhead.ids import ConnectorId

NO_KEYS = Code("WH-CAT-010", "Nobody is trusted to sign for a namespace.")

FILE_NAME = "trust.yaml"
_NAMESPACE = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TrustedKey(_Section):
    """One public key."""

    id: str = Field(description="ed25519: and 16 hex digits; must belong to `public`.")
    public: str = Field(description="The key, base64.")
    comment: str = Field("", description="Whose it is.")

    @model_validator(mode="after")
    def _id_belongs(self) -> TrustedKey:
        key = PublicKey.from_text(self.public)
        if key.id != self.id:
            raise ValueError(f"the key has the id {key.id}, not {self.id}")
        return self


class NamespaceTrust(_Section):
    """Who may sign for one namespace."""

    keys: tuple[str, ...] = Field(min_length=1, description="Key ids.")
    threshold: int = Field(1, ge=1, description="How many different keys must have signed.")

    @model_validator(mode="after")
    def _reachable(self) -> NamespaceTrust:
        if self.threshold > len(set(self.keys)):
            raise ValueError(f"threshold {self.threshold} cannot be met by {len(set(self.keys))} keys")
        return self


class TrustFile(_Section):
    """The whole of trust.yaml."""

    keys: tuple[TrustedKey, ...] = Field((), description="Every key that is named below.")
    namespaces: dict[str, NamespaceTrust] = Field(default_factory=dict, description="Namespace → who signs.")

    @model_validator(mode="after")
    def _known(self) -> TrustFile:
        known = {key.id for key in self.keys}
        for namespace, rule in self.namespaces.items():
            if _NAMESPACE.fullmatch(namespace) is None:
                raise ValueError(f"{namespace!r} is no namespace; there are no patterns here")
            for key in rule.keys:
                if key not in known:
                    raise ValueError(f"namespace {namespace} names the key {key}, which is not under keys")
        return self


@dataclass(frozen=True, slots=True)
class Signers:
    """The keys one namespace trusts, and how many of them must agree."""

    keys: tuple[PublicKey, ...]
    threshold: int


@dataclass(frozen=True, slots=True)
class Trust:
    """What trust.yaml says; `file` is for messages."""

    file: str
    namespaces: dict[str, Signers]

    def signers(self, connector: ConnectorId) -> Signers:
        """Return who may sign for a connector.

        Raises:
            RefusedError: WH-CAT-010, its namespace is not in trust.yaml.
        """
        namespace = connector.partition("/")[0]
        if namespace not in self.namespaces:
            raise RefusedError(
                f"nobody is trusted to sign for the namespace {namespace!r} of {connector}",
                code=NO_KEYS,
                hint=f"add the publisher's key for {namespace} to {self.file}, once you have checked whose it is",
            )
        return self.namespaces[namespace]


def load(file: Path) -> Trust:
    """Read trust.yaml; a missing file trusts nobody.

    Raises:
        ConfigurationError: it is not a valid trust file (WH-DOC-…).
    """
    if not file.exists():
        return Trust(str(file), {})
    said = documents.validate(TrustFile, documents.read(file))
    return Trust(str(file), _namespaces(said))


def add(file: Path, namespace: str, key: PublicKey, comment: str) -> None:
    """Let ``key`` sign for ``namespace`` from now on, keeping what the file says and its comments.

    Raises:
        ConfigurationError: the file as it would be is not valid (WH-DOC-…); it is then left alone.
    """
    yaml = YAML(typ="rt", pure=True)
    data: dict[str, Any] = (yaml.load(file.read_text("utf-8")) if file.exists() else None) or {}
    known = data.setdefault("keys", [])
    if not any(entry.get("id") == key.id for entry in known):
        known.append({"id": str(key.id), "public": key.text, "comment": comment})
    rule = data.setdefault("namespaces", {}).setdefault(namespace, {"keys": []})
    if key.id not in rule["keys"]:
        rule["keys"].append(str(key.id))
    scratch = file.with_suffix(".new")
    try:
        with scratch.open("w", encoding="utf-8") as out:
            yaml.dump(data, out)
        documents.validate(TrustFile, documents.read(scratch))
        scratch.rename(file)
    finally:
        scratch.unlink(missing_ok=True)


def _namespaces(said: TrustFile) -> dict[str, Signers]:
    keys = {KeyId(key.id): PublicKey.from_text(key.public) for key in said.keys}
    return {
        namespace: Signers(tuple(keys[KeyId(key)] for key in rule.keys), rule.threshold)
        for namespace, rule in said.namespaces.items()
    }
