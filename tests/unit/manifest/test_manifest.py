"""Loading, linting, egress and config of one worked manifest, and of its many broken copies."""

import copy
import functools
import io
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from ruamel.yaml import YAML

from wellhead import documents
from wellhead.errors import ConfigurationError
from wellhead.manifest import config, egress, lint, load, schema
from wellhead.manifest.egress import EgressEntry
from wellhead.manifest.model import Manifest

EXAMPLE = Path(__file__).with_name("example.yaml")
REPOSITORY = Path(__file__).parents[3]


Step = tuple[tuple[str | int, ...], Any]
#: The one migration of the example, as an operation among others.
STEP = ("config", "migrations", 0)


@functools.cache
def _example() -> Any:
    return documents.read(EXAMPLE).data


def changed(*steps: Step) -> load.LoadedManifest:
    """Return the example with each (path, value) set; a value of `...` removes the key."""
    data = copy.deepcopy(_example())
    for path, value in steps:
        *parents, last = path
        at = data
        for key in parents:
            at = at[key]
        if value is ...:
            del at[last]
        elif path == STEP:
            at[last] = {"from": 1, "to": 2, **value}
        else:
            at[last] = value
    yaml, text = YAML(typ="safe", pure=True), io.BytesIO()
    yaml.default_flow_style = False
    yaml.dump(data, text)
    return load.parse(text.getvalue(), "changed.yaml")


def codes(loaded: load.LoadedManifest) -> list[str]:
    return [finding.code.name for finding in lint.lint(loaded)]


@pytest.mark.parametrize(
    "line",
    [
        "  id: >-\n    harbor/accounts",
        "  id: &name harbor/accounts",
        "  id: !!str harbor/accounts",
        '  "id": harbor/accounts',
    ],
    ids=["folded", "anchor", "tag", "quoted name"],
)
def test_an_id_the_connector_could_not_read_is_found(line: str) -> None:
    written = EXAMPLE.read_text()
    (plain,) = [each for each in written.splitlines() if each.startswith("  id: ")]
    value = plain.removeprefix("  id: ").split()[0]
    assert codes(load.parse(written.replace(plain, line.replace("harbor/accounts", value)).encode())) == ["WH-MAN-023"]
    assert codes(load.parse(written.replace(plain, f"  id: '{value}'  # ours").encode())) == []


def test_the_example_is_sound() -> None:
    assert lint.lint(load.load(EXAMPLE)) == []


def test_its_hash_is_that_of_the_bytes_and_canonical_json_is_that_of_the_content() -> None:
    loaded = load.load(EXAMPLE)
    again = load.parse(EXAMPLE.read_bytes() + b"\n# a comment\n")
    assert loaded.sha256 != again.sha256
    assert loaded.canonical_json() == again.canonical_json()
    assert load.parse(loaded.canonical_json()).manifest == loaded.manifest


def test_a_folder_means_its_manifest() -> None:
    assert load.load(REPOSITORY / "tests/images/tiny").manifest.metadata.id == "dev/tiny"


def test_mistakes_are_told_together_with_their_lines(tmp_path: Path) -> None:
    text = (
        EXAMPLE.read_text().replace("title: Harbor CRM", "titel: Harbor CRM").replace("deletes: soft", "deletes: maybe")
    )
    file = tmp_path / "manifest.yaml"
    file.write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        load.load(file)
    lines = text.splitlines()
    told = " ".join(caught.value.details)
    assert f":{1 + lines.index('  titel: Harbor CRM')} (metadata.titel)" in told
    assert "metadata.title is missing" in told
    assert "capabilities.deletes" in told


def with_schema_file(folder: Path, name: str) -> Path:
    text = EXAMPLE.read_text()
    assert "  - name: accounts\n" in text
    file = folder / "manifest.yaml"
    file.write_text(text.replace("  - name: accounts\n", f"  - name: accounts\n    schema: {name}\n"))
    return file


