"""Which kind of fault ended an attempt, how often each kind ended one of a job, and when its partition came back."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("job_queue", sa.Column("fault", sa.String(), nullable=True))
    op.add_column("job_queue", sa.Column("faults", sa.JSON(none_as_null=True), nullable=True))
    op.add_column("job_queue", sa.Column("restored_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("stage_attempts", sa.Column("fault", sa.String(), nullable=True))


def downgrade() -> None:
    op.drop_column("stage_attempts", "fault")
    op.drop_column("job_queue", "restored_at")
    op.drop_column("job_queue", "faults")
    op.drop_column("job_queue", "fault")
