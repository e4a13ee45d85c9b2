"""An SDXL checkpoint as files: where it lies, whether it is whole, what identifies it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from imaging.errors import BackendError, SettingsError
from resources.models import weight_files
from resources.models.weight_files import IncompleteError
from resources.models.weights import PICKLES, Header

HUB_SIZE: Final = 1024  # the side that SDXL was trained at; said of a Hub id whose files are not here yet
BASE: Final = "stabilityai/stable-diffusion-xl-base-1.0"  # where a single file's configs come from, if not set

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_LIBRARIES: Final = ("diffusers", "transformers")
_PARTS: Final = ("scheduler", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "vae")
_SINGLE_FILE: Final = {
    "UNet": "model.diffusion_model.input_blocks.0.0.weight",
    "first text encoder": "conditioner.embedders.0.transformer.text_model.embeddings.position_embedding.weight",
    "second text encoder": "conditioner.embedders.1.model.positional_embedding",
}
_SINGLE_VAE: Final = ("first_stage_model.", "vae.")
_MARKS_OF_OTHERS: Final = (  # in the order in which they are looked for
    ("lora_", "a LoRA", "Name it in FC_SDXL_LORAS."),
    ("hada_w", "a LoHa", "Use a LoRA or a checkpoint that it was merged into."),
    ("lokr_w", "a LoKr", "Use a LoRA or a checkpoint that it was merged into."),
    ("clip_g", "a textual inversion", "Name it in FC_SDXL_EMBEDDINGS."),
    ("cond_stage_model.", "a checkpoint of Stable Diffusion 1 or 2", "Use one of SDXL."),
    ("conditioner.embedders.0.model.", "the refiner of SDXL", "Use an SDXL base or inpainting checkpoint."),
    ("double_blocks.", "a Flux model", "Use a checkpoint of SDXL."),
    ("input_hint_block.", "a ControlNet", "Use a checkpoint of SDXL."),
    ("down_blocks.", "one part of a diffusers folder", "Set it to the whole folder."),
)
_EDM: Final = ("edm_mean", "edm_vpred.sigma_max")  # how ComfyUI marks another family of noise schedules


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
    example=BASE,
)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A whole checkpoint: a folder in diffusers format, or a single file in LDM's layout with such a folder's configs.

    Attributes:
        folder: where `model_index.json` lies.
        label: the Hub id, or the folder's or single file's own name; never a path of this machine.
        commit: the Hub commit when the weights are in a Hub snapshot, else None.
        variant: `fp16` when the weights are there as `*.fp16.safetensors` only, else None.
        files: every file that decides the pixels, as paths under `folder`, sorted.
        single: the file that holds all weights; the folder then gives configs and tokenizers only.
    """

    folder: Path
    label: str
    commit: str | None
    variant: str | None
    files: tuple[str, ...]
    single: Path | None = None

    @property
    def path(self) -> Path:
        """Where the weights lie: the single file, or the folder."""
        return self.single or self.folder

    def fingerprint(self) -> str:
        """What identifies the weights and configs; see `weight_files.fingerprint`."""
        single = [("", self.single)] if self.single else []
        return weight_files.fingerprint([*single, *((name, self.folder / name) for name in self.files)])

    def paths(self) -> list[Path]:
        """Every file that decides the pixels."""
        return [*([self.single] if self.single else []), *(self.folder / name for name in self.files)]

    def native_size(self) -> int:
        """The side in pixels of the square that the UNet was made for."""
        latent = int(self._config("unet")["sample_size"])
        halvings = len(self._config("vae")["block_out_channels"]) - 1
        return latent << halvings

    def in_channels(self) -> int:
        """The channels that the UNet takes: 4 for text to image, 9 for inpainting."""
        if self.single:
            return self._header(self.single).tensors[_SINGLE_FILE["UNet"]].shape[1]
        return int(self._config("unet")["in_channels"])

    def has_vae(self) -> bool:
        """Whether there is a VAE; a single file may come without."""
        return not self.single or any(name.startswith(_SINGLE_VAE) for name in self._header(self.single).tensors)

    def noise_schedule(self) -> dict[str, Any]:
        """What a single file says of its noise schedule, by the names in a scheduler's config; it wins over the folder.

        diffusers does not look at it. The tensors `v_pred` and `ztsnr` are ComfyUI's marks, `modelspec.prediction_type`
        is Stability AI's model metadata standard. Zero terminal SNR needs the last time step, hence `trailing`
        (Lin et al., Common Diffusion Noise Schedules and Sample Steps are Flawed, arXiv:2305.08891).
        """
        if not self.single:
            return {}
        header = self._header(self.single)
        found: dict[str, Any] = {}
        if "v_pred" in header.tensors or header.metadata.get("modelspec.prediction_type") == "v":
            found["prediction_type"] = "v_prediction"
        if "ztsnr" in header.tensors:
            found |= {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
        return found

    def _config(self, part: str) -> dict[str, Any]:
        return weight_files.read_json(self.folder / part / "config.json", _setting(self.single))

    @staticmethod
    def _header(file: Path) -> Header:
        return weight_files.read_header(file, "FC_SDXL_MODEL")


def _setting(single: Path | None) -> str:
    """The variable that named the folder."""
    return "FC_SDXL_CONFIG" if single else "FC_SDXL_MODEL"


@contextmanager
def told_of(setting: str) -> Iterator[None]:
    """Inside, errors about the model name this variable in place of `FC_SDXL_MODEL`."""
    try:
        yield
    except (SettingsError, BackendError) as error:
        if setting == "FC_SDXL_MODEL" or "FC_SDXL_MODEL" not in f"{error.what} {error.hint}":
            raise
        what, hint = (text.replace("FC_SDXL_MODEL", setting) for text in (error.what, error.hint))
        raise type(error)(what, hint) from error


def find_checkpoint(model: str, revision: str, config: str = BASE, *, family: Family = SDXL) -> Checkpoint | None:
    """The checkpoint that `model` names; None when Hub files that it needs are not, or not all, in the Hub cache.

    Args:
        model: a folder in diffusers format, a single .safetensors file, or a Hub id such as `owner/name`.
        revision: branch, tag or commit of a Hub id; empty for `main`.
        config: a folder in diffusers format, or a Hub id; gives a single file's configs and tokenizers.
        family: what kind of checkpoint it must be. Single files can be SDXL only.

    Raises:
        SettingsError: it is none of them, or it is incomplete or holds what may not be loaded.
    """
    path = Path(model).expanduser()
    if path.is_absolute() and path.is_file():
        if family is not SDXL:
            raise SettingsError(
                f"FC_SDXL_MODEL={model} is a single file; {family.whole} must be a folder in diffusers format.",
                f"Convert it: {family.pipelines[0]}.from_single_file(FILE).save_pretrained(FOLDER).",
            )
        _check_single(path)
        return _with_config(path, config)
    return _find_folder(model, revision, "FC_SDXL_MODEL", family, single=None)


def _with_config(single: Path, config: str) -> Checkpoint | None:
    found = _find_folder(config, "", "FC_SDXL_CONFIG", SDXL, single=single)
    return found and replace(found, label=single.stem, commit=None, single=single)


def _find_folder(model: str, revision: str, setting: str, family: Family, *, single: Path | None) -> Checkpoint | None:
    folder = Path(model).expanduser()
    if folder.is_absolute() and folder.is_dir():
        return _open(folder, folder.resolve().name, None, setting, family, single=single)
    if not _HUB_ID.fullmatch(model) or model.startswith(".") or folder.suffix in (".safetensors", *PICKLES):
        kinds = "folder" if single else "folder or .safetensors file"
        raise SettingsError(
            f"{setting}={model!r} is neither the whole path of a {kinds} on this machine nor a Hub id.",
            f"Set it to such a {kinds}, a folder in diffusers format, or to a Hub id, as {family.example}.",
        )
    index = weight_files.in_hub_cache(model, "model_index.json", revision)
    if index is None:
        return None
    try:
        return _open(index.parent, model, index.parent.name, setting, family, single=single)
    except IncompleteError:
        return None  # a download that was cut off; the next one goes on with it


def _check_single(file: Path) -> None:
    """Nothing when the file is an SDXL checkpoint.

    Raises:
        SettingsError: it is something else; says what, as far as its tensors' names tell.
    """
    names = weight_files.read_header(file, "FC_SDXL_MODEL").tensors
    absent = [part for part, name in _SINGLE_FILE.items() if name not in names]
    if absent:
        for mark, kind, hint in _MARKS_OF_OTHERS:
            if any(mark in name for name in names):
                raise SettingsError(f"FC_SDXL_MODEL: {file} is {kind}, not an SDXL checkpoint.", hint)
        raise SettingsError(
            f"FC_SDXL_MODEL: {file} is not an SDXL checkpoint, as it has no {', '.join(absent)}.",
            "Use a full SDXL checkpoint in one file, as A1111 and ComfyUI load it.",
        )
    edm = next((name for name in _EDM if name in names), None)
    if edm:
        raise SettingsError(
            f"FC_SDXL_MODEL: {file} was trained with a noise schedule of EDM ({edm}), which the schedulers cannot run.",
            "Use a checkpoint with the noise schedule of SDXL.",
        )


def _open(
    folder: Path, label: str, commit: str | None, setting: str, family: Family, *, single: Path | None
) -> Checkpoint:
    """The checkpoint in a folder, all its files found; of a single file's folder, all but the weights.

    Raises:
        SettingsError: it is another kind of model, or may not be loaded; `IncompleteError` when a file is missing.
    """
    index = folder / "model_index.json"
    if not index.is_file():
        raise weight_files.missing(folder, "model_index.json", setting)
    parts = _parts(folder, weight_files.read_json(index, setting), setting, family)
    plain = weight_files.weight_names(parts[family.network], None)
    variant = None
    if not any((folder / family.network / name).is_file() for name in plain):
        halves = weight_files.weight_names(parts[family.network], "fp16")
        variant = "fp16" if any((folder / family.network / name).is_file() for name in halves) else None
    files = ["model_index.json"]
    for part, library in parts.items():
        names = _part_files(folder, part, setting)
        if not part.startswith("tokenizer") and "config.json" in names and not single:
            names += weight_files.find_weights(folder, part, library, variant, setting)
        files += [f"{part}/{name}" for name in names]
    return Checkpoint(folder, label, commit, variant, tuple(sorted(files)))


def _parts(folder: Path, index: dict[str, Any], setting: str, family: Family) -> dict[str, str]:
    """The library of each part that the checkpoint consists of, by the part's name."""
    kind = index.get("_class_name")
    if kind not in family.pipelines:
        raise SettingsError(
            f"{setting}: {folder} holds a {kind}, not {family.whole}.", f"Use one made for {family.pipelines[0]}."
        )
    parts = {name: entry[0] for name, entry in index.items() if isinstance(entry, list) and entry[0] is not None}
    foreign = sorted(name for name, library in parts.items() if library not in _LIBRARIES)
    if foreign:
        raise SettingsError(
            f"{setting}: model_index.json of {folder} asks for code from outside diffusers and transformers "
            f"({', '.join(foreign)}), which is not run.",
            "Use a checkpoint without custom components.",
        )
    absent = [part for part in (*_PARTS, family.network) if part not in parts]
    if absent:
        raise SettingsError(
            f"{setting}: model_index.json of {folder} names no {', '.join(absent)}.",
            f"Use a complete checkpoint made for {family.pipelines[0]}; a refiner is not one.",
        )
    return parts


def _part_files(folder: Path, part: str, setting: str) -> list[str]:
    """The names of the small files of one part: its config, or its tokenizer.

    Raises:
        IncompleteError: names the first one that is missing.
    """
    texts = sorted(
        path.name
        for path in (folder / part).glob("*")
        if path.suffix in (".json", ".txt") and ".index." not in path.name and path.is_file()
    )
    if part.startswith("tokenizer"):
        if "tokenizer.json" not in texts and not {"vocab.json", "merges.txt"} <= set(texts):
            raise weight_files.missing(folder, f"{part}/tokenizer.json", setting)
        return texts
    config = {"scheduler": "scheduler_config.json", "feature_extractor": "preprocessor_config.json"}.get(
        part, "config.json"
    )
    if config not in texts:
        raise weight_files.missing(folder, f"{part}/{config}", setting)
    return texts
