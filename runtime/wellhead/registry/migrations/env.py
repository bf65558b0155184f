"""What Alembic runs for every command: it uses the connection and the transaction it was given."""

from __future__ import annotations

from alembic import context

from wellhead.registry.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    # SQLite changes tables by copying them.
    render_as_batch=True,
)
context.run_migrations()
