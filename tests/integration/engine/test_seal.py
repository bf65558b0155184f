"""What a program inside a connector's container can and cannot do."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from tests.containers import created, output, program
from wellhead.engine.client import Engine
from wellhead.engine.container import Resources, Seal

pytestmark = [pytest.mark.real, pytest.mark.engines]

PROBE = """
import ctypes, errno, json, os, socket
libc = ctypes.CDLL(None, use_errno=True)

def tried(call):
    try:
        result = call()
    except OSError as exc:
        return errno.errorcode[exc.errno]
    if result == -1:
        return errno.errorcode[ctypes.get_errno()]
    return "done"

def syscall(number, *arguments):
    return lambda: libc.syscall(number, *arguments)

numbers = dict(io_uring_setup=425, unshare=272, mount=165, bpf=321, keyctl=250, userfaultfd=323, ptrace=101,
               perf_event_open=298, setns=308, process_vm_readv=310, kexec_load=246, add_key=248)
if os.uname().machine == "aarch64":
    numbers = dict(io_uring_setup=425, unshare=97, mount=40, bpf=280, keyctl=219, userfaultfd=282, ptrace=117,
                   perf_event_open=241, setns=268, process_vm_readv=270, kexec_load=104, add_key=217)
families = dict(vsock=40, alg=38, packet=17, xdp=44, bluetooth=31, unix=1, inet=2, inet6=10)
status = dict(line.split(":\\t", 1) for line in open("/proc/self/status").read().splitlines() if ":\\t" in line)
print(json.dumps({
    "calls": {name: tried(syscall(number, 0x10000000, 0, 0, 0, 0, 0)) for name, number in numbers.items()},
    "sockets": {name: tried(lambda family=family: socket.socket(family, 2 if family < 40 else 1).close())
                for name, family in families.items()},
    "netlink_route": tried(lambda: socket.socket(16, 3, 0).close()),
    "netlink_netfilter": tried(lambda: socket.socket(16, 3, 12).close()),
    "raw": tried(lambda: socket.socket(2, 3, 1).close()),
    "root": tried(lambda: open("/probe", "w").close()),
    "run": tried(lambda: open("/run/probe", "w").close()),
    "tmp": tried(lambda: open("/tmp/probe", "w").close()),
    "sysctl": tried(lambda: open("/proc/sys/net/ipv4/ip_forward", "w").close()),
    "interfaces": sorted(name for _, name in socket.if_nameindex()),
    "uid": os.getuid(), "gid": os.getgid(), "groups": os.getgroups(),
    "effective": status["CapEff"], "bounding": status["CapBnd"], "nnp": status["NoNewPrivs"],
    "filter": status["Seccomp"],
    "core": __import__("resource").getrlimit(4), "files": __import__("resource").getrlimit(7),
    "docker": os.path.exists("/var/run/docker.sock"),
}))
"""


@pytest.fixture(scope="module")
def seen(engine: Engine, python_image: str) -> dict[str, Any]:
    """What the probe saw, run as a connector is."""
    found: dict[str, Any] = json.loads(output(engine, program(python_image, PROBE)))
    return found


def test_dangerous_system_calls_are_refused(seen: dict[str, Any]) -> None:
    assert seen["calls"] == dict.fromkeys(seen["calls"], "EPERM")


def test_only_sockets_of_the_internet_and_of_unix_can_be_made(seen: dict[str, Any]) -> None:
    assert seen["sockets"] == {
        "vsock": "EPERM",
        "alg": "EPERM",
        "packet": "EPERM",
        "xdp": "EPERM",
        "bluetooth": "EPERM",
        "unix": "done",
        "inet": "done",
        "inet6": "done",
    }
    assert seen["netlink_route"] == "done"
    assert seen["netlink_netfilter"] == "EPERM"
    assert seen["raw"] == "EPERM"


def test_nothing_but_tmp_can_be_written(seen: dict[str, Any]) -> None:
    assert (seen["root"], seen["run"], seen["sysctl"], seen["tmp"]) == ("EROFS", "EROFS", "EROFS", "done")


def test_no_capability_user_or_privilege_is_left(seen: dict[str, Any]) -> None:
    assert (seen["uid"], seen["gid"], seen["groups"]) == (65532, 65532, [65532])
    assert (seen["effective"], seen["bounding"]) == ("0" * 16, "0" * 16)
    assert (seen["nnp"], seen["filter"]) == ("1", "2")
    assert (seen["core"], seen["files"]) == ([0, 0], [1024, 1024])
    assert seen["docker"] is False


def test_without_a_fence_there_is_no_network_but_loopback(seen: dict[str, Any]) -> None:
    assert seen["interfaces"] == ["lo"]


def test_memory_beyond_the_bound_ends_the_container_and_is_told(engine: Engine, python_image: str) -> None:
    spec = program(python_image, "x = []\nwhile True: x.append(bytearray(1 << 20))")
    with created(engine, replace(spec, resources=Resources(memory_mib=64))) as container:
        container.start()
        assert container.wait(30) == 137
        assert container.inspect().oom_killed


def test_processes_beyond_the_bound_cannot_be_started(engine: Engine, python_image: str) -> None:
    text = """
import os, time
made = 0
try:
    while True:
        if os.fork() == 0:
            time.sleep(60)
        made += 1
except BlockingIOError:
    print("made", made < 24)
"""
    spec = replace(program(python_image, text), resources=Resources(pids=24))
    assert output(engine, spec).strip() == "made True"


def test_tmp_takes_no_more_than_its_bound(engine: Engine, python_image: str) -> None:
    text = """
import os
written = 0
try:
    with open("/tmp/full", "wb", buffering=0) as file:
        while True:
            written += file.write(bytes(1 << 20))
except OSError as exc:
    print(exc.errno, written >> 20)
"""
    spec = replace(program(python_image, text), resources=Resources(tmp_mib=8))
    assert output(engine, spec).strip() == "28 8"


def test_a_flood_of_output_is_bounded_on_disk_and_in_our_memory(engine: Engine, python_image: str) -> None:
    text = "import os\nfor _ in range(400): os.write(1, b'x' * 65535 + b'\\n')\nos.write(1, b'last')"
    spec = replace(program(python_image, text), resources=Resources(log_mib=1))
    with created(engine, spec) as container:
        container.start()
        assert container.wait(30) == 0
        assert container.logs(4096).endswith("last")
        assert len(container.logs(1 << 30)) < 3 << 20


def test_a_writable_root_tells_what_was_written(engine: Engine, python_image: str) -> None:
    text = (
        "import os; os.chmod('/data', 0o777) if os.getuid() == 0 else open('/tmp/scratch', 'w')\nopen('/data/s', 'w')"
    )
    spec = replace(program(python_image, text), user="0:0", seal=Seal(read_only=False, capabilities=("DAC_OVERRIDE",)))
    with created(engine, spec) as container:
        container.start()
        container.wait(30)
        assert ("/data/s", "added") in {(change.path, change.kind) for change in container.diff()}
