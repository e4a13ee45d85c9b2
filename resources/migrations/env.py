"""What Alembic runs for each upgrade: the migrations, on the connection and in the transaction of the caller."""

from typing import Literal

from alembic import context
from sqlalchemy.types import TypeDecorator

from resources.database import Base


def _render_item(kind: str, item: object, _context: object) -> str | Literal[False]:
    """Write plain SQLAlchemy types into a new migration, so that it does not change when ours do."""
    if kind == "type" and isinstance(item, TypeDecorator):
        return f"sa.{item.impl!r}"
    return False


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_item=_render_item,
)
with context.begin_transaction():
    context.run_migrations()
