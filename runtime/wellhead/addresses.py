"""Addresses of the form ``SCHEME://HOST[:PORT][/PATH]``, as a person, a connector or a registry gives them."""

from __future__ import annotations

from urllib.parse import SplitResult, urlsplit


def split(address: str) -> SplitResult | None:
    """Take an address apart, or return None where it names no host, or a port that cannot be.

    What is returned can be asked for ``hostname`` and ``port`` without an error.
    """
    try:
        parts = urlsplit(address)
        # Reading the port raises on one that is no number, or too large a one.
        usable = bool(parts.hostname) and parts.port != 0
    except ValueError:
        return None
    return parts if usable else None
