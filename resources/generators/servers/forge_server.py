"""What a Forge or A1111 server says of itself, and whether it has what is asked of it."""

from __future__ import annotations

import base64
import binascii
import difflib
import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, NoReturn

from imaging.errors import BackendError, SettingsError
from imaging.files.provenance import parse_a1111
from resources import samplers
from resources.generators.base import Generated, ImageTask, ModelChoice
from resources.generators.servers.http_api import HttpApi, HttpStatusError, Remembered, read_png
from resources.lora_tags import lora_tag
from resources.models.places import read_lora

_REMEMBER_SECONDS: Final = 20.0

SAMPLERS: Final = {name: sampler.forge for name, sampler in samplers.SAMPLERS.items()}
"""The name in a request -> sampler and schedule type there."""

# Of the server's own settings, those that change pixels.
_PIXEL_OPTIONS: Final = (
    "sd_vae",
    "forge_additional_modules",
    "forge_unet_storage_dtype",
    "CLIP_stop_at_last_layers",
    "randn_source",
    "eta_noise_seed_delta",
    "upcast_attn",
    "sd_noise_schedule",
    "img2img_fix_steps",
    "img2img_color_correction",
    "initial_noise_multiplier",
    "inpainting_mask_weight",
)
# Others that do, with the values of a fresh server (modules/shared_options.py of A1111 1.10 and Forge 2): told where
# they differ, so that what was made before they were looked at is still found.
_PIXEL_DEFAULTS: Final[Mapping[str, Any]] = {
    "always_discard_next_to_last_sigma": False,
    "auto_vae_precision": True,
    "auto_vae_precision_bfloat16": False,
    "batch_cond_uncond": True,
    "beta_dist_alpha": 0.6,
    "beta_dist_beta": 0.6,
    "cache_fp16_weight": False,
    "code_former_weight": 0.5,
    "comma_padding_backtrack": 20,
    "cross_attention_optimization": "Automatic",
    "ddim_discretize": "uniform",
    "emphasis": "Original",
    "enable_batch_seeds": True,
    "enable_quantization": False,
    "eta_ancestral": 1.0,
    "eta_ddim": 0.0,
    "extra_networks_default_multiplier": 1.0,
    "face_restoration": False,
    "face_restoration_model": "CodeFormer",
    "forge_try_reproduce": "None",
    "fp8_storage": "Disable",
    "img2img_extra_noise": 0.0,
    "lora_functional": False,
    "no_dpmpp_sde_batch_determinism": False,
    "overlay_inpaint": True,
    "pad_cond_uncond": False,
    "pad_cond_uncond_v0": False,
    "rho": 0.0,
    "s_churn": 0.0,
    "s_min_uncond": 0.0,
    "s_min_uncond_all": False,
    "s_noise": 1.0,
    "s_tmax": 0.0,
    "s_tmin": 0.0,
    "sd_hypernetwork": "None",
    "sd_lora": "None",
    "sd_unet": "Automatic",
    "sd_vae_decode_method": "Full",
    "sd_vae_encode_method": "Full",
    "sd_vae_overrides_per_model_preferences": True,
    "sd3_enable_t5": False,
    "sdxl_clip_l_skip": False,
    "sdxl_crop_left": 0,
    "sdxl_crop_top": 0,
    "sdxl_refiner_high_aesthetic_score": 6.0,
    "sdxl_refiner_low_aesthetic_score": 2.5,
    "sgm_noise_multiplier": False,
    "sigma_max": 0.0,
    "sigma_min": 0.0,
    "skip_early_cond": 0.0,
    "tiling": False,
    "token_merging_ratio": 0.0,
    "token_merging_ratio_img2img": 0.0,
    "uni_pc_lower_order_final": True,
    "uni_pc_order": 3,
    "uni_pc_skip_type": "time_uniform",
    "uni_pc_variant": "bh1",
    "use_downcasted_alpha_bar": False,
    "use_old_emphasis_implementation": False,
    "use_old_karras_scheduler_sigmas": False,
    "use_old_scheduling": False,
}
_LONGEST_INFOTEXT: Final = 20_000  # characters of what a server says that is kept


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint as the server lists it.

    Attributes:
        title: its whole name there, with the hash when that is known.
        model_name: its name without folder, ending and hash.
        stem: its file's name without the ending.
        hash: the first 10 digits of its SHA-256; empty until the server has loaded it once.
    """

    title: str
    model_name: str
    stem: str
    hash: str


@dataclass(frozen=True, slots=True)
class ServerState:
    """What the server says of itself.

    Attributes:
        kind: `Forge` or `A1111`.
        checkpoint: the one to use.
        samplers: their names there.
        schedulers: their names there.
        options: those of its settings that change pixels, as they are for our images.
        forced: those of its settings that the job says, as they are sent.
    """

    kind: str
    checkpoint: Checkpoint
    samplers: frozenset[str]
    schedulers: frozenset[str]
    options: Mapping[str, Any]
    forced: Mapping[str, Any]


class Lora(NamedTuple):
    """A LoRA that the server is asked for: the field that names it, its name there, and its tag in the prompt."""

    field: str
    name: str
    tag: str


class ForgeServer:
    """A server, asked for one checkpoint, VAE, clip skip and set of LoRAs.

    Args:
        api: how it is reached.
        model: the checkpoint to use; empty: the one that the server has chosen.
        choice: what a job says, also in place of `model`.

    Raises:
        SettingsError: LoRAs that are not named as the server does.
    """

    def __init__(self, api: HttpApi, model: str, choice: ModelChoice) -> None:
        self._api = api
        self._model = (choice.checkpoint or model).strip()
        self._choice = choice
        self.loras = [
            *(_lora("loras", entry) for entry in choice.loras or ()),
            *(_lora("prompt", entry) for entry in choice.more_loras),
        ]
        self._state = Remembered(self._ask, _REMEMBER_SECONDS)

    def state(self) -> ServerState:
        """What it says; the answer is kept for 20 seconds.

        Raises:
            BackendError: it does not answer (`TransientError`), is too old, or lacks what is asked for.
        """
        return self._state.get()

    def read(self, answer: bytes, task: ImageTask, seconds: float) -> Generated:
        """The image in an answer, if it is the one that was asked for.

        Raises:
            BackendError: there is none that can be used, or it was made with another seed, sampler or checkpoint.
        """
        state = self.state()
        content = self._api.as_json("an image", answer)
        try:
            info = json.loads(content["info"])
            first = int(info.get("index_of_first_image", 0))  # a grid may come first
            encoded = content["images"][first]
            seed = info["all_seeds"][0]
            data = base64.b64decode(encoded, validate=True)
        except (KeyError, IndexError, TypeError, ValueError, binascii.Error) as error:
            raise BackendError(
                f"{state.kind} at {self._api.address} gave an answer without a usable image "
                f"({type(error).__name__}: {error}).",
                "Read the server's own log.",
            ) from None
        pixels = read_png(data, (task.width, task.height), state.kind)
        asked = {"seed": task.seed, "sampler_name": SAMPLERS[task.scheduler][0], "sd_model_name": state.checkpoint.stem}
        got = {"seed": seed, **{name: info.get(name) for name in ("sampler_name", "sd_model_name")}}
        if state.checkpoint.hash:
            asked["sd_model_hash"], got["sd_model_hash"] = state.checkpoint.hash, info.get("sd_model_hash")
        for name, value in asked.items():
            if got[name] is not None and got[name] != value:
                raise BackendError(
                    f"{state.kind} at {self._api.address} made the image with {name} {got[name]!r}, not {value!r}.",
                    "Look for a script or setting there that changes it; read the server's own log.",
                )
        return Generated(
            pixels,
            {
                "model": info.get("sd_model_name") or state.checkpoint.model_name,
                "model_hash": info.get("sd_model_hash") or state.checkpoint.hash or None,
                "version": info.get("version"),
                "sampler": list(SAMPLERS[task.scheduler]),
                "infotext": _in_force(info),
                **({"extra": info["extra_generation_params"]} if info.get("extra_generation_params") else {}),
                "seconds": round(seconds, 3),
            },
        )

    def _ask(self) -> ServerState:
        options = self._api.get_json("/sdapi/v1/options")
        listed = self._api.get_json("/sdapi/v1/sd-models")
        listed_samplers = self._api.get_json("/sdapi/v1/samplers")
        try:
            schedulers = self._api.get_json("/sdapi/v1/schedulers")
        except HttpStatusError as error:
            if error.status != 404:
                raise
            raise BackendError(
                f"The server at {self._api.address} has no list of schedulers, so it is older than A1111 1.9, which "
                "does not know schedules as DPM++ 2M Karras is asked for.",
                "Update it.",
            ) from None
        vae = self._vae() if self._choice.vae else {}
        skip = self._choice.clip_skip
        forced = {**vae, **({"CLIP_stop_at_last_layers": skip} if skip else {})}
        self._check_loras()
        try:
            checkpoints = [_checkpoint(entry) for entry in listed]
            in_force = options | forced
            return ServerState(
                kind="Forge" if any(name.startswith("forge_") for name in options) else "A1111",
                checkpoint=self._chosen(checkpoints, str(options.get("sd_model_checkpoint") or "")),
                samplers=frozenset(entry["name"] for entry in listed_samplers),
                schedulers=frozenset(entry["label"] for entry in schedulers),
                options={name: _plain(in_force[name]) for name in _PIXEL_OPTIONS if name in in_force}
                | {
                    name: _plain(in_force[name])
                    for name, usual in _PIXEL_DEFAULTS.items()
                    if in_force.get(name) not in (usual, None)
                },
                forced=forced,
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise BackendError(
                f"The server at {self._api.address} does not describe itself as A1111 does "
                f"({type(error).__name__}: {error}).",
                "Check that FC_FORGE_URL is the address of Forge or A1111.",
            ) from None

    def _vae(self) -> dict[str, Any]:
        """The setting that makes the server use the job's VAE: A1111 has one for it; Forge 2 lists it as a module."""
        wanted = str(self._choice.vae)
        try:
            listed, setting = self._api.get_json("/sdapi/v1/sd-vae"), "sd_vae"
        except HttpStatusError as error:
            if error.status != 404:
                raise
            listed, setting = self._api.get_json("/sdapi/v1/sd-modules"), "forge_additional_modules"
        names = {str(entry["model_name"]): str(entry["filename"]) for entry in listed}
        found = next((name for name in names if wanted in (name, name.rpartition(".")[0])), None)
        if found is None:
            self._absent("vae", "VAE", wanted, names)
        return {setting: found if setting == "sd_vae" else [names[found]]}

    def _check_loras(self) -> None:
        """Make sure that the server has the job's LoRAs: it would make the image without them, and not say so."""
        if not self.loras:
            return
        listed = self._api.get_json("/sdapi/v1/loras")
        there = {str(entry[key]) for entry in listed for key in ("name", "alias") if entry.get(key)}
        for lora in self.loras:
            if lora.name not in there:
                self._absent(lora.field, "LoRA", lora.name, there)

    def _absent(self, field: str, kind: str, wanted: str, there: Collection[str]) -> NoReturn:
        raise BackendError(
            f"{field}: the server at {self._api.address} has no {kind} {wanted!r}.", _near(wanted, sorted(there))
        )

    def _chosen(self, checkpoints: Sequence[Checkpoint], in_use: str) -> Checkpoint:
        wanted = self._model or in_use
        if not wanted:
            raise BackendError(
                f"The server at {self._api.address} has chosen no checkpoint.",
                "Choose one in its UI, or set FC_FORGE_MODEL.",
            )
        for names in (
            (lambda c: c.title),
            (lambda c: _unhashed(c.title)),
            (lambda c: c.model_name),
            (lambda c: c.stem),
        ):
            # a hash that is named must be the file's, unless the server has not hashed it yet
            found = [c for c in checkpoints if names(c) == wanted or (not c.hash and names(c) == _unhashed(wanted))]
            if len(found) == 1:
                return found[0]
            if found:
                named = "checkpoint" if self._choice.checkpoint else "FC_FORGE_MODEL"
                raise BackendError(
                    f"{named}={wanted} is the name of {len(found)} checkpoints on the server.",
                    f"Use a whole title: {'; '.join(checkpoint.title for checkpoint in found)}.",
                )
        if self._choice.checkpoint:
            self._absent("checkpoint", "checkpoint", wanted, [checkpoint.model_name for checkpoint in checkpoints])
        who = "FC_FORGE_MODEL names" if self._model else "it has chosen"
        raise BackendError(
            f"The server at {self._api.address} has no checkpoint {wanted!r}, which {who}.",
            _near(_unhashed(wanted), [checkpoint.model_name for checkpoint in checkpoints]),
        )


