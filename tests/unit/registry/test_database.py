"""Opening, migrating, transactions and the errors a database can answer with."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
import traceback
from pathlib import Path
from typing import Protocol

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from wellhead.errors import ConfigurationError, FatalError, TransientError
from wellhead.ids import ConnectorId
from wellhead.registry import catalog_events, connections
from wellhead.registry.database import BAD_URL, HEAD, Database
from wellhead.registry.migrations import upgrade
from wellhead.registry.tables import metadata

from .conftest import KEY

pytestmark = pytest.mark.slow

CONNECTOR = ConnectorId("wellhead/postgres")


class Server(Protocol):
    def psql(self, sql: str, *, database: str = ..., options: tuple[str, ...] = ...) -> str: ...
    def url(self, database: str = ..., *, user: str = ...) -> str: ...


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:pa@Secret:tail@127.0.0.1:1/x",
        "postgresql://u:pa@Secret@127.0.0.1:1/x",
        "postgresql://u:pa@Secret/tail@127.0.0.1:1/x",
        "postgresql://u:pa@Secret?tail@127.0.0.1:1/x",
        "postgresql://u@host:Secret/x",
        "postgresql://u:Secret@[::1/x",
        "mysql://u:Secret@host/x",
        "postgresql://u:Secret@host:65536/x",
        "postgresql://u:Secret@host:0/x",
    ],
)
def test_an_address_that_cannot_be_taken_apart_is_refused_and_not_told(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Database.open(url)
    assert caught.value.code == BAD_URL
    told = "".join(traceback.format_exception(caught.value)) + str(caught.value.hint)
    assert "Secret" not in told
    assert "tail" not in told
    assert "registry.password_file" in (caught.value.hint or "")


def test_an_address_is_shown_without_its_password() -> None:
    with pytest.raises(TransientError, match=r"u:\*\*\*@127.0.0.1:1/x") as caught:
        Database.open("postgresql://u:Secret@127.0.0.1:1/x?password=Secret")
    assert "Secret" not in caught.value.message


def test_the_known_head_is_the_newest_migration() -> None:
    assert upgrade.newest() == HEAD


def test_the_migrations_make_exactly_the_tables(database: Database) -> None:
    with database.read() as tx:
        context = MigrationContext.configure(tx._connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []


def test_the_six_tables_of_the_requirements_exist(database: Database) -> None:
    with database.read() as tx:
        names = set(sa.inspect(tx._connection).get_table_names())
    assert {
        "connector_definitions",
        "tenant_connections",
        "connector_runs",
        "connector_run_state",
        "stream_registry",
        "compat_alerts",
    } <= names


def test_migrating_again_does_nothing(database: Database) -> None:
    assert database.migrate() is False


def test_migrating_an_up_to_date_registry_does_not_import_alembic(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/registry.db"
    Database.open(url).migrate()
    script = (
        "import sys\nfrom wellhead.registry.database import Database\n"
        f"database = Database.open({url!r})\nassert database.migrate() is False\n"
        "assert 'alembic' not in sys.modules and 'sqlalchemy.orm' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_many_may_migrate_an_empty_registry_at_once(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/registry.db"
    script = f"from wellhead.registry.database import Database\nDatabase.open({url!r}).migrate()\n"
    starts = [subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE) for _ in range(4)]
    ends = [(start.communicate()[1], start.returncode) for start in starts]
    assert ends == [(b"", 0)] * 4


@pytest.mark.real
def test_many_may_migrate_an_empty_postgresql_registry_at_once(postgres: Server) -> None:
    postgres.psql("create database migrated_at_once")
    url = postgres.url("migrated_at_once")
    script = f"from wellhead.registry.database import Database\nDatabase.open({url!r}).migrate()\n"
    starts = [subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE) for _ in range(3)]
    ends = [(start.communicate()[1], start.returncode) for start in starts]
    assert ends == [(b"", 0)] * 3


def test_a_registry_of_a_newer_wellhead_is_refused(database: Database) -> None:
    with database.transaction() as tx:
        tx.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    try:
        with pytest.raises(ConfigurationError, match="is at migration 9999") as caught:
            database.migrate()
    finally:
        with database.transaction() as tx:
            tx.execute(sa.text(f"UPDATE alembic_version SET version_num = '{HEAD}'"))
    assert caught.value.code.name == "WH-REG-006"


def test_an_empty_database_says_that_it_has_no_tables(tmp_path: Path) -> None:
    database = Database.open(f"sqlite:///{tmp_path}/registry.db")
    assert database.revision() is None
    with pytest.raises(ConfigurationError) as caught, database.read() as tx:
        connections.find(tx, KEY)
    assert caught.value.code.name == "WH-REG-005"


def test_a_transaction_that_fails_leaves_nothing(database: Database) -> None:
    def note_and_fail() -> None:
        with database.transaction() as tx:
            catalog_events.note(tx, "published", CONNECTOR, who="somebody")
            raise KeyError

    with pytest.raises(KeyError):
        note_and_fail()
    with database.read() as tx:
        assert catalog_events.all_of(tx, CONNECTOR) == []


def test_a_row_that_contradicts_another_is_fatal_and_leaves_nothing(database: Database) -> None:
    statement = sa.text(
        "INSERT INTO pending_revocations (accessor, run_id, created_at, expires_at)"
        " VALUES ('a', 'r', '2026-01-01 00:00:00', '2026-01-01 00:00:00')"
    )

    def insert_twice() -> None:
        with database.transaction() as tx:
            tx.execute(statement)
            tx.execute(statement)

    with pytest.raises(FatalError) as caught:
        insert_twice()
    assert caught.value.code.name == "WH-REG-009"
    with database.read() as tx:
        assert tx.execute(sa.text("SELECT count(*) FROM pending_revocations")).scalar() == 0


def test_times_come_back_aware_and_in_utc(onboarded: Database) -> None:
    with onboarded.read() as tx:
        offset = connections.get(tx, KEY).created_at.utcoffset()
    assert offset is not None
    assert offset.total_seconds() == 0


def test_sqlite_runs_in_wal_mode_with_full_synchronous(tmp_path: Path) -> None:
    database = Database.open(f"sqlite:///{tmp_path}/registry.db")
    with database.read() as tx:
        found = [tx.execute(sa.text(f"PRAGMA {name}")).scalar() for name in ("journal_mode", "synchronous")]
    assert found == ["wal", 2]


def test_a_writing_transaction_takes_sqlites_lock_when_it_begins(tmp_path: Path) -> None:
    database = Database.open(f"sqlite:///{tmp_path}/registry.db")
    database.migrate()
    reached: list[str] = []

    def second() -> None:
        with database.transaction() as tx:
            reached.append("second")
            catalog_events.note(tx, "published", CONNECTOR, who="second")

    with database.transaction() as tx:
        # A deferred BEGIN lets both read here, and then refuses one of the writers at once.
        catalog_events.all_of(tx, CONNECTOR)
        other = threading.Thread(target=second)
        other.start()
        other.join(0.3)
        reached.append("first")
        catalog_events.note(tx, "published", CONNECTOR, who="first")
    other.join(10)
    assert reached == ["first", "second"]


def test_readers_do_not_wait_for_a_writer(onboarded: Database) -> None:
    with onboarded.transaction() as writer:
        connections.set_enabled(writer, KEY, enabled=False)
        with onboarded.read() as reader:
            assert connections.get(reader, KEY).enabled is True


def test_a_new_registry_file_is_its_owners_alone(tmp_path: Path) -> None:
    Database.open(f"sqlite:///{tmp_path}/new/registry.db").migrate()
    assert stat.S_IMODE(os.stat(tmp_path / "new" / "registry.db").st_mode) == 0o600
    assert stat.S_IMODE(os.stat(tmp_path / "new").st_mode) == 0o700


@pytest.mark.parametrize("url", ["mysql://a/b", "not an address", "sqlite://", "sqlite:///:memory:"])
def test_an_address_of_no_use_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Database.open(url)
    assert caught.value.code.name == "WH-REG-007"


@pytest.mark.parametrize("url", ["postgresql://user@server@127.0.0.1:1/x", "postgresql://127.0.0.1:1/x?options=a@b"])
def test_an_at_sign_elsewhere_than_in_a_password_is_part_of_the_address(url: str) -> None:
    with pytest.raises(TransientError):
        Database.open(url)


def test_a_file_that_is_no_database_is_called_damaged(tmp_path: Path) -> None:
    (tmp_path / "registry.db").write_bytes(b"this is not a database at all" * 1000)
    with pytest.raises(FatalError) as caught:
        Database.open(f"sqlite:///{tmp_path}/registry.db")
    assert caught.value.code.name == "WH-REG-004"


def test_a_folder_in_place_of_the_file_is_a_configuration_error(tmp_path: Path) -> None:
    (tmp_path / "registry.db").mkdir()
    with pytest.raises(ConfigurationError) as caught:
        Database.open(f"sqlite:///{tmp_path}/registry.db")
    assert caught.value.code.name == "WH-REG-001"


def test_a_server_that_is_not_there_is_transient_and_the_password_is_not_shown() -> None:
    with pytest.raises(TransientError) as caught:
        Database.open("postgresql://somebody@127.0.0.1:1/registry", "a-password-of-ours")
    assert caught.value.code.name == "WH-REG-002"
    assert "a-password-of-ours" not in str(caught.value)


@pytest.mark.real
def test_a_wrong_password_is_a_configuration_error(postgres: Server) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Database.open(postgres.url(), "wrong")
    assert caught.value.code.name == "WH-REG-001"


@pytest.mark.real
def test_a_missing_database_is_a_configuration_error(postgres: Server) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Database.open(postgres.url("not-there"))
    assert caught.value.code.name == "WH-REG-001"


@pytest.mark.real
def test_a_commit_whose_answer_is_lost_is_unknown(postgres: Server, postgres_url: str) -> None:
    database = Database.open(postgres_url)

    def lose_the_server() -> None:
        with database.transaction() as tx:
            catalog_events.note(tx, "published", ConnectorId("lost/answer"), who="somebody")
            pid = tx.execute(sa.text("SELECT pg_backend_pid()")).scalar()
            postgres.psql(f"SELECT pg_terminate_backend({pid})")

    with pytest.raises(TransientError) as caught:
        lose_the_server()
    assert caught.value.code.name == "WH-REG-008"
    with database.read() as tx:
        assert catalog_events.all_of(tx, ConnectorId("lost/answer")) == []
    database.close()


def test_a_reading_transaction_cannot_write_and_the_next_one_can(database: Database) -> None:
    with pytest.raises(FatalError, match="tried to write"), database.read() as tx:
        catalog_events.note(tx, "published", CONNECTOR, who="somebody")
    with database.transaction() as tx:
        catalog_events.note(tx, "published", CONNECTOR, who="somebody")
        assert len(catalog_events.all_of(tx, CONNECTOR)) == 1


def test_a_full_disk_is_transient_and_keeps_what_was_committed(tmp_path: Path) -> None:
    database = Database.open(f"sqlite:///{tmp_path}/registry.db")
    database.migrate()
    with database.transaction() as tx:
        catalog_events.note(tx, "published", CONNECTOR, who="somebody")

    def fill() -> None:
        with database.transaction() as tx:
            # SQLite answers the same way as for a full disk, and has rolled back before we can.
            tx.execute(sa.text("PRAGMA max_page_count = 1"))
            catalog_events.note(tx, "published", CONNECTOR, who="x" * 2_000_000)

    with pytest.raises(TransientError) as caught:
        fill()
    assert caught.value.code.name == "WH-REG-003"
    with database.read() as tx:
        assert [event.who for event in catalog_events.all_of(tx, CONNECTOR)] == ["somebody"]
