"""Secrets from environment variables and files: for a developer's own machine, where no Vault runs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from wellhead.clock import Clock
from wellhead.errors import Code, ConfigurationError, WellheadError
from wellhead.secrets.base import WRONG_STORE, LeaseInfo, LendRequest, Loan, Reference, Scheme, SecretValue

UNREADABLE = Code("WH-SEC-010", "A local secret is missing or cannot be read.")
EXPOSED = Code("WH-SEC-011", "A file that holds a secret can be read by others.")


@dataclass(slots=True)
class _LocalLoan:
    """Values that were read once; nothing expires and nothing is revoked."""

    store: LocalStore
    request: LendRequest
    secrets: Mapping[str, SecretValue]
    revoked_at: datetime | None = None
    accessor: str | None = None
    leases: tuple[LeaseInfo, ...] = ()
    renew_at: datetime | None = None
    rotate_at: datetime | None = None
    revocation_error: WellheadError | None = None

    def renew(self) -> None:
        """Do nothing: a variable or a file has no lease."""

    def rotate(self) -> Mapping[str, SecretValue]:
        """Read the variables and files again."""
        self.secrets = self.store.read(self.request)
        return self.secrets

    def revoke_superseded(self) -> None:
        """Do nothing: there is no lease."""


class LocalStore:
    """Serves ``env://`` and ``file://``."""

    def __init__(self, environment: Mapping[str, str], clock: Clock) -> None:
        self._environment = environment
        self._clock = clock

    @contextmanager
    def lend(self, request: LendRequest, note_accessor: Callable[[str], None]) -> Iterator[Loan]:  # noqa: ARG002
        """Read every value; ``note_accessor`` is not called, because nothing here can be revoked.

        Raises:
            ConfigurationError: WH-SEC-003 for a Vault reference, WH-SEC-010 for a missing variable or file,
                WH-SEC-011 for a file that others may read.
        """
        loan = _LocalLoan(self, request, self.read(request))
        try:
            yield loan
        finally:
            loan.secrets = {}
            loan.revoked_at = self._clock.now()

    def revoke_accessor(self, accessor: str) -> bool:  # noqa: ARG002
        """Answer False: this store never hands out an accessor."""
        return False

    def read(self, request: LendRequest) -> Mapping[str, SecretValue]:
        """Read the values the request names; raises as `lend` does."""
        return {slot: SecretValue(self._value(slot, ref)) for slot, ref in request.references.items()}

    def _value(self, slot: str, reference: Reference) -> str:
        match reference.scheme:
            case Scheme.ENVIRONMENT:
                value = self._environment.get(reference.path)
                if not value:
                    raise ConfigurationError(
                        f"secret {slot}: the environment variable {reference.path} is not set",
                        code=UNREADABLE,
                        hint=f"export {reference.path} before the run",
                    )
                return value
            case Scheme.FILE:
                return read_private(Path(reference.path), f"secret {slot}")
            case _:
                raise ConfigurationError(
                    f"secret {slot}: {reference.scheme.value}:// is not served by secrets.store: local",
                    code=WRONG_STORE,
                    hint="set secrets.store: vault in wellhead.yaml, or use env:// or file://",
                )


def read_private(file: Path, what: str) -> str:
    """Return a secret file's text without its last newline.

    Raises:
        ConfigurationError: WH-SEC-010 when it is missing, unreadable or empty; WH-SEC-011 when group or others have any
            right on it.
    """
    try:
        with file.open(encoding="utf-8") as opened:
            mode = os.fstat(opened.fileno()).st_mode & 0o777
            text = opened.read().removesuffix("\n")
    except (OSError, UnicodeDecodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "not UTF-8 text"
        raise ConfigurationError(
            f"{what}: {file} cannot be read: {reason}", code=UNREADABLE, hint="create the file, mode 0600"
        ) from exc
    if mode & 0o077:
        raise ConfigurationError(
            f"{what}: {file} has mode {mode:04o}", code=EXPOSED, hint=f"chmod 600 {file}, and replace the secret"
        )
    if not text:
        raise ConfigurationError(f"{what}: {file} is empty", code=UNREADABLE, hint="write the secret into it")
    return text
