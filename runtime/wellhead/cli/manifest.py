"""``wellhead manifest``: check a connector's manifest without building anything."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from wellhead.cli import output
from wellhead.cli.options import Json
from wellhead.errors import ConfigurationError, WellheadError

app = typer.Typer(no_args_is_help=True, help="Check a connector's manifest.")

File = Annotated[Path, typer.Argument(metavar="FILE", help="manifest.yaml, or the connector's folder.")]


@app.command()
def lint(file: File, as_json: Json = False) -> None:
    """Tell everything that is wrong with a manifest; exit 78 if any of it keeps it from being published."""
    from wellhead.manifest import lint as rules
    from wellhead.manifest import load

    try:
        findings = [_finding(found) for found in rules.lint(load.load(file))]
    except ConfigurationError as error:
        if not as_json:
            raise
        findings = _mistakes(error)
    is_sound = all(finding["severity"] != "error" for finding in findings)
    if as_json:
        output.print_json({"file": str(file), "sound": is_sound, "findings": findings})
    else:
        output.print_table(
            "",
            ("line", "severity", "code", "what", "mend"),
            [(item["line"], item["severity"], item["code"], item["message"], item["hint"]) for item in findings],
            empty=f"{file}: nothing to say against it.",
        )
    if not is_sound:
        sys.exit(ConfigurationError.exit_code)


@app.command()
def schema() -> None:
    """Print the JSON Schema of manifests, for editors."""
    from wellhead.manifest import schema as published

    sys.stdout.write(published.text())


def _finding(found: Any) -> dict[str, Any]:
    return {
        "code": found.code.name,
        "severity": found.severity,
        "line": found.place.line,
        "field": found.place.field,
        "message": found.message,
        "hint": found.hint,
    }


def _mistakes(error: WellheadError) -> list[dict[str, Any]]:
    """Tell a manifest of the wrong shape in the same form: the first mistake with its place, the others as text."""
    place = error.place
    told = {"code": error.code.name, "severity": "error", "hint": error.hint}
    first = {"line": place.line if place else None, "field": place.field if place else None, "message": error.message}
    return [told | first] + [told | {"line": None, "field": None, "message": text} for text in error.details[1:]]
