"""How other programs read what is written into a PNG, by their own rules: its texts, and A1111's `parameters`.

ComfyUI (getFromPngBuffer of its frontend), exifr 7, ExifReader 4 and exiftool 12 for the chunks; A1111 1.10 and Forge 2
(infotext_utils.py, sd_samplers.py) and Civitai (automatic.metadata.ts) for the text.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterator
from typing import Any


def chunks(data: bytes) -> Iterator[tuple[str, bytes]]:
    at = 8
    while at < len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        yield data[at + 4 : at + 8].decode("ascii"), data[at + 8 : at + 8 + length]
        at += 12 + length


def comfyui(data: bytes) -> dict[str, str]:
    """All behind the keyword's NUL is the text, of tEXt and of iTXt, in UTF-8."""
    found = {}
    for kind, body in chunks(data):
        if kind in ("tEXt", "comf", "iTXt"):
            keyword, _, text = body.partition(b"\0")
            found[keyword.decode("latin-1")] = text.decode("utf-8", "replace")
    return found


def exifr(data: bytes) -> dict[str, str]:
    """Only tEXt, as UTF-8; of iTXt it looks for XMP alone."""
    parts = [body.decode("utf-8", "replace").split("\0") for kind, body in chunks(data) if kind == "tEXt"]
    return {part[0]: part[1] for part in parts}


def exif_reader(data: bytes) -> dict[str, str]:
    """Of tEXt in Latin-1; of iTXt in UTF-8 behind two bytes, a language and a keyword. exiftool does likewise."""
    found = {}
    for kind, body in chunks(data):
        keyword, _, rest = body.partition(b"\0")
        if kind == "tEXt":
            found[keyword.decode("latin-1")] = rest.decode("latin-1")
        elif kind == "iTXt" and rest[:1] == b"\0":
            found[keyword.decode("latin-1")] = rest[2:].split(b"\0", 2)[2].decode("utf-8")
    return found


_PARAM = re.compile(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')


def a1111(text: str) -> dict[str, str]:
    """What its web UI fills in when the text is pasted."""
    *lines, last = text.strip().split("\n")
    if len(_PARAM.findall(last)) < 3:
        lines, last = [*lines, last], ""
    found: dict[str, list[str]] = {"Prompt": [], "Negative prompt": []}
    into = found["Prompt"]
    for line in map(str.strip, lines):
        if line.startswith("Negative prompt:"):
            into, line = found["Negative prompt"], line[16:].strip()  # noqa: PLW2901
        into.append(line)
    said = {name: "\n".join(lines) for name, lines in found.items()}
    for key, value in _PARAM.findall(last):
        assert value, f"A1111 cannot read {key}"
        plain = json.loads(value) if value[0] == value[-1] == '"' else value
        size = re.fullmatch(r"(\d+)x(\d+)", plain)
        said |= {f"{key}-1": size[1], f"{key}-2": size[2]} if size else {key: plain}
    return {"Clip skip": "1", "Hires resize-1": "0", "Schedule type": "Automatic", **said}


_SCHEDULES = {
    "Automatic": "automatic", "Uniform": "uniform", "Karras": "karras", "Exponential": "exponential",
    "Polyexponential": "polyexponential", "SGM Uniform": "sgm_uniform", "KL Optimal": "kl_optimal",
    "Align Your Steps": "align_your_steps", "Simple": "simple", "Normal": "normal", "DDIM": "ddim", "Beta": "beta",
}  # fmt: skip
_OWN_SCHEDULE = {
    "DPM++ 2M": "Karras", "DPM++ SDE": "Karras", "DPM2": "Karras", "DPM2 a": "Karras",
    "DPM++ 2M SDE": "Exponential", "DPM++ 3M SDE": "Exponential",
}  # fmt: skip
_SAMPLERS = (
    "DPM++ 2M", "DPM++ SDE", "DPM++ 2M SDE", "DPM++ 2M SDE Heun", "DPM++ 2S a", "DPM++ 3M SDE", "Euler a", "Euler",
    "LMS", "Heun", "DPM2", "DPM2 a", "DPM fast", "DPM adaptive", "Restart", "HeunPP2", "IPNDM", "DEIS", "DDIM",
    "DDIM CFG++", "PLMS", "UniPC", "LCM", "DDPM",
)  # fmt: skip


def a1111_sampling(said: dict[str, str]) -> tuple[str, str]:
    """Sampler and schedule type that a pasted text chooses; `Automatic` is told as what it stands for."""
    sampler, schedule = said["Sampler"], said["Schedule type"]
    schedule = schedule if schedule in _SCHEDULES else "Automatic"
    for label, name in _SCHEDULES.items():
        for ending in (label, name):
            if sampler.endswith(f" {ending}"):
                sampler, schedule = sampler.removesuffix(f" {ending}"), label
    sampler = sampler if sampler in _SAMPLERS else _SAMPLERS[0]
    return sampler, _OWN_SCHEDULE.get(sampler, schedule) if schedule == "Automatic" else schedule


def civitai(text: str) -> dict[str, Any]:
    """The resources that it links, by their hashes."""
    line = next((line for line in text.split("\n") if line.startswith("Steps: ")), "")
    match = re.search(r", Hashes:\s*({[^}]+})", line)
    hashes = json.loads(match[1]) if match else {}
    said = a1111(text)
    if "Model" in said and "Model hash" in said:
        hashes.setdefault("model", said["Model hash"])
    return hashes
