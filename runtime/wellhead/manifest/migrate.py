"""A connection's config on its way from the version it was written for to the one a release asks for. Pure.

    config of version 1 ──1 → 2──▶ ──2 → 3──▶ config of version 3       each step: rename, map, remove, set

Only forward: what a step removes or maps cannot be had back, so the way back is the config as it was written, which
whoever calls this has kept.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from wellhead.errors import Code, ConfigurationError, Place
from wellhead.manifest.model import Config, Migration

NO_PATH = Code("WH-MAN-130", "No migration leads from a config's version to the one a release asks for.")
IN_THE_WAY = Code("WH-MAN-131", "A migration does not fit what a config says.")

Names = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Migrated:
    """A config after its migrations; ``steps`` says what they changed in it, one phrase each, and holds no value of it.

    ``steps`` is empty where the config was written for the version asked for, or says nothing that changed.
    """

    values: dict[str, Any]
    steps: tuple[str, ...]


def migrate(config: Mapping[str, Any], declared: Config, written_for: int) -> Migrated:
    """Bring a config forward to the version a manifest declares; the config given is left as it is.

    Args:
        config: as it was written, without defaults.
        declared: the config section of the release's manifest.
        written_for: the version ``config`` was written for; not above the declared one.

    Raises:
        ConfigurationError: no chain of migrations leads there (WH-MAN-130), or one of them meets a config in which its
            place is taken (WH-MAN-131), with the parameter as the place's field.
    """
    values, steps = copy.deepcopy(dict(config)), []
    for step in way(declared, written_for):
        steps += [f"{step.from_} → {step.to}: {said}" for said in apply(values, step)]
    return Migrated(values, tuple(steps))


def way(declared: Config, written_for: int) -> tuple[Migration, ...]:
    """Return the migrations from a version to the declared one, in order; none where they are equal.

    Raises:
        ConfigurationError: one is missing (WH-MAN-130), or the version is above the declared one.
    """
    known = {(step.from_, step.to): step for step in declared.migrations}
    wanted = [(version, version + 1) for version in range(written_for, declared.version)]
    missing = next((pair for pair in wanted if pair not in known), None)
    if missing is not None or written_for > declared.version:
        before, after = missing or (written_for, declared.version)
        raise ConfigurationError(
            f"no migration leads from config version {before} to {after}",
            code=NO_PATH,
            hint=f"write config anew as version {declared.version} asks, and config_version: {declared.version} above",
            place=Place(field="config_version"),
        )
    return tuple(known[pair] for pair in wanted)


def apply(values: dict[str, Any], step: Migration) -> Iterator[str]:
    """Do one migration to a config in place, telling each thing that it changes as it is done.

    Raises:
        ConfigurationError: a place is taken (WH-MAN-131); then the config is half done.
    """
    # All are taken out before any is put back, so that two may change names with each other.
    taken = [(old, new, _take(values, _names(old))) for old, new in step.rename.items()]
    for old, new, found in taken:
        for value in found:
            _put(values, new, value, step, f"config.{old} becomes it")
            yield f"{old} is called {new}"
    for name, pairs in step.map.items():
        for parent, last in _found(values, _names(name)):
            mapped = next((pair for pair in pairs if written(pair.from_) == written(parent[last])), None)
            if mapped is not None:
                parent[last] = copy.deepcopy(mapped.to)
                yield f"{name} has another value"
    for name in step.remove:
        for _ in _take(values, _names(name)):
            yield f"{name} is removed"
    for name, value in step.set.items():
        if not list(_found(values, _names(name))):
            _put(values, name, copy.deepcopy(value), step, "it is set")
            yield f"{name} is set to {json.dumps(value, ensure_ascii=False)}"


def written(value: Any) -> tuple[bool, str]:
    """Return a form in which a value and the text that plainly is it are equal: 1 and ``"1"``, true and ``"true"``."""
    match value:
        case bool():
            return True, str(value).lower()
        case float() if value.is_integer():
            return True, str(int(value))
        case str() | int() | float():
            return True, str(value).strip()
        case _:
            return False, json.dumps(value, sort_keys=True)


def _names(name: str) -> Names:
    return tuple(name.split("."))


def _found(values: dict[str, Any], names: Names) -> Iterator[tuple[dict[str, Any], str]]:
    """Yield the object a parameter stands in and its name there; nothing where a config does not say it."""
    *above, last = names
    at: Any = values
    for name in above:
        at = at.get(name) if isinstance(at, dict) else None
    if isinstance(at, dict) and last in at:
        yield at, last


def _take(values: dict[str, Any], names: Names) -> list[Any]:
    """Take a parameter out, and each object that is empty without it; return its value, or nothing."""
    taken = [parent.pop(last) for parent, last in list(_found(values, names))]
    above = names[:-1]
    while taken and above:
        for parent, last in list(_found(values, above)):
            if not parent[last]:
                del parent[last]
        above = above[:-1]
    return taken


def _put(values: dict[str, Any], name: str, value: Any, step: Migration, why: str) -> None:
    *above, last = _names(name)
    at: Any = values
    for part in above:
        at = at.setdefault(part, {}) if isinstance(at, dict) else at
    if not isinstance(at, dict) or last in at:
        said = "is given already" if isinstance(at, dict) else "has no place in what is given"
        raise ConfigurationError(
            f"config.{name} {said}, and the migration from config version {step.from_} to {step.to} puts it there: "
            f"{why}",
            code=IN_THE_WAY,
            hint=f"where config is written for version {step.to}, say config_version: {step.to}; else leave one out",
            place=Place(field=f"config.{name}"),
        )
    at[last] = value
