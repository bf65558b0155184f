"""A real source, a real Vault that lends one-run roles on it, and projects whose connections borrow them.

The administrator's part is the script that ``wellhead vault policy`` prints, run as printed: only the name of the
configured database connection is put in, as its comment asks.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.parts import OpenBao, Postgres
from tests.project import Project

#: The outbound bridge's own address: where a gateway reaches this machine.
OUTSIDE = "172.31.255.1"
#: The name connectors know the source by.
HOST = "pg.test"


@dataclass(frozen=True)
class Lender:
    """One PostgreSQL server and one Vault for many databases and connections."""

    postgres: Postgres
    openbao: OpenBao

    def create(self, database: str, sql: str = "") -> None:
        """Make a database and tell the Vault's database engine about it."""
        self.postgres.psql(f'create database "{database}"')
        self.psql(database, sql)
        credentials = "{{username}}:{{password}}"
        self.openbao.request(
            "POST",
            f"database/config/{database}",
            {
                "plugin_name": "postgresql-database-plugin",
                "allowed_roles": "*",
                "connection_url": f"postgresql://{credentials}@127.0.0.1:{self.postgres.port}/{database}",
                "username": "postgres",
                "password": self.postgres.password,
            },
        )

    def psql(self, database: str, sql: str, **options: Any) -> str:
        """What psql prints: the judge of what the source holds."""
        return self.postgres.psql(sql, database=database, **options)

    def introduce(self, project: Project, *connections: str) -> None:
        """Let the operator of a project name the Vault, map the source's name and grant its address."""
        token = project.root / "host-token"
        token.touch(mode=0o600)
        token.write_text(self.openbao.root_token)
        grants = [{"connection": name, "cidr": f"{OUTSIDE}/32", "ports": [self.postgres.port]} for name in connections]
        project.configure(
            vault={"address": self.openbao.address, "token_file": str(token)},
            secrets={"store": "vault"},
            network={"hosts": {HOST: OUTSIDE}, "grants": grants},
        )

    def connect(
        self,
        project: Project,
        name: str,
        database: str,
        streams: Sequence[str | dict[str, Any]],
        *,
        secrets: Mapping[str, str] | None = None,
        **config: Any,
    ) -> None:
        """Write a connection, do the administrator's part at the Vault and the operator's approval.

        Args:
            project: where the connection is; `introduce` has named it.
            name: of the connection, and of the database role it borrows.
            database: what it reads.
            streams: as `Project.connect` takes them.
            secrets: references; default credentials of one run.
            config: further parameters of the connector.
        """
        dynamic = {slot: f"vault-dyn://database/creds/{name}#{slot}" for slot in ("username", "password")}
        where = {"host": HOST, "port": self.postgres.port, "database": database, "ssl_mode": "disable"}
        project.connect(name, "wellhead/postgres", streams, config={**where, **config}, secrets=secrets or dynamic)
        self.administer(project, name, database)
        project.must("connection", "approve", name, f"{HOST}:{self.postgres.port}")

    def administer(self, project: Project, name: str, database: str) -> None:
        """Run the script that the program prints for an administrator."""
        script = project.must("vault", "policy", name).stdout.replace('"DATABASE"', f'"{database}"')
        program = OpenBao.binary()
        subprocess.run(
            ["bash", "-euc", f'bao() {{ {program} "$@"; }}\n{script}'],
            check=True,
            capture_output=True,
            env={"PATH": "/usr/bin:/bin", "BAO_ADDR": self.openbao.address, "BAO_TOKEN": self.openbao.root_token},
        )


def lender(postgres: Postgres, openbao: OpenBao) -> Lender:
    """Return a lender on two fresh servers; the source has to listen on every address."""
    openbao.request("POST", "sys/mounts/database", {"type": "database"})
    return Lender(postgres, openbao)
