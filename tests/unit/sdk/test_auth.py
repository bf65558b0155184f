from __future__ import annotations

import pytest

from wellhead_sdk.auth import Anonymous, ApiKey, Bearer
from wellhead_sdk.errors import Auth


def test_each_method_adds_what_the_source_reads_and_nothing_else() -> None:
    assert (Anonymous().headers(), Anonymous().query()) == ({}, ())
    assert (Bearer("t0k").headers(), Bearer("t0k").query()) == ({"Authorization": "Bearer t0k"}, ())
    assert (ApiKey("k3y").headers(), ApiKey("k3y").query()) == ({"X-API-Key": "k3y"}, ())
    in_query = ApiKey("k3y", "appid", "query")
    assert (in_query.headers(), in_query.query()) == ({}, (("appid", "k3y"),))


def test_an_unknown_place_is_refused() -> None:
    with pytest.raises(ValueError, match="header or query"):
        ApiKey("k3y", place="cookie")


@pytest.mark.parametrize("secret", ["", "a\r\nX-Other: 1", "a\n", "schlüssel", "\x00"])
def test_a_secret_that_no_header_can_carry_is_refused_without_being_told(secret: str) -> None:
    for make in (Bearer, ApiKey):
        with pytest.raises(Auth) as caught:
            make(secret)
        assert not secret or secret not in caught.value.message


def test_no_secret_shows_in_a_repr() -> None:
    assert "s3cr3t" not in repr((Bearer("s3cr3t"), ApiKey("s3cr3t")))