@pytest.mark.parametrize("written", ['{"type": "object"}', "type: object  # as YAML"])
def test_a_release_carries_what_is_in_the_schema_files_it_names(tmp_path: Path, written: str) -> None:
    file = with_schema_file(tmp_path, "schemas/accounts")
    (tmp_path / "schemas").mkdir()
    (tmp_path / "schemas/accounts").write_text(written)
    loaded = load.load(file)
    assert loaded.document.content == file.read_bytes()
    assert loaded.manifest.streams[0].schema_ == {"type": "object"}
    assert load.from_canonical_json(loaded.canonical_json()) == loaded.manifest
    assert codes(loaded) == []


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("outside/../../accounts.json", "WH-MAN-140"),
        ("link.json", "WH-MAN-140"),
        ("list.json", "WH-MAN-140"),
        ("missing.json", "WH-DOC-001"),
        ("/etc/hostname", "WH-MAN-140"),
    ],
)
def test_a_schema_file_lies_beside_the_manifest_and_holds_a_schema(tmp_path: Path, name: str, code: str) -> None:
    folder = tmp_path / "connector"
    (folder / "outside").mkdir(parents=True)
    (tmp_path / "accounts.json").write_text("{}")
    (folder / "link.json").symlink_to(tmp_path / "accounts.json")
    (folder / "list.json").write_text("[]")
    with pytest.raises(ConfigurationError) as caught:
        load.load(with_schema_file(folder, name))
    assert caught.value.code.name == code


@pytest.mark.parametrize("version", ["1.4", "v1.4.2", "1.4.2+build", "01.0.0", ""])
def test_a_version_that_is_none_is_refused(version: str) -> None:
    with pytest.raises(ConfigurationError):
        changed((("metadata", "version"), version))


@pytest.mark.parametrize("identity", ["harbor", "Acme/crm", "acme/harbor/crm", "acme/", "acme/har_bor", "../x/y"])
def test_an_id_is_namespace_and_name(identity: str) -> None:
    with pytest.raises(ConfigurationError):
        changed((("metadata", "id"), identity))


ENTRY = ("network", "egress", 1)
PROPERTIES = ("config", "schema", "properties")
SLOW = "^([a-z0-9]+-?)+$"
LARGE, DEEP = "a{99999999999}", "(" * 2000 + ")" * 2000


