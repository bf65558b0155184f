"""``wellhead catalog sync``: apply what stands in Git to the catalog."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wellhead.cli import output
from wellhead.cli.options import Config, Json


def sync(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="As `publish --record` writes it, such as manifests.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and change nothing.")] = False,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Register the releases that DIR records, and offer in channels what its channels.yaml lists: all of it or nothing.

    Releases must be in the store and signed by a key that trust.yaml names; one that the store lacks and no channel
    lists is left out. A channel in which a rollout goes on is left alone, a version that was taken out of a channel is
    not put back, and nothing is taken from anybody.
    """
    from wellhead import app as services
    from wellhead.errors import counted
    from wellhead.lifecycle import sync as lifecycle

    with services.opened(config) as app:
        plan = lifecycle.sync(app.host(), folder, who=output.who(), dry_run=dry_run)
    for said in plan.warnings:
        output.stderr().print(f"policy {said.policy.name}: {said.message}", markup=False)
    if as_json:
        output.print_json(
            {
                "dry_run": dry_run,
                "releases": [one.model_dump(mode="json") for one in plan.releases],
                "channels": output.plain(plan.pointings),
                "left": output.plain(plan.left),
                "absent": [one.model_dump(mode="json") for one in plan.absent],
                "policies": [{"policy": one.policy.name, "message": one.message} for one in plan.warnings],
            }
        )
        return
    out = output.console()
    for release in plan.releases:
        out.print(f"release {release.connector} {release.version}  {release.digest}", markup=False)
    for pointing in plan.pointings:
        out.print(f"channel {pointing.channel} of {pointing.connector}: offers {pointing.version}", markup=False)
    for absent in plan.absent:
        out.print(
            f"release {absent.connector} {absent.version}: not registered: the store does not have it", markup=False
        )
    for left in plan.left:
        out.print(f"channel {left.channel} of {left.connector}: left as it is: {left.why}", markup=False)
        out.print(f"  mend  {left.mend}", markup=False)
    if not plan.releases and not plan.pointings:
        out.print(f"{folder}: nothing to do", markup=False)
        return
    told = f"{counted(len(plan.releases), 'release')}, {counted(len(plan.pointings), 'offer')}"
    out.print(f"{folder}: {told} {'would be applied' if dry_run else 'applied'}", markup=False)
