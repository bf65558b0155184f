"""The surface a tenant agrees to with a release: where it reaches, what it may do at the source, what it may read.

Rendered with one connection's config, so that a host which another region's tenants need is no news to this one. Pure.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, cast

from wellhead.manifest.egress import render_egress
from wellhead.manifest.model import CLASSIFICATIONS, Classification, Manifest

#: Strictest first: what stands later lets more through.
TLS = ("required", "optional", "none")


@dataclass(frozen=True, slots=True, order=True)
class Way:
    """One way out; ``host`` may start with ``*.``, ``private`` says that private addresses may be granted for it."""

    host: str
    port: int
    tls: Literal["required", "optional", "none"]
    open: Literal["manifest", "operator"]
    private: bool

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"

    def covers(self, other: Way) -> bool:
        """Say whether whoever agreed to this way has agreed to ``other`` too."""
        return (
            self.port == other.port
            and covers_host(self.host, other.host)
            and TLS.index(self.tls) >= TLS.index(other.tls)
            and (self.open == "manifest" or other.open == "operator")
            and (self.private or not other.private)
        )


@dataclass(frozen=True, slots=True)
class Surface:
    """What is agreed to; ``egress`` and ``scopes`` are sorted and hold nothing twice."""

    egress: tuple[Way, ...]
    scopes: tuple[str, ...]
    classification: Classification

    def document(self) -> dict[str, Any]:
        """Return it as JSON can hold it; `from_document` reads it."""
        return {
            "egress": [asdict(way) for way in self.egress],
            "scopes": list(self.scopes),
            "classification": self.classification,
        }

    @property
    def sha256(self) -> str:
        """Return the hash of the surface: equal for equal surfaces, whatever order the manifest has."""
        canonical = json.dumps(self.document(), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(canonical.encode()).hexdigest()


def surface(manifest: Manifest, config: Mapping[str, Any], slots: Collection[str] | None = None) -> Surface:
    """Return what one connection lets a release do.

    Args:
        manifest: of the release.
        config: as `manifest.config.checked` returned it, with defaults filled in.
        slots: the secret slots the connection fills; scopes of a login that uses none of them do not count. None counts
            the scopes of every login.

    Raises:
        ConfigurationError: an egress entry cannot be filled in; see `render_egress`.
    """
    ways = {Way(way.host, way.port, way.tls, way.open, way.private) for way in render_egress(manifest, config)}
    scopes = {
        scope
        for method in manifest.auth.methods
        if slots is None or not method.secrets or not set(slots).isdisjoint(method.secrets)
        for scope in method.scopes
    }
    return Surface(tuple(sorted(ways)), tuple(sorted(scopes)), manifest.compliance.classification)


def from_document(document: Mapping[str, Any]) -> Surface:
    """Read what `Surface.document` wrote."""
    return Surface(
        tuple(Way(**way) for way in document["egress"]),
        tuple(document["scopes"]),
        cast("Classification", document["classification"]),
    )


def joined(one: Surface, other: Surface) -> Surface:
    """Return what covers both: whoever agreed to the one and to the other has agreed to it."""
    return Surface(
        tuple(sorted({*one.egress, *other.egress})),
        tuple(sorted({*one.scopes, *other.scopes})),
        max(one.classification, other.classification, key=CLASSIFICATIONS.index),
    )


def grown(old: Surface, new: Surface) -> tuple[str, ...]:
    """Name what ``new`` asks for beyond ``old``, one phrase each; empty where it asks for nothing more."""
    return (*_new_ways(old, new), *_new_scopes(old, new), *_higher(old, new))


def covers_host(wide: str, narrow: str) -> bool:
    """Say whether every name ``narrow`` stands for is one ``wide`` stands for; ``*`` is exactly one label."""
    return wide == narrow or (wide.startswith("*.") and narrow.partition(".")[2] == wide[2:])


def _new_ways(old: Surface, new: Surface) -> Iterator[str]:
    for way in new.egress:
        if any(known.covers(way) for known in old.egress):
            continue
        known = [one for one in old.egress if one.port == way.port and covers_host(one.host, way.host)]
        if not known:
            yield f"host {way}"
        elif way.private and not any(one.private for one in known):
            yield f"private addresses behind {way}"
        elif way.open == "manifest" and all(one.open == "operator" for one in known):
            yield f"{way} without an operator's approval"
        else:
            yield f"weaker TLS to {way}"


def _new_scopes(old: Surface, new: Surface) -> Iterator[str]:
    return (f"scope {scope}" for scope in new.scopes if scope not in old.scopes)


def _higher(old: Surface, new: Surface) -> Iterator[str]:
    if CLASSIFICATIONS.index(new.classification) > CLASSIFICATIONS.index(old.classification):
        yield f"classification {new.classification} instead of {old.classification}"
