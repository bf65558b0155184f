"""The fence of one run, seen from the host: its network, its gateway, and the record of what went through.

    198.18.N.0/24   internal bridge of the run, without an address of the host's
      .2            gateway: DNS server, and the other end of every connection
      .3            connector
      .128/25       addresses that stand for names; nobody has them

    wellhead-out    one bridge a host: where gateways go out, each alone

A fence stands before the connector starts and falls after it ended. Whatever fails closes: without a gateway that says
it is ready there is no fence, and when the gateway ends, every connection ends with it.
"""

from __future__ import annotations

import hashlib
import io
import json
import secrets
import shutil
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib import resources
from ipaddress import AddressValueError, IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

from wellhead.egress.address import Address
from wellhead.egress.kernel import Configuration
from wellhead.egress.policy import Grant, Policy, Rule
from wellhead.engine import folders
from wellhead.engine.client import ConflictError, Container, Engine, Network, NetworkSpec
from wellhead.engine.container import GATEWAY, Attachment, ContainerSpec, Labels, Mount, Resources, Seal
from wellhead.engine.reaper import KEPT
from wellhead.errors import Code, ConfigurationError, TransientError, WellheadError, counted
from wellhead.manifest.egress import EgressEntry

NOT_READY = Code("WH-EGR-001", "The egress gateway did not come up.")
NO_SLOT = Code("WH-EGR-002", "No network is free for a run.")
OUTBOUND_TAKEN = Code("WH-EGR-003", "The outbound network cannot be made or is not as the settings say.")
TOO_MANY_HOSTS = Code("WH-EGR-004", "A policy names more hosts than one gateway can serve.")
GATEWAY_ENDED = Code("WH-EGR-005", "The egress gateway ended during the run.")
AUDIT_FULL = Code("WH-EGR-006", "The egress record reached its bound, and the gateway closed.")

OUTBOUND = "wellhead-out"
SLOT_PREFIX = 24
#: 128 addresses of the pool, less the first and the last, less those kept for the children of wildcards.
MAX_HOSTS = 110
AUDIT_MAX_BYTES = 4 * 1024 * 1024
#: The Engine wraps each line in JSON of its own; a log that rotated would lose lines.
LOG_MIB = 16
READY_S = 20.0
STOP_S = 5.0
#: Slots to try before giving up: each failure means that another run took one between our look and our wish.
TRIES = 8
#: All tries together outlast another process that is making the outbound network.
BETWEEN_S = 0.25
#: A VPN that takes all traffic covers the default route by two of /1, or by more that are as wide; no network of a site
#: is wider than 10.0.0.0/8.
WIDEST_ROUTE = 8

_FILES = (
    "address.py",
    "audit.py",
    "dns.py",
    "gateway.py",
    "kernel.py",
    "names.py",
    "policy.py",
    "resolver.py",
    "splice.py",
    "tls.py",
)
_HOME = "opt/wellhead"
_CONFIGURATION = "/etc/wellhead/gateway.json"
#: -S: no site packages to look through, which is a third of the start.
_ENTRYPOINT = ["python3", "-s", "-S", "-P", "-m", "wellhead.egress.gateway", _CONFIGURATION]
_BRIDGE = "com.docker.network.bridge."


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """One line of a gateway's record.

    Attributes:
        at: when it was written: for a connection, its end.
        kind: ``connect``, or ``name`` for a name that was not answered.
        host: the name, as the policy has it or, where denied, as it was asked for.
        port: None for a name.
        address: what the name resolved to, as far as it got.
        allowed: the verdict.
        reason: its word; for an allowed connection how it ended.
        bytes_out: from the connector.
        bytes_in: to the connector.
        duration_ms: from accept to end.
    """

    at: datetime
    kind: str
    host: str
    port: int | None
    address: str | None
    allowed: bool
    reason: str
    bytes_out: int = 0
    bytes_in: int = 0
    duration_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class FenceSettings:
    """The host's side of every fence; see `settings.NetworkSettings`.

    Attributes:
        slots: where one /24 a run comes from.
        outbound_subnet: of the outbound bridge.
        resolver: the DNS server gateways ask; None for the host's own.
        outbound: the outbound bridge's name; another one in tests alone.
    """

    slots: IPv4Network
    outbound_subnet: IPv4Network
    resolver: IPv4Address | None = None
    outbound: str = OUTBOUND