def check_steps(task: ImageTask, strength: float | None, options: Mapping[str, Any]) -> None:
    """Nothing when the server's sampler can do with the steps that are left to it.

    UniPC there ends with an AssertionError below its order (`uni_pc_order`, 3). A face gets the denoising strength's
    share of the steps, unless `img2img_fix_steps` is set (A1111's setup_img2img_steps).

    Raises:
        BackendError: they are too few.
    """
    least = int(options.get("uni_pc_order") or 3)
    share = 1.0 if strength is None or options.get("img2img_fix_steps") else min(strength, 0.999)
    steps = int(task.steps * share)
    if SAMPLERS[task.scheduler][0] == "UniPC" and steps < least:
        raise BackendError(
            f"UniPC takes at least {least} steps there, and this image has {steps}.",
            "Ask for more steps (a face gets face_strength times as many), or another sampler.",
        )


def _in_force(info: Mapping[str, Any]) -> dict[str, Any]:
    """What the server says that an image was made with, by the keys of A1111's text; not who asked."""
    texts = info.get("infotexts")
    text = str(texts[0]) if isinstance(texts, list) and texts else ""
    said = {key.strip(): value for key, value in parse_a1111(text[-_LONGEST_INFOTEXT:])["settings"].items()}
    for key, name in (("VAE", "sd_vae_name"), ("VAE hash", "sd_vae_hash")):
        if info.get(name):
            said.setdefault(key, str(info[name]))
    return {key: value for key, value in said.items() if key != "User"}


