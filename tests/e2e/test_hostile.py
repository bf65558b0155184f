"""The hostile connector through the command line: every mode ends as its table says, and nothing of it stays.

What the lies are and which of them the conversation itself catches is proved beside the connector; here the whole run
is judged: exit code, what reached Bronze, what the host wrote down, and what is left on the machine.
"""

from __future__ import annotations

import json
import os
import socket
import socketserver
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests import parts
from tests.project import Outcome, Project
from wellhead.engine.client import Engine
from wellhead.engine.container import ContainerSpec, Labels

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

HOSTILE = parts.ROOT / "tests" / "images" / "hostile"
MODES: list[dict[str, Any]] = YAML(typ="safe").load(HOSTILE / "modes.yaml")["modes"]

#: The host may hold this much whatever a connector does.
MEMORY_KIB = 400 * 1024
#: What a run may keep of a connector's words, however many they were.
LOG_BYTES = 32 * 1024 * 1024
#: Short enough for a test, long enough for a busy machine; one attempt, because a second one proves nothing here.
PATIENCE = {"start_s": 8, "silence_s": 8, "total_s": 40, "max_wait_s": 2, "idle_attempts": 1, "attempts": 1}
#: For what would go on for ever.
IMPATIENCE = {"WELLHEAD__RUN__TOTAL_S": "12"}
ENDLESS = ("drip", "without_end", "endless_wait")

CANARY = 'c4nary/"quoted"+and&longer-than-16?'


