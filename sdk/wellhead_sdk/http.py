"""An author's HTTP session: GET requests that are authenticated, counted, rate limited, bounded and retried by class.

Built on urllib3: kept, small, without dependencies, already beneath most of Python's HTTP, and able to read a body in
bounded pieces. Its own retries, redirects and unbounded reads are switched off; nothing of it reaches an author.

    request ─▶ rate limit ─▶ send ─▶ classify ─┬─ success ───▶ Response (whole body, hashed)
                  ▲                            ├─ transient ─▶ back off, doubled, jittered ─┐
                  │                            ├─ throttled ─▶ wait as told, say so ────────┤ at most max_attempts
                  └────────────────────────────┴────────────────────────────────────────────┘
                                               └─ refused, denied, permanent ─▶ typed error at once

Messages name method, host, path and status, never a query, a header or a body: those may hold secrets and records.
"""

from __future__ import annotations

import hashlib
import json
import random
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, NoReturn, Protocol, TypeVar
from urllib.parse import SplitResult, urlencode, urljoin, urlsplit

import urllib3
from urllib3.exceptions import HTTPError, LocationParseError, SSLError

from wellhead_sdk.auth import Anonymous, Authenticator
from wellhead_sdk.errors import Auth, Configuration, ConnectorError, Data, Throttled, Transient
from wellhead_sdk.pagination import Answer, Query
from wellhead_sdk.rate import RateLimit
from wellhead_sdk.retry import Backoff, RetryClass, classify, retry_after_s

#: Without an `Out` nobody can be told that we wait; longer than this is then an error with its time.
PATIENCE_S = 30.0
#: Shorter waits are not worth a frame to the host.
SILENT_WAIT_S = 1.0
MAX_REDIRECTS = 5
_PIECE_BYTES = 64 * 1024

Accepted = TypeVar("Accepted")


class Watcher(Protocol):
    """Who is told of requests and waits; an `Out` is one."""

    def count(self, *, requests: int = 0, failed: int = 0, bytes: int = 0, pages: int = 0, retries: int = 0) -> None:
        """Add to the run's counters."""
        ...

    def wait(self, until: datetime, reason: str) -> None:
        """Tell the host that nothing will come before ``until``, and return then."""
        ...


class Clock(Protocol):
    """Time as a session sees it; tests bring their own and never sleep."""

    def now(self) -> datetime:
        """Return aware UTC."""
        ...

    def monotonic(self) -> float:
        """Return seconds that only grow."""
        ...

    def sleep(self, seconds: float) -> None:
        """Return after ``seconds``."""
        ...


class SystemClock:
    """The machine's clocks."""

    def now(self) -> datetime:
        """Return the wall clock in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Return the monotonic clock."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Block this thread."""
        time.sleep(seconds)


@dataclass(frozen=True, slots=True)
class Transport:
    """How a source is reached, as a profile states it; ``ca_pem`` is trusted beside the public authorities."""

    base_url: str
    timeout_s: float = 30.0
    max_payload_bytes: int = 16 * 1024 * 1024
    backoff: Backoff = field(default_factory=Backoff)
    requests_per_minute: int | None = None
    ca_pem: str | None = None
    user_agent: str = "wellhead-connector"


@dataclass(frozen=True, slots=True)
class Response:
    """A successful answer, read to its end."""

    status: int
    headers: dict[str, str]
    body: bytes
    read_at: datetime
    url_path: str

    @property
    def raw_ref(self) -> str:
        """``sha256:`` of the body as decoded from its transfer encodings."""
        return f"sha256:{hashlib.sha256(self.body).hexdigest()}"

    def json(self) -> Any:
        """Return the body as JSON with every fraction an exact `decimal.Decimal`.

        Raises:
            Data: it is not JSON as RFC 8259 has it; NaN and Infinity are not, and neither is a repeated key, of which
                one value would be lost.
        """
        try:
            return json.loads(
                self.body, parse_float=Decimal, parse_constant=_refuse_constant, object_pairs_hook=_unique_keys
            )
        except (ValueError, RecursionError) as exc:
            # The exception's text quotes the document; its class and place are all that may be told.
            where = f" at byte {exc.pos}" if isinstance(exc, json.JSONDecodeError) else ""
            raise Data(
                f"GET {self.url_path} answered {len(self.body)} bytes that are not JSON{where}",
                hint="ask the source for JSON, or set the path of another endpoint",
            ) from None


