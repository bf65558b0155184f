"""How requests reach an OCI registry: who we are, what is tried again, and what every refusal is called here.

    request ─▶ 401 with a challenge ─▶ Basic, or a token from the realm it names ─▶ the same request again
       └─▶ 429, 5xx, no answer: again after a pause, or after what Retry-After says

Credentials go to the registry's own origin and to the realm it names over TLS, never to where it redirects. Sources:
distribution specification 1.1; RFC 9110 section 10.2.3 (Retry-After); distribution's token authentication.
"""

from __future__ import annotations

import base64
import json
import random
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import urljoin, urlsplit, urlunsplit

import requests

from wellhead.errors import AuthError, Code, ConfigurationError, ThrottledError, TransientError, WellheadError
from wellhead.images.oci import MAX_DOCUMENT_BYTES

UNREACHABLE = Code("WH-IMG-040", "A registry does not answer, or is failing.")
LOGIN_REFUSED = Code("WH-IMG-041", "A registry does not accept who we are, or does not let us do this.")
CLEAR_TEXT = Code("WH-IMG-042", "The address of a registry would carry passwords in clear text.")
NO_TLS = Code("WH-IMG-043", "The TLS certificate of a registry was not accepted.")
REQUEST_REFUSED = Code("WH-IMG-044", "A registry refused a request.")
NO_DELETE = Code("WH-IMG-048", "A registry deletes nothing.")
BAD_ANSWER = Code("WH-IMG-045", "A registry answered something no registry answers.")
PART_UNSEEN = Code("WH-IMG-052", "A registry does not see a part of a manifest that it was given before.")

#: Connect and read, in seconds.
_TIMEOUT_S = (5.0, 60.0)
_ATTEMPTS = 5
_PAUSE_S = 0.2
#: A registry that asks for more is asked again by whoever calls us.
_LONGEST_PAUSE_S = 30.0
#: Nothing may ask for longer: a date much later is none that can be told.
_MAX_RETRY_AFTER_S = 366 * 86_400.0
#: No registry's lasts as long.
_LONGEST_TOKEN_S = 24 * 3600
_REDIRECTS = 5
_AGAIN = frozenset({429, 500, 502, 503, 504})
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
_PARAMETER = re.compile(r'([a-zA-Z_]+)="([^"]*)"')


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who we are to a registry; the password is never shown."""

    username: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Body:
    """A request's body: ``read`` opens it from the start, ``size`` is its length in bytes."""

    read: Callable[[], Iterable[bytes]]
    size: int

    @classmethod
    def of(cls, content: bytes) -> Body:
        """Return the body that is ``content``."""
        return cls(lambda: [content] if content else [], len(content))


class _Sized:
    """What requests sends with a Content-Length instead of in chunks."""

    def __init__(self, body: Body) -> None:
        self._body = body

    def __len__(self) -> int:
        return self._body.size

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._body.read())


