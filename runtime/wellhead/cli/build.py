"""``wellhead build``: a connector's image, or the folders its Dockerfile copies."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wellhead.cli import output
from wellhead.cli.options import Config, Json

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="The connector's folder.", exists=True, file_okay=False)]
Sdk = Annotated[
    Path | None,
    typer.Option("--sdk", metavar="DIR", help="Project folder of wellhead-sdk; default: the one that is installed."),
]
Platforms = Annotated[
    str | None,
    typer.Option(
        "--platform",
        metavar="LIST",
        help="Such as linux/amd64,linux/arm64: this machine's always, others assembled without being run.",
    ),
]


def split(platforms: str | None) -> list[str]:
    """Return the platforms of a list with commas."""
    return [name.strip() for name in (platforms or "").split(",") if name.strip()]


def build(
    folder: Folder,
    stage: Annotated[
        Path | None,
        typer.Option("--stage", metavar="DIR", help="Write what a Dockerfile copies here, instead of an image."),
    ] = None,
    refresh_base: Annotated[
        bool, typer.Option("--refresh-base", help="Make the base again from today's Debian packages.")
    ] = False,
    platform: Platforms = None,
    sdk: Sdk = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Build a connector's image into the store, unsigned; the same folder gives the same digest."""
    from wellhead import app as services
    from wellhead.images import base
    from wellhead.images import build as images

    with services.opened(config) as host:
        inputs = host.image_inputs(sdk, refresh_base=refresh_base, platforms=split(platform))
        if stage is not None:
            images.stage(folder, inputs, stage)
            if as_json:
                output.print_json({"stage": str(stage), "base": str(stage / "base.tar")})
            else:
                output.console().print(
                    f"{stage}: deps, app, wellhead\n"
                    f"  docker import {stage}/base.tar wellhead-base   # or any BASE_IMAGE with Python {base.PYTHON}\n"
                    f"  docker build --build-arg BASE_IMAGE=wellhead-base -f {folder}/Dockerfile {stage}",
                    markup=False,
                )
            return
        built = images.build(folder, inputs, host.layout)
    if as_json:
        output.print_json(
            {
                "connector": built.connector,
                "version": built.version,
                "digest": built.index_digest,
                "manifest_sha256": built.manifest_sha256,
                "images": output.plain(built.images),
            }
        )
        return
    out = output.console()
    out.print(f"{built.connector} {built.version}  {built.index_digest}", markup=False)
    for platform, image in sorted(built.images.items()):
        out.print(f"  {platform}  image {image.config}", markup=False)
