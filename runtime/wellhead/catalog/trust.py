"""``trust.yaml``: whose signatures count for which connectors, and what a release must bring besides.

    keys:
      - {id: "ed25519:5f2c…", public: "base64 of 32 bytes", comment: data platform, 2026, expires: 2027-06-30}
    namespaces:
      acme: {keys: ["ed25519:5f2c…"]}
      acme/payments:                       # a rule for one connector replaces its namespace's, whole
        keys: ["ed25519:5f2c…", "ed25519:77ab…"]
        threshold: 2
        require: [sbom, provenance]
        builders: ["https://ci.acme.example/*"]
        base_images: ["sha256:…"]
        max_age: 400d
    revoked_keys:
      - {id: "ed25519:0a11…", after: 2026-09-01}

The store and the registry hold signatures, never keys: whoever can rewrite both still cannot make a release trusted.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from ruamel.yaml import YAML

from wellhead import documents, replacement
from wellhead.catalog.keys import KeyId, PublicKey
from wellhead.clock import Clock, SystemClock
from wellhead.errors import Code, ConfigurationError, Place, RefusedError, counted
from wellhead.ids import ConnectorId

NO_KEYS = Code("WH-CAT-010", "Nobody is trusted to sign for a namespace.")
UNSIGNED_IN_PRODUCTION = Code("WH-CAT-011", "Unsigned releases are allowed in development only.")
ASKS_FOR_NONE = Code("WH-CAT-012", "A key was to be trusted by a rule that asks for no signature.")
UNWRITABLE = Code("WH-CAT-013", "trust.yaml cannot be written.")
REVOKED_ALREADY = Code("WH-CAT-014", "A key was to be trusted that is revoked.")

FILE_NAME = "trust.yaml"
#: A namespace, or one connector in it.
_SCOPE = re.compile(r"[a-z0-9][a-z0-9-]{0,62}(/[a-z0-9][a-z0-9-]{0,62})?")
_AGE = re.compile(r"([1-9][0-9]{0,5})([dh])")
_DIGEST = r"^sha256:[0-9a-f]{64}$"


def moment(said: Any) -> datetime:
    """Read ``2026-09-01`` (the start of that day) or a time; UTC where no zone is named.

    Raises:
        ValueError: it is neither.
    """
    # YAML's own times arrive here already turned into UTC, without saying so.
    at = datetime.fromisoformat(str(said))
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


def age(said: Any) -> timedelta:
    """Read a number of days or hours, such as ``400d`` or ``36h``.

    Raises:
        ValueError: it is something else.
    """
    match = _AGE.fullmatch(str(said))
    if match is None:
        raise ValueError(f"{said!r} is no age; write days or hours, such as 400d or 36h")
    return timedelta(**{{"d": "days", "h": "hours"}[match[2]]: int(match[1])})


Moment = Annotated[datetime, BeforeValidator(moment, json_schema_input_type=str)]
Age = Annotated[timedelta, BeforeValidator(age, json_schema_input_type=str)]
Requirement = Literal["sbom", "provenance"]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TrustedKey(_Section):
    """One public key."""

    id: str = Field(description="ed25519: and 16 hex digits; must belong to `public`.")
    public: str = Field(description="The key, base64.")
    comment: str = Field("", description="Whose it is.")
    expires: Moment | None = Field(None, description="What it signs from then on does not count.")

    @model_validator(mode="after")
    def _id_belongs(self) -> TrustedKey:
        key = PublicKey.from_text(self.public)
        if key.id != self.id:
            raise ValueError(f"the key has the id {key.id}, not {self.id}")
        return self


class RevokedKey(_Section):
    """A key that counts no more."""

    id: str = Field(description="Its id.")
    after: Moment | None = Field(
        None, description="What it signed before still counts. Leave it out for a stolen key: a thief backdates."
    )


class RuleText(_Section):
    """What the releases of one namespace, or of one connector, must show."""

    keys: tuple[str, ...] = Field((), description="Key ids.")
    threshold: int = Field(1, ge=1, description="How many different keys must have signed.")
    require: tuple[Requirement, ...] = Field((), description="What a release must hold: sbom, provenance.")
    builders: tuple[str, ...] = Field((), description="Builder ids its provenance may name; * stands for any text.")
    base_images: tuple[Annotated[str, Field(pattern=_DIGEST)], ...] = Field(
        (), description="Digests the lowest layer of every image may have, packed or unpacked."
    )
    max_age: Age | None = Field(None, description="Days (400d) or hours (36h) a signature lasts.")
    allow_unsigned: bool = Field(False, description="Only where wellhead.yaml says environment: development.")

    @model_validator(mode="after")
    def _reachable(self) -> RuleText:
        if self.allow_unsigned:
            if self.model_fields_set != {"allow_unsigned"}:
                raise ValueError("allow_unsigned stands alone: what is not signed, nobody vouches for")
        elif not self.keys:
            raise ValueError("name at least one key")
        elif self.threshold > len(set(self.keys)):
            raise ValueError(f"threshold {self.threshold} cannot be met by {counted(len(set(self.keys)), 'key')}")
        return self


class TrustFile(_Section):
    """The whole of trust.yaml."""

    keys: tuple[TrustedKey, ...] = Field((), description="The keys, each once.")
    namespaces: dict[str, RuleText] = Field(
        default_factory=dict, description="A namespace, or NAMESPACE/NAME for one connector → its rule."
    )
    revoked_keys: tuple[RevokedKey, ...] = Field((), description="Keys that count no more.")

    @model_validator(mode="after")
    def _adds_up(self) -> TrustFile:
        known = {key.id for key in self.keys}
        for scope, rule in self.namespaces.items():
            if _SCOPE.fullmatch(scope) is None:
                raise ValueError(f"{scope!r} is no namespace and no connector; there are no patterns here")
            for key in rule.keys:
                if key not in known:
                    raise ValueError(f"namespace {scope} names the key {key}, which is not under keys")
        return self


@dataclass(frozen=True, slots=True)
class Signer:
    """A key as the operator sees it; times are aware UTC, and None means never."""

    key: PublicKey
    expires: datetime | None = None
    revoked_from: datetime | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """What the releases of one scope must show."""

    signers: tuple[Signer, ...]
    threshold: int = 1
    require: frozenset[Requirement] = frozenset()
    builders: tuple[str, ...] = ()
    base_images: frozenset[str] = frozenset()
    max_age: timedelta | None = None
    allow_unsigned: bool = False


@dataclass(frozen=True, slots=True)
class Trust:
    """What trust.yaml says, judged at the clock's time; `file` is for messages."""

    file: str
    rules: Mapping[str, Rule]
    is_development: bool = False
    clock: Clock = field(default_factory=SystemClock)

    def rule(self, connector: ConnectorId) -> Rule:
        """Return the rule for a connector: its own, or its namespace's.

        Raises:
            RefusedError: neither is in trust.yaml (WH-CAT-010), or it allows unsigned releases and this is no
                development host (WH-CAT-011).
        """
        namespace = connector.partition("/")[0]
        rule = self.rules.get(connector) or self.rules.get(namespace)
        if rule is None:
            raise RefusedError(
                f"nobody is trusted to sign for the namespace {namespace!r} of {connector}",
                code=NO_KEYS,
                hint=f"add the publisher's key for {namespace} to {self.file}, once you have checked whose it is",
            )
        if rule.allow_unsigned and not self.is_development:
            raise RefusedError(
                f"{self.file} allows unsigned releases of {connector}, and this host is not for development",
                code=UNSIGNED_IN_PRODUCTION,
                hint="name the publisher's keys there; only `environment: development` in wellhead.yaml goes without",
            )
        return rule


