"""Talking to the Docker Engine; the only module that imports ``docker``.

Every call has a deadline, and every failure of the library or the Engine becomes one of ours with what was being done.
"""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Network, ip_network
from typing import IO, Any, cast

import docker
import docker.errors
import docker.types
import docker.utils
import requests
import urllib3.exceptions

from wellhead.engine.container import PREFIX, Change, ContainerSpec, ContainerState, Labels, seccomp_profile
from wellhead.errors import Code, ConfigurationError, TransientError, WellheadError, counted

UNREACHABLE = Code("WH-ENG-001", "No Docker Engine answers.")
FORBIDDEN = Code("WH-ENG-002", "This user may not talk to the Docker Engine.")
TOO_OLD = Code("WH-ENG-003", "The Docker Engine is older than 20.10.")
REFUSED = Code("WH-ENG-004", "The Docker Engine refused a request.")
MISSING = Code("WH-ENG-005", "The Docker Engine does not have what was asked for.")
INTERRUPTED = Code("WH-ENG-006", "The Docker Engine stopped answering in the middle of a request.")
UNLOADABLE = Code("WH-ENG-007", "The Docker Engine did not take an image.")
CONFLICT = Code("WH-ENG-008", "Something of that name or subnet already exists.")

OLDEST = (20, 10)
#: The Engine answers within milliseconds; a minute means that it hangs. Loading an image may pause longer.
DEADLINE_S = 60
LOAD_DEADLINE_S = 600
#: SIGKILL has been sent; only the kernel's own business is still to be waited for.
GONE_WITHIN_S = 15.0

#: HTTP status of an Engine asked to remove a network that something is still connected to.
HAS_ENDPOINTS = 403

