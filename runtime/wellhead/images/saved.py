"""The second way into a release: an image somebody built with a Dockerfile, taken out of an Engine as a tar.

Its config is kept byte for byte, so its id stays what the Engine knows; its layers are packed as ours are. Every layer
is held against the config's ``diff_ids``.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from wellhead.errors import Code, ConfigurationError, counted
from wellhead.images import build, layer, oci, provenance, sbom, store
from wellhead.images.build import Built
from wellhead.manifest.load import LoadedManifest

NOT_AN_IMAGE = Code("WH-IMG-030", "What an Engine saved is not one image.")
OTHER_PLATFORM = Code("WH-IMG-031", "An image is of a platform its manifest does not allow.")


def take(
    chunks: Iterable[bytes],
    loaded: LoadedManifest,
    scratch: Path,
    out: store.Shelf,
    builder: str = provenance.LOCAL_BUILDER,
) -> Built:
    """Make a release of an image an Engine saved.

    Args:
        chunks: the tar, as ``docker save`` writes it.
        loaded: the manifest it is published under.
        scratch: folder with room for the image; left empty.
        out: where the release goes.
        builder: who the provenance names.

    Raises:
        ConfigurationError: the tar does not hold one image whose layers are those of its config (WH-IMG-030), or the
            manifest does not allow its platform (WH-IMG-031).
    """
    with tempfile.TemporaryDirectory(prefix="saved-", dir=scratch) as folder:
        archive = Path(folder) / "image.tar"
        with archive.open("wb") as file:
            for chunk in chunks:
                file.write(chunk)
        try:
            return _taken(archive, loaded, Path(folder), out, builder)
        except (tarfile.TarError, ValueError, KeyError, RecursionError) as exc:
            raise _not_an_image(str(exc)) from exc


def _taken(archive: Path, loaded: LoadedManifest, folder: Path, out: store.Shelf, builder: str) -> Built:
    with tarfile.open(archive) as tar:
        named, names = _image(json.loads(_member(tar, "manifest.json")))
        config = _member(tar, named)
        platform, diff_ids = _described(json.loads(config))
        if platform not in loaded.manifest.runtime.platforms:
            raise ConfigurationError(
                f"the image is for {platform}, and the manifest allows {', '.join(loaded.manifest.runtime.platforms)}",
                code=OTHER_PLATFORM,
                hint="add the platform to runtime.platforms, or build the image for another one",
                place=loaded.document.place(("runtime", "platforms")),
            )
        if len(diff_ids) != len(names):
            raise _not_an_image(f"its config names {counted(len(diff_ids), 'layer')}, and there are {len(names)}")
        packed: list[layer.Packed] = []
        insides: list[Path] = []
        for number, (name, diff_id) in enumerate(zip(names, diff_ids, strict=True)):
            inside = _unpacked(tar, name, folder / f"{number}.tar")
            with inside.open("rb") as file:
                done = layer.pack(file, folder / f"{number}.tar.gz")
            if done.diff_id != diff_id:
                raise _not_an_image(f"layer {number + 1} is {done.diff_id}, and its config says {diff_id!r}")
            insides.append(inside)
            packed.append(done)
        making = provenance.Making(
            builder,
            provenance.DOCKERFILE,
            {"connector": loaded.manifest.metadata.id, "version": loaded.manifest.metadata.version},
            {"image": hashlib.sha256(config).hexdigest()},
        )
        stack = build.Stack(packed, config)
        return build.assemble(loaded, {platform: stack}, sbom.of_layers(insides), making, out)


def _image(listed: Any) -> tuple[str, list[str]]:
    """Return the members that are the config and the layers of the one image manifest.json lists."""
    match listed:
        case [{"Config": str(config), "Layers": [*names]}] if all(isinstance(name, str) for name in names):
            return config, names
        case [_]:
            raise _not_an_image("manifest.json does not name its Config and Layers")
        case [*images]:
            raise _not_an_image(f"it holds {counted(len(images), 'image')}")
        case _:
            raise _not_an_image("manifest.json is no list")


def _described(config: Any) -> tuple[str, list[Any]]:
    """Return the platform of an image, and the digests of its layers as they are unpacked."""
    match config:
        case {"os": str(system), "architecture": str(architecture), "rootfs": {"diff_ids": [*diff_ids]}} if (
            system + architecture
        ).isascii():
            return f"{system}/{architecture}", diff_ids
        case _:
            raise _not_an_image("its config does not name os, architecture and rootfs.diff_ids")


def _member(tar: tarfile.TarFile, name: str) -> bytes:
    member = tar.getmember(name)
    if member.size > oci.MAX_DOCUMENT_BYTES:
        raise _not_an_image(f"{name} has {member.size} bytes")
    file = tar.extractfile(member)
    if file is None:
        raise _not_an_image(f"{name} is no file")
    return file.read()


def _unpacked(tar: tarfile.TarFile, name: str, target: Path) -> Path:
    # Engines save a layer that two images share as a link to the first; extractfile follows it.
    file = tar.extractfile(tar.getmember(name))
    if file is None:
        raise _not_an_image(f"{name} is no file")
    with target.open("wb") as out:
        while chunk := file.read(1024 * 1024):
            out.write(chunk)
    return target


def _not_an_image(why: str) -> ConfigurationError:
    return ConfigurationError(
        f"what the Engine saved is not one image: {why}",
        code=NOT_AN_IMAGE,
        hint="name the image by its id, and build it for one platform",
    )
