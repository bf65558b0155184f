"""Every mistake a newcomer can make, made: each answers with its code, its cause and its mend, and never a traceback.

A mistake changes one thing of a project that runs; the control is that it does run.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.lender import HOST, OUTSIDE, Lender
from tests.parts import free_port, openbao_server
from tests.project import CONNECTORS, WELLHEAD, Outcome, Project

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

#: One attempt says as much as three.
IMPATIENT = {"WELLHEAD__RUN__IDLE_ATTEMPTS": "1", "WELLHEAD__RUN__START_S": "20"}


@pytest.fixture(scope="module")
def good(shipped: Project, lender: Lender, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project that runs; not to be changed, only copied."""
    project = shipped.copy(tmp_path_factory.mktemp("good"))
    lender.create("newcomer", "create table orders (id int primary key, name text); insert into orders values (1, 'a')")
    lender.postgres.psql("create role lapsed_reader login password 'long-enough' valid until '2020-01-01'")
    lender.openbao.request(
        "POST", "secret/data/expired", {"data": {"username": "lapsed_reader", "password": "long-enough"}}
    )
    lender.openbao.request("POST", "secret/data/wrong", {"data": {"username": "postgres", "password": "not-the-one"}})
    lender.introduce(project, "orders", "wrong", "expired")
    lender.connect(project, "orders", "newcomer", ["public.orders"], max_retries=0)
    for name in ("wrong", "expired"):
        secrets = {slot: f"vault://secret/{name}#{slot}" for slot in ("username", "password")}
        lender.connect(project, name, "newcomer", ["public.orders"], secrets=secrets)
    return project


@pytest.fixture
def project(good: Project, shipped: Project, tmp_path: Path) -> Project:
    """A copy of one's own to make a mistake in."""
    twin = good.copy(tmp_path)
    twin.configure(vault={"token_file": str(twin.root / "host-token")})
    twin.configure(store={"path": str(shipped.root / ".wellhead" / "store")})
    return twin


def _edit(project: Project, **changes: Any) -> None:
    """Change the connection's file; a dict changes what it names and leaves the rest."""
    file = project.root / "connections" / "orders.yaml"
    document = json.loads(file.read_text())
    for name, value in changes.items():
        document[name] = {**document[name], **value} if isinstance(value, dict) and name in document else value
    file.write_text(json.dumps(document))


def _assert_told(outcome: Outcome, exit_code: int, code: str, mend: str) -> None:
    assert (outcome.exit_code, code in outcome.stderr) == (exit_code, True), outcome.stderr
    assert "Traceback" not in outcome.stderr + outcome.stdout
    told = outcome.stderr.partition("mend ")[2]
    assert mend in told, outcome.stderr


def test_without_a_mistake_it_runs(project: Project) -> None:
    assert project.run("orders").exit_code == 0


@dataclass(frozen=True)
class Mistake:
    """What is done wrong, and what has to be answered; ``mend`` is a part of the hint."""

    make: Callable[[Project], None]
    exit_code: int
    code: str
    mend: str


def _closed_port(project: Project) -> None:
    """Name a port of the source's machine nobody listens on, granted and approved."""
    port = free_port()
    grants = [{"connection": "orders", "cidr": f"{OUTSIDE}/32", "ports": [port]}]
    project.configure(network={"grants": grants})
    _edit(project, config={"port": port})
    project.must("connection", "approve", "orders", f"{HOST}:{port}")


def _unmapped(project: Project) -> None:
    """Name a host that no resolver knows, approved."""
    _edit(project, config={"host": "nowhere.invalid", "port": 5432})
    project.must("connection", "approve", "orders", "nowhere.invalid:5432")


