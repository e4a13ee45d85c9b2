"""What is written into the PNGs of a job: the A1111 text, our own record, the kind of origin."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any, Final, cast

from imaging.files.making import Making
from imaging.files.provenance import (
    DigitalSourceType,
    Provenance,
    a1111_parameters,
    digital_source_type,
    parse_a1111,
)
from jobs.model.job import Job
from jobs.recipes.sections import Sampling
from resources.artifacts.images import StoredImage
from resources.backends import is_trained
from resources.generators.base import ImageTask
from resources.sources.photos import SourceInfo

TOOL = f"face-changer {version('face-changer')}"
_MOST_WORDS: Final = 8000  # characters of a prompt, as in a request


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


def imported_provenance(job: Job, source: SourceInfo, making: Making) -> Provenance:
    """For a picture that was imported and not changed: what its file says of how it was made goes on.

    Args:
        job: the job that works on it.
        source: the picture as it was taken.
        making: what its file says; anyone may have written it.
    """
    told = _told_by_us(making, source) or _told_by_others(making)
    record = {
        **told,
        **_common(job),
        **({"source_job": job.request.result_of} if job.request.result_of else {}),
        "source_sha256": source.sha256,
        "width": source.width,
        "height": source.height,
    }
    return Provenance(making.parameters, record, _source_type_told(making, told), TOOL, making.texts)


def _told_by_us(making: Making, source: SourceInfo) -> dict[str, Any] | None:
    """Our own record of a made picture; None when there is none, or what only looks like one."""
    record = dict(making.record or {})
    if making.origin == "photo" or not isinstance(record.get("generator"), str):
        return None
    try:
        _parameters({**record, "width": source.width, "height": source.height}, (source.width, source.height))
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        return None
    return record


def _told_by_others(making: Making) -> dict[str, Any]:
    told: dict[str, Any] = {"origin": making.origin}
    if making.parameters:
        words = parse_a1111(making.parameters)
        told |= {"source_parameters": making.parameters}
        told |= {name: words[name] for name in ("prompt", "negative_prompt") if len(words[name]) <= _MOST_WORDS}
    return told


def _source_type_told(making: Making, told: Mapping[str, Any]) -> DigitalSourceType | None:
    """What the file says of how its pixels came to be; of one that only tells its prompt, a trained model made them."""
    if making.source_type is not None or making.origin == "photo":
        return cast("DigitalSourceType | None", making.source_type)  # as it is told: there are more terms than ours
    return digital_source_type(
        trained=is_trained(told.get("generator", "")), from_photo=making.origin == "edited photo"
    )


def final_provenance(
    job: Job, sampling: Sampling, before: StoredImage, faces: Mapping[str, Any], size: tuple[int, int]
) -> Provenance:
    """For the finished picture.

    Args:
        job: the job.
        sampling: that of its recipe.
        before: the generated or imported image.
        faces: how the faces were made anew.
        size: (width, height) of the finished picture.
    """
    made = before.made
    record = {**(made["record"] or {}), **_common(job), "width": size[0], "height": size[1]}
    from_photo = record.get("origin") in ("photo", "edited photo")
    if not faces["faces"]:  # a person took the picture as it is, without a face
        parameters = _parameters(record, size) if "generator" in record else made["parameters"] or ""
        return Provenance(parameters, record, made["digital_source_type"], TOOL, before.texts)
    generator = str(faces["generator"])
    record |= {
        "origin": "edited photo" if from_photo else "generated",
        "generator": generator,
        "face_prompt": faces["prompt"],
        "face_pass": _lasting(faces),
        **sampling.model_dump(mode="json", include={"seed", "steps", "cfg_scale", "scheduler"}),
    }
    trained = is_trained(generator) or "trained" in (made["digital_source_type"] or "").lower()
    source_type = digital_source_type(trained=trained, from_photo=from_photo)
    return Provenance(_parameters(record, size), record, source_type, TOOL, before.texts)


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
