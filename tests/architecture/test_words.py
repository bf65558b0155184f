"""What is said to people: no `1 tables`."""

from __future__ import annotations

import ast
import re

from tests.architecture.source import ROOT, modules

PLURAL = re.compile(r" (?!bytes)[a-z]+s\b")
SPOKEN = ("runtime", "sdk", *(str(folder.relative_to(ROOT)) for folder in sorted((ROOT / "connectors").iterdir())))


def _plurals(module: ast.Module) -> list[str]:
    """Return the words that follow the bare length of something in a text."""
    return [
        after.value.strip()
        for text in ast.walk(module)
        if isinstance(text, ast.JoinedStr)
        for number, after in zip(text.values, text.values[1:], strict=False)
        if isinstance(number, ast.FormattedValue) and isinstance(number.value, ast.Call)
        if isinstance(number.value.func, ast.Name) and number.value.func.id == "len"
        if isinstance(after, ast.Constant) and isinstance(after.value, str) and PLURAL.match(after.value)
    ]


def test_the_length_of_something_is_told_by_counted() -> None:
    assert _plurals(ast.parse('f"{len(found)} tables of {schema}"')) == ["tables of"]
    told = {str(path): _plurals(module) for folder in SPOKEN for path, module in modules(folder)}
    assert len(told) > 100
    assert {path: words for path, words in told.items() if words} == {}
