"""What a config migration makes of the configs that fitted an older schema: the schema they fit afterwards. Pure.

So that the difference between two releases is what people meet: a parameter that a migration renames is not gone, and a
value that it maps is not lost.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from wellhead.compat.change import Change, Path, words
from wellhead.manifest.migrate import written
from wellhead.manifest.model import Config, Mapped, Migration, parameter

PROPERTIES: Path = ("config", "schema", "properties")
#: JSON's name of each type of value.
_TYPES = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}


def migrations(was: Config, now: Config) -> Iterator[Change]:
    """Tell which migrations came, went or do something else; a config may be under way on any of them."""
    place: Path = ("config", "migrations")
    before = {(step.from_, step.to): step for step in was.migrations}
    after = {(step.from_, step.to): step for step in now.migrations}
    for key in dict.fromkeys((*before, *after)):
        name = f"the migration from config version {key[0]} to {key[1]}"
        if key not in after:
            yield Change("config.migration.removed", place, key, None, "major", f"{name} is gone")
        elif key not in before:
            yield Change("config.migration.added", place, None, key, "minor", f"{name} is new")
        elif before[key] != after[key]:
            yield Change("config.migration.changed", place, key, key, "major", f"{name} does something else")


def migrated(was: Mapping[str, Any], step: Migration, now: Config) -> tuple[dict[str, Any], list[Change]]:
    """Return the schema as a migration leaves the configs that fitted it, and what the migration did."""
    schema = copy.deepcopy(dict(was))
    return schema, list(_steps(schema, step, now))


def unknown(was: Mapping[str, Any], step: Migration) -> list[str]:
    """Return the parameters a migration reads or takes away that no config of the older schema could have."""
    read = [name for name in step.map if name not in step.rename.values() and name not in step.set]
    return [name for name in dict.fromkeys((*step.rename, *step.remove, *read)) if parameter(was, name) is None]


def is_owed(change: Change, was: Config, now: Config) -> bool:
    """Say whether a change leaves configs behind that a migration has to see to: of what they say, or had to say."""
    if not change.kind.startswith("config.property.") or change.severity != "major":
        return False
    # Of a list of values, some are gone.
    is_lost = change.kind.endswith(".enum") and change.now is None
    names = [str(part) for part, before in zip(change.place[1:], change.place, strict=False) if before == "properties"]
    name = ".".join(names)
    is_needed = bool(name) and (_is_needed(was.schema_, name) or _is_needed(now.schema_, name))
    return change.kind.endswith(".removed") or is_lost or is_needed


def _steps(schema: dict[str, Any], step: Migration, now: Config) -> Iterator[Change]:
    taken = [(old, new, _take(schema, old)) for old, new in step.rename.items()]
    for old, new, found in taken:
        for moved, is_needed in found:
            _put(schema, new, moved, is_needed=is_needed)
            told = f"config.{old} is called {new}; the migration renames it"
            yield Change("config.property.renamed", _place(new), old, new, "minor", told)
    for name, pairs in step.map.items():
        inner = parameter(schema, name, open_ones=False)
        if inner is not None:
            _above(schema, name)[0]["properties"][name.rpartition(".")[2]] = _mapped(inner, pairs)
            values = ", ".join(json.dumps(pair.from_, ensure_ascii=False) for pair in pairs)
            told = f"config.{name} has other values; the migration maps {values}"
            yield Change("config.property.mapped", _place(name), None, None, "minor", told)
    for name in step.remove:
        for _ in _take(schema, name):
            told = f"config.{name} is gone; the migration drops it"
            yield Change("config.property.dropped", PROPERTIES, name, None, "minor", told)
    for name, value in step.set.items():
        yield from _set(schema, name, value, now)


def _set(schema: dict[str, Any], name: str, value: Any, now: Config) -> Iterator[Change]:
    told = f"the migration sets it to {words(value)}"
    final, is_needed = parameter(now.schema_, name, open_ones=False), _is_needed(now.schema_, name)
    known = parameter(schema, name, open_ones=False)
    if known is None:
        made = final if final is not None else {"type": _TYPES.get(type(value), "null"), "enum": [value]}
        _put(schema, name, made, is_needed=is_needed)
        yield Change("config.property.set", _place(name), None, value, "minor", f"config.{name} is new; {told}")
    elif final is not None and not _is_needed(schema, name):
        # From now on every config says it: a default of before counts only where the value set is another.
        if "default" in known and known["default"] == value:
            known = {key: rule for key, rule in known.items() if key != "default"}
            known |= {"default": final["default"]} if "default" in final else {}
        _take(schema, name)
        _put(schema, name, known, is_needed=is_needed)
        yield Change("config.property.set", _place(name), None, value, "minor", f"config.{name} was optional; {told}")


def _mapped(schema: Mapping[str, Any], pairs: Iterable[Mapped]) -> dict[str, Any]:
    """Return the schema of a parameter whose values are mapped: exact where they were listed, else as it was."""
    listed = schema["enum"] if "enum" in schema else [schema["const"]] if "const" in schema else None
    if listed is None:
        return dict(schema)
    to = {written(pair.from_): pair.to for pair in pairs}
    values = [to.get(written(value), value) for value in listed]
    rest = {key: rule for key, rule in schema.items() if key not in ("enum", "const", "type", "default")}
    kinds = sorted({_TYPES.get(type(value), "null") for value in values})
    default = {"default": to.get(written(schema["default"]), schema["default"])} if "default" in schema else {}
    # By their JSON: Python takes true for 1.
    unique = {json.dumps(value, sort_keys=True): value for value in values}
    return {**rest, **default, "type": kinds[0] if len(kinds) == 1 else kinds, "enum": list(unique.values())}


# ---- a schema's parameters, named with dots into objects


def _above(schema: dict[str, Any], name: str) -> tuple[dict[str, Any], str]:
    """Return the object a parameter stands in, made where it is missing, and its name there."""
    *above, last = name.split(".")
    for part in above:
        schema = schema.setdefault("properties", {}).setdefault(
            part, {"type": "object", "properties": {}, "additionalProperties": False}
        )
    return schema, last


def _take(schema: dict[str, Any], name: str) -> list[tuple[dict[str, Any], bool]]:
    """Take a parameter out, and each object that is empty without it; return its schema and whether it is needed."""
    if parameter(schema, name, open_ones=False) is None:
        return []
    at, last = _above(schema, name)
    found = at["properties"].pop(last)
    is_needed = last in at.get("required", ())
    at["required"] = [other for other in at.get("required", ()) if other != last]
    above, _, _ = name.rpartition(".")
    if above and not at["properties"]:
        is_needed = is_needed and all(needed for _, needed in _take(schema, above))
    return [(found, is_needed)]


def _put(schema: dict[str, Any], name: str, inner: Mapping[str, Any], *, is_needed: bool) -> None:
    at, last = _above(schema, name)
    at.setdefault("properties", {})[last] = dict(inner)
    if is_needed:
        at["required"] = [*at.get("required", ()), last]
        above, _, _ = name.rpartition(".")
        if above and not _is_needed(schema, above):
            _put(schema, above, at, is_needed=True)


def _is_needed(schema: Mapping[str, Any], name: str) -> bool:
    above, _, last = name.rpartition(".")
    at = parameter(schema, above, open_ones=False) if above else schema
    return at is not None and last in at.get("required", ())


def _place(name: str) -> Path:
    steps: Path = PROPERTIES[:-1]
    for part in name.split("."):
        steps = (*steps, "properties", part)
    return steps
