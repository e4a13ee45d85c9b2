"""What a filled ComfyUI workflow says of the image that its output gives: files, and how it is sampled."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import PureWindowsPath
from typing import Any

from resources.lora_tags import lora_tag, tag_name
from resources.samplers import a1111_sampler


def files_of(graph: Mapping[str, Any], output: str) -> dict[str, Any]:
    """The model's files and how they are used, of loaders by ComfyUI's usual names of inputs.

    Args:
        graph: in API format, filled.
        output: id of the node whose image is taken.

    Returns:
        Of `checkpoint`, `vae`, `clip_skip` (as A1111 counts) and `loras` (A1111's tags) what the workflow has; where
        several nodes have the same, what is nearest to the output.
    """
    found: dict[str, Any] = {}
    loras = []
    for inputs in _inputs_behind(graph, output):
        for name, key in (("ckpt_name", "checkpoint"), ("unet_name", "checkpoint"), ("vae_name", "vae")):
            if isinstance(inputs.get(name), str):
                # backslashes are Windows', slashes everyone's: this class takes both
                file = PureWindowsPath(inputs[name])
                found.setdefault(key, file.name if key == "vae" else file.name.removesuffix(".safetensors"))
        if isinstance(inputs.get("stop_at_clip_layer"), int):
            found.setdefault("clip_skip", -inputs["stop_at_clip_layer"])
        weight = inputs.get("strength_model")
        if isinstance(inputs.get("lora_name"), str) and isinstance(weight, int | float):
            text_weight = inputs.get("strength_clip", weight)
            text_weight = text_weight if isinstance(text_weight, int | float) else weight
            loras.append(lora_tag(tag_name(inputs["lora_name"]), weight, text_weight))
    return found | ({"loras": loras[::-1]} if loras else {})


def sampling_of(graph: Mapping[str, Any], output: str) -> dict[str, Any]:
    """`steps`, `cfg_scale` and `scheduler` (A1111's name, if it has one) of the sampling node nearest to the output."""
    sampled = (inputs for inputs in _inputs_behind(graph, output) if isinstance(inputs.get("steps"), int))
    inputs = next(sampled, {})
    said = {"steps": inputs.get("steps"), "cfg_scale": inputs.get("cfg"), "scheduler": None}
    if isinstance(inputs.get("sampler_name"), str):
        schedule = inputs.get("scheduler")
        name = f"{inputs['sampler_name']} {schedule}" if isinstance(schedule, str) else inputs["sampler_name"]
        try:
            said["scheduler"] = a1111_sampler(name)
        except ValueError:
            said["scheduler"] = name
    return {name: value for name, value in said.items() if isinstance(value, str | int | float)}


def _inputs_behind(graph: Mapping[str, Any], output: str) -> Iterator[Mapping[str, Any]]:
    """The inputs of each node that the output depends on, itself first, nearer ones before others."""
    known, waiting = {output}, [output]
    for node_id in waiting:
        inputs = graph.get(node_id, {}).get("inputs", {})
        yield inputs
        for value in inputs.values():
            source = str(value[0]) if isinstance(value, list) and value else ""
            if source in graph and source not in known:
                known.add(source)
                waiting.append(source)
