"""What is written into the PNGs of a job: the A1111 text, our own record, the kind of origin."""

from __future__ import annotations

import json
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
from resources.artifacts.images import PatchesRecord, StoredImage
from resources.backends import is_trained
from resources.generators.base import ImageTask
from resources.lora_tags import lora_tag, tag_name
from resources.samplers import SAMPLERS
from resources.sources.photos import SourceInfo

TOOL = f"face-changer {version('face-changer')}"
_MOST_WORDS: Final = 8000  # characters of a prompt, as in a request

_RESOURCES: Final = ("Model hash", "Model", "VAE hash", "VAE", "Clip skip", "Lora hashes")
_NOT_OURS: Final = (*_RESOURCES, "Steps", "Sampler", "Schedule type", "CFG scale", "Seed", "Size", "Version",
                    "Denoising strength", "Mask blur", "Inpaint area", "Masked area padding")  # fmt: skip
"""Of a server's own text: what is told in another way, and what is said of a face alone."""
_MOST_FACE_WORDS: Final = 60_000  # characters; with more, our own record alone tells them
_FACE_KEYS: Final = {
    "prompt": "ADetailer prompt",
    "negative_prompt": "ADetailer negative prompt",
    "strength": "ADetailer denoising strength",
}


def generated_provenance(
    job: Job, task: ImageTask, generator: str, made_by: Mapping[str, Any], texts: Mapping[str, str]
) -> Provenance:
    """For an image that was generated from a prompt; `texts`: what the back end's own file said."""
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
    return Provenance(_parameters(record), record, source_type, TOOL, texts)


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
        _parameters({**record, "width": source.width, "height": source.height})
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
    job: Job, sampling: Sampling, before: StoredImage, faces: PatchesRecord, size: tuple[int, int]
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
    told = made["record"] or {}
    from_photo = told.get("origin") in ("photo", "edited photo")
    made_size = told.get("made_size") or [told["width"], told["height"]]
    record = {**told, **_common(job), "width": size[0], "height": size[1]}
    if list(size) != made_size:
        record["made_size"] = made_size
    if not faces.details["faces"]:  # a person took the picture as it is, without a face
        parameters = _parameters(record) if "generator" in record else made["parameters"] or ""
        return Provenance(parameters, record, made["digital_source_type"], TOOL, before.texts)
    generator = str(faces.details["generator"])
    record |= {
        "origin": "edited photo" if from_photo else "generated",
        "generator": generator,
        "face_prompt": faces.details["prompt"],
        "face_pass": _lasting(faces.details),
        **sampling.model_dump(mode="json", include={"seed", "steps", "cfg_scale", "scheduler"}),
    }
    trained = is_trained(generator) or "trained" in (made["digital_source_type"] or "").lower()
    source_type = digital_source_type(trained=trained, from_photo=from_photo)
    return Provenance(_parameters(record), record, source_type, TOOL, before.texts or faces.texts)


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


def _parameters(record: Mapping[str, Any]) -> str:
    """A1111's text: the scene's, with the faces as ADetailer writes them; of a photo, that of its first face."""
    face_pass = record.get("face_pass", {})
    made_by = record.get("made_by") or {**face_pass.get("back_end", {}), **next(iter(face_pass.get("faces", ())), {})}
    asked = record if record.get("prompt") else {**face_pass, "prompt": record.get("face_prompt", "")}
    size = record.get("made_size") or (record["width"], record["height"])
    settings = {
        **{name: value for name, value in made_by.get("infotext", {}).items() if name not in _NOT_OURS},
        **_sampling_words(record, made_by),
        "Seed": record["seed"],
        "Size": f"{size[0]}x{size[1]}",
        **_model_words(made_by),
        **_face_words(face_pass),
        "Version": TOOL,
    }
    if hashes := _hashes(settings):
        settings["Hashes"] = json.dumps(hashes)
    loras = [_tag(lora) for lora in made_by.get("loras", ())]
    return a1111_parameters(" ".join([asked["prompt"], *loras]), asked.get("negative_prompt", ""), settings)


def _sampling_words(record: Mapping[str, Any], made_by: Mapping[str, Any]) -> dict[str, str | float]:
    """Steps, sampler and CFG scale as they were used; what a back end left aside is told as it had it, or not."""
    used = {"steps": record["steps"], "cfg_scale": record["cfg_scale"], "scheduler": record["scheduler"]}
    left = {*made_by.get("not_used", ()), *(made_by.get("unused", ()) if "workflow" in made_by else ())}
    used = {name: value for name, value in used.items() if name not in left} | made_by.get("in_workflow", {})
    if "steps" in left and "steps" in made_by:
        used["steps"] = made_by["steps"]
    said: dict[str, str | float] = {}
    if "steps" in used:
        said["Steps"] = used["steps"]
    if "scheduler" in used and used["scheduler"] in SAMPLERS:
        said["Sampler"], said["Schedule type"] = SAMPLERS[used["scheduler"]].forge
    elif sampler := used.get("scheduler") or made_by.get("scheduler_class"):
        said["Sampler"] = sampler
    if "cfg_scale" in used:
        said["CFG scale"] = used["cfg_scale"]
    return said


def _model_words(made_by: Mapping[str, Any]) -> dict[str, str | float]:
    """The checkpoint and how it was used. What ComfyUI's own entry calls its model is a workflow."""
    said = dict(made_by.get("infotext", {}))
    model = made_by.get("checkpoint") if "workflow" in made_by else made_by.get("model")
    clip_skip = made_by.get("clip_skip") or made_by.get("options", {}).get("CLIP_stop_at_last_layers")
    vae = made_by.get("vae")
    if model and is_trained(made_by.get("generator", "")):
        said["Model"] = str(model)
    if made_by.get("model_hash"):
        said["Model hash"] = made_by["model_hash"]
    if vae:
        said.setdefault("VAE", vae["name"] if isinstance(vae, Mapping) else vae)
    if clip_skip and clip_skip > 1:
        said["Clip skip"] = clip_skip
    return {name: said[name] for name in _RESOURCES if said.get(name)}


def _face_words(face_pass: Mapping[str, Any]) -> dict[str, str | float]:
    """What each face was asked for, in ADetailer's keys; where the faces differ, one part for each."""
    faces = face_pass.get("faces", ())
    said: dict[str, str | float] = {}
    for name, key in _FACE_KEYS.items():
        values = [str(face[name]) for face in faces if name in face]
        words = (values[0] if len(set(values)) == 1 else " [SEP] ".join(values)) if any(values) else ""
        if words and len(words) <= _MOST_FACE_WORDS:
            said[key] = words
    return said


def _hashes(settings: Mapping[str, str | float]) -> dict[str, str]:
    """The files by their hashes, as Civitai links them."""
    told = {"model": settings.get("Model hash"), "vae": settings.get("VAE hash")}
    loras = (pair.partition(": ") for pair in str(settings.get("Lora hashes", "")).split(", "))
    told |= {f"lora:{name}": digest for name, _, digest in loras if digest}
    return {name: str(digest) for name, digest in told.items() if digest}


def _tag(lora: str | Mapping[str, Any]) -> str:
    if isinstance(lora, str):
        return lora
    return lora_tag(tag_name(lora["name"]), lora["weight"], lora.get("text_weight", lora["weight"]))