def _without_images(project: Project) -> None:
    """Lose what was published: a project moved to another machine without its store's blobs."""
    empty = project.root / ".wellhead" / "empty-store"
    (empty / "blobs" / "sha256").mkdir(parents=True)
    (empty / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (empty / "index.json").write_text('{"schemaVersion": 2, "manifests": []}')
    project.configure(store={"path": str(empty)})


MISTAKES = {
    "no Docker": Mistake(
        lambda p: p.configure(docker={"host": "unix:///nowhere/docker.sock"}),
        78,
        "WH-ENG-001",
        "systemctl start docker",
    ),
    "table missing": Mistake(
        lambda p: _edit(p, streams=[{"name": "public.ordres"}]), 78, "WH-SES-043", "wellhead streams"
    ),
    "unknown column": Mistake(
        lambda p: _edit(p, streams=[{"name": "public.orders", "columns": ["id", "nmae"]}]), 78, "WH-RUN-020", "name"
    ),
    "parameter misspelt": Mistake(
        lambda p: _edit(p, config={"databse": "x"}), 78, "WH-MAN-110", "as wellhead/postgres 1.0.0 asks"
    ),
    "key misspelt": Mistake(lambda p: _edit(p, stream=[]), 78, "did you mean 'streams'?", "the field named"),
    "literal address": Mistake(lambda p: _edit(p, config={"host": OUTSIDE}), 78, "WH-MAN-103", "network.hosts"),
    "host not approved": Mistake(
        lambda p: _edit(p, config={"host": "db.example.com"}), 76, "WH-RUN-082", "wellhead connection approve"
    ),
    "address not granted": Mistake(lambda p: p.configure(network={"grants": []}), 76, "WH-RUN-056", "network.grants"),
    "name unknown": Mistake(_unmapped, 78, "nowhere.invalid:5432: no_address", "network.hosts"),
    "secret in the file": Mistake(
        lambda p: _edit(p, secrets={"password": "a-real-password"}), 78, "WH-SEC-001", "vault://"
    ),
    "secret not opened": Mistake(
        lambda p: _edit(p, secrets={"password": "vault://secret/nothing#password"}), 78, "WH-SEC-023", "vault policy"
    ),
    "host's token not valid": Mistake(
        lambda p: _write(p.root / "host-token", "s.expired-token-of-this-host"), 77, "WH-SEC-022", "has expired"
    ),
    "Vault down": Mistake(
        lambda p: p.configure(vault={"address": f"http://127.0.0.1:{free_port()}"}), 75, "WH-SEC-021", "vault.address"
    ),
    "connector misspelt": Mistake(
        lambda p: _edit(p, connector="wellhead/postgers"), 78, "WH-CAT-040", "wellhead catalog list"
    ),
    "no such version": Mistake(lambda p: _edit(p, version="^9"), 78, "WH-CAT-040", "wellhead explain"),
    "image missing from the store": Mistake(_without_images, 76, "WH-CAT-030", "restore the store"),
    "database down": Mistake(_closed_port, 75, "WH-SES-040", "server runs"),
    "no such database": Mistake(lambda p: _edit(p, config={"database": "nothing"}), 78, "WH-SES-043", "database"),
}


def _write(file: Path, text: str) -> None:
    file.write_text(text)


@pytest.mark.parametrize("what", MISTAKES)
def test_a_mistake_is_told_with_its_mend(project: Project, what: str) -> None:
    mistake = MISTAKES[what]
    mistake.make(project)
    outcome = project.run("orders", env=IMPATIENT)
    _assert_told(outcome, mistake.exit_code, mistake.code, mistake.mend)
    assert project.count("orders", "public.orders") == 0


@pytest.mark.parametrize("name", ["wrong", "expired"])
def test_a_password_the_source_does_not_take(project: Project, name: str) -> None:
    _assert_told(project.run(name, env=IMPATIENT), 77, "WH-SES-042", "password has not expired")


def test_a_sealed_vault(project: Project) -> None:
    with openbao_server() as sealed:
        sealed.request("PUT", "sys/seal")
        project.configure(vault={"address": sealed.address})
        _assert_told(project.run("orders", env=IMPATIENT), 75, "WH-SEC-021", "unseal")


def test_no_leave_to_use_the_socket(project: Project, tmp_path: Path) -> None:
    """Whoever runs the tests: without root's way past permissions, nobody may write to this socket."""
    place = tmp_path / "docker.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(place))
        listener.listen()
        place.chmod(0)
        project.configure(docker={"host": f"unix://{place}"})
        asked = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--", str(WELLHEAD), "run", "orders", "--json"]
        done = subprocess.run(asked, cwd=project.root, capture_output=True, text=True, check=False)
    outcome = Outcome(done.returncode, done.stdout, done.stderr, 0)
    _assert_told(outcome, 78, "WH-ENG-002", "group `docker`")


def test_a_misspelt_manifest(project: Project, tmp_path: Path) -> None:
    folder = tmp_path / "connector"
    shutil.copytree(CONNECTORS / "csv-file", folder)
    manifest = folder / "manifest.yaml"
    manifest.write_text(
        manifest.read_text().replace("sync_modes: [full_refresh]\n  discover", "sync_mode: []\n  discover")
    )
    line = manifest.read_text().splitlines().index("  sync_mode: []") + 1
    for verb in (("manifest", "lint", str(manifest)), ("publish", str(folder))):
        outcome = project.call(*verb)
        assert outcome.exit_code == 78, outcome.stderr
        said = outcome.stdout + outcome.stderr
        assert f"manifest.yaml:{line}" in said
        assert "sync_modes" in said
        assert "Traceback" not in said


def test_a_host_the_connection_does_not_ask_for(project: Project) -> None:
    outcome = project.call("connection", "approve", "orders", "elsewhere.example.com:5432")
    _assert_told(outcome, 2, "WH-CLI-072", HOST)


def test_a_check_names_what_the_fence_denied(project: Project) -> None:
    project.configure(network={"grants": []})
    checked = project.call("connection", "check", "orders", "--json")
    _assert_told(checked, 76, "WH-RUN-056", "network.grants")
    (denied,) = json.loads(checked.stdout)["error"]["details"]
    assert denied.startswith(f"the fence denied {HOST}:")
    assert f" at {OUTSIDE}: " in denied
    assert denied in checked.stderr


def test_no_project_and_no_connection(project: Project, tmp_path: Path) -> None:
    _assert_told(Project(tmp_path).run("orders"), 78, "WH-CFG-001", "wellhead init")
    _assert_told(project.run("order"), 78, "WH-CFG-010", "orders")


# ----- a full disk


@contextmanager
def _small_disk(folder: Path, kib: int) -> Iterator[None]:
    folder.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kib}k", "tmpfs", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_bronze_on_a_full_disk(project: Project, lender: Lender, tmp_path: Path) -> None:
    lender.psql(
        "newcomer", "create table large as select n as id, md5(n::text) as text from generate_series(1, 200000) n"
    )
    disk = tmp_path / "disk"
    _edit(project, streams=[{"name": "public.large"}], sink={"type": "parquet", "path": str(disk / "bronze")})
    with _small_disk(disk, 2048):
        _assert_told(project.run("orders", env=IMPATIENT), 75, "WH-SNK-010", "space")
        assert list((disk / "bronze").rglob("*.parquet")) == []


def test_the_registry_on_a_full_disk(project: Project, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    with _small_disk(disk, 1024):
        shutil.copy(project.root / ".wellhead" / "registry.db", disk / "registry.db")
        project.configure(registry={"url": f"sqlite:///{disk / 'registry.db'}"})
        subprocess.run(["dd", "if=/dev/zero", f"of={disk / 'filler'}", "bs=4k"], capture_output=True, check=False)
        assert shutil.disk_usage(disk).free == 0
        _assert_told(project.run("orders", env=IMPATIENT), 75, "WH-REG-003", "space")