_KINDS = {0: "changed", 1: "added", 2: "deleted"}


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What an Engine says of itself."""

    version: str
    api_version: str
    os: str
    architecture: str
    runtimes: tuple[str, ...]
    root_dir: str
    cpus: int
    is_rootless: bool
    is_classic_store: bool
    """Whether images lie in the Engine's own store, whose images share layers, and not in containerd's."""


@dataclass(frozen=True, slots=True)
class Network:
    """A network the Engine has; ``labels`` is None for one that is not ours."""

    id: str
    name: str
    subnets: tuple[IPv4Network, ...]
    options: Mapping[str, str]
    internal: bool
    labels: Labels | None


@dataclass(frozen=True, slots=True)
class NetworkSpec:
    """A bridge to create; ``range`` is where the Engine may choose addresses itself."""

    name: str
    subnet: IPv4Network
    gateway: str
    options: Mapping[str, str]
    labels: Mapping[str, str]
    internal: bool = False
    range: IPv4Network | None = None


class ConflictError(TransientError):
    """A name, address or subnet is taken; another choice may do."""


class Container:
    """One container the Engine holds; every method may be called after its end, `remove` also twice."""

    def __init__(self, api: docker.APIClient, container_id: str, name: str) -> None:
        self._api = api
        self.id = container_id
        self.name = name

    def start(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Start it, and do ``meanwhile`` in this thread while the Engine works at it.

        Raises:
            ConfigurationError: its program cannot be started, or a mount or limit is wrong (WH-ENG-004).
        """
        with ThreadPoolExecutor(1, thread_name_prefix="start") as starting:
            start = starting.submit(self._start)
            meanwhile()
            start.result()

    def _start(self) -> None:
        with _translated(f"start container {self.name}"):
            self._api.start(self.id)

    def inspect(self) -> ContainerState:
        """Return its state now."""
        with _translated(f"inspect container {self.name}"):
            found = self._api.inspect_container(self.id)
        state = found["State"]
        return ContainerState(
            running=bool(state["Running"]),
            exit_code=int(state["ExitCode"]),
            oom_killed=bool(state["OOMKilled"]),
            error=str(state.get("Error", "")),
            started_at=str(state["StartedAt"]),
            finished_at=str(state["FinishedAt"]),
            image_id=str(found["Image"]),
            pid=int(state["Pid"]),
        )

    def logs(self, tail_bytes: int = 8192) -> str:
        """Return the last ``tail_bytes`` of its output, undecodable bytes replaced; no more is held in memory."""
        tail = bytearray()
        with _translated(f"read the log of container {self.name}"):
            # A line may be long: so many lines, and of them so many bytes.
            for piece in self._api.logs(self.id, stdout=True, stderr=True, stream=True, follow=False, tail=400):
                tail += piece
                del tail[:-tail_bytes]
        return tail.decode("utf-8", "replace")

    def follow(self) -> Iterator[bytes]:
        """Yield its standard output line by line, from its first line to its end; blocks until there is one."""
        rest = b""
        with _translated(f"follow the output of container {self.name}"):
            for piece in self._api.logs(self.id, stdout=True, stderr=False, stream=True, follow=True):
                *lines, rest = (rest + piece).split(b"\n")
                yield from lines
        if rest:
            yield rest

    def wait(self, timeout_s: float) -> int | None:
        """Return its exit code once it has ended, or None if it runs on after ``timeout_s``."""
        with _translated(f"wait for container {self.name}"):
            try:
                return int(self._api.wait(self.id, timeout=cast(Any, timeout_s))["StatusCode"])
            except (requests.exceptions.ReadTimeout, requests.exceptions.ConnectionError) as exc:
                if _is_timeout(exc):
                    return None
                raise

    def stop(self, grace_s: float) -> None:
        """Send SIGTERM, and SIGKILL after ``grace_s``; nothing happens if it has ended or is gone."""
        with _translated(f"stop container {self.name}"), _tolerated(404, 304):
            self._api.stop(self.id, timeout=max(0, round(grace_s)))

    def kill(self) -> None:
        """Send SIGKILL; nothing happens if it has ended or is gone."""
        with _translated(f"kill container {self.name}"), _tolerated(404, 409):
            self._api.kill(self.id)

    def remove(self) -> None:
        """Kill and remove it with its anonymous volumes; returns when it is gone.

        Raises:
            TransientError: it is still there after fifteen seconds (WH-ENG-006).
        """
        deadline = time.monotonic() + GONE_WITHIN_S
        while True:
            try:
                with _translated(f"remove container {self.name}"), _tolerated(404):
                    self._api.remove_container(self.id, v=True, force=True)
                return
            except (ConflictError, ConfigurationError):
                # Another removal is under way, or the Engine gave up waiting for the process: ask again.
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    def diff(self) -> tuple[Change, ...]:
        """Return what its root file system has that the image has not."""
        with _translated(f"compare container {self.name} with its image"):
            changes = self._api.diff(self.id)
        return tuple(Change(str(change["Path"]), _KINDS[change["Kind"]]) for change in changes or ())

    def labels(self) -> Labels | None:
        """Return whose it is; None if it is not ours."""
        with _translated(f"inspect container {self.name}"):
            return Labels.from_dict(self._api.inspect_container(self.id)["Config"]["Labels"] or {})


