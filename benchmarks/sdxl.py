"""Images per second of SDXL through the asset `generated_image`, next to a bare loop over diffusers.

    .venv/bin/python benchmarks/sdxl.py [--model FOLDER] [--size 1024] [--steps 20] [--batches 1 8 16] [--compile off]

Both run in one process, over the same weights in memory, with the same prompts, seeds, steps, CFG scale and sampler
(Euler). The asset's time is that of its step in a real Dagster run: it draws the same images and also checks them,
makes thumbnails, writes PNGs with their provenance, and records each in both databases. On CUDA, without --model, a
full-size SDXL with random weights is made (speed does not depend on the weights); without CUDA the tiny checkpoint of
the tests, for which only the ratio of the two means anything.
"""

from __future__ import annotations

import argparse
import gc
import os
import platform
import resource
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import dagster as dg

from imaging.quality.score import Verdict
from jobs.model.request import JobRequest
from jobs.queue.job_queue import JobQueue
from jobs.requests.accept import submit
from resources.database import open_database
from resources.generators.diffusion.model_cache import MODELS
from resources.settings import PROJECT_ROOT, load_settings
from resources.store.image_store import ImageStore

CFG_SCALE = 8.0
SAMPLER = "Euler"
NEGATIVE = "blurry, low quality"


@dataclass(frozen=True)
class Work:
    """What one measurement makes: `batches` calls of `batch` images each."""

    batch: int
    batches: int
    size: int
    steps: int

    @property
    def images(self) -> int:
        """How many in all."""
        return self.batch * self.batches

    def prompts(self) -> list[str]:
        """One per image."""
        return [f"portrait of a woman in the rain, number {number}" for number in range(self.images)]


