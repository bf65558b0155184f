"""Names in a store of releases: a connector and a tag, and which tags say something about a release.

`wellhead.images.store` lists the tags there are.
"""

from __future__ import annotations

import re

from wellhead.errors import Code, ConfigurationError, RefusedError
from wellhead.ids import ConnectorId, Digest
from wellhead.images import oci

NAME_TAKEN = Code("WH-IMG-016", "A store knows a version with other bytes.")

#: A connector's id (`manifest.model.CONNECTOR_ID`) and a tag, as every registry takes them.
#: Source: OCI distribution specification 1.1, "Pulling manifests", without its double underscore.
_NAME = re.compile(
    r"([a-z0-9]+(?:(?:[._]|-+)[a-z0-9]+)*/[a-z0-9]+(?:(?:[._]|-+)[a-z0-9]+)*):([A-Za-z0-9_][A-Za-z0-9._-]{0,127})"
)
_ABOUT = re.compile(r"sha256-([0-9a-f]{64})(?:\..+)?")


def name_of(connector: ConnectorId, tag: str) -> str:
    """Return the name of a connector's tag.

    Raises:
        ConfigurationError: WH-IMG-014, no registry would take it, such as a version with build metadata.
    """
    name = f"{connector}:{tag}"
    split(name)
    return name


def split(name: str) -> tuple[ConnectorId, str]:
    """Return the connector and the tag of a name; raises like `name_of`."""
    found = _NAME.fullmatch(name)
    if found is None:
        raise ConfigurationError(
            f"{name!r} is no name of a release",
            code=oci.BAD_DOCUMENT,
            hint="a name is NAMESPACE/NAME:VERSION, in lower case and without build metadata",
        )
    return ConnectorId(found[1]), found[2]


def is_name(name: str) -> bool:
    """Say whether something is the name of a connector's tag."""
    return _NAME.fullmatch(name) is not None


def is_version(tag: str) -> bool:
    """Say whether a tag names a release, and not what is said about one."""
    return not tag.startswith("sha256-")


def about(digest: Digest, suffix: str = "") -> str:
    """Return the tag of what is said about ``digest``."""
    return f"sha256-{digest.removeprefix('sha256:')}{suffix}"


def subject_hash(tag: str) -> str | None:
    """Return the hash of what a tag is about; None where it names something itself."""
    found = _ABOUT.fullmatch(tag)
    return None if found is None else found[1]


def taken(name: str, known: Digest, new: Digest, where: str) -> RefusedError:
    """Return the refusal to let a version mean something else."""
    return RefusedError(
        f"{where} knows {name} as {known}, and this one is {new}",
        code=NAME_TAKEN,
        hint="a release never changes: give the new bytes a new version",
    )
