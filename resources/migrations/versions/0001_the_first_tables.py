"""The first tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "controller_log",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("level", sa.String(), nullable=False),
        sa.Column("job_id", sa.String(), nullable=True),
        sa.Column("run_id", sa.String(), nullable=True),
        sa.Column("stage", sa.String(), nullable=True),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("data", sa.JSON(none_as_null=True), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_controller_log_job", "controller_log", ["job_id", "id"], unique=False)
    op.create_table(
        "job_queue",
        sa.Column("id", sa.String(length=63), nullable=False),
        sa.Column("job_type", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("request", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("source", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("parent_id", sa.String(length=63), nullable=True),
        sa.Column("origin", sa.String(), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("error_stage", sa.String(), nullable=True),
        sa.Column("error_mend", sa.Text(), nullable=True),
        sa.Column("batch_id", sa.String(), nullable=True),
        sa.Column("run_id", sa.String(), nullable=True),
        sa.Column("solo", sa.Boolean(), nullable=False),
        sa.Column("not_before", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("claimed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["parent_id"], ["job_queue.id"], ondelete="SET NULL"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "ix_job_queue_claim", "job_queue", ["status", "priority", "created_at", "id"], unique=False
    )
    op.create_index("ix_job_queue_newest", "job_queue", ["created_at", "id"], unique=False)
    op.create_index("ix_job_queue_parent", "job_queue", ["parent_id"], unique=False)
    op.create_table(
        "ideation_results",
        sa.Column("job_id", sa.String(length=63), nullable=False),
        sa.Column("iteration", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("prompt", sa.Text(), nullable=False),
        sa.Column("enhanced_prompt", sa.Text(), nullable=False),
        sa.Column("score", sa.Float(), nullable=True),
        sa.Column("selected", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["job_queue.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", "iteration"),
    )
    op.create_table(
        "image_metadata",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("job_id", sa.String(length=63), nullable=False),
        sa.Column("path", sa.String(), nullable=False),
        sa.Column("stage", sa.String(), nullable=False),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("height", sa.Integer(), nullable=False),
        sa.Column("format", sa.String(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("face_count", sa.Integer(), nullable=True),
        sa.Column("face_boxes", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("quality_score", sa.Float(), nullable=True),
        sa.ForeignKeyConstraint(["job_id"], ["job_queue.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("path", name="uq_image_metadata_path"),
    )
    op.create_index("ix_image_metadata_job", "image_metadata", ["job_id"], unique=False)
    op.create_table(
        "pipeline_results",
        sa.Column("job_id", sa.String(length=63), nullable=False),
        sa.Column("stage", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("input", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("output", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("milliseconds", sa.BigInteger(), nullable=True),
        sa.Column("run_id", sa.String(), nullable=True),
        sa.Column("content_key", sa.String(), nullable=True),
        sa.Column("cached", sa.Boolean(), nullable=False),
        sa.Column("runs", sa.Integer(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["job_id"], ["job_queue.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", "stage"),
    )
    op.create_table(
        "pipeline_state",
        sa.Column("job_id", sa.String(length=63), nullable=False),
        sa.Column("current_stage", sa.String(), nullable=True),
        sa.Column("stages_completed", sa.JSON(), nullable=False),
        sa.Column("run_ids", sa.JSON(), nullable=False),
        sa.Column("final_image", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(["job_id"], ["job_queue.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id"),
    )


def downgrade() -> None:
    op.drop_table("pipeline_state")
    op.drop_table("pipeline_results")
    op.drop_index("ix_image_metadata_job", table_name="image_metadata")
    op.drop_table("image_metadata")
    op.drop_table("ideation_results")
    op.drop_index("ix_job_queue_parent", table_name="job_queue")
    op.drop_index("ix_job_queue_newest", table_name="job_queue")
    op.drop_index("ix_job_queue_claim", table_name="job_queue")
    op.drop_table("job_queue")
    op.drop_index("ix_controller_log_job", table_name="controller_log")
    op.drop_table("controller_log")