# The policy of a connection


def policy_of(
    entries: Iterable[EgressEntry],
    approved: Iterable[tuple[str, int]] = (),
    hosts: dict[str, Address] | None = None,
    grants: Iterable[Grant] = (),
) -> Policy:
    """Return what one connection may reach.

    Args:
        entries: the manifest's, rendered with the connection's config.
        approved: host and port of each ``open: operator`` entry that an operator approved.
        hosts: the operator's own names.
        grants: the private ranges the operator opened for this connection.
    """
    opened = {(host.lower().removesuffix("."), port) for host, port in approved}
    rules = tuple(
        Rule(
            host=entry.host,
            port=entry.port,
            # Others start in the clear and change to TLS later, as PostgreSQL does: there is no SNI to read.
            tls=entry.tls == "required" and entry.protocol in ("https", "tls"),
            private=entry.private,
            approved=entry.open == "manifest" or (entry.host, entry.port) in opened,
        )
        for entry in entries
    )
    return Policy(rules, {name.lower(): found for name, found in (hosts or {}).items()}, tuple(grants))


# The gateway's image


def gateway_context() -> dict[str, bytes]:
    """Return the files of the gateway's program by their path in the image; the host's own files, unchanged."""
    here = resources.files("wellhead.egress")
    files = {f"{_HOME}/wellhead/egress/{name}": here.joinpath(name).read_bytes() for name in _FILES}
    return {f"{_HOME}/wellhead/__init__.py": b"", f"{_HOME}/wellhead/egress/__init__.py": b"", **files}


def gateway_image(engine: Engine, rootfs: Path) -> str:
    """Return the id of the gateway's image, making it if the Engine lacks it.

    It is named by what it is made of, so a new program or a new base makes a new image.

    Args:
        engine: where.
        rootfs: tar of a root file system with Python, nftables and iproute2.
    """
    files = gateway_context()
    found = rootfs.stat()
    made_of: list[object] = [_ENTRYPOINT, rootfs.name, found.st_size, found.st_mtime_ns]
    made_of += [(path, hashlib.sha256(content).hexdigest()) for path, content in sorted(files.items())]
    tag = f"wellhead-gateway:{hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:16]}"
    ids = engine.image_ids(tag)
    if ids:
        return ids[0]
    changes = (f"ENTRYPOINT {json.dumps(_ENTRYPOINT)}", f"ENV PYTHONPATH=/{_HOME} PYTHONUNBUFFERED=1")
    with tempfile.TemporaryFile() as whole:
        with rootfs.open("rb") as base:
            shutil.copyfileobj(base, whole, 1 << 20)
        whole.seek(0)
        with tarfile.open(fileobj=whole, mode="a") as tar:
            for path, content in sorted(files.items()):
                member = tarfile.TarInfo(path)
                member.size = len(content)
                member.mode = 0o644
                tar.addfile(member, io.BytesIO(content))
        whole.seek(0)
        return engine.import_rootfs(iter(lambda: whole.read(1 << 20), b""), tag, changes, {KEPT: "gateway"})


# Networks


