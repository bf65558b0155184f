from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from wellhead import profile
from wellhead.errors import ConfigurationError

TEXT = """\
apiVersion: wellhead/v1
kind: Profile
metadata: {kind: http, name: items, version: 1.2.0, description: Items of the shop., owners: [data-team]}
spec:
  transport: {baseUrl: "https://api.example.com/v1", timeoutMs: 5000, maxPayloadBytes: 1000000}
  egressPolicy: {dnsAllowlist: [api.example.com, login.example.com]}
  auth: {mode: bearer, secretRef: {name: token, key: api_token}}
  pagination: {mode: cursor, requestParam: after, responseField: meta.next}
  retry: {maxAttempts: 3, backoffMs: 500}
  rateLimit: {maxRequestsPerMinute: 60}
"""
REFERENCES = {"token": "vault://kv/shop#api_token"}


@pytest.fixture
def loaded(tmp_path: Path) -> profile.Profile:
    file = tmp_path / "items.yaml"
    file.write_text(TEXT)
    return profile.load(file)


def changed(loaded: profile.Profile, path: str, value: Any) -> dict[str, Any]:
    """The document with the field at a dotted path replaced."""
    document = copy.deepcopy(loaded.document())
    *parents, last = path.split(".")
    holder = document
    for key in parents:
        holder = holder[key]
    holder[last] = value
    return document


def test_a_profile_is_frozen_and_says_which_it_is(loaded: profile.Profile) -> None:
    assert loaded.label == "items@1.2.0"
    with pytest.raises(ValidationError):
        loaded.metadata.version = "2.0.0"  # type: ignore[misc]


def test_equal_words_have_one_hash_however_the_file_is_written(loaded: profile.Profile, tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    head, spec = TEXT.split("spec:\n")
    kind_last = head.replace("kind: Profile\n", "") + "spec:\n" + spec + "kind: Profile\n"
    other.write_text("# reviewed\n" + kind_last)
    assert profile.load(other).sha256 == loaded.sha256
    louder = profile.Profile.model_validate(changed(loaded, "spec.retry.maxAttempts", 4))
    assert louder.sha256 != loaded.sha256


def test_what_is_frozen_reads_as_the_same_profile_again(loaded: profile.Profile) -> None:
    assert profile.Profile.model_validate_json(loaded.canonical) == loaded


def test_joined_with_a_connection_the_document_and_its_base_url_are_in_the_config(loaded: profile.Profile) -> None:
    own = {"streams": [{"name": "items", "path": "items"}]}
    resolved = profile.resolve(loaded, own, REFERENCES, "http")
    assert resolved.config == {**own, "base_url": "https://api.example.com/v1", "profile": loaded.document()}
    assert "profile" not in own


@pytest.mark.parametrize("reference", ["vault://kv/shop#api_token", "vault://kv/shop/api_token"])
def test_a_reference_that_reads_the_field_the_profile_asks_for_agrees(reference: str, loaded: profile.Profile) -> None:
    profile.resolve(loaded, {}, {"token": reference}, "http")


@pytest.mark.parametrize(
    ("config", "references", "kind", "told"),
    [
        ({}, REFERENCES, "database", "of type http, this one is of database"),
        ({"base_url": "https://other.example"}, REFERENCES, "http", "base_url differs"),
        ({"profile": {}}, REFERENCES, "http", "named by the connection's own key"),
        ({}, {}, "http", "slot token, for which the connection has no secret"),
        ({}, {"token": "vault://kv/shop#other"}, "http", "asks for the field api_token"),
    ],
)
def test_a_connection_that_contradicts_its_profile_is_refused(
    config: dict[str, Any], references: dict[str, str], kind: str, told: str, loaded: profile.Profile
) -> None:
    with pytest.raises(ConfigurationError, match=told) as caught:
        profile.resolve(loaded, config, references, kind)
    assert caught.value.code is profile.DISAGREES


def test_every_contradiction_is_told_at_once(loaded: profile.Profile) -> None:
    with pytest.raises(ConfigurationError) as caught:
        profile.resolve(loaded, {"profile": {}, "base_url": "https://x.example"}, {}, "queue")
    assert len(caught.value.details) == 4


def test_the_allowlist_leaves_its_own_hosts_open_and_no_other(loaded: profile.Profile) -> None:
    assert loaded.allows("API.example.com.")
    assert loaded.allows("login.example.com")
    assert not loaded.allows("example.com")
    assert not loaded.allows("x.api.example.com")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("apiVersion", "wellhead/v2"),
        ("metadata.version", "1.2"),
        ("metadata.owners", []),
        ("metadata.kind", "database"),
        ("spec.transport.baseUrl", "http://api.example.com"),
        ("spec.transport.baseUrl", "https://api.example.com:65536"),
        ("spec.transport.baseUrl", "https://api.example.com:0"),
        ("spec.transport.baseUrl", "https://user:pa55"),
        ("spec.transport.baseUrl", "https://user:pa55@api.example.com"),
        ("spec.transport.baseUrl", "https://api.example.com/?token=pa55"),
        ("spec.transport.baseUrl", "https://elsewhere.example.com"),
        ("spec.transport.timeoutMs", 0),
        ("spec.transport.password", "pa55"),
        ("spec.egressPolicy.dnsAllowlist", []),
        ("spec.egressPolicy.dnsAllowlist", ["api.example.com", "*.example.com"]),
        ("spec.egressPolicy.dnsAllowlist", ["api.example.com", "10.0.0.1"]),
        ("spec.auth", {"mode": "bearer"}),
        ("spec.auth", {"mode": "none", "secretRef": {"name": "token"}}),
        ("spec.auth", {"mode": "basic", "secretRef": {"name": "token"}}),
        ("spec.auth.secretRef.value", "pa55"),
        ("spec.pagination", {"mode": "cursor", "requestParam": "after"}),
        ("spec.pagination", {"mode": "none", "requestParam": "after"}),
        ("spec.retry.maxAttempts", 0),
        ("spec.rateLimit.maxRequestsPerMinute", 0),
    ],
)
def test_a_document_that_is_not_a_reviewed_secret_free_profile_is_refused(
    path: str, value: Any, loaded: profile.Profile, tmp_path: Path
) -> None:
    file = tmp_path / "wrong.yaml"
    file.write_text(json.dumps(changed(loaded, path, value)))
    with pytest.raises(ConfigurationError) as caught:
        profile.load(file)
    said = f"{caught.value.message} {caught.value.details} {caught.value.hint}"
    assert "pa55" not in said
    assert str(file) in said
