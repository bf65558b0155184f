"""The rules of trust.yaml beyond whose key it is: time, revocation, thresholds, evidence, builders and bases."""

import dataclasses
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from wellhead.catalog import keys, trust, verify
from wellhead.errors import ConfigurationError, RefusedError
from wellhead.ids import ConnectorId
from wellhead.images import build, oci, provenance
from wellhead.lifecycle import publish

PLATFORM = "linux/amd64"


class At:
    """A clock that stands."""

    def __init__(self, now: datetime) -> None:
        self._now = now

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return 0.0


def judged(shop: Any, rule: str, *, after: timedelta = timedelta(), more: str = "", development: bool = False) -> None:
    """Let the shop be judged by a trust.yaml with this rule for dev/tiny, ``after`` its releases were signed."""
    key = shop.key.public
    file: Path = shop.folder / "policy.yaml"
    file.write_text(
        f"keys:\n  - {{id: '{key.id}', public: '{key.text}'{more if more.startswith(',') else ''}}}\n"
        f"namespaces:\n  dev: {{{rule.replace('KEY', key.id)}}}\n"
        f"{'' if more.startswith(',') else more.replace('KEY', key.id)}"
    )
    shop.trust = trust.load(file, is_development=development, clock=At(shop.now + after))


def refused(shop: Any, built: build.Built) -> RefusedError:
    with pytest.raises(RefusedError) as caught:
        shop.verify(built)
    assert caught.value.exit_code == 76
    assert caught.value.hint
    return caught.value


def test_the_rule_of_one_connector_replaces_its_namespaces(shop: Any) -> None:
    other = keys.new_pair(shop.folder / "keys", "other")
    trust.add(shop.folder / "trust.yaml", "dev/tiny", other.public, "")
    shop.trust = trust.load(shop.folder / "trust.yaml")
    assert refused(shop, shop.publish("dev/tiny")).code.name == "WH-CAT-021"
    assert shop.verify(shop.publish("dev/other")).key_ids == (shop.key.public.id,)


@pytest.mark.parametrize(
    ("days", "is_good"), [(-1, False), (0, False), (1, True)], ids=["signed after", "signed at", "signed before"]
)
def test_a_revoked_key_counts_for_what_it_signed_before(shop: Any, days: int, is_good: bool) -> None:
    since = (shop.now + timedelta(days=days)).isoformat()
    judged(shop, "keys: ['KEY']", more=f"revoked_keys: [{{id: 'KEY', after: {since}}}]\n")
    built = shop.publish()
    if is_good:
        assert shop.verify(built).key_ids == (shop.key.public.id,)
    else:
        error = refused(shop, built)
        assert error.code.name == "WH-CAT-022"
        assert f"{shop.key.public.id} is revoked" in error.message


def test_a_key_revoked_without_a_date_counts_for_nothing(shop: Any) -> None:
    judged(shop, "keys: ['KEY']", more="revoked_keys: [{id: 'KEY', after: 2099-01-01}, {id: 'KEY'}]\n")
    assert refused(shop, shop.publish()).code.name == "WH-CAT-022"


def test_an_expired_key_signs_no_more_and_what_it_signed_stays_good(shop: Any) -> None:
    judged(shop, "keys: ['KEY']", more=f", expires: {shop.now.date()}", after=timedelta(days=900))
    error = refused(shop, shop.publish())
    assert error.code.name == "WH-CAT-023"
    assert "expired on 2026-07-01" in error.message
    shop.now -= timedelta(days=1)
    assert shop.verify(shop.publish()).key_ids


def test_a_revoked_key_does_not_help_to_meet_a_threshold(shop: Any) -> None:
    second = keys.new_pair(shop.folder / "keys", "second")
    built = shop.make()
    verify.attach(shop.store, shop.statement(built), shop.key, second)
    both = (trust.Signer(shop.key.public), trust.Signer(second.public))
    shop.trust = trust.Trust("trust.yaml", {"dev": trust.Rule(both, 2)})
    assert len(shop.verify(built).key_ids) == 2
    revoked = (both[0], trust.Signer(second.public, revoked_from=datetime.min.replace(tzinfo=UTC)))
    shop.trust = trust.Trust("trust.yaml", {"dev": trust.Rule(revoked, 2)})
    assert refused(shop, built).code.name == "WH-CAT-022"
    shop.trust = trust.Trust("trust.yaml", {"dev": trust.Rule(revoked, 1)})
    assert shop.verify(built).key_ids == (shop.key.public.id,)


def test_a_signature_is_refused_once_it_is_too_old(shop: Any) -> None:
    built = shop.publish()
    judged(shop, "keys: ['KEY'], max_age: 30d", after=timedelta(days=30, seconds=-1))
    assert shop.verify(built).key_ids
    judged(shop, "keys: ['KEY'], max_age: 30d", after=timedelta(days=30))
    assert refused(shop, built).code.name == "WH-CAT-024"


def test_a_signature_is_refused_after_the_end_its_signer_set(shop: Any) -> None:
    built = shop.make()
    verify.attach(shop.store, publish.statement_of(built, shop.now, timedelta(hours=36)), shop.key)
    judged(shop, "keys: ['KEY'], max_age: 400d", after=timedelta(hours=35))
    assert shop.verify(built).statement.expires_at == shop.now + timedelta(hours=36)
    judged(shop, "keys: ['KEY'], max_age: 400d", after=timedelta(hours=36))
    error = refused(shop, built)
    assert error.code.name == "WH-CAT-024"
    assert "2026-07-03 00:00:00Z" in error.message