def _checkpoint(entry: Mapping[str, Any]) -> Checkpoint:
    file = re.split(r"[\\/]", str(entry["filename"]))[-1]
    return Checkpoint(
        title=str(entry["title"]),
        model_name=str(entry["model_name"]),
        stem=file.rpartition(".")[0] or file,
        hash=str(entry.get("hash") or ""),
    )


def _near(wanted: str, there: Sequence[str]) -> str:
    """What the server has, as a hint; of much, what is called alike."""
    near = difflib.get_close_matches(wanted, there, n=5, cutoff=0.4) or there[:5]
    return f"It has, among {len(there)}: {', '.join(near)}." if there else "It has none at all."


def _unhashed(title: str) -> str:
    """A title without its ` [hash]`."""
    return re.sub(r" \[[0-9a-f]+\]$", "", title)


def _plain(value: Any) -> Any:  # noqa: ANN401 - JSON
    """A setting's value; of files only their names, as the folders of that machine decide nothing."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return re.split(r"[\\/]", value)[-1] if isinstance(value, str) else value


def _lora(field: str, entry: str) -> Lora:
    name, unet, text = read_lora(entry, field)
    if re.search(r"[<>:/\\]", name):
        raise SettingsError(
            f"{field}: {name!r} is no name of a LoRA as Forge and A1111 have it.",
            "Give the name of the file there, without its folder and ending.",
        )
    return Lora(field, name, lora_tag(name, unet, text))
