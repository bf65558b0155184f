"""The demonstration, in the order it is told; `scripts/demo.sh` starts it.

Whatever it starts is a context manager, so it also ends on an error, on ^C and on SIGTERM. The project's folder stays,
with the tables, the registry and the logs, until the next demonstration.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
from ruamel.yaml import YAML

from scripts.demo import door, flights
from scripts.demo.screen import BrokenPromiseError, Screen
from tests.parts import (
    ROOT,
    MissingPartError,
    OpenBao,
    Postgres,
    SqlError,
    docker_engine_of_machine,
    free_port,
    wait_until,
)
from wellhead import app as services
from wellhead.egress import network
from wellhead.errors import counted

#: The outbound bridge's own address: where a gateway finds this machine.
OUTSIDE = "172.31.255.1"
#: What the operator calls it; no resolver knows the names.
SOURCE, DOOR = "pg.demo", "door.demo"
#: In the project's folder: that it is ours, and where its servers kept their files.
MARKER = ".made-by-make-demo"
SERVERS = "wellhead-demo-"
STREAM = "public.flights"
#: Lines of `bao` that only say that it worked.
_CHATTER = ("Success!", "WARNING!", "Key ", "---")


@dataclass
class Stage:
    """What the chapters share."""

    screen: Screen
    project: Path
    postgres: Postgres
    openbao: OpenBao
    loading: Future[None]
    """The flights on their way into the source, while releases are made."""

    @property
    def table(self) -> Path:
        """The flights' table in Bronze."""
        return self.project / "bronze" / "default" / "default" / "flights" / STREAM

    @property
    def administrator(self) -> dict[str, str]:
        """Who `bao` is; never laid over the environment of a `wellhead` that runs something."""
        return {"BAO_ADDR": self.openbao.address, "BAO_TOKEN": self.openbao.root_token}

    def bao(self, *arguments: str, shown: str | None = None, stdin: str | None = None, **options: Any) -> str:
        """Call OpenBao's own command line as its administrator."""
        return self.screen.command("bao", *arguments, shown=shown, stdin=stdin, env=self.administrator, **options)

    def run(self, connection: str) -> dict[str, Any]:
        """Run a connection in full view, and return what the registry knows of the run."""
        said = self.screen.command("wellhead", "run", connection)
        run_id = said.partition("  run ")[2].split()[0]
        found: dict[str, Any] = self.screen.ask("wellhead", "runs", "show", run_id, "--json")
        return found


def main() -> int:
    """Play every chapter; 1 if anything is not as promised."""
    parser = argparse.ArgumentParser(prog="scripts/demo.sh")
    parser.add_argument("folder", type=Path, help="keeps the project and its tables afterwards")
    folder = parser.parse_args().folder
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _unwind)
    # What is typed here is found as a user of the workspace finds it.
    programs = os.pathsep.join([str(Path(sys.executable).parent), str(Postgres.programs()), os.environ["PATH"]])
    screen = Screen(folder, {"PATH": programs})
    try:
        _play(screen, folder)
    except (BrokenPromiseError, MissingPartError, SqlError) as failure:
        screen.say(f"\nFAILED: {failure}")
        if failure.__context__ is not None:
            screen.say(f"and before that: {failure.__context__}")
        return 1
    except KeyboardInterrupt:
        screen.say("\nstopped; what was started has ended")
        return 130
    return 0


def _unwind(number: int, _frame: object) -> None:
    raise SystemExit(128 + number)


def _play(screen: Screen, folder: Path) -> None:
    with ExitStack() as scope:
        engine = scope.enter_context(docker_engine_of_machine())
        screen.chapter("A project")
        screen.say(f"Docker Engine {engine.version}; the project and its tables stay in {folder}")
        _begin_anew(screen, folder)
        screen.command("wellhead", "init")
        try:
            with _servers(screen, folder) as stage:
                _configure(stage)
                _publish(stage)
                _connect(stage)
                _administer(stage)
                first = _first_run(stage)
                _look_around(stage, first)
                _second_run(stage)
                _hostile(stage)
                _roll_back(stage, first["receipt"]["release"])
                _nothing_is_lent(stage)
        finally:
            screen.chapter("Clean up")
            screen.command("wellhead", "clean")
        _nothing_is_left(screen, stage)
    screen.say(f"\nEverything is as promised. Look around: cd {folder} && wellhead runs list")


