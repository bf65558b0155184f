"""Keys in files and the operator's trust.yaml."""

import os
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from wellhead import replacement
from wellhead.catalog import keys, trust
from wellhead.errors import ConfigurationError, RefusedError
from wellhead.ids import ConnectorId


def test_a_pair_is_written_for_its_owner_alone_and_read_again(tmp_path: Path) -> None:
    made = keys.new_pair(tmp_path / "keys", "release")
    assert (tmp_path / "keys/release.key").stat().st_mode & 0o777 == 0o600
    assert keys.load_private(tmp_path / "keys/release.key").public == made.public
    assert keys.pairs(tmp_path / "keys") == {"release": made.public}
    assert made.public.verifies(keys.load_private(tmp_path / "keys/release.key").sign(b"x"), b"x")
    assert not made.public.verifies(made.sign(b"x"), b"y")
    assert keys.PublicKey.from_text(made.public.text) == made.public


def test_a_private_key_does_not_show_itself(tmp_path: Path) -> None:
    made = keys.new_pair(tmp_path, "release")
    assert "PrivateKey object" not in repr(made)
    assert "_key" not in repr(made)


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    keys.new_pair(tmp_path, "release")
    before = (tmp_path / "release.key").read_bytes()
    with pytest.raises(ConfigurationError) as caught:
        keys.new_pair(tmp_path, "release")
    assert caught.value.code.name == "WH-CAT-002"
    assert (tmp_path / "release.key").read_bytes() == before


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o777])
def test_a_private_key_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    keys.new_pair(tmp_path, "release")
    os.chmod(tmp_path / "release.key", mode)
    with pytest.raises(RefusedError) as caught:
        keys.load_private(tmp_path / "release.key")
    assert caught.value.code.name == "WH-CAT-003"


@pytest.mark.parametrize("content", [b"", b"no key", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"])
def test_what_is_no_key_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "broken.key"
    file.write_bytes(content)
    file.chmod(0o600)
    with pytest.raises(ConfigurationError) as caught:
        keys.load_private(file)
    assert caught.value.code.name == "WH-CAT-001"
    with pytest.raises(ConfigurationError):
        keys.load_public(file)


def test_what_is_wrong_with_a_public_key_is_told_apart(tmp_path: Path) -> None:
    keys.new_pair(tmp_path, "release")
    with pytest.raises(ConfigurationError, match="cannot be read: No such file") as missing:
        keys.load_public(tmp_path / "none.pub")
    with pytest.raises(ConfigurationError, match=r"release\.key is no public Ed25519 key") as private:
        keys.load_public(tmp_path / "release.key")
    assert "keys new" not in f"{missing.value.hint} {private.value.hint}"


def test_a_missing_key_and_a_bad_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read"):
        keys.load_private(tmp_path / "none.key")
    with pytest.raises(ConfigurationError, match="no name for a key"):
        keys.new_pair(tmp_path, "../up")


def test_adding_to_trust_keeps_what_is_there_and_its_comments(tmp_path: Path) -> None:
    file = tmp_path / "trust.yaml"
    first = keys.new_pair(tmp_path / "keys", "first").public
    second = keys.new_pair(tmp_path / "keys", "second").public
    trust.add(file, "dev", first, "laptop")
    file.write_text("# checked by two people\n" + file.read_text())
    trust.add(file, "acme", second, "their mail of today")
    trust.add(file, "acme", second, "again")
    loaded = trust.load(file)
    assert file.read_text().startswith("# checked by two people")
    assert loaded.rule(ConnectorId("dev/x")).signers == (trust.Signer(first),)
    assert loaded.rule(ConnectorId("acme/x")).signers == (trust.Signer(second),)


def test_a_namespace_is_no_prefix_and_no_pattern(tmp_path: Path) -> None:
    trust.add(tmp_path / "trust.yaml", "dev", keys.new_pair(tmp_path, "k").public, "")
    with pytest.raises(RefusedError):
        trust.load(tmp_path / "trust.yaml").rule(ConnectorId("develop/x"))
    with pytest.raises(ConfigurationError):
        trust.add(tmp_path / "trust.yaml", "*", keys.new_pair(tmp_path, "l").public, "")
    assert trust.load(tmp_path / "trust.yaml").rules.keys() == {"dev"}


@pytest.mark.parametrize(
    "text",
    [
        "keys: [{id: 'ed25519:0000000000000000', public: PUBLIC}]",
        "keys: [{id: ID, public: AAAA}]",
        "namespaces: {dev: {keys: ['ed25519:0000000000000000']}}",
        "{keys: [{id: ID, public: PUBLIC}], namespaces: {dev: {keys: [ID], threshold: 2}}}",
        "{keys: [{id: ID, public: PUBLIC}], namespaces: {dev: {keys: []}}}",
        "{keys: [{id: ID, public: PUBLIC}], namespaces: {dev: {keys: [ID], allow_unsigned: true}}}",
    ],
)
def test_a_trust_file_that_does_not_add_up_is_refused(tmp_path: Path, text: str) -> None:
    key = keys.new_pair(tmp_path, "k").public
    file = tmp_path / "trust.yaml"
    file.write_text(text.replace("PUBLIC", key.text).replace("ID", f"'{key.id}'"))
    with pytest.raises(ConfigurationError):
        trust.load(file)


def test_a_revoked_key_is_not_trusted_anew(tmp_path: Path) -> None:
    file = tmp_path / "trust.yaml"
    key = keys.new_pair(tmp_path, "k").public
    trust.add(file, "dev", key, "laptop")
    trust.revoke(file, key.id, None)
    before = file.read_bytes()
    with pytest.raises(ConfigurationError, match=f"revokes the key {key.id}") as caught:
        trust.add(file, "acme", key, "again")
    assert caught.value.code == trust.REVOKED_ALREADY
    assert file.read_bytes() == before


def test_of_two_who_change_trust_at_once_neither_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "trust.yaml"
    first, second = (keys.new_pair(tmp_path, name).public for name in ("first", "second"))
    other = threading.Thread(target=trust.add, args=(file, "acme", second, "the other's"))
    write = replacement.write

    def overtaken(*given: Any) -> None:
        if threading.current_thread() is not other:
            other.start()
            # It has to wait for the lock all that time; without one it would be done.
            other.join(0.5)
        write(*given)

    monkeypatch.setattr(replacement, "write", overtaken)
    trust.add(file, "dev", first, "one's")
    other.join()
    assert trust.load(file).rules.keys() == {"dev", "acme"}


@pytest.mark.parametrize("after", [None, datetime(2027, 1, 1, tzinfo=UTC)])
def test_revoking_keeps_what_the_file_says_and_takes_the_word_away(tmp_path: Path, after: datetime | None) -> None:
    file = tmp_path / "trust.yaml"
    key = keys.new_pair(tmp_path, "k").public
    trust.add(file, "dev", key, "laptop")
    file.write_text(file.read_text() + "# the end\n")
    trust.revoke(file, key.id, after)
    (signer,) = trust.load(file).rules["dev"].signers
    assert signer.revoked_from == (after or datetime.min.replace(tzinfo=UTC))
    assert "# the end" in file.read_text()