def ensure_outbound(engine: Engine, settings: FenceSettings) -> str:
    """Return the id of the outbound bridge, making it if there is none.

    Raises:
        ConfigurationError: its subnet is in use, or a network of that name is another than ours (WH-EGR-003).
    """
    busy: IPv4Network | None = None
    for attempt in range(TRIES):
        if attempt:
            time.sleep(BETWEEN_S)
        networks = engine.networks()
        existing = next((network for network in networks if network.name == settings.outbound), None)
        if existing is not None:
            is_ours = existing.subnets == (settings.outbound_subnet,) and not existing.internal
            if is_ours and existing.options.get(f"{_BRIDGE}enable_icc") == "false":
                return existing.id
            raise ConfigurationError(
                f"the network {settings.outbound} is not as network.outbound_subnet "
                f"{settings.outbound_subnet} wants it",
                code=OUTBOUND_TAKEN,
                hint="remove it with `wellhead clean` while nothing runs; the next run makes it anew",
            )
        foreign = next((used for used in _subnets(networks) if used.overlaps(settings.outbound_subnet)), None)
        if foreign is not None:
            raise _overlapped(settings, foreign)
        busy = next((used for used in _routes() if used.overlaps(settings.outbound_subnet)), None)
        if busy is not None:
            # Another process may be making it: its bridge has a route before the Engine lists the network.
            continue
        spec = NetworkSpec(
            name=settings.outbound,
            subnet=settings.outbound_subnet,
            gateway=str(settings.outbound_subnet[1]),
            options={
                # Gateways of different runs must not see each other.
                f"{_BRIDGE}enable_icc": "false",
                f"{_BRIDGE}name": settings.outbound,
            },
            labels={KEPT: "network"},
        )
        try:
            return engine.create_network(spec)
        except ConflictError:
            continue  # another process made it meanwhile, or is at it
    if busy is not None:
        raise _overlapped(settings, busy)
    raise ConfigurationError(
        f"the network {settings.outbound} could not be made",
        code=OUTBOUND_TAKEN,
        hint="look at `docker network ls` for what stands in its way",
    )


def _overlapped(settings: FenceSettings, used: IPv4Network) -> ConfigurationError:
    return ConfigurationError(
        f"network.outbound_subnet {settings.outbound_subnet} overlaps {used}, which this host already uses",
        code=OUTBOUND_TAKEN,
        hint="choose a free private range for network.outbound_subnet in wellhead.yaml",
    )


@contextmanager
def _slot(engine: Engine, settings: FenceSettings, labels: Labels, name: str) -> Iterator[tuple[str, IPv4Network]]:
    """Lend a network of the run's own: its id and subnet."""
    network_id, subnet = _take_slot(engine, settings, labels, name)
    try:
        yield network_id, subnet
    finally:
        engine.remove_network(network_id)


def _take_slot(engine: Engine, settings: FenceSettings, labels: Labels, name: str) -> tuple[str, IPv4Network]:
    if settings.slots.prefixlen > SLOT_PREFIX:
        raise ConfigurationError(
            f"network.slots {settings.slots} holds no /{SLOT_PREFIX}",
            code=NO_SLOT,
            hint="give network.slots a prefix of 24 or less; 198.18.0.0/15 holds 512 runs",
        )
    for _ in range(TRIES):
        used = _used(engine)
        free = [
            subnet
            for subnet in settings.slots.subnets(new_prefix=SLOT_PREFIX)
            if not any(subnet.overlaps(other) for other in used)
        ]
        if not free:
            break
        # By chance: two hosts' processes that start at once would else always wish for the same.
        subnet = secrets.choice(free)
        spec = NetworkSpec(
            name=name,
            subnet=subnet,
            gateway=str(subnet[1]),
            options={
                # Without these the bridge is the host's own address, and the host's services are reachable on it.
                f"{_BRIDGE}inhibit_ipv4": "true",
                f"{_BRIDGE}gateway_mode_ipv4": "isolated",
            },
            labels=labels.as_dict(),
            internal=True,
            range=next(subnet.subnets(new_prefix=26)),
        )
        try:
            return engine.create_network(spec), subnet
        except ConflictError:
            continue
    raise TransientError(
        f"no /{SLOT_PREFIX} of {settings.slots} is free",
        code=NO_SLOT,
        hint="`wellhead clean` removes what dead runs left; give network.slots another range where a route of this "
        "host covers it",
    )


