"""Write the pages of docs/reference/ that are made from the program; a test compares them with what this makes today.

errors.md      every code: what it means, how the program exits, who raises it
settings.md    every key of wellhead.yaml
connection.md  every key of a connection's file
manifest.md    every key of a connector's manifest
trust.md       every key of trust.yaml
profile.md     every key of a profile
policy.md      every key of a policy
cli.md         every command with its arguments and options
licences.md    every package that an installed host or a connector image carries
"""

from __future__ import annotations

import ast
import builtins
import ipaddress
import re
import sys
import types
import typing
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, get_args, get_origin

from packaging.requirements import Requirement
from pydantic import BaseModel

from wellhead import connections, errors, profile, settings
from wellhead.catalog import policy, trust
from wellhead.lifecycle.record import PARTIAL
from wellhead.lifecycle.stop import Reason
from wellhead.manifest import model as manifest

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


def _calls_of_bases(tree: ast.Module) -> dict[ast.Call, str | None]:
    """Map each ``super().__init__(…)`` to the class that it means."""
    return {
        call: _last_name(node.bases[0])
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and node.bases
        for call in ast.walk(node)
        if isinstance(call, ast.Call) and _last_name(call.func) == "__init__"
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

        bases = _calls_of_bases(tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Load):
                mention = key(node)
                if mention is not None:
                    uses[mention] += 1
            if isinstance(node, ast.Call):
                kind = bases.get(node, _last_name(node.func))
                mention = key(next((word.value for word in node.keywords if word.arg == "code"), None))
                if kind is not None and mention is not None and hasattr(errors, kind):
                    raised[mention].add(kind)
    return tuple(
        DeclaredCode(name, meaning, module, uses[tail, constant], tuple(sorted(raised[tail, constant])))
        for name, meaning, module, constant in sorted(row for module, tree in parsed for row in _declared(module, tree))
        for tail in [module.rpartition(".")[2]]
    )


#: How a command ends without an error of ours.
_OTHER_EXITS = (
    (0, "Done, or there was nothing to do: `status` of a run says `succeeded`, `already_done` or `skipped`."),
    (1, "A defect of Wellhead outside a run, with its trace; tell its maintainers."),
    (PARTIAL, "Some streams of a run failed; the others are done."),
    (
        Reason.CANCELLED.exit_code,
        "A run was stopped by `runs cancel`, or took longer than it may: `status` is `stopped`.",
    ),
    (Reason.INTERRUPTED.exit_code, "Stopped by Ctrl-C (SIGINT)."),
    (141, "Whoever read our output left before its end."),
    (Reason.TERMINATED.exit_code, "Stopped by SIGTERM."),
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
    rows = [(kind.exit_code, f"`{kind.__name__}`", (kind.__doc__ or "").splitlines()[0]) for kind in family[1:]]
    rows += [(code, "", told) for code, told in _OTHER_EXITS]
    lines += [f"| {code} | {name} | {told} |" for code, name, told in sorted(rows)]
    lines += ["", "| code | meaning | raised as | in |", "|---|---|---|---|"]
    for code in codes():
        kinds = ", ".join(f"`{kind}`" for kind in code.raised_as) or "by its caller"
        lines.append(f"| {code.name} | {_cell(code.meaning)} | {kinds} | `{code.module}` |")
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def _settings_rows(model: type[BaseModel], prefix: str) -> Iterator[str]:
    for attribute, field in model.model_fields.items():
        name = field.alias or attribute
        annotation: Any = field.annotation
        inner = next(
            (kind for kind in (annotation, *getattr(annotation, "__args__", ())) if _is_model(kind)),
            None,
        )
        shown = _type_name(annotation)
        if inner is not None:
            if field.description:
                yield f"| `{prefix}{name}` | {_cell(shown)} | | {_cell(field.description)} |"
            within = {"list": "[].", "map": ".NAME."}.get(shown.partition(" ")[0], ".")
            yield from _settings_rows(inner, f"{prefix}{name}{within}")
            continue
        default = "required" if field.is_required() else _default(field.get_default(call_default_factory=True))
        yield f"| `{prefix}{name}` | {_cell(shown)} | {default} | {_cell(field.description or '')} |"


_WORDS: dict[Any, str] = {
    Any: "anything",
    str: "text",
    int: "integer",
    float: "number",
    bool: "true or false",
    Path: "path",
    date: "date",
    datetime: "time",
    timedelta: "duration",
    ipaddress.IPv4Address: "IPv4 address",
    ipaddress.IPv4Network: "IPv4 network",
    ipaddress.IPv6Network: "IPv6 network",
}


def _is_model(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _type_name(annotation: Any) -> str:
    """Say in words what a file may hold there."""
    inner = get_args(annotation)
    match get_origin(annotation) or annotation:
        case typing.Annotated:
            return _type_name(inner[0])
        case typing.Literal:
            return " | ".join(str(value) for value in inner)
        case typing.Union | types.UnionType:
            return " | ".join(dict.fromkeys(_type_name(kind) for kind in inner if kind is not type(None)))
        case builtins.tuple | builtins.list:
            return f"list of {_within(inner[0])}"
        case builtins.dict:
            return f"map to {_within(inner[1])}"
        case kind:
            return "object" if _is_model(kind) else _WORDS.get(kind) or str(kind)


def _within(annotation: Any) -> str:
    name = _type_name(annotation)
    is_choice = get_origin(annotation) in (typing.Literal, typing.Union, types.UnionType)
    return f"({name})" if is_choice and " | " in name else name


def _default(value: object) -> str:
    match value:
        case None:
            return ""
        case "" | () | []:
            return "empty"
        case dict():
            return "empty"
        case tuple():
            return ", ".join(f"`{item}`" for item in value)
        case bool():
            return str(value).lower()
        case _:
            return f"`{value}`"


def _keys_page(title: str, model: type[BaseModel], *about: str) -> str:
    table = ["", "| key | type | default | meaning |", "|---|---|---|---|", *_settings_rows(model, "")]
    return "\n".join([f"# {title}", "", *about, *table]) + "\n"


def settings_page() -> str:
    """Render settings.md."""
    return _keys_page(
        "wellhead.yaml",
        settings.Settings,
        "Later wins: defaults, this file, the environment (`WELLHEAD__SECTION__KEY`), flags. Texts may hold `${VAR}`",
        "and `${VAR:-default}`. Relative paths start at the folder of the file. Unknown keys are refused.",
    )


def connection_page() -> str:
    """Render connection.md."""
    return _keys_page(
        "A connection's file",
        connections.Connection,
        "`connections/NAME.yaml`, one for each connection. Texts may hold `${VAR}` and `${VAR:-default}`, filled in",
        "from the environment of whoever runs it. Unknown keys are refused. An editor can check it by the JSON Schema",
        "in `.wellhead/schema/connection.json`, which `wellhead init` writes.",
    )


def manifest_page() -> str:
    """Render manifest.md."""
    return _keys_page(
        "A connector's manifest",
        manifest.Manifest,
        "`manifest.yaml` in the connector's folder; it travels in the image and in the signed release. `wellhead",
        "manifest lint` checks it, `wellhead manifest schema` prints its JSON Schema.",
    )


def trust_page() -> str:
    """Render trust.md."""
    return _keys_page(
        "trust.yaml",
        trust.TrustFile,
        "Who may sign for which namespace or connector, on this host. A rule for one connector replaces that of its",
        "namespace.",
    )


def profile_page() -> str:
    """Render profile.md."""
    return _keys_page(
        "A profile",
        profile.Profile,
        "A reviewed document that a connection names under `profile`: how one HTTP source is spoken to. It never holds",
        "a secret, only the reference of one.",
    )


def policy_page() -> str:
    """Render policy.md."""
    return _keys_page(
        "A policy",
        policy.Policy,
        "A file under `policies` of wellhead.yaml ([how to write one](../guides/write-a-policy.md)).",
    )


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
    "connection.md": connection_page,
    "manifest.md": manifest_page,
    "trust.md": trust_page,
    "profile.md": profile_page,
    "policy.md": policy_page,
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