class HttpSession:
    """Requests to one source under one `Transport`; several threads may share it."""

    def __init__(
        self,
        transport: Transport,
        authenticator: Authenticator | None = None,
        *,
        clock: Clock | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """Prepare connections; none is opened yet.

        Raises:
            Configuration: the base URL is not ``https://HOST[:PORT][/PATH]``, or ``ca_pem`` holds no certificate.
        """
        self._base = _base_url(transport.base_url)
        self._transport = transport
        self._authenticator = authenticator or Anonymous()
        self._clock: Clock = clock or SystemClock()
        self._jitter = jitter
        limit = transport.requests_per_minute
        self._limit = None if limit is None else RateLimit(limit, self._clock.monotonic)
        self._pool = urllib3.PoolManager(ssl_context=_trust(transport.ca_pem), retries=False, maxsize=8)

    def close(self) -> None:
        """Close idle connections; safe twice."""
        self._pool.clear()

    def answer(self, path: str, query: Query = (), watcher: Watcher | None = None) -> Answer:
        """GET a page of JSON; raises like `get`, and Data where no attempt brought JSON.

        A proxy's error page with status 200 and a body cut off inside show in nothing but the JSON, so they are asked
        for again like any broken answer.
        """

        def decode(response: Response) -> Answer:
            return Answer(response.json(), response.raw_ref, response.read_at)

        told = watcher or _Unwatched(self._clock)
        page = self._ask(path, query, told, decode)
        told.count(pages=1)
        return page

    def get(self, path: str, query: Query = (), watcher: Watcher | None = None) -> Response:
        """GET ``path`` below the base URL.

        Args:
            path: relative; it cannot leave the base URL's host.
            query: parameters in order.
            watcher: told of each request, retry and wait; an `Out`.

        Raises:
            Transient: no usable answer after all attempts.
            Throttled: the source said when to come back and we may not wait that long here.
            Auth: 401, 403 or 407.
            Configuration: another refusal, a certificate that does not verify, or a redirect to another host.
            Data: the answer is larger than ``max_payload_bytes``.
        """
        return self._ask(path, query, watcher or _Unwatched(self._clock), lambda response: response)

    def _ask(self, path: str, query: Query, told: Watcher, accept: Callable[[Response], Accepted]) -> Accepted:
        attempt = 0
        while True:
            attempt += 1
            outcome = self._attempt(path, query, told)
            if isinstance(outcome, Response):
                try:
                    return accept(outcome)
                except Data as exc:
                    outcome = _Setback(exc, "the source answered something else than JSON")
            delay_s = self._transport.backoff.delay_s(attempt, self._jitter())
            if delay_s is None:
                raise outcome.error
            told.count(retries=1)
            self._wait(max(delay_s, outcome.stay_away_s), outcome.reason, told)

    def _attempt(self, path: str, query: Query, told: Watcher) -> Response | _Setback:
        url = _below(self._base, path)
        for _hop in range(MAX_REDIRECTS + 1):
            if self._limit is not None:
                self._wait(self._limit.reserve(), "the request quota of the profile", told)
            try:
                reply = self._send(url, query, told)
            except _Broken as broken:
                told.count(failed=1)
                return _Setback(
                    Transient(
                        f"GET {_name(url)} failed: {broken}",
                        hint="check that the host is up and in the connection's egress policy",
                    ),
                    str(broken),
                )
            if reply.status in (301, 302, 303, 307, 308) and "location" in reply.headers:
                url, query = self._redirected(url, reply.headers["location"]), ()
                continue
            return self._judge(url, reply, told)
        raise Configuration(f"GET {_name(url)} was redirected more than {MAX_REDIRECTS} times", hint="mend the path")

    def _judge(self, url: str, reply: Response, told: Watcher) -> Response | _Setback:
        stay_away_s = retry_after_s(reply.headers.get("retry-after"), reply.read_at)
        kind = classify(reply.status, says_when=stay_away_s is not None)
        if kind is None:
            return reply
        told.count(failed=1)
        said = f"GET {_name(url)} answered {reply.status}"
        match kind:
            case RetryClass.TRANSIENT:
                return _Setback(Transient(said), said, stay_away_s or 0.0)
            case RetryClass.THROTTLED:
                # Without a time the source leaves it to us; the backoff's own delay is used and the host told so.
                return _Setback(Throttled(said, retry_after_s=stay_away_s), said, stay_away_s or 0.0)
            case RetryClass.UNAUTHENTICATED:
                raise Auth(said, hint="store a valid secret, or correct auth.mode and the key's name and place")
            case RetryClass.DENIED:
                raise Auth(said, reason="permission_denied", hint="give the secret's owner the right to read this path")
            case RetryClass.PERMANENT:
                raise Configuration(said, hint="check base_url and the stream's path and parameters")

    def _send(self, url: str, query: Query, told: Watcher) -> Response:
        told.count(requests=1)
        parameters = (*query, *self._authenticator.query())
        target = f"{url}{'&' if '?' in url else '?'}{urlencode(parameters)}" if parameters else url
        headers = {
            "Accept": "application/json",
            "Accept-Encoding": "gzip, deflate",
            "User-Agent": self._transport.user_agent,
            **self._authenticator.headers(),
        }
        timeout_s = self._transport.timeout_s
        deadline = self._clock.monotonic() + timeout_s
        try:
            reply = self._pool.request(
                "GET",
                target,
                headers=headers,
                timeout=urllib3.Timeout(connect=timeout_s, read=timeout_s),
                preload_content=False,
                redirect=False,
            )
        except SSLError as exc:
            _refuse_certificate(url, exc)
            raise _Broken(f"the TLS connection broke ({type(exc).__name__})") from exc
        except LocationParseError:
            raise Configuration(f"{_name(url)} is not an address", hint="check base_url and path") from None
        except HTTPError as exc:
            raise _Broken(_cause(exc)) from exc
        read_at = self._clock.now()
        try:
            body = self._body(url, reply, deadline)
        except HTTPError as exc:
            reply.close()
            raise _Broken(f"the answer was cut off ({type(exc).__name__})") from exc
        except BaseException:
            # What is left of the body must not be taken for the next answer.
            reply.close()
            raise
        told.count(bytes=len(body))
        reply.release_conn()
        lowered = {name.lower(): value for name, value in reply.headers.items()}
        return Response(reply.status, lowered, body, read_at, _name(url))

    def _body(self, url: str, reply: urllib3.BaseHTTPResponse, deadline: float) -> bytes:
        gathered = bytearray()
        # read1 returns what has come: a source that drips a byte a second meets the deadline all the same.
        while piece := reply.read1(_PIECE_BYTES, decode_content=True):
            gathered += piece
            if len(gathered) > self._transport.max_payload_bytes:
                raise Data(
                    f"GET {_name(url)} answered more than {self._transport.max_payload_bytes} bytes",
                    hint="ask for smaller pages, or raise maxPayloadBytes",
                )
            if self._clock.monotonic() > deadline:
                raise _Broken(f"no complete answer within {self._transport.timeout_s:g} s")
        return bytes(gathered)

    def _redirected(self, url: str, location: str) -> str:
        target = _joined(url, location)
        if target is None:
            said = f"GET {_name(url)} is redirected to what is no address"
            raise Configuration(said, hint="mend base_url or the path")
        if _origin(target) != _origin(self._base):
            raise Configuration(
                f"GET {_name(url)} is redirected to {_name(target)}, another host than the one this connection may use",
                hint="set base_url to the final host and let an operator approve it",
            )
        return target

    def _wait(self, seconds: float, reason: str, told: Watcher) -> None:
        if seconds > SILENT_WAIT_S:
            told.wait(self._clock.now() + timedelta(seconds=seconds), reason)
        elif seconds > 0:
            self._clock.sleep(seconds)


@dataclass(frozen=True, slots=True)
class _Setback:
    """A failed attempt that may be made again: the error if it may not, what to say, how long to stay away at least."""

    error: ConnectorError
    reason: str
    stay_away_s: float = 0.0


class _Broken(Exception):  # noqa: N818 (an answer that broke, not an error of ours)
    """No complete answer came; the text says why without addresses."""


@dataclass(frozen=True, slots=True)
class _Unwatched:
    """The watcher of requests outside a read: there is nobody to tell, so long waits are errors."""

    clock: Clock

    def count(self, *, requests: int = 0, failed: int = 0, bytes: int = 0, pages: int = 0, retries: int = 0) -> None:
        """Count nothing."""

    def wait(self, until: datetime, reason: str) -> None:
        """Wait if it is short."""
        seconds = (until - self.clock.now()).total_seconds()
        if seconds > PATIENCE_S:
            raise Throttled(f"{reason}: come back in {seconds:.0f} s", retry_after_s=seconds)
        self.clock.sleep(max(0.0, seconds))


def _base_url(text: str) -> str:
    parts = _split(text)
    if (
        parts is None
        or parts.scheme != "https"
        or parts.username is not None
        or parts.password is not None
        or parts.query
        or parts.fragment
    ):
        raise Configuration(
            "base_url is not of the form https://HOST[:PORT][/PATH]",
            hint="use https, and leave user, password, query and fragment out; secrets travel in their slots",
            fields={"base_url": "must be https://HOST[:PORT][/PATH]"},
        )
    return text.rstrip("/") + "/"


def _below(base: str, path: str) -> str:
    url = _joined(base, path.lstrip("/"))
    if url is None or not url.startswith(base):
        # What names a host may hold a password before it.
        shown = "a path" if url is None else f"the path {urlsplit(path).path!r}"
        raise Configuration(
            f"{shown} leaves the base URL",
            hint="give paths relative to base_url, without a host and without ..",
        )
    return url


def _joined(base: str, reference: str) -> str | None:
    """Return the address that ``reference`` names, seen from ``base``; None where it is none."""
    try:
        url = urljoin(base, reference)
    except ValueError:
        return None
    return None if _split(url) is None else url


def _split(url: str) -> SplitResult | None:
    """Take an address apart; None where it names no host, or a port that cannot be."""
    try:
        parts = urlsplit(url)
        # Reading the port raises on one that is no number, or too large a one.
        usable = bool(parts.hostname) and parts.port != 0
    except ValueError:
        return None
    return parts if usable else None


def _origin(url: str) -> tuple[str, str | None, int]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or 443


def _name(url: str) -> str:
    """What a message may say of an address: host and path."""
    parts = urlsplit(url)
    return f"{parts.hostname}{parts.path}"


def _trust(ca_pem: str | None) -> ssl.SSLContext:
    # The image's own authorities: SSL_CERT_FILE, or where OpenSSL looks.
    context = ssl.create_default_context()
    if ca_pem is not None:
        try:
            context.load_verify_locations(cadata=ca_pem)
        except (ssl.SSLError, ValueError) as exc:
            raise Configuration(
                "ca_pem holds no certificate that can be read",
                hint="paste the authority's certificate in PEM form, BEGIN and END lines included",
                fields={"ca_pem": "is not a PEM certificate"},
            ) from exc
    return context


def _refuse_certificate(url: str, exc: SSLError) -> None:
    cause = exc.args[0] if exc.args else None
    if isinstance(cause, ssl.SSLCertVerificationError):
        raise Configuration(
            f"the certificate of {urlsplit(url).hostname} does not verify: {cause.verify_message}",
            hint="if it was signed by an authority of your own, give its certificate as ca_pem",
        ) from exc


def _cause(exc: HTTPError) -> str:
    match type(exc).__name__:
        case "NameResolutionError":
            return "the host's name does not resolve"
        case "ConnectTimeoutError" | "ReadTimeoutError":
            return "no answer in time"
        case "NewConnectionError":
            return "the connection was refused"
        case other:
            return f"the connection broke ({other})"


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return document
