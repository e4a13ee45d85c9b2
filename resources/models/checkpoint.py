"""An SDXL checkpoint as files: where it lies, whether it is whole, what identifies it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from imaging.errors import SettingsError
from resources.models.folders import INDEX, IncompleteError, choose, files_in, libraries, no_file
from resources.models.places import find_place, no_place, read_json
from resources.models.weights import Header, fingerprint, header_of

HUB_SIZE: Final = 1024  # the side that SDXL was trained at; said of a Hub id whose files are not here yet
BASE: Final = "stabilityai/stable-diffusion-xl-base-1.0"  # where a single file's configs come from, if not set
CONFIG_SETTING: Final = "FC_SDXL_CONFIG"

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
        files: every file that is loaded, as paths under `folder`, sorted.
        field: the variable or the job's field that names it, for messages.
        single: the file that holds all weights; the folder then gives configs and tokenizers only.
    """

    folder: Path
    label: str
    commit: str | None
    variant: str | None
    files: tuple[str, ...]
    field: str
    single: Path | None = None

    @property
    def path(self) -> Path:
        """Where the weights lie: the single file, or the folder."""
        return self.single or self.folder

    def fingerprint(self) -> str:
        """What identifies the weights and configs; see `weights.fingerprint`."""
        single = [("", self.single)] if self.single else []
        deciding = [name for name in self.files if not name.endswith(".model") and ".index." not in name]
        return fingerprint([*single, *((name, self.folder / name) for name in deciding)])

    def paths(self) -> list[Path]:
        """Every file that is loaded."""
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
        return read_json(self.folder / part / "config.json", CONFIG_SETTING if self.single else self.field)

    def _header(self, file: Path) -> Header:
        return header_of(file, self.field)


def find_checkpoint(
    model: str, revision: str, config: str = BASE, *, field: str = "FC_SDXL_MODEL", family: Family = SDXL
) -> Checkpoint | None:
    """The checkpoint that `model` names; None when Hub files that it needs are not, or not all, in the Hub cache.

    Args:
        model: a folder in diffusers format, a single .safetensors file, or a Hub id such as `owner/name`.
        revision: branch, tag or commit of a Hub id; empty for `main`.
        config: a folder in diffusers format, or a Hub id; gives a single file's configs and tokenizers.
        field: the variable or the job's field that names it, for messages.
        family: what kind of checkpoint it must be. Single files can be SDXL only.

    Raises:
        SettingsError: it is none of them, or it is incomplete or holds what may not be loaded.
    """
    path = Path(model).expanduser()
    if not (path.is_absolute() and path.is_file()):
        return _find_folder(model, revision, field, family, single=False)
    if family is not SDXL:
        raise SettingsError(
            f"{field}={model} is a single file; {family.whole} must be a folder in diffusers format.",
            f"Convert it: {family.pipelines[0]}.from_single_file(FILE).save_pretrained(FOLDER).",
        )
    _check_single(path, field)
    found = _find_folder(config, "", CONFIG_SETTING, SDXL, single=True)
    return found and replace(found, label=path.stem, commit=None, field=field, single=path)


def _find_folder(model: str, revision: str, field: str, family: Family, *, single: bool) -> Checkpoint | None:
    kinds = "folder" if single else "folder or .safetensors file"
    place = find_place(field, model, kinds, revision=revision, example=family.example)
    if place.file or (place.path and not place.path.is_dir()):
        raise no_place(field, model, kinds, family.example)
    if place.path is None:
        return None
    try:
        found = open_folder(place.path, field, family, weights=not single)
    except IncompleteError:
        if place.hub:
            return None  # a download that was cut off; the next one goes on with it
        raise
    return replace(found, label=model, commit=place.path.name) if place.hub else found


def open_folder(folder: Path, field: str, family: Family, *, weights: bool = True) -> Checkpoint:
    """The checkpoint in a folder, all its files found; without `weights`, its configs and tokenizers alone.

    Raises:
        SettingsError: it is another kind of model, or may not be loaded; `IncompleteError` when a file is missing.
    """
    if not (folder / INDEX).is_file():
        raise no_file(folder, INDEX, field)
    index = read_json(folder / INDEX, field)
    _check_index(folder, index, field, family)
    chosen = choose(files_in(folder), index, weights=weights)
    chosen.check(folder, field)
    return Checkpoint(folder, folder.resolve().name, None, chosen.variant, chosen.files, field)


def _check_index(folder: Path, index: dict[str, Any], field: str, family: Family) -> None:
    """Nothing when a pipeline consists of what it must.

    Raises:
        SettingsError: it is another kind of model, lacks a part, or needs code of its own.
    """
    kind = index.get("_class_name")
    if kind not in family.pipelines:
        raise SettingsError(
            f"{field}: {folder} holds a {kind}, not {family.whole}.", f"Use one made for {family.pipelines[0]}."
        )
    parts = libraries(index)
    foreign = sorted(name for name, library in parts.items() if library not in _LIBRARIES)
    if foreign:
        raise SettingsError(
            f"{field}: {INDEX} of {folder} asks for code from outside diffusers and transformers "
            f"({', '.join(foreign)}), which is not run.",
            "Use a checkpoint without custom components.",
        )
    absent = [part for part in (*_PARTS, family.network) if part not in parts]
    if absent:
        raise SettingsError(
            f"{field}: {INDEX} of {folder} names no {', '.join(absent)}.",
            f"Use a complete checkpoint made for {family.pipelines[0]}; a refiner is not one.",
        )


def _check_single(file: Path, field: str) -> None:
    """Nothing when the file is an SDXL checkpoint.

    Raises:
        SettingsError: it is something else; says what, as far as its tensors' names tell.
    """
    names = header_of(file, field).tensors
    absent = [part for part, name in _SINGLE_FILE.items() if name not in names]
    if absent:
        for mark, kind, hint in _MARKS_OF_OTHERS:
            if any(mark in name for name in names):
                raise SettingsError(f"{field}: {file} is {kind}, not an SDXL checkpoint.", hint)
        raise SettingsError(
            f"{field}: {file} is not an SDXL checkpoint, as it has no {', '.join(absent)}.",
            "Use a full SDXL checkpoint in one file, as A1111 and ComfyUI load it.",
        )
    edm = next((name for name in _EDM if name in names), None)
    if edm:
        raise SettingsError(
            f"{field}: {file} was trained with a noise schedule of EDM ({edm}), which the schedulers cannot run.",
            "Use a checkpoint with the noise schedule of SDXL.",
        )
