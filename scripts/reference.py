"""Write the pages of docs/reference/ that are made from the program; a test compares them with what this makes today.

errors.md      every code: what it means, how the program exits, who raises it
settings.md    every key of wellhead.yaml
cli.md         every command with its arguments and options
licences.md    every package that an installed host or a connector image carries
"""

from __future__ import annotations

import ast
import re
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from pydantic import BaseModel

from wellhead import errors, settings

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = (ROOT / "runtime" / "wellhead", ROOT / "sdk" / "wellhead_sdk")


@dataclass(frozen=True, slots=True)
class DeclaredCode:
    """One `Code` constant, where it stands, and how it is used."""

    name: str
    meaning: str
    module: str
    uses: int
    raised_as: tuple[str, ...]


def _parsed() -> Iterator[tuple[str, ast.Module]]:
    for package in PACKAGES:
        for path in sorted(package.rglob("*.py")):
            if not path.name.endswith("_pb2.py"):
                dotted = ".".join(path.relative_to(package.parent).with_suffix("").parts)
                yield dotted.removesuffix(".__init__"), ast.parse(path.read_text(), filename=str(path))


def _last_name(node: ast.expr | None) -> str | None:
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case _:
            return None


def _declared(module: str, tree: ast.Module) -> Iterator[tuple[str, str, str, str]]:
    for node in tree.body:
        match node:
            case ast.Assign(
                targets=[ast.Name(id=constant)],
                value=ast.Call(func=function, args=[ast.Constant(value=str(name)), ast.Constant(value=str(meaning))]),
            ) if _last_name(function) == "Code":
                yield name, meaning, module, constant
            case _:
                pass


def _origins(tree: ast.Module) -> dict[str, str]:
    """Map each name that ``from X import name`` binds to the module X; every other name is the module's own."""
    return {
        alias.asname or alias.name: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module is not None
        for alias in node.names
    }


@cache
def codes() -> tuple[DeclaredCode, ...]:
    """Collect every `Code` constant of the host and the SDK by reading the source, in the order of their names."""
    parsed = list(_parsed())
    uses: dict[tuple[str, str], int] = defaultdict(int)
    raised: dict[tuple[str, str], set[str]] = defaultdict(set)
    for module, tree in parsed:
        origins = _origins(tree)

        def key(
            node: ast.expr | None, module: str = module, origins: dict[str, str] = origins
        ) -> tuple[str, str] | None:
            """Name what a mention refers to by the last part of its module and the constant."""
            match node:
                case ast.Name(id=constant):
                    return origins.get(constant, module).rpartition(".")[2], constant
                case ast.Attribute(value=holder, attr=constant):
                    return _last_name(holder) or "", constant
                case _:
                    return None

        for node in ast.walk(tree):
            if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Load):
                mention = key(node)
                if mention is not None:
                    uses[mention] += 1
            if isinstance(node, ast.Call):
                kind = _last_name(node.func)
                mention = key(next((word.value for word in node.keywords if word.arg == "code"), None))
                if kind is not None and mention is not None and hasattr(errors, kind):
                    raised[mention].add(kind)
    return tuple(
        DeclaredCode(name, meaning, module, uses[tail, constant], tuple(sorted(raised[tail, constant])))
        for name, meaning, module, constant in sorted(row for module, tree in parsed for row in _declared(module, tree))
        for tail in [module.rpartition(".")[2]]
    )


