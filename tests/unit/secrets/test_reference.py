from __future__ import annotations

import pickle
from datetime import UTC, datetime, timedelta

import pytest

from wellhead.errors import ConfigurationError
from wellhead.secrets import base
from wellhead.secrets.base import Reference, Scheme, SecretValue


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("vault://kv/team/pg#password", Reference(Scheme.KEY_VALUE, "team/pg", "kv", "password")),
        ("vault://kv/team/pg/password", Reference(Scheme.KEY_VALUE, "team/pg", "kv", "password")),
        (
            "vault-dyn://database/creds/flights-ro#username",
            Reference(Scheme.DYNAMIC, "creds/flights-ro", "database", "username"),
        ),
        ("env://PG_PASSWORD", Reference(Scheme.ENVIRONMENT, "PG_PASSWORD")),
        ("file:///etc/wellhead/pg", Reference(Scheme.FILE, "/etc/wellhead/pg")),
    ],
)
def test_reads_every_scheme(text: str, expected: Reference) -> None:
    assert Reference.parse(text) == expected


@pytest.mark.parametrize("text", ["hunter2hunter2", "${PASSWORD}", "vault://kv/${WHERE}#x", "https://kv/a#b", ""])
def test_refuses_a_literal_and_does_not_repeat_it(text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Reference.parse(text)
    assert caught.value.code is base.NOT_A_REFERENCE
    said = f"{caught.value.message} {caught.value.hint}"
    assert text not in said or not text


@pytest.mark.parametrize(
    "text",
    [
        "vault://sys/policies/acl/x#y",
        "vault://SYS/policies#y",
        "vault://auth/token/create#y",
        "vault://identity/entity#y",
        "vault://cubbyhole/mine#y",
        "vault://kv/../sys/mounts#y",
        "vault://kv/a/../b#y",
        "vault://kv/%2e%2e/b#y",
        "vault://kv/a?version=1#y",
        "vault://kv//a#y",
        "vault://kv/+/a#y",
        "vault://kv/a*#y",
        "vault://kv#y",
        "vault://kv/password",
        "vault://kv/a#",
        "vault://kv/a#b#c",
        "vault-dyn://database/creds/role",
        "env://not-a-variable",
        "env://",
        "file://relative/path",
        "file:///etc/../shadow",
    ],
)
def test_refuses_what_reaches_elsewhere_or_names_nothing(text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Reference.parse(text)
    assert caught.value.code is base.BAD_REFERENCE
    assert caught.value.hint


@pytest.mark.parametrize("text", ["vault://kv/team/pg#password", "env://PG_PASSWORD", "file:///etc/wellhead/pg"])
def test_prints_as_it_was_written(text: str) -> None:
    assert str(Reference.parse(text)) == text


def test_a_value_shows_in_no_repr_and_refuses_to_be_pickled() -> None:
    secret = SecretValue("hunter2hunter2")
    assert "hunter2" not in repr(secret)
    assert "hunter2" not in f"{secret}"
    with pytest.raises(TypeError):
        pickle.dumps(secret)


@pytest.mark.parametrize(("ttl_s", "after_s"), [(3600, 2400), (300, 200), (150, 90), (90, 30), (30, 10)])
def test_rotates_at_two_thirds_and_a_minute_before_the_end(ttl_s: int, after_s: int) -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    assert base.rotation_due(start, ttl_s) == start + timedelta(seconds=after_s)