def _begin_anew(screen: Screen, folder: Path) -> None:
    """Remove an earlier demonstration, and nothing else.

    Raises:
        BrokenPromiseError: the folder holds something of somebody's.
    """
    if folder.exists() and any(folder.iterdir()) and not (folder / MARKER).exists():
        raise BrokenPromiseError(f"{folder} is not empty and not from an earlier demonstration; name another folder")
    if (folder / "wellhead.yaml").exists():
        # One that was killed may have left containers, and a run counts as alive until its lease has ended. What it
        # borrowed ended with its OpenBao, so that clean cannot revoke it (75) does not matter.
        wait_until(
            lambda: not _goes_on(screen) and screen.exit_code("wellhead", "clean") in (0, 75),
            what="the earlier demonstration can be cleaned up (`wellhead clean` there says why not)",
            within_s=90,
        )
    if folder.exists():
        servers = (folder / MARKER).read_text() if (folder / MARKER).exists() else ""
        if servers and Path(servers).name.startswith(SERVERS):
            shutil.rmtree(servers, ignore_errors=True)  # there only where the demonstration was killed
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    (folder / MARKER).touch()


def _goes_on(screen: Screen) -> bool:
    """Say whether a run of the project there may still go on."""
    runs = screen.ask("wellhead", "runs", "list", "--json")
    return any(run["status"] == "running" and not run["silent"] for run in runs)


@contextmanager
def _servers(screen: Screen, folder: Path) -> Iterator[Stage]:
    """Lend a PostgreSQL into which the flights are being loaded and an OpenBao, both with passwords of their own."""
    screen.chapter("A source and a secret store")
    with ExitStack() as scope:
        # A gateway reaches this machine under the bridge's own address, so the bridge has to be there before whoever
        # wants to listen on it. A run would make it by the same call.
        with services.opened(folder / "wellhead.yaml") as host:
            settings = host.settings.network
            network.ensure_outbound(
                host.engine, network.FenceSettings(settings.slots, settings.outbound_subnet, settings.resolver)
            )
        kept = Path(scope.enter_context(tempfile.TemporaryDirectory(prefix=SERVERS)))
        (folder / MARKER).write_text(str(kept))
        kept.chmod(0o711)  # PostgreSQL runs as another user where we are root
        (kept / "postgres").mkdir()
        (kept / "openbao").mkdir()
        openbao = OpenBao(kept / "openbao", durable=True)
        scope.callback(openbao.stop)
        openbao.start()
        screen.say(f"OpenBao on {openbao.address} (pid {openbao.pid})")
        postgres = Postgres(
            kept / "postgres",
            listen=("127.0.0.1", OUTSIDE),
            password=secrets.token_urlsafe(24),
            port=free_port("127.0.0.1", OUTSIDE),
            settings={"log_connections": "on"},
        )
        scope.callback(postgres.stop)
        postgres.create()
        postgres.start()
        screen.say(f"PostgreSQL on {OUTSIDE}:{postgres.port}, which its gateway calls {SOURCE} (pid {postgres.pid})")
        screen.say("loading the flights meanwhile")
        loading = scope.enter_context(ThreadPoolExecutor(1)).submit(flights.load, postgres)
        screen.env |= {"PGHOST": str(postgres.folder), "PGPORT": str(postgres.port), "PGUSER": "postgres"}
        screen.env |= {"PGDATABASE": flights.DATABASE}
        yield Stage(screen, folder, postgres, openbao, loading)
        postgres.stop()
        openbao.stop()


def _configure(stage: Stage) -> None:
    """Write what the operator of this host decides."""
    grants = [{"connection": "flights", "cidr": f"{OUTSIDE}/32", "ports": [stage.postgres.port]}]
    _settings(
        stage,
        vault={"address": stage.openbao.address, "approle": {"role_id": "wellhead-demo"}},
        secrets={"store": "vault"},
        network={"hosts": {SOURCE: OUTSIDE, DOOR: OUTSIDE}, "grants": grants},
    )
    stage.screen.say(f"wellhead.yaml: {SOURCE} is {OUTSIDE}; flights may reach {OUTSIDE}/32 port {stage.postgres.port}")


def _settings(stage: Stage, **sections: object) -> None:
    yaml = YAML()
    file = stage.project / "wellhead.yaml"
    document = yaml.load(file)
    document.update(sections)
    with file.open("w") as out:
        yaml.dump(document, out)


def _publish(stage: Stage) -> None:
    stage.screen.chapter("Signed releases")
    stage.screen.command("wellhead", "keys", "new", "release", "--trust", "wellhead")
    _publish_folder(stage, ROOT / "connectors" / "postgres", "release")
    _publish_folder(stage, ROOT / "tests" / "images" / "hostile", "dev")


