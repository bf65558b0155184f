"""How a request says who asks: one value per method, each adding headers or query parameters.

Secrets live in these values for one session and never show in their repr.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from wellhead_sdk.errors import Auth


class Authenticator(Protocol):
    """What a session asks for before each request."""

    def headers(self) -> dict[str, str]:
        """Return the headers to add."""
        ...

    def query(self) -> tuple[tuple[str, str], ...]:
        """Return the query parameters to add."""
        ...


@dataclass(frozen=True, slots=True)
class Anonymous:
    """Nobody in particular."""

    def headers(self) -> dict[str, str]:
        """Return nothing."""
        return {}

    def query(self) -> tuple[tuple[str, str], ...]:
        """Return nothing."""
        return ()


@dataclass(frozen=True, slots=True)
class Bearer:
    """``Authorization: Bearer TOKEN``, RFC 6750."""

    token: str = field(repr=False)

    def __post_init__(self) -> None:
        _require_sendable(self.token, "bearer token")

    def headers(self) -> dict[str, str]:
        """Return the Authorization header."""
        return {"Authorization": f"Bearer {self.token}"}

    def query(self) -> tuple[tuple[str, str], ...]:
        """Return nothing: a token in an address ends in logs."""
        return ()


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key under a name of the source's choosing, in a header or, where it accepts nothing else, in the query."""

    key: str = field(repr=False)
    name: str = "X-API-Key"
    place: str = "header"

    def __post_init__(self) -> None:
        _require_sendable(self.key, "API key")
        if self.place not in ("header", "query"):
            raise ValueError(f"place is {self.place!r}; it is header or query")

    def headers(self) -> dict[str, str]:
        """Return the key's header, if that is its place."""
        return {self.name: self.key} if self.place == "header" else {}

    def query(self) -> tuple[tuple[str, str], ...]:
        """Return the key's parameter, if that is its place."""
        return ((self.name, self.key),) if self.place == "query" else ()


def _require_sendable(secret: str, what: str) -> None:
    # A pasted line break would end the header and begin another one; the value itself must not reach the message.
    if not secret or not secret.isascii() or not secret.isprintable():
        raise Auth(
            f"the {what} is empty or holds a line break or another character no header can carry",
            hint="store the secret again without surrounding white space",
        )
