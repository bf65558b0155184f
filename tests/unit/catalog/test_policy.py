"""Policies as files: what is refused when they are read, what they decide, and what they cost at most."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from wellhead import documents
from wellhead.catalog import policy
from wellhead.catalog.policy import MAX_ENTRIES, Policy
from wellhead.cli import init
from wellhead.errors import Code, ConfigurationError

ROOT = Path(__file__).parents[3]
SHIPPED = ROOT / "manifests" / "policies"
FACTS: dict[str, Any] = {
    "manifest": {"metadata": {"license": "MIT"}, "streams": []},
    "release": {"review_age_days": None},
    "host": {"environment": "production"},
    "connection": {"name": "orders"},
    "tenant": {"id": "acme", "labels": {}},
}


def written(folder: Path, **keys: Any) -> Path:
    said = {
        "name": "some",
        "description": "A policy.",
        "when": "[run]",
        "if": "'true'",
        "effect": "deny",
        "message": "no",
        "mend": "yes",
    } | keys
    file = folder / "some.yaml"
    file.write_text("".join(f"{key}: {value}\n" for key, value in said.items() if value is not None))
    return file


def made(rule: str, effect: str = "deny", *when: str) -> Policy:
    return Policy.model_validate(
        {
            "name": "some",
            "description": "d",
            "when": when or ("run",),
            "if": rule,
            "effect": effect,
            "message": "no",
            "mend": "yes",
        }
    )


def test_every_shipped_policy_has_cases_and_decides_them_as_written() -> None:
    names = {one.name for one in policy.load(SHIPPED)}
    outcomes = policy.test(SHIPPED)
    assert {one.policy for one in outcomes} == names
    assert [one for one in outcomes if one.expected != one.got] == []
    for name in names:
        assert len({one.expected for one in outcomes if one.policy == name}) == 2, name


def test_a_new_project_gets_the_shipped_policy_about_certified_connectors() -> None:
    assert (SHIPPED / "certified.yaml").read_text() == init._CERTIFIED
    assert (SHIPPED / "certified.test.yaml").read_text() == init._CERTIFIED_CASES


@pytest.mark.parametrize("effect", ["deny", "require_approval", "warn"])
def test_a_rule_that_is_true_has_its_effect_and_one_that_is_false_none(effect: str) -> None:
    (found,) = policy.judge([made('connection.name == "orders"', effect)], ("run",), FACTS)
    assert (found.effect, found.message, found.mend) == (effect, "no", "yes")
    assert policy.judge([made('connection.name == "other"', effect)], ("run",), FACTS) == ()


@pytest.mark.parametrize(
    "rule",
    [
        "manifest.nothing == 1",
        "tenant.labels.region == 'eu'",
        "release.review_age_days > 3",
        "manifest.metadata.license",
        "manifest.metadata.license + 1 == 2",
        "1 / 0 == 1",
        "manifest.metadata.license.matches('(')",
        "unknown_function(connection.name)",
        "9223372036854775807 + 1 > 0",
    ],
)
@pytest.mark.parametrize("effect", ["warn", "require_approval"])
def test_a_rule_that_cannot_be_evaluated_denies_whatever_its_effect(rule: str, effect: str) -> None:
    (found,) = policy.judge([made(rule, effect)], ("run",), FACTS)
    assert found.effect == "deny"
    assert found.message.startswith("its rule cannot be evaluated")


@pytest.mark.parametrize("read", [policy.load, policy.test])
def test_policies_that_cannot_be_read_are_not_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: Callable[[Path], object]
) -> None:
    written(tmp_path)

    def denied(folder: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(folder))

    monkeypatch.setattr(os, "scandir", denied)
    with pytest.raises(ConfigurationError, match="Permission denied") as caught:
        read(tmp_path)
    assert caught.value.code == documents.UNREADABLE


@pytest.mark.parametrize("read", [policy.load, policy.test])
@pytest.mark.parametrize(
    ("path", "code"),
    [("some.yaml", documents.UNREADABLE), ("some.yaml/below", documents.UNREADABLE), ("gone", documents.NO_FOLDER)],
)
def test_what_is_no_folder_holds_no_policies_that_allow(
    tmp_path: Path, read: Callable[[Path], object], path: str, code: Code
) -> None:
    written(tmp_path)
    with pytest.raises(ConfigurationError) as caught:
        read(tmp_path / path)
    assert caught.value.code == code


@pytest.mark.parametrize("name", ["other.yml", "other.test.yml", "OTHER.YAML"])
def test_a_policy_under_a_name_that_is_not_read_is_refused_with_the_right_one(tmp_path: Path, name: str) -> None:
    written(tmp_path).with_name(name).touch()
    with pytest.raises(ConfigurationError, match=name) as caught:
        policy.load(tmp_path)
    assert caught.value.code == documents.MISNAMED
    assert f"rename it to {name.rpartition('.')[0]}.yaml" in (caught.value.hint or "")


def test_policies_are_asked_at_their_moments_alone() -> None:
    policies = [made("true", "warn", "onboarding"), made("true", "deny", "run")]
    assert [one.effect for one in policy.judge(policies, ("run",), FACTS)] == ["deny"]
    assert [one.effect for one in policy.judge(policies, ("onboarding",), FACTS)] == ["warn"]
    assert policy.judge(policies, ("admission",), FACTS) == ()


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"if": "'manifest.a =='"}, "manifest.a =="),
        ({"if": "secrets.token == 'x'"}, "asks about secrets; a rule knows manifest"),
        ({"if": "connection.name == 'x'", "when": "[admission, run]"}, "at admission there is no connection"),
        ({"effect": "require_approval", "when": "[admission]"}, "no connection to approve"),
        ({"if": f"'{'true || ' * 300}true'"}, "at most 2000"),
        (
            {"if": "manifest.a.all(x, manifest.b.all(y, manifest.c.exists(z, x == y + z)))"},
            "has 3 loops in each other",
        ),
        ({"effect": "allow"}, "deny"),
        ({"whenever": "run"}, "not a known key"),
        ({"name": "other"}, "holds the policy 'other'"),
        ({"mend": None}, "mend is missing"),
    ],
)
def test_a_file_that_cannot_be_a_policy_is_refused_with_its_reason(
    tmp_path: Path, keys: dict[str, Any], said: str
) -> None:
    written(tmp_path, **keys)
    with pytest.raises(ConfigurationError) as caught:
        policy.load(tmp_path)
    assert said in caught.value.message
    assert caught.value.place is not None
    assert caught.value.place.file == str(tmp_path / "some.yaml")


def test_loops_beside_each_other_and_brackets_in_texts_are_no_nesting() -> None:
    rule = " && ".join("manifest.streams.all(s, s.name != '.all(x, .all(y, .all(z,')" for _ in range(4))
    assert policy.judge([made(rule)], ("run",), FACTS)[0].effect == "deny"


def test_a_list_that_would_take_too_long_to_go_through_denies() -> None:
    rule = made("manifest.streams.exists(s, s == 1)", "warn")
    fits = FACTS | {"manifest": {"streams": [0] * MAX_ENTRIES}}
    assert policy.judge([rule], ("run",), fits) == ()
    (found,) = policy.judge([rule], ("run",), FACTS | {"manifest": {"streams": [0] * (MAX_ENTRIES + 1)}})
    assert (found.effect, found.failed) == ("deny", f"manifest.streams has more than {MAX_ENTRIES} entries")


def test_an_approval_is_of_the_rule_as_it_read() -> None:
    assert made("true").sha256 == made("true").sha256
    assert made("true").sha256 != made("!false").sha256
    assert made("true").sha256 != made("true", "require_approval").sha256


def test_a_case_that_is_decided_otherwise_is_told_with_its_line(tmp_path: Path) -> None:
    written(tmp_path, **{"if": "manifest.support.level == 'certified'"})
    cases = tmp_path / "some.test.yaml"
    cases.write_text(
        "cases:\n  - {name: one, expect: deny}\n  - {name: two, expect: pass}\n"
        "  - {name: three, manifest: {support: gone}, expect: deny}\n"
    )
    outcomes = policy.test(tmp_path)
    assert [(one.case, one.expected, one.got) for one in outcomes] == [
        ("one", "deny", "deny"),
        ("two", "pass", "deny"),
        ("three", "deny", "error"),
    ]
    assert str(outcomes[1].place) == f"{cases}:3 (cases.1)"


def test_cases_without_their_policy_are_refused(tmp_path: Path) -> None:
    (tmp_path / "gone.test.yaml").write_text("cases: [{name: one, expect: pass}]\n")
    with pytest.raises(ConfigurationError, match="does not have it"):
        policy.test(tmp_path)


@pytest.mark.slow
def test_no_folder_holds_no_policies_and_loads_no_library(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from wellhead.catalog import policy\n"
        f"assert policy.load(Path({str(tmp_path / 'none')!r}), may_lack=True) == ()\n"
        "assert policy.judge((), ('run',), {}) == ()\n"
        "assert 'cel' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
