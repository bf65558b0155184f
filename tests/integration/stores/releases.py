"""Signed releases with layers of a few bytes; everything but the weight is as `wellhead publish` makes it."""

from __future__ import annotations

import io
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from wellhead.catalog import verify
from wellhead.catalog.keys import PrivateKey
from wellhead.images import build, layer, oci, provenance, sbom, store
from wellhead.images.layout import Layout
from wellhead.images.store import Store
from wellhead.lifecycle import publish as order
from wellhead.manifest import load

MANIFEST = Path(__file__).parents[2] / "images/tiny/manifest.yaml"


def publish(
    folder: Path,
    connector: str,
    version: str,
    key: PrivateKey,
    into: Store,
    platforms: Sequence[str] = ("linux/amd64",),
) -> build.Built:
    """Assemble a release in a folder of its own, sign it, and send it to a store as publishing does."""
    text = (
        MANIFEST.read_text()
        .replace("id: dev/tiny", f"id: {connector}")
        .replace("version: 1.0.0", f"version: {version}")
    )
    loaded = load.parse(text.encode())
    local = Layout.create(folder)
    tar = io.BytesIO()
    layer.write([layer.Entry.file("opt/wellhead/app/tiny.py", f"{connector} {version}\n".encode())], tar)
    tar.seek(0)
    packed = layer.pack(tar, folder / "layer.tar.gz")
    parts = [sbom.Component("pypi", "tiny", version)]
    # Base and application: an Engine takes no image whose history tells of more layers than it has.
    stacks = {platform: build.Stack([packed, packed]) for platform in platforms}
    built = build.assemble(loaded, stacks, parts, provenance.Making(), local)
    verify.attach(local, order.statement_of(built, datetime.now(UTC)), key)
    size = len(local.get(built.index_digest, "the index"))
    local.name(verify.release_name(built.connector, version), oci.Descriptor(oci.INDEX, built.index_digest, size))
    store.copy_release(local, into, built.connector, version)
    return built
