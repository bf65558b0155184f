"""What a manifest says of its streams before anybody asks the source: which there are, and how each is read."""

from __future__ import annotations

import re

from wellhead.manifest.model import Manifest, Stream


def modes(manifest: Manifest, stream: str) -> tuple[str, ...]:
    """Return the modes a stream may be read in; none where all streams are known beforehand and it is not among them.

    A stream of exactly that name counts before the patterns it fits. Of one that only Discover would find, the manifest
    knows no more than what any stream supports.
    """
    any_of_them = manifest.capabilities.sync_modes
    named = [one for one in manifest.streams if one.name == stream]
    fitting = [one for one in manifest.streams if one.pattern is not None and re.fullmatch(one.pattern, stream)]
    for one in named or fitting:
        return one.sync_modes or any_of_them
    is_known_beforehand = manifest.capabilities.discover == "static" and manifest.streams
    return () if is_known_beforehand else any_of_them


def listed(manifest: Manifest) -> str:
    """Return what is offered, as a sentence names it."""
    described = [_described(one, manifest) for one in manifest.streams]
    if manifest.capabilities.discover == "dynamic" or not described:
        described.append(f"what it finds at the source ({', '.join(manifest.capabilities.sync_modes)})")
    return ", ".join(described)


def _described(stream: Stream, manifest: Manifest) -> str:
    name = stream.name or f"names like {stream.pattern}"
    return f"{name} ({', '.join(stream.sync_modes or manifest.capabilities.sync_modes)})"