@pytest.mark.parametrize(
    ("steps", "code"),
    [
        ([((*ENTRY, "host"), "10.1.2.3")], "WH-MAN-103"),
        ([((*ENTRY, "host"), "2130706433")], "WH-MAN-103"),
        ([((*ENTRY, "host"), "0x7f.1")], "WH-MAN-103"),
        ([((*ENTRY, "host"), "[::1]")], "WH-MAN-103"),
        ([((*ENTRY, "host"), "https://login.harbor.example")], "WH-MAN-101"),
        ([((*ENTRY, "host"), "login.harbor.example/path")], "WH-MAN-101"),
        ([((*ENTRY, "host"), "bücher.example")], "WH-MAN-101"),
        ([((*ENTRY, "host"), "*.co.uk")], "WH-MAN-002"),
        ([((*ENTRY, "host"), "*.github.io")], "WH-MAN-002"),
        ([((*ENTRY, "host"), "*.example")], "WH-MAN-002"),
        ([((*ENTRY, "host"), "a.*.harbor.example")], "WH-MAN-002"),
        ([((*ENTRY, "host"), "a*.harbor.example")], "WH-MAN-002"),
        ([((*ENTRY, "host"), "*.harbor.example"), ((*ENTRY, "open"), "operator")], "WH-MAN-002"),
        ([((*ENTRY, "host"), "${config.start_date}.harbor.example")], "WH-MAN-001"),
        ([((*ENTRY, "host"), "${config.region}")], "WH-MAN-001"),
        ([((*ENTRY, "host"), "${config.mirror#host}")], "WH-MAN-001"),
        ([((*ENTRY, "host"), "api.${config.nothing}.harbor.example")], "WH-MAN-003"),
        ([((*ENTRY, "host"), "${config.region#host}"), ((*ENTRY, "open"), "operator")], "WH-MAN-003"),
        ([((*ENTRY, "host"), "${config.label}"), ((*ENTRY, "open"), "operator")], "WH-MAN-003"),
        ([((*ENTRY, "host"), "a.${region}.harbor.example")], "WH-MAN-003"),
        ([((*ENTRY, "tls"), "none")], "WH-MAN-015"),
        ([((*ENTRY, "protocol"), "postgresql")], "WH-MAN-016"),
        (
            [
                (("network", "variables", "region"), {"pattern": "[a-z]+"}),
                (("network", "egress", 0, "host"), "api-${config.region}"),
            ],
            "WH-MAN-001",
        ),
        ([(("network", "variables", "unused"), {"enum": ["x"]})], "WH-MAN-021"),
        ([(("secrets", "slots", "spare"), {"kind": "opaque"})], "WH-MAN-004"),
        ([(("auth", "methods", 0, "secrets"), ["client_id", "client_secret", "ghost"])], "WH-MAN-005"),
        ([(("auth", "default"), "saml")], "WH-MAN-006"),
        ([(("compliance", "classification"), "internal")], "WH-MAN-007"),
        ([(("streams", 0, "fields", "email", "classification"), "restricted")], "WH-MAN-007"),
        ([(("streams", 0, "sync_modes"), ["cdc"])], "WH-MAN-008"),
        ([(("streams", 0, "cursor"), ...)], "WH-MAN-008"),
        ([(("streams", 1), {"name": "accounts"})], "WH-MAN-009"),
        ([(("streams", 0, "schema"), {"properties": ["id"]})], "WH-MAN-141"),
        ([(("config", "schema", "additionalProperties"), True)], "WH-MAN-010"),
        ([(("config", "schema", "properties", "page_size", "type"), "intger")], "WH-MAN-010"),
        ([(("config", "schema", "properties", "page_size", "default"), 501)], "WH-MAN-010"),
        ([(("config", "schema", "properties", "api_key"), {"type": "string"})], "WH-MAN-011"),
        ([(("compatibility", "state", "writes"), 4)], "WH-MAN-012"),
        ([(("compatibility", "rollback_floor"), "2.0.0")], "WH-MAN-013"),
        ([(("compatibility", "breaking", 0, "version"), "1.5.0")], "WH-MAN-013"),
        ([(("runtime", "host"), "about 1")], "WH-MAN-014"),
        ([(("secrets", "slots", "client_secret", "redact_pattern"), "(a+)+")], "WH-MAN-017"),
        ([(("secrets", "slots", "client_secret", "redact_pattern"), "(?=hk_)[a-z_]+")], "WH-MAN-017"),
        ([(("secrets", "slots", "client_secret", "redact_pattern"), "(hk_[a-z]+)?")], "WH-MAN-025"),
        ([(("secrets", "slots", "client_secret", "redact_pattern"), "^$")], "WH-MAN-025"),
        ([(("network", "variables", "region"), {"pattern": SLOW})], "WH-MAN-017"),
        ([(("streams", 1, "pattern"), SLOW)], "WH-MAN-017"),
        ([((*PROPERTIES, "label", "pattern"), SLOW)], "WH-MAN-017"),
        ([((*PROPERTIES, "label"), {"patternProperties": {SLOW: {}}})], "WH-MAN-017"),
        ([((*PROPERTIES, "label"), {"items": {"anyOf": [{}, {"pattern": SLOW}]}})], "WH-MAN-017"),
        ([((*PROPERTIES, "default"), {"type": "string", "pattern": SLOW})], "WH-MAN-017"),
        ([((*PROPERTIES, "pattern"), {"type": "string", "pattern": SLOW})], "WH-MAN-017"),
        ([(("config", "schema", "$defs"), {"label": {"pattern": SLOW}})], "WH-MAN-017"),
        ([((*PROPERTIES, "label", "pattern"), "(")], "WH-MAN-010"),
        ([((*PROPERTIES, "label", "pattern"), LARGE)], "WH-MAN-010"),
        ([((*PROPERTIES, "label", "pattern"), DEEP)], "WH-MAN-010"),
        ([(("streams", 0, "schema"), {"properties": {"id": {"pattern": LARGE}}})], "WH-MAN-141"),
        ([(("streams", 0, "schema"), {"properties": {"id": {"pattern": DEEP}}})], "WH-MAN-141"),
        ([(("support", "lifecycle"), "deprecated")], "WH-MAN-018"),
        ([(("config", "version"), 3)], "WH-MAN-019"),
        ([(("config", "version"), 1)], "WH-MAN-019"),
        ([(("config", "migrations"), [{"from": 1, "to": 2}, {"from": 1, "to": 2}])], "WH-MAN-019"),
        ([(("config", "migrations"), [{"from": 1, "to": 3}])], "WH-MAN-019"),
        ([(STEP, {"rename": {"datacenter": "place"}})], "WH-MAN-024"),
        ([(STEP, {"rename": {"datacenter": "region.name"}})], "WH-MAN-024"),
        ([(STEP, {"rename": {"label": "region"}})], "WH-MAN-024"),
        ([(STEP, {"remove": ["nested"]})], "WH-MAN-024"),
        ([(STEP, {"remove": ["nested.depth"]})], "WH-MAN-024"),
        ([(STEP, {"set": {"place": "eu"}})], "WH-MAN-024"),
        ([(STEP, {"set": {"region": "mars"}})], "WH-MAN-024"),
        ([(STEP, {"map": {"place": [{"from": 1, "to": 2}]}})], "WH-MAN-024"),
        ([(STEP, {"map": {"region": [{"from": "earth", "to": "mars"}]}})], "WH-MAN-024"),
        ([(STEP, {"map": {"region": [{"from": 1, "to": "eu"}, {"from": "1", "to": "us"}]}})], "WH-MAN-024"),
        ([(STEP, {"rename": {"zone": "region"}, "map": {"zone": [{"from": 1, "to": "eu"}]}})], "WH-MAN-024"),
        ([(STEP, {"rename": {"zone": "region", "place": "region"}})], "WH-MAN-024"),
        ([(STEP, {"rename": {"zone": "region"}, "remove": ["zone.name"]})], "WH-MAN-024"),
        ([(STEP, {"rename": {"zone": "region"}, "remove": ["region"]})], "WH-MAN-024"),
        ([(STEP, {"rename": {"token": "old_token"}})], "WH-MAN-011"),
        ([(("auth", "methods", 0, "token_url"), "https://else.example/token")], "WH-MAN-020"),
        ([(("auth", "methods", 0, "token_url"), "https://[else.example/token")], "WH-MAN-020"),
        ([(("auth", "methods", 0, "token_url"), "/oauth2/token")], "WH-MAN-020"),
        ([(("auth", "methods", 0, "token_url"), "https://api.example.com:99999/token")], "WH-MAN-020"),
        ([(("compliance", "reviewed"), ...)], "WH-MAN-022"),
        ([(("taxonomy", "type"), "database")], "WH-MAN-016"),
        ([(("capabilities", "pagination"), [])], "WH-MAN-016"),
        ([(("network", "egress"), []), (("auth", "methods", 0, "token_url"), ...)], "WH-MAN-016"),
    ],
)
def test_each_disagreement_is_found(steps: list[Step], code: str) -> None:
    assert code in codes(changed(*steps))


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "default": "x", "examples": [{"pattern": SLOW}]},
        {"type": "object", "default": {"pattern": SLOW}},
        {"const": {"pattern": SLOW}},
        {"enum": [{"pattern": SLOW}]},
    ],
)
def test_a_value_that_says_pattern_is_none(schema: dict[str, Any]) -> None:
    assert codes(changed(((*PROPERTIES, "label"), schema))) == []


