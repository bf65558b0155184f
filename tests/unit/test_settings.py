"""wellhead.yaml: precedence, substitution, and mistakes told with their places."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from wellhead import settings
from wellhead.errors import ConfigurationError


def load(folder: Path, text: str, environment: Mapping[str, str] | None = None) -> settings.Settings:
    (folder / "wellhead.yaml").write_text(text)
    return settings.load(folder / "wellhead.yaml", environment or {})


def test_an_empty_file_means_every_default(tmp_path: Path) -> None:
    found = load(tmp_path, "")
    assert found.commit.max_bytes == 64 * 1024 * 1024
    assert found.root == tmp_path


def test_the_environment_beats_the_file_and_the_file_beats_the_default(tmp_path: Path) -> None:
    found = load(tmp_path, "lease: {ttl_s: 10}\nrun: {attempts: 4}\n", {"WELLHEAD__LEASE__TTL_S": "20", "OTHER": "1"})
    assert (found.lease.ttl_s, found.run.attempts, found.run.idle_attempts) == (20.0, 4, 3)


def test_a_variable_is_replaced_or_its_default_stands(tmp_path: Path) -> None:
    found = load(tmp_path, "tenant: ${T}\nproject: a-${P:-b}\n", {"T": "t"})
    assert (found.tenant, found.project) == ("t", "a-b")


def test_a_variable_that_is_not_set_is_named_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="MISSING is not set") as caught:
        load(tmp_path, "tenant: t\nproject: ${MISSING}\n")
    assert caught.value.code == settings.MISSING_VARIABLE
    assert caught.value.place is not None
    assert (caught.value.place.line, caught.value.place.field) == (2, "project")


def test_every_mistake_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path, "tennant: x\nlease: {ttl_s: 0}\n")
    assert len(caught.value.details) == 2
    assert any("wellhead.yaml:1 (tennant)" in detail for detail in caught.value.details)
    assert any("wellhead.yaml:2 (lease.ttl_s)" in detail for detail in caught.value.details)


def test_an_unknown_setting_of_the_environment_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"lease\.typo"):
        load(tmp_path, "", {"WELLHEAD__LEASE__TYPO": "1"})


@pytest.mark.parametrize(
    ("text", "variable", "value", "field"),
    [
        ("environment: production\n", "WELLHEAD__ENVIRONMENT", "prod", "environment"),
        ("", "WELLHEAD__LEASE__TTL_S", "soon", "lease.ttl_s"),
        ("lease: {ttl_s: 10}\n", "WELLHEAD__LEASE__TTL_S", "0", "lease.ttl_s"),
        ("", "WELLHEAD__VAULT__NAMESPACE", "n", "vault.address"),
        ("", "WELLHEAD__", "n", "None"),
    ],
)
def test_what_a_variable_says_wrong_is_not_blamed_on_the_file(
    tmp_path: Path, text: str, variable: str, value: str, field: str
) -> None:
    with pytest.raises(ConfigurationError, match=f"the environment is not .*: the variable {variable}: ") as caught:
        load(tmp_path, text, {variable: value})
    assert caught.value.place is not None
    assert (caught.value.place.file, caught.value.place.line, str(caught.value.place.field)) == (None, None, field)
    assert "wellhead.yaml" not in caught.value.message


def test_mistakes_of_file_and_environment_are_told_each_with_its_own(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="2 mistakes") as caught:
        load(tmp_path, "tennant: x\n", {"WELLHEAD__ENVIRONMENT": "prod"})
    assert sorted(detail.partition(": ")[0].rpartition("/")[2] for detail in caught.value.details) == [
        "environment",
        "wellhead.yaml:1 (tennant)",
    ]


def test_a_folder_is_named_by_file_or_environment_or_is_the_default(tmp_path: Path) -> None:
    assert load(tmp_path, "").is_default("policies")
    assert not load(tmp_path, "policies: manifests/policies\n").is_default("policies")
    assert not load(tmp_path, "", {"WELLHEAD__POLICIES": "p"}).is_default("policies")


@pytest.mark.parametrize(
    "text",
    [
        "store: {registry: 'https://r.example', username: u}",
        "store: {registry: 'https://r.example', password_file: p}",
        "store: {ca_file: ca.pem}",
        "mirrors: {one: {}}",
        "mirrors: {one: {path: p, registry: 'https://r.example'}}",
        "vault: {address: 'https://v.example'}",
        "vault: {address: 'https://v.example:65536', token_file: a}",
        "vault: {address: 'https://v.example:0', token_file: a}",
        "vault: {address: 'v.example:8200', token_file: a}",
        "vault: {address: 'https://v.example', token_file: a, approle: {role_id: r}}",
        "files: {roots: [relative]}",
    ],
)
def test_what_contradicts_itself_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigurationError):
        load(tmp_path, text)


@pytest.mark.parametrize("login", ["ops:hunter22secret@", "hunter22secret@", ":hunter22secret@", "@"])
def test_the_address_of_a_secret_store_holds_no_login_and_a_password_there_is_not_told(
    tmp_path: Path, login: str
) -> None:
    with pytest.raises(ConfigurationError, match="without a name or a password") as caught:
        load(tmp_path, f"vault: {{address: 'https://{login}vault.example', token_file: a}}")
    assert "hunter22" not in " ".join([caught.value.message, str(caught.value.hint), *caught.value.details])


def test_the_nearest_file_above_is_found(tmp_path: Path) -> None:
    load(tmp_path, "")
    (tmp_path / "a" / "b").mkdir(parents=True)
    assert settings.find(tmp_path / "a" / "b") == tmp_path / "wellhead.yaml"


def test_a_folder_without_a_project_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        settings.find(tmp_path)
    assert caught.value.code == settings.NO_PROJECT
    assert "wellhead init" in (caught.value.hint or "")


def test_relative_paths_start_at_the_project(tmp_path: Path) -> None:
    found = load(tmp_path, "")
    assert found.path(Path("a")) == tmp_path / "a"
    assert found.path(Path("/a")) == Path("/a")
