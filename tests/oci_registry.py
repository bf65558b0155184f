"""Debian's `docker-registry`, as another team would run it: TLS under an authority of its own, passwords or tokens.

`OciRegistry.passwords` asks for Basic authentication, `OciRegistry.tokens` sends clients to a token server of this
module, which gives a token to whoever knows the password. What lies on its disk can be broken and wiped.
"""

from __future__ import annotations

import base64
import ctypes
import json
import secrets
import shutil
import signal
import ssl
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from tests.parts import Certificate, MissingPartError, Process, certificate, free_port
from wellhead.images.registry import Registry
from wellhead.images.transport import Credentials

USERNAME = "publisher"
SERVICE = "registry of a test"


@dataclass
class OciRegistry:
    """One running registry; ``address`` is what wellhead.yaml would hold, with a prefix."""

    folder: Path
    tls: Certificate
    port: int
    password: str
    process: Process

    @property
    def address(self) -> str:
        return f"https://127.0.0.1:{self.port}/connectors"

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def open(self, password: str | None = None) -> Registry:
        """A client of its own, as another process has one."""
        return Registry(self.address, Credentials(USERNAME, password or self.password), self.tls.authority)

    def settings(self) -> dict[str, Any]:
        """The store's section of a wellhead.yaml."""
        file = self.folder / "password"
        file.write_text(self.password + "\n")
        file.chmod(0o600)
        return {
            "registry": self.address,
            "username": USERNAME,
            "password_file": str(file),
            "ca_file": str(self.tls.authority),
        }

    def blob(self, digest: str) -> Path:
        """The file a blob's bytes lie in."""
        found = digest.removeprefix("sha256:")
        return self.folder / "data/docker/registry/v2/blobs/sha256" / found[:2] / found / "data"

    def start(self) -> None:
        self.process.start()
        self.process.wait_until(self._answers)

    def stop(self) -> None:
        self.process.end(signal.SIGKILL)

    def wipe(self) -> None:
        """Forget everything, as a disk that was lost."""
        self.stop()
        shutil.rmtree(self.folder / "data", ignore_errors=True)
        self.start()

    def _answers(self) -> bool:
        context = ssl.create_default_context(cafile=str(self.tls.authority))
        try:
            with urllib.request.urlopen(f"https://{self.host}/v2/", timeout=5, context=context):
                return True
        except urllib.error.HTTPError as error:
            with error:
                return error.code == 401
        except OSError:
            return False


@contextmanager
def passwords(*, deletes: bool = False) -> Iterator[OciRegistry]:
    """Lend a registry that asks for a password; as Debian sets it up it deletes nothing."""
    with tempfile.TemporaryDirectory(prefix="wellhead-registry-") as name:
        folder = Path(name)
        password = secrets.token_hex(24)
        (folder / "htpasswd").write_text(f"{USERNAME}:{_bcrypt(password)}\n")
        auth = {"htpasswd": {"realm": SERVICE, "path": str(folder / "htpasswd")}}
        with _registry(folder, certificate(folder, "127.0.0.1"), password, auth, deletes) as registry:
            yield registry


@contextmanager
def tokens(*, deletes: bool = False) -> Iterator[OciRegistry]:
    """Lend a registry that asks for a token of a server beside it."""
    with tempfile.TemporaryDirectory(prefix="wellhead-registry-") as name, ExitStack() as scope:
        folder = Path(name)
        password = secrets.token_hex(24)
        tls = certificate(folder, "127.0.0.1")
        server = _TokenServer(tls, password)
        scope.callback(server.close)
        auth = {
            "token": {
                "realm": f"https://127.0.0.1:{server.port}/token",
                "service": SERVICE,
                "issuer": "tests",
                "rootcertbundle": str(tls.authority),
            }
        }
        yield scope.enter_context(_registry(folder, tls, password, auth, deletes))


@contextmanager
def _registry(
    folder: Path, tls: Certificate, password: str, auth: dict[str, Any], deletes: bool
) -> Iterator[OciRegistry]:
    program = shutil.which("docker-registry")
    if program is None:
        raise MissingPartError("docker-registry is not installed; mend: apt-get install docker-registry")
    port = free_port()
    config = {
        "version": "0.1",
        "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(folder / "data")}, "delete": {"enabled": deletes}},
        "http": {"addr": f"127.0.0.1:{port}", "tls": {"certificate": str(tls.certificate), "key": str(tls.key)}},
        "auth": auth,
    }
    # JSON is YAML.
    (folder / "config.yml").write_text(json.dumps(config))
    process = Process([program, "serve", str(folder / "config.yml")], folder / "log")
    registry = OciRegistry(folder, tls, port, password, process)
    try:
        registry.start()
        yield registry
    finally:
        registry.stop()


def _bcrypt(password: str) -> str:
    """The only form of htpasswd the registry takes; libcrypt is part of every Debian."""
    library = ctypes.CDLL("libcrypt.so.1")
    library.crypt.restype = ctypes.c_char_p
    letters = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
    salt = "".join(secrets.choice(letters) for _ in range(21)) + "."
    made: bytes | None = library.crypt(password.encode(), f"$2b$05${salt}".encode())
    if made is None or not made.startswith(b"$2b$"):
        raise MissingPartError("libcrypt.so.1 knows no bcrypt")
    return made.decode()


class _TokenServer:
    """Signs a token for every scope asked for, if the password is right, with the key of the certificate."""

    def __init__(self, tls: Certificate, password: str) -> None:
        key = serialization.load_pem_private_key(tls.key.read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        signer: ec.EllipticCurvePrivateKey = key
        chain = x509.load_pem_x509_certificate(tls.certificate.read_bytes())
        wanted = base64.b64encode(f"{USERNAME}:{password}".encode()).decode()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.headers.get("Authorization") != f"Basic {wanted}":
                    self.send_error(401)
                    return
                asked = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
                body = json.dumps({"token": _token(signer, chain, asked), "expires_in": 60}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tls.certificate, tls.key)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _token(key: ec.EllipticCurvePrivateKey, chain: x509.Certificate, asked: dict[str, list[str]]) -> str:
    now = int(time.time())
    access = []
    for scope in asked.get("scope", []):
        kind, name, actions = scope.split(":")
        access.append({"type": kind, "name": name, "actions": actions.split(",")})
    certificate_text = base64.b64encode(chain.public_bytes(serialization.Encoding.DER)).decode()
    head = {"typ": "JWT", "alg": "ES256", "x5c": [certificate_text]}
    claims: dict[str, Any] = {"iss": "tests", "sub": USERNAME, "aud": asked.get("service", [""])[0], "access": access}
    claims |= {"iat": now, "nbf": now - 10, "exp": now + 60, "jti": secrets.token_hex(8)}
    signed = f"{_part(json.dumps(head).encode())}.{_part(json.dumps(claims).encode())}"
    r, s = decode_dss_signature(key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
    return f"{signed}.{_part(r.to_bytes(32) + s.to_bytes(32))}"


def _part(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
