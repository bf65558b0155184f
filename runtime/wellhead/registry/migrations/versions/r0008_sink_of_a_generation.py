"""The sink that a generation's rows go to, so that no state is gone on from into another."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns; a generation of before this takes the sink that it is next gone on with in."""
    op.add_column("generations", sa.Column("sink_id", sa.String(), nullable=True))
    op.add_column("generations", sa.Column("sink_path", sa.Text(), nullable=True))