def test_a_slow_pattern_is_told_with_its_line_and_not_tried_on_a_default() -> None:
    schema = {"type": "string", "pattern": SLOW, "default": "a" * 20 + "_"}
    (finding,) = lint.lint(changed(((*PROPERTIES, "label"), schema)))
    assert (finding.code.name, finding.severity) == ("WH-MAN-017", "error")
    assert finding.place.field == "config.schema.properties.label.pattern"
    assert SLOW in finding.message


@pytest.mark.parametrize("pattern", ["(", LARGE, DEEP], ids=["mistake", "large", "deep"])
@pytest.mark.parametrize(
    "path",
    [
        ("secrets", "slots", "client_secret", "redact_pattern"),
        ("streams", 1, "pattern"),
        ("network", "variables", "region", "pattern"),
    ],
)
def test_what_cannot_be_read_as_a_pattern_is_a_mistake_with_its_line(path: tuple[str | int, ...], pattern: str) -> None:
    with pytest.raises(ConfigurationError, match="is not a regular expression") as caught:
        changed((path, pattern))
    assert caught.value.place is not None
    assert caught.value.place.line is not None


@pytest.mark.parametrize(
    "step",
    [
        {"rename": {"datacenter": "region"}},
        {"rename": {"depth": "nested.depth"}},
        {"rename": {"server.region": "region"}, "remove": ["server.port"]},
        {"rename": {"region": "label", "label": "region"}},
        {"map": {"region": [{"from": "europe", "to": "eu"}, {"from": "america", "to": "us"}]}},
        {"remove": ["verbose"], "set": {"region": "eu", "nested.depth": 2}},
    ],
)
def test_a_migration_that_leads_to_the_schema_is_in_order(step: dict[str, Any]) -> None:
    assert codes(changed((STEP, step))) == []


