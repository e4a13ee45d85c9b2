"""An SDXL checkpoint as files: where it lies, whether it is whole, what identifies it.

Belongs here: everything that can be known without torch, diffusers or a network. Does not: loading it
(`resources.generators.sdxl_model`).
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from imaging.errors import SettingsError

HUB_SIZE: Final = 1024  # the side that SDXL was trained at; said of a Hub id whose files are not here yet

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_LIBRARIES: Final = ("diffusers", "transformers")
_PARTS: Final = ("scheduler", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "vae")
_PICKLES: Final = (".bin", ".ckpt", ".pt", ".pth", ".pkl")
_WINDOW: Final = 16 * 1024
_WINDOWS: Final = 256


@dataclass(frozen=True, slots=True)
class Family:
    """A kind of checkpoint.

    Attributes:
        whole: what a checkpoint of it is called in an error, with its article.
        pipelines: the pipeline classes of diffusers that `model_index.json` may name, the usual one first.
        network: the part that denoises. Its weights decide whether the checkpoint is an `fp16` one.
        example: a Hub id of one.
    """

    whole: str
    pipelines: tuple[str, ...]
    network: str
    example: str


SDXL: Final = Family(
    whole="an SDXL checkpoint",
    pipelines=("StableDiffusionXLPipeline", "StableDiffusionXLInpaintPipeline"),
    network="unet",
    example="stabilityai/stable-diffusion-xl-base-1.0",
)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A whole checkpoint in diffusers format.

    Attributes:
        folder: where `model_index.json` lies.
        label: the Hub id, or the folder's own name; never a path of this machine.
        commit: the Hub commit when the folder is a Hub snapshot, else None.
        variant: `fp16` when the weights are there as `*.fp16.safetensors` only, else None.
        files: every file that decides the pixels, as paths under `folder`, sorted.
    """

    folder: Path
    label: str
    commit: str | None
    variant: str | None
    files: tuple[str, ...]

    def fingerprint(self) -> str:
        """What identifies the weights and configs, as hexadecimal digits: SHA-256 of each file's name and content.

        Of a file over 4 MiB, its size and 256 windows of 16 KiB, evenly spread from its first byte to its last, stand
        for the content, so that 7 GB are identified within a second or so. It tells checkpoints apart; it does not
        prove that a file is undamaged. A file is read again only when its size or time changes.
        """
        whole = hashlib.sha256()
        for name in self.files:
            path = self.folder / name
            stat = path.stat()
            whole.update(f"{name}\0{_digest(path, stat.st_size, stat.st_mtime_ns)}\n".encode())
        return whole.hexdigest()

    def paths(self) -> list[Path]:
        """Every file that decides the pixels."""
        return [self.folder / name for name in self.files]

    def native_size(self) -> int:
        """The side in pixels of the square that the UNet was made for."""
        latent = int(self._config("unet")["sample_size"])
        halvings = len(self._config("vae")["block_out_channels"]) - 1
        return latent << halvings

    def _config(self, part: str) -> dict[str, Any]:
        return _read_json(self.folder / part / "config.json")


def find_checkpoint(model: str, revision: str, family: Family = SDXL) -> Checkpoint | None:
    """The checkpoint that `model` names; None when it is a Hub id whose files are not, or not all, in the Hub cache.

    Args:
        model: a folder in diffusers format, or a Hub id such as `owner/name`.
        revision: branch, tag or commit of a Hub id; empty for `main`.
        family: what kind of checkpoint it must be.

    Raises:
        SettingsError: it is neither, or the folder is incomplete or holds what may not be loaded.
    """
    folder = Path(model).expanduser()
    if folder.is_absolute() and folder.is_dir():
        return _open(folder, folder.resolve().name, None, family)
    if folder.is_absolute() and folder.is_file():
        raise SettingsError(
            f"FC_SDXL_MODEL={model} is a single file, and a folder in diffusers format is needed.",
            f"Convert it: {family.pipelines[0]}.from_single_file(FILE).save_pretrained(FOLDER).",
        )
    if not _HUB_ID.fullmatch(model) or model.startswith("."):
        raise SettingsError(
            f"FC_SDXL_MODEL={model!r} is neither the whole path of a folder on this machine nor a Hub id.",
            f"Set it to such a folder in diffusers format, or to a Hub id, as {family.example}.",
        )
    snapshot = hub_snapshot(model, revision)
    if snapshot is None:
        return None
    try:
        return _open(snapshot, model, snapshot.name, family)
    except _IncompleteError:
        return None  # a download that was cut off; the next one goes on with it


class _IncompleteError(SettingsError):
    """A file of the checkpoint is missing."""


