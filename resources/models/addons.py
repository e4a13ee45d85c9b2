"""What is added to an SDXL checkpoint, as files: another VAE, LoRAs, textual inversions."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from imaging.errors import SettingsError
from resources.models import weight_files
from resources.models.weights import PICKLES
from resources.settings import Settings

_HUB = re.compile(r"([\w-][\w.-]*/[\w.-]+)(?:/(.+\.safetensors))?")
_HUB_FILES: Final = {
    "FC_SDXL_VAE": ("config.json", "diffusion_pytorch_model.safetensors"),
    "FC_SDXL_LORAS": ("pytorch_lora_weights.safetensors",),
}


@dataclass(frozen=True, slots=True)
class Addon:
    """One thing that is added.

    Attributes:
        setting: the variable that names it.
        label: the file's or folder's own name, or the Hub id; never a path of this machine. A textual inversion's word.
        path: the .safetensors file, or the folder of a VAE; None for a Hub id that is not in the Hub cache.
        files: the files that decide the pixels; empty when they are not here.
        weight: of a LoRA.
        hub: the Hub repository and the names of the files in it; None for something on this machine.
    """

    setting: str
    label: str
    path: Path | None
    files: tuple[Path, ...]
    weight: float = 1.0
    hub: tuple[str, tuple[str, ...]] | None = None

    def fingerprint(self) -> str | None:
        """What identifies the files; None while they are not here."""
        return weight_files.fingerprint((file.suffix, file) for file in self.files) if self.files else None


@dataclass(frozen=True, slots=True)
class Addons:
    """All that is added to a checkpoint; nothing by default.

    Attributes:
        vae: in place of the checkpoint's own.
        loras: in the order in which they are added.
        embeddings: textual inversions; each one's label is its word.
    """

    vae: Addon | None = None
    loras: tuple[Addon, ...] = ()
    embeddings: tuple[Addon, ...] = ()

    @classmethod
    def from_settings(cls, settings: Settings) -> Addons:
        """What the settings name; see `find`."""
        return cls.find(settings.sdxl_vae, settings.sdxl_loras, [str(file) for file in settings.sdxl_embeddings])

    @classmethod
    def find(cls, vae: str, loras: Sequence[str], embeddings: Sequence[str]) -> Addons:
        """What these values of FC_SDXL_VAE, FC_SDXL_LORAS and FC_SDXL_EMBEDDINGS name.

        Args:
            vae: a Hub id, a diffusers folder, a .safetensors file; empty for none.
            loras: each a .safetensors file or a Hub id, then `=WEIGHT` when that is not 1.
            embeddings: .safetensors files; the file's name is the word.

        A Hub id may name a file: `owner/name/file.safetensors`. Without one, it is the file that diffusers saves.

        Raises:
            SettingsError: a file is not there, not whole, or may not be loaded; a weight is not a number.
        """
        added = cls(
            _find("FC_SDXL_VAE", vae) if vae else None,
            tuple(_find_lora(lora) for lora in loras),
            tuple(_find_file("FC_SDXL_EMBEDDINGS", Path(file).expanduser()) for file in embeddings),
        )
        words = [embedding.label.lower() for embedding in added.embeddings]
        twice = next((word for word in words if words.count(word) > 1), None)
        if twice:
            raise SettingsError(
                f"FC_SDXL_EMBEDDINGS names two files for the word {twice!r}.", "Rename one of them, or leave it out."
            )
        return added

    def describe(self) -> dict[str, Any]:
        """Labels, fingerprints and weights, as JSON values; without what is not set."""
        vae = {"vae": {"name": self.vae.label, "weights": self.vae.fingerprint()}} if self.vae else {}
        loras = [{"name": lora.label, "weights": lora.fingerprint(), "weight": lora.weight} for lora in self.loras]
        words = [{"word": word.label, "weights": word.fingerprint()} for word in self.embeddings]
        return {**vae, **({"loras": loras} if loras else {}), **({"embeddings": words} if words else {})}

    def fingerprint(self) -> str:
        """What identifies all of it, as hexadecimal digits; empty when there is nothing."""
        told = self.describe()
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest() if told else ""


def _find_lora(value: str) -> Addon:
    """A LoRA and its weight, which stands behind the last `=`, if that is no part of the name."""
    name, separator, tail = value.rpartition("=")
    if not separator or tail.endswith(".safetensors") or "/" in tail:
        return _find("FC_SDXL_LORAS", value)
    try:
        weight = float(tail)
    except ValueError:
        weight = math.nan
    if not math.isfinite(weight):
        raise SettingsError(
            f"FC_SDXL_LORAS: {tail!r} in {value!r} is not a weight.",
            "Write FILE=NUMBER, such as style.safetensors=0.8.",
        )
    return _find("FC_SDXL_LORAS", name.strip(), weight)


def _find(setting: str, value: str, weight: float = 1.0) -> Addon:
    path = Path(value).expanduser()
    if path.is_absolute():
        return _find_folder(path) if setting == "FC_SDXL_VAE" and path.is_dir() else _find_file(setting, path, weight)
    found = _HUB.fullmatch(value)
    if not found or Path(found[1]).suffix in (".safetensors", *PICKLES):
        kinds = "file or folder" if setting == "FC_SDXL_VAE" else ".safetensors file"
        raise SettingsError(
            f"{setting}={value!r} is neither the whole path of a {kinds} on this machine nor a Hub id.",
            "Give the whole path, from the root, or a Hub id: owner/name, or owner/name/file.safetensors.",
        )
    names = (found[2],) if found[2] else _HUB_FILES[setting]
    files = [file for name in names if (file := weight_files.in_hub_cache(found[1], name))]
    if len(files) < len(names):
        return Addon(setting, value, None, (), weight, (found[1], names))
    for file in files:
        if file.suffix == ".safetensors":
            weight_files.read_header(file, setting)
    path = files[0].parent if len(files) > 1 else files[0]
    return Addon(setting, value, path, tuple(files), weight, (found[1], names))


def _find_file(setting: str, path: Path, weight: float = 1.0) -> Addon:
    if not path.is_file():
        raise SettingsError(f"{setting}: there is no file {path}.", "Correct the path, or leave it out.")
    weight_files.read_header(path, setting)
    return Addon(setting, path.stem, path, (path,), weight)


def _find_folder(folder: Path) -> Addon:
    """The VAE in a diffusers folder: of a VAE alone, or of a checkpoint."""
    inside = folder if (folder / "config.json").is_file() or not (folder / "vae").is_dir() else folder / "vae"
    if not (inside / "config.json").is_file():
        raise weight_files.missing(inside, "config.json", "FC_SDXL_VAE")
    names = ["config.json", *weight_files.find_weights(inside, "", "diffusers", None, "FC_SDXL_VAE")]
    return Addon("FC_SDXL_VAE", folder.resolve().name, inside, tuple(inside / name for name in names))
