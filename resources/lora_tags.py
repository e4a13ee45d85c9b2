"""LoRAs that a prompt names as in A1111: `<lora:name:weight>`."""

from __future__ import annotations

import math
import re
from typing import Final

from imaging.errors import RejectedError

_TAG: Final = re.compile(r"<(lora|lyco|hypernet):([^<>]*)>", re.IGNORECASE)
_GAP: Final = " \t\r\n,"


def take_loras(text: str) -> tuple[str, tuple[str, ...]]:
    """Take the LoRAs out of a prompt.

    Understood are `<lora:NAME>`, `<lora:NAME:0.8>` for UNet and text encoders, `<lora:NAME:TEXT:UNET>` and
    `<lora:NAME:te=0.5:unet=1>`, and `<lyco:...>` likewise; a weight that is not said is that of the text encoders, and
    that is 1. Of the spaces and commas around a tag, those of one side stay.

    Returns:
        The prompt without the tags, and an entry for each as `resources.models.places.read_lora` reads it: `NAME`,
        `NAME=WEIGHT`, or `NAME=UNET,TEXT`. Without a tag, the text itself.

    Raises:
        RejectedError: a hypernetwork, or a tag without a name or with something that is no weight.
    """
    entries, parts, at = [], [], 0
    for tag in _TAG.finditer(text):
        entries.append(_entry(tag))
        parts.append(text[at : tag.start()])
        at = tag.end()
    rest, *further = *parts, text[at:]
    for part in further:
        rest = _joined(rest, part)
    return rest, tuple(entries)


def lora_tag(name: str, weight: float, text_weight: float) -> str:
    """The tag that says in a prompt: this LoRA, with these weights in the UNet and in the text encoders."""
    return f"<lora:{name}:{text_weight:g}:{weight:g}>" if weight != text_weight else f"<lora:{name}:{weight:g}>"


def tag_name(label: str) -> str:
    """What a file, path or Hub id is called in tags and lists of hashes: its last part, without what ends a name."""
    name = re.split(r"[\\/]", label)[-1].removesuffix(".safetensors")
    return re.sub(r'[:,<>{}"]', "", name)


def _joined(left: str, right: str) -> str:
    """What stood before and behind a tag, with one of the two gaps between them, or none at an end of the prompt."""
    before, behind = left.rstrip(_GAP), right.lstrip(_GAP)
    if not before or not behind:
        return before + behind
    gaps = left[len(before) :], right[: len(right) - len(behind)]
    return before + max(gaps, key=lambda gap: ("," in gap, len(gap) > 0)) + behind


def _entry(tag: re.Match[str]) -> str:
    name, *items = (item.strip() for item in tag[2].split(":"))
    if tag[1].lower() == "hypernet":
        raise RejectedError(f"{tag[0]}: hypernetworks are not understood.", "Leave it out, or use a LoRA.")
    if not name or re.search(r"[=/\\]", name):
        raise RejectedError(
            f"{tag[0]} does not begin with the name of a LoRA.",
            "Write <lora:NAME:0.8>; NAME is that of a file in FC_LORA_DIR, without its folder and ending.",
        )
    said = [item.rpartition("=") for item in items]
    numbers = [_weight(tag[0], number) for _, _, number in said]
    positional = [number for (key, _, _), number in zip(said, numbers, strict=True) if not key]
    named = {key.strip(): number for (key, _, _), number in zip(said, numbers, strict=True) if key}
    if len(positional) > 2 or not named.keys() <= {"te", "unet"}:
        raise RejectedError(
            f"{tag[0]} says more than two weights.", "Write <lora:NAME:0.8> or <lora:NAME:te=1:unet=0.8>."
        )
    text = named.get("te", positional[0] if positional else 1.0)
    unet = named.get("unet", positional[1] if len(positional) > 1 else text)
    if unet == text:
        return name if unet == 1 else f"{name}={unet:g}"
    return f"{name}={unet:g},{text:g}"


def _weight(tag: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise RejectedError(f"{text!r} in {tag} is not a weight.", "Write a number, such as <lora:NAME:0.8>.")
    return number
