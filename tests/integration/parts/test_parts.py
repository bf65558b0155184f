"""The parts themselves: everything else that is tested on them relies on these sentences."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import psycopg
import pytest

from tests import parts

pytestmark = pytest.mark.real


def test_postgres_takes_a_password_on_tcp_and_none_other(postgres: parts.Postgres) -> None:
    with psycopg.connect(postgres.url()) as connection:
        assert connection.execute("select current_user").fetchone() == ("postgres",)
    wrong = postgres.url().replace(postgres.password, "wrong")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(wrong)


def test_postgres_keeps_what_was_committed_over_a_kill() -> None:
    with parts.postgres_server() as server:
        server.psql("create table kept (id int); insert into kept values (1)")
        server.kill()
        server.start()
        assert server.psql("select id from kept") == "1\n"


def test_postgres_speaks_tls_under_the_names_asked_for() -> None:
    with parts.postgres_server(tls_names=("localhost", "127.0.0.1")) as server:
        assert server.tls is not None
        url = server.url(host="localhost") + f"?sslmode=verify-full&sslrootcert={server.tls.authority}"
        with psycopg.connect(url) as connection:
            row = connection.execute("select ssl from pg_stat_ssl where pid = pg_backend_pid()").fetchone()
    assert row == (True,)


def test_postgres_lends_a_database_and_takes_it_back(postgres: parts.Postgres) -> None:
    with postgres.database("lent") as url, psycopg.connect(url) as connection:
        assert connection.execute("select current_database()").fetchone() == ("lent",)
    assert postgres.psql("select count(*) from pg_database where datname = 'lent'") == "0\n"


def test_nothing_is_left_of_a_server_after_its_block() -> None:
    with parts.postgres_server() as server:
        folder, pid = server.folder, server.pid
    assert not folder.exists()
    assert not Path(f"/proc/{pid}").exists()


def test_openbao_answers_to_its_root_token(openbao: parts.OpenBao) -> None:
    openbao.request("POST", "secret/data/parts", {"data": {"color": "blue"}})
    answer = openbao.request("GET", "secret/data/parts")
    assert json.loads(json.dumps(answer))["data"]["data"] == {"color": "blue"}


def test_a_durable_openbao_remembers_over_a_kill() -> None:
    with parts.openbao_server(durable=True) as server:
        server.request("POST", "sys/mounts/kv", {"type": "kv"})
        server.request("POST", "kv/one", {"value": "kept"})
        server.kill()
        server.start()
        assert server.request("GET", "kv/one")["data"] == {"value": "kept"}


def test_docker_engine_runs_and_says_its_version(docker_engine: parts.DockerEngine) -> None:
    ping = subprocess.run(["docker", "--host", docker_engine.host, "info"], capture_output=True, check=False)
    assert ping.returncode == 0
    assert docker_engine.version.split(".")[0].isdigit()


def test_a_server_dies_with_the_process_that_started_it(tmp_path: Path) -> None:
    program = (
        "import os, sys; from tests import parts; from pathlib import Path\n"
        f"server = parts.OpenBao(Path({str(tmp_path)!r})); server.start()\n"
        "sys.stdout.write(str(server.pid)); sys.stdout.flush(); os._exit(9)\n"
    )
    child = subprocess.run(
        [parts.ROOT / ".venv" / "bin" / "python", "-c", program],
        cwd=parts.ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(parts.ROOT)},
    )
    assert child.returncode == 9, child.stderr
    parts.wait_until(lambda: not Path(f"/proc/{child.stdout}").exists(), what="the orphan is gone", within_s=10)
