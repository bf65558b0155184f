"""What the policies are told, and the refusals that come of their answers."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.unit.lifecycle.conftest import MANIFEST, World
from wellhead.catalog.policy import Policy
from wellhead.errors import RefusedError
from wellhead.ids import ConnectorId, Digest
from wellhead.lifecycle import governance
from wellhead.lifecycle.host import Host
from wellhead.manifest.egress import EgressEntry
from wellhead.registry import definitions, policy_approvals

pytestmark = pytest.mark.slow

NOW = datetime(2026, 6, 1, tzinfo=UTC)
WAY = EgressEntry("db.example.com", 5432, "postgresql", "optional", "operator", private=True)
CONNECTOR = ConnectorId("dev/generator")


def policy(rule: str, effect: str = "deny", when: tuple[str, ...] = ("run",), name: str = "some") -> Policy:
    return Policy.model_validate(
        {"name": name, "description": "d", "when": when, "if": rule, "effect": effect, "message": "no", "mend": "ask"}
    )


@pytest.fixture
def governed(world: World) -> Any:
    """Return what asks these policies about the world's connection."""
    release = definitions.Release(
        connector_id=CONNECTOR,
        version=MANIFEST.manifest.metadata.version,
        index_digest=Digest("sha256:" + "0" * 64),
        manifest_sha256="0" * 64,
        platforms={},
        manifest=MANIFEST.document.data,
        key_id="key-a key-b",
        published_at=NOW,
    )
    with world.database.transaction() as tx:
        definitions.register(tx, release)
    file = world.connect(secrets={"token": "env://TOKEN"})

    def ask(*policies: Policy) -> Any:
        here: Host = dataclasses.replace(world.host(), policies=lambda: policies)
        return governance.require(here, file, MANIFEST.manifest, {"rows": 5}, [WAY], ("run",))

    return ask


@pytest.mark.parametrize(
    "fact",
    [
        "manifest.metadata.id == 'dev/generator'",
        "manifest.apiVersion == 'wellhead/v1'",
        "manifest.runtime.protocol.min == 1",
        "release.version == manifest.metadata.version",
        "release.status == 'active'",
        "release.signed_by == ['key-a', 'key-b']",
        "release.review_age_days == null",
        "release.age_days >= 0 || release.age_days < 0",
        "host.environment == 'development' || host.environment == 'production'",
        "connection.name == 'flights'",
        "connection.connector == 'dev/generator'",
        "connection.config.rows == 5",
        "connection.slots == ['token']",
        "connection.streams.exists(stream, stream.name == 'rows' && stream.mode == 'full_refresh')",
        "connection.egress.exists(way, way.host == 'db.example.com' && way.port == 5432 && way.private)",
        "connection.sink.type == 'parquet'",
        "tenant.id == 'default' && tenant.project == 'default'",
        "!has(tenant.labels.region)",
    ],
)
def test_a_rule_may_ask_about_what_is_known(governed: Any, fact: str) -> None:
    (warning,) = governed(policy(fact, "warn"))
    assert warning.failed == ""


def test_no_rule_sees_what_a_secret_refers_to(governed: Any) -> None:
    for subject in ("manifest", "release", "host", "connection", "tenant"):
        with pytest.raises(RefusedError, match="cannot be evaluated"):
            governed(policy(f"{subject}.secrets.token == 'env://TOKEN'"))


def test_a_denial_names_the_policy_its_rule_and_the_mend(governed: Any) -> None:
    with pytest.raises(RefusedError) as caught:
        governed(policy("true", "warn", name="mild"), policy("connection.name\n == 'flights'", name="strict"))
    error = caught.value
    assert (error.code, error.exit_code, error.hint) == (governance.DENIED, 76, "ask")
    assert error.message == "policy strict refuses dev/generator 1.0.0 for connection flights: no"
    assert error.details == ("strict: deny if connection.name == 'flights'",)


def test_an_approval_opens_what_it_was_given_for_and_nothing_else(governed: Any, world: World) -> None:
    asks = policy("true", "require_approval", name="restricted")
    with pytest.raises(RefusedError) as caught:
        governed(asks)
    assert (caught.value.code, caught.value.exit_code) == (governance.WAITS, 76)
    assert "wellhead connection approve flights --policy restricted" in (caught.value.hint or "")
    file = world.connect()
    with world.database.transaction() as tx:
        policy_approvals.approve(tx, file.key, CONNECTOR, "restricted", asks.sha256, who="op", reason="fine")
    assert governed(asks) == ()
    with pytest.raises(RefusedError):
        governed(policy("1 == 1", "require_approval", name="restricted"))
    with pytest.raises(RefusedError):
        governed(asks, policy("true", "require_approval", name="other"))
    with pytest.raises(RefusedError):
        governed(asks, policy("true"))


def test_admission_asks_about_the_release_alone(tmp_path: Path) -> None:
    known = policy("release.signed_by == ['key-a'] && release.age_days == 0", "warn", ("admission",))
    manifest = MANIFEST.manifest
    (warning,) = governance.admit([known], "production", manifest, ["key-a"], NOW)
    assert warning.failed == ""
    with pytest.raises(RefusedError) as caught:
        governance.admit([policy("true", "deny", ("admission",))], "production", manifest, [], NOW)
    assert caught.value.message == "policy some refuses dev/generator 1.0.0: no"
    assert governance.admit([policy("true", "deny", ("run",))], "production", manifest, [], NOW) == ()
