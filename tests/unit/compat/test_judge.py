"""Which version a change asks for, and what the author is told when it is too small."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from semver import Version

from tests.unit.compat.test_diff import ACCOUNTS, EGRESS, EXAMPLE, PROPERTIES, SCHEMA, changed, manifest
from wellhead.compat import judge
from wellhead.compat.change import SEVERITIES, Severity
from wellhead.errors import ConfigurationError
from wellhead.manifest import load
from wellhead.manifest.versions import Range


def verdict(now: Any, was: Any = EXAMPLE) -> judge.Verdict:
    # One key a line, so that every finding has a line of its own to name.
    return judge.judge(manifest(was), load.parse(json.dumps(now, indent=1).encode(), "manifest.yaml"))


def told(now: Any, was: Any = EXAMPLE) -> list[tuple[str, str]]:
    return [(finding.code.name, finding.message) for finding in verdict(now, was).findings]


def version(text: str) -> tuple[tuple[str, str], str]:
    return ("metadata", "version"), text


@pytest.mark.parametrize(
    ("was", "now", "expected"),
    [
        ("1.4.2", "1.4.3", "patch"),
        ("1.4.2", "1.5.0", "minor"),
        ("1.4.2", "1.5.3", "minor"),
        ("1.4.2", "2.0.0", "major"),
        ("1.4.2", "2.0.0-rc.1", "major"),
        ("1.4.2", "1.4.3-rc.1", "patch"),
        ("0.4.2", "0.4.3", "minor"),
        ("0.4.2", "0.5.0", "major"),
        ("0.0.2", "0.0.3", "major"),
        ("1.5.0-rc.1", "1.5.0-rc.2", "major"),
        ("1.4.2", "1.4.2", None),
        ("1.4.2", "1.4.2-rc.1", None),
        ("1.4.2", "1.3.9", None),
    ],
)
def test_a_step_promises_what_ranges_make_of_it(was: str, now: str, expected: Severity | None) -> None:
    assert judge.step(was, now) == expected


VERSIONS = st.builds(lambda a, b, c: str(Version(a, b, c)), *[st.integers(0, 3)] * 3)


@given(VERSIONS, VERSIONS)
def test_a_step_is_major_exactly_where_it_leaves_the_caret(was: str, now: str) -> None:
    found = judge.step(was, now)
    if found is not None:
        assert (found == "major") is not Range.parse(f"^{was}").admits(Version.parse(now))


@given(VERSIONS, st.sampled_from(SEVERITIES))
def test_the_version_that_is_asked_for_is_enough(was: str, severity: Severity) -> None:
    found = judge.step(was, judge.wanted(was, severity))
    assert found is not None
    assert SEVERITIES.index(found) >= SEVERITIES.index(severity)


def test_a_step_that_is_too_small_names_the_change_its_line_and_the_version_needed() -> None:
    now = changed(version("1.4.3"), ((*EGRESS, "+"), {"host": "cdn.harbor.example"}))
    (finding,) = verdict(now).findings
    assert finding.code is judge.TOO_SMALL
    assert finding.message == "reaches cdn.harbor.example:443: minor since 1.4.2, and 1.4.3 is a patch step"
    assert finding.hint == "raise metadata.version to 1.5.0, or take the change back"
    assert finding.place.file == "manifest.yaml"
    assert finding.place.field == "network.egress.4"
    lines = json.dumps(now, indent=1).splitlines()
    assert "cdn.harbor.example" in lines[(finding.place.line or 0) : (finding.place.line or 0) + 1][0]


def test_the_right_step_has_no_findings() -> None:
    assert told(changed(version("1.4.3"), (("metadata", "title"), "Harbor"))) == []
    assert told(changed(version("1.5.0"), ((*EGRESS, "+"), {"host": "cdn.harbor.example"}))) == []
    assert told(changed(version("1.4.3"))) == []


def test_behind_a_leading_zero_the_minor_number_breaks() -> None:
    was = changed(version("0.4.2"), (("compatibility", "breaking"), []), (("compatibility", "rollback_floor"), "0.1.0"))
    gone = changed((("taxonomy", "method"), "bulk"), base=was)
    ((code, message),) = told(changed(version("0.4.3"), base=gone), was)
    assert (code, message) == (
        "WH-CMP-001",
        "taxonomy.method was rest and is bulk: major since 0.4.2, and 0.4.3 is a minor step",
    )
    assert [code for code, _ in told(changed(version("0.5.0"), base=gone), was)] == ["WH-CMP-004"]


def test_a_change_without_a_newer_version_is_refused_and_the_same_again_is_not() -> None:
    assert [code for code, _ in told(changed((("metadata", "title"), "Harbor")))] == ["WH-CMP-003"]
    assert told(EXAMPLE) == []


BREAKING = {"version": "2.0.0", "summary": "label went", "action": "reconfigure"}


@pytest.mark.parametrize(
    ("entries", "is_enough"),
    [
        ([], False),
        ([BREAKING], True),
        ([BREAKING | {"version": "1.0.0"}], False),
        ([BREAKING | {"action": "none"}], False),
        ([BREAKING | {"streams": ["deals"]}], True),
    ],
)
def test_a_breaking_change_is_described_with_what_to_do(entries: list[Any], is_enough: bool) -> None:
    shorter = {"type": "string", "maxLength": 8}
    now = changed(version("2.0.0"), ((*PROPERTIES, "label"), shorter), (("compatibility", "breaking"), entries))
    assert ([code for code, _ in told(now)] == []) is is_enough


VERSION_3 = (("config", "version"), 3)
REGION = (*PROPERTIES, "region")


def migration(**operations: Any) -> tuple[tuple[str | int, ...], Any]:
    return ("config", "migrations", "+"), {"from": 2, "to": 3, **operations}


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([((*PROPERTIES, "label"), ...)], ["WH-CMP-005"]),
        ([(REGION, {"type": "string", "enum": ["eu"]})], ["WH-CMP-005"]),
        ([(REGION, {"type": "integer"})], ["WH-CMP-005"]),
        ([((*SCHEMA, "required"), ["region", "start_date", "label"])], ["WH-CMP-005"]),
        # Whoever leaves it out, or stays below, is as well off as before; the step is described, and that is all.
        ([((*PROPERTIES, "page_size", "maximum"), 100)], []),
        ([((*PROPERTIES, "label"), ...), VERSION_3, migration()], ["WH-CMP-005"]),
        ([(REGION, {"type": "string", "enum": ["eu"]}), VERSION_3, migration()], ["WH-CMP-005"]),
        ([((*PROPERTIES, "label"), ...), VERSION_3, migration(remove=["label"])], []),
        ([((*SCHEMA, "required"), ["region", "start_date", "label"]), VERSION_3, migration()], []),
        ([VERSION_3, migration(remove=["nothing"])], ["WH-CMP-006"]),
        ([VERSION_3, migration(rename={"nothing": "label"})], ["WH-CMP-006"]),
        ([VERSION_3, migration(map={"nothing": []})], ["WH-CMP-006"]),
        ([VERSION_3, migration(remove=["nested.width"])], []),
    ],
)
def test_what_configs_say_is_not_dropped_without_a_word(steps: list[Any], expected: list[str]) -> None:
    now = changed(version("2.0.0"), *steps, (("compatibility", "breaking"), [BREAKING]))
    assert [code for code, _ in told(now)] == expected


def test_a_migration_makes_a_breaking_change_a_small_one() -> None:
    properties = {name: rule for name, rule in EXAMPLE["config"]["schema"]["properties"].items() if name != "label"}
    properties |= {
        "region": {"type": "string", "enum": ["europe", "us"]},
        "nested": {
            "type": "object",
            "properties": {"depth": {"type": "integer", "default": 3}, "label": {"type": "string"}},
        },
        "page_size": {"type": "integer", "minimum": 1, "maximum": 500, "default": 500},
    }
    operations = {
        "rename": {"label": "nested.label"},
        "map": {"region": [{"from": "eu", "to": "europe"}]},
        "set": {"page_size": 200},
    }
    now = changed(version("1.5.0"), VERSION_3, migration(**operations), (PROPERTIES, properties))
    assert told(now) == []
    assert "WH-CMP-001" in [code for code, _ in told(changed((("config", "version"), 2), base=now))]


def test_a_change_that_owes_a_migration_says_what_to_write() -> None:
    now = changed(version("2.0.0"), ((*PROPERTIES, "label"), ...), (("compatibility", "breaking"), [BREAKING]))
    (finding,) = verdict(now).findings
    assert finding.message == "config.label is gone, and config.version is still 2"
    assert finding.hint == "raise config.version to 3 and write a migration from 2, or take the change back"
    assert finding.place.field == "config.schema.properties.label"


@pytest.mark.parametrize(("streams", "is_enough"), [([], True), (["accounts"], True), (["deals"], False)])
def test_a_description_speaks_of_the_stream_that_breaks(streams: list[str], is_enough: bool) -> None:
    entry = BREAKING | {"action": "refresh_streams", "streams": streams}
    now = changed(
        version("2.0.0-rc.1"), (("streams", 0, "primary_key"), ["key"]), (("compatibility", "breaking"), [entry])
    )
    # A prerelease tells of the release it leads to, or of itself.
    now["compatibility"]["breaking"][0]["version"] = "2.0.0-rc.1"
    assert (told(now) == []) is is_enough


def test_two_connectors_are_not_compared() -> None:
    with pytest.raises(ConfigurationError, match="acme/other") as caught:
        verdict(changed((("metadata", "id"), "acme/other")))
    assert caught.value.code is judge.OTHER_CONNECTOR


@pytest.mark.parametrize(
    ("version", "published", "expected"),
    [
        ("1.4.2", [], None),
        ("1.4.2", ["1.4.2", "1.5.0"], None),
        ("1.4.2", ["1.2.0", "1.10.0", "1.4.1", "0.9.0"], "1.4.1"),
        ("1.11.0", ["1.2.0", "1.10.0"], "1.10.0"),
        ("2.0.0", ["1.9.0", "2.0.0-rc.1"], "1.9.0"),
    ],
)
def test_the_previous_release_is_the_highest_below_that_promised_something(
    version: str, published: list[str], expected: str | None
) -> None:
    assert judge.previous(version, published) == expected


def test_schema_files_are_compared_by_what_is_in_them(tmp_path: Path) -> None:
    def written(folder: Path, version: str, file: str, columns: dict[str, Any]) -> load.LoadedManifest:
        data = changed((("metadata", "version"), version), ((*ACCOUNTS, "schema"), file))
        folder.mkdir()
        (folder / file).write_text(json.dumps({"type": "object", "properties": columns}))
        (folder / "manifest.yaml").write_text(json.dumps(data, indent=1))
        return load.load(folder)

    identity = {"id": {"type": "integer"}}
    was = written(tmp_path / "was", "1.4.2", "accounts.json", identity)
    # As the catalog keeps it: without the folder.
    kept = load.from_canonical_json(was.canonical_json())
    renamed = written(tmp_path / "renamed", "1.4.3", "columns.json", identity)
    assert judge.judge(kept, renamed).changes == ()
    gone = judge.judge(kept, written(tmp_path / "gone", "1.4.3", "accounts.json", {}))
    assert [(change.kind, change.severity) for change in gone.changes] == [("stream.column.removed", "major")]
    assert {finding.code.name for finding in gone.findings} == {"WH-CMP-001"}
