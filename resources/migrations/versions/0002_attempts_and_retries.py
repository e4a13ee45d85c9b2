"""Every attempt at every stage, and what a person asks for when a job is retried."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("job_queue", sa.Column("salts", sa.JSON(none_as_null=True), nullable=True))
    op.add_column("job_queue", sa.Column("user_mask", sa.JSON(none_as_null=True), nullable=True))
    op.create_table(
        "stage_attempts",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("job_id", sa.String(length=63), nullable=False),
        sa.Column("stage", sa.String(), nullable=False),
        sa.Column("verdict", sa.String(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("input", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("settings", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("output", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("run_id", sa.String(), nullable=True),
        sa.Column("content_key", sa.String(), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["job_id"], ["job_queue.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_stage_attempts_job", "stage_attempts", ["job_id", "id"], unique=False)


def downgrade() -> None:
    op.drop_index("ix_stage_attempts_job", table_name="stage_attempts")
    op.drop_table("stage_attempts")
    op.drop_column("job_queue", "user_mask")
    op.drop_column("job_queue", "salts")
