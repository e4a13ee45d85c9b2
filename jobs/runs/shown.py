"""What Dagster is shown of the stored result of a stage: a materialization with its picture and its numbers."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import dagster as dg


def materialization_of(
    stage: str,
    job_id: str,
    output: Mapping[str, Any],
    *,
    tags: Mapping[str, str] = MappingProxyType({}),
    description: str | None = None,
) -> dg.AssetMaterialization:
    """The event of a result.

    Args:
        stage: the stage's name, which is its asset's key.
        job_id: the job, which is the partition.
        output: the result as the database keeps it: `path`, `sha256` and `metadata` (JSON).
        tags: those besides the data version.
        description: why it is shown.
    """
    shown = {name: shown_value(name, value) for name, value in output.get("metadata", {}).items()}
    shown["path"] = dg.MetadataValue.path(output["path"])
    return dg.AssetMaterialization(
        stage,
        partition=job_id,
        description=description,
        metadata=shown,
        tags={"dagster/data_version": output["sha256"][:16], **tags},
    )


def shown_value(name: str, value: Any) -> Any:  # noqa: ANN401 - JSON in, Dagster metadata out
    """One value of a result's metadata, as Dagster shows it."""
    if name == "preview":
        return dg.MetadataValue.md(value)
    if isinstance(value, Mapping | list | tuple):
        return dg.MetadataValue.json(value)
    if value is None:
        return dg.MetadataValue.null()
    return value