def test_a_name_is_followed_through_the_migrations_after_it() -> None:
    first = {"from": 1, "to": 2, "rename": {"datacenter": "place"}, "set": {"verbose": True, "mode": 3}}
    second = {"from": 2, "to": 3, "rename": {"place": "region"}, "remove": ["verbose"]}
    version = (("config", "version"), 3)
    (finding,) = lint.lint(changed(version, (("config", "migrations"), [first, second])))
    assert finding.message == "the migration to config version 2 speaks of mode: the schema has none such"
    later = second | {"rename": {"place": "region", "mode": "ratio"}}
    assert codes(changed(version, (("config", "migrations"), [second | later, first]))) == []


@pytest.mark.parametrize(
    ("host", "variable"),
    [
        ("api.${config.region}.harbor.example", {"pattern": "[a-z]+"}),
        ("api.${config.region}.harbor.example", {"enum": ["eu", "us"]}),
        ("${config.region}", {"pattern": "(eu|us)\\.harbor\\.example"}),
    ],
)
def test_a_confined_or_finite_variable_is_accepted(host: str, variable: dict[str, Any]) -> None:
    loaded = changed((("network", "variables", "region"), variable), (("network", "egress", 0, "host"), host))
    assert codes(loaded) == []


def test_findings_carry_lines_and_hints() -> None:
    text = EXAMPLE.read_text().replace("host: login.harbor.example", "host: 192.0.2.1")
    (finding,) = [found for found in lint.lint(load.parse(text.encode(), "m.yaml")) if found.code.name == "WH-MAN-103"]
    assert finding.severity == "error"
    assert finding.place.line == 1 + next(n for n, line in enumerate(text.splitlines()) if "192.0.2.1" in line)
    assert "network.hosts" in finding.hint


CONFIG = {"region": "eu", "start_date": "2026-01-01"}


def test_egress_is_rendered_with_the_config() -> None:
    manifest = load.load(EXAMPLE).manifest
    assert egress.render_egress(manifest, CONFIG | {"mirror": "https://Mirror.Example.:8443/x"}) == (
        EgressEntry("api.eu.harbor.example", 443, "https", "required", "manifest", False),
        EgressEntry("login.harbor.example", 443, "https", "required", "manifest", False),
        EgressEntry("*.files.harbor.example", 443, "https", "required", "manifest", False),
        EgressEntry("mirror.example", 8443, "https", "required", "operator", False),
    )


