"""What is written into the PNGs of a job: the A1111 text, our own record, the kind of origin."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from imaging.files.provenance import Provenance, a1111_parameters, digital_source_type
from jobs.model.job import Job
from jobs.recipes.sections import Sampling
from resources.backends import is_trained
from resources.generators.base import ImageTask
from resources.sources.photos import SourceInfo

TOOL = f"face-changer {version('face-changer')}"


def generated_provenance(job: Job, task: ImageTask, generator: str, made_by: Mapping[str, Any]) -> Provenance:
    """For an image that was generated from a prompt."""
    record = {
        **_common(job),
        "origin": "generated",
        "generator": generator,
        "prompt": task.prompt,
        "negative_prompt": task.negative_prompt,
        "seed": task.seed,
        "width": task.width,
        "height": task.height,
        "steps": task.steps,
        "cfg_scale": task.cfg_scale,
        "scheduler": task.scheduler,
        "made_by": _lasting(made_by),
    }
    source_type = digital_source_type(trained=is_trained(generator), from_photo=False)
    return Provenance(_parameters(record, (task.width, task.height)), record, source_type, TOOL)


def imported_provenance(job: Job, source: SourceInfo) -> Provenance:
    """For a photo that was imported and not changed; how it came to be is not known."""
    record = {
        **_common(job),
        "origin": "photo",
        "source_sha256": source.sha256,
        "width": source.width,
        "height": source.height,
    }
    return Provenance("", record, None, TOOL)


def inherited_provenance(job: Job, source: SourceInfo, made: Mapping[str, Any]) -> Provenance:
    """For the picture of another job: what its PNG says of how it was made goes on.

    Args:
        job: the job that works on it.
        source: the picture as it was taken.
        made: what `imaging.files.provenance.read_provenance` finds in it.
    """
    record = {
        **(made["record"] or {}),
        **_common(job),
        "source_job": job.request.result_of,
        "source_sha256": source.sha256,
        "width": source.width,
        "height": source.height,
    }
    return Provenance(made["parameters"] or "", record, made["digital_source_type"], TOOL)


def final_provenance(
    job: Job, sampling: Sampling, before: Mapping[str, Any], faces: Mapping[str, Any], size: tuple[int, int]
) -> Provenance:
    """For the finished picture.

    Args:
        job: the job.
        sampling: that of its recipe.
        before: the record of the generated or imported image.
        faces: how the faces were made anew.
        size: (width, height) of the finished picture.
    """
    from_photo = before.get("origin") in ("photo", "edited photo")
    if not faces["faces"]:  # a person took the picture as it is, without a face
        record = {**before, **_common(job), "width": size[0], "height": size[1]}
        if before.get("origin") == "photo":
            return Provenance("", record, None, TOOL)
        trained = is_trained(record["generator"])
        return Provenance(
            _parameters(record, size), record, digital_source_type(trained=trained, from_photo=from_photo), TOOL
        )
    generator = str(faces["generator"])
    record = {
        **before,
        **_common(job),
        "origin": "edited photo" if from_photo else "generated",
        "generator": generator,
        "face_prompt": faces["prompt"],
        "face_pass": _lasting(faces),
        **sampling.model_dump(mode="json", include={"seed", "steps", "cfg_scale", "scheduler"}),
        "width": size[0],
        "height": size[1],
    }
    source_type = digital_source_type(trained=is_trained(generator), from_photo=from_photo)
    return Provenance(_parameters(record, size), record, source_type, TOOL)


def _lasting(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The facts without times, so that the same request gives the same bytes."""
    lasting = {name: value for name, value in facts.items() if name != "seconds"}
    if "faces" in lasting:
        lasting["faces"] = [_lasting(face) for face in lasting["faces"]]
    return lasting


def _common(job: Job) -> dict[str, Any]:
    return {
        "job_id": job.id,
        "job_type": job.job_type,
        "tool": TOOL,
        "request": job.request.model_dump(mode="json"),
    }


def _parameters(record: Mapping[str, Any], size: tuple[int, int]) -> str:
    face_pass = record.get("face_pass", {})
    made_by = record.get("made_by") or {**face_pass.get("back_end", {}), **next(iter(face_pass.get("faces", ())), {})}
    unused = made_by.get("not_used", ())
    settings: dict[str, str | float] = {
        "Steps": made_by["steps"] if "steps" in unused else record["steps"],
        "Sampler": made_by["scheduler_class"] if "scheduler" in unused else record["scheduler"],
        "CFG scale": record["cfg_scale"],
        "Seed": record["seed"],
        "Size": f"{size[0]}x{size[1]}",
        "Model": str(made_by.get("model", record["generator"])),
        "Version": TOOL,
    }
    if "cfg_scale" in unused:
        del settings["CFG scale"]
    if "face_prompt" in record:
        settings["Face prompt"] = record["face_prompt"]
        settings["Denoising strength"] = record["face_pass"]["face_strength"]
    asked = record if record.get("prompt") else {**record.get("face_pass", {}), "prompt": record.get("face_prompt", "")}
    return a1111_parameters(asked["prompt"], asked.get("negative_prompt", ""), settings)