def _used(engine: Engine) -> list[IPv4Network]:
    """Return the subnets of the Engine's networks and of this host's routes."""
    return _subnets(engine.networks()) + _routes()


def _subnets(networks: Iterable[Network]) -> list[IPv4Network]:
    return [subnet for network in networks for subnet in network.subnets]


def _routes(table: Path = Path("/proc/net/route")) -> list[IPv4Network]:
    """Return where this host's routes lead, without those that stand for the whole Internet."""
    routes = []
    for line in table.read_text().splitlines()[1:]:
        fields = line.split()
        destination, mask = (int.from_bytes(bytes.fromhex(fields[index]), "little") for index in (1, 7))
        if mask.bit_count() >= WIDEST_ROUTE:
            routes.append(IPv4Network((destination, mask.bit_count()), strict=False))
    return routes


def host_resolver(files: Iterable[Path] | None = None) -> IPv4Address:
    """Return the DNS server this host asks, as far as a container can reach it.

    A stub on loopback, such as systemd's, names its servers in a file of its own. Where nothing else is known it is the
    Engine's resolver in the gateway, which asks from the host's side.
    """
    for file in files or (Path("/etc/resolv.conf"), Path("/run/systemd/resolve/resolv.conf")):
        try:
            lines = file.read_text().splitlines()
        except OSError:
            continue
        for words in (line.split() for line in lines):
            if len(words) > 1 and words[0] == "nameserver":
                try:
                    server = IPv4Address(words[1])
                except AddressValueError:
                    continue
                if not server.is_loopback:
                    return server
    return IPv4Address("127.0.0.11")


# The fence


class Fence:
    """A run's fence while it stands; the record stays readable afterwards."""

    def __init__(self, attachment: Attachment, container: Container, watch: _Follower) -> None:
        self.attachment = attachment
        self.dns = attachment.dns
        self.resolv_conf = attachment.resolv_conf
        self.gateway_id = container.id
        self._watch = watch

    def audit(self) -> tuple[AuditRecord, ...]:
        """Return the record so far; a connection is in it when it is over. Asks the Engine nothing."""
        return tuple(self._watch.records)

    def close(self) -> tuple[AuditRecord, ...]:
        """End every connection and return the whole record; leaving the fence does the same. Safe to call twice.

        Raises:
            WellheadError: the Engine does not end the gateway; `audit` has what it had written by then.
        """
        self._watch.close()
        return self.audit()

    @property
    def is_complete(self) -> bool:
        """Say whether the gateway has written its last line, so that nothing is missing from the record."""
        return self._watch.last is not None

    @property
    def unrecorded_names(self) -> int:
        """Return how many further names were denied after the bound of recorded ones; known once it has fallen."""
        return int((self._watch.last or {}).get("unrecorded_names", 0))

    def problem(self) -> WellheadError | None:
        """Return why the gateway ended before it was told to, or None; then every connection has ended as well.

        While the fence stands the Engine is asked, too. Once it has fallen, also why the record may not be whole.

        Raises:
            WellheadError: the Engine does not say whether the gateway runs.
        """
        return self._watch.find_problem()


