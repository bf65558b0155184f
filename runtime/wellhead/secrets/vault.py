"""Vault and OpenBao: one token a run, read once, revoked at the end. The only importer of hvac.

    log in ─> mint an orphan token for the run ─> note its accessor ─> read ─> lend ─> revoke leases, then the token
       └─ an AppRole login lives for one request: minting, or revoking by accessor, and is revoked at once

The host's own token may mint and revoke and reads no secret (`policies.host_policy`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import hvac
import requests
from hvac import exceptions as refused

from wellhead import replacement
from wellhead.clock import Clock
from wellhead.errors import AuthError, Code, ConfigurationError, ThrottledError, TransientError, WellheadError
from wellhead.secrets import policies
from wellhead.secrets.base import (
    WRONG_STORE,
    LeaseInfo,
    LendRequest,
    Loan,
    Reference,
    Scheme,
    SecretValue,
    rotation_due,
)
from wellhead.secrets.local import read_private
from wellhead.settings import AppRole, VaultSettings

INSECURE = Code("WH-SEC-020", "The address of the secret store is not protected by TLS.")
UNREACHABLE = Code("WH-SEC-021", "The secret store is away, sealed or failing.")
LOGIN_REFUSED = Code("WH-SEC-022", "The secret store does not accept the host's own login.")
NOT_ALLOWED = Code("WH-SEC-023", "The run's token may not read a secret.")
MISSING = Code("WH-SEC-024", "A secret or one of its fields does not exist.")
MINT_REFUSED = Code("WH-SEC-025", "The secret store did not mint a token for the run.")
WRAPPING_SPENT = Code("WH-SEC-026", "A wrapping token was used before, has expired, or holds something else.")
REQUEST_REFUSED = Code("WH-SEC-027", "The secret store refused a request.")

#: Connect and read: a store that answers in milliseconds when well is not worth a longer wait.
_TIMEOUT_S = (3.0, 10.0)
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
_WRAPPED_SECRET_ID = re.compile(r"auth/(?P<mount>.+)/role/[^/]+/secret-id")

#: What no change of a request would mend. An `UnexpectedError` is any status hvac has no name for: 504 of a load
#: balancer, 412, 472 and 473 of a standby.
_AWAY = (
    refused.VaultDown,
    refused.InternalServerError,
    refused.BadGateway,
    refused.VaultNotInitialized,
    refused.UnexpectedError,
)
#: What a 405 says, the one of them that is about the request.
_UNSUPPORTED = "unsupported operation"

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class _Token:
    """A token and by what it can be revoked; ``value`` is secret."""

    value: str
    accessor: str
    ttl_s: int

    def __repr__(self) -> str:
        return f"_Token(accessor={self.accessor!r})"


class _Server:
    """Requests to one server, with its refusals told as this program's errors."""

    def __init__(self, settings: VaultSettings, root: Path) -> None:
        address = urlsplit(settings.address)
        if address.scheme != "https" and not (address.scheme == "http" and address.hostname in _LOOPBACK):
            raise ConfigurationError(
                f"vault.address {settings.address} would carry tokens in clear text",
                code=INSECURE,
                hint="use https://; plain http is accepted for a loopback address only",
            )
        self.address = settings.address
        self._namespace = settings.namespace
        self._ca = str(root / settings.ca_file) if settings.ca_file else True

    def read(self, token: str, path: str) -> dict[str, Any] | None:
        """GET; None where nothing is at ``path``."""
        with self._told(path), self._client(token) as client:
            answer = client.read(path)
        return None if answer is None else self._document(answer, path)

    def write(self, token: str, path: str, data: Mapping[str, object]) -> dict[str, Any]:
        """POST; an empty document where the answer has no body."""
        body = dict(data)
        with self._told(path), self._client(token) as client:
            answer = client.write_data(path, data=body)
        return self._document(answer, path)

    @contextmanager
    def _client(self, token: str) -> Iterator[Any]:
        with requests.Session() as session:
            # Proxy variables of the environment would send the token to a proxy.
            session.trust_env = False
            session.verify = self._ca
            # An empty token, not None: hvac would look for one in the environment and in ~/.vault-token.
            yield hvac.Client(
                url=self.address,
                token=token,
                namespace=self._namespace,
                session=session,
                verify=self._ca,
                timeout=_TIMEOUT_S,
                allow_redirects=False,
            )

    def _document(self, answer: Any, path: str) -> dict[str, Any]:
        if isinstance(answer, dict):
            return answer
        status = answer.status_code if isinstance(answer, requests.Response) else 200
        if status == 204:
            return {}
        if status == 200:
            raise self.strange(path)
        raise TransientError(
            f"{self.address} answered {status} to {path}",
            code=UNREACHABLE,
            hint="redirects are not followed: point vault.address at the active server, not at a standby",
        )

    def strange(self, path: str) -> TransientError:
        """Return the error of an answer that is none of a secret store; nothing of it is repeated."""
        return TransientError(
            f"{self.address} answered {path} with what no secret store answers",
            code=UNREACHABLE,
            hint="see that vault.address is the secret store itself, and what stands between it and this host",
        )

    def said(self, answer: object, path: str, kind: type[_T], *names: str) -> _T:
        """Return what ``answer`` says under ``names``, one inside the other.

        Raises:
            TransientError: WH-SEC-021, there is no such ``kind`` of value.
        """
        for name in names:
            answer = answer.get(name) if isinstance(answer, dict) else None
        if not isinstance(answer, kind):
            raise self.strange(path)
        return answer

    @contextmanager
    def _told(self, path: str) -> Iterator[None]:
        """Translate hvac's and requests' exceptions; 403 and 400 keep their meaning for the caller.

        Only a request stands inside: what Python itself complains of there, hvac met in an answer.
        """
        try:
            yield
        except refused.RateLimitExceeded as exc:
            raise ThrottledError(f"{self.address} asks to slow down", code=UNREACHABLE) from exc
        except refused.VaultError as exc:
            if isinstance(exc, _AWAY) and _UNSUPPORTED not in _sentence(exc):
                raise TransientError(
                    f"{self.address} could not serve {path}: {_sentence(exc)}",
                    code=UNREACHABLE,
                    hint="unseal or restart the secret store; for database credentials, see that it reaches the "
                    "database",
                ) from exc
            raise _RefusalError(type(exc), f"{self.address} refused {path}: {_sentence(exc)}") from exc
        except requests.exceptions.SSLError as exc:
            raise ConfigurationError(
                f"the TLS certificate of {self.address} was not accepted",
                code=INSECURE,
                hint="set vault.ca_file to the CA that signed it, and use the name the certificate carries",
            ) from exc
        except (requests.exceptions.RequestException, OSError) as exc:
            raise TransientError(
                f"{self.address} does not answer: {type(exc).__name__}",
                code=UNREACHABLE,
                hint="check vault.address and that the server runs",
            ) from exc
        except (AttributeError, TypeError, KeyError, ValueError) as exc:
            raise self.strange(path) from exc


