"""``wellhead publish``: from a connector's folder to a release others can resolve."""

from __future__ import annotations

from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from wellhead.cli import options, output
from wellhead.cli.build import Folder, Platforms, Sdk, split
from wellhead.cli.options import Config, Json
from wellhead.errors import Code, ConfigurationError, counted

BAD_AGE = Code("WH-CLI-023", "An age cannot be read.")
WHICH_KEY = Code("WH-CLI-020", "It is not clear which key should sign.")


def publish(
    folder: Folder,
    key: Annotated[
        list[str] | None,
        typer.Option(
            "--key", metavar="NAME|FILE", help="Pair of `keys new`, or a key file; repeatable. Default: the only pair."
        ),
    ] = None,
    unsigned: Annotated[
        bool, typer.Option("--unsigned", help="Sign nothing, where trust.yaml allows it: development only.")
    ] = False,
    valid_for: Annotated[
        str | None, typer.Option("--valid-for", metavar="AGE", help="How long the signature lasts, such as 400d.")
    ] = None,
    channel: Annotated[str, typer.Option("--channel", help="Channel that points to it from now on.")] = "stable",
    image: Annotated[
        str | None,
        typer.Option("--image", metavar="IMAGE", help="Publish this image, built with the connector's Dockerfile."),
    ] = None,
    record: Annotated[
        Path | None,
        typer.Option("--record", metavar="DIR", help="Write its release record and channel into this folder, for Git."),
    ] = None,
    platform: Platforms = None,
    sdk: Sdk = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Check, build, try, sign and register a connector; the same bytes again change nothing."""
    from wellhead import app as services
    from wellhead.images import build

    options.new_channel(channel)
    with services.opened(config) as host, ExitStack() as scope:
        inputs = host.image_inputs(sdk, platforms=split(platform))
        if image is None:
            # Importing the rest takes longer than the connector's build backend, which is another process.
            scope.enter_context(build.ahead(folder, inputs))
        from wellhead.catalog import keys
        from wellhead.lifecycle import publish as order

        here = order.Publisher(
            database=host.database,
            store=host.layout,
            remote=host.remote,
            engine=host.engine,
            runner=host.runner,
            inputs=inputs,
            trust=host.trust,
            policies=host.policies,
            environment=host.settings.environment,
            keys=() if unsigned else tuple(keys.load_private(file) for file in _key_files(host.keys_folder, key or [])),
            valid_for=None if valid_for is None else _age(valid_for),
            clock=host.clock,
            who=output.who(),
            records=record,
        )
        done = order.publish(here, folder, channel, image)
    release = done.release
    if as_json:
        output.print_json(
            {
                "connector": release.connector,
                "version": release.version,
                "digest": release.index_digest,
                "signed_by": list(release.key_ids),
                "images": output.plain(dict(release.images)),
                "channel": channel,
                "channel_moved": done.points_channel,
                "new": done.checked is not None,
                "probe": output.plain(done.checked),
                "record": None if done.record is None else str(done.record),
                "warnings": [finding.message for finding in done.warnings],
                "policies": [{"policy": one.policy.name, "message": one.message} for one in done.policies],
            }
        )
        return
    out = output.console()
    for finding in done.warnings:
        output.stderr().print(f"{finding.place}: {finding.code} {finding.message}", markup=False)
    for said in done.policies:
        output.stderr().print(f"policy {said.policy.name}: {said.message}", markup=False)
    out.print(f"{release.connector} {release.version}  {release.index_digest}", markup=False)
    out.print(f"  signed by {', '.join(release.key_ids) or 'nobody'}", markup=False)
    if done.checked is None:
        out.print("  published before with the same bytes", markup=False)
    else:
        out.print(f"  tried without a connection, as far as {done.checked.reached}; it kept nothing", markup=False)
        if done.checked.stopped_by:
            out.print(f"    beyond that it needs one: {done.checked.stopped_by}", markup=False)
    if done.points_channel:
        out.print(f"  channel {channel} points to it", markup=False)
    if done.record is not None:
        out.print(f"  recorded in {done.record}", markup=False)


def _age(text: str) -> timedelta:
    from wellhead.catalog import trust

    try:
        return trust.age(text)
    except ValueError as exc:
        raise ConfigurationError(str(exc), code=BAD_AGE, hint="such as --valid-for 400d") from exc


def _key_files(folder: Path, named: list[str]) -> list[Path]:
    from wellhead.catalog import keys

    if named:
        return [Path(name) if "/" in name or name.endswith(".key") else folder / f"{name}.key" for name in named]
    # The host's own pair signs receipts.
    found = sorted(file for file in folder.glob("*.key") if file.stem != keys.HOST)
    if len(found) != 1:
        raise ConfigurationError(
            f"{folder} holds {counted(len(found), 'key')}",
            code=WHICH_KEY,
            hint="name one with --key"
            if found
            else "make one: wellhead keys new NAME --trust NAMESPACE, with the namespace of the connector",
        )
    return found