class Transport:
    """Requests to one registry; for one thread at a time."""

    def __init__(
        self,
        base: str,
        credentials: Credentials | None = None,
        ca_file: Path | None = None,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        """Check the address; nothing is sent yet.

        Args:
            base: ``https://HOST[:PORT]``.
            credentials: None stays anonymous.
            ca_file: PEM file with the authority of the registry's certificate; None trusts the usual ones.
            pause: waits that many seconds between two attempts.

        Raises:
            ConfigurationError: WH-IMG-042, neither https nor loopback.
        """
        self.base = base
        self._credentials = credentials
        self._pause = pause
        self._session = requests.Session()
        # Proxy variables and ~/.netrc of the environment would choose where credentials go, and which.
        self._session.trust_env = False
        self._session.verify = True if ca_file is None else str(ca_file)
        self._challenge: _Challenge | None = None
        self._tokens: dict[tuple[str, ...], tuple[str, float]] = {}
        _require_protected(base)

    def close(self) -> None:
        """Close the connections; a request after it opens new ones."""
        self._session.close()

    def send(
        self,
        method: str,
        url: str,
        scopes: tuple[str, ...],
        *,
        headers: Mapping[str, str] | None = None,
        body: Body | None = None,
        once: bool = False,
    ) -> requests.Response:
        """Send a request and return the answer: 2xx, or 404 for all but writing; the body of a GET is still to be read.

        Args:
            method: of HTTP.
            url: path below the registry's address, or a whole address it gave us.
            scopes: what a token must allow, such as ``repository:dev/tiny:pull``.
            headers: besides those of authentication.
            body: opened anew at each attempt.
            once: do not try again; for the steps of an upload that is begun anew as a whole.

        Raises:
            TransientError: WH-IMG-040, no answer or 5xx, after all attempts; WH-IMG-052, it does not see a part.
            ThrottledError: WH-IMG-040, the registry asks to come back later than we wait.
            AuthError: WH-IMG-041.
            ConfigurationError: the certificate is not accepted (WH-IMG-043), or refused (044), or no registry (045), or
                one that deletes nothing (048).
        """
        target = urljoin(f"{self.base}/", url)
        for attempt in range(1, _ATTEMPTS + 1):
            last = once or attempt == _ATTEMPTS
            try:
                answer = self._authorized(method, target, scopes, dict(headers or {}), body)
            except TransientError:
                if last:
                    raise
                self._pause(backoff(attempt))
                continue
            if answer.status_code not in _AGAIN:
                return self._judged(method, target, answer)
            pause = _retry_after(answer)
            if last or (pause or 0.0) > _LONGEST_PAUSE_S:
                raise _failing(method, target, answer, pause)
            answer.close()
            self._pause(backoff(attempt) if pause is None else pause)
        raise AssertionError("the last attempt returns or raises")

    def _authorized(
        self,
        method: str,
        url: str,
        scopes: tuple[str, ...],
        headers: dict[str, str],
        body: Body | None,
    ) -> requests.Response:
        answer = self._followed(method, url, headers | self._authorization(scopes), body)
        if answer.status_code != 401 or not self._is_own(answer.url):
            return answer
        challenge = _challenge(answer)
        answer.close()
        if challenge is None or (self._credentials is None and not challenge.realm):
            return answer
        # A token that has expired in between is asked for anew, once.
        self._challenge = challenge
        self._tokens.pop(scopes, None)
        return self._followed(method, url, headers | self._authorization(scopes), body)

    def _followed(self, method: str, url: str, headers: dict[str, str], body: Body | None) -> requests.Response:
        for _ in range(_REDIRECTS):
            sent = dict(headers)
            if not self._is_own(url):
                sent.pop("Authorization", None)
            answer = self._exchange(method, url, sent, body)
            if answer.status_code not in (301, 302, 303, 307, 308):
                return answer
            answer.close()
            there = address(method, url, answer.headers.get("Location", ""))
            if method not in ("GET", "HEAD"):
                raise bad_answer(method, url, f"a redirect to {shown(there)}")
            _require_protected(there, self._is_loopback)
            url = there
        raise bad_answer(method, url, f"more than {_REDIRECTS} redirects")

    def _exchange(self, method: str, url: str, headers: dict[str, str], body: Body | None) -> requests.Response:
        # Without it a registry might compress what its digest was made of, and a bomb might unfold.
        headers.setdefault("Accept-Encoding", "identity")
        with told(method, url):
            return self._session.request(
                method,
                url,
                headers=headers,
                data=None if body is None else (_Sized(body) if body.size else b""),
                timeout=_TIMEOUT_S,
                allow_redirects=False,
                stream=True,
            )

    def _is_own(self, url: str) -> bool:
        return _origin(url) == _origin(self.base)

    @property
    def _is_loopback(self) -> bool:
        return urlsplit(self.base).hostname in _LOOPBACK

    def _authorization(self, scopes: tuple[str, ...]) -> dict[str, str]:
        challenge = self._challenge
        if challenge is None:
            return {}
        if challenge.realm:
            return {"Authorization": f"Bearer {self._token(challenge, scopes)}"}
        return {} if self._credentials is None else {"Authorization": _basic(self._credentials)}

    def _token(self, challenge: _Challenge, scopes: tuple[str, ...]) -> str:
        known = self._tokens.get(scopes)
        if known is not None and known[1] > time.monotonic():
            return known[0]
        realm = address("GET", f"{self.base}/", challenge.realm)
        _require_protected(realm, self._is_loopback)
        query = [("service", challenge.service)] if challenge.service else []
        url = requests.Request("GET", realm, params=[*query, *(("scope", scope) for scope in scopes)]).prepare().url
        headers = {} if self._credentials is None else {"Authorization": _basic(self._credentials)}
        answer = self._exchange("GET", str(url), headers, None)
        if answer.status_code in _AGAIN:
            raise _failing("GET", realm, answer, _retry_after(answer))
        document = _document(self._judged("GET", realm, answer), "GET", realm)
        token = document.get("token") or document.get("access_token")
        # Anything else would not go through a header.
        if not isinstance(token, str) or not re.fullmatch(r"[!-~]+", token):
            raise bad_answer("GET", realm, "no token: token or access_token is no text, or missing")
        said = document.get("expires_in")
        lasts = min(said, _LONGEST_TOKEN_S) if isinstance(said, int) else 60
        # A tenth less, so that a token does not expire on its way.
        self._tokens[scopes] = token, time.monotonic() + 0.9 * lasts
        return token

    def _judged(self, method: str, url: str, answer: requests.Response) -> requests.Response:
        status = answer.status_code
        if status < 300 or (status == 404 and method in ("GET", "HEAD", "DELETE")):
            if method != "GET":
                # Read to its end, so that the connection can be used again.
                content(answer, method, url)
            return answer
        said = _said(answer, method, url)
        answer.close()
        if status in (401, 403):
            who = "anonymous" if self._credentials is None else self._credentials.username
            raise AuthError(
                f"{method} {shown(url)}: the registry does not let {who} do this ({status}{said})",
                code=LOGIN_REFUSED,
                hint="check username and password_file of the store in wellhead.yaml, and what the account may do",
            )
        if "MANIFEST_BLOB_UNKNOWN" in said:
            raise TransientError(
                f"{method} {shown(url)}: the registry does not see what this refers to ({status}{said})",
                code=PART_UNSEEN,
                hint="publish again; if it stays so, look at the registry's storage",
            )
        if method == "DELETE" and (status in (405, 501) or "UNSUPPORTED" in said):
            raise ConfigurationError(
                f"{method} {shown(url)}: the registry deletes nothing ({status}{said})",
                code=NO_DELETE,
                hint="allow it in the registry's settings (storage.delete.enabled), or collect there by its own means",
            )
        raise ConfigurationError(
            f"{method} {shown(url)}: the registry refused it ({status}{said})",
            code=REQUEST_REFUSED,
            hint="check the address and prefix of the store in wellhead.yaml, and the registry's own log",
        )


def content(answer: requests.Response, method: str, url: str, limit: int = MAX_DOCUMENT_BYTES) -> bytes | None:
    """Return the body of an answer; None where it is larger than ``limit`` bytes, by its header or in fact.

    Raises:
        TransientError: WH-IMG-040, the connection broke.
    """
    with answer, told(method, url):
        if (length(answer) or 0) > limit:
            return None
        gathered = bytearray()
        for chunk in answer.iter_content(64 * 1024):
            gathered += chunk
            if len(gathered) > limit:
                return None
        return bytes(gathered)


def length(answer: requests.Response) -> int | None:
    """Return what an answer says its body has in bytes; None where it says nothing, or no number."""
    said = answer.headers.get("Content-Length", "")
    return int(said) if re.fullmatch(r"[0-9]{1,18}", said) else None


@contextmanager
def told(method: str, url: str) -> Iterator[None]:
    """Translate the exceptions of requests."""
    try:
        yield
    except WellheadError:
        raise
    except requests.exceptions.SSLError as exc:
        raise ConfigurationError(
            f"{method} {shown(url)}: its TLS certificate was not accepted",
            code=NO_TLS,
            hint="set ca_file of the store to the authority that signed it, and use the name the certificate carries",
        ) from exc
    except (requests.exceptions.RequestException, OSError) as exc:
        raise TransientError(
            f"{method} {shown(url)}: the registry does not answer ({type(exc).__name__})",
            code=UNREACHABLE,
            hint="check the address of the store in wellhead.yaml, and that the registry runs",
        ) from exc
    except ValueError as exc:
        # It looks at where a redirect leads, also where it is not to follow.
        raise bad_answer(method, url, "one that leads on to what is no address") from exc


def shown(url: str) -> str:
    """Return an address as messages show it: without user, password and query, which may hold a signature."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        # What cannot be taken apart may hold a password anywhere.
        return "what was given"
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    return urlunsplit((parts.scheme, host if port is None else f"{host}:{port}", parts.path, "", ""))


def address(method: str, asked: str, named: str) -> str:
    """Return the address that an answer names, taken against the one that was asked.

    Raises:
        ConfigurationError: WH-IMG-045, it is none.
    """
    try:
        there = urljoin(asked, named)
        parts = urlsplit(there)
        # Other schemes need no host, and are refused for what they are.
        is_one = parts.port != 0 and bool(parts.hostname or parts.scheme not in ("http", "https"))
    except ValueError:
        is_one = False
    if not is_one:
        raise bad_answer(method, asked, f"one that leads on to {named[:80]!r}, which is no address")
    return there


@dataclass(frozen=True, slots=True)
class _Challenge:
    """What a registry asks for: a token of ``realm``, or, where that is empty, a password."""

    realm: str = ""
    service: str = ""


def _challenge(answer: requests.Response) -> _Challenge | None:
    asked = answer.headers.get("WWW-Authenticate", "")
    scheme, _, rest = asked.partition(" ")
    parameters = dict(_PARAMETER.findall(rest))
    match scheme.lower():
        case "bearer" if parameters.get("realm"):
            return _Challenge(parameters["realm"], parameters.get("service", ""))
        case "basic":
            return _Challenge()
        case _:
            return None


def _basic(credentials: Credentials) -> str:
    return f"Basic {base64.b64encode(f'{credentials.username}:{credentials.password}'.encode()).decode()}"


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"https": 443, "http": 80}.get(parts.scheme)


def _require_protected(url: str, loopback: bool = True) -> None:
    parts = urlsplit(url)
    if parts.scheme == "https" or (parts.scheme == "http" and loopback and parts.hostname in _LOOPBACK):
        return
    raise ConfigurationError(
        f"{shown(url)} would carry passwords and releases in clear text",
        code=CLEAR_TEXT,
        hint="use https://; plain http is accepted for a loopback address only",
    )


def backoff(attempt: int) -> float:
    """Return how many seconds to wait before attempt ``attempt + 1``."""
    return float(_PAUSE_S * 2**attempt * random.uniform(0.5, 1.0))  # noqa: S311 - spreads retries, protects nothing


def _retry_after(answer: requests.Response) -> float | None:
    """Return the seconds the answer asks to wait, a year at most; None where it does not say, or not understandably."""
    asked = answer.headers.get("Retry-After")
    if asked is None:
        return None
    if asked.isdecimal():
        return min(float(asked), _MAX_RETRY_AFTER_S)
    try:
        seconds = (parsedate_to_datetime(asked) - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(0.0, seconds), _MAX_RETRY_AFTER_S)


def _failing(method: str, url: str, answer: requests.Response, pause: float | None) -> TransientError:
    answer.close()
    message = f"{method} {shown(url)}: the registry is failing ({answer.status_code})"
    hint = "try again later; the registry's own log says why"
    if pause is None:
        return TransientError(message, code=UNREACHABLE, hint=hint)
    return ThrottledError(message, code=UNREACHABLE, retry_at=datetime.now(UTC) + timedelta(seconds=pause), hint=hint)


def _said(answer: requests.Response, method: str, url: str) -> str:
    """Return the registry's own codes, which are names from its specification; its messages may hold anything."""
    try:
        errors = _document(answer, method, url)["errors"]
    except (WellheadError, LookupError):
        return ""
    listed = errors if isinstance(errors, list) else []
    codes = [str(error.get("code")) for error in listed if isinstance(error, dict)]
    named = [code for code in codes if re.fullmatch(r"[A-Z_]{1,40}", code)]
    return f": {', '.join(named)}" if named else ""


def _document(answer: requests.Response, method: str, url: str) -> dict[str, object]:
    body = content(answer, method, url)
    try:
        document = json.loads(body or b"")
    except (ValueError, RecursionError) as exc:
        raise bad_answer(method, url, "what is not JSON") from exc
    if not isinstance(document, dict):
        raise bad_answer(method, url, "what is not an object")
    return document


def bad_answer(method: str, url: str, what: str) -> ConfigurationError:
    """Return the complaint about an answer that is ``what``."""
    return ConfigurationError(
        f"{method} {shown(url)}: the answer is {what}",
        code=BAD_ANSWER,
        hint="check that the address of the store in wellhead.yaml is an OCI registry's",
    )