class _RefusalError(Exception):
    """A 4xx of the server on its way to the step that knows what it means."""

    def __init__(self, kind: type[Exception], message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message

    @property
    def is_denied(self) -> bool:
        return issubclass(self.kind, refused.Forbidden | refused.Unauthorized)


class VaultStore:
    """Serves ``vault://`` and ``vault-dyn://``."""

    def __init__(self, settings: VaultSettings, root: Path, clock: Clock) -> None:
        """Check the address; nothing is sent yet.

        Args:
            settings: the ``vault`` section of wellhead.yaml.
            root: the project's folder; relative files are relative to it.
            clock: the host's.

        Raises:
            ConfigurationError: WH-SEC-020, the address is neither https nor loopback.
        """
        self._settings = settings
        self._root = root
        self._clock = clock
        self._server = _Server(settings, root)

    @contextmanager
    def lend(self, request: LendRequest, note_accessor: Callable[[str], None]) -> Iterator[Loan]:
        """Mint a token for the run, note its accessor, read every reference, and revoke all of it at the end.

        Leaving never raises for a failed revocation: the loan then says why in ``revocation_error``, the accessor is
        noted already, and the token's own time to live is the last net.

        Raises:
            AuthError: WH-SEC-022, the host's login is refused.
            ConfigurationError: WH-SEC-003, -023, -024 or -025.
            TransientError: WH-SEC-021, the server is away or sealed.
        """
        for slot, reference in request.references.items():
            if reference.scheme not in (Scheme.KEY_VALUE, Scheme.DYNAMIC):
                raise ConfigurationError(
                    f"secret {slot}: {reference.scheme.value}:// is not served by secrets.store: vault",
                    code=WRONG_STORE,
                    hint="use vault:// or vault-dyn://, or secrets.store: local on a developer's machine",
                )
        loan = _VaultLoan(self, self._server, self._clock, request, self._mint(request))
        try:
            # Invariant: the accessor is stored before anything is read, or a crash leaves credentials nobody can find.
            note_accessor(loan.token.accessor)
            loan.rotate()
            yield loan
        finally:
            loan.end()

    def revoke_accessor(self, accessor: str) -> bool:
        """Revoke the token of a dead run with every lease below it; False when the server no longer knows it.

        Raises:
            AuthError: WH-SEC-022, the host's login is refused.
            TransientError: WH-SEC-021, the server is away or sealed.
        """
        with self._login() as token:
            try:
                answer = self._server.write(token, "auth/token/revoke-accessor", {"accessor": accessor})
            except _RefusalError as exc:
                if not exc.is_denied and "invalid accessor" in exc.message:
                    return False
                raise AuthError(
                    exc.message,
                    code=LOGIN_REFUSED,
                    hint="give the host its policy again: `wellhead vault policy CONNECTION`",
                ) from exc
        # OpenBao answers 200 with a warning for an accessor it does not know; Vault answers 400.
        return not answer.get("warnings")

    def check_login(self) -> None:
        """Log in and out again, to tell a mistake before a run does.

        Raises:
            AuthError: WH-SEC-022.
            TransientError: WH-SEC-021.
        """
        with self._login() as token:
            self._look_up(token)

    def _look_up(self, token: str) -> None:
        try:
            self._server.read(token, "auth/token/lookup-self")
        except _RefusalError as exc:
            raise AuthError(
                exc.message,
                code=LOGIN_REFUSED,
                hint="the host's token has expired or lacks its policy: `wellhead vault policy CONNECTION`",
            ) from exc

    def _mint(self, request: LendRequest) -> _Token:
        prefix = self._settings.policy_prefix
        names = [policies.self_policy_name(prefix), policies.connection_policy_name(prefix, request.connection)]
        path = f"auth/token/create/{self._settings.token_role}"
        with self._login() as token:
            try:
                answer = self._server.write(
                    token,
                    path,
                    {
                        "policies": names,
                        "ttl": f"{request.ttl_s}s",
                        "display_name": f"wellhead-{request.connection.name}",
                        "meta": {"run_id": request.run_id, "connection": str(request.connection)},
                    },
                )
            except _RefusalError as exc:
                if exc.is_denied and self._settings.token_file is not None:
                    raise AuthError(
                        exc.message,
                        code=LOGIN_REFUSED,
                        hint=f"the token in {self._settings.token_file} has expired or lacks the policy "
                        f"{prefix}host; `wellhead vault policy CONNECTION` prints it",
                    ) from exc
                raise ConfigurationError(
                    exc.message,
                    code=MINT_REFUSED,
                    hint="have an administrator run what `wellhead vault policy CONNECTION` prints",
                ) from exc
        return self._token(answer, path)

    def _token(self, answer: object, path: str) -> _Token:
        def said(name: str, kind: type[_T]) -> _T:
            return self._server.said(answer, path, kind, "auth", name)

        return _Token(said("client_token", str), said("accessor", str), said("lease_duration", int))

    @contextmanager
    def _login(self) -> Iterator[str]:
        match self._settings:
            case VaultSettings(token_file=Path() as file):
                yield read_private(self._root / file, "vault.token_file")
            case VaultSettings(approle=AppRole() as approle):
                secret_id = read_private(self._root / approle.secret_id_file, "vault.approle.secret_id_file")
                with self._login_approle(approle, secret_id) as token:
                    yield token
            case _:
                raise AuthError(
                    "wellhead.yaml names no login to the secret store",
                    code=LOGIN_REFUSED,
                    hint="set vault.token_file or vault.approle",
                )

    @contextmanager
    def _login_approle(self, approle: AppRole, secret_id: str) -> Iterator[str]:
        path = f"auth/{approle.mount}/login"
        try:
            answer = self._server.write("", path, {"role_id": approle.role_id, "secret_id": secret_id})
        except _RefusalError as exc:
            raise AuthError(
                exc.message,
                code=LOGIN_REFUSED,
                hint="the role id is wrong, or the secret id has ended: have a new one wrapped and run "
                "`wellhead vault login --wrapped TOKEN`",
            ) from exc
        token = self._token(answer, path).value
        try:
            yield token
        finally:
            # The login's own time to live ends it where the server is away now.
            with suppress(TransientError, _RefusalError):
                self._server.write(token, "auth/token/revoke-self", {})

    def login_wrapped(self, wrapping_token: str) -> Path:
        """Unwrap a secret id once, log in with it and store it with mode 0600; return the file.

        Where the wrapping token was made is checked first: a token that wraps something else was not made by the
        administrator, and one that was used before has been seen by somebody else. A secret id that is refused, such as
        another role's, is not stored: the one before it goes on working. One that could not be tried is stored, as it
        cannot be unwrapped again.

        Raises:
            ConfigurationError: the settings name no AppRole.
            AuthError: WH-SEC-026, or WH-SEC-022 when the new secret id does not log in.
            TransientError: WH-SEC-021; the hint says so where the new secret id was stored all the same.
            OSError: its file cannot be written.
        """
        approle = self._settings.approle
        if approle is None:
            raise ConfigurationError(
                "a wrapped secret id belongs to an AppRole login",
                code=LOGIN_REFUSED,
                hint="set vault.approle.role_id in wellhead.yaml",
            )
        # Before it is unwrapped: what has nowhere to go afterwards is lost.
        file = replacement.target(self._root / approle.secret_id_file)
        try:
            wrapped = self._server.write("", "sys/wrapping/lookup", {"token": wrapping_token})
        except _RefusalError as exc:
            raise AuthError(
                "the wrapping token is unknown: it has expired, or somebody unwrapped it before you",
                code=WRAPPING_SPENT,
                hint="treat its secret id as stolen: have it destroyed and a new one wrapped",
            ) from exc
        made_by = self._server.said(wrapped, "sys/wrapping/lookup", str, "data", "creation_path")
        found = _WRAPPED_SECRET_ID.fullmatch(made_by)
        if found is None or found["mount"] != approle.mount:
            raise AuthError(
                f"the wrapping token was made by {made_by}, not by a role of auth/{approle.mount}",
                code=WRAPPING_SPENT,
                hint=f"have one made with `bao write -wrap-ttl=5m -f auth/{approle.mount}/role/ROLE/secret-id`",
            )
        try:
            unwrapped = self._server.write(wrapping_token, "sys/wrapping/unwrap", {})
        except _RefusalError as exc:
            raise AuthError(
                "the wrapping token was unwrapped by somebody else a moment ago",
                code=WRAPPING_SPENT,
                hint="treat its secret id as stolen: have it destroyed and a new one wrapped",
            ) from exc
        secret_id = self._server.said(unwrapped, "sys/wrapping/unwrap", str, "data", "secret_id")
        try:
            with self._login_approle(approle, secret_id) as token:
                self._look_up(token)
        except TransientError as exc:
            _write_private(file, secret_id)
            hint = f"the new secret id is stored in {file} and was not tried; once the secret store is well, see with "
            raise exc.reworded(exc.message, f"{hint}`wellhead doctor` that it logs in", exc.details) from exc
        except WellheadError as exc:
            hint = "nothing was stored, and the wrapping token is spent: have a secret id wrapped again, of the role "
            raise exc.reworded(exc.message, f"{hint}that vault.approle.role_id names", exc.details) from exc
        _write_private(file, secret_id)
        return file


class _VaultLoan:
    """What one run's token has read; used by one thread at a time."""

    def __init__(self, store: VaultStore, server: _Server, clock: Clock, request: LendRequest, token: _Token) -> None:
        self.token = token
        self.secrets: Mapping[str, SecretValue] = {}
        self.revoked_at: datetime | None = None
        self.revocation_error: WellheadError | None = None
        self._store = store
        self._server = server
        self._clock = clock
        self._request = request
        self._token_renewed_at = clock.now()
        self._token_ttl_s: float = token.ttl_s
        self._leases: list[_Lease] = []

    @property
    def accessor(self) -> str | None:
        """The accessor of the run's token."""
        return self.token.accessor

    @property
    def leases(self) -> tuple[LeaseInfo, ...]:
        """Every lease this loan has had."""
        return tuple(lease.info for lease in self._leases)

    @property
    def renew_at(self) -> datetime | None:
        """Half way to the first end among the token and the living leases."""
        due = [self._token_renewed_at + timedelta(seconds=self._token_ttl_s / 2)]
        due += [lease.renewed_at + (lease.ends_at - lease.renewed_at) / 2 for lease in self._living]
        return min(due)

    @property
    def rotate_at(self) -> datetime | None:
        """The first time at which a value must be replaced."""
        return min((lease.rotate_at for lease in self._living if not lease.superseded), default=None)

    @property
    def _living(self) -> list[_Lease]:
        return [lease for lease in self._leases if lease.info.revoked_at is None]

    def renew(self) -> None:
        """Extend the token and every lease by their full time, and believe only what the server grants.

        A lease near its limit is granted less without an error; its `rotate_at` then stays where it was. One that is
        refused keeps none of the others from being renewed.

        Raises:
            ConfigurationError: WH-SEC-023, the token or a lease has ended already.
            TransientError: WH-SEC-021.
        """
        now, refusal = self._clock.now(), None
        with self._refusals_as(NOT_ALLOWED, "the token or a lease has ended; start the run again"):
            granted = self._extended("auth/token/renew-self", {"increment": f"{self._request.ttl_s}s"}, "auth")
            self._token_renewed_at, self._token_ttl_s = now, granted
            for lease in self._living:
                order = {"lease_id": lease.info.id, "increment": lease.info.ttl_s}
                try:
                    lease.extend(now, self._extended("sys/leases/renew", order))
                except _RefusalError as exc:
                    refusal = refusal or exc
            self.secrets = {slot: self._with_expiry(slot, secret) for slot, secret in self.secrets.items()}
            if refusal is not None:
                raise refusal

    def _extended(self, path: str, order: Mapping[str, object], *names: str) -> float:
        """Have something extended and return for how long."""
        answer = self._server.write(self.token.value, path, order)
        return self._server.said(answer, path, int, *names, "lease_duration")

    def rotate(self) -> Mapping[str, SecretValue]:
        """Read every reference, each path once; leases held until now become superseded.

        Raises:
            ConfigurationError: WH-SEC-023 or WH-SEC-024, naming slot and path.
            TransientError: WH-SEC-021.
        """
        before = list(self._leases)
        slots_of_path: dict[str, list[str]] = {}
        for slot, reference in self._request.references.items():
            slots_of_path.setdefault(policies.api_path(reference), []).append(slot)
        secrets: dict[str, SecretValue] = {}
        for path, slots in slots_of_path.items():
            values, expires_at = self._read(path, self._request.references[slots[0]], slots)
            for slot in slots:
                value = _field_of(values, slot, self._request.references[slot])
                secrets[slot] = SecretValue(value, expires_at)
        for lease in before:
            lease.superseded = True
        self.secrets = secrets
        return secrets

    def revoke_superseded(self) -> None:
        """Revoke the leases the last rotation replaced.

        Raises:
            ConfigurationError: WH-SEC-023.
            TransientError: WH-SEC-021.
        """
        with self._refusals_as(NOT_ALLOWED, "the policy of every run's token must allow sys/leases/revoke"):
            for lease in self._living:
                if lease.superseded:
                    self._revoke_lease(lease)

    def end(self) -> None:
        """Revoke the leases, each of them awaited, then the token; forget the values whatever happens."""
        self.secrets = {}
        try:
            for lease in self._living:
                # A lease that cannot end now (its database is away) ends with the token; the server goes on trying.
                with suppress(TransientError, _RefusalError):
                    self._revoke_lease(lease)
            self._revoke_token()
        except WellheadError as exc:
            self.revocation_error = exc
            return
        self.revoked_at = self._clock.now()

    def _revoke_token(self) -> None:
        try:
            self._server.write(self.token.value, "auth/token/revoke-self", {})
        except (TransientError, _RefusalError):
            # Refused: expired, or without the policy to end itself. The host's own login can tell and can end it.
            self._store.revoke_accessor(self.token.accessor)

    def _revoke_lease(self, lease: _Lease) -> None:
        self._server.write(self.token.value, "sys/leases/revoke", {"lease_id": lease.info.id, "sync": True})
        lease.info = replace(lease.info, revoked_at=self._clock.now())

    def _read(self, path: str, reference: Reference, slots: list[str]) -> tuple[Mapping[str, object], datetime | None]:
        named = f"secret {', '.join(slots)} ({reference})"
        now = self._clock.now()
        hint = f"have an administrator run `wellhead vault policy {self._request.connection.name}`"
        with self._refusals_as(NOT_ALLOWED, hint, named):
            answer = self._server.read(self.token.value, path)
        if answer is None or not isinstance(answer.get("data"), dict):
            raise ConfigurationError(
                f"{named}: there is nothing at {path}",
                code=MISSING,
                hint="write the secret (vault:// reads the key-value engine version 2), or correct the reference",
            )
        if reference.scheme is Scheme.DYNAMIC:
            if not answer.get("lease_id"):
                raise ConfigurationError(
                    f"{named}: {path} carries no lease",
                    code=MISSING,
                    hint="vault-dyn:// is for engines that make credentials; use vault:// for a stored secret",
                )
            ttl_s = self._server.said(answer, path, int, "lease_duration")
            lease = _Lease.begin(str(answer["lease_id"]), path, ttl_s, now)
            self._leases.append(lease)
            return answer["data"], lease.ends_at
        values = answer["data"].get("data")
        if not isinstance(values, dict):
            raise ConfigurationError(
                f"{named}: the secret at {path} was deleted", code=MISSING, hint="write or undelete a version of it"
            )
        return values, None

    def _with_expiry(self, slot: str, secret: SecretValue) -> SecretValue:
        path = policies.api_path(self._request.references[slot])
        ends = [lease.ends_at for lease in self._living if lease.info.path == path and not lease.superseded]
        return replace(secret, expires_at=min(ends)) if ends else secret

    @contextmanager
    def _refusals_as(self, code: Code, hint: str, named: str = "") -> Iterator[None]:
        try:
            yield
        except _RefusalError as exc:
            message = f"{named}: {exc.message}" if named else exc.message
            if exc.is_denied:
                raise ConfigurationError(message, code=code, hint=hint) from exc
            raise ConfigurationError(
                message, code=REQUEST_REFUSED, hint="see the secret store's own log for the request"
            ) from exc


@dataclass(slots=True)
class _Lease:
    """A lease and what the server last granted for it."""

    info: LeaseInfo
    renewed_at: datetime
    ends_at: datetime
    rotate_at: datetime
    superseded: bool = False

    @classmethod
    def begin(cls, lease_id: str, path: str, ttl_s: int, now: datetime) -> _Lease:
        """Hold a lease that was granted now."""
        info = LeaseInfo(lease_id, path, ttl_s, now)
        return cls(info, now, now + timedelta(seconds=ttl_s), rotation_due(now, ttl_s))

    def extend(self, now: datetime, granted_s: float) -> None:
        """Take over a renewal; one that grants less than half of what was asked does not put off the rotation."""
        self.renewed_at, self.ends_at = now, now + timedelta(seconds=granted_s)
        due = rotation_due(now, granted_s)
        self.rotate_at = due if granted_s * 2 >= self.info.ttl_s else min(due, self.rotate_at)


def _field_of(values: Mapping[str, object], slot: str, reference: Reference) -> str:
    value = values.get(reference.field)
    if value is None:
        raise ConfigurationError(
            f"secret {slot} ({reference}): there is no field {reference.field!r}",
            code=MISSING,
            hint=f"its fields are: {', '.join(sorted(values)) or 'none'}",
        )
    if not isinstance(value, str):
        raise ConfigurationError(
            f"secret {slot} ({reference}): the field {reference.field!r} is not text",
            code=MISSING,
            hint="store the secret as a string",
        )
    return value


def _sentence(exc: refused.VaultError) -> str:
    """Return what the server said on one line, without the URL that hvac adds."""
    return "; ".join(" ".join(str(error).split()) for error in exc.errors or ()) or type(exc).__name__


def _write_private(file: Path, text: str) -> None:
    """Write ``file`` at once and with mode 0600 from its first byte on."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = file.with_name(file.name + ".new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as opened:
        opened.write(text + "\n")
        opened.flush()
        os.fsync(opened.fileno())
    fresh.replace(file)
