"""The runner and the fence used by a plain user in the Engine's group; a program of its own, since it gives up root.

Arguments: the Engine's address, an image that runs Python texts, the gateway's image, and a folder for run folders.
Prints one JSON document.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from ipaddress import IPv4Network, ip_address, ip_network
from pathlib import Path
from typing import Any

# Everything that is imported late is imported now: the interpreter may stand where a plain user may not look.
import encodings.idna  # noqa: F401  isort: skip
import http.client  # noqa: F401  isort: skip

from tests.containers import labels
from wellhead.egress.network import Fencer, FenceSettings
from wellhead.egress.policy import Grant, Policy, Rule
from wellhead.engine import folders
from wellhead.engine.client import Engine
from wellhead.errors import RefusedError
from wellhead.runners.docker import DockerRunner, Launch

#: Who is plain already stays who he is.
UID = os.geteuid() or 64321

SERVES = """
import os, socket, signal, sys
os.umask(0o007)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
listener = socket.socket(socket.AF_UNIX)
listener.bind("/run/wellhead/c.sock")
listener.listen()
client, _ = listener.accept()
client.sendall(b"hello")
"""
PLANTS = """
import os, time
os.mkdir("/run/wellhead/mine", 0o700)
os.makedirs("/run/wellhead/mine/deep/er")
open("/run/wellhead/mine/deep/er/file", "w").close()
os.chmod("/run/wellhead/mine/deep", 0)
os.symlink("/etc", "/run/wellhead/mine/link")
os.mkdir("/run/wellhead/mine/pit")
os.chdir("/run/wellhead/mine/pit")
for _ in range(3000):
    os.mkdir("a" * 50)
    os.chdir("a" * 50)
time.sleep(60)
"""
ECHOES = """
import os, signal, socket, sys
os.umask(0o007)
listener = socket.socket(socket.AF_UNIX)
listener.bind("/run/wellhead/c.sock")
listener.listen()
client, _ = listener.accept()
try: socket.gethostbyname("evil.test")
except OSError: pass
client.sendall(socket.gethostbyname("api.good.test").encode())
"""


def become_plain(engine_address: str) -> None:
    """Keep nothing of root but the Engine's group."""
    group = os.stat(engine_address.removeprefix("unix://")).st_gid
    os.setgroups([group])
    os.setresgid(UID, UID, UID)
    os.setresuid(UID, UID, UID)


def say_hello(path: Path) -> str:
    with socket.socket(socket.AF_UNIX) as dialling:
        dialling.settimeout(20)
        dialling.connect(str(path))
        return dialling.recv(100).decode()


def main() -> dict[str, Any]:
    address, image_id, gateway_id, root = sys.argv[1:]
    if os.geteuid() == 0:
        become_plain(address)
    engine = Engine.connect(address)
    runner = DockerRunner(engine, "plain-host", Path(root))

    def launch(text: str, **changes: Any) -> Launch:
        mine = labels()
        return Launch(image_id, mine.run_id, 1, mine.connection, command=(text,), **changes)

    told: dict[str, Any] = {"uid": os.geteuid()}
    with runner.launch(launch(SERVES)) as started:
        told["hello"] = say_hello(started.socket_path)
        told["folder"] = oct(started.socket_path.parent.stat().st_mode & 0o7777)
    try:
        with runner.launch(launch(PLANTS)):
            pass
    except RefusedError as exc:
        told["planted"] = exc.code.name
    settings = FenceSettings(IPv4Network("198.19.64.0/18"), IPv4Network("172.31.253.0/24"), outbound="wh-test-plain")
    policy = Policy(
        (Rule("api.good.test", 80, private=True),),
        {"api.good.test": ip_address("172.31.253.1")},
        (Grant(ip_network("172.31.253.1/32"), (80,)),),
    )
    with Fencer(engine, lambda: gateway_id, settings, Path(root)).fence(labels(), policy) as fence:
        with runner.launch(launch(ECHOES, network=fence.attachment)) as started:
            told["resolved"] = say_hello(started.socket_path)
        told["denied"] = [record.host for record in fence.close() if not record.allowed]
    for network in engine.networks():
        if network.name == settings.outbound:
            engine.remove_network(network.id)
    told["left"] = sorted(found.name for found in Path(root).iterdir())
    told["cards"] = len(folders.existing(Path(root)))
    engine.close()
    return told


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main()) + "\n")
