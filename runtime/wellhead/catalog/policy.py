"""Governance: policies that people write as files, asked before a release is taken in, connected and run.

    manifests/policies/NAME.yaml         one policy: when it is asked, its rule, what follows, how to mend it
    manifests/policies/NAME.test.yaml    cases it must decide as written

A rule is an expression in CEL, the Common Expression Language: it calls nothing, changes nothing and always ends. One
that cannot be evaluated denies (invariant 16). What an expression may cost is bounded: its length, how deep its loops
stand in each other, and how long the lists are that it is given.

The only module that knows the CEL library, and that imports it when the first rule is read: a project without policies
pays nothing.
"""

from __future__ import annotations

import copy
import hashlib
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from wellhead import documents
from wellhead.errors import Code, ConfigurationError, Place

BAD_RULE = Code("WH-POL-001", "A policy's rule cannot be used.")
MISNAMED = Code("WH-POL-002", "A policy's file is named differently from the policy.")
NO_SUBJECT = Code("WH-POL-003", "Cases are kept for a policy that is not there.")

Moment = Literal["admission", "onboarding", "run"]
Effect = Literal["deny", "require_approval", "warn"]

#: What a rule may ask about; the last two are unknown while a release is taken in.
SUBJECTS = ("manifest", "release", "host", "connection", "tenant")
_OF_CONNECTIONS = frozenset({"connection", "tenant"})

MAX_RULE = 2000
MAX_NESTED = 2
#: Two loops in each other over as many entries take about a second, measured with the library in use.
MAX_ENTRIES = 1000

_LOOP = re.compile(r"\.\s*(?:all|exists|exists_one|map|filter)\s*\(\s*([A-Za-z_]\w*)\s*,")
_TEXT = re.compile(r"""[rRbB]{0,2}(?:"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')""")
_TEST = ".test.yaml"


class Section(BaseModel):
    """A part of a policy's files: frozen, refusing unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class Policy(Section):
    """One policy, as its file says it."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$", description="The file's name without .yaml.")
    description: str = Field(min_length=1, description="What it is for.")
    when: tuple[Moment, ...] = Field(
        min_length=1, description="admission (publish), onboarding (add, first run), run (every run)."
    )
    rule: str = Field(alias="if", min_length=1, max_length=MAX_RULE, description="CEL; true means the effect follows.")
    effect: Effect = Field(description="deny, require_approval (of each connection, by a person) or warn.")
    message: str = Field(min_length=1, description="What is wrong, for the people it stops.")
    mend: str = Field(min_length=1, description="What they can do about it.")

    @field_validator("rule")
    @classmethod
    def _usable(cls, rule: str) -> str:
        bare = _TEXT.sub("''", rule)
        if (deep := _nested(bare)) > MAX_NESTED:
            raise ValueError(f"has {deep} loops in each other; {MAX_NESTED} are allowed")
        unknown = sorted(_variables(rule) - set(SUBJECTS) - set(_LOOP.findall(bare)))
        if unknown:
            raise ValueError(f"asks about {', '.join(unknown)}; a rule knows {', '.join(SUBJECTS)}")
        return rule

    @model_validator(mode="after")
    def _decidable(self) -> Policy:
        if "admission" in self.when:
            early = sorted(_variables(self.rule) & _OF_CONNECTIONS)
            if early:
                raise ValueError(f"at admission there is no {' and no '.join(early)} to ask about")
            if self.effect == "require_approval":
                raise ValueError("at admission there is no connection to approve; deny, or ask at onboarding and run")
        return self

    @property
    def sha256(self) -> str:
        """Return the hash of what it decides; an approval is of exactly that, not of a rule written later."""
        return hashlib.sha256(f"{self.rule}\n{self.effect}".encode()).hexdigest()


class Case(Section):
    """What a policy must say to one set of facts."""

    name: str = Field(min_length=1, description="What is tried, in words.")
    manifest: dict[str, Any] = Field(default_factory=dict, description="Laid over a small public manifest.")
    release: dict[str, Any] = Field(default_factory=dict, description="Laid over an active, unreviewed release.")
    host: dict[str, Any] = Field(default_factory=dict, description="Laid over a production host.")
    connection: dict[str, Any] = Field(default_factory=dict, description="Laid over a connection of one stream.")
    tenant: dict[str, Any] = Field(default_factory=dict, description="Laid over a tenant without labels.")
    expect: Literal["deny", "require_approval", "warn", "pass"] = Field(description="What must follow.")