def load(file: Path, *, is_development: bool = False, clock: Clock | None = None) -> Trust:
    """Read trust.yaml; a missing file trusts nobody.

    Raises:
        ConfigurationError: it is not a valid trust file (WH-DOC-…).
    """
    said = _said(documents.read(file)) if file.exists() else TrustFile()
    return Trust(str(file), _rules(said), is_development, clock or SystemClock())


def is_scope(text: str) -> bool:
    """Say whether ``text`` can name a namespace or one connector in it."""
    return _SCOPE.fullmatch(text) is not None


def add(file: Path, scope: str, key: PublicKey, comment: str) -> None:
    """Let ``key`` sign for a namespace or connector from now on, keeping what the file says and its comments.

    Raises:
        ConfigurationError: the file is not valid or would not be (WH-DOC-…), its rule for the scope asks for no
            signature (WH-CAT-012), the key is revoked in it (WH-CAT-014), or it cannot be written (WH-CAT-013); it is
            then left alone.
    """
    with _changed(file) as (data, said):
        if any(entry.id == key.id for entry in said.revoked_keys):
            raise ConfigurationError(
                f"{file} revokes the key {key.id}, so that nothing it signs would count for {scope}",
                code=REVOKED_ALREADY,
                hint="put the files of that pair away and make another, whose id is another too",
                place=Place(str(file), field="revoked_keys"),
            )
        if scope in said.namespaces and said.namespaces[scope].allow_unsigned:
            raise ConfigurationError(
                f"{file} allows unsigned releases of {scope}, so that no key can be added",
                code=ASKS_FOR_NONE,
                hint=f"remove the rule for {scope} under namespaces, and add the key again",
                place=Place(str(file), field=f"namespaces.{scope}"),
            )
        known = data.setdefault("keys", [])
        if not any(entry.get("id") == key.id for entry in known):
            known.append({"id": str(key.id), "public": key.text, "comment": comment})
        keys = data.setdefault("namespaces", {}).setdefault(scope, {}).setdefault("keys", [])
        if key.id not in keys:
            keys.append(str(key.id))


