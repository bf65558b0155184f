"""For which connector a host was approved."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; what was approved before this does not say for which connector, and counts for none."""
    op.add_column("approvals", sa.Column("connector_id", sa.String(), nullable=True))
