"""The manifest is what a connection is checked against, the model what the connector takes: they must agree."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from wellhead import profile
from wellhead.errors import ConfigurationError
from wellhead.manifest import config, egress, lint, load
from wellhead_http_json import connector
from wellhead_http_json.config import HttpJsonConfig, source
from wellhead_sdk.auth import ApiKey
from wellhead_sdk.pagination import CursorPages
from wellhead_sdk.retry import Backoff

HERE = Path(__file__).parent.parent
LOADED = load.load(HERE)
MINIMAL: dict[str, Any] = {"base_url": "https://api.example.com/v1", "streams": [{"name": "items", "path": "items"}]}
PROFILE = profile.Profile.model_validate(
    {
        "apiVersion": "wellhead/v1",
        "kind": "Profile",
        "metadata": {"kind": "http", "name": "items", "version": "1.0.0", "description": "Items.", "owners": ["data"]},
        "spec": {
            "transport": {"baseUrl": "https://api.example.com/v1", "timeoutMs": 1500, "maxPayloadBytes": 1000},
            "egressPolicy": {"dnsAllowlist": ["api.example.com"]},
            "auth": {"mode": "api_key", "secretRef": {"name": "api_key"}},
            "pagination": {"mode": "cursor", "requestParam": "after", "responseField": "next"},
            "retry": {"maxAttempts": 2, "backoffMs": 250},
            "rateLimit": {"maxRequestsPerMinute": 30},
        },
    }
)


def test_the_manifest_has_no_findings_and_the_version_of_the_package() -> None:
    project = tomllib.loads((HERE / "pyproject.toml").read_text())["project"]
    assert lint.lint(LOADED) == []
    assert project["version"] == LOADED.manifest.metadata.version
    assert connector.USER_AGENT.endswith(f"/{project['version']}")


def test_schema_and_model_know_the_same_parameters_and_defaults() -> None:
    properties = LOADED.manifest.config.properties
    model = HttpJsonConfig.model_json_schema()
    assert set(properties) == set(model["properties"])
    assert set(properties["streams"]["items"]["properties"]) == set(model["$defs"]["StreamConfig"]["properties"])
    filled = config.checked(LOADED.manifest, MINIMAL)
    assert HttpJsonConfig.model_validate(filled) == HttpJsonConfig.model_validate(MINIMAL)


def test_every_missing_or_ill_typed_parameter_is_told_at_once() -> None:
    wrong = {"timeout_seconds": "soon", "auth": "magic", "max_retries": -1, "endpoints": []}
    with pytest.raises(ConfigurationError) as caught:
        config.checked(LOADED.manifest, wrong)
    told = " ".join(caught.value.details)
    assert all(name in told for name in ("base_url", "streams", "timeout_seconds", "auth", "max_retries", "endpoints"))


def test_the_one_way_out_is_the_base_urls_host_and_waits_for_an_operator() -> None:
    (way,) = egress.render_egress(LOADED.manifest, {**MINIMAL, "base_url": "https://api.example.com:8443/v1"})
    assert (way.host, way.port, way.tls, way.open) == ("api.example.com", 8443, "required", "operator")


def test_a_profile_the_host_resolved_passes_the_schema_and_decides_the_transport() -> None:
    own = {"streams": MINIMAL["streams"]}
    resolved = profile.resolve(PROFILE, own, {"api_key": "vault://kv/items#key"}, "http")
    parsed = HttpJsonConfig.model_validate(config.checked(LOADED.manifest, resolved.config))
    found = source(parsed, {"api_key": "k3y"}, "agent")
    assert found.transport.base_url == "https://api.example.com/v1"
    assert (found.transport.timeout_s, found.transport.max_payload_bytes) == (1.5, 1000)
    assert (found.transport.backoff, found.transport.requests_per_minute) == (Backoff(2, 0.25), 30)
    assert found.mode == CursorPages("after", "next")
    assert found.authenticator == ApiKey("k3y")


def test_what_the_profile_decides_cannot_be_said_again() -> None:
    own = {"streams": MINIMAL["streams"], "timeout_seconds": 5, "max_retries": 9}
    resolved = profile.resolve(PROFILE, own, {"api_key": "vault://kv/items#key"}, "http")
    with pytest.raises(ValueError, match="the profile decides timeout_seconds, max_retries"):
        HttpJsonConfig.model_validate(config.checked(LOADED.manifest, resolved.config))