class Fencer:
    """Puts up fences on one Engine.

    Args:
        engine: where.
        image: returns the gateway's image id; asked at the first fence.
        settings: the host's.
        root: where the files of a fence are written; default by `folders.default_root`.
    """

    def __init__(
        self,
        engine: Engine,
        image: Callable[[], str],
        settings: FenceSettings,
        root: Path | None = None,
    ) -> None:
        self._engine = engine
        self._image = image
        self._settings = settings
        self._root = root if root is not None else folders.default_root()

    @contextmanager
    def fence(self, labels: Labels, policy: Policy, meanwhile: Callable[[], None] = lambda: None) -> Iterator[Fence]:
        """Put up a fence and lend it until the block ends; a policy that opens nothing needs none.

        Args:
            labels: whose run it is; the role is set here.
            policy: what it may reach.
            meanwhile: done while the gateway starts.

        Raises:
            ConfigurationError: too many hosts (WH-EGR-004), the outbound network (WH-EGR-003), or the gateway did not
                come up, with its last lines (WH-EGR-001).
            TransientError: no slot is free (WH-EGR-002).
        """
        labels = replace(labels, role=GATEWAY)
        exact = {rule.host for rule in policy.rules if rule.approved and not rule.is_wildcard}
        if len(exact) > MAX_HOSTS:
            raise ConfigurationError(
                f"the policy names {counted(len(exact), 'host')}, and a gateway serves {MAX_HOSTS}",
                code=TOO_MANY_HOSTS,
                hint="name a wildcard where hosts share a parent, or split the connection",
            )
        name = f"wh-{labels.run_id}-{secrets.token_hex(3)}"
        folders.prepare_root(self._root)
        with ExitStack() as standing:
            # First of all: it tells `clean` that somebody needs the image and the outbound network.
            folder = standing.enter_context(folders.file_folder(self._root, labels))
            image_id = self._image()
            outbound = ensure_outbound(self._engine, self._settings)
            network_id, subnet = standing.enter_context(_slot(self._engine, self._settings, labels, name))
            resolv_conf = folder.path / "resolv.conf"
            # No search domains, and never a second try with one: a name means itself.
            resolv_conf.write_text(f"nameserver {subnet[2]}\noptions ndots:0 timeout:3 attempts:2\n")
            configuration = Configuration(
                slot=subnet,
                address=subnet[2],
                pool=IPv4Network((subnet[128], 25)),
                resolver=self._settings.resolver or host_resolver(),
                audit_max_bytes=AUDIT_MAX_BYTES,
                policy=policy,
            )
            policy_file = folder.path / "gateway.json"
            policy_file.write_text(configuration.to_json())
            policy_file.chmod(0o644)
            resolv_conf.chmod(0o644)
            container = self._engine.create(_spec(f"{name}-gw", image_id, labels, network_id, subnet, policy_file))
            standing.callback(container.remove)
            self._engine.connect_network(outbound, container)
            container.start(meanwhile)
            watch = standing.enter_context(_Follower(container))
            watch.await_ready()
            yield Fence(Attachment(network_id, str(subnet[3]), str(subnet[2]), resolv_conf), container, watch)


def _spec(
    name: str, image_id: str, labels: Labels, network_id: str, subnet: IPv4Network, policy_file: Path
) -> ContainerSpec:
    sysctls = {"net.ipv4.ip_forward": "0", "net.ipv4.ip_unprivileged_port_start": "0"}
    if Path("/proc/sys/net/ipv6").exists():
        sysctls |= {"net.ipv6.conf.all.disable_ipv6": "1", "net.ipv6.conf.default.disable_ipv6": "1"}
    return ContainerSpec(
        name=name,
        image_id=image_id,
        labels=labels,
        user="0:0",
        mounts=(Mount(policy_file, _CONFIGURATION),),
        network=Attachment(network_id, str(subnet[2]), dns=""),
        resources=Resources(memory_mib=128, cpus=2.0, pids=32, tmp_mib=1, log_mib=LOG_MIB),
        # Root until the rules are loaded, then a user with nothing; nft speaks a netlink protocol connectors may not.
        seal=Seal(seccomp=False, capabilities=("NET_ADMIN", "SETUID", "SETGID"), sysctls=sysctls, init=False),
        rotating_log=False,
    )


