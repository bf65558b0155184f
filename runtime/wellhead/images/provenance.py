"""How a release was made, as a SLSA v1 statement: who built it, from which base, lock and source, by which recipe.

No time and no path: the same inputs give the same statement, and with it the same release. Its subjects are the images;
the index that holds the statement cannot be one of them, and is what the signature is for.

Source: slsa.dev/spec/v1.0/provenance.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from wellhead.errors import Code, RefusedError
from wellhead.images import oci
from wellhead.images.oci import ImageDigests

BAD_PROVENANCE = Code("WH-IMG-032", "A release's provenance has the wrong form.")

#: What the child of a release index is called.
ROLE = "provenance"
MEDIA_TYPE = "application/vnd.in-toto+json"
STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://slsa.dev/provenance/v1"
#: `wellhead build`, and a Dockerfile somebody built: what is known of the making differs.
ASSEMBLED = "urn:wellhead:build:v1"
DOCKERFILE = "urn:wellhead:dockerfile:v1"
#: Who built it where wellhead.yaml names nobody.
LOCAL_BUILDER = "urn:wellhead:builder:local"


@dataclass(frozen=True, slots=True)
class Making:
    """How a release came to be; ``materials`` are sha256 hex digits by name."""

    builder: str = LOCAL_BUILDER
    build_type: str = ASSEMBLED
    parameters: Mapping[str, Any] = field(default_factory=dict)
    materials: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Provenance:
    """What a statement says; ``subjects`` are the digests of the image manifests, ``materials`` as in `Making`."""

    builder: str
    build_type: str
    subjects: frozenset[str]
    materials: Mapping[str, str]


def document(connector: str, images: Mapping[str, ImageDigests], making: Making) -> dict[str, Any]:
    """Return the statement about a connector's images by platform."""
    return {
        "_type": STATEMENT,
        "subject": [
            {"name": f"{connector} {platform}", "digest": {"sha256": image.manifest.removeprefix("sha256:")}}
            for platform, image in sorted(images.items())
        ],
        "predicateType": PREDICATE,
        "predicate": {
            "buildDefinition": {
                "buildType": making.build_type,
                "externalParameters": dict(making.parameters),
                "resolvedDependencies": [
                    {"name": name, "digest": {"sha256": digest}} for name, digest in sorted(making.materials.items())
                ],
            },
            "runDetails": {"builder": {"id": making.builder}},
        },
    }


def read(content: bytes) -> Provenance:
    """Read a statement.

    Raises:
        RefusedError: it is no JSON object (WH-IMG-014), or of another form (WH-IMG-032).
    """
    try:
        match oci.parsed(content, "the release's provenance"):
            case {
                "_type": str(kind),
                "subject": [*subjects],
                "predicateType": str(predicate),
                "predicate": {
                    "buildDefinition": {"buildType": str(build_type), "resolvedDependencies": [*materials]},
                    "runDetails": {"builder": {"id": str(builder)}},
                },
            } if kind == STATEMENT and predicate == PREDICATE:
                return Provenance(
                    builder,
                    build_type,
                    frozenset(f"sha256:{subject['digest']['sha256']}" for subject in subjects),
                    {str(item["name"]): str(item["digest"]["sha256"]) for item in materials},
                )
    except (KeyError, TypeError) as exc:
        raise _malformed("it cannot be read") from exc
    raise _malformed("it is of another kind")


def _malformed(why: str) -> RefusedError:
    return RefusedError(
        f"the release's provenance has the wrong form: {why}",
        code=BAD_PROVENANCE,
        hint="publish the release again with this version of Wellhead",
    )