class Engine:
    """One Docker Engine. Safe to use from several threads."""

    def __init__(self, api: docker.APIClient, loader: docker.APIClient, info: EngineInfo) -> None:
        self._api = api
        # docker-py has one deadline a client, and half a gigabyte onto a slow disk takes longer than any other call.
        self._loader = loader
        self._info = info

    @classmethod
    def connect(cls, host: str | None = None) -> Engine:
        """Reach the Engine at ``host``, else at DOCKER_HOST, else at the local socket.

        Raises:
            ConfigurationError: none answers or the environment asks for TLS and names no certificates (WH-ENG-001), it
                refuses this user (WH-ENG-002), or it is too old (WH-ENG-003).
        """
        address = host if host is not None else os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
        try:
            environment = docker.utils.kwargs_from_env()
            if host is not None:
                environment["base_url"] = host
            _dial(address)
            # Threads share it: the pool must hold as many connections as followers and requests may be open.
            api = docker.APIClient(version="auto", timeout=DEADLINE_S, num_pools=32, **environment)
            told = api.info()
        except (docker.errors.DockerException, requests.exceptions.RequestException, OSError, ValueError) as exc:
            raise _unreachable(address, exc) from exc
        number = str(told["ServerVersion"])
        if _version(number) < OLDEST:
            api.close()
            raise ConfigurationError(
                f"the Docker Engine at {address} is {number}",
                code=TOO_OLD,
                hint="install Docker Engine 20.10 or later",
            )
        info = EngineInfo(
            version=number,
            api_version=api.api_version,
            os=str(told.get("OperatingSystem", "")),
            architecture=str(told.get("Architecture", "")),
            runtimes=tuple(sorted(told.get("Runtimes") or ())),
            root_dir=str(told.get("DockerRootDir", "")),
            cpus=int(told["NCPU"]),
            is_rootless=any("rootless" in option for option in told.get("SecurityOptions") or ()),
            is_classic_store=not any("containerd" in str(value) for _, value in told.get("DriverStatus") or ()),
        )
        loader = docker.APIClient(version=api.api_version, timeout=LOAD_DEADLINE_S, **environment)
        return cls(api, loader, info)

    def info(self) -> EngineInfo:
        """Return what the Engine said of itself when we connected."""
        return self._info

    def close(self) -> None:
        """Close the connections; the containers live on."""
        self._api.close()
        self._loader.close()

    # Containers

    def create(self, spec: ContainerSpec) -> Container:
        """Create a container, not started yet.

        Raises:
            ConfigurationError: the image is missing (WH-ENG-005) or a value is refused (WH-ENG-004).
        """
        with _translated(f"create container {spec.name}"):
            created = self._api.create_container(
                image=spec.image_id,
                name=spec.name,
                command=list(spec.command) or None,
                entrypoint=list(spec.entrypoint) or None,
                user=spec.user,
                environment=dict(spec.environment),
                labels=spec.labels.as_dict(),
                host_config=self._host_config(spec),
                networking_config=self._networking(spec),
                network_disabled=False,
                stop_signal="SIGTERM",
            )
        return Container(self._api, str(created["Id"]), spec.name)

    def _host_config(self, spec: ContainerSpec) -> Any:
        resources = spec.resources
        mounts = [
            docker.types.Mount(
                mount.target, str(mount.source), type="bind", read_only=mount.read_only, propagation="rprivate"
            )
            for mount in spec.mounts
        ]
        if spec.network is not None and spec.network.resolv_conf is not None:
            mounts.append(
                docker.types.Mount("/etc/resolv.conf", str(spec.network.resolv_conf), type="bind", read_only=True)
            )
        security = ["no-new-privileges"]
        if spec.seal.seccomp:
            security.append(f"seccomp={seccomp_profile()}")
        size = f"{resources.log_mib}m"
        if spec.rotating_log:
            log = docker.types.LogConfig(type="local", config={"max-size": size, "max-file": "2"})
        else:
            log = docker.types.LogConfig(type="json-file", config={"max-size": size, "max-file": "1"})
        return self._api.create_host_config(
            network_mode=spec.network.network_id if spec.network is not None else "none",
            dns=[spec.network.dns] if spec.network is not None and spec.network.dns else None,
            dns_search=["."] if spec.network is not None else None,
            mounts=mounts,
            tmpfs={"/tmp": f"rw,nosuid,nodev,noexec,size={resources.tmp_mib}m,mode=1777"},  # noqa: S108 - the container's
            read_only=spec.seal.read_only,
            cap_drop=["ALL"],
            cap_add=list(spec.seal.capabilities) or None,
            security_opt=security,
            sysctls=dict(spec.seal.sysctls) or None,
            group_add=[str(group) for group in spec.groups] or None,
            mem_limit=resources.memory_mib * 1024 * 1024,
            memswap_limit=resources.memory_mib * 1024 * 1024,
            # The Engine refuses more than there are.
            nano_cpus=round(min(resources.cpus, self._info.cpus) * 1_000_000_000),
            pids_limit=resources.pids,
            ipc_mode="private",
            ulimits=[
                docker.types.Ulimit(name="core", soft=0, hard=0),
                docker.types.Ulimit(name="nofile", soft=1024, hard=1024),
            ],
            init=spec.seal.init,
            runtime=spec.runtime,
            log_config=log,
            restart_policy={"Name": "no"},
        )

    def _networking(self, spec: ContainerSpec) -> Any:
        if spec.network is None:
            return None
        endpoint = self._api.create_endpoint_config(ipv4_address=spec.network.address)
        return self._api.create_networking_config(cast(Any, {spec.network.network_id: endpoint}))

    def container(self, container_id: str) -> Container:
        """Return a handle on a container by its id; nothing is asked of the Engine yet."""
        return Container(self._api, container_id, container_id[:12])

    def containers(self, run_id: str | None = None) -> list[tuple[Container, Labels]]:
        """Return our containers, running or not, with whose they are; of one run if named."""
        with _translated("list containers"):
            found = self._api.containers(all=True, filters={"label": _filter(run_id)})
        ours = []
        for entry in found:
            labels = Labels.from_dict(entry.get("Labels") or {})
            if labels is not None:
                name = (entry.get("Names") or [entry["Id"][:12]])[0].lstrip("/")
                ours.append((Container(self._api, str(entry["Id"]), name), labels))
        return ours

    # Networks

    def create_network(self, spec: NetworkSpec) -> str:
        """Create a bridge and return its id.

        Raises:
            ConflictError: the subnet overlaps another network of the Engine or the name is taken (WH-ENG-008).
        """
        pool = docker.types.IPAMPool(
            subnet=str(spec.subnet), gateway=spec.gateway, iprange=str(spec.range) if spec.range else None
        )
        with _translated(f"create network {spec.name}"):
            created = self._api.create_network(
                spec.name,
                driver="bridge",
                options=dict(spec.options),
                ipam=docker.types.IPAMConfig(pool_configs=[pool]),
                labels=dict(spec.labels),
                internal=spec.internal,
                enable_ipv6=False,
                check_duplicate=True,
            )
        return str(created["Id"])

    def connect_network(self, network_id: str, container: Container) -> None:
        """Give a container that is not started yet a further network, at an address the Engine chooses."""
        with _translated(f"connect {container.name} to a network"):
            self._api.connect_container_to_network(container.id, network_id)

    def networks(self) -> list[Network]:
        """Return every network of the Engine, ours and others'."""
        with _translated("list networks"):
            found = self._api.networks()
        return [
            Network(
                id=str(entry["Id"]),
                name=str(entry["Name"]),
                subnets=_subnets(entry),
                options=dict(entry.get("Options") or {}),
                internal=bool(entry.get("Internal")),
                labels=Labels.from_dict(entry.get("Labels") or {}),
            )
            for entry in found
        ]

    def kept_networks(self, label: str) -> list[Network]:
        """Return the networks that carry ``label`` and belong to no run."""
        with _translated("list networks"):
            ids = {str(entry["Id"]) for entry in self._api.networks(filters={"label": label})}
        return [network for network in self.networks() if network.id in ids]

    def remove_network(self, network_id: str) -> None:
        """Remove a network, cutting off what is still in it; nothing happens if it is gone."""
        with _translated("remove a network"), _tolerated(404):
            try:
                self._api.remove_network(network_id)
            except docker.errors.APIError as exc:
                if exc.status_code != HAS_ENDPOINTS:
                    raise
                for container_id in self._api.inspect_network(network_id).get("Containers") or {}:
                    with _tolerated(404):
                        self._api.disconnect_container_from_network(container_id, network_id, force=True)
                self._api.remove_network(network_id)

    # Images

    def load(self, archive: IO[bytes] | Iterable[bytes]) -> str:
        """Load a docker-archive or OCI tar and return the id of the one image in it.

        Raises:
            ConfigurationError: the Engine does not take it, or it holds more or less than one image (WH-ENG-007).
        """
        told: list[str] = []
        with _translated("load an image"):
            for line in cast(Any, self._loader).load_image(archive):
                if "error" in line:
                    raise _unloadable(str(line["error"]))
                told.append(str(line.get("stream", "")))
        loaded = [text.split(": ", 1)[1].strip() for text in told if text.startswith("Loaded image")]
        ids = {self._image_id(name) for name in loaded}
        if len(ids) != 1:
            raise _unloadable(f"it named {counted(len(ids), 'image')}: {''.join(told).strip()}")
        return ids.pop()

    def save(self, image: str) -> Iterator[bytes]:
        """Yield an image, by id or name, as the tar `load` takes.

        Raises:
            ConfigurationError: the Engine does not have it (WH-ENG-005).
        """
        with _translated(f"save image {image}"):
            yield from cast(Any, self._loader).get_image(image)

    def import_rootfs(self, tar: Iterable[bytes], tag: str, changes: tuple[str, ...], labels: Mapping[str, str]) -> str:
        """Make an image of one layer from a root file system and return its id.

        Args:
            tar: the bytes of an uncompressed tar.
            tag: ``name:tag`` to find it by later.
            changes: Dockerfile lines, such as ``ENTRYPOINT ["x"]``.
            labels: the image's labels.

        Raises:
            ConfigurationError: the Engine does not take it (WH-ENG-007).
        """
        name, _, version = tag.rpartition(":")
        lines = [*changes, *(f'LABEL "{key}"="{value}"' for key, value in labels.items())]
        with _translated("import an image"):
            answer = self._loader.import_image_from_data(cast(Any, tar), repository=name, tag=version, changes=lines)
        if '"error"' in answer:
            raise _unloadable(answer.strip())
        return self._image_id(tag)

    def _image_id(self, name: str) -> str:
        with _translated(f"inspect image {name}"):
            return str(cast(Any, self._api).inspect_image(name)["Id"])

    def image_exists(self, image_id: str) -> bool:
        """Say whether the Engine has the image."""
        with _translated("inspect an image"):
            try:
                cast(Any, self._api).inspect_image(image_id)
            except docker.errors.NotFound:
                return False
        return True

    def image_ids(self, reference: str) -> list[str]:
        """Return the ids of the images with this name or ``name:tag``."""
        with _translated("list images"):
            return sorted({str(entry["Id"]) for entry in self._api.images(name=reference)})

    def labelled_images(self, label: str) -> list[str]:
        """Return the ids of the images that carry ``label``, which is a key or ``key=value``."""
        with _translated("list images"):
            return sorted({str(entry["Id"]) for entry in self._api.images(filters={"label": label})})

    def unused_images(self) -> set[str]:
        """Return the ids of the images no container was made from, running or not."""
        with _translated("list images"):
            used = {str(entry["ImageID"]) for entry in self._api.containers(all=True)}
            return {str(entry["Id"]) for entry in self._api.images()} - used

    def remove_image(self, image_id: str) -> None:
        """Remove an image with its tags; nothing happens if it is gone, and one in use is left.

        Raises:
            ConflictError: a container uses it (WH-ENG-008).
        """
        with _translated(f"remove image {image_id}"), _tolerated(404):
            self._api.remove_image(image_id, force=False)


