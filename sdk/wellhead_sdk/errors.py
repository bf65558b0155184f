"""What a connector raises so that the host knows how to go on; any other exception counts as a fault of the connector.

    ConnectorError
    ├── Transient       try again later
    ├── Throttled       try again at a stated time
    ├── Auth            the source refused who we are
    ├── Configuration   a person must change a setting; ``fields`` names which
    │   └── PlanStale   stored read units can no longer be served: begin a new generation
    ├── Data            records cannot be taken
    └── Fatal           the connector itself is at fault

Messages reach logs and people: they must hold neither secrets nor records.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

from wellhead_sdk.wire.messages import Failure

#: What is in order for an open upper bound on `retry_after_s`: the host parks a run for a year at the most.
MAX_RETRY_AFTER_S = 366 * 86_400.0


def counted(number: int, noun: str) -> str:
    """Return ``1 row`` or ``2,000 rows``, as a message says it; ``noun`` is the singular of a regular one."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


class ConnectorError(Exception):
    """The one family the host understands; raise one of its kinds."""

    kind: ClassVar[str] = "internal"
    default_reason: ClassVar[str] = "fault"

    def __init__(self, message: str, *, reason: str = "", hint: str = "", stream: str = "") -> None:
        """Hold the facts of the failure.

        Args:
            message: what happened, without secrets or records.
            reason: a stable lower-case word for programs, such as ``password_expired``.
            hint: what a person can do about it.
            stream: the stream it belongs to, where it is one stream's.
        """
        super().__init__(message)
        self.message = message
        self.reason = reason or self.default_reason
        self.hint = hint
        self.stream = stream

    def failure(self) -> Failure:
        """Return the error as the value that travels."""
        return Failure(self.kind, self.reason, self.message, stream=self.stream, hint=self.hint)


class Transient(ConnectorError):  # noqa: N818 - read as `raise Transient(...)`
    """The same attempt may succeed later without anybody changing anything."""

    kind = "transient"
    default_reason = "unavailable"


class Throttled(ConnectorError):  # noqa: N818
    """The source asks us to come back later; ``retry_after_s`` is None where it does not say when."""

    kind = "throttled"
    default_reason = "rate_limited"

    def __init__(
        self,
        message: str,
        *,
        retry_after_s: float | None = None,
        reason: str = "",
        hint: str = "",
        stream: str = "",
    ) -> None:
        super().__init__(message, reason=reason, hint=hint, stream=stream)
        if retry_after_s is not None and not (math.isfinite(retry_after_s) and retry_after_s >= 0):
            raise ValueError(f"retry_after_s is {retry_after_s}")
        self.retry_after_s = None if retry_after_s is None else min(retry_after_s, MAX_RETRY_AFTER_S)

    def failure(self) -> Failure:
        """Return the error as the value that travels, with the time to wait."""
        return Failure(self.kind, self.reason, self.message, self.retry_after_s, stream=self.stream, hint=self.hint)


class Auth(ConnectorError):  # noqa: N818
    """The source did not accept who we are, or what we may do (reason ``permission_denied``)."""

    kind = "auth"
    default_reason = "unauthenticated"


class Configuration(ConnectorError):  # noqa: N818
    """A person has to change the connection; ``fields`` maps a dotted field to what is wrong with it."""

    kind = "permanent"
    default_reason = "configuration"

    def __init__(
        self,
        message: str,
        *,
        fields: Mapping[str, str] | None = None,
        reason: str = "",
        hint: str = "",
        stream: str = "",
    ) -> None:
        super().__init__(message, reason=reason, hint=hint, stream=stream)
        self.fields = dict(fields or {})

    def failure(self) -> Failure:
        """Return the error as the value that travels, with its fields."""
        return Failure(
            self.kind,
            self.reason,
            self.message,
            stream=self.stream,
            hint=self.hint,
            fields=tuple(self.fields.items()),
        )


class PlanStale(Configuration):
    """The stored read units can no longer be served; the host begins a new generation."""

    default_reason = "plan_stale"


class Data(ConnectorError):  # noqa: N818
    """The source handed out something that cannot be taken; a single record goes to ``out.reject`` instead."""

    kind = "data"
    default_reason = "malformed"


class Fatal(ConnectorError):  # noqa: N818
    """The connector found itself at fault; trying again will not help."""
