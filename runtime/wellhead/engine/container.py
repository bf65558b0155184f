"""What a container is started with: plain values, sealed unless a field says otherwise.

The defaults are the seal of a connector: no network, no capabilities, no new privileges, a read-only root, a pinned
list of system calls and a bound on everything that can be filled. A field that loosens it is set by name at one place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

PREFIX = "wellhead."

#: The user every connector runs as; no host has it.
CONNECTOR_UID = 65532

CONNECTOR = "connector"
GATEWAY = "gateway"
SWEEPER = "sweeper"


@dataclass(frozen=True, slots=True)
class Labels:
    """Whose thing it is; on everything the Engine holds for us and beside every folder."""

    run_id: str
    host_id: str
    epoch: int
    connection: str
    role: str

    def as_dict(self) -> dict[str, str]:
        """Return the labels as the Engine stores them."""
        return {
            PREFIX + "run_id": self.run_id,
            PREFIX + "host_id": self.host_id,
            PREFIX + "epoch": str(self.epoch),
            PREFIX + "connection": self.connection,
            PREFIX + "role": self.role,
        }

    @classmethod
    def from_dict(cls, labels: Mapping[str, str]) -> Labels | None:
        """Read what `as_dict` wrote; None if these labels are not ours."""
        try:
            return cls(
                run_id=labels[PREFIX + "run_id"],
                host_id=labels[PREFIX + "host_id"],
                epoch=int(labels[PREFIX + "epoch"]),
                connection=labels[PREFIX + "connection"],
                role=labels[PREFIX + "role"],
            )
        except (KeyError, ValueError):
            return None


@dataclass(frozen=True, slots=True)
class Mount:
    """A folder or file of the host inside the container; never shared onward (rprivate)."""

    source: Path
    target: str
    read_only: bool = True


@dataclass(frozen=True, slots=True)
class Attachment:
    """A place in a fenced network.

    Attributes:
        network_id: the Engine's id of the network.
        address: the container's own address in it.
        dns: the resolver it must ask.
        resolv_conf: a file to stand at /etc/resolv.conf. The Engine's own resolver forwards queries from the host's
            side on some versions (CVE-2024-29018), so the container is not even told about it.
    """

    network_id: str
    address: str
    dns: str
    resolv_conf: Path | None = None


@dataclass(frozen=True, slots=True)
class Resources:
    """Bounds of one container; swap is never added to ``memory_mib``."""

    memory_mib: int = 512
    cpus: float = 1.0
    pids: int = 128
    tmp_mib: int = 64
    log_mib: int = 4


@dataclass(frozen=True, slots=True)
class Seal:
    """How a container is kept in; the defaults are a connector's, and only tests and the gateway differ.

    Attributes:
        read_only: mount the root file system read-only.
        seccomp: use the pinned list of system calls, else the Engine's own.
        capabilities: capabilities left after all were dropped.
        sysctls: kernel settings of the container's own network.
        init: put the Engine's init before the program, to reap what it forks; it cannot signal a program that has
            become another user.
    """

    read_only: bool = True
    seccomp: bool = True
    capabilities: tuple[str, ...] = ()
    sysctls: Mapping[str, str] = field(default_factory=dict)
    init: bool = True


@dataclass(frozen=True, slots=True)
class ContainerSpec:
    """One container to create.

    Attributes:
        name: unique on the Engine.
        image_id: ``sha256:…``; never a tag, which may have moved.
        labels: whose it is.
        user: ``uid:gid`` inside.
        entrypoint: instead of the image's; empty keeps the image's.
        command: arguments; empty keeps the image's.
        environment: never a secret.
        mounts: what of the host it sees.
        network: None for no network at all.
        groups: further group ids, such as the host's own for the socket folder.
        resources: bounds.
        seal: how it is kept in.
        runtime: OCI runtime instead of the Engine's default, such as ``runsc``.
        rotating_log: False where every line must be kept; the program inside then bounds what it writes.
    """

    name: str
    image_id: str
    labels: Labels
    user: str = f"{CONNECTOR_UID}:{CONNECTOR_UID}"
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    mounts: tuple[Mount, ...] = ()
    network: Attachment | None = None
    groups: tuple[int, ...] = ()
    resources: Resources = Resources()
    seal: Seal = Seal()
    runtime: str | None = None
    rotating_log: bool = True


@dataclass(frozen=True, slots=True)
class ContainerState:
    """What the Engine says of a container now; ``image_id`` is the image really started."""

    running: bool
    exit_code: int
    oom_killed: bool
    error: str
    started_at: str
    finished_at: str
    image_id: str
    pid: int


@dataclass(frozen=True, slots=True)
class Change:
    """One path that differs from the image: ``kind`` is ``changed``, ``added`` or ``deleted``."""

    path: str
    kind: str


def seccomp_profile() -> str:
    """Return the pinned list of allowed system calls as the JSON text the Engine takes."""
    return resources.files("wellhead.engine").joinpath("seccomp.json").read_text()
