"""Debian's registry keeps what every store promises, with passwords and with tokens, and says what went wrong."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import oci_registry
from tests.oci_registry import OciRegistry
from wellhead.errors import AuthError, ConfigurationError, TransientError
from wellhead.images import registry
from wellhead.images.oci import Descriptor
from wellhead.images.registry import Registry
from wellhead.images.store import Store
from wellhead.images.transport import Credentials
from wellhead.testing.stores import CONNECTOR, OTHER, StoreSuite, given, release

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def with_password() -> Iterator[OciRegistry]:
    with oci_registry.passwords() as server:
        yield server


@pytest.fixture(scope="module")
def with_tokens() -> Iterator[OciRegistry]:
    with oci_registry.tokens() as server:
        yield server


class RegistrySuite(StoreSuite):
    server: OciRegistry

    def open(self) -> Store:
        return self.server.open()

    def break_blob(self, found: Descriptor) -> None:
        file = self.server.blob(found.digest)
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)


class TestWithPassword(RegistrySuite):
    @pytest.fixture(autouse=True)
    def _server(self, with_password: OciRegistry) -> None:
        with_password.wipe()
        self.server = with_password


class TestWithTokens(RegistrySuite):
    @pytest.fixture(autouse=True)
    def _server(self, with_tokens: OciRegistry) -> None:
        with_tokens.wipe()
        self.server = with_tokens


def test_a_large_blob_is_sent_in_parts(with_password: OciRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "PART_BYTES", 1000)
    content = bytes(range(256)) * 20
    index = release(with_password.open(), "2.0.0", (content,))
    shelf = with_password.open().shelf(CONNECTOR)
    [image] = shelf.document(index.digest, "the index")["manifests"]
    [packed] = shelf.document(image["digest"], "the image")["layers"]
    assert b"".join(shelf.chunks(Descriptor("", packed["digest"], packed["size"]), "the layer")) == content


def test_a_blob_another_connector_has_is_mounted_and_not_sent(with_password: OciRegistry) -> None:
    store = with_password.open()
    content = b"shared base layer"
    found = store.shelf(CONNECTOR).put(content, "text/plain")

    def unread() -> list[bytes]:
        raise AssertionError("it was sent")

    store.shelf(OTHER).adopt(found, unread)
    assert with_password.open().shelf(OTHER).get(found.digest, "it") == content


@pytest.mark.parametrize("server", ["with_password", "with_tokens"])
def test_a_wrong_password_is_told_without_it(server: str, request: pytest.FixtureRequest) -> None:
    opened: OciRegistry = request.getfixturevalue(server)
    with pytest.raises(AuthError) as caught:
        opened.open("wrong-password-of-this-test").names(CONNECTOR)
    error = caught.value
    assert error.code.name == "WH-IMG-041"
    assert "127.0.0.1" in error.message
    assert error.hint is not None
    assert "wrong-password-of-this-test" not in f"{error.message} {error.hint} {error!r} {error.__cause__!r}"


def test_an_authority_that_is_not_trusted_is_told(with_password: OciRegistry) -> None:
    store = Registry(with_password.address, Credentials("publisher", with_password.password))
    with pytest.raises(ConfigurationError) as caught:
        store.named(f"{CONNECTOR}:1.0.0")
    assert caught.value.code.name == "WH-IMG-043"


def test_a_registry_that_is_down_is_told_after_all_attempts(tmp_path: Path) -> None:
    pauses: list[float] = []
    with oci_registry.passwords() as server:
        store = Registry(server.address, Credentials("publisher", "x"), server.tls.authority, pauses.append)
        server.stop()
        with pytest.raises(TransientError) as caught:
            store.named(f"{CONNECTOR}:1.0.0")
    assert caught.value.code.name == "WH-IMG-040"
    assert len(pauses) == 4
    assert pauses == sorted(pauses)


def test_what_is_sent_is_checked_before_its_end(with_password: OciRegistry) -> None:
    claimed = Descriptor("text/plain", "sha256:" + "1" * 64, 7)  # type: ignore[arg-type]
    shelf = with_password.open().shelf(CONNECTOR)
    with pytest.raises(ConfigurationError) as caught:
        shelf.adopt(claimed, given(b"another"))
    assert caught.value.code.name == "WH-IMG-012"