def _filter(run_id: str | None) -> str:
    return f"{PREFIX}run_id={run_id}" if run_id is not None else f"{PREFIX}run_id"


def _subnets(entry: Mapping[str, Any]) -> tuple[IPv4Network, ...]:
    configured = (entry.get("IPAM") or {}).get("Config") or []
    networks = (ip_network(pool["Subnet"], strict=False) for pool in configured if pool.get("Subnet"))
    return tuple(network for network in networks if isinstance(network, IPv4Network))


def _version(text: str) -> tuple[int, int]:
    major, _, rest = text.partition(".")
    minor = rest.partition(".")[0]
    return (int(major) if major.isdigit() else 0, int(minor) if minor.isdigit() else 0)


@contextmanager
def _tolerated(*statuses: int) -> Iterator[None]:
    try:
        yield
    except docker.errors.APIError as exc:
        if exc.status_code not in statuses:
            raise


@contextmanager
def _translated(doing: str) -> Iterator[None]:
    """Turn the library's errors into ours, saying what was being done."""
    try:
        yield
    except docker.errors.APIError as exc:
        raise _refused(doing, exc) from exc
    except (
        docker.errors.DockerException,
        docker.errors.StreamParseError,
        requests.exceptions.RequestException,
        # The library reads some answers below requests, as they come.
        urllib3.exceptions.HTTPError,
    ) as exc:
        raise TransientError(
            f"the Docker Engine stopped answering while asked to {doing}: {_cause(exc)}",
            code=INTERRUPTED,
            hint="check that the Engine still runs (`docker info`) and try again",
        ) from exc


