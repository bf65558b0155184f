"""Runs migrations on a connection the registry has already locked; kept apart because Alembic is slow to import."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy.engine import Connection


def config() -> Config:
    """Return Alembic's configuration: the folder of this package, and no ini file."""
    settings = Config()
    settings.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    return settings


def to(revision: str, connection: Connection) -> None:
    """Apply what is missing up to ``revision`` inside the connection's transaction; the caller commits."""
    settings = config()
    settings.attributes["connection"] = connection
    command.upgrade(settings, revision)


def newest() -> str | None:
    """Return the newest migration among the scripts."""
    return ScriptDirectory.from_config(config()).get_current_head()
