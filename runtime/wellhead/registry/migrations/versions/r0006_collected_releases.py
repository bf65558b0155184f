"""Releases whose files were collected; their rows stay, for history and so that a version keeps its bytes."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns; nothing was collected before this."""
    for name in ("collected_at", "collecting_until"):
        op.add_column("connector_definitions", sa.Column(name, sa.DateTime(timezone=True)))
