"""What can go wrong, told by what to do next.

The class decides the reaction and the exit code; the code says what happened; the hint says how to mend it.

    WellheadError
    ├── TransientError        try again later                            75
    │   └── ThrottledError    try again at a stated time                 75
    ├── ConfigurationError    a person must change something             78
    │   ├── AuthError         the source refused our credentials         77
    │   └── RefusedError      a policy, a signature or a sandbox refused 76
    ├── UsageError            the command line itself is wrong            2
    ├── DataError             records cannot be taken                    65
    └── FatalError            a promise of the protocol was broken       70

Codes are declared beside the code that raises them, as module constants of type `Code`; a test collects them, and the
reference page is made from them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar, Self


@dataclass(frozen=True, slots=True)
class Code:
    """A stable name of one kind of failure, such as ``Code("WH-XYZ-001", "What that means.")``."""

    name: str
    meaning: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Place:
    """Where a user's mistake stands; ``line`` counts from 1, ``field`` is a dotted path."""

    file: str | None = None
    line: int | None = None
    field: str | None = None

    def __str__(self) -> str:
        at = self.file or ""
        if self.line is not None:
            at += f":{self.line}"
        if self.field:
            at += f" ({self.field})" if at else self.field
        return at


def counted(number: int, noun: str) -> str:
    """Return ``1 row`` or ``2,000 rows``, as a message says it; ``noun`` is the singular of a regular one."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


class WellheadError(Exception):
    """The one family of errors that reaches a user; never raised itself."""

    exit_code: ClassVar[int] = 70
    category: ClassVar[str] = "FATAL"

    def __init__(
        self,
        message: str,
        *,
        code: Code,
        hint: str | None = None,
        place: Place | None = None,
        details: tuple[str, ...] = (),
    ) -> None:
        """Hold the facts; rendering is the edge's work.

        Args:
            message: what happened, with names and numbers, without secrets or records.
            code: the stable code.
            hint: what to do about it.
            place: file, line and field of a user's mistake.
            details: further lines, such as the other mistakes found in the same file.
        """
        super().__init__(message)
        self.message = message
        self.code = code
        self.hint = hint
        self.place = place
        self.details = details

    def reworded(self, message: str, hint: str | None, details: tuple[str, ...]) -> Self:
        """Return the same error, of the same class and with all else it knows, in other words."""
        other = type(self).__new__(type(self), message)
        other.__dict__.update(self.__dict__, message=message, hint=hint, details=details)
        return other


class TransientError(WellheadError):
    """The same attempt may succeed later without anybody changing anything."""

    exit_code = 75
    category = "TRANSIENT"


class ThrottledError(TransientError):
    """The source asked us to come back at a stated time."""

    def __init__(self, message: str, *, code: Code, retry_at: datetime | None = None, hint: str | None = None) -> None:
        super().__init__(message, code=code, hint=hint)
        self.retry_at = retry_at


class ConfigurationError(WellheadError):
    """A person has to change configuration, rights or the environment first."""

    exit_code = 78
    category = "CONFIGURATION"


class AuthError(ConfigurationError):
    """The source or the secret store did not accept who we are."""

    exit_code = 77


class RefusedError(ConfigurationError):
    """A signature, a policy, an approval or the sandbox said no."""

    exit_code = 76


class UsageError(WellheadError):
    """The command was called in a way it cannot mean."""

    exit_code = 2
    category = "CONFIGURATION"


class DataError(WellheadError):
    """Records cannot be taken as they are, beyond the dead-letter threshold."""

    exit_code = 65
    category = "DATA"


class FatalError(WellheadError):
    """A promise of the protocol or of this program was broken; diagnostics are kept."""

    exit_code = 70
    category = "FATAL"