@pytest.fixture(scope="module")
def arena(workshop: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with one connection a mode, in which the modes run one after the other."""
    return _arena(workshop, tmp_path_factory.mktemp("arena"), [mode["name"] for mode in MODES])


def _arena(workshop: Project, folder: Path, names: list[str]) -> Project:
    arena = workshop.copy(folder)
    arena.configure(run=PATIENCE, secrets={"store": "local"}, files={"roots": [str(folder / "files")]})
    for mode in (mode for mode in MODES if mode["name"] in names):
        _connect(arena, folder / "files", mode)
    return arena


def _connect(arena: Project, files: Path, mode: dict[str, Any]) -> None:
    rest: dict[str, Any] = {"config": {"mode": mode["name"]}}
    if mode.get("at") == "start":
        chosen = files / mode["name"]
        chosen.mkdir(parents=True)
        (chosen / "mode").write_text(mode["name"])
        rest = {"mounts": {"hostile": str(chosen)}}
    if mode.get("secret"):
        rest["secrets"] = {"token": "env://HOSTILE_TOKEN"}
    arena.connect(_name(mode["name"]), "dev/hostile", [mode.get("stream", "records")], **rest)


def _name(mode: str) -> str:
    return mode.replace("_", "-")


def _run(arena: Project, mode: str) -> Outcome:
    endless = IMPATIENCE if mode in ENDLESS or mode.startswith("hangs") else {}
    return arena.run(_name(mode), env={"HOSTILE_TOKEN": CANARY, **endless})


def _left_of(run_id: str) -> list[str]:
    """Return what the Engine still holds of a run."""
    found = []
    for listing in (["ps", "--all"], ["network", "ls"], ["volume", "ls"]):
        asked = ["docker", *listing, "--quiet", "--filter", f"label=wellhead.run_id={run_id}"]
        found += subprocess.run(asked, capture_output=True, text=True, check=True).stdout.split()
    return found


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode["name"] != "escape"], ids=lambda mode: mode["name"])
def test_a_mode_ends_as_its_table_says(arena: Project, mode: dict[str, Any]) -> None:
    outcome = _run(arena, mode["name"])
    said = outcome.document
    assert outcome.exit_code == mode["exit_code"], outcome.stderr
    assert said["exit_code"] == mode["exit_code"]
    assert (outcome.error_code is None) == (mode["exit_code"] == 0)
    assert mode.get("code") in (None, outcome.error_code)
    assert mode.get("rows") in (None, arena.count(_name(mode["name"]), "records"))
    assert outcome.peak_memory_kib is not None
    assert outcome.peak_memory_kib < MEMORY_KIB
    assert _left_of(said["run_id"]) == []


def test_the_host_keeps_a_bounded_part_of_what_a_connector_says(arena: Project) -> None:
    """The two floods say 150 MB."""
    for mode in ("log_flood", "stdout_flood"):
        before = _size(arena.root / ".wellhead")
        assert _run(arena, mode).exit_code == 0
        assert _size(arena.root / ".wellhead") - before < LOG_BYTES


def test_a_name_that_is_a_path_leads_nowhere(arena: Project, tmp_path: Path) -> None:
    before = set(Path("/tmp").iterdir())
    _run(arena, "unit_named_as_a_path")
    assert not [path for path in set(Path("/tmp").iterdir()) - before if "elsewhere" in path.name]


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


# ----- ways out


@dataclass
class Listener:
    """A service on every address of this machine that must hear nothing, TCP and UDP on one port."""

    port: int
    heard: list[str] = field(default_factory=list)


@contextmanager
def _listening() -> Iterator[Listener]:
    with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
        tcp.bind(("0.0.0.0", 0))
        tcp.listen()
        listener = Listener(tcp.getsockname()[1])
        udp.bind(("0.0.0.0", listener.port))
        done = threading.Event()

        def hear(line: socket.socket, what: str) -> None:
            line.settimeout(0.1)
            while not done.is_set():
                try:
                    came = line.accept()[1] if what == "tcp" else line.recvfrom(4096)[1]
                except TimeoutError:
                    continue
                listener.heard.append(f"{what} from {came[0]}")

        threads = [threading.Thread(target=hear, args=pair) for pair in ((tcp, "tcp"), (udp, "udp"))]
        for thread in threads:
            thread.start()
        try:
            yield listener
        finally:
            done.set()
            for thread in threads:
                thread.join()


class _Greeting(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        self.wfile.write(b"welcome\n")


class _Tls(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    context: ssl.SSLContext
    names: list[str]

    def get_request(self) -> tuple[socket.socket, Any]:
        line, peer = super().get_request()
        return self.context.wrap_socket(line, server_side=True, do_handshake_on_connect=False), peer

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A peer that breaks off its handshake is what we are here for."""


@contextmanager
def _opened_host(folder: Path) -> Iterator[_Tls]:
    """Serve TLS on every address, keeping the names asked for."""
    files = parts.certificate(folder, "open.test")
    with _Tls(("0.0.0.0", 0), _Greeting) as server:
        server.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.context.load_cert_chain(files.certificate, files.key)
        server.names = []
        server.context.sni_callback = lambda _line, name, _context: server.names.append(name)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


#: Prints a JSON list of [interface, protocol, source, destination, port] on SIGTERM: whatever IPv4 begins on the host.
#: Of TCP that is a SYN alone; answers to somebody else's SYN say nothing of who may go where.
_SNIFFER = """
import json, signal, socket, struct, sys
line = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800))
line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
seen = set()
def end(*_):
    print(json.dumps(sorted(seen)), flush=True)
    sys.exit()
signal.signal(signal.SIGTERM, end)
print("ready", flush=True)
while True:
    packet, place = line.recvfrom(65535)
    if len(packet) < 28:
        continue
    head = (packet[0] & 15) * 4
    if packet[9] == 6 and packet[head + 13] & 0x12 != 0x02:
        continue
    port = struct.unpack(">H", packet[head + 2 : head + 4])[0] if packet[9] in (6, 17) else 0
    source, destination = socket.inet_ntoa(packet[12:16]), socket.inet_ntoa(packet[16:20])
    seen.add((place[0], packet[9], source, destination, port))
"""


@contextmanager
def _sniffing(engine: Engine, image: str) -> Iterator[list[tuple[str, int, str, str, int]]]:
    """Collect every packet of the machine's own network; the list is filled when the block ends."""
    labels = Labels("sniffer", "test-host", 0, "test", "sniffer")
    spec = ContainerSpec(name=f"wh-test-sniffer-{os.getpid()}", image_id=image, labels=labels)
    arguments = ["--network", "host", "--cap-drop", "ALL", "--cap-add", "NET_RAW", "--user", "0", "--name", spec.name]
    seen: list[tuple[str, int, str, str, int]] = []
    subprocess.run(["docker", "run", "--detach", *arguments, image, _SNIFFER], check=True, capture_output=True)
    try:
        parts.wait_until(lambda: "ready" in _said(spec.name), what="the sniffer listens")
        yield seen
        subprocess.run(["docker", "stop", spec.name], check=True, capture_output=True)
        seen += [tuple(packet) for packet in json.loads(_said(spec.name).splitlines()[-1])]
    finally:
        subprocess.run(["docker", "rm", "--force", spec.name], check=True, capture_output=True)


def _said(container: str) -> str:
    return subprocess.run(["docker", "logs", container], check=True, capture_output=True, text=True).stdout


def _addresses_of_this_machine() -> list[str]:
    """Return the addresses a container might find its host under."""
    listed = subprocess.run(["ip", "-json", "-4", "address"], check=True, capture_output=True, text=True).stdout
    found = [entry["local"] for link in json.loads(listed) for entry in link["addr_info"]]
    return list(dict.fromkeys([*found, "172.31.255.1"]))


def test_no_way_out_is_open_but_the_one_that_was_opened(
    workshop: Project, tmp_path: Path, engine: Engine, python_image: str
) -> None:
    project = workshop.copy(tmp_path)
    with _listening() as listener, _opened_host(tmp_path) as server, _sniffing(engine, python_image) as packets:
        port = server.server_address[1]
        project.configure(
            run={**PATIENCE, "total_s": 100, "silence_s": 60},
            network={
                "hosts": {"open.test": "172.31.255.1"},
                "grants": [{"connection": "escape", "cidr": "172.31.255.1/32", "ports": [port]}],
            },
        )
        places = [f"{address}:{listener.port}" for address in _addresses_of_this_machine()]
        config = {"mode": "escape", "host": "open.test", "port": port, "addresses": [*places, f"172.31.255.1:{port}"]}
        project.connect("escape", "dev/hostile", ["attempts"], config=config)
        project.must("connection", "approve", "escape", f"open.test:{port}")
        outcome = project.run("escape")
    assert outcome.exit_code == 0, outcome.stderr
    attempts = project.rows("escape", "attempts", "name, target, outcome, detail")
    assert len(attempts) > 150
    assert [attempt for attempt in attempts if attempt[2] in ("got_out", "untested")] == []
    # The control: an attempt that may succeed does, so the others failed for a reason.
    assert [attempt[0] for attempt in attempts if attempt[2] == "allowed"] == ["the opened host"]
    assert server.names == ["open.test"]
    assert listener.heard == []
    # Another run's gateway has another address on the bridge they share.
    gateways = {packet[2] for packet in packets if packet[3:] == ("172.31.255.1", port)}
    assert len(gateways) == 1
    assert {packet[3:] for packet in packets if packet[2] in gateways} == {("172.31.255.1", port)}
    assert outcome.document["egress"]["allowed"] == 1
    assert outcome.document["egress"]["denied"] > 0
    assert _left_of(outcome.document["run_id"]) == []


def test_without_an_opened_host_there_is_no_network_at_all(project: Project) -> None:
    project.configure(run={**PATIENCE, "total_s": 100, "silence_s": 60})
    with _listening() as listener:
        places = [f"{address}:{listener.port}" for address in _addresses_of_this_machine()]
        project.connect("escape", "dev/hostile", ["attempts"], config={"mode": "escape", "addresses": places})
        outcome = project.run("escape")
    assert outcome.exit_code == 0, outcome.stderr
    attempts = project.rows("escape", "attempts", "name, target, outcome, detail")
    assert [attempt for attempt in attempts if attempt[2] not in ("refused", "unanswered")] == []
    assert listener.heard == []