def _publish_folder(stage: Stage, folder: Path, key: str) -> None:
    place = folder.relative_to(ROOT) if folder.is_relative_to(ROOT) else folder.relative_to(stage.project)
    shown = f"wellhead publish {place} --key {key}"
    stage.screen.command("wellhead", "publish", str(folder), "--key", key, shown=shown)


def _connect(stage: Stage) -> None:
    stage.screen.chapter("A connection")
    stage.loading.result()
    said = stage.screen.command("psql", "-Atc", "select count(*) from flights")
    stage.screen.check("flights at the source", int(said), flights.ROWS)
    values = {"host": SOURCE, "port": stage.postgres.port, "database": flights.DATABASE}
    slots = {slot: f"vault-dyn://database/creds/flights-ro#{slot}" for slot in ("username", "password")}
    add = ["wellhead", "connection", "add", "flights", "--connector", "wellhead/postgres", "--version", "^1"]
    add += [word for name, value in values.items() for word in ("--set", f"{name}={value}")]
    add += [word for slot, reference in slots.items() for word in ("--secret", f"{slot}={reference}")]
    stage.screen.command(*add, "--stream", f"{STREAM}:incremental:updated_at")


def _administer(stage: Stage) -> None:
    """Do the administrator's part at the secret store, and log this host in."""
    stage.screen.chapter("What Vault's administrator does once")
    source = {
        "plugin_name": "postgresql-database-plugin",
        "allowed_roles": "flights-ro",
        "connection_url": f"postgresql://{{{{username}}}}:{{{{password}}}}@127.0.0.1:{stage.postgres.port}/"
        f"{flights.DATABASE}?sslmode=disable",
        "username": "postgres",
        "password": stage.postgres.password,
    }
    _quiet_bao(stage, "secrets", "enable", "database")
    _quiet_bao(stage, "write", "database/config/flights", "-", stdin=json.dumps(source))
    script = 'wellhead vault policy flights | sed \'s/"DATABASE"/"flights"/\' | bash -eu'
    stage.screen.command("bash", "-euo", "pipefail", "-c", script, shown=script, env=stage.administrator)
    _quiet_bao(stage, "auth", "enable", "approle")
    role = "auth/approle/role/wellhead"
    _quiet_bao(stage, "write", role, "token_policies=wellhead-host", "token_no_default_policy=true", "token_ttl=10m")
    _quiet_bao(stage, "write", f"{role}/role-id", "role_id=wellhead-demo")
    wrap = ("write", "-wrap-ttl=60s", "-field=wrapping_token", "-f", f"{role}/secret-id")
    token = stage.bao(*wrap, is_kept=lambda _line: False)
    stage.screen.command("wellhead", "vault", "login", "--wrapped", "-", stdin=token)


def _quiet_bao(stage: Stage, *arguments: str, **options: Any) -> None:
    stage.bao(*arguments, is_kept=lambda line: line.strip() != "" and not line.startswith(_CHATTER), **options)


def _first_run(stage: Stage) -> dict[str, Any]:
    stage.screen.chapter("The first run")
    screen, place = stage.screen, f"{SOURCE}:{stage.postgres.port}"
    # Nobody has opened the host yet: the manifest alone opens nothing that only a tenant can name.
    refused = screen.command("wellhead", "connection", "check", "flights", exit_codes=(76,))
    screen.require("refused until an operator opens the host", place in refused, place)
    screen.command("wellhead", "connection", "approve", "flights", place, "--reason", "source of the demo")
    screen.command("wellhead", "connection", "check", "flights")
    run = stage.run("flights")

    screen.command("wellhead", "runs", "show", run["run_id"])
    contacts = {f"{contact['verdict']} {contact['host']}:{contact['port']}" for contact in run["egress"]}
    screen.check("hosts it reached or tried", sorted(contacts), [f"allow {place}"])
    return run


