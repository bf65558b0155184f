"""``wellhead policy``: what governs releases and connections, whether it decides as its cases say, and about whom."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from wellhead.cli import output
from wellhead.cli.options import Config, Connection, Json
from wellhead.errors import Code, ConfigurationError, Place, RefusedError, counted

NO_CASES = Code("WH-POL-004", "There are no cases to try.")

app = typer.Typer(no_args_is_help=True, help="What governs releases and connections.")


@app.command("list")
def list_policies(config: Config = None, as_json: Json = False) -> None:
    """List the policies of this project."""
    from wellhead import app as services

    with services.opened(config) as host:
        policies, folder = host.policies, host.settings.path(host.settings.policies)
    if as_json:
        output.print_json([policy.model_dump(mode="json", by_alias=True) for policy in policies])
        return
    output.print_table(
        "",
        ("policy", "effect", "when", "for"),
        [(policy.name, policy.effect, ", ".join(policy.when), policy.description) for policy in policies],
        empty=f"No policies in {folder}: everything is allowed.",
    )


@app.command("test")
def try_cases(
    folder: Annotated[
        Path | None, typer.Argument(metavar="[DIR]", help="Folder of policies; default: the project's.")
    ] = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Try the cases kept beside the policies; exit 78 if one is decided otherwise than it says."""
    from wellhead import app as services
    from wellhead.catalog import policy

    if folder is None:
        with services.opened(config) as host:
            folder = host.settings.path(host.settings.policies)
    outcomes = policy.test(folder)
    if not outcomes:
        raise ConfigurationError(
            f"{folder} holds no cases",
            code=NO_CASES,
            hint="keep them in NAME.test.yaml beside NAME.yaml",
            place=Place(str(folder)),
        )
    wrong = [one for one in outcomes if one.expected != one.got]
    if as_json:
        output.print_json({"cases": len(outcomes), "wrong": [output.plain(one) for one in wrong]})
    else:
        out = output.console()
        for one in wrong:
            told = f"{one.place}: {one.policy}: {one.case}: expected {one.expected}, got {one.got}"
            out.print(f"{told} ({one.failed})" if one.failed else told, markup=False)
        out.print(f"{counted(len(outcomes), 'case')}, {len(wrong)} decided otherwise", markup=False)
    if wrong:
        sys.exit(ConfigurationError.exit_code)


@app.command()
def check(connection: Connection, config: Config = None, as_json: Json = False) -> None:
    """Say what the policies hold of a connection and the release it would get; exit 76 if it may not run."""
    from wellhead import app as services
    from wellhead import connections
    from wellhead.lifecycle import governance
    from wellhead.lifecycle.plan import examine

    with services.opened(config) as host:
        here = host.host()
        file = connections.load(host.settings, connection, os.environ)
        seen = examine(here, file)
        findings = governance.judge(here, file, seen.manifest, seen.config, seen.egress, ("onboarding", "run"))
        waiting = governance.waiting(here, file, findings)
    rows: list[dict[str, Any]] = [
        {
            "policy": one.policy.name,
            "effect": one.effect,
            "approved": one not in waiting if one.effect == "require_approval" else None,
            "rule": " ".join(one.policy.rule.split()),
            "message": one.message,
            "mend": one.mend,
        }
        for one in findings
    ]
    may_run = not waiting and all(one.effect != "deny" for one in findings)
    if as_json:
        release = {"id": seen.manifest.metadata.id, "version": seen.manifest.metadata.version}
        output.print_json({"connection": connection, "release": release, "may_run": may_run, "findings": rows})
    else:
        output.print_table(
            "",
            ("policy", "effect", "what", "mend"),
            [
                (
                    row["policy"],
                    f"{row['effect']}{', approved' if row['approved'] else ''}",
                    row["message"],
                    row["mend"],
                )
                for row in rows
            ],
            empty=f"{connection}: no policy has anything against it.",
        )
    if not may_run:
        sys.exit(RefusedError.exit_code)
