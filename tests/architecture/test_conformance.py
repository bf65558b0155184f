"""Every connector that ships passes the SDK's suite in its built image."""

from __future__ import annotations

import ast

from tests.architecture.source import ROOT


def test_make_conform_finds_a_suite_for_each_connector() -> None:
    """As the target looks for it: its name without dashes, in the name of a class."""
    module = ast.parse((ROOT / "tests" / "conformance" / "test_images.py").read_text())
    suites = {node.name.lower() for node in module.body if isinstance(node, ast.ClassDef)}
    shipped = {folder.parent.name for folder in (ROOT / "connectors").glob("*/manifest.yaml")}
    assert len(shipped) >= 3
    assert {name for name in shipped if f"test{name.replace('-', '')}" not in suites} == set()