def revoke(file: Path, key: KeyId, after: datetime | None) -> None:
    """Let a key's word count no more: none of it, or nothing it signs from ``after`` on.

    Raises:
        ConfigurationError: the file is not valid (WH-DOC-…) or cannot be written (WH-CAT-013); it is then left alone.
    """
    with _changed(file) as (data, _):
        entry = {"id": str(key)} | ({} if after is None else {"after": after.isoformat()})
        data.setdefault("revoked_keys", []).append(entry)


@contextmanager
def _changed(file: Path) -> Iterator[tuple[dict[str, Any], TrustFile]]:
    """Give out the file's content to be changed, and what it says; comments stay, and it is valid before and after."""
    with replacement.exclusive(file, UNWRITABLE):
        yaml = YAML(typ="rt", pure=True)
        said, data = TrustFile(), None
        if file.exists():
            said = _said(documents.read(file))
            data = yaml.load(file.read_text("utf-8-sig"))
        data = {} if data is None else data
        yield data, said
        out = io.StringIO()
        yaml.dump(data, out)
        content = out.getvalue().encode()
        _said(documents.parse(content, str(file)))
        replacement.write(file, content, UNWRITABLE)


def _said(document: documents.Document) -> TrustFile:
    # A file of comments alone trusts nobody, as no file does.
    return documents.validate(TrustFile, document, {} if document.data is None else document.data)


def _rules(said: TrustFile) -> dict[str, Rule]:
    # An entry without a date outweighs one with: whoever writes both means the stricter.
    revoked: dict[str, datetime] = {}
    for entry in said.revoked_keys:
        since = entry.after or datetime.min.replace(tzinfo=UTC)
        revoked[entry.id] = min(since, revoked.get(entry.id, since))
    signers = {
        key.id: Signer(PublicKey.from_text(key.public), key.expires, revoked.get(KeyId(key.id))) for key in said.keys
    }
    return {
        scope: Rule(
            tuple(signers[key] for key in dict.fromkeys(rule.keys)),
            rule.threshold,
            frozenset(rule.require),
            rule.builders,
            frozenset(rule.base_images),
            rule.max_age,
            rule.allow_unsigned,
        )
        for scope, rule in said.namespaces.items()
    }
