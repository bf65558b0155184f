"""References to secrets, and the contract of a store that lends what they name to one run.

A reference says where a secret lies; it never chooses the server, the namespace or the login, because a tenant writes
it. Values live in the host's memory between `SecretStore.lend` and the end of its block, and nowhere else.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from typing import NoReturn, Protocol

from wellhead.errors import Code, ConfigurationError, WellheadError
from wellhead.ids import ConnectionKey, RunId

NOT_A_REFERENCE = Code("WH-SEC-001", "A secret slot holds something that is not a reference to a secret.")
BAD_REFERENCE = Code("WH-SEC-002", "A reference to a secret is malformed or reaches where it may not.")
WRONG_STORE = Code("WH-SEC-003", "The configured secret store does not serve this kind of reference.")

_SEGMENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@+=,~-]*")
_FIELD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
#: Vault's own areas: a tenant who could name them could mint tokens or read other leases.
_RESERVED_MOUNTS = frozenset({"sys", "auth", "identity", "cubbyhole"})


class Scheme(Enum):
    """Where a secret lies."""

    KEY_VALUE = "vault"
    DYNAMIC = "vault-dyn"
    ENVIRONMENT = "env"
    FILE = "file"


@dataclass(frozen=True, slots=True)
class Reference:
    """Where one secret lies: for Vault a mount, a path below it and a field of what is read there.

    ``path`` is the variable's name for ``env://`` and the absolute file for ``file://``; ``mount`` and ``field`` are
    empty there.
    """

    scheme: Scheme
    path: str
    mount: str = ""
    field: str = ""

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Read a reference as it stands in a connection's file.

        ``vault://mount/path#field`` is a key-value (version 2) secret, and without ``#`` the last segment is the field;
        ``vault-dyn://mount/path#field`` is made when it is read and carries a lease.

        Raises:
            ConfigurationError: WH-SEC-001 for a literal or a ``${VARIABLE}``, WH-SEC-002 for a malformed reference.
                Neither repeats ``text``: it may be the secret itself.
        """
        scheme_text, separator, rest = text.partition("://")
        schemes = {scheme.value: scheme for scheme in Scheme}
        if not separator or scheme_text not in schemes or "${" in text:
            raise ConfigurationError(
                "the value is not a reference to a secret",
                code=NOT_A_REFERENCE,
                hint="write vault://MOUNT/PATH#FIELD or vault-dyn://MOUNT/PATH#FIELD; on a developer's machine with "
                "secrets.store: local, env://VARIABLE or file:///ABSOLUTE/PATH",
            )
        match schemes[scheme_text]:
            case Scheme.ENVIRONMENT:
                if _VARIABLE.fullmatch(rest) is None:
                    _malformed("env:// takes the name of one environment variable", "write env://DATABASE_PASSWORD")
                return cls(Scheme.ENVIRONMENT, rest)
            case Scheme.FILE:
                if not rest.startswith("/") or ".." in rest.split("/") or rest.endswith("/"):
                    _malformed("file:// takes an absolute path without '..'", "write file:///etc/wellhead/password")
                return cls(Scheme.FILE, rest)
            case scheme:
                return _vault_reference(scheme, rest)

    def __str__(self) -> str:
        if self.scheme in (Scheme.ENVIRONMENT, Scheme.FILE):
            return f"{self.scheme.value}://{self.path}"
        return f"{self.scheme.value}://{self.mount}/{self.path}#{self.field}"


def _vault_reference(scheme: Scheme, rest: str) -> Reference:
    place, has_field, name = rest.partition("#")
    mount, *path = place.split("/")
    if not has_field and scheme is Scheme.KEY_VALUE and path:
        name = path.pop()
    if mount.lower() in _RESERVED_MOUNTS:
        _malformed(f"a reference may not reach into {mount}/", "name a secret engine's mount first")
    if not path or any(_SEGMENT.fullmatch(segment) is None for segment in (mount, *path)):
        _malformed(
            "the path of the secret is malformed",
            f"write {scheme.value}://MOUNT/PATH#FIELD; a segment holds letters, digits and _.@+=,~-",
        )
    if _FIELD.fullmatch(name) is None:
        _malformed(
            "the reference names no field", f"end it with #FIELD: {scheme.value}://{place.split('#')[0]}#password"
        )
    return Reference(scheme, "/".join(path), mount, name)


