"""Alembic's folder: how the schema of `resources.database` came to be, one step per file in `versions`."""
