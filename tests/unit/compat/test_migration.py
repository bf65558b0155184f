"""What a migration makes of a schema agrees with what it makes of the configs that fit it."""

from __future__ import annotations

import copy
from typing import Any

import jsonschema
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.unit.manifest.test_migrate import one_step
from wellhead.compat import migration
from wellhead.manifest.migrate import apply
from wellhead.manifest.model import Config, Migration

LISTED = ["x", "y", 1, True, None]
#: What each parameter may be, and values that it may have.
RULES: list[tuple[dict[str, Any], st.SearchStrategy[Any]]] = [
    ({"enum": LISTED}, st.sampled_from(LISTED)),
    ({"const": "x"}, st.just("x")),
    ({"type": "integer", "minimum": 0, "default": 1}, st.integers(0, 3)),
]


def one(step: dict[str, Any]) -> Migration:
    return Migration.model_validate({"from": 1, "to": 2, **step})


@st.composite
def schema_and_config(draw: st.DrawFn) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a closed schema of a few parameters, nested ones among them, and a config that fits it."""

    def group(names: str) -> tuple[dict[str, Any], dict[str, Any]]:
        properties, values, required = {}, {}, []
        for name in names:
            rule, value = draw(st.sampled_from(RULES))
            properties[name] = rule
            if draw(st.booleans()):
                required.append(name)
            if name in required or draw(st.booleans()):
                values[name] = draw(value)
        closed = {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
        return closed, values

    schema, config = group("abcg")
    inner, values = group("ef")
    schema["properties"]["d"] = inner
    # An object that is there says something: one that is empty goes with the last that is taken out of it.
    if values:
        config["d"] = values
    return schema, config


@pytest.mark.slow
@given(schema_and_config(), one_step())
@example(
    (
        {"type": "object", "properties": {"g": {"enum": LISTED}}, "required": ["g"], "additionalProperties": False},
        {"g": "x"},
    ),
    {"rename": {}, "map": {"g": [{"from": "x", "to": "z"}]}, "remove": [], "set": {}},
)
def test_a_config_that_fitted_fits_what_a_migration_makes_of_its_schema(
    given_: tuple[dict[str, Any], dict[str, Any]], step: dict[str, Any]
) -> None:
    schema, config = given_
    # Values that were not listed may become anything, and no schema says what.
    listed = {new for old, new in [*step["rename"].items(), ("g", "g")] if _is_listed(schema, old)}
    made = one(step | {"map": {name: pairs for name, pairs in step["map"].items() if name in listed}})
    before = copy.deepcopy(schema)
    now, _ = migration.migrated(schema, made, Config())
    values = copy.deepcopy(config)
    list(apply(values, made))
    jsonschema.Draft202012Validator(before).validate(config)
    jsonschema.Draft202012Validator(now).validate(values)
    assert schema == before


def _is_listed(schema: dict[str, Any], name: str) -> bool:
    for part in name.split("."):
        schema = schema["properties"][part]
    return "enum" in schema or "const" in schema


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        ({"rename": {"size": "limits.size"}}, ["config.size is called limits.size; the migration renames it"]),
        ({"map": {"tier": [{"from": 1, "to": "one"}]}}, ["config.tier has other values; the migration maps 1"]),
        ({"remove": ["size"]}, ["config.size is gone; the migration drops it"]),
        ({"set": {"size": 3}}, ["config.size was optional; the migration sets it to 3"]),
        ({"set": {"mode": "fast"}}, ["config.mode is new; the migration sets it to fast"]),
        ({"remove": ["unknown"], "rename": {"other": "mode"}, "map": {"mode": []}}, []),
    ],
)
def test_what_a_migration_does_to_a_schema_is_told(step: dict[str, Any], expected: list[str]) -> None:
    properties = {"size": {"type": "integer"}, "tier": {"enum": [1, 2]}}
    schema = {"type": "object", "additionalProperties": False, "properties": properties, "required": ["tier"]}
    _, told = migration.migrated(schema, one(step), Config.model_validate({"schema": schema}))
    assert [change.sentence for change in told] == expected
    assert {change.severity for change in told} <= {"minor"}