def _malformed(message: str, hint: str) -> NoReturn:
    raise ConfigurationError(message, code=BAD_REFERENCE, hint=hint)


@dataclass(frozen=True, slots=True)
class SecretValue:
    """One secret while it is lent; it shows in no repr and refuses to be pickled.

    ``expires_at`` is when the source stops accepting it, None where it does not expire by itself.
    """

    value: str = field(repr=False)
    expires_at: datetime | None = None

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not serialised")


@dataclass(frozen=True, slots=True)
class LeaseInfo:
    """One lease of a dynamic secret, for the run's record; ``revoked_at`` is None while it lives."""

    id: str
    path: str
    ttl_s: int
    created_at: datetime
    revoked_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class LendRequest:
    """Who borrows what, and for how long without a renewal."""

    run_id: RunId
    connection: ConnectionKey
    references: Mapping[str, Reference]
    ttl_s: int = 300


class Loan(Protocol):
    """What one run has borrowed; it ends with the block of `SecretStore.lend`.

    A run calls `renew` when `renew_at` has come, and at `rotate_at` it calls `rotate`, hands the new values to the
    connector, and once the connector has taken them `revoke_superseded`.
    """

    @property
    def secrets(self) -> Mapping[str, SecretValue]:
        """The values by slot, as last read."""
        ...

    @property
    def accessor(self) -> str | None:
        """By what the store can revoke everything without knowing a secret; None where there is nothing to revoke."""
        ...

    @property
    def leases(self) -> tuple[LeaseInfo, ...]:
        """Every lease of this loan, the revoked ones too."""
        ...

    @property
    def renew_at(self) -> datetime | None:
        """When `renew` is due; None when nothing expires."""
        ...

    @property
    def rotate_at(self) -> datetime | None:
        """When `rotate` is due; None when no value expires."""
        ...

    @property
    def revoked_at(self) -> datetime | None:
        """When everything lent was revoked; None while the loan lives, or when `revocation_error` says why not."""
        ...

    @property
    def revocation_error(self) -> WellheadError | None:
        """Why the end of the block could not revoke; the accessor then belongs to the janitor."""
        ...

    def renew(self) -> None:
        """Extend the token and the leases as far as their limits allow; moves `renew_at` and `rotate_at`."""
        ...

    def rotate(self) -> Mapping[str, SecretValue]:
        """Read every value again under new leases; the old ones live until `revoke_superseded`."""
        ...

    def revoke_superseded(self) -> None:
        """Revoke the leases that the last `rotate` replaced; safe to call twice."""
        ...


class SecretStore(Protocol):
    """Lends secrets to runs."""

    def lend(self, request: LendRequest, note_accessor: Callable[[str], None]) -> AbstractContextManager[Loan]:
        """Lend what the request names until the block ends, then revoke it.

        Args:
            request: the run and its references; slots that name one dynamic path share one read and one lease.
            note_accessor: stores by what the loan can be revoked; called before anything is read.

        Raises:
            ConfigurationError: a secret or a field is missing, or the store may not read it.
            AuthError: the store does not accept the host's own login.
            TransientError: the store is away or sealed.
        """
        ...

    def revoke_accessor(self, accessor: str) -> bool:
        """Revoke what a dead run borrowed; False when the store no longer knew it.

        Raises:
            AuthError: the store does not accept the host's own login.
            TransientError: the store is away or sealed.
        """
        ...


def rotation_due(start: datetime, ttl_s: float) -> datetime:
    """Say when a lease of ``ttl_s`` from ``start`` must be replaced.

    At two thirds of its life and never later than 60 s before its end; a lease too short for that at one third.
    """
    return start + timedelta(seconds=max(min(ttl_s * 2 / 3, ttl_s - 60), ttl_s / 3))
