"""What a kill needs around it: a source whose rows are known, a Vault that lends roles on it, a look at what is left.

The host dies where `wellhead.failpoints` names a place and ``WELLHEAD_FAILPOINT`` holds that name: by SIGKILL, in its
own process, so that nothing after that place runs.
"""

from __future__ import annotations

import subprocess
import urllib.error
from dataclasses import dataclass

from tests.parts import OpenBao, Postgres
from tests.project import Project
from wellhead import failpoints

#: The outbound bridge's own address: where a gateway reaches this machine.
OUTSIDE = "172.31.255.1"
#: Small enough that every table is committed several times.
ENVIRONMENT = {
    "WELLHEAD__COMMIT__MAX_BYTES": "200000",
    "WELLHEAD__LEASE__TTL_S": "3",
    "WELLHEAD__RUN__START_S": "20",
    "WELLHEAD__RUN__TOTAL_S": "60",
}
ROLE = "readers"
ROWS = 20_000
TABLES = ("orders", "events")


@dataclass(frozen=True)
class Source:
    """A database with two tables, and the Vault that lends roles on it."""

    postgres: Postgres
    openbao: OpenBao

    def rows(self, table: str) -> list[tuple[int, str]]:
        """Return (id, body) of every row as psql's COPY tells them: the judge of what must be in Bronze."""
        text = self.postgres.psql(f"copy (select id, body from {table} order by id) to stdout", database="source")
        return [(int(line.split("\t")[0]), line.split("\t")[1]) for line in text.splitlines()]

    def accessors(self) -> set[str]:
        """Return every token's accessor."""
        return {str(key) for key in _keys(self.openbao, "auth/token/accessors")}

    def leases(self) -> list[str]:
        """Return the leases on database roles that are still open."""
        return [str(key) for key in _keys(self.openbao, f"sys/leases/lookup/database/creds/{ROLE}")]


def _keys(openbao: OpenBao, path: str) -> list[object]:
    try:
        data = openbao.request("LIST", path)["data"]
    except urllib.error.HTTPError as error:
        with error:
            return {404: []}[error.code]
    assert isinstance(data, dict)
    return list(data["keys"])


def prepare(postgres: Postgres, openbao: OpenBao) -> Source:
    """Fill the source, and let the Vault make roles on it."""
    postgres.psql("create database source")
    for table in TABLES:
        postgres.psql(
            f"create table {table} (id bigint primary key, body text not null, updated_at timestamptz not null);"
            f"insert into {table} select n, md5(n::text) || repeat('-', (n % 60)::int), "
            f"timestamptz '2024-01-01' + n * interval '1 second' from generate_series(1, {ROWS}) n;",
            database="source",
        )
    openbao.request("POST", "sys/mounts/database", {"type": "database"})
    openbao.request(
        "POST",
        "database/config/source",
        {
            "plugin_name": "postgresql-database-plugin",
            "allowed_roles": ROLE,
            "connection_url": f"postgresql://{{{{username}}}}:{{{{password}}}}@127.0.0.1:{postgres.port}/source",
            "username": "postgres",
            "password": postgres.password,
        },
    )
    openbao.request(
        "POST",
        f"database/roles/{ROLE}",
        {
            "db_name": "source",
            "default_ttl": "10m",
            "max_ttl": "1h",
            "creation_statements": [
                "create role \"{{name}}\" login password '{{password}}' valid until '{{expiration}}'",
                'grant usage on schema public to "{{name}}"',
                'grant select on all tables in schema public to "{{name}}"',
            ],
            "revocation_statements": [
                "select pg_terminate_backend(pid) from pg_stat_activity where usename = '{{name}}'",
                'drop owned by "{{name}}"',
                'drop role if exists "{{name}}"',
            ],
        },
    )
    return Source(postgres, openbao)


def use_postgres(project: Project, postgres: Postgres, database: str) -> None:
    """Point a project's registry at a database."""
    secret = project.root / "registry-password"
    secret.write_text(postgres.password)
    secret.chmod(0o600)
    url = f"postgresql://postgres@127.0.0.1:{postgres.port}/{database}"
    project.configure(registry={"url": url, "password_file": str(secret)})


def connect(project: Project, source: Source, name: str) -> None:
    """Let a connection read both tables, one whole and in parts, one incrementally, with credentials of one run."""
    token = project.root / "host-token"
    token.touch(mode=0o600)
    token.write_text(source.openbao.root_token)
    port = source.postgres.port
    project.configure(
        vault={"address": source.openbao.address, "token_file": str(token)},
        secrets={"store": "vault"},
        network={
            "hosts": {"pg.test": OUTSIDE},
            "grants": [{"connection": name, "cidr": f"{OUTSIDE}/32", "ports": [port]}],
        },
    )
    project.connect(
        name,
        "wellhead/postgres",
        [
            {"name": "public.orders", "mode": "full_refresh"},
            {"name": "public.events", "mode": "incremental", "cursor_field": "updated_at", "primary_key": ["id"]},
        ],
        config={"host": "pg.test", "port": port, "database": "source", "ssl_mode": "disable", "partitions": 2},
        secrets={slot: f"vault-dyn://database/creds/{ROLE}#{slot}" for slot in ("username", "password")},
    )
    script = project.must("vault", "policy", name).stdout
    program = OpenBao.binary()
    subprocess.run(
        ["bash", "-euc", f'bao() {{ {program} "$@"; }}\n{policies_of(script)}'],
        check=True,
        capture_output=True,
        env={"PATH": "/usr/bin:/bin", "BAO_ADDR": source.openbao.address, "BAO_TOKEN": source.openbao.root_token},
    )
    project.must("connection", "approve", name, f"pg.test:{port}")


def policies_of(script: str) -> str:
    """Return the part of an administrator's script that the role made by `prepare` does not cover already."""
    statements = script.split("\nbao ")
    return "\nbao ".join(statement for statement in statements if not statement.startswith("write database/"))


@dataclass(frozen=True)
class Left:
    """What a connection's runs hold on this machine and in the Vault."""

    containers: list[str]
    networks: list[str]
    accessors: set[str]
    leases: list[str]


def left(source: Source, connection: str) -> Left:
    """Look at what is there now."""
    label = f"label=wellhead.connection=default/default/{connection}"

    def listed(*what: str) -> list[str]:
        asked = ["docker", *what, "--quiet", "--filter", label]
        return subprocess.run(asked, check=True, capture_output=True, text=True).stdout.split()

    return Left(listed("ps", "--all"), listed("network", "ls"), source.accessors(), source.leases())


def kill_at(place: str) -> dict[str, str]:
    """Return the environment in which the host dies at ``place``, which may end in ``:N`` for the Nth time."""
    assert place.partition(":")[0] in failpoints.NAMES
    return {failpoints.VARIABLE: place}


def assert_complete(project: Project, source: Source, connection: str) -> None:
    """Compare Bronze, as DuckDB reads it, with the source, as psql prints it."""
    for table in TABLES:
        stored = project.rows(connection, f"public.{table}", "id, body", "order by id")
        assert stored == source.rows(table), f"{table} differs from its source"
        for unit, lowest, highest, rows, different in project.sequences(connection, f"public.{table}"):
            assert highest - lowest + 1 == rows == different, f"_sequence of unit {unit!r} of {table} has holes"
