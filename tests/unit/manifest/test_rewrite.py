"""A file after its migrations says what they say, and keeps what its people wrote beside it."""

from __future__ import annotations

import difflib
import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from tests.unit.manifest.test_migrate import CONFIGS, one_step
from wellhead import documents
from wellhead.errors import ConfigurationError
from wellhead.manifest.migrate import apply
from wellhead.manifest.model import Migration
from wellhead.manifest.rewrite import rewrite

FILE = """\
# yaml-language-server: $schema=x
name: flights   # the name
# about config
config:
  # about host
  host: 'pg.demo'   # eol host
  # about old
  old: 1  # eol old
  # about nested
  nested:   # eol nested
    depth: ${DEPTH:-3}  # eol depth
    # about width
    width: 4
  # about last
  last: "a text that is so long that no one who looks at it would want it to be wrapped by a program, ever"

# about secrets
secrets:
  - a
  - b  # b
"""


def rewritten(text: str, **operations: Any) -> str:
    document = documents.parse(text.encode(), "flights.yaml")
    return rewrite(document, [Migration.model_validate({"from": 1, "to": 2, **operations})], 2)


def changes(text: str, **operations: Any) -> list[str]:
    """Return the lines that went and came, but for the one that names the version."""
    lines = difflib.unified_diff(text.splitlines(), rewritten(text, **operations).splitlines(), lineterm="", n=0)
    return [line for line in lines if line[:2] not in ("--", "++", "@@") and line != "+config_version: 2"]


@pytest.mark.parametrize(
    ("operations", "expected"),
    [
        ({"rename": {"old": "new"}}, ["-  old: 1  # eol old", "+  new: 1  # eol old"]),
        ({"rename": {"old": "nested.old"}}, ["-  old: 1  # eol old", "+    old: 1 # eol old"]),
        ({"rename": {"nested.width": "width"}}, ["-    width: 4", "+  width: 4"]),
        ({"rename": {"old": "a.b"}}, ["-  old: 1  # eol old", "+  a:", "+    b: 1  # eol old"]),
        ({"map": {"old": [{"from": 1, "to": "on"}]}}, ["-  old: 1  # eol old", "+  old: on # eol old"]),
        ({"remove": ["old"]}, ["-  old: 1  # eol old"]),
        ({"remove": ["nested.width"]}, ["-    width: 4"]),
        ({"set": {"mode": "fast"}}, ["+  mode: fast"]),
        ({"set": {"nested.more": [1, 2]}}, ["+    more:", "+      - 1", "+      - 2"]),
        ({"set": {"old": 2}}, []),
    ],
)
def test_only_what_a_migration_changes_is_another_line(operations: dict[str, Any], expected: list[str]) -> None:
    assert changes(FILE, **operations) == expected


@pytest.mark.parametrize(
    "operations",
    [
        {"remove": ["host"]},
        {"remove": ["last"]},
        {"remove": ["nested"]},
        {"rename": {"nested.depth": "depth", "nested.width": "width"}},
        {"rename": {"last": "a.b.c"}},
        {"map": {"nested": [{"from": {"depth": "${DEPTH:-3}", "width": 4}, "to": {"all": [1]}}]}},
        {"rename": {"host": "old", "old": "host"}},
        {"rename": {"old": "older"}, "remove": ["host", "nested.depth"], "set": {"b": {"c": 1}}},
    ],
)
def test_no_line_of_comment_is_lost_with_what_stood_beside_it(operations: dict[str, Any]) -> None:
    def comments(text: str) -> set[str]:
        return {line.strip() for line in text.splitlines() if line.strip().startswith("#")}

    inside = {"# about width"} if operations.get("remove") == ["nested"] or "map" in operations else set()
    assert comments(FILE) - comments(rewritten(FILE, **operations)) == inside
    # What stands before the next section goes on standing there.
    assert "\n\n# about secrets\nsecrets:\n  - a\n  - b  # b\n" in rewritten(FILE, **operations)


@pytest.mark.parametrize(
    ("text", "operations", "expected"),
    [
        ("name: a\nx: {a: b}\n", {"set": {"m": 1}}, "name: a\nx: {a: b}\nconfig_version: 2\nconfig:\n  m: 1\n"),
        ("name: a\n", {"remove": ["m"]}, "name: a\nconfig_version: 2\n"),
        ("config_version: 1\nconfig: {a: 1}\n", {"rename": {"a": "b"}}, "config_version: 2\nconfig: {b: 1}\n"),
        ('{"config": {"a": 1}}', {"remove": ["a"]}, '{config_version: 2, "config": {}}\n'),
        ("config:\n    a:\n    -   1\n", {"rename": {"a": "b"}}, "config_version: 2\nconfig:\n    b:\n    - 1\n"),
    ],
)
def test_a_file_of_another_form_is_rewritten_in_its_form(text: str, operations: dict[str, Any], expected: str) -> None:
    assert rewritten(text, **operations) == expected


def test_a_config_that_is_put_together_from_aliases_is_left_to_its_people() -> None:
    with pytest.raises(ConfigurationError) as caught:
        rewritten("name: a\nx-base: &b {a: 1}\nconfig:\n  <<: *b\n  c: 1\n", rename={"a": "b"})
    assert caught.value.code.name == "WH-MAN-132"
    assert caught.value.place is not None
    assert caught.value.place.line == 3


@pytest.mark.slow
@given(CONFIGS, one_step(), st.booleans())
def test_a_rewritten_file_says_what_the_migration_makes_of_its_config(
    config: dict[str, Any], step: dict[str, Any], is_flow: bool
) -> None:
    yaml, out = YAML(typ="safe", pure=True), io.StringIO()
    yaml.default_flow_style = is_flow
    yaml.dump({"name": "a", "config": config, "secrets": {"b": "c"}}, out)
    text = out.getvalue()
    wanted = documents.parse(text.encode(), "f").data["config"]
    list(apply(wanted, Migration.model_validate({"from": 1, "to": 2, **step})))
    found = documents.parse(rewritten(text, **step).encode(), "f").data
    assert found == {"name": "a", "config_version": 2, "config": wanted, "secrets": {"b": "c"}}
