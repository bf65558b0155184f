"""A config on its way forward: what each operation does, and what holds for all of them."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wellhead.errors import ConfigurationError
from wellhead.manifest.migrate import Migrated, migrate, written
from wellhead.manifest.model import Config


def declared(*steps: dict[str, Any]) -> Config:
    """Return a config section whose migrations do ``steps``, one a version."""
    migrations = [{"from": number, "to": number + 1, **step} for number, step in enumerate(steps, 1)]
    return Config.model_validate({"version": len(steps) + 1, "migrations": migrations})


def migrated(config: dict[str, Any], *steps: dict[str, Any], written_for: int = 1) -> Migrated:
    return migrate(config, declared(*steps), written_for)


@pytest.mark.parametrize(
    ("step", "config", "expected"),
    [
        ({"rename": {"a": "b"}}, {"a": 1, "c": 2}, {"b": 1, "c": 2}),
        ({"rename": {"a": "b"}}, {"c": 2}, {"c": 2}),
        ({"rename": {"a": "b", "b": "a"}}, {"a": 1, "b": 2}, {"a": 2, "b": 1}),
        ({"rename": {"a": "x.y"}}, {"a": 1}, {"x": {"y": 1}}),
        ({"rename": {"a": "x.y"}}, {"a": 1, "x": {"z": 2}}, {"x": {"z": 2, "y": 1}}),
        ({"rename": {"a": "a.b"}}, {"a": 1}, {"a": {"b": 1}}),
        ({"rename": {"a.b": "a"}}, {"a": {"b": 1}}, {"a": 1}),
        ({"rename": {"a.b.c": "c"}}, {"a": {"b": {"c": 1}, "d": 2}}, {"a": {"d": 2}, "c": 1}),
        ({"rename": {"a.b": "c"}}, {"a": "text"}, {"a": "text"}),
        ({"map": {"a": [{"from": 1, "to": "one"}]}}, {"a": 1}, {"a": "one"}),
        ({"map": {"a": [{"from": 1, "to": "one"}]}}, {"a": "1"}, {"a": "one"}),
        ({"map": {"a": [{"from": 1, "to": "one"}]}}, {"a": True}, {"a": True}),
        ({"map": {"a": [{"from": True, "to": "on"}]}}, {"a": "true"}, {"a": "on"}),
        ({"map": {"a": [{"from": None, "to": 0}]}}, {"a": "null"}, {"a": "null"}),
        ({"map": {"a": [{"from": [1], "to": 1}]}}, {"a": [1]}, {"a": 1}),
        ({"map": {"a": [{"from": "x", "to": "y"}, {"from": "y", "to": "z"}]}}, {"a": "x"}, {"a": "y"}),
        ({"map": {"a.b": [{"from": 1, "to": 2}]}}, {"a": {"b": 1}}, {"a": {"b": 2}}),
        ({"rename": {"a": "b"}, "map": {"b": [{"from": 1, "to": 2}]}}, {"a": 1}, {"b": 2}),
        ({"remove": ["a", "b.c"]}, {"a": 1, "b": {"c": 1, "d": 2}}, {"b": {"d": 2}}),
        ({"remove": ["b.c"]}, {"b": {"c": 1}}, {}),
        ({"set": {"a": 1, "b.c": 2}}, {}, {"a": 1, "b": {"c": 2}}),
        ({"set": {"a": 1}}, {"a": None}, {"a": None}),
        ({"remove": ["a"], "set": {"a": 1}}, {"a": 0}, {"a": 1}),
    ],
)
def test_each_operation_does_what_it_says(
    step: dict[str, Any], config: dict[str, Any], expected: dict[str, Any]
) -> None:
    assert migrated(config, step).values == expected


def test_what_was_done_is_told_without_a_value_of_the_config() -> None:
    steps = (
        {"rename": {"a": "b", "nowhere": "else"}, "map": {"b": [{"from": "hunter2", "to": "kept"}]}},
        {"remove": ["c"], "set": {"b": 7, "d": "fast"}},
    )
    assert migrated({"a": "hunter2", "c": "hunter3"}, *steps).steps == (
        "1 → 2: a is called b",
        "1 → 2: b has another value",
        "2 → 3: c is removed",
        '2 → 3: d is set to "fast"',
    )


@pytest.mark.parametrize("step", [{"rename": {"a": "b"}}, {"rename": {"a": "b.c"}}, {"set": {"b.c": 1}}])
def test_what_stands_where_a_migration_puts_something_is_not_overwritten(step: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        migrated({"a": 1, "b": 2}, step)
    assert caught.value.code.name == "WH-MAN-131"
    assert caught.value.place is not None
    assert str(caught.value.place.field).startswith("config.b")
    assert "config_version: 2" in str(caught.value.hint)


@pytest.mark.parametrize(("written_for", "gap"), [(1, "from config version 2 to 3"), (5, "from config version 5 to 4")])
def test_without_a_way_the_config_has_to_be_written_anew(written_for: int, gap: str) -> None:
    config = Config.model_validate({"version": 4, "migrations": [{"from": 1, "to": 2}, {"from": 3, "to": 4}]})
    with pytest.raises(ConfigurationError, match=gap) as caught:
        migrate({}, config, written_for)
    assert caught.value.code.name == "WH-MAN-130"


NAMES = st.sampled_from(["a", "b", "c", "d.e", "d.f", "g"])
VALUES = st.none() | st.booleans() | st.integers(0, 3) | st.sampled_from(["", "1", "x"]) | st.lists(st.integers(0, 1))
CONFIGS = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys("abcg", VALUES),
        "d": st.fixed_dictionaries({}, optional={"e": VALUES, "f": VALUES}).filter(bool),
    },
)


@st.composite
def one_step(draw: st.DrawFn) -> dict[str, Any]:
    """Return a step as lint lets it pass: each name and value is said once, and new names are new."""
    olds = draw(st.lists(NAMES, unique=True, max_size=3))
    gone = draw(st.lists(NAMES.filter(lambda name: name not in olds), unique=True, max_size=2))
    new = {old: f"new_{old.replace('.', '_')}" for old in olds}
    pair = st.fixed_dictionaries({"from": VALUES, "to": VALUES})
    pairs = st.lists(pair, max_size=3, unique_by=lambda drawn: written(drawn["from"]))
    return {
        "rename": new,
        "map": draw(st.dictionaries(st.sampled_from([*new.values(), "g"]), pairs, max_size=2)),
        "remove": gone,
        "set": draw(st.dictionaries(st.sampled_from(["mode", "h.i"]), VALUES, max_size=2)),
    }


@pytest.mark.slow
@given(CONFIGS, st.lists(one_step(), min_size=1, max_size=3))
def test_the_way_to_a_version_does_not_depend_on_where_one_rests(
    config: dict[str, Any], steps: list[dict[str, Any]]
) -> None:
    before = copy.deepcopy(config)
    whole = migrated(config, *steps).values
    for rest in range(1, len(steps) + 1):
        first = migrated(config, *steps[:rest]).values
        assert migrated(first, *steps, written_for=rest + 1).values == whole
    assert config == before
    assert json.loads(json.dumps(whole)) == whole


@pytest.mark.slow
@given(CONFIGS, one_step())
def test_a_step_leaves_what_it_does_not_name_and_takes_what_it_does(
    config: dict[str, Any], step: dict[str, Any]
) -> None:
    found = migrated(config, step)
    named = {name.partition(".")[0] for name in (*step["rename"], *step["remove"], *step["map"])}
    for name in set(config) - named:
        assert found.values[name] == config[name]
    for name in (*step["rename"], *step["remove"]):
        assert _at(found.values, name) is ...
    for old, new in step["rename"].items():
        if new not in step["map"]:
            assert _at(found.values, new) == _at(config, old)
    for name in step["set"]:
        assert _at(found.values, name) is not ...
    assert found.values == config or found.steps


@given(CONFIGS, st.integers(1, 3))
def test_a_config_of_the_version_asked_for_is_itself(config: dict[str, Any], version: int) -> None:
    found = migrated(config, *[{"remove": ["a", "b", "d"]}] * (version - 1), written_for=version)
    assert (found.values, found.steps) == (config, ())
    assert found.values is not config


def _at(config: dict[str, Any], name: str) -> Any:
    at: Any = config
    for part in name.split("."):
        at = at.get(part, ...) if isinstance(at, dict) else ...
    return at
