"""How often a job's run died: with this job alone in hand, and before any stage of it began."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for name in ("alone_deaths", "idle_deaths"):
        op.add_column("job_queue", sa.Column(name, sa.Integer(), server_default="0", nullable=False))


def downgrade() -> None:
    for name in ("idle_deaths", "alone_deaths"):
        op.drop_column("job_queue", name)
