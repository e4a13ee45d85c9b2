"""The decorator of the stages: from one plain function to an asset with one partition per job."""

import inspect
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import dagster as dg

from fc_assets.engine import stage as engine
from fc_assets.engine.outcome import Done, Item
from fc_assets.engine.partitions import JOBS
from fc_assets.engine.step import Stage, StageOutput, Step, Work
from fc_assets.engine.tools import Tools
from jobs.queue.job_queue import JobQueue
from resources.artifacts.records import ARTIFACTS
from resources.settings import load_settings

OWNERS = ["team:face-changer"]

BackEndKind = Literal["generator", "writer", "detector", "encoder"]
OneByOne = Callable[[Item, Tools], Done]


@dataclass(frozen=True, slots=True)
class Together:
    """The function of a stage that works on several jobs at a time, and what those of one call have in common."""

    work: Work
    by: Callable[[Item, Tools], Hashable]


def together(by: Callable[[Item, Tools], Hashable]) -> Callable[[Work], Together]:
    """A stage whose function takes the jobs of a run that have something in common, such as a model, all at once."""
    return lambda work: Together(work, by)


def stage(
    *,
    code_version: str,
    group: str,
    kinds: Iterable[str],
    decides: Callable[[Item, Tools], Mapping[str, Any]],
    reads: Sequence[str] = (),
    uses: Iterable[BackEndKind] = (),
    pool: str | None = None,
    renew: Callable[[Item, Tools, Any], Done | None] | None = None,
    prepare: Callable[[Step, Any], None] | None = None,
    config: type[dg.Config] | None = None,
) -> Callable[[OneByOne | Together], dg.AssetsDefinition]:
    """An asset with one partition per job, whose run may carry many of them; its key is the function's name.

    The function's docstring is what the Dagster UI says of the asset. What it leaves behind is in
    `resources.artifacts.records.ARTIFACTS`.

    Args:
        code_version: raised whenever the code makes other results from the same inputs.
        group: the group in the lineage.
        kinds: badges in the lineage.
        decides: everything besides the inputs that decides a job's result. JSON values.
        reads: the earlier stages that it reads. A job may lack some of them (a photo has no enhanced prompt), so each
            is loaded only where it exists.
        uses: the back ends that it may take from its tools.
        pool: the concurrency pool, for stages that need a GPU.
        renew: what is to be stored in place of a value that was found again, where it says something that does not
            decide the stage's work; None: it stays.
        prepare: what is done with the run config of the stage's op before the jobs are looked up.
        config: the class of that config.
    """

    def decorate(function: OneByOne | Together) -> dg.AssetsDefinition:
        work = function.work if isinstance(function, Together) else function
        declared = Stage(
            name=work.__name__,
            code_version=code_version,
            artifact=ARTIFACTS[work.__name__],
            reads=tuple(reads),
            work=function.work if isinstance(function, Together) else _one_by_one(function),
            decides=decides,
            group_by=function.by if isinstance(function, Together) else _all_alike,
            renew=renew,
            prepare=prepare,
            config=config,
        )
        asset = dg.AssetOut(
            key=declared.name,
            description=inspect.getdoc(work),
            is_required=False,
            io_manager_key="stage_io",
            group_name=group,
            code_version=code_version,
            owners=OWNERS,
            kinds=set(kinds),
        )
        return dg.multi_asset(
            # Not the stage itself: Dagster refuses an op `description` beside the job `description`.
            name=op_name(declared.name),
            description=inspect.getdoc(work),
            outs={declared.name: asset},
            ins={name: dg.AssetIn(name, metadata={"allow_missing_partitions": True}) for name in reads},
            partitions_def=JOBS,
            backfill_policy=dg.BackfillPolicy.single_run(),
            pool=pool,
            required_resource_keys={"store", "database", *uses},
            config_schema=config.to_fields_dict() if config else {},
        )(_compute(declared))

    return decorate


def op_name(stage: str) -> str:
    """The name of a stage's op, which run config uses: `ops: {make_job_request: {config: ...}}`."""
    return f"make_{stage}"


def _compute(declared: Stage) -> Callable[..., Iterator[StageOutput]]:
    """What Dagster calls: the stage over the jobs of the run."""

    def compute(context: dg.AssetExecutionContext, **inputs: Any) -> Iterator[StageOutput]:  # noqa: ANN401 - of any stage
        tools = Tools(
            store=context.resources.store.get(),
            queue=JobQueue(context.resources.database.get()),
            settings=load_settings(),
            run_id=str(context.run.run_id),
            log=context.log.info,
            resources=context.resources,
        )
        step = Step(declared, context, tools, inputs)
        if declared.prepare and declared.config:
            declared.prepare(step, declared.config(**context.op_execution_context.op_config))
        yield from engine.run(step)

    return compute


def _one_by_one(work: OneByOne) -> Work:
    return lambda items, tools: (work(item, tools) for item in items)


def _all_alike(_item: Item, _tools: Tools) -> Hashable:
    return None
