"""One image as a tar that an Engine loads, hashed on its way."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from typing import TYPE_CHECKING

from wellhead.ids import Digest
from wellhead.images import oci
from wellhead.images.oci import Descriptor

if TYPE_CHECKING:
    from wellhead.images.store import Shelf


def chunks(layout: Shelf, index_digest: Digest, platform: str, *, top_only: bool = False) -> Iterator[bytes]:
    """Yield one image as a tar that both kinds of Engine store load, hashing every blob on its way.

    With ``top_only`` all layers but the last are left out, and `require_below` is what hashes them: the classic store
    needs none that it has already, and takes nothing where it lacks one.

    The classic store reads ``manifest.json`` and gives the image the config's digest as id, the containerd store reads
    ``index.json`` and gives it the manifest's. A broken blob raises before the tar is complete, so the Engine refuses
    what it has got.

    Raises:
        RefusedError: a blob is missing, changed or too large (WH-IMG-011 to 013).
    """
    found = oci.image(layout, index_digest, platform)
    carried = found.layers[-1:] if top_only else found.layers
    blobs = {item.digest: item for item in (found.manifest, found.config, *carried)}
    config, *layers = (_path(item) for item in (found.config, *found.layers))
    documents = {
        "index.json": oci.canonical(
            {"schemaVersion": 2, "mediaType": oci.INDEX, "manifests": [found.manifest.document()]}
        ),
        "manifest.json": oci.canonical([{"Config": config, "RepoTags": None, "Layers": layers}]),
        "oci-layout": oci.canonical({"imageLayoutVersion": "1.0.0"}),
    }
    for name, document in documents.items():
        yield _header(name, len(document)) + document + _padding(len(document))
    for item in blobs.values():
        if item.size > oci.MAX_LAYER_BYTES:
            # More than the header of a tar can say.
            raise oci.too_large(f"blob {item.digest}", oci.MAX_LAYER_BYTES)
        yield _header(_path(item), item.size)
        yield from layout.chunks(item, f"blob {item.digest}")
        yield _padding(item.size)
    yield bytes(2 * tarfile.BLOCKSIZE)


def require_below(layout: Shelf, index_digest: Digest, platform: str) -> None:
    """Hash all layers of an image but the last.

    Raises:
        RefusedError: one is missing, changed or too large (WH-IMG-011 to 013).
    """
    for item in oci.image(layout, index_digest, platform).layers[:-1]:
        for _ in layout.chunks(item, f"blob {item.digest}"):
            pass


def _header(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size = size
    return info.tobuf(tarfile.USTAR_FORMAT)


def _padding(size: int) -> bytes:
    return bytes(-size % tarfile.BLOCKSIZE)


def _path(found: Descriptor) -> str:
    return f"blobs/sha256/{found.digest.removeprefix('sha256:')}"
