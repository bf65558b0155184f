"""Every change of a manifest has a name and a weight; none is silent."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wellhead import documents
from wellhead.compat import surface
from wellhead.compat.change import Change
from wellhead.compat.diff import NAMED, RULES, diff
from wellhead.manifest.model import Manifest

EXAMPLE = documents.read(Path(__file__).parents[1] / "manifest" / "example.yaml").data
COLUMNS = {
    "type": "object",
    "required": ["id"],
    "properties": {
        "id": {"type": "integer"},
        "amount": {"type": "number"},
        "note": {"type": ["string", "null"], "title": "Note"},
        "place": {"type": "object", "properties": {"city": {"type": "string"}}},
        "tags": {"type": "array", "items": {"type": "string"}},
    },
}
EGRESS, SCHEMA, SLOTS = ("network", "egress"), ("config", "schema"), ("secrets", "slots")
PROPERTIES = (*SCHEMA, "properties")
LOGIN, ACCOUNTS = ("auth", "methods", 0), ("streams", 0)

Steps = tuple[tuple[tuple[str | int, ...], Any], ...]


def changed(*steps: tuple[tuple[str | int, ...], Any], base: Any = EXAMPLE) -> Any:
    """Return the example with each (path, value) set; `...` removes a key, a one-element list is appended at "+"."""
    data = copy.deepcopy(base)
    for path, value in steps:
        *parents, last = path
        at = data
        for key in parents:
            at = at[key]
        if last == "+":
            at.append(value)
        elif value is ...:
            del at[last]
        else:
            at[last] = value
    return data


def manifest(data: Any) -> Manifest:
    return Manifest.model_validate(data)


RICH = changed(((*ACCOUNTS, "schema"), COLUMNS), (("support", "deprecation"), {"since": "2026-01-01"}))


def between(was: Any, now: Any) -> list[tuple[str, str]]:
    return [(change.kind, change.severity) for change in diff(manifest(was), manifest(now))]


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        ((("metadata", "title"), "Harbor"), ("metadata.title", "patch")),
        ((("metadata", "license"), "Elastic-2.0"), ("metadata.license", "major")),
        ((("taxonomy", "method"), "bulk"), ("taxonomy.method", "major")),
        ((("runtime", "protocol"), {"min": 1, "max": 2}), ("runtime.protocol.max", "minor")),
        ((("runtime", "platforms"), ["linux/amd64"]), ("runtime.platforms", "major")),
        ((("runtime", "host"), ">=0.2,<2"), ("runtime.host", "major")),
        ((("runtime", "host"), ">=0.1,<3"), ("runtime.host", "minor")),
        ((("runtime", "host"), ">=0.1 <2.0.0"), ("runtime.host", "patch")),
        ((("capabilities", "deletes"), "hard"), ("capabilities.deletes", "major")),
        ((("capabilities", "replay"), "redelivery"), ("capabilities.replay", "major")),
        (((*EGRESS, "+"), {"host": "cdn.harbor.example"}), ("egress.added", "minor")),
        (((*EGRESS, "+"), {"host": "login.harbor.example", "port": 8443}), ("egress.port", "minor")),
        (((*EGRESS, "+"), {"host": "eu.files.harbor.example"}), ("egress.narrowed", "minor")),
        (((*EGRESS, "+"), {"host": "*.harbor.example"}), ("egress.widened", "minor")),
        (((*EGRESS, 1), ...), ("egress.removed", "minor")),
        (((*EGRESS, 1, "tls"), "optional"), ("egress.tls", "minor")),
        (((*EGRESS, 1, "private"), True), ("egress.private", "minor")),
        (((*EGRESS, 3, "open"), "manifest"), ("egress.open", "minor")),
        (((*EGRESS, 1, "open"), "operator"), ("egress.open", "major")),
        ((("network", "variables", "region", "enum"), ["eu", "us", "ap"]), ("variable", "minor")),
        ((("network", "variables", "region", "enum"), ["eu"]), ("variable", "major")),
        ((("network", "variables", "region"), {"pattern": "eu|us"}), ("variable", "minor")),
        (((*LOGIN, "scopes"), ["read.accounts"]), ("auth.scopes", "minor")),
        (((*LOGIN, "type"), "basic"), ("auth.type", "major")),
        (((*LOGIN, "id"), "oauth2"), ("auth.removed", "major")),
        (((*SLOTS, "client_id", "min_length"), 8), ("slot.min_length", "major")),
        (((*SLOTS, "client_secret", "sensitive"), False), ("slot.sensitive", "major")),
        (((*SLOTS, "extra"), {}), ("slot.added", "major")),
        (((*SLOTS, "extra"), {"required": False}), ("slot.added", "minor")),
        (((*SLOTS, "client_id"), ...), ("slot.removed", "major")),
        (((*PROPERTIES, "label"), ...), ("config.property.removed", "major")),
        (((*PROPERTIES, "extra"), {"type": "string"}), ("config.property.added", "minor")),
        (((*SCHEMA, "required"), ["region"]), ("config.property.optional", "minor")),
        (((*SCHEMA, "required"), ["region", "start_date", "label"]), ("config.property.required", "major")),
        (((*SCHEMA, "required"), ["region", "start_date", "page_size"]), ("config.property.required", "minor")),
        (((*PROPERTIES, "ratio", "type"), "integer"), ("config.property.type", "major")),
        (((*PROPERTIES, "page_size", "type"), "number"), ("config.property.type", "minor")),
        (((*PROPERTIES, "region", "enum"), ["eu"]), ("config.property.enum", "major")),
        (((*PROPERTIES, "region", "enum"), ["eu", "us", "ap"]), ("config.property.enum", "minor")),
        (((*PROPERTIES, "page_size", "default"), 500), ("config.property.default", "major")),
        (((*PROPERTIES, "page_size", "maximum"), 100), ("config.property.bound", "major")),
        (((*PROPERTIES, "page_size", "maximum"), 900), ("config.property.bound", "minor")),
        (((*PROPERTIES, "mirror", "format"), ...), ("config.property.format", "minor")),
        (((*PROPERTIES, "label", "anyOf"), [{"minLength": 3}]), ("config.property.rule", "major")),
        (((*PROPERTIES, "region", "title"), "Where"), ("config.property.remark", "patch")),
        (((*PROPERTIES, "nested", "properties", "depth", "type"), "string"), ("config.property.type", "major")),
        (((*SCHEMA, "additionalProperties"), True), ("config.property.further", "minor")),
        ((("config", "version"), 3), ("config.migration.missing", "major")),
        ((("config", "version"), 1), ("config.version", "major")),
        ((("config", "migrations"), []), ("config.migration.removed", "major")),
        (((*ACCOUNTS, "name"), "people"), ("stream.removed", "major")),
        (((*ACCOUNTS, "primary_key"), ["id", "region"]), ("stream.primary_key", "major")),
        (((*ACCOUNTS, "cursor", "field"), "created_at"), ("stream.cursor.field", "major")),
        (((*ACCOUNTS, "cursor", "lookback_s"), 60), ("stream.cursor.lookback_s", "minor")),
        (((*ACCOUNTS, "sync_modes"), ["full_refresh"]), ("stream.sync_modes", "major")),
        (((*ACCOUNTS, "classification"), "public"), ("stream.classification", "minor")),
        (((*ACCOUNTS, "fields", "phone"), {"pii": "contact"}), ("stream.pii", "minor")),
        ((("streams", "+"), {"name": "deals"}), ("stream.added", "minor")),
        ((("streams", 1, "pattern"), "custom_.*"), ("stream.removed", "major")),
        (((*ACCOUNTS, "schema", "properties", "note"), ...), ("stream.column.removed", "major")),
        (((*ACCOUNTS, "schema", "properties", "more"), {"type": "string"}), ("stream.column.added", "minor")),
        (((*ACCOUNTS, "schema", "properties", "id", "type"), "string"), ("stream.column.type", "major")),
        (((*ACCOUNTS, "schema", "properties", "amount", "type"), ["number", "null"]), ("stream.column.type", "major")),
        (((*ACCOUNTS, "schema", "properties", "note", "type"), "string"), ("stream.column.type", "minor")),
        (((*ACCOUNTS, "schema", "required"), []), ("stream.column.optional", "major")),
        (((*ACCOUNTS, "schema", "required"), ["id", "amount"]), ("stream.column.required", "minor")),
        (((*ACCOUNTS, "schema"), "accounts.json"), ("stream.schema", "major")),
        ((("resources", "memory_mib"), 1024), ("resources.memory_mib", "minor")),
        ((("resources", "memory_mib"), 256), ("resources.memory_mib", "patch")),
        ((("compliance", "classification"), "restricted"), ("compliance.classification", "minor")),
        ((("compliance", "residency"), ["eu"]), ("compliance.residency", "minor")),
        ((("compatibility", "state", "reads"), [3]), ("state.reads", "major")),
        ((("compatibility", "state"), {"writes": 4, "reads": [2, 3, 4]}), ("state.writes", "minor")),
        ((("support", "level"), "community"), ("support.level", "minor")),
        ((("rate_limits", 0, "limit"), 5), ("rate_limit.limit", "patch")),
        ((("errors",), []), ("errors", "patch")),
    ],
    ids=lambda value: ".".join(map(str, value[0])) if isinstance(value[0], tuple) else "",
)
def test_each_kind_of_change_has_its_weight(step: tuple[Any, Any], expected: tuple[str, str]) -> None:
    found = between(RICH, changed(step, base=RICH))
    assert expected in found
    assert found[0][1] == expected[1] or expected[1] != "major"


def test_what_a_migration_carries_over_breaks_nothing() -> None:
    migration = {"from": 2, "to": 3, "rename": {"label": "tag"}, "remove": ["archived"], "set": {"mode": "fast"}}
    properties = {
        name: schema for name, schema in EXAMPLE["config"]["schema"]["properties"].items() if name != "archived"
    }
    properties["tag"] = properties.pop("label")
    properties["mode"] = {"type": "string"}
    now = changed(
        (("config", "version"), 3),
        (("config", "migrations", "+"), migration),
        (PROPERTIES, properties),
        ((*SCHEMA, "required"), ["region", "start_date", "mode"]),
    )
    found = between(EXAMPLE, now)
    assert {kind for kind, _ in found} == {
        "config.version",
        "config.migration.added",
        "config.property.renamed",
        "config.property.dropped",
        "config.property.set",
    }
    assert {severity for _, severity in found} == {"minor"}


def test_a_migration_that_sets_the_wrong_type_hides_no_other_change() -> None:
    migration = {"from": 2, "to": 3, "rename": {"ratio": "share"}}
    properties = {name: schema for name, schema in EXAMPLE["config"]["schema"]["properties"].items() if name != "ratio"}
    properties["share"] = {"type": "integer"}
    now = changed((("config", "version"), 3), (("config", "migrations", "+"), migration), (PROPERTIES, properties))
    assert ("config.property.type", "major") in between(EXAMPLE, now)


def test_a_release_that_cannot_read_its_predecessors_state_says_so() -> None:
    now = changed((("compatibility", "state"), {"writes": 4, "reads": [4]}))
    told = [change.sentence for change in diff(manifest(EXAMPLE), manifest(now))]
    assert told == [
        "state 2, 3 can no longer be read, and 1.4.2 writes it: no connection can go on from where it is",
        "writes state 4 instead of 3, which 1.4.2 cannot read: going back means an older checkpoint",
    ]


GROWTH: list[Steps] = [
    (((*EGRESS, "+"), {"host": "cdn.harbor.example"}),),
    (((*EGRESS, 1, "port"), 8443),),
    (((*EGRESS, "+"), {"host": "*.harbor.example"}),),
    (((*EGRESS, 1, "tls"), "none"),),
    (((*EGRESS, 1, "private"), True),),
    ((("network", "private_networks"), "with_operator_grant"),),
    (((*LOGIN, "scopes", "+"), "write.deals"),),
    ((("auth", "methods", "+"), {"id": "key", "type": "api_key", "scopes": ["admin"]}),),
    ((("compliance", "classification"), "restricted"),),
]
NO_GROWTH: list[Steps] = [
    (((*EGRESS, "+"), {"host": "eu.files.harbor.example"}),),
    (((*EGRESS, 1), ...),),
    (((*EGRESS, 1, "open"), "operator"),),
    (((*LOGIN, "scopes"), ["read.deals"]),),
    ((("compliance", "classification"), "public"),),
    ((("auth", "methods", "+"), {"id": "key", "type": "api_key"}),),
    ((("streams", "+"), {"name": "deals"}),),
]


@pytest.mark.parametrize(
    ("steps", "grows"), [*((steps, True) for steps in GROWTH), *((steps, False) for steps in NO_GROWTH)]
)
def test_tenants_must_agree_exactly_where_the_surface_grows(steps: Steps, grows: bool) -> None:
    was, now = manifest(EXAMPLE), manifest(changed(*steps))
    config = {"region": "eu", "start_date": "2026-01-01"}
    assert any(change.needs_approval for change in diff(was, now)) is grows
    assert bool(surface.grown(surface.surface(was, config), surface.surface(now, config))) is grows


def test_reordering_is_told_and_weighs_nothing() -> None:
    now = changed((EGRESS, EXAMPLE["network"]["egress"][::-1]))
    assert between(EXAMPLE, now) == [("order", "patch")]


def test_the_version_alone_is_no_change() -> None:
    assert between(EXAMPLE, changed((("metadata", "version"), "1.9.0"))) == []


def test_every_value_of_the_model_has_a_rule_or_a_comparison_of_its_own() -> None:
    def places(model: Any, place: str = "") -> Iterator[str]:
        for name, field in model.model_fields.items():
            inner = f"{place}.{name}" if place else name
            is_section = isinstance(field.annotation, type) and hasattr(field.annotation, "model_fields")
            if is_section and inner not in NAMED and inner not in RULES:
                yield from places(field.annotation, inner)
            else:
                yield inner

    assert set(places(Manifest)) == set(RULES) | NAMED


def leaves(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*path, key), inner
        yield from leaves(inner, (*path, key))


def mutated(value: Any) -> Iterator[Any]:
    """Return other values of the same sort: for texts and numbers one more, for lists one less."""
    match value:
        case bool():
            yield not value
        case int() | float():
            yield value + 1
        case str():
            yield value + "x"
        case list() if value:
            yield value[:-1]


MUTATIONS = [
    (path, mutation)
    for path, value in leaves(RICH)
    for mutation in (..., *mutated(value))
    if path[0] != "x-team" and path[:2] != ("metadata", "version")
]


def valid(data: Any) -> Manifest | None:
    try:
        return manifest(data)
    except ValueError:
        return None


@pytest.mark.parametrize("top", sorted({str(path[0]) for path, _ in MUTATIONS}))
def test_no_single_change_is_silent(top: str) -> None:
    was = manifest(RICH)
    tried = 0
    for path, mutation in MUTATIONS:
        now = valid(changed((path, mutation), base=RICH)) if path[0] == top else None
        if now is None or now == was:
            continue
        tried += 1
        assert diff(was, now), (path, mutation)
        assert diff(now, was), (path, mutation)
    assert tried or top in {"apiVersion", "kind"}


@given(st.lists(st.sampled_from(MUTATIONS), max_size=4, unique_by=lambda one: one[0]))
def test_equal_manifests_have_no_changes_and_others_have_some(steps: list[tuple[Any, Any]]) -> None:
    data: Any = RICH
    for step in steps:
        try:
            data = changed(step, base=data)
        except (KeyError, IndexError, TypeError):
            continue
    now = valid(data)
    if now is None:
        return
    assert diff(now, now) == ()
    assert (diff(manifest(RICH), now) == ()) == (manifest(RICH) == now)


def test_a_field_nobody_thought_of_counts_as_breaking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "wellhead.compat.diff.RULES", {name: rule for name, rule in RULES.items() if "owner" not in name}
    )
    (change,) = diff(manifest(EXAMPLE), manifest(changed((("support", "owner"), "others"))))
    assert isinstance(change, Change)
    assert change.severity == "major"


def test_a_range_that_cannot_be_read_counts_as_breaking() -> None:
    assert between(EXAMPLE, changed((("runtime", "host"), "newest"))) == [("runtime.host", "major")]