def errors_page() -> str:
    """Render errors.md."""
    lines = [
        "# Error codes",
        "",
        "The code says what happened, the hint printed with it says how to mend it, and the exit code says what a",
        "scheduler should do next. Codes are never used again for something else.",
        "",
        "A command that is given `--json` tells its error on standard output too, as one document with `exit_code` and",
        "`error`: `code`, `category`, `message`, `hint`, `place` and `details`. A command that found",
        "something before, as `run` and `connection check` do, puts both into the document it prints anyway.",
        "",
        "| exit | class | what to do |",
        "|---|---|---|",
    ]
    family = [
        kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.WellheadError)
    ]
    for kind in sorted(family, key=lambda kind: (kind.exit_code, kind.__name__)):
        if kind is not errors.WellheadError:
            summary = (kind.__doc__ or "").splitlines()[0]
            lines.append(f"| {kind.exit_code} | `{kind.__name__}` | {summary} |")
    lines += ["", "| code | meaning | raised as | in |", "|---|---|---|---|"]
    for code in codes():
        kinds = ", ".join(f"`{kind}`" for kind in code.raised_as) or "by its caller"
        lines.append(f"| {code.name} | {_cell(code.meaning)} | {kinds} | `{code.module}` |")
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def _settings_rows(model: type[BaseModel], prefix: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        annotation: Any = field.annotation
        inner = next(
            (kind for kind in (annotation, *getattr(annotation, "__args__", ())) if _is_model(kind)),
            None,
        )
        shown = _type_name(annotation)
        if inner is not None:
            if field.description:
                yield f"| `{prefix}{name}` | {_cell(shown)} | | {_cell(field.description)} |"
            within = f"{prefix}{name}[]." if "tuple" in shown else f"{prefix}{name}."
            yield from _settings_rows(inner, within)
            continue
        default = "required" if field.is_required() else _default(field.get_default(call_default_factory=True))
        yield f"| `{prefix}{name}` | {_cell(shown)} | {default} | {_cell(field.description or '')} |"


def _is_model(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _type_name(annotation: Any) -> str:
    if isinstance(annotation, type) and not getattr(annotation, "__args__", ()):
        return annotation.__name__
    return re.sub(r"\b(?:[a-z_]+\.)+(?=[A-Za-z])", "", str(annotation))


def _default(value: object) -> str:
    match value:
        case None:
            return ""
        case "" | () | []:
            return "empty"
        case dict():
            return "empty"
        case bool():
            return str(value).lower()
        case _:
            return f"`{value}`"


def settings_page() -> str:
    """Render settings.md."""
    lines = [
        "# wellhead.yaml",
        "",
        "Later wins: defaults, this file, the environment (`WELLHEAD__SECTION__KEY`), flags. Texts may hold `${VAR}`",
        "and `${VAR:-default}`. Relative paths start at the folder of the file. Unknown keys are refused.",
        "",
        "| key | type | default | meaning |",
        "|---|---|---|---|",
        *_settings_rows(settings.Settings, ""),
    ]
    return "\n".join(lines) + "\n"


def cli_page() -> str:
    """Render cli.md."""
    import typer

    from wellhead.cli.main import app

    lines = ["# Commands", "", "What `--help` says, for every command."]

    # Typer brings a click of its own, whose types have no public name.
    def describe(command: Any, name: str, parent: Any) -> None:
        context = command.context_class(command, info_name=name, parent=parent, terminal_width=100)
        lines.extend(["", f"## {context.command_path}", "", "```", command.get_help(context).strip(), "```"])
        verbs = command.list_commands(context) if hasattr(command, "list_commands") else []
        for verb in verbs:
            inner = command.get_command(context, verb)
            if not inner.hidden:
                describe(inner, verb, context)

    describe(typer.main.get_command(app), "wellhead", None)
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _carried(roots: Sequence[str]) -> dict[str, metadata.Distribution]:
    """Follow the requirements of the roots over what is installed, extras included."""
    found: dict[str, metadata.Distribution] = {}
    waiting: list[tuple[str, frozenset[str]]] = [(root, frozenset()) for root in roots]
    done: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        item = waiting.pop()
        if item in done:
            continue
        done.add(item)
        name, extras = item
        distribution = metadata.distribution(name)
        found[re.sub(r"[-_.]+", "-", name).lower()] = distribution
        for text in distribution.requires or ():
            requirement = Requirement(text)
            if requirement.marker is None or any(
                requirement.marker.evaluate({"extra": extra}) for extra in ("", *extras)
            ):
                waiting.append((requirement.name, frozenset(requirement.extras)))
    return found


def _licence(distribution: metadata.Distribution) -> str:
    about = distribution.metadata
    if expressions := about.get_all("License-Expression"):
        return "; ".join(expressions)
    classified = [
        value.rpartition(" :: ")[2] for value in about.get_all("Classifier") or () if value.startswith("License :: ")
    ]
    stated = "".join(about.get_all("License") or ()).strip()
    # Some packages put their whole licence text into the field.
    return "; ".join(classified) or (stated.splitlines() or ["not stated"])[0]


def licences_page() -> str:
    """Render licences.md."""
    own = {"wellhead", "wellhead-sdk"}
    host, sdk = _carried(["wellhead"]), _carried(["wellhead-sdk"])
    lines = [
        "# Licences of what we carry",
        "",
        "Read from the installed packages' own statements. Wellhead itself is under Apache-2.0; see NOTICE.",
        "",
        "| package | licence | in a host | in every connector image |",
        "|---|---|---|---|",
    ]
    for name, distribution in sorted(host.items()):
        if name not in own:
            lines.append(f"| {name} | {_cell(_licence(distribution))} | yes | {'yes' if name in sdk else ''} |")
    return "\n".join(lines) + "\n"


PAGES: dict[str, Callable[[], str]] = {
    "errors.md": errors_page,
    "settings.md": settings_page,
    "cli.md": cli_page,
    "licences.md": licences_page,
}


def main(names: Sequence[str]) -> int:
    """Write the named pages, or all of them."""
    folder = ROOT / "docs" / "reference"
    folder.mkdir(parents=True, exist_ok=True)
    for name in names or PAGES:
        (folder / name).write_text(PAGES[name]())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
