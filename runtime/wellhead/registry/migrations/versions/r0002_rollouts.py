"""Rollouts of a channel's versions, and what is said beside a release's status."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Tell what each pointer did: a version that was pointed to again used to mean going back to it."""
    with op.batch_alter_table("channels") as table:
        table.add_column(sa.Column("kind", sa.String(), nullable=False, server_default="promote"))
        table.add_column(sa.Column("rollout", sa.JSON(), nullable=True))
        table.create_check_constraint(op.f("ck_channels_kind"), "kind IN ('promote', 'back', 'halt')")
    op.execute(
        "UPDATE channels SET kind = 'back' WHERE EXISTS (SELECT 1 FROM channels AS earlier "
        "WHERE earlier.connector_id = channels.connector_id AND earlier.channel = channels.channel "
        "AND earlier.version = channels.version AND earlier.id < channels.id)"
    )
    with op.batch_alter_table("channels") as table:
        table.alter_column("kind", server_default=None)
    with op.batch_alter_table("connector_definitions") as table:
        table.add_column(sa.Column("status_details", sa.JSON(), nullable=True))