def _look_around(stage: Stage, run: dict[str, Any]) -> None:
    """Check each thing a run promises against somebody else's word."""
    screen, receipt = stage.screen, run["receipt"]
    screen.chapter("What is in Bronze")
    query = (
        "select carrier, count(*) as flights, round(avg(dep_delay), 1) as minutes_late, max(updated_at) as newest\n"
        f"     from '{stage.table.relative_to(stage.project)}/*.parquet' group by carrier order by flights desc limit 5"
    )
    screen.say(f"duckdb> {query}")
    with duckdb.connect() as database:
        screen.say(_indented(str(database.sql(query.replace("'bronze/", f"'{stage.project}/bronze/")))))
    _same(stage)
    screen.check("rows the run reports", receipt["streams"][0]["rows"], flights.ROWS)
    screen.check("versions of rows in the table", flights.versions_in_bronze(stage.table), flights.ROWS)

    screen.chapter("What was lent, and taken back")
    lease = receipt["secrets"][0]["leases"][0]
    role = receipt["identity"]["identity"]
    screen.say(f"lease {lease['id']}\n  created {lease['created_at']}  revoked {lease['revoked_at']}")
    screen.say(f"  the connector was {role} at the source")
    screen.require("lease revoked", lease["revoked_at"] is not None, lease["revoked_at"])
    gone = stage.bao("write", "sys/leases/lookup", f"lease_id={lease['id']}", exit_codes=(2,))
    screen.require("the store no longer knows the lease", "invalid lease" in gone, "invalid lease")
    left = screen.command("psql", "-Atc", "select rolname from pg_roles where rolname like 'v-%'")
    screen.check("roles left in the database", left.split(), [])

    screen.chapter("The receipt")
    screen.say(f"$ wellhead runs show {run['run_id']} --json | jq '.receipt | del(.egress.contacts, .identity.probes)'")
    egress = {"counts": receipt["egress"]["counts"]}
    identity = {name: value for name, value in receipt["identity"].items() if name != "probes"}
    screen.say(_indented(json.dumps({**receipt, "egress": egress, "identity": identity}, indent=2)))


def _second_run(stage: Stage) -> None:
    stage.screen.chapter("The second run reads what is new")
    stage.screen.command(
        "psql",
        "-c",
        "update flights set dep_delay = 0, updated_at = now() where id in (1, 2)",
        "-c",
        "insert into flights (id, year, carrier, distance, updated_at) select 400000 + n, 2014, 'WH', 100, now() "
        "from generate_series(1, 3) n",
    )
    run = stage.run("flights")
    stage.screen.check("rows read", run["receipt"]["streams"][0]["rows"], 5)
    _same(stage)
    stage.screen.check("versions of rows in the table", flights.versions_in_bronze(stage.table), flights.ROWS + 5)


def _hostile(stage: Stage) -> None:
    """Let a connector try every way out that we know of, with one host opened as the control."""
    screen, folder = stage.screen, stage.postgres.folder.parent
    screen.chapter("A hostile connector")
    with door.opened(OUTSIDE, DOOR, folder) as opened:
        yaml = YAML(typ="safe").load(stage.project / "wellhead.yaml")
        grant = {"connection": "escape", "cidr": f"{OUTSIDE}/32", "ports": [opened.port]}
        _settings(stage, network={**yaml["network"], "grants": [*yaml["network"]["grants"], grant]})
        # Services of this machine that it is told of: the source, the secret store, and the door by its address.
        ports = (stage.postgres.port, stage.openbao.port, opened.port)
        addresses = [f"{address}:{port}" for port in ports for address in (OUTSIDE, "127.0.0.1")]
        values = {"mode": "escape", "host": DOOR, "port": opened.port, "addresses": json.dumps(addresses)}
        add = ["wellhead", "connection", "add", "escape", "--connector", "dev/hostile", "--stream", "attempts"]
        screen.command(*add, *(word for name, value in values.items() for word in ("--set", f"{name}={value}")))
        screen.command("wellhead", "connection", "approve", "escape", f"{DOOR}:{opened.port}")
        heard_before = _connections_from_containers(stage)
        run = stage.run("escape")
        heard = _connections_from_containers(stage) - heard_before
    table = stage.project / "bronze" / "default" / "default" / "escape" / "attempts"
    with duckdb.connect() as database:
        attempts = database.execute(f"select name, outcome from '{table}/*.parquet'").fetchall()
    for outcome in sorted({outcome for _, outcome in attempts}):
        names = Counter(name for name, found in attempts if found == outcome)
        tried = [name if count == 1 else f"{name} ({count})" for name, count in sorted(names.items())]
        screen.say(f"  {outcome}, {names.total()}:")
        screen.say(textwrap.fill(" · ".join(tried), 112, initial_indent="    ", subsequent_indent="    "))
    denied = Counter(contact["reason"] for contact in run["egress"] if contact["verdict"] == "deny")
    screen.say("  gateway's record: " + ", ".join(f"{count} {reason}" for reason, count in sorted(denied.items())))
    screen.require("ways out tried", len(attempts) > 150, len(attempts))
    screen.check("got out", [row[0] for row in attempts if row[1] in ("got_out", "untested")], [])
    screen.check("may go out, and did", [row[0] for row in attempts if row[1] == "allowed"], ["the opened host"])
    screen.check("names the opened host was asked for", opened.names, [DOOR])
    screen.check("connections PostgreSQL saw from containers meanwhile", heard, 0)


def _connections_from_containers(stage: Stage) -> int:
    return stage.postgres.log.count("connection received: host=172.31.255.")


