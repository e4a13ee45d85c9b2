"""Where a model lies that a setting or a job names: a file or folder of this machine, or a repository of the Hub."""

from __future__ import annotations

import difflib
import importlib.util
import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from imaging.errors import SettingsError
from resources.models.weights import NO_PICKLES, NOT_PICKLED, PICKLES

HUB_ID: Final = re.compile(r"(?!\.)[\w.-]+/[\w.-]+")
LORA_FILE: Final = "pytorch_lora_weights.safetensors"
"""The file of a LoRA in its repository, as diffusers calls it."""

_HUB: Final = re.compile(rf"({HUB_ID.pattern})(?:/(.+\.safetensors))?")


@dataclass(frozen=True, slots=True)
class Place:
    """What a value names.

    Attributes:
        path: a file or folder that is there; of the Hub, the repository's folder in the Hub cache, or the file in it.
            None: it is not in the Hub cache.
        hub: the repository's id; empty for something of this machine.
        file: the name of the file in the repository; empty for all of it.
    """

    path: Path | None
    hub: str = ""
    file: str = ""


def find_place(
    field: str,
    value: str,
    kinds: str,
    *,
    revision: str = "",
    example: str = "owner/name, or owner/name/file.safetensors",
) -> Place:
    """Where a value points to.

    Args:
        field: the variable or the job's field that holds it, for messages.
        value: a whole path, or a Hub id, behind which a file may stand.
        kinds: what of this machine it may be, for messages.
        revision: branch, tag or commit of a Hub id; empty for `main`.
        example: of a Hub id, for messages.

    Raises:
        SettingsError: it is neither, or a pickle, or a file that is not there.
    """
    path = Path(value).expanduser()
    if path.suffix.lower() in PICKLES:
        raise SettingsError(f"{field}: {value} is a pickle. {NO_PICKLES}", NOT_PICKLED)
    if path.is_absolute() and path.exists():
        return Place(path)
    if path.is_absolute() and path.suffix == ".safetensors":
        raise SettingsError(f"{field}: there is no file {path}.", "Correct the path, or leave it out.")
    found = _HUB.fullmatch(value)
    if not found or Path(found[1]).suffix == ".safetensors":
        raise no_place(field, value, kinds, example)
    return hub_place(found[1], found[2] or "", revision)


def no_place(field: str, value: str, kinds: str, example: str) -> SettingsError:
    """The error of a value that points to nothing."""
    return SettingsError(
        f"{field}={value!r} is neither the whole path of a {kinds} on this machine nor a Hub id.",
        f"Give the whole path, from the root, of such a {kinds}, or a Hub id, as {example}.",
    )


def hub_place(hub: str, file: str, revision: str = "") -> Place:
    """A repository, or a file in it."""
    snapshot = find_snapshot(hub, revision)
    path = snapshot and snapshot / file
    return Place(path if path and path.exists() else None, hub, file)


def find_snapshot(hub_id: str, revision: str = "") -> Path | None:
    """The folder of a repository in the Hub cache, whole or not; None when it was never fetched, or without the Hub."""
    if importlib.util.find_spec("huggingface_hub") is None:
        return None
    from huggingface_hub import constants

    root = Path(constants.HF_HUB_CACHE) / f"models--{hub_id.replace('/', '--')}"
    name = revision or constants.DEFAULT_REVISION
    ref = root / "refs" / name
    folder = root / "snapshots" / (ref.read_text(encoding="utf-8").strip() if ref.is_file() else name)
    return folder if folder.is_dir() else None


class LoraEntry(NamedTuple):
    """What a list of LoRAs says of one: its file, Hub id or name, and its weights in the UNet and the text encoders."""

    value: str
    weight: float = 1.0
    text_weight: float = 1.0


def read_lora(entry: str, field: str = "FC_SDXL_LORAS") -> LoraEntry:
    """An entry of a list of LoRAs: `FILE_OR_HUB_ID_OR_NAME`, then `=WEIGHT`, or `=UNET,TEXT_ENCODER`.

    The weight stands behind the last `=`, if that is no part of the name.

    Raises:
        SettingsError: what stands there is no weight.
    """
    value, equals, tail = entry.rpartition("=")
    if not equals or tail.endswith(".safetensors") or "/" in tail:
        return LoraEntry(entry)
    try:
        weights = [float(number) for number in tail.split(",")]
    except ValueError:
        weights = []
    if not 1 <= len(weights) <= 2 or not all(map(math.isfinite, weights)):
        raise SettingsError(
            f"{field}: {tail!r} in {entry!r} is not a weight.",
            "Write FILE=NUMBER, such as style.safetensors=0.8, or FILE=UNET,TEXT_ENCODER with a number for each.",
        )
    return LoraEntry(value.strip(), weights[0], weights[-1])


def find_lora(field: str, value: str, lora_dir: Path | None) -> Place:
    """Where a LoRA lies.

    Args:
        field: the variable or the job's field that names it, for messages.
        value: a whole path, a Hub id, or the name of a file in `lora_dir` without its ending.
        lora_dir: the folder in which names are looked up, at any depth.

    Raises:
        SettingsError: it is not there, or the name is that of several files.
    """
    if "/" in value or Path(value).suffix.lower() in PICKLES:
        place = find_place(field, value, kind := ".safetensors file")
        if place.path and not place.hub and not place.path.is_file():
            raise no_place(field, value, kind, "owner/name")
        return hub_place(place.hub, LORA_FILE) if place.hub and not place.file else place
    if lora_dir is None:
        raise SettingsError(
            f"{field}={value!r} is neither the whole path of a .safetensors file on this machine nor a Hub id, and "
            "FC_LORA_DIR, the folder in which names are looked up, is not set.",
            "Set FC_LORA_DIR, or give the whole path, from the root, or a Hub id.",
        )
    if not lora_dir.is_dir():
        raise SettingsError(f"FC_LORA_DIR: there is no folder {lora_dir}.", "Correct the path.")
    files = sorted(lora_dir.rglob("*.safetensors"))
    name = value.removesuffix(".safetensors")
    found = [file for file in files if file.stem == name]
    if len(found) > 1:
        raise SettingsError(
            f"{field}: {len(found)} files in {lora_dir} are called {name!r}: "
            f"{', '.join(str(file.relative_to(lora_dir)) for file in found)}.",
            "Give the whole path of one, or rename the others.",
        )
    if not found:
        stems = sorted({file.stem for file in files})
        near = difflib.get_close_matches(name, stems, n=5, cutoff=0.5) or stems[:5]
        raise SettingsError(
            f"{field}: no LoRA in {lora_dir} is called {name!r}.",
            f"It holds, among {len(stems)}: {', '.join(near)}." if near else "It holds no .safetensors file at all.",
        )
    return Place(found[0])


def read_json(path: Path, field: str = "") -> dict[str, Any]:
    """The JSON object in a file; `field` is the variable or the job's field that led to it, for messages.

    Raises:
        SettingsError: it holds none.
    """
    where = f"{field}: {path}" if field else str(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise SettingsError(f"{where} is not JSON: {error}.", "Copy or download it again.") from error
    if not isinstance(content, dict):
        raise SettingsError(f"{where} is not a JSON object.", "Copy or download it again.")
    return content
