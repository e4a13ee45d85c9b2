"""Adding a LoRA to the weights of an SDXL checkpoint in memory.

This is not left to diffusers 0.42, which is right for an ordinary kohya LoRA and wrong for others, without an error:
where alphas differ between the layers of a text encoder, as after resizing, their scales are mixed up; where a text
encoder has no `out_proj`, its attention is left out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from imaging.errors import SettingsError
from resources.models.addons import Addon

if TYPE_CHECKING:
    import torch

_TEXT_PARTS: Final = {"text_encoder": "lora_te1_", "text_encoder_2": "lora_te2_"}
_DOWN, _UP = ".lora_down.weight", ".lora_up.weight"
_RESNET: Final = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
_OUTSIDE_BLOCKS: Final = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}


def add_lora(parts: Mapping[str, Any], lora: Addon) -> None:
    """Add a LoRA to the weights of the UNet and the text encoders. Nothing is left of it, so a call costs no more.

    To each module's weight W comes `weight * alpha / rank * up @ down` (Hu et al., LoRA, arXiv:2106.09685), computed in
    float32 and rounded once to the dtype of W. Known are the names of kohya's trainer, with the blocks of LDM or of
    diffusers, those of diffusers, and PEFT's alphas in the file's metadata.

    Args:
        parts: `unet`, `text_encoder` and `text_encoder_2` of diffusers and transformers.
        lora: a file that is here.

    Raises:
        SettingsError: the file holds something else, or a LoRA for another kind of model.
    """
    import torch
    from safetensors import safe_open

    if not lora.weight and not lora.text_weight:
        return
    assert lora.path is not None  # noqa: S101 - fetched before
    with safe_open(lora.path, framework="pt") as file:
        tensors = {_plain(name): file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it has no other
        alphas = _Alphas(lora, file.metadata() or {})
    modules = {stem: found for part in ("unet", *_TEXT_PARTS) for stem, found in _named_modules(part, parts[part])}
    changes = []
    for stem in [name.removesuffix(_DOWN) for name in tensors if name.endswith(_DOWN)]:
        if stem not in modules:
            raise _unusable(lora, f"SDXL has no layer {stem}")
        if stem + _UP not in tensors:
            raise _unusable(lora, f"{stem} has one of its two factors only")
        name, weight = modules[stem]
        down, up = tensors.pop(stem + _DOWN).flatten(1), tensors.pop(stem + _UP).flatten(1)
        rank = down.shape[0]
        if up.shape[1] != rank or (up.shape[0], down.shape[1]) != weight.flatten(1).shape:
            raise _unusable(lora, f"{stem} has factors {tuple(up.shape)} and {tuple(down.shape)}")
        alpha = tensors.pop(f"{stem}.alpha", None)
        strength = lora.weight if name.startswith("unet.") else lora.text_weight
        scale = strength * (alphas.of(name, rank) if alpha is None else float(alpha)) / rank
        changes.append((weight, down, up, scale))
    if tensors or not changes:
        raise _unusable(lora, f"it holds {next(iter(tensors), 'nothing')}, which is no part of a plain LoRA")
    with torch.no_grad():
        for weight, down, up, scale in changes:
            added = up.to(weight.device, torch.float32) @ down.to(weight.device, torch.float32)
            weight.copy_(weight.float() + scale * added.reshape(weight.shape))


class _Alphas:
    """PEFT's alphas, which diffusers writes into the metadata; the rank, which means a scale of 1, without them."""

    def __init__(self, lora: Addon, metadata: Mapping[str, str]) -> None:
        self._told: dict[str, Any] = json.loads(metadata.get("lora_adapter_metadata", "{}"))
        if any(value for name, value in self._told.items() if name.endswith((".use_rslora", ".use_dora"))):
            raise _unusable(lora, "it is a DoRA or rsLoRA")

    def of(self, module: str, rank: int) -> float:
        part, _, name = module.partition(".")
        patterns: dict[str, float] = self._told.get(f"{part}.alpha_pattern") or {}
        return float(patterns.get(name, self._told.get(f"{part}.lora_alpha", rank)))


def _named_modules(part: str, model: torch.nn.Module) -> Iterator[tuple[str, tuple[str, torch.Tensor]]]:
    """Every name that a trainer may give to a module of a part, with its name in diffusers and its weight."""
    for inner, module in model.named_modules():
        weight = getattr(module, "weight", None)
        if weight is None or weight.ndim < 2:
            continue
        if part == "unet":
            name = inner
            stems = [f"lora_unet_{found.replace('.', '_')}" for found in (inner, ldm_name(inner)) if found]
        else:
            # transformers 5.6 took a level out of one of the two encoders; trainers' names still have it
            name = inner if inner.startswith(("text_model.", "text_projection")) else f"text_model.{inner}"
            stems = [_TEXT_PARTS[part] + name.replace(".", "_"), f"{part}.{name}"]
        for stem in (*stems, f"{part}.{inner}"):
            yield stem, (f"{part}.{name}", weight)


def ldm_name(name: str) -> str | None:
    """A module of diffusers' SDXL UNet by its name in LDM; None for one that has none.

    A block of the UNet has two layers on its way down and three on its way up.
    """
    found = re.fullmatch(r"(down|mid|up)_blocks?(?:\.(\d))?\.(\w+)\.(\d)(?:\.(.+))?", name)
    if not found:
        return _OUTSIDE_BLOCKS.get(name)
    way, block, kind, layer, rest = found[1], int(found[2] or 0), found[3], int(found[4]), found[5] or ""
    if kind == "resnets":
        rest = _RESNET.get(rest, rest)
    if way == "mid":
        return f"middle_block.{1 if kind == 'attentions' else 2 * layer}.{rest}"
    if kind == "downsamplers":
        return f"input_blocks.{3 * block + 3}.0.op"
    if kind == "upsamplers":
        return f"output_blocks.{3 * block + 2}.2.conv"
    inner = f"{int(kind == 'attentions')}.{rest}"
    return (
        f"input_blocks.{3 * block + 1 + layer}.{inner}"
        if way == "down"
        else f"output_blocks.{3 * block + layer}.{inner}"
    )


def _plain(name: str) -> str:
    """A tensor's name with the ending that kohya gives it, also when diffusers or PEFT wrote it."""
    name = re.sub(r"\.processor\.to_([qkv])_lora\.", r".to_\1.lora.", name)
    name = name.replace(".processor.to_out_lora.", ".to_out.0.lora.")
    name = re.sub(r"\.(lora_A|lora\.down|lora_linear_layer\.down)\.weight$", _DOWN, name)
    return re.sub(r"\.(lora_B|lora\.up|lora_linear_layer\.up)\.weight$", _UP, name)


def _unusable(lora: Addon, why: str) -> SettingsError:
    return SettingsError(
        f"{lora.field}: {lora.path} cannot be added to this checkpoint: {why}.",
        "Use a LoRA made for SDXL, or a checkpoint that it was merged into.",
    )