def test_an_optional_entry_without_its_parameter_is_left_out() -> None:
    rendered = egress.render_egress(load.load(EXAMPLE).manifest, CONFIG)
    assert [entry.open for entry in rendered] == ["manifest"] * 3


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ({"region": "eu.evil.example#"}, "WH-MAN-105"),
        ({"region": "ap"}, "WH-MAN-105"),
        ({"region": None}, "WH-MAN-104"),
        ({"mirror": "https://127.0.0.1/"}, "WH-MAN-103"),
        ({"mirror": "https://[::1]/"}, "WH-MAN-103"),
        ({"mirror": "https://0x7f000001/"}, "WH-MAN-103"),
        ({"mirror": "no url"}, "WH-MAN-101"),
        ({"mirror": "https://a_b..c/"}, "WH-MAN-101"),
        ({"mirror": "https://host:99999/"}, "WH-MAN-101"),
        ({"mirror": "gopher://host/"}, "WH-MAN-102"),
    ],
)
def test_a_value_that_opens_something_else_is_refused(values: dict[str, Any], code: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        egress.render_egress(load.load(EXAMPLE).manifest, CONFIG | values)
    assert caught.value.code.name == code


def test_operator_hosts_and_private_networks_come_through() -> None:
    loaded = changed(
        (("taxonomy", "type"), "database"),
        (("capabilities", "pagination"), []),
        (
            ("network", "egress"),
            [{"host": "${config.label}", "port": "${config.page_size}", "protocol": "postgresql", "open": "operator"}],
        ),
        (("network", "private_networks"), "with_operator_grant"),
    )
    rendered = egress.render_egress(loaded.manifest, CONFIG | {"label": "PG.demo", "page_size": 5432})
    assert rendered == (EgressEntry("pg.demo", 5432, "postgresql", "required", "operator", True),)


def test_config_is_completed_and_normalised() -> None:
    result = config.config_errors(
        load.load(EXAMPLE).manifest,
        {
            "region": "eu",
            "start_date": "2026-01-01",
            "page_size": "50",
            "archived": "True",
            "ratio": 1,
            "label": 2024,
            "nested": {},
        },
    )
    assert result.mistakes == ()
    assert result.values == {
        "region": "eu",
        "start_date": "2026-01-01",
        "page_size": 50,
        "archived": True,
        "ratio": 1.0,
        "label": "2024",
        "nested": {"depth": 3},
    }
    assert isinstance(result.values["ratio"], float)


def test_every_mistake_of_a_config_is_told_at_once() -> None:
    result = config.config_errors(
        load.load(EXAMPLE).manifest,
        {
            "region": "mars",
            "page_size": "many",
            "pagesize": 3,
            "archived": "perhaps",
            "mirror": "not a url",
            "ratio": None,
        },
    )
    assert {mistake.field for mistake in result.mistakes} == {
        "region", "page_size", "pagesize", "archived", "mirror", "ratio", "start_date",
    }  # fmt: skip
    with pytest.raises(ConfigurationError) as caught:
        config.checked(load.load(EXAMPLE).manifest, {})
    assert len(caught.value.details) == 2
    assert caught.value.exit_code == 78


#: What a schema that takes text must leave alone, whatever YAML would make of it.
TYPED = (
    "007", "1.10", "1e3", "0x10", "1_000", "a #b", "*.csv", "@x", "%d", "[", "{", "a: b: c", '"', "!x", "'", "on",
    "null", "", "~", "2026-01-01", "[a, b]", '{"a": 1}', " x ", "a\nb", "\x85", "true", "5",
)  # fmt: skip


@functools.cache
def _whole() -> Manifest:
    return load.load(EXAMPLE).manifest


def _asking(schema: Any, **definitions: Any) -> Manifest:
    said = _whole().config
    asked = {**said.schema_, "properties": {**said.schema_["properties"], "x": schema}, "$defs": definitions}
    return _whole().model_copy(update={"config": said.model_copy(update={"schema_": asked})})


@pytest.mark.parametrize("text", TYPED)
@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string"},
        {"type": ["string", "integer", "null"]},
        {"anyOf": [{"type": "integer"}, {"type": "string"}]},
        {"$ref": "#/$defs/word"},
    ],
)
def test_a_word_is_text_as_it_was_typed_where_the_schema_takes_text(schema: Any, text: str) -> None:
    manifest = _asking(schema, word={"type": "string"})
    assert config.worded(manifest, {"x": text}) == {"x": text}


