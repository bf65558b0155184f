"""The author's HTTP session against a real HTTPS server that fails in every way a source fails."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from tests.https_source import START, FakeClock, Reply, Source, Watcher, https_source, page
from wellhead_sdk.auth import ApiKey, Bearer
from wellhead_sdk.errors import Auth, Configuration, Data, Throttled, Transient
from wellhead_sdk.http import HttpSession, Transport
from wellhead_sdk.retry import Backoff

pytestmark = pytest.mark.slow


@pytest.fixture
def source(tmp_path: Path) -> Iterator[Source]:
    with https_source(tmp_path) as served:
        yield served


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def watcher(clock: FakeClock) -> Watcher:
    return Watcher(clock)


@pytest.fixture
def session(source: Source, clock: FakeClock) -> Iterator[HttpSession]:
    opened = HttpSession(transport(source), Bearer("t0ken"), clock=clock, jitter=lambda: 1.0)
    yield opened
    opened.close()


def transport(source: Source, **changed: object) -> Transport:
    settings: dict[str, object] = {
        "base_url": f"{source.base_url}/v1",
        "timeout_s": 5.0,
        "backoff": Backoff(max_attempts=3),
        "ca_pem": source.ca_pem,
        "max_payload_bytes": 10_000,
        **changed,
    }
    return Transport(**settings)  # type: ignore[arg-type]


def test_a_page_comes_with_its_hash_its_time_and_exact_decimals(
    source: Source, session: HttpSession, watcher: Watcher
) -> None:
    body = b'{"price": 0.1000000000000000055511151231257827, "count": 9007199254740993}'
    source.answer(Reply(body=body))
    answer = session.answer("items", (("size", "2"), ("q", "a b&c")), watcher)
    assert answer.document == {"price": Decimal("0.1000000000000000055511151231257827"), "count": 9007199254740993}
    assert answer.raw_ref == f"sha256:{hashlib.sha256(body).hexdigest()}"
    assert answer.read_at == START
    (asked,) = source.tape
    assert (asked.path, asked.query) == ("/v1/items", (("size", "2"), ("q", "a b&c")))
    assert asked.headers["Authorization"] == "Bearer t0ken"
    assert watcher.counts == {"requests": 1, "bytes": len(body), "pages": 1}


def test_a_key_goes_into_the_query_where_the_source_wants_it(source: Source, clock: FakeClock) -> None:
    session = HttpSession(transport(source), ApiKey("k3y", "appid", "query"), clock=clock)
    source.answer(Reply())
    session.get("items", (("a", "1"),))
    session.close()
    assert source.tape[0].query == (("a", "1"), ("appid", "k3y"))


@pytest.mark.parametrize("status", [408, 500, 502, 503, 504])
def test_a_transient_answer_is_asked_for_again_after_a_growing_wait(
    status: int, source: Source, session: HttpSession, clock: FakeClock, watcher: Watcher
) -> None:
    source.answer(Reply(status), Reply(status), page([1]))
    assert session.answer("items", (), watcher).document == [1]
    assert clock.slept == [1.0]  # a second is not worth a frame to the host
    assert [seconds for seconds, _ in watcher.waits] == [2.0]
    assert watcher.counts == {"requests": 3, "failed": 2, "retries": 2, "bytes": 2 * 2 + 3, "pages": 1}


def test_after_the_last_attempt_the_error_is_transient_and_names_no_query(
    source: Source, session: HttpSession, watcher: Watcher
) -> None:
    source.answer(*[Reply(500)] * 3)
    with pytest.raises(Transient) as caught:
        session.get("items", (("token", "s3cret"),), watcher)
    assert len(source.tape) == 3
    assert caught.value.message == "GET localhost/v1/items answered 500"


@pytest.mark.parametrize(
    ("status", "header", "seconds"),
    [(429, "7", 7.0), (503, "7", 7.0), (403, "7", 7.0), (429, "Sun, 01 Mar 2026 12:00:42 GMT", 42.0)],
)
def test_a_source_that_says_when_is_believed_and_the_host_is_told(
    status: int, header: str, seconds: float, source: Source, session: HttpSession, watcher: Watcher
) -> None:
    source.answer(Reply(status, headers={"Retry-After": header}), page([1]))
    session.answer("items", (), watcher)
    assert watcher.waits == [(seconds, f"GET localhost/v1/items answered {status}")]


def test_throttling_without_a_time_backs_off(source: Source, session: HttpSession, clock: FakeClock) -> None:
    source.answer(Reply(429), Reply(429), page([1]))
    session.answer("items")
    assert clock.slept == [1.0, 2.0]


def test_throttling_to_the_last_attempt_hands_the_time_to_the_host(
    source: Source, session: HttpSession, watcher: Watcher
) -> None:
    source.answer(*[Reply(429, headers={"Retry-After": "90"})] * 3)
    with pytest.raises(Throttled) as caught:
        session.get("items", (), watcher)
    assert caught.value.retry_after_s == 90.0
    assert len(source.tape) == 3


def test_outside_a_read_nobody_waits_longer_than_patience_allows(
    source: Source, session: HttpSession, clock: FakeClock
) -> None:
    source.answer(Reply(429, headers={"Retry-After": "3600"}))
    with pytest.raises(Throttled) as caught:
        session.get("items")
    assert caught.value.retry_after_s == 3600.0
    assert clock.slept == []


@pytest.mark.parametrize(
    ("status", "kind", "reason"),
    [
        (401, Auth, "unauthenticated"),
        (407, Auth, "unauthenticated"),
        (403, Auth, "permission_denied"),
        (404, Configuration, "configuration"),
        (400, Configuration, "configuration"),
        (501, Configuration, "configuration"),
    ],
)
def test_a_refusal_is_final_at_once(
    status: int, kind: type[Exception], reason: str, source: Source, session: HttpSession, watcher: Watcher
) -> None:
    source.answer(Reply(status))
    with pytest.raises(kind) as caught:
        session.get("items", (), watcher)
    assert getattr(caught.value, "reason", None) == reason
    assert (len(source.tape), watcher.counts["failed"]) == (1, 1)
    assert "t0ken" not in str(caught.value)


def test_a_body_that_is_cut_off_is_read_again(source: Source, session: HttpSession, watcher: Watcher) -> None:
    source.answer(Reply(body=b"[1]", fault="truncated"), page([1, 2]))
    assert session.answer("items", (), watcher).document == [1, 2]
    assert (watcher.counts["failed"], watcher.counts["retries"]) == (1, 1)


@pytest.mark.parametrize("fault", ["hang", "drip"])
def test_a_source_that_hangs_or_drips_meets_the_deadline(fault: str, source: Source) -> None:
    session = HttpSession(transport(source, timeout_s=0.2, backoff=Backoff(max_attempts=1)))
    source.answer(Reply(body=b"[", fault=fault))
    with pytest.raises(Transient):
        session.get("items")
    session.close()


def test_an_answer_that_is_not_json_is_read_again_and_then_refused_without_being_told(
    source: Source, session: HttpSession
) -> None:
    source.answer(*[Reply(body=b"<html>busy</html>")] * 2, page([1]))
    assert session.answer("items").document == [1]
    source.answer(*[Reply(body=b'{"secret": ')] * 3)
    with pytest.raises(Data, match="not JSON at byte 11") as caught:
        session.answer("items")
    assert "secret" not in caught.value.message


@pytest.mark.parametrize("body", [b"NaN", b'{"a": Infinity}', b'{"a": 1, "a": 2}', b"\xff", b"[" * 100_000])
def test_what_json_does_not_allow_or_would_lose_is_refused(body: bytes, source: Source) -> None:
    session = HttpSession(transport(source, backoff=Backoff(max_attempts=1), max_payload_bytes=200_000))
    source.answer(Reply(body=body))
    with pytest.raises(Data, match="not JSON"):
        session.answer("items")
    session.close()


def test_an_answer_larger_than_allowed_is_refused_compressed_or_not(source: Source, session: HttpSession) -> None:
    bomb = gzip.compress(b" " * 5_000_000)
    assert len(bomb) < 10_000
    for reply in (Reply(body=b" " * 10_001), Reply(body=bomb, headers={"Content-Encoding": "gzip"})):
        source.answer(reply)
        with pytest.raises(Data, match="more than 10000 bytes"):
            session.get("items")
    source.answer(Reply(body=gzip.compress(b"[1]"), headers={"Content-Encoding": "gzip"}))
    assert session.get("items").body == b"[1]"


def test_after_an_answer_that_was_not_read_to_its_end_the_next_one_is_its_own(
    source: Source, session: HttpSession
) -> None:
    source.answer(Reply(body=b"x" * 9_000_000), page(["next"]))
    with pytest.raises(Data):
        session.get("items")
    assert session.answer("items").document == ["next"]


def test_the_quota_of_a_minute_is_kept_and_the_wait_is_told(source: Source, clock: FakeClock, watcher: Watcher) -> None:
    session = HttpSession(transport(source, requests_per_minute=2), clock=clock)
    source.answer(*[page([])] * 3)
    for _ in range(3):
        session.answer("items", (), watcher)
    session.close()
    assert watcher.waits == [(60.0, "the request quota of the profile")]


def test_a_retry_counts_against_the_quota_too(source: Source, clock: FakeClock, watcher: Watcher) -> None:
    session = HttpSession(transport(source, requests_per_minute=1), clock=clock, jitter=lambda: 1.0)
    source.answer(Reply(500), page([]))
    session.answer("items", (), watcher)
    session.close()
    assert clock.monotonic() == 60.0


def test_a_redirect_on_the_same_host_is_followed_with_the_secret(source: Source, session: HttpSession) -> None:
    source.answer(Reply(302, headers={"Location": "/v2/items?x=1"}), page([1]))
    assert session.answer("items", (("size", "1"),)).document == [1]
    assert (source.tape[1].path, source.tape[1].query) == ("/v2/items", (("x", "1"),))
    assert source.tape[1].headers["Authorization"] == "Bearer t0ken"


@pytest.mark.parametrize(
    "target", ["https://other.example/items", "http://localhost/items", "https://localhost:1/items"]
)
def test_a_redirect_to_anywhere_else_is_refused_before_anything_is_sent(
    target: str, source: Source, session: HttpSession
) -> None:
    source.answer(Reply(307, headers={"Location": target}))
    with pytest.raises(Configuration, match="another host"):
        session.get("items")
    assert len(source.tape) == 1


@pytest.mark.parametrize("target", ["https://[localhost/items", "https://localhost:99999/items", "https://:x/"])
def test_a_redirect_to_what_is_no_address_is_refused_as_that(target: str, source: Source, session: HttpSession) -> None:
    source.answer(Reply(307, headers={"Location": target}))
    with pytest.raises(Configuration, match="redirected to what is no address"):
        session.get("items")
    assert len(source.tape) == 1


def test_a_redirect_in_a_circle_ends(source: Source, session: HttpSession) -> None:
    source.route = lambda _: Reply(302, headers={"Location": "/v1/items"})
    with pytest.raises(Configuration, match="more than 5 times"):
        session.get("items")
    assert len(source.tape) == 6


def test_a_certificate_nobody_vouches_for_is_refused_before_a_request(source: Source) -> None:
    session = HttpSession(transport(source, ca_pem=None), Bearer("t0ken"))
    with pytest.raises(Configuration, match="certificate of localhost does not verify") as caught:
        session.get("items")
    session.close()
    assert source.tape == []
    assert "ca_pem" in caught.value.hint


def test_a_certificate_of_another_name_is_refused_before_a_request(source: Source) -> None:
    other = source.base_url.replace("localhost", "127.0.0.1")
    session = HttpSession(transport(source, base_url=other))
    with pytest.raises(Configuration, match=r"certificate of 127\.0\.0\.1 does not verify"):
        session.get("items")
    session.close()
    assert source.tape == []


def test_a_source_that_is_not_there_is_transient(clock: FakeClock, watcher: Watcher) -> None:
    session = HttpSession(Transport("https://localhost:9", backoff=Backoff(max_attempts=2)), clock=clock)
    with pytest.raises(Transient, match="connection was refused") as caught:
        session.get("items", (), watcher)
    session.close()
    assert "egress policy" in caught.value.hint
    assert watcher.counts == {"requests": 2, "failed": 2, "retries": 1}


@pytest.mark.parametrize(
    "base_url",
    [
        "http://api.example",
        "https://",
        "api.example",
        "https://user:pa55@api.example",
        "https://api.example/?key=1",
        "https://api.example/#x",
        "https://[api.example/",
        "https://api.example:99999",
        "https://api.example:0",
    ],
)
def test_a_base_url_that_is_not_plain_https_is_refused_without_being_told(base_url: str) -> None:
    with pytest.raises(Configuration) as caught:
        HttpSession(Transport(base_url))
    assert list(caught.value.fields) == ["base_url"]
    assert "pa55" not in caught.value.message


@pytest.mark.parametrize("path", ["../admin", "https://other.example/x", "https://[other.example", "a/../../../x"])
def test_a_path_cannot_leave_the_base_url(path: str, source: Source, session: HttpSession) -> None:
    with pytest.raises(Configuration, match="leaves the base URL"):
        session.get(path)
    assert source.tape == []


def test_text_that_is_no_certificate_is_refused_by_field() -> None:
    with pytest.raises(Configuration) as caught:
        HttpSession(Transport("https://api.example", ca_pem="not a certificate"))
    assert list(caught.value.fields) == ["ca_pem"]
