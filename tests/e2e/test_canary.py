"""Two secrets of a real run, one that a person chose and one that the Vault made up, are nowhere but where they belong.

What the Vault makes up is told by the source's own side: the statements that create the role write it down there.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from tests import canary
from tests.lender import Lender
from tests.parts import ROOT
from tests.project import PATIENCE_S, WELLHEAD, Project

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

CHOSEN = 'c4nary/"quoted"+and&longer-than-16?'
#: A view that takes two seconds to read, so that there is time to look around; one row has no place in Arrow.
SOURCE = """
create schema kept;
create table kept.made_up (password text);
create table few (id int primary key, day date);
insert into few select n, case n when 7 then 'infinity' else current_date end from generate_series(1, 20) n;
create view slow as select id, day, pg_sleep(0.1)::text as slept from few;
"""
NAMES = ("chosen", "made-up")


@pytest.fixture(scope="module")
def project(shipped: Project, lender: Lender, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with a connection on each kind of secret."""
    project = shipped.copy(tmp_path_factory.mktemp("canary"))
    lender.create("canary", SOURCE)
    lender.postgres.psql(f"create role chosen login password '{CHOSEN}'")
    lender.psql("canary", "grant select on all tables in schema public to chosen")
    lender.openbao.request("POST", "secret/data/chosen", {"data": {"username": "chosen", "password": CHOSEN}})
    lender.introduce(project, *NAMES)
    streams = ["public.slow", "public.few"]
    chosen = {slot: f"vault://secret/chosen#{slot}" for slot in ("username", "password")}
    lender.connect(project, "chosen", "canary", streams, secrets=chosen)
    lender.connect(project, "made-up", "canary", streams)
    role = lender.openbao.request("GET", "database/roles/made-up")["data"]
    assert isinstance(role, dict)
    told = "insert into kept.made_up values ('{{password}}')"
    role["creation_statements"] = [*role["creation_statements"], told]
    lender.openbao.request("POST", "database/roles/made-up", role)
    return project


def _secrets(lender: Lender) -> list[str]:
    made_up = lender.psql("canary", "select password from kept.made_up").split()
    return [CHOSEN, *made_up]


def _of_processes() -> canary.Places:
    """Return what every process of this machine shows of itself; one that ends meanwhile shows nothing."""
    places = []
    for process in Path("/proc").iterdir():
        for name in ("cmdline", "environ"):
            try:
                places.append((f"{process}/{name}", (process / name).read_bytes()))
            except OSError:
                continue
    return places


