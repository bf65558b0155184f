"""What people wrote for each version of a connector's config, on every database."""

from __future__ import annotations

from typing import Any

from wellhead.ids import ConnectionKey, ConnectorId
from wellhead.registry import kept_configs
from wellhead.registry.database import Database

from .conftest import KEY

ONE, OTHER = ConnectorId("acme/one"), ConnectorId("acme/other")


def keep(database: Database, version: int, config: dict[str, Any], connector: ConnectorId = ONE) -> bool:
    with database.transaction() as tx:
        return kept_configs.keep(tx, KEY, connector, version, config)


def newest(database: Database, version: int, connector: ConnectorId = ONE) -> tuple[int, Any] | None:
    with database.read() as tx:
        found = kept_configs.newest(tx, KEY, connector, version)
    return None if found is None else (found.version, found.config)


def test_the_last_config_of_each_version_is_kept(database: Database) -> None:
    assert keep(database, 1, {"a": 1})
    assert keep(database, 3, {"c": 1})
    assert not keep(database, 1, {"a": 1})
    assert keep(database, 1, {"a": None})
    assert [newest(database, version) for version in (1, 2, 3, 9)] == [
        (1, {"a": None}),
        (1, {"a": None}),
        (3, {"c": 1}),
        (3, {"c": 1}),
    ]


def test_what_is_kept_is_of_one_connector_and_one_connection(database: Database) -> None:
    keep(database, 2, {"a": 1})
    assert newest(database, 1) is None
    assert newest(database, 2, OTHER) is None
    with database.read() as tx:
        assert kept_configs.newest(tx, ConnectionKey("else", "else", "else"), ONE, 2) is None


def test_a_connection_that_is_removed_leaves_no_config_to_one_of_its_name(database: Database) -> None:
    keep(database, 1, {"a": 1})
    keep(database, 1, {"a": 1}, OTHER)
    with database.transaction() as tx:
        kept_configs.forget(tx, KEY)
    assert (newest(database, 1), newest(database, 1, OTHER)) == (None, None)