def test_a_signature_of_the_future_is_refused_beyond_what_clocks_differ(shop: Any) -> None:
    built = shop.publish()
    judged(shop, "keys: ['KEY']", after=timedelta(minutes=-10))
    assert shop.verify(built).key_ids
    judged(shop, "keys: ['KEY']", after=timedelta(minutes=-11))
    assert refused(shop, built).code.name == "WH-CAT-025"


def test_what_a_rule_requires_is_there_and_about_this_release(shop: Any) -> None:
    built = shop.publish()
    judged(shop, "keys: ['KEY'], require: [sbom, provenance]")
    assert shop.verify(built).statement.builder == provenance.LOCAL_BUILDER


def test_only_allowed_builders_are_taken(shop: Any) -> None:
    built = shop.publish()
    judged(shop, "keys: ['KEY'], builders: ['https://ci.acme.example/*', 'urn:wellhead:builder:*']")
    assert shop.verify(built).key_ids
    judged(shop, "keys: ['KEY'], builders: ['https://ci.acme.example/*']")
    error = refused(shop, built)
    assert error.code.name == "WH-CAT-039"
    assert provenance.LOCAL_BUILDER in error.message


def test_a_signer_who_names_another_builder_than_the_provenance_is_refused(shop: Any) -> None:
    built = shop.make()
    statement = dataclasses.replace(shop.statement(built), builder="https://ci.acme.example/1")
    verify.attach(shop.store, statement, shop.key)
    judged(shop, "keys: ['KEY'], builders: ['*']")
    assert refused(shop, built).code.name == "WH-CAT-039"


@pytest.mark.parametrize("form", ["packed", "unpacked"])
def test_only_allowed_bases_are_stood_on(shop: Any, form: str) -> None:
    built = shop.publish()
    image = oci.image(shop.store, built.index_digest, PLATFORM)
    config = shop.store.document(image.config.digest, "config")
    allowed = {"packed": image.layers[0].digest, "unpacked": config["rootfs"]["diff_ids"][0]}[form]
    judged(shop, f"keys: ['KEY'], base_images: ['{allowed}']")
    assert shop.verify(built).key_ids
    judged(shop, f"keys: ['KEY'], base_images: ['sha256:{'0' * 64}']")
    error = refused(shop, built)
    assert error.code.name == "WH-CAT-026"
    assert image.layers[0].digest in error.message


def test_an_unsigned_release_is_taken_in_development_only(shop: Any) -> None:
    built = shop.make()
    judged(shop, "allow_unsigned: true", development=True)
    release = shop.verify(built)
    assert (release.key_ids, release.statement) == ((), None)
    assert release.images == built.images
    assert release.manifest_sha256 == built.manifest_sha256
    judged(shop, "allow_unsigned: true")
    assert refused(shop, built).code.name == "WH-CAT-011"


def test_an_unsigned_release_of_another_connector_or_version_is_refused(shop: Any) -> None:
    built = shop.make()
    judged(shop, "allow_unsigned: true", development=True)
    for connector, version in ((ConnectorId("dev/other"), "1.0.0"), (built.connector, "1.0.1")):
        with pytest.raises(RefusedError) as caught:
            verify.verify_release(shop.store, built.index_digest, connector, version, shop.trust)
        assert caught.value.code.name == "WH-CAT-034"


@pytest.mark.parametrize(
    "rule",
    [
        "{}",
        "{keys: [ID], max_age: 30}",
        "{keys: [ID], max_age: 0d}",
        "{keys: [ID], require: [signature]}",
        "{keys: [ID], base_images: [latest]}",
        "{keys: [ID], allow_unsigned: true}",
        "{keys: [ID, ID], threshold: 2}",
    ],
)
def test_a_rule_that_does_not_add_up_is_refused(tmp_path: Path, rule: str) -> None:
    key = keys.new_pair(tmp_path, "k").public
    file = tmp_path / "trust.yaml"
    said = rule.replace("ID", f"'{key.id}'")
    file.write_text(f"keys: [{{id: '{key.id}', public: '{key.text}'}}]\nnamespaces: {{dev: {said}}}\n")
    with pytest.raises(ConfigurationError) as caught:
        trust.load(file)
    assert caught.value.code.name == "WH-DOC-003"


@pytest.mark.parametrize("text", ["2026-09-01", "2026-09-01T00:00:00Z", "2026-09-01 02:00:00+02:00"])
def test_times_in_trust_yaml_are_utc(tmp_path: Path, text: str) -> None:
    key = keys.new_pair(tmp_path, "k").public
    file = tmp_path / "trust.yaml"
    file.write_text(
        f"keys: [{{id: '{key.id}', public: '{key.text}', expires: {text}}}]\n"
        f"namespaces: {{dev: {{keys: ['{key.id}']}}}}\n"
    )
    assert trust.load(file).rules["dev"].signers[0].expires == datetime(2026, 9, 1, tzinfo=UTC)
