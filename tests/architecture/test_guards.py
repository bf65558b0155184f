"""The rows of tests/guards can be tried, and the script that tries them does what it says."""

from __future__ import annotations

import re

import pytest

from scripts import guards
from tests.architecture.source import ROOT

ROWS = guards.load()


@pytest.mark.parametrize("guard", ROWS, ids=lambda guard: f"{guard.area}: {guard.guard}")
def test_a_guard_can_be_removed_and_its_test_exists(guard: guards.Guard) -> None:
    whole = (ROOT / guard.file).read_text()
    assert guard.removed_from(whole) != whole
    file, _, name = guard.test.partition("::")
    function = re.sub(r"\[.*", "", name.rpartition("::")[2])
    # A test of a suite that is offered to outsiders stands in the suite, and the named file derives from it.
    suites = [*(ROOT / "runtime/wellhead/testing").glob("*.py"), *(ROOT / "sdk/wellhead_sdk/testing").glob("*.py")]
    texts = [(ROOT / file).read_text(), *(suite.read_text() for suite in suites)]
    assert any(re.search(rf"^\s*def {re.escape(function)}\(", text, re.MULTILINE) for text in texts)


def _guard(find: str, replace: str) -> guards.Guard:
    return guards.Guard(area="x", guard="g", file="f.py", find=find, replace=replace, test="t.py::test")


def test_exact_text_is_replaced_where_it_stands() -> None:
    assert _guard("    if a:\n        b()\n", "").removed_from("x\n    if a:\n        b()\ny\n") == "x\ny\n"


def test_text_without_its_common_indentation_is_found_and_put_back_indented() -> None:
    text = "def f():\n    if a:\n        b()\n    return\n"
    removed = _guard("if a:\n    b()\n", "pass\n").removed_from(text)
    assert removed == "def f():\n    pass\n    return\n"


@pytest.mark.parametrize("text", ["nothing of it", "a = 1\nif c:\n    a = 1\n"], ids=["absent", "twice"])
def test_text_that_is_not_there_once_is_refused(text: str) -> None:
    with pytest.raises(guards.GuardError, match="stands"):
        _guard("a = 1\n", "").removed_from(text)
