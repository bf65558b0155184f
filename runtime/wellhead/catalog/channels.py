"""Channels: append-only pointers of a connector, and which releases a connection on a channel may get.

Pure: the rows come from the registry, the answer is a set.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from semver import Version


@dataclass(frozen=True, slots=True)
class Revision:
    """One time a channel was pointed at a release."""

    version: str
    is_rollback: bool = False


def members(revisions: Sequence[Revision]) -> frozenset[str]:
    """Return the versions a channel offers: what it ever pointed to, except what was rolled back from.

    Going back to a version takes every higher one out of the channel, until it is promoted again. Promoting an older
    one (a patch for those who stay on the old major) takes nothing out.

    Args:
        revisions: oldest first.
    """
    offered: set[str] = set()
    for revision in revisions:
        if revision.is_rollback:
            target = Version.parse(revision.version)
            offered = {version for version in offered if Version.parse(version) <= target}
        offered.add(revision.version)
    return frozenset(offered)