def _roll_back(stage: Stage, release: dict[str, str]) -> None:
    """Publish a newer release than ``release``, run it, and go back."""
    screen = stage.screen
    screen.chapter("A newer release, and back")
    newer = stage.project / "postgres-1.1.0"
    shutil.copytree(ROOT / "connectors" / "postgres", newer, ignore=shutil.ignore_patterns("tests", "__pycache__"))
    for name, before, after in (
        ("manifest.yaml", "  version: 1.0.0\n", "  version: 1.1.0\n"),
        ("pyproject.toml", 'version = "1.0.0"\n', 'version = "1.1.0"\n'),
    ):
        text = (newer / name).read_text()
        if text.count(before) != 1:
            raise BrokenPromiseError(f"{newer / name} is not of version 1.0.0, so 1.1.0 is not the next one")
        (newer / name).write_text(text.replace(before, after))
    _publish_folder(stage, newer, "release")
    _one_more(stage, 500_001)
    run = stage.run("flights")
    screen.check("release that ran", run["receipt"]["release"]["version"], "1.1.0")
    screen.command("wellhead", "rollback", "connection", "flights", "--reason", "1.1.0 looks wrong")
    _one_more(stage, 500_002)
    run = stage.run("flights")
    screen.check("release that ran", run["receipt"]["release"]["version"], "1.0.0")
    screen.check("digest, as of the first run", run["receipt"]["release"]["digest"], release["digest"])
    screen.check("rows read", run["receipt"]["streams"][0]["rows"], 1)
    _same(stage)
    screen.command("wellhead", "explain", "flights")


def _one_more(stage: Stage, key: int) -> None:
    columns = "id, year, carrier, distance, updated_at"
    sql = f"insert into flights ({columns}) values ({key}, 2014, 'WH', 7, now())"
    stage.postgres.psql(sql, database=flights.DATABASE)


def _same(stage: Stage) -> None:
    source, bronze = flights.at_the_source(stage.postgres), flights.in_bronze(stage.table)
    stage.screen.check("DuckDB over Bronze equals psql over the source", bronze, source)


def _nothing_is_lent(stage: Stage) -> None:
    """Ask the secret store and the source what is still there before they end."""
    screen = stage.screen
    screen.chapter("Nothing stays lent")
    tokens = stage.openbao.request("LIST", "auth/token/accessors")["data"]
    own = stage.openbao.request("GET", "auth/token/lookup-self")["data"]
    assert isinstance(tokens, dict)
    assert isinstance(own, dict)
    screen.check("tokens but the administrator's own", [key for key in tokens["keys"] if key != own["accessor"]], [])
    left = stage.bao("list", "sys/leases/lookup/database/creds/flights-ro", exit_codes=(2,))
    screen.require("leases", "No value found" in left, "none")
    roles = stage.postgres.psql("select rolname from pg_roles where rolname like 'v-%'").split()
    screen.check("roles lent in the database", roles, [])


def _nothing_is_left(screen: Screen, stage: Stage) -> None:
    """Look for everything that was started: processes, containers, networks, folders."""
    runs = [run["run_id"] for run in screen.ask("wellhead", "runs", "list", "--limit", "1000", "--json")]
    containers, networks = [], []
    for run_id in runs:
        label = f"label=wellhead.run_id={run_id}"
        containers += _docker("ps", "--all", "--quiet", "--filter", label)
        networks += _docker("network", "ls", "--quiet", "--filter", label)
    screen.check(f"containers of {len(runs)} runs", containers, [])
    screen.check("networks of theirs", networks, [])
    others = _docker("ps", "--all", "--quiet", "--filter", "label=wellhead.run_id")
    if others:
        screen.say(
            f"  other projects have {counted(len(others), 'container')} on this Engine, so {network.OUTBOUND} stays"
        )
    else:
        kept = _docker("network", "ls", "--quiet", "--filter", f"name=^{network.OUTBOUND}$")
        screen.check(f"network {network.OUTBOUND}", kept, [])
    folder = stage.postgres.folder.parent
    screen.check("the servers' folder is there", folder.exists(), False)
    mentioned = subprocess.run(["pgrep", "--full", str(folder)], capture_output=True, text=True, check=False)
    screen.check("processes of theirs", mentioned.stdout.split(), [])


def _docker(*arguments: str) -> list[str]:
    return subprocess.run(["docker", *arguments], capture_output=True, text=True, check=True).stdout.split()


def _indented(text: str) -> str:
    return "\n".join("  " + line for line in text.rstrip().splitlines())


if __name__ == "__main__":
    sys.exit(main())
