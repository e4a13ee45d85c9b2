"""Jobs that wait for others, and schedules."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("job_queue", sa.Column("after_id", sa.String(length=63), nullable=True))
    op.add_column("job_queue", sa.Column("children", sa.Integer(), server_default="0", nullable=False))
    op.create_index("ix_job_queue_after", "job_queue", ["after_id"], unique=False)
    op.create_table(
        "schedules",
        sa.Column("id", sa.String(length=63), nullable=False),
        sa.Column("request", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("every", sa.String(), nullable=False),
        sa.Column("next_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("last_job_id", sa.String(length=63), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_schedules_due", "schedules", ["enabled", "next_at"], unique=False)


def downgrade() -> None:
    op.drop_index("ix_schedules_due", table_name="schedules")
    op.drop_table("schedules")
    op.drop_index("ix_job_queue_after", table_name="job_queue")
    op.drop_column("job_queue", "children")
    op.drop_column("job_queue", "after_id")
