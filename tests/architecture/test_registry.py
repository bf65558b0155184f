"""Who may write SQL, and about which table."""

from __future__ import annotations

import ast
import re
from collections import defaultdict

from tests.architecture.source import ROOT, imported, modules

REGISTRY = ROOT / "runtime" / "wellhead" / "registry"
SHARED = {"__init__", "tables", "database"}
#: The six tables whose names are a contract with everyone who queries the registry from outside.
PROMISED = {
    "connector_definitions",
    "tenant_connections",
    "connector_runs",
    "connector_run_state",
    "stream_registry",
    "compat_alerts",
}


def table_variables() -> dict[str, str]:
    """Map each variable of tables.py that is a table to the table's name."""
    module = ast.parse((REGISTRY / "tables.py").read_text())
    found = {}
    for node in module.body:
        match node:
            case ast.Assign(
                targets=[ast.Name(id=variable)],
                value=ast.Call(func=ast.Name(id="Table"), args=[ast.Constant(value=str(name)), *_]),
            ):
                found[variable] = name
            case _:
                pass
    return found


def _mentioned(module: ast.Module) -> set[str]:
    names = {node.id for node in ast.walk(module) if isinstance(node, ast.Name)}
    attributes = {node.attr for node in ast.walk(module) if isinstance(node, ast.Attribute)}
    return names | attributes


def test_the_promised_tables_exist() -> None:
    assert set(table_variables().values()) >= PROMISED


def test_each_table_is_named_in_one_module() -> None:
    variables = table_variables()
    homes: dict[str, set[str]] = defaultdict(set)
    for path, module in modules("runtime/wellhead/registry"):
        if path.stem in SHARED or "migrations" in path.parts:
            continue
        imports = imported(module)
        for variable in variables:
            if f"wellhead.registry.tables.{variable}" in imports or (
                "wellhead.registry.tables" in imports and _attribute_of_tables(module, variable)
            ):
                homes[variable].add(path.stem)
    assert {variable: sorted(homes[variable]) for variable in variables if len(homes[variable]) != 1} == {}


def _attribute_of_tables(module: ast.Module, variable: str) -> bool:
    return any(
        isinstance(node, ast.Attribute)
        and node.attr == variable
        and isinstance(node.value, ast.Name)
        and node.value.id == "tables"
        for node in ast.walk(module)
    )


def test_the_modules_of_the_registry_do_not_import_each_other() -> None:
    allowed = {f"wellhead.registry.{name}" for name in ("tables", "database")}
    wrong = {
        f"{path.stem} imports {name}"
        for path, module in modules("runtime/wellhead/registry")
        if path.stem not in SHARED and "migrations" not in path.parts
        for name in imported(module)
        if name.startswith("wellhead.registry.") and ".".join(name.split(".")[:3]) not in allowed
    }
    assert wrong == set()


def test_nobody_else_writes_sql_about_a_table() -> None:
    names = "|".join(sorted(set(table_variables().values())))
    statement = re.compile(rf"\b(from|into|update|join|table)\s+({names})\b", re.IGNORECASE)
    wrong = {
        f"{path}:{node.lineno}"
        for path, module in modules("runtime/wellhead", "sdk")
        if "registry" not in path.parts
        for node in ast.walk(module)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and statement.search(node.value)
    }
    assert wrong == set()