class Cases(Section):
    """The file ``NAME.test.yaml``."""

    cases: tuple[Case, ...] = Field(min_length=1, description="Tried one by one.")


@dataclass(frozen=True, slots=True)
class Finding:
    """A policy that has something to say; ``failed`` tells why its rule could not be evaluated, empty if it could."""

    policy: Policy
    effect: Effect
    failed: str = ""

    @property
    def message(self) -> str:
        """Return what is wrong."""
        return f"its rule cannot be evaluated: {self.failed}" if self.failed else self.policy.message

    @property
    def mend(self) -> str:
        """Return what to do."""
        return "mend the rule, and keep a case for it beside the policy" if self.failed else self.policy.mend


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one case ended; ``got`` is ``pass`` where the policy had nothing to say, ``error`` where its rule failed."""

    policy: str
    case: str
    place: Place
    expected: str
    got: str
    failed: str


def load(folder: Path, *, may_lack: bool = False) -> tuple[Policy, ...]:
    """Read the policies of a folder, by name.

    Args:
        folder: where they are.
        may_lack: a folder that is not there holds none.

    Raises:
        ConfigurationError: the folder cannot be read or a file is no policy (WH-DOC-…), its rule cannot be used
            (WH-POL-001), or it has another name than its policy (WH-POL-002).
    """
    # Invariant 16: a folder that cannot be read may hold what denies.
    files = documents.listed(folder, may_lack=may_lack)
    return tuple(_policy(file) for file in files if not file.name.endswith(_TEST))


def _policy(file: Path) -> Policy:
    document = documents.read(file)
    try:
        policy = documents.validate(Policy, document)
    except _BadExpressionError as error:
        raise ConfigurationError(
            f"{file}: the rule is no CEL expression: {error}",
            code=BAD_RULE,
            hint="mend `if`; `wellhead policy test` tries it",
            place=document.place(("if",)),
        ) from None
    if policy.name != file.stem:
        raise ConfigurationError(
            f"{file} holds the policy {policy.name!r}",
            code=MISNAMED,
            hint=f"rename the file to {policy.name}.yaml or the policy to {file.stem}",
            place=document.place(("name",)),
        )
    return policy


def judge(policies: Iterable[Policy], moments: Sequence[Moment], facts: Mapping[str, Any]) -> tuple[Finding, ...]:
    """Ask every policy that is asked at one of these moments; what has nothing against it is not told."""
    asked = [policy for policy in policies if not set(moments).isdisjoint(policy.when)]
    if not asked:
        return ()
    too_long = _too_long(facts)
    return tuple(finding for policy in asked if (finding := _ask(policy, facts, too_long)) is not None)


def _ask(policy: Policy, facts: Mapping[str, Any], too_long: str | None) -> Finding | None:
    if too_long is not None:
        return Finding(policy, "deny", f"{too_long} has more than {MAX_ENTRIES} entries")
    try:
        answer = _program(policy.rule).execute(dict(facts))
    except Exception as exc:  # noqa: BLE001 - the library raises whatever built-in error fits; each of them denies
        return Finding(policy, "deny", f"{type(exc).__name__}: {exc}")
    if not isinstance(answer, bool):
        return Finding(policy, "deny", f"it answers {answer!r}, neither true nor false")
    return Finding(policy, policy.effect) if answer else None


def test(folder: Path) -> tuple[Outcome, ...]:
    """Try the cases kept beside the policies of a folder.

    Raises:
        ConfigurationError: like `load`, or cases are there for a policy that is not (WH-POL-003).
    """
    policies = {policy.name: policy for policy in load(folder)}
    cases = (file for file in documents.listed(folder) if file.name.endswith(_TEST))
    return tuple(outcome for file in cases for outcome in _try(file, policies))


def _try(file: Path, policies: Mapping[str, Policy]) -> Iterator[Outcome]:
    name = file.name.removesuffix(_TEST)
    document = documents.read(file)
    if name not in policies:
        raise ConfigurationError(
            f"{file} has cases for the policy {name!r}, and {file.parent} does not have it",
            code=NO_SUBJECT,
            hint=f"add {name}.yaml, or rename the cases after a policy: {', '.join(policies) or 'there is none'}",
            place=Place(str(file)),
        )
    policy = policies[name]
    for index, case in enumerate(documents.validate(Cases, document).cases):
        facts = {subject: _laid_over(_ORDINARY[subject], getattr(case, subject)) for subject in SUBJECTS}
        found = judge([policy], policy.when, facts)
        failed = found[0].failed if found else ""
        # What denies only because it cannot be evaluated decides nothing: no case may count on it.
        got = "error" if failed else found[0].effect if found else "pass"
        yield Outcome(name, case.name, document.place(("cases", index)), case.expect, got, failed)


def _laid_over(base: Any, said: Any) -> Any:
    if not isinstance(base, dict) or not isinstance(said, dict):
        return copy.deepcopy(said)
    return {**base, **{name: _laid_over(base.get(name), value) for name, value in said.items()}}


def _too_long(value: Any, place: str = "") -> str | None:
    """Return where a list or mapping has more entries than a rule may be asked to go through."""
    if isinstance(value, Mapping):
        items: Iterable[tuple[Any, Any]] = value.items()
    elif isinstance(value, list | tuple):
        items = enumerate(value)
    else:
        return None
    if len(value) > MAX_ENTRIES:
        return place
    inner = (_too_long(part, f"{place}.{name}" if place else str(name)) for name, part in items)
    return next((found for found in inner if found is not None), None)


def _nested(bare: str) -> int:
    """Return how many loops stand in each other at most, in a rule whose texts were taken out."""
    starts = {found.start() + found.group().index("(") for found in _LOOP.finditer(bare)}
    open_: list[bool] = []
    deepest = 0
    for index, letter in enumerate(bare):
        if letter in "([{":
            open_.append(index in starts)
            deepest = max(deepest, sum(open_))
        elif letter in ")]}" and open_:
            open_.pop()
    return deepest


class _BadExpressionError(Exception):
    """A rule the library cannot read; leaves pydantic as it is, because only ValueErrors are gathered there."""


def _variables(rule: str) -> set[str]:
    return set(_program(rule).variables())


@cache
def _program(rule: str) -> Any:
    try:
        return _cel().compile(rule)
    except ValueError as exc:
        raise _BadExpressionError(" ".join(str(exc).split())) from None


@cache
def _cel() -> Any:
    # The package imports its interactive shell first, which takes ten times as long as the rest of it.
    sys.modules.setdefault("cel.cli", ModuleType("cel.cli"))
    import cel

    return cel


#: What a case does not say: an ordinary release on an ordinary host, so that a case names only what it is about.
_ORDINARY: Mapping[str, dict[str, Any]] = {
    "manifest": {
        "apiVersion": "wellhead/v1",
        "kind": "Connector",
        "metadata": {
            "id": "acme/example",
            "version": "1.0.0",
            "title": "Example",
            "summary": "",
            "publisher": {"name": "Acme", "url": None, "contact": None},
            "license": "Apache-2.0",
            "links": {},
            "icon": None,
        },
        "taxonomy": {
            "type": "http",
            "category": "api",
            "vendor": "",
            "product": "example",
            "method": "rest",
            "tags": [],
        },
        "network": {"egress": [], "variables": {}, "private_networks": "never"},
        "auth": {"methods": [], "default": None},
        "secrets": {"slots": {}},
        "streams": [],
        "compliance": {
            "classification": "internal",
            "data_categories": [],
            "residency": [],
            "retention_days": None,
            "terms": None,
            "reviewed": None,
        },
        "support": {"level": "certified", "lifecycle": "production", "owner": "", "deprecation": None},
    },
    "release": {"version": "1.0.0", "status": "active", "signed_by": [], "review_age_days": None, "age_days": 0},
    "host": {"environment": "production"},
    "connection": {
        "name": "example",
        "connector": "acme/example",
        "version": "*",
        "channel": "stable",
        "config": {},
        "slots": [],
        "streams": [{"name": "example", "mode": "full_refresh"}],
        "egress": [],
        "sink": {"type": "parquet"},
    },
    "tenant": {"id": "default", "project": "default", "labels": {}},
}