def hub_snapshot(model: str, revision: str) -> Path | None:
    """The folder of a Hub id in the Hub cache, if its `model_index.json` is there; the rest of it may not be."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(model, "model_index.json", revision=revision or None)
    return Path(found).parent if isinstance(found, str) else None


def _open(folder: Path, label: str, commit: str | None, family: Family) -> Checkpoint:
    """The checkpoint in a folder, all its files found.

    Raises:
        SettingsError: it is another kind of model, or may not be loaded; `_IncompleteError` when a file is missing.
    """
    index = folder / "model_index.json"
    if not index.is_file():
        raise _missing(folder, "model_index.json")
    parts = _parts(folder, _read_json(index), family)
    plain = _weight_names(parts[family.network], None)
    variant = None
    if not any((folder / family.network / name).is_file() for name in plain):
        halves = _weight_names(parts[family.network], "fp16")
        variant = "fp16" if any((folder / family.network / name).is_file() for name in halves) else None
    files = ["model_index.json"]
    for part, library in parts.items():
        files += [f"{part}/{name}" for name in _part_files(folder, part, library, variant)]
    return Checkpoint(folder, label, commit, variant, tuple(sorted(files)))


def _parts(folder: Path, index: dict[str, Any], family: Family) -> dict[str, str]:
    """The library of each part that the checkpoint consists of, by the part's name."""
    kind = index.get("_class_name")
    if kind not in family.pipelines:
        raise SettingsError(
            f"FC_SDXL_MODEL: {folder} holds a {kind}, not {family.whole}.", f"Use one made for {family.pipelines[0]}."
        )
    parts = {name: entry[0] for name, entry in index.items() if isinstance(entry, list) and entry[0] is not None}
    foreign = sorted(name for name, library in parts.items() if library not in _LIBRARIES)
    if foreign:
        raise SettingsError(
            f"FC_SDXL_MODEL: model_index.json of {folder} asks for code from outside diffusers and transformers "
            f"({', '.join(foreign)}), which is not run.",
            "Use a checkpoint without custom components.",
        )
    absent = [part for part in (*_PARTS, family.network) if part not in parts]
    if absent:
        raise SettingsError(
            f"FC_SDXL_MODEL: model_index.json of {folder} names no {', '.join(absent)}.",
            f"Use a complete checkpoint made for {family.pipelines[0]}; a refiner is not one.",
        )
    return parts


def _part_files(folder: Path, part: str, library: str, variant: str | None) -> list[str]:
    """The names of the files of one part.

    Raises:
        _IncompleteError: names the first one that is missing.
        SettingsError: the weights are there as pickles only.
    """
    inside = folder / part
    texts = sorted(path.name for path in inside.glob("*") if path.suffix in (".json", ".txt") and path.is_file())
    if part.startswith("tokenizer"):
        if "tokenizer.json" not in texts and not {"vocab.json", "merges.txt"} <= set(texts):
            raise _missing(folder, f"{part}/tokenizer.json")
        return texts
    config = {"scheduler": "scheduler_config.json", "feature_extractor": "preprocessor_config.json"}.get(
        part, "config.json"
    )
    if config not in texts:
        raise _missing(folder, f"{part}/{config}")
    if config != "config.json":
        return texts
    return texts + _weights(folder, part, library, variant)


def _weights(folder: Path, part: str, library: str, variant: str | None) -> list[str]:
    """The names of the safetensors files of one part, of the variant when it is there, else the plain ones."""
    inside = folder / part
    wanted = [*(_weight_names(library, variant) if variant else ()), *_weight_names(library, None)]
    found = next((name for name in wanted if (inside / name).is_file()), None)
    if found is None:
        pickled = sorted(path.name for path in inside.glob("*") if path.suffix in _PICKLES)
        if pickled:
            raise SettingsError(
                f"FC_SDXL_MODEL: {inside} holds its weights as pickles only ({', '.join(pickled)}). A pickle can run "
                "any code when it is loaded, so it is refused.",
                "Use a checkpoint with safetensors weights.",
            )
        raise _missing(folder, f"{part}/{wanted[-2]}")
    if not found.endswith(".json"):
        return [found]
    shards = sorted(set(_read_json(inside / found)["weight_map"].values()))
    for shard in shards:
        if not (inside / shard).is_file():
            raise _missing(folder, f"{part}/{shard}")
    return shards


def _weight_names(library: str, variant: str | None) -> tuple[str, str]:
    """What the weights of a part may be called: one file, or the index of several."""
    stem = "model" if library == "transformers" else "diffusion_pytorch_model"
    if variant is None:
        return f"{stem}.safetensors", f"{stem}.safetensors.index.json"
    return f"{stem}.{variant}.safetensors", f"{stem}.safetensors.index.{variant}.json"


def _missing(folder: Path, name: str) -> _IncompleteError:
    return _IncompleteError(
        f"FC_SDXL_MODEL: the checkpoint folder {folder} has no {name}.",
        "Copy or download the whole folder again, for example: hf download OWNER/NAME --local-dir FOLDER.",
    )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise SettingsError(
            f"FC_SDXL_MODEL: {path} is not JSON: {error}.", "Copy or download the checkpoint folder again."
        ) from error
    if not isinstance(content, dict):
        raise SettingsError(f"FC_SDXL_MODEL: {path} is not a JSON object.", "Copy or download the folder again.")
    return content


@functools.lru_cache(maxsize=1024)
def _digest(path: Path, size: int, modified: int) -> str:  # noqa: ARG001 - the time is there to be part of the key
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        if size <= _WINDOW * _WINDOWS:
            digest.update(file.read())
        else:
            for number in range(_WINDOWS):
                file.seek((size - _WINDOW) * number // (_WINDOWS - 1))
                digest.update(file.read(_WINDOW))
    return digest.hexdigest()