def _refused(doing: str, exc: docker.errors.APIError) -> WellheadError:
    said = str(exc.explanation or exc)
    status = exc.status_code
    if "overlaps" in said or "already exists" in said or "already in use" in said or status == 409:
        return ConflictError(
            f"the Docker Engine could not {doing}: {said}", code=CONFLICT, hint="`wellhead clean` removes leftovers"
        )
    if status == 404:
        return ConfigurationError(
            f"the Docker Engine could not {doing}: {said}",
            code=MISSING,
            hint="run again: the image is loaded from the store when the Engine lacks it",
        )
    return ConfigurationError(
        f"the Docker Engine could not {doing}: {said}",
        code=REFUSED,
        hint="the Engine's own words say what it did not like; `wellhead doctor` checks its settings",
    )


def _unloadable(said: str) -> ConfigurationError:
    return ConfigurationError(
        f"the Docker Engine did not take the image: {said}",
        code=UNLOADABLE,
        hint="verify the release with `wellhead catalog show`, and that the Engine's disk is not full",
    )


def _dial(address: str) -> None:
    """Try a local socket first: the library leaks it, and hides the reason, where nobody answers."""
    if address.startswith(("unix://", "http+unix://")):
        with socket.socket(socket.AF_UNIX) as tried:
            tried.settimeout(DEADLINE_S)
            tried.connect("/" + address.partition("://")[2].lstrip("/"))


