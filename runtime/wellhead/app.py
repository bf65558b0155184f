"""The composition root: the only place that constructs services from settings.

Every service is built when it is first asked for, so that ``wellhead runs list`` needs no Docker and ``wellhead build``
no registry; what was opened is closed in reverse when the block ends.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from wellhead import settings as settings_module
from wellhead.clock import SystemClock
from wellhead.connections import SinkSelection
from wellhead.errors import Code, ConfigurationError
from wellhead.ids import ConnectorId, Digest, RunId
from wellhead.settings import MirrorSettings, RemoteSettings, Settings

if TYPE_CHECKING:
    from wellhead.catalog.keys import PublicKey
    from wellhead.catalog.policy import Policy
    from wellhead.catalog.trust import Trust
    from wellhead.egress.network import Fencer
    from wellhead.engine.client import Engine
    from wellhead.images.build import Inputs
    from wellhead.images.layout import Layout
    from wellhead.images.registry import Registry
    from wellhead.images.store import Store
    from wellhead.lifecycle.host import Host
    from wellhead.registry.database import Database
    from wellhead.runners.docker import DockerRunner
    from wellhead.secrets.base import SecretStore
    from wellhead.sinks.base import Sink

NO_VAULT = Code("WH-CFG-003", "Secrets come from Vault, and no Vault is configured.")

STATE_FOLDER = Path(".wellhead")
#: Debian packages of the gateway's root filesystem, beside Python.
GATEWAY_PACKAGES = ("nftables", "iproute2")


class App:
    """The services of one process."""

    def __init__(self, settings: Settings, scope: ExitStack) -> None:
        """Hold the settings; build nothing yet. Use `opened`."""
        self.settings = settings
        self.clock = SystemClock()
        self._scope = scope

    @property
    def folder(self) -> Path:
        """Return where this project keeps what is not meant for people: ``.wellhead``."""
        return self.settings.path(STATE_FOLDER)

    @property
    def cache(self) -> Path:
        """Return where what can be made again is kept, shared by all projects of this user."""
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        return Path(base) / "wellhead"

    def log_file(self, run_id: RunId) -> Path:
        """Return where a run's log is kept on this host."""
        return self.folder / "logs" / f"{run_id}.jsonl"

    @cached_property
    def database(self) -> Database:
        """Open the registry, bringing its tables to this program's version."""
        from wellhead.registry.database import Database

        spec = self.settings.registry
        url = spec.url
        if url.startswith("sqlite:///") and not url.startswith("sqlite:////"):
            url = f"sqlite:///{self.settings.path(Path(url.removeprefix('sqlite:///')))}"
        database = Database.open(url, self._registry_password(), clock=self.clock)
        self._scope.callback(database.close)
        database.migrate()
        return database

    def _registry_password(self) -> str | None:
        file = self.settings.registry.password_file
        if file is None:
            return None
        from wellhead.secrets.local import read_private

        # Editors and copies from elsewhere end the line in other ways.
        return read_private(self.settings.path(file), "the password for the registry").strip()

    @cached_property
    def engine(self) -> Engine:
        """Connect to the Docker Engine."""
        from wellhead.engine.client import Engine

        engine = Engine.connect(self.settings.docker.host)
        self._scope.callback(engine.close)
        return engine

    @cached_property
    def runner(self) -> DockerRunner:
        """Return what starts connectors."""
        from wellhead.runners.docker import DockerRunner

        return DockerRunner(self.engine, self.host_id)

    @cached_property
    def fencer(self) -> Fencer:
        """Return what puts up fences; the gateway's image is made at the first one."""
        from wellhead.egress.network import Fencer, FenceSettings, gateway_image
        from wellhead.images import base

        network = self.settings.network
        return Fencer(
            self.engine,
            lambda: gateway_image(self.engine, base.rootfs(GATEWAY_PACKAGES, self.cache)),
            FenceSettings(network.slots, network.outbound_subnet, network.resolver),
        )

    @cached_property
    def layout(self) -> Layout:
        """Open the folder of releases, making it where it is missing: the store, or what is kept of a registry here."""
        from wellhead.images.layout import Layout

        spec = self.settings.store
        return Layout.create(self.settings.path(spec.path), is_cache=spec.registry is not None)

    @cached_property
    def remote(self) -> Registry | None:
        """Return the registry that is the store; None where the folder is. Nothing is sent yet."""
        return self._remote(self.settings.store)

    def _remote(self, spec: RemoteSettings) -> Registry | None:
        if spec.registry is None:
            return None
        from wellhead.images.registry import Registry
        from wellhead.images.transport import Credentials
        from wellhead.secrets.local import read_private

        credentials = None
        if spec.username is not None and spec.password_file is not None:
            password = read_private(self.settings.path(spec.password_file), f"the password for {spec.username}")
            credentials = Credentials(spec.username, password)
        ca_file = None if spec.ca_file is None else self.settings.path(spec.ca_file)
        opened = Registry(spec.registry, credentials, ca_file)
        self._scope.callback(opened.close)
        return opened

    def store_of(self, said: str, *, make: bool = False) -> Store:
        """Return the store meant by ``store``, a name under `mirrors`, a registry's address or a folder.

        Args:
            said: as the user wrote it.
            make: make a folder that is missing.

        Raises:
            ConfigurationError: there is no such folder (WH-IMG-010), or no such registry is possible (042, 046).
        """
        from wellhead.images.layout import Layout

        if said == "store":
            return self.remote or self.layout
        spec = self.settings.mirrors.get(said)
        if spec is None and said.startswith(("https://", "http://")):
            spec = MirrorSettings(registry=said)
        found = None if spec is None else self._remote(spec)
        if found is not None:
            return found
        path = self.settings.path(Path(said) if spec is None or spec.path is None else spec.path)
        return Layout.create(path) if make else Layout.open(path)

    def trusted_keys(self, connectors: Iterable[ConnectorId]) -> tuple[PublicKey, ...]:
        """Return the public keys that trust.yaml names for some connectors, by id."""
        keys = {signer.key.id: signer.key for name in connectors for signer in self.trust.rule(name).signers}
        return tuple(keys[key_id] for key_id in sorted(keys))

    def holding(self, connector: ConnectorId, version: str, digest: Digest) -> Layout:
        """Return the folder with that release in it, fetched from the registry where it is not there yet."""
        from wellhead.images import store

        return store.hold(self.remote, self.layout, connector, version, digest)

    @cached_property
    def policies(self) -> tuple[Policy, ...]:
        """Read the policies of this project."""
        from wellhead.catalog import policy

        folder = self.settings.path(self.settings.policies)
        return policy.load(folder, may_lack=self.settings.is_default("policies"))

    @cached_property
    def trust(self) -> Trust:
        """Read whose signatures count."""
        from wellhead.catalog import trust

        return trust.load(
            self.settings.path(self.settings.trust),
            is_development=self.settings.environment == "development",
            clock=self.clock,
        )

    @property
    def keys_folder(self) -> Path:
        """Return where this project's own signing keys are kept."""
        return self.folder / "keys"

    def image_inputs(
        self, sdk: Path | None = None, *, refresh_base: bool = False, platforms: Sequence[str] = ()
    ) -> Inputs:
        """Return what images are made from, making the bases of this machine and of ``platforms`` where there are none.

        Raises:
            ConfigurationError: no base is made for a platform (WH-IMG-003), or it cannot be made (WH-IMG-001, 002).
        """
        from wellhead.images import base, build

        made = base.rootfs((), self.cache, refresh=refresh_base)
        others = {
            name: base.rootfs((), self.cache, refresh=refresh_base, target=name)
            for name in platforms
            if name != base.machine_platform()
        }
        return build.Inputs(made, sdk or build.installed_sdk(), self.cache, others, self.settings.build.builder)

    @cached_property
    def secrets(self) -> SecretStore:
        """Return the configured secret store.

        Raises:
            ConfigurationError: WH-CFG-003.
        """
        if self.settings.secrets.store == "local":
            from wellhead.secrets.local import LocalStore

            return LocalStore(os.environ, self.clock)
        from wellhead.secrets.vault import VaultStore

        if self.settings.vault is None:
            raise ConfigurationError(
                "a connection refers to secrets in Vault, and wellhead.yaml names no Vault",
                code=NO_VAULT,
                hint="add `vault: {address: https://…, token_file: …}` to wellhead.yaml",
            )
        return VaultStore(self.settings.vault, self.settings.root, self.clock)

    @cached_property
    def host_id(self) -> str:
        """Return this host's id."""
        from wellhead.lifecycle.claim import host_id

        return host_id(self.folder)

    def sink(self, selection: SinkSelection) -> Sink:
        """Return the sink of one connection."""
        path = self.settings.path(selection.path)
        match selection.type:
            case "parquet":
                from wellhead.sinks.parquet import Parquet

                return Parquet(path)
            case "jsonl":
                from wellhead.sinks.jsonl import Jsonl

                return Jsonl(path)

    def host(self) -> Host:
        """Return what a run needs; nothing but the registry is opened yet."""
        from wellhead.images.base import machine_platform
        from wellhead.lifecycle.host import Host

        return Host(
            settings=self.settings,
            folder=self.folder,
            id=self.host_id,
            database=self.database,
            clock=self.clock,
            platform=machine_platform(),
            layout=lambda: self.layout,
            remote=lambda: self.remote,
            trust=lambda: self.trust,
            policies=lambda: self.policies,
            engine=lambda: self.engine,
            runner=lambda: self.runner,
            fencer=lambda: self.fencer,
            secrets=lambda: self.secrets,
            sink=self.sink,
        )


@contextmanager
def opened(config: Path | None = None) -> Iterator[App]:
    """Read the settings of ``config``, or of the nearest wellhead.yaml, and close what was opened at the end."""
    file = config or settings_module.find(Path.cwd())
    with ExitStack() as scope:
        yield App(settings_module.load(file, os.environ), scope)
