"""What is written down of a release in files that people review: its digests, each saying what it is the digest of.

Shared by the lock and by release records. A scheme stands before every digest, so that none is taken for another; one
with a scheme this program does not know is refused, for it cannot be compared.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from ruamel.yaml import YAML

from wellhead import replacement
from wellhead.catalog.verify import VerifiedRelease
from wellhead.errors import Code
from wellhead.images.oci import ImageDigests
from wellhead.manifest.model import State

UNWRITABLE = Code("WH-CAT-113", "A file of the catalog cannot be written.")

INDEX, MANIFEST, CONFIG, CONNECTOR = "oci-index", "oci-manifest", "oci-config", "wellhead-manifest"
#: Scheme → what its digest is of.
SCHEMES: Mapping[str, str] = {
    INDEX: "the index of a release",
    MANIFEST: "the manifest of one platform's image",
    CONFIG: "the config of one platform's image",
    CONNECTOR: "the bytes of manifest.yaml",
}

_HASH = re.compile(r"sha256:[0-9a-f]{64}")


def prefixed(scheme: str, digest: str) -> str:
    """Return a digest with its scheme; ``digest`` may be bare hex of SHA-256."""
    return f"{scheme}:{digest if digest.startswith('sha256:') else f'sha256:{digest}'}"


def bare(prefixed: str) -> str:
    """Return a digest without its scheme, as stores name it."""
    return prefixed.partition(":")[2]


def _of(scheme: str) -> AfterValidator:
    def check(text: str) -> str:
        said, _, digest = text.partition(":")
        if said not in SCHEMES:
            known = ", ".join(f"{name}: ({what})" for name, what in SCHEMES.items())
            raise ValueError(f"the digest {text!r} has the unknown scheme {said!r}; known are {known}")
        if said != scheme:
            raise ValueError(f"the digest {text!r} is of {SCHEMES[said]}, and here stands that of {SCHEMES[scheme]}")
        if _HASH.fullmatch(digest) is None:
            raise ValueError(f"the digest {text!r} is not {scheme}:sha256: and 64 hex digits")
        return text

    return AfterValidator(check)


IndexDigest = Annotated[str, _of(INDEX)]


class Section(BaseModel):
    """Base of what such a file holds."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class PinnedImage(Section):
    """One platform's image."""

    manifest: Annotated[str, _of(MANIFEST)] = Field(description="Of its OCI manifest.")
    image_id: Annotated[str, _of(CONFIG)] = Field(description="Of its OCI config: the id an Engine shows.")


class PinnedState(Section):
    """Formats of checkpoints."""

    reads: tuple[int, ...] = Field(description="Those it reads.")
    writes: int = Field(description="The one it writes.")


class PinnedRelease(Section):
    """One release."""

    digest: IndexDigest = Field(description="Of its index.")
    platforms: dict[str, PinnedImage] = Field(description="Platform → image, for every one it has.")
    manifest: Annotated[str, _of(CONNECTOR)] = Field(description="Of its manifest.yaml.")
    signed_by: tuple[str, ...] = Field(description="Ids of the keys whose signatures counted; none if unsigned.")
    state: PinnedState = Field(description="What decides whether one can go back to it.")


def pinned(
    digest: str, images: Mapping[str, ImageDigests], manifest_sha256: str, signed_by: tuple[str, ...], state: State
) -> PinnedRelease:
    """Return what is written down of a release, in one order whatever order its parts came in."""
    return PinnedRelease(
        digest=prefixed(INDEX, digest),
        platforms={
            platform: PinnedImage(manifest=prefixed(MANIFEST, image.manifest), image_id=prefixed(CONFIG, image.config))
            for platform, image in sorted(images.items())
        },
        manifest=prefixed(CONNECTOR, manifest_sha256),
        signed_by=tuple(sorted(signed_by)),
        state=PinnedState(reads=tuple(sorted(state.reads)), writes=state.writes),
    )


def of(release: VerifiedRelease) -> PinnedRelease:
    """Return what is written down of a release that was verified."""
    state = release.manifest.compatibility.state
    return pinned(release.index_digest, release.images, release.manifest_sha256, release.key_ids, state)


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing that is said of a release: ``field`` is where a file says it, the text how a sentence names it."""

    field: tuple[str, ...]
    words: str

    def __str__(self) -> str:
        return self.words


DIGEST = Fact(("digest",), "digest")


def parted(said: Mapping[str, PinnedRelease]) -> dict[Fact, dict[str, str]]:
    """Return every fact about which some do not agree, by its words, each with what they say.

    Args:
        said: who says it, such as ``the database`` → what is said of one release.
    """
    facts = {where: _facts(release) for where, release in said.items()}
    known = sorted({fact for found in facts.values() for fact in found}, key=str)
    told = {fact: {where: found.get(fact, "nothing") for where, found in facts.items()} for fact in known}
    return {fact: values for fact, values in told.items() if len(set(values.values())) > 1}


def _facts(release: PinnedRelease) -> dict[Fact, str]:
    facts = {
        DIGEST: release.digest,
        Fact(("manifest",), "manifest"): release.manifest,
        Fact(("signed_by",), "list of signers"): " ".join(sorted(release.signed_by)) or "empty",
        Fact(("state", "reads"), "list of state versions it reads"): " ".join(map(str, sorted(release.state.reads))),
        Fact(("state", "writes"), "state version it writes"): str(release.state.writes),
    }
    for name, image in release.platforms.items():
        facts[Fact(("platforms", name, "manifest"), f"image manifest for {name}")] = image.manifest
        facts[Fact(("platforms", name, "image_id"), f"image id for {name}")] = image.image_id
    return facts


def rendered(header: str, document: Any) -> bytes:
    """Return the bytes of a file: block style, no line folded, keys in the order they are given."""
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.width = 4096
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    out = io.StringIO()
    yaml.dump(document, out)
    return (header + out.getvalue()).encode()


def write(file: Path, content: bytes) -> None:
    """Put ``content`` into ``file`` as `replacement.write` does, making the folders above it.

    Raises:
        ConfigurationError: it cannot be written (WH-CAT-113).
    """
    # Where they cannot be made, the file cannot be written either, and that is told with its name.
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
    replacement.write(file, content, UNWRITABLE)
