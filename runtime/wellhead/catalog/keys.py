"""Signing keys: Ed25519 pairs in files, the private half readable by its owner alone."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NewType

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from wellhead.errors import Code, ConfigurationError, Place, RefusedError

BAD_KEY = Code("WH-CAT-001", "A key file cannot be used.")
KEY_EXISTS = Code("WH-CAT-002", "A key of that name exists already.")
OPEN_KEY = Code("WH-CAT-003", "A private key can be read by others.")

KeyId = NewType("KeyId", str)

#: Name of the pair that signs this host's receipts; it never signs a release.
HOST = "host"
NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


@dataclass(frozen=True, slots=True)
class PublicKey:
    """The half everybody may know; ``raw`` are its 32 bytes."""

    raw: bytes

    @property
    def id(self) -> KeyId:
        """``ed25519:`` and 16 hex digits of the key's hash; a name, never a proof."""
        return KeyId(f"ed25519:{hashlib.sha256(self.raw).hexdigest()[:16]}")

    @property
    def text(self) -> str:
        """The key as base64, as trust.yaml has it."""
        return base64.b64encode(self.raw).decode()

    @property
    def pem(self) -> bytes:
        """The key as a PEM file, which other programs read, `cosign verify --key` among them."""
        key = Ed25519PublicKey.from_public_bytes(self.raw)
        return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    @classmethod
    def from_text(cls, text: str) -> PublicKey:
        """Read what `text` gave.

        Raises:
            ValueError: it is no such text.
        """
        raw = base64.b64decode(text, validate=True)
        if len(raw) != 32:
            raise ValueError(f"an Ed25519 public key has 32 bytes, this one has {len(raw)}")
        return cls(raw)

    def verifies(self, signature: bytes, content: bytes) -> bool:
        """Say whether the private half made ``signature`` over ``content``."""
        try:
            Ed25519PublicKey.from_public_bytes(self.raw).verify(signature, content)
        except (InvalidSignature, ValueError):
            return False
        return True


@dataclass(frozen=True, slots=True)
class PrivateKey:
    """The half that signs; never shown in a repr, never written but by `new_pair`."""

    public: PublicKey
    _key: Ed25519PrivateKey = field(repr=False)

    def sign(self, content: bytes) -> bytes:
        """Return the signature over ``content``: 64 bytes, the same each time."""
        return self._key.sign(content)


def new_pair(folder: Path, name: str) -> PrivateKey:
    """Make a pair and write ``NAME.key`` (mode 0600) and ``NAME.pub`` into ``folder``.

    Raises:
        ConfigurationError: the name is unusable (WH-CAT-001) or taken (WH-CAT-002).
    """
    if NAME.fullmatch(name) is None:
        raise ConfigurationError(
            f"{name!r} is no name for a key", code=BAD_KEY, hint="use lower-case letters, digits, - and _"
        )
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    key = Ed25519PrivateKey.generate()
    public = PublicKey(key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))
    private_file = folder / f"{name}.key"
    # 0600 from the start.
    handle, scratch = tempfile.mkstemp(prefix=".new-", dir=folder)
    try:
        with os.fdopen(handle, "wb") as out:
            out.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
            os.fsync(out.fileno())
        # A link never overwrites: what a lost key signed could not be signed again. And nobody reads half a key.
        os.link(scratch, private_file)
    except FileExistsError as exc:
        raise ConfigurationError(
            f"{private_file} exists", code=KEY_EXISTS, hint="choose another name", place=Place(str(private_file))
        ) from exc
    finally:
        Path(scratch).unlink()
    pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (folder / f"{name}.pub").write_bytes(pem)
    return PrivateKey(public, key)


@contextmanager
def making(folder: Path, name: str) -> Iterator[PrivateKey]:
    """Make a pair as `new_pair` does, and remove it again where the block fails: it has signed nothing by then."""
    made = new_pair(folder, name)
    try:
        yield made
    except BaseException:
        for half in ("key", "pub"):
            (folder / f"{name}.{half}").unlink(missing_ok=True)
        raise


def host_pair(folder: Path) -> PrivateKey:
    """Return the pair that signs this host's receipts, making it where there is none; two processes make it once.

    Raises:
        ConfigurationError: it cannot be read or is no key (WH-CAT-001).
        RefusedError: others may read it (WH-CAT-003).
    """
    file = folder / f"{HOST}.key"
    if not file.exists():
        try:
            return new_pair(folder, HOST)
        except ConfigurationError as error:
            if error.code is not KEY_EXISTS:
                raise
    return load_private(file)


def load_private(file: Path) -> PrivateKey:
    """Read a private key.

    Raises:
        ConfigurationError: it cannot be read or is no Ed25519 key (WH-CAT-001).
        RefusedError: others may read the file (WH-CAT-003).
    """
    try:
        content = file.read_bytes()
        mode = file.stat().st_mode
    except OSError as exc:
        raise ConfigurationError(
            f"the key {file} cannot be read: {exc.strerror}",
            code=BAD_KEY,
            hint="`wellhead keys new NAME` makes one",
            place=Place(str(file)),
        ) from exc
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise RefusedError(
            f"{file} can be read by others (mode {stat.S_IMODE(mode):04o})",
            code=OPEN_KEY,
            hint=f"chmod 600 {file}; if others may have read it, make a new key",
            place=Place(str(file)),
        )
    try:
        key = load_pem_private_key(content, password=None)
    except (ValueError, TypeError) as exc:
        raise _not_a_key(file) from exc
    if not isinstance(key, Ed25519PrivateKey):
        raise _not_a_key(file)
    return PrivateKey(PublicKey(key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)), key)


def load_public(file: Path) -> PublicKey:
    """Read a public key from its PEM file.

    Raises:
        ConfigurationError: WH-CAT-001, it cannot be read or is no Ed25519 key.
    """
    try:
        content = file.read_bytes()
    except OSError as exc:
        raise ConfigurationError(
            f"the public key {file} cannot be read: {exc.strerror}",
            code=BAD_KEY,
            hint="check the path and its permissions",
            place=Place(str(file)),
        ) from exc
    try:
        key = load_pem_public_key(content)
    except (ValueError, UnsupportedAlgorithm) as exc:
        raise _not_public(file) from exc
    if not isinstance(key, Ed25519PublicKey):
        raise _not_public(file)
    return PublicKey(key.public_bytes(Encoding.Raw, PublicFormat.Raw))


def pairs(folder: Path) -> dict[str, PublicKey]:
    """Return the public keys of a folder by name; raises like `load_public`."""
    return {file.stem: load_public(file) for file in sorted(folder.glob("*.pub"))}


def _not_public(file: Path) -> ConfigurationError:
    return ConfigurationError(
        f"{file} is no public Ed25519 key in PEM form",
        code=BAD_KEY,
        hint="it has to be the NAME.pub of a pair as .wellhead/keys has it; take it anew from whoever has the pair",
        place=Place(str(file)),
    )


def _not_a_key(file: Path) -> ConfigurationError:
    return ConfigurationError(
        f"{file} is no Ed25519 key in PEM form",
        code=BAD_KEY,
        hint="`wellhead keys new NAME` makes one",
        place=Place(str(file)),
    )
