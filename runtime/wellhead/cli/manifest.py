"""``wellhead manifest``: check a connector's manifest without building anything."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wellhead.cli import output
from wellhead.cli.options import Config, Json
from wellhead.errors import Code, ConfigurationError, WellheadError

if TYPE_CHECKING:
    from wellhead.compat.judge import Verdict
    from wellhead.manifest.load import LoadedManifest
    from wellhead.manifest.model import Manifest

NO_PREVIOUS = Code("WH-CLI-022", "There is no earlier release to compare with.")

#: Word for the highest published version below.
PREVIOUS = "previous"

app = typer.Typer(no_args_is_help=True, help="Check a connector's manifest.")

File = Annotated[Path, typer.Argument(metavar="FILE", help="manifest.yaml, or the connector's folder.")]


@app.command()
def lint(
    file: File,
    against: Annotated[
        str | None,
        typer.Option(
            "--against",
            metavar="FILE|VERSION|previous",
            help="Compare with another manifest, a published version, or the one before; the version must fit.",
        ),
    ] = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Tell everything that is wrong with a manifest; exit 78 if any of it keeps it from being published."""
    from wellhead.manifest import lint as rules
    from wellhead.manifest import load

    verdict = None
    try:
        loaded = load.load(file)
        findings = [_finding(found) for found in rules.lint(loaded)]
        # What is not sound by itself is mended first: a broken schema cannot be compared.
        if against is not None and all(finding["severity"] != "error" for finding in findings):
            verdict = _verdict(loaded, against, config)
            findings += [_finding(found) for found in verdict.findings]
    except ConfigurationError as error:
        if not as_json:
            raise
        findings = _mistakes(error)
    is_sound = all(finding["severity"] != "error" for finding in findings)
    if as_json:
        compared = {} if verdict is None else {"against": _compared(verdict)}
        output.print_json({"file": str(file), "sound": is_sound, "findings": findings} | compared)
    else:
        if verdict is not None:
            _print_changes(verdict)
        output.print_table(
            "",
            ("line", "severity", "code", "what", "mend"),
            [(item["line"], item["severity"], item["code"], item["message"], item["hint"]) for item in findings],
            empty=f"{file}: nothing to say against it.",
        )
    if not is_sound:
        sys.exit(ConfigurationError.exit_code)


def _verdict(loaded: LoadedManifest, against: str, config: Path | None) -> Verdict:
    from wellhead.compat import judge
    from wellhead.lifecycle import publish
    from wellhead.manifest import load

    if Path(against).exists():
        other = load.load(Path(against))
        publish.require_sound(other)
        return judge.judge(other.manifest, loaded)
    return judge.judge(_published(loaded, against, config), loaded)


def _published(loaded: LoadedManifest, against: str, config: Path | None) -> Manifest:
    from wellhead import app as services
    from wellhead.ids import ConnectorId
    from wellhead.lifecycle import publish
    from wellhead.manifest import load
    from wellhead.registry import definitions

    connector = ConnectorId(loaded.manifest.metadata.id)
    with services.opened(config) as host, host.database.read() as tx:
        if against != PREVIOUS:
            return load.of_release(connector, against, definitions.get(tx, connector, against).manifest)
        found = publish.previous(tx, loaded.manifest)
    if found is None:
        raise ConfigurationError(
            f"no release of {connector} below {loaded.manifest.metadata.version} is published",
            code=NO_PREVIOUS,
            hint="compare with a file: --against FILE",
        )
    return found


def _compared(verdict: Verdict) -> dict[str, Any]:
    return {
        "version": verdict.against,
        "needed": verdict.needed,
        "bump": verdict.bump,
        "changes": [output.plain(change) for change in verdict.changes],
    }


def _print_changes(verdict: Verdict) -> None:
    output.print_table(
        f"since {verdict.against}",
        ("needs", "tenants", "what changed"),
        [(one.severity, "must agree" if one.needs_approval else "", one.sentence) for one in verdict.changes],
        empty=f"nothing changed since {verdict.against}",
    )


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