def _unreachable(address: str, exc: BaseException) -> ConfigurationError:
    numbers = {found.errno for found in _chain(exc) if isinstance(found, OSError)}
    if errno.EACCES in numbers or errno.EPERM in numbers:
        return ConfigurationError(
            f"this user may not use the Docker Engine at {address}",
            code=FORBIDDEN,
            hint="add the user to the group `docker` and log in again, or name another Engine in docker.host",
        )
    if isinstance(exc, docker.errors.TLSParameterError):
        return ConfigurationError(
            f"DOCKER_TLS_VERIFY or DOCKER_CERT_PATH asks for TLS, and the Docker Engine at {address} cannot be asked "
            f"so: {exc.msg}",
            code=UNREACHABLE,
            hint="put ca.pem, cert.pem and key.pem into the folder of DOCKER_CERT_PATH (else ~/.docker) and the "
            "Engine's address into DOCKER_HOST; for a local Engine unset both",
        )
    return ConfigurationError(
        f"no Docker Engine answers at {address}: {_cause(exc)}",
        code=UNREACHABLE,
        hint="start it (`systemctl start docker`), or name one in docker.host or DOCKER_HOST",
    )


def _chain(exc: BaseException) -> Iterator[BaseException]:
    """Yield ``exc`` and what lies behind it; urllib3 keeps the cause among its arguments."""
    seen: set[int] = set()
    waiting: list[BaseException] = [exc]
    while waiting:
        found = waiting.pop()
        if id(found) in seen:
            continue
        seen.add(id(found))
        yield found
        behind = (found.__cause__, found.__context__, *found.args, getattr(found, "reason", None))
        waiting.extend(other for other in behind if isinstance(other, BaseException))


def _cause(exc: BaseException) -> str:
    reasons = [found.strerror for found in _chain(exc) if isinstance(found, OSError) and found.strerror]
    return reasons[-1] if reasons else str(exc)


def _is_timeout(exc: BaseException) -> bool:
    return any(isinstance(found, TimeoutError | requests.exceptions.Timeout) for found in _chain(exc)) or (
        "timed out" in str(exc).lower()
    )