class _Follower:
    """A thread that reads a gateway's lines as they are written, and notices its end."""

    def __init__(self, container: Container) -> None:
        self.records: list[AuditRecord] = []
        self.last: dict[str, Any] | None = None
        self.problem: WellheadError | None = None
        self._container = container
        self._ready = threading.Event()
        self._is_ready = False
        self._is_stopping = False
        self._taken = 0
        self._thread = threading.Thread(target=self._run, name=f"audit-{container.name}", daemon=True)

    def __enter__(self) -> _Follower:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._is_stopping = True
        try:
            self._container.stop(STOP_S)
        finally:
            # The stream ends with the container; a bound all the same, since the Engine may hang.
            self._thread.join(STOP_S)
            if self.problem is None and (self.last is None or self.last["reason"] != "stopped"):
                self.problem = self._why_it_ended()

    def find_problem(self) -> WellheadError | None:
        """Return why the gateway has ended, also where its lines do not tell yet."""
        if self.problem is None and not self._is_stopping:
            # Behind its last line it serves nobody, though it may take a moment to go.
            if self.last is None and self._runs():
                return None
            # Its last line, which may tell why, can still be on its way.
            self._thread.join(STOP_S)
            self._note_end()
        return self.problem

    def _note_end(self) -> None:
        if self.problem is None:
            self.problem = self._why_it_ended()

    def await_ready(self) -> None:
        """Return once the gateway serves.

        Raises:
            ConfigurationError: it ended or said nothing (WH-EGR-001).
        """
        self._ready.wait(READY_S)
        if not self._is_ready:
            said = self._container.logs(2048).strip() or "it wrote nothing"
            raise ConfigurationError(
                f"the egress gateway did not come up; without it nothing may run. Its last lines:\n{said}",
                code=NOT_READY,
                hint="the kernel needs nf_tables with nat (`modprobe nft_redir`); `wellhead doctor` checks it",
            )

    def _run(self) -> None:
        try:
            while self._breaks_off():
                time.sleep(BETWEEN_S)
        except WellheadError as exc:
            # What breaks while the gateway is stopped, or behind its last line, says nothing about its life.
            if self.last is None and not self._is_stopping:
                self.problem = exc
        finally:
            if not self._is_stopping:
                self._note_end()
            self._ready.set()

    def _breaks_off(self) -> bool:
        """Take the lines that are new, as long as there are any; say whether the gateway runs on without its log."""
        try:
            for number, line in enumerate(self._container.follow()):
                if number >= self._taken:
                    self._take(line)
                    self._taken += 1
        except WellheadError as exc:
            if self.last is not None or self._is_stopping:
                raise
            try:
                is_running = self._runs()
            except TransientError:
                # An Engine that is away says nothing of the gateway: it is asked again.
                return True
            if not is_running:
                raise self._why_it_ended() from exc
            return True
        return self.last is None and not self._is_stopping and self._runs()

    def _runs(self) -> bool:
        try:
            return self._container.inspect().running
        except ConfigurationError:
            # Somebody removed it.
            return False

    def _take(self, line: bytes) -> None:
        fields = json.loads(line)
        match fields["kind"]:
            case "ready":
                self._is_ready = True
                self._ready.set()
            case "end":
                self.last = fields
            case kind:
                self.records.append(_record(kind, fields))

    def _why_it_ended(self) -> WellheadError:
        if self.last is not None and self.last["reason"] == "audit_full":
            return ConfigurationError(
                f"the egress record of this run passed {AUDIT_MAX_BYTES} bytes, and the gateway closed",
                code=AUDIT_FULL,
                hint="a connector that opens so many connections is broken or hostile; see `wellhead runs show`",
            )
        how = "ended during the run; every connection ended with it"
        if self._is_stopping:
            how = "was ended before it had written its record to the end; connections may be missing from it"
        return TransientError(
            f"the egress gateway {how}",
            code=GATEWAY_ENDED,
            hint="try again; if it ends again, look at the Engine's log",
        )


def _record(kind: str, fields: dict[str, Any]) -> AuditRecord:
    return AuditRecord(
        at=datetime.fromtimestamp(fields["at"], UTC),
        kind=kind,
        host=fields["host"],
        port=fields.get("port"),
        address=fields.get("address"),
        allowed=fields["verdict"] == "allow",
        reason=fields["reason"],
        bytes_out=fields.get("bytes_out", 0),
        bytes_in=fields.get("bytes_in", 0),
        duration_ms=fields.get("duration_ms", 0.0),
    )