def bare(work: Work, model: Any) -> float:  # noqa: ANN401
    """Seconds of a plain loop over diffusers' pipeline."""
    import torch
    from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline

    pipeline = StableDiffusionXLPipeline(
        **model.parts,
        scheduler=EulerDiscreteScheduler.from_config(model.scheduler_config),
        add_watermarker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    prompts = work.prompts()
    start = time.perf_counter()
    for first in range(0, work.images, work.batch):
        chunk = prompts[first : first + work.batch]
        with torch.inference_mode():
            pipeline(
                prompt=chunk,
                negative_prompt=[NEGATIVE] * len(chunk),
                generator=[torch.Generator("cpu").manual_seed(first + index) for index in range(len(chunk))],
                width=work.size,
                height=work.size,
                num_inference_steps=work.steps,
                guidance_scale=CFG_SCALE,
            )
    return time.perf_counter() - start


def through_the_asset(work: Work) -> float:
    """Seconds of the step `generated_image` of a Dagster run over as many jobs, on a fresh home."""
    from fc_assets.definitions import build_defs
    from jobs.model.stages import PARTITIONS
    from jobs.runs.lifecycle import RANGE_END_TAG, RANGE_START_TAG

    with tempfile.TemporaryDirectory(prefix="face-changer-sdxl-") as folder:
        home = Path(folder)
        shutil.copy(PROJECT_ROOT / "dagster.yaml", home)
        os.environ |= {
            "DAGSTER_HOME": str(home),
            "FC_DATA_DIR": str(home / "data"),
            "FC_DATABASE_URL": f"sqlite:///{home}/face-changer.sqlite",
            "FC_WRITER": "offline",
            "FC_SDXL_BATCH_SIZE": str(work.batch),
        }
        queue = JobQueue(open_database(os.environ["FC_DATABASE_URL"]))
        requests = [
            JobRequest(
                job_type="sdxl_generation",
                pony_prompt=prompt,
                negative_prompt=NEGATIVE,
                seed=seed,
                width=work.size,
                height=work.size,
                steps=work.steps,
                cfg_scale=CFG_SCALE,
                scheduler=SAMPLER,
            )
            for seed, prompt in enumerate(work.prompts())
        ]
        keys = [f"job-{number:03}" for number in range(work.images)]
        submit(
            list(zip(keys, requests, strict=True)),
            queue=queue,
            store=ImageStore(os.environ["FC_DATA_DIR"]),
            settings=load_settings(),
            origin="cli",
            hold=True,
        )
        defs = build_defs()
        with dg.DagsterInstance.from_config(str(home)) as instance:
            instance.add_dynamic_partitions(PARTITIONS, keys)
            result = dg.materialize(
                list(defs.assets or []),
                selection=dg.AssetSelection.assets("job_request", "enhanced_prompt", "generated_image"),
                instance=instance,
                resources=dict(defs.resources or {}),
                tags={RANGE_START_TAG: keys[0], RANGE_END_TAG: keys[-1]},
            )
            stats = {step.step_key: step for step in instance.get_run_step_stats(result.run_id)}
        done = queue.counts()["completed"]
        if done != work.images:
            raise SystemExit(f"Only {done} of {work.images} jobs were completed: {queue.counts()}")
        step = stats["make_generated_image"]
        return float((step.end_time or 0) - (step.start_time or 0))


def memory() -> str:
    """The most memory that was in use: of the GPU, or of this process."""
    import torch

    if torch.cuda.is_available():
        return f"{torch.cuda.max_memory_allocated() / 2**30:.1f} GiB on the GPU"
    return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GiB of main memory"


def make_checkpoint(folder: Path) -> Path:
    """The tiny checkpoint, or on CUDA one of SDXL's full size with random weights in bfloat16."""
    import torch

    sys.path.insert(0, str(PROJECT_ROOT))
    from tests.support.tiny_sdxl import build_full_sdxl, build_tiny_sdxl

    return build_full_sdxl(folder) if torch.cuda.is_available() else build_tiny_sdxl(folder)


def accept_anything() -> None:
    """Let random images through: the check of a generated image is made, and its verdict left aside."""
    from fc_assets.stages import generated_image

    check = generated_image.verify_output

    def made_but_left_aside(*args: Any, **kwargs: Any) -> Verdict:  # noqa: ANN401
        verdict = check(*args, **kwargs)
        return Verdict(passed=True, reasons=(), scores=verdict.scores)

    generated_image.verify_output = made_but_left_aside


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="a folder in diffusers format; default: made, with random weights")
    parser.add_argument("--size", type=int, help="pixels; default: 1024, for the tiny checkpoint 128")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 16])
    parser.add_argument("--compile", nargs="+", default=["off"], choices=["off", "default", "max"])
    parser.add_argument("--calls", type=int, default=3, help="calls per measurement")
    parser.add_argument("--repeats", type=int, default=2, help="measurements of each kind, in turn; the best counts")
    given = parser.parse_args()

    import torch

    from resources.generators.diffusion.options import Options
    from resources.generators.diffusion.sdxl_model import load_model
    from resources.models.names import ModelNames

    cuda = torch.cuda.is_available()
    size = given.size or (1024 if cuda else 128)
    where = torch.cuda.get_device_name() if cuda else f"{os.cpu_count()} CPU cores, {platform.machine()}"
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "diffusers", "transformers"))
    print(f"{where}; Python {platform.python_version()}, {packages}")
    accept_anything()
    os.environ |= {"FC_GENERATOR": "sdxl"}
    with tempfile.TemporaryDirectory(prefix="face-changer-weights-") as folder:
        model = (given.model or make_checkpoint(Path(folder) / "model")).resolve()
        os.environ["FC_SDXL_MODEL"] = str(model)
        print(f"{size}x{size}, {given.steps} steps, CFG {CFG_SCALE:g}, {SAMPLER}")
        for mode in given.compile:
            os.environ["FC_SDXL_COMPILE"] = mode
            print(f"\ncompile: {mode}")
            one = Work(1, 1, size, given.steps)
            start = time.perf_counter()
            load_model(ModelNames(str(model)), Options(compile_mode=mode))
            print(f"load {time.perf_counter() - start:.1f} s", end="")
            print(f", first image {through_the_asset(one):.2f} s, second {through_the_asset(one):.2f} s", flush=True)
            print(f"{'batch':>6}{'asset, images/s':>18}{'bare, images/s':>17}{'asset / bare':>14}")
            for batch in given.batches:
                work = Work(batch, given.calls, size, given.steps)
                warm = Work(batch, 1, size, given.steps)
                loaded = load_model(ModelNames(str(model)), Options(compile_mode=mode))
                through_the_asset(warm)
                bare(warm, loaded)
                times = [(through_the_asset(work), bare(work, loaded)) for _ in range(given.repeats)]
                asset, loop = (work.images / min(column) for column in zip(*times, strict=True))
                print(f"{batch:6}{asset:18.3f}{loop:17.3f}{asset / loop:14.2f}", flush=True)
            print(f"memory: {memory()}")
            MODELS.clear()
            gc.collect()


if __name__ == "__main__":
    main()