def _docker(*words: str) -> bytes:
    # Standard error as well: `docker logs` keeps the two apart, and a container may be gone since it was listed.
    return subprocess.run(["docker", *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False).stdout


def _of_engine(connection: str) -> canary.Places:
    """Return what the Engine tells of a connection's containers and networks, and what the containers said."""
    label = f"label=wellhead.connection=default/default/{connection}"
    places = []
    for container in _docker("ps", "--all", "--quiet", "--filter", label).decode().split():
        places += [(f"docker {verb} {container}", _docker(verb, container)) for verb in ("inspect", "logs", "diff")]
    for network in _docker("network", "ls", "--quiet", "--filter", label).decode().split():
        places.append((f"docker network {network}", _docker("network", "inspect", network)))
    return places


def _of_files(project: Project, *, with_bronze: bool = True) -> canary.Places:
    files = [path for path in project.root.rglob("*") if path.is_file()]
    kept = [path for path in files if with_bronze or not path.is_relative_to(project.root / "bronze")]
    return [(str(path.relative_to(project.root)), path.read_bytes()) for path in kept]


def _watched(project: Project, connection: str, *options: str) -> tuple[int, canary.Places]:
    """Run a connection verbosely and look around all the while; return its exit code and all that was seen."""
    # A set, because most of what is seen is the same each time.
    seen: set[tuple[str, bytes]] = set()
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        command = [str(WELLHEAD), "run", connection, "--json", "--verbose", *options]
        child = subprocess.Popen(command, cwd=project.root, env={**os.environ}, stdout=stdout, stderr=stderr)
        deadline = time.monotonic() + PATIENCE_S
        while child.poll() is None and time.monotonic() < deadline:
            seen.update(_of_processes(), _of_engine(connection))
        child.kill()
        child.wait()
        for name, file in (("stdout", stdout), ("stderr", stderr)):
            file.seek(0)
            seen.add((name, file.read()))
    return child.returncode, sorted(seen)


def _told(project: Project, connection: str) -> canary.Places:
    """Return what the commands say that look back."""
    runs = json.loads(project.must("runs", "list", connection, "--json").stdout)
    calls = [
        ("deadletters", "list", connection, "--json"),
        ("deadletters", "list", connection),
        ("state", "show", connection),
        ("connection", "list"),
        ("explain", connection),
        ("vault", "policy", connection),
        ("connection", "check", connection),
        ("preview", connection, "public.few", "--limit", "3"),
        *(("runs", "show", run["run_id"], *json_) for run in runs for json_ in ((), ("--json",))),
        *(("runs", "logs", run["run_id"]) for run in runs),
    ]
    places = []
    for words in calls:
        outcome = project.call(*words)
        assert outcome.exit_code == 0, outcome.stderr
        places.append((" ".join(words), outcome.stdout.encode() + outcome.stderr.encode()))
    return places


@pytest.mark.parametrize("connection", NAMES)
def test_a_secret_is_in_no_output(project: Project, lender: Lender, connection: str) -> None:
    exit_code, places = _watched(project, connection)
    assert exit_code == 0, [content for name, content in places if name == "stderr"]
    places += [*_of_files(project), *_told(project, connection)]
    secrets = _secrets(lender)
    # The controls: the secret opened the source, something was set aside, and what was looked through is there.
    assert project.count(connection, "public.slow") == 19
    assert len(secrets) > (connection == "made-up")
    looked = " ".join(name for name, _ in places)
    for what in ("docker inspect", "docker logs", "docker network", "registry.db", ".parquet", "logs/", "/environ"):
        assert what in looked, what
    roles = [content.count(b"wellhead.role") for name, content in places if name.startswith("docker inspect")]
    assert sum(roles) >= 2, "neither connector nor gateway was seen"
    assert canary.found_in(places, *secrets) == []


def test_a_login_that_fails_tells_nothing(project: Project, lender: Lender) -> None:
    """The secret is wrong at the source, so every layer has a reason to quote it."""
    wrong = f"{CHOSEN}-but-wrong"
    lender.openbao.request("POST", "secret/data/wrong", {"data": {"username": "chosen", "password": wrong}})
    lender.introduce(project, *NAMES, "wrong")
    references = {slot: f"vault://secret/wrong#{slot}" for slot in ("username", "password")}
    lender.connect(project, "wrong", "canary", ["public.few"], secrets=references)
    exit_code, places = _watched(project, "wrong")
    assert exit_code == 77
    assert canary.found_in([*places, *_of_files(project)], wrong) == []


# ----- a connector that says its own secret


@pytest.fixture
def hostile(workshop: Project, lender: Lender, tmp_path: Path) -> Project:
    """A project whose connector is lent the chosen secret from the Vault and says it wherever it can."""
    project = workshop.copy(tmp_path)
    lender.openbao.request("POST", "secret/data/hostile", {"data": {"token": CHOSEN}})
    lender.introduce(project)
    return project


def _connect_hostile(project: Project, lender: Lender, name: str, mode: str) -> None:
    secrets = {"token": "vault://secret/hostile#token"}
    project.connect(name, "dev/hostile", ["records"], config={"mode": mode}, secrets=secrets)
    lender.administer(project, name, "")


def test_what_a_connector_says_is_struck_from_all_the_host_keeps(hostile: Project, lender: Lender) -> None:
    """Log frames, stdout and stderr, once split over two chunks; SECURITY.md states the exception, the Engine's log."""
    _connect_hostile(hostile, lender, "says", "leaks_in_logs")
    exit_code, places = _watched(hostile, "says")
    assert exit_code == 0
    ours = [place for place in places if not place[0].startswith("docker logs")]
    logs = [content for name, content in _of_files(hostile) if "logs/" in name]
    assert b"second half" in b"".join(logs), "the connector said nothing"
    assert canary.found_in([*ours, *_of_files(hostile)], CHOSEN) == []
    assert "docker logs" in _stated()


@pytest.mark.parametrize(
    ("mode", "exit_code"),
    [
        ("leaks_in_error", 70),
        ("leaks_in_last_words", 75),
        ("leaks_in_state", 70),
        ("leaks_in_rejected", 0),
        ("leaks_in_violation", 76),
        ("leaks_in_identity", 0),
    ],
)
def test_what_a_connector_ends_with_is_struck_from_the_report_and_all_files(
    hostile: Project, lender: Lender, mode: str, exit_code: int
) -> None:
    """Its failure, its crash, its state, its dead letters: whatever of them a person or a file is told."""
    name = mode.replace("_", "-")
    _connect_hostile(hostile, lender, name, mode)
    outcome = hostile.run(name, "--verbose")
    assert outcome.exit_code == exit_code, outcome.stderr
    places = [("stdout", outcome.stdout.encode()), ("stderr", outcome.stderr.encode()), *_of_files(hostile)]
    for words in (("deadletters", "list", name, "--json"), ("runs", "list", name, "--json"), ("explain", name)):
        told = hostile.call(*words)
        places.append((" ".join(words), told.stdout.encode() + told.stderr.encode()))
    assert canary.found_in(places, CHOSEN) == []


def test_what_a_connector_sends_as_data_is_bronze_as_stated(hostile: Project, lender: Lender) -> None:
    _connect_hostile(hostile, lender, "sends", "leaks_in_records")
    outcome = hostile.run("sends")
    assert outcome.exit_code == 0, outcome.stderr
    assert canary.found_in(_of_files(hostile, with_bronze=False), CHOSEN) == []
    (sent,) = hostile.rows("sends", "records", "count(*)", f"where text = '{CHOSEN}'")[0]
    assert sent > 0
    assert "Bronze is not redacted" in _stated()


def _stated() -> str:
    """Return what SECURITY.md says a hostile connector can still do."""
    text = (ROOT / "SECURITY.md").read_text()
    return " ".join(text.partition("## What a hostile connector can still do")[2].partition("\n## ")[0].split())
