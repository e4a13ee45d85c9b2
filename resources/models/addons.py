"""What is added to an SDXL checkpoint, as files: another VAE, LoRAs, textual inversions."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from imaging.errors import SettingsError
from resources.models.folders import IncompleteError, choose_model, files_in
from resources.models.places import LoraEntry, find_lora, find_place
from resources.models.weights import fingerprint, header_of

_VAE_FILES: Final = ("config.json", "diffusion_pytorch_model.safetensors")  # of a repository, where no file is named


@dataclass(frozen=True, slots=True)
class Addon:
    """One thing that is added.

    Attributes:
        field: the variable or the job's field that names it, for messages.
        label: the file's or folder's own name, or the Hub id; never a path of this machine. A textual inversion's word.
        path: the .safetensors file, or the folder of a VAE; None for a Hub id that is not in the Hub cache.
        files: the files that decide the pixels; empty when they are not here.
        weight: of a LoRA, in the UNet.
        text_weight: of a LoRA, in the text encoders.
        hub: the Hub repository and the names of the files in it; None for something on this machine.
    """

    field: str
    label: str
    path: Path | None
    files: tuple[Path, ...]
    weight: float = 1.0
    text_weight: float = 1.0
    hub: tuple[str, tuple[str, ...]] | None = None

    def fingerprint(self) -> str | None:
        """What identifies the files; None while they are not here."""
        return fingerprint((file.suffix, file) for file in self.files) if self.files else None


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

    def describe(self) -> dict[str, Any]:
        """Labels, fingerprints and weights, as JSON values; without what is not set."""
        vae = {"vae": {"name": self.vae.label, "weights": self.vae.fingerprint()}} if self.vae else {}
        loras = [
            {"name": lora.label, "weights": lora.fingerprint(), "weight": lora.weight}
            | ({"text_weight": lora.text_weight} if lora.text_weight != lora.weight else {})
            for lora in self.loras
        ]
        words = [{"word": word.label, "weights": word.fingerprint()} for word in self.embeddings]
        return {**vae, **({"loras": loras} if loras else {}), **({"embeddings": words} if words else {})}

    def fingerprint(self) -> str:
        """What identifies all of it, as hexadecimal digits; empty when there is nothing."""
        described = self.describe()
        return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest() if described else ""


def lora_addon(field: str, entry: LoraEntry, lora_dir: Path | None) -> Addon:
    """A LoRA; see `places.find_lora`.

    Raises:
        SettingsError: its file is not there, not whole, or may not be loaded.
    """
    place = find_lora(field, entry.value, lora_dir)
    hub = (place.hub, (place.file,)) if place.hub else None
    label = entry.value if hub else place.path.stem if place.path else ""
    if place.path:
        header_of(place.path, field)
    files = (place.path,) if place.path else ()
    return Addon(field, label, place.path, files, entry.weight, entry.text_weight, hub)


def word_addon(field: str, file: Path) -> Addon:
    """A textual inversion; the file's name is its word.

    Raises:
        SettingsError: the file is not there, not whole, or may not be loaded.
    """
    file = file.expanduser()
    if not file.is_file():
        raise SettingsError(f"{field}: there is no file {file}.", "Correct the path, or leave it out.")
    header_of(file, field)
    return Addon(field, file.stem, file, (file,))


def vae_addon(field: str, value: str) -> Addon:
    """A VAE: a .safetensors file, a Hub id, or a folder, of the VAE alone or of a checkpoint.

    Raises:
        SettingsError: a file is not there, not whole, or may not be loaded.
    """
    place = find_place(field, value, "file or folder")
    names = (place.file,) if place.file else _VAE_FILES
    hub = (place.hub, names) if place.hub else None
    if place.path is None:
        return Addon(field, value, None, (), hub=hub)
    if place.path.is_file():
        header_of(place.path, field)
        return Addon(field, value if hub else place.path.stem, place.path, (place.path,), hub=hub)
    label = value if hub else place.path.resolve().name
    try:
        folder, files = _vae_folder(field, place.path)
    except IncompleteError:
        if hub:
            return Addon(field, value, None, (), hub=hub)
        raise
    return Addon(field, label, folder, files, hub=hub)


def _vae_folder(field: str, folder: Path) -> tuple[Path, tuple[Path, ...]]:
    inside = folder if (folder / "config.json").is_file() or not (folder / "vae").is_dir() else folder / "vae"
    chosen = choose_model(files_in(inside))
    chosen.check(inside, field)
    return inside, tuple(inside / name for name in chosen.files)