@pytest.mark.parametrize(
    ("schema", "text", "value"),
    [
        ({"type": "integer"}, "5432", 5432),
        ({"type": "integer"}, "1700000000000000000", 1_700_000_000_000_000_000),
        ({"type": "integer"}, "1_000", "1_000"),
        ({"type": "integer"}, "0x10", "0x10"),
        ({"type": "number"}, "1.10", 1.1),
        ({"type": "number"}, "1e999", "1e999"),
        ({"type": "boolean"}, "true", True),
        ({"type": "boolean"}, "yes", "yes"),
        ({"type": ["integer", "null"]}, "null", None),
        ({"enum": ["007", 8]}, "007", "007"),
        ({"enum": ["007", 8]}, "8", 8),
        ({"const": "1.0"}, "1.0", "1.0"),
        ({"type": "array", "items": {"type": "string"}}, "[007, 1.10, a b]", ["007", "1.10", "a b"]),
        ({"type": "array", "items": {"type": "string"}}, '["007", "#"]', ["007", "#"]),
        ({"type": "array", "items": {"type": "integer"}}, "[7, 8]", [7, 8]),
        ({"type": "array"}, "[7, 1.10, true, '8']", [7, "1.10", True, "8"]),
        ({"type": "array"}, "- a\n- b", ["a", "b"]),
        ({"type": "array"}, "[", "["),
        ({"type": "array"}, "[!x a]", "[!x a]"),
        ({"type": "array"}, "*.csv", "*.csv"),
        ({"type": "array"}, "", ""),
        ({"type": "object", "properties": {"a": {"type": "string"}}}, "{a: 007, b: 7}", {"a": "007", "b": 7}),
        ({"type": "object", "additionalProperties": {"type": "string"}}, "{a: 1.10}", {"a": "1.10"}),
        ({"type": "object"}, "{a: 1, a: 2}", "{a: 1, a: 2}"),
        ({"type": "object"}, "{[a]: 1}", "{[a]: 1}"),
        ({"$ref": "#/$defs/tree"}, "{inner: {inner: {}}}", {"inner": {"inner": {}}}),
        ({"allOf": [{"$ref": "#/$defs/tree"}, {"$ref": "#/$defs/none"}]}, "{}", {}),
    ],
)
def test_a_word_is_what_the_schema_asks_for_and_stays_text_where_it_cannot_be(
    schema: Any, text: str, value: Any
) -> None:
    tree = {"type": "object", "properties": {"inner": {"$ref": "#/$defs/tree"}}, "anyOf": [{"$ref": "#/$defs/tree"}]}
    found = config.worded(_asking(schema, tree=tree), {"x": text})["x"]
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", 5),
        ("-2.5", -2.5),
        ("true", True),
        ("null", None),
        ('["007", 7]', ["007", 7]),
        ('{"a": [1.10]}', {"a": ["1.10"]}),
        *(
            (text, text)
            for text in ("007", "1.10", "1e3", "1_000", "NaN", "True", "~", "[a]", "{a: 1}", '"a"', "@x", "")
        ),
    ],
)
def test_a_word_that_no_schema_speaks_of_is_read_only_where_it_reads_back_as_it_was(text: str, value: Any) -> None:
    found = config.worded(_asking({}), {"x": text, "unknown": text})
    assert found == {"x": value, "unknown": value}
    assert type(found["x"]) is type(value)


def test_a_schema_that_means_itself_in_several_ways_has_an_end() -> None:
    several = {"anyOf": [{"$ref": "#/$defs/tree"}, {"$ref": "#/$defs/other"}]}
    tree = {"type": "object", "properties": {"in": several}}
    text = '{"in": ' * 30 + "{}" + "}" * 30
    found = config.worded(_asking({"$ref": "#/$defs/tree"}, tree=tree, other=dict(tree)), {"x": text})["x"]
    assert found == json.loads(text)


def test_the_given_config_is_not_changed() -> None:
    given = {"region": "eu", "start_date": "2026-01-01", "nested": {}}
    config.config_errors(load.load(EXAMPLE).manifest, given)
    assert given == {"region": "eu", "start_date": "2026-01-01", "nested": {}}


def test_the_published_json_schema_is_fresh_and_accepts_the_example() -> None:
    published = REPOSITORY / schema.PATH
    assert published.read_text() == schema.text()
    example = json.loads(load.load(EXAMPLE).canonical_json())
    jsonschema.Draft202012Validator(json.loads(published.read_text())).validate(example)
    example["metadata"]["titel"] = "x"
    assert not jsonschema.Draft202012Validator(json.loads(published.read_text())).is_valid(example)


def test_yaml_words_stay_text() -> None:
    text = EXAMPLE.read_text().replace("title: Harbor CRM", "title: NO")
    assert load.parse(text.encode()).manifest.metadata.title == "NO"
    assert YAML(typ="safe", pure=True).load("NO") == "NO"
