"""A queue that is paused, what people think of pictures, and jobs that are being removed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("job_queue", sa.Column("stars", sa.Integer(), nullable=True))
    op.add_column("job_queue", sa.Column("removing_at", sa.DateTime(timezone=True), nullable=True))
    op.create_table(
        "queue_pause",
        sa.Column("id", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("by", sa.String(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )


def downgrade() -> None:
    op.drop_table("queue_pause")
    op.drop_column("job_queue", "removing_at")
    op.drop_column("job_queue", "stars")
