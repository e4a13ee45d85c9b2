"""The decorator of the eight stage assets: what they all share in Dagster's eyes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any

import dagster as dg

from fc_assets.engine.partitions import JOBS

OWNERS = ["team:face-changer"]


def stage_asset(
    *, code_version: str, group: str, kinds: Iterable[str], ins: tuple[str, ...] = (), pool: str | None = None
) -> Callable[[Callable[..., Any]], dg.AssetsDefinition]:
    """An asset with one partition per job, whose run may carry many of them; its key is the function's name.

    Args:
        code_version: raised whenever the code makes other results from the same inputs.
        group: the group in the lineage.
        kinds: badges in the lineage.
        ins: the assets that it reads. A job may lack some of them (a photo has no enhanced prompt), so each is loaded
            only where it exists.
        pool: the concurrency pool, for stages that need a GPU.
    """

    def decorate(compute: Callable[..., Any]) -> dg.AssetsDefinition:
        stage = compute.__name__
        asset = dg.AssetOut(
            key=stage,
            description=inspect.getdoc(compute),
            is_required=False,
            io_manager_key="stage_io",
            group_name=group,
            code_version=code_version,
            owners=OWNERS,
            kinds=set(kinds),
        )
        return dg.multi_asset(
            # Not the stage itself: Dagster refuses an op `description` beside the job `description`.
            name=op_name(stage),
            outs={stage: asset},
            ins={name: dg.AssetIn(name, metadata={"allow_missing_partitions": True}) for name in ins},
            partitions_def=JOBS,
            backfill_policy=dg.BackfillPolicy.single_run(),
            pool=pool,
        )(compute)

    return decorate


def op_name(stage: str) -> str:
    """The name of a stage's op, which run config uses: `ops: {make_job_request: {config: ...}}`."""
    return f"make_{stage}"
