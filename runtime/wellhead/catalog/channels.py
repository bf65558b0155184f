"""Channels: append-only pointers of a connector, and which releases a connection on a channel may get.

Pure: the rows come from the registry, the answer is a set.
"""

from __future__ import annotations

from collections.abc import Iterable

from semver import Version


def members(pointed: Iterable[str]) -> frozenset[str]:
    """Return the versions a channel offers: what it ever pointed to, except what it went back from.

    Pointing to a version that is not on offer adds it; an older one (a patch for those who stay on the old major) takes
    nothing away. Pointing again to a version on offer is going back to it: every higher one is taken out, until it is
    pointed to once more.

    Args:
        pointed: versions, oldest pointer first.
    """
    offered: frozenset[str] = frozenset()
    for version in pointed:
        if version in offered:
            target = Version.parse(version)
            offered = frozenset(other for other in offered if Version.parse(other) <= target)
        offered |= {version}
    return offered
