"""The generator `forge`: a Forge or A1111 server over its HTTP API.

One request makes one image: the seeds of a batch there are the first one and those that follow it, so images with seeds
of their own cannot share a request.
"""

from __future__ import annotations

import base64
import binascii
import difflib
import json
import logging
import queue
import re
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydantic import SecretStr

from imaging.errors import BackendError, SettingsError, TransientError
from resources.generators.base import NOTHING_CHOSEN, Generated, ImageTask, InpaintTask, ModelChoice, Outcome
from resources.generators.servers.http_api import (
    API_ERRORS,
    NATIVE_SIZE,
    ConnectionLostError,
    HttpApi,
    HttpStatusError,
    Remembered,
    inpaint_pngs,
    outcomes,
    read_png,
)
from resources.settings import Settings

_log = logging.getLogger(__name__)

SERVER: Final = "Forge or A1111"
_REMEMBER_SECONDS: Final = 20.0
_LATE_SECONDS: Final = (
    30.0  # beyond the time limit, until the request itself is given up: it ends soon when interrupted
)
_PROGRESS_SECONDS: Final = 1.0

# The name in a request -> sampler and schedule type there, as A1111 1.9 and Forge split them. `Uniform` is the model's
# own spacing; `Automatic` would be Karras for DPM++. DDIM and UniPC have one spacing only.
# DDPM is Forge's alone; A1111 answers that it has no such sampler.
SAMPLERS: Final[Mapping[str, tuple[str, str]]] = {
    "Euler": ("Euler", "Uniform"),
    "Euler a": ("Euler a", "Uniform"),
    "DDIM": ("DDIM", "Automatic"),
    "DPM++ 2M": ("DPM++ 2M", "Uniform"),
    "DPM++ 2M Karras": ("DPM++ 2M", "Karras"),
    "DPM++ SDE Karras": ("DPM++ SDE", "Karras"),
    "Heun": ("Heun", "Uniform"),
    "UniPC": ("UniPC", "Automatic"),
    "Euler SGM Uniform": ("Euler", "SGM Uniform"),
    "DDPM": ("DDPM", "Automatic"),
    "DPM++ 2M SDE": ("DPM++ 2M SDE", "Uniform"),
    "DPM++ 2M SDE Karras": ("DPM++ 2M SDE", "Karras"),
    "DPM++ 3M SDE": ("DPM++ 3M SDE", "Uniform"),
    "DPM++ 3M SDE Karras": ("DPM++ 3M SDE", "Karras"),
    "DPM++ SDE": ("DPM++ SDE", "Uniform"),
    "DPM2": ("DPM2", "Uniform"),
    "DPM2 a": ("DPM2 a", "Uniform"),
    "LCM": ("LCM", "Automatic"),
}

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
    """What the server says of itself: `Forge` or `A1111`, its checkpoint in use, names and settings."""

    kind: str
    checkpoint: Checkpoint
    samplers: frozenset[str]
    schedulers: frozenset[str]
    options: Mapping[str, Any]


class ForgeGenerator:
    """Images by a Forge or A1111 server. One instance may be used by one thread at a time.

    Args:
        url: the server's address.
        auth: `user:password` of `--api-auth`; empty: none.
        model: checkpoint to use, by its title, name or file there; empty: the one that the server has chosen.
        image_timeout: seconds that one image may take, waiting for other images there included.
        face_size: side of the face pass in pixels; 0: 1024, SDXL's own.

    Raises:
        SettingsError: an address or a sign-in that cannot be one.
    """

    name = "forge"

    def __init__(
        self, url: str, auth: SecretStr | None = None, model: str = "", image_timeout: float = 300.0, face_size: int = 0
    ) -> None:
        self._api = HttpApi(url, variable="FC_FORGE_URL", server=SERVER, auth=auth, auth_variable="FC_FORGE_AUTH")
        self._model = model.strip()
        self._image_timeout = image_timeout
        self._face_size = face_size
        self._state = Remembered(self._ask_state, _REMEMBER_SECONDS)

    @classmethod
    def from_settings(cls, settings: Settings, choice: ModelChoice = NOTHING_CHOSEN) -> ForgeGenerator:  # noqa: ARG003
        """The generator that the settings describe. No request is sent.

        Raises:
            SettingsError: names the variable that is missing or wrong.
        """
        if not settings.forge_url:
            raise SettingsError(
                "FC_FORGE_URL is not set, and the generator forge needs the address of a server.",
                "Start Forge or A1111 with --api and set it, for example to http://127.0.0.1:7860.",
            )
        return cls(
            settings.forge_url, settings.forge_auth, settings.forge_model, settings.image_timeout, settings.face_size
        )

    def describe(self) -> dict[str, Any]:
        """The server's kind, its checkpoint and hash, and those of its settings that change pixels.

        Only the server knows them, so it is asked; the answer is kept for 20 seconds. The hash is None until the server
        has loaded the checkpoint once.

        Raises:
            BackendError: the server does not answer (`TransientError`), or has no such checkpoint.
        """
        state = self._state.get()
        return {
            "generator": self.name,
            "server": state.kind,
            "model": state.checkpoint.model_name,
            "model_hash": state.checkpoint.hash or None,
            "options": dict(state.options),
        }

    def native_size(self) -> int:
        """`FC_FACE_SIZE`, or 1024."""
        return self._face_size or NATIVE_SIZE

    def check_server(self) -> str:
        """One sentence on the server and its checkpoint.

        Raises:
            BackendError: it does not answer (`TransientError`), turns the sign-in down, has no such checkpoint, or is
                too old.
        """
        state = self._state.get()
        checked = f", {state.checkpoint.hash}" if state.checkpoint.hash else ""
        return f"{state.kind} answers at {self._api.address}; checkpoint {state.checkpoint.model_name}{checked}"

    def generate(self, tasks: Sequence[ImageTask]) -> Iterator[Outcome]:
        """Make one image per task; see `Generator.generate`."""
        yield from outcomes(tasks, lambda task: self._made("/sdapi/v1/txt2img", task, {}))

    def inpaint(self, tasks: Sequence[InpaintTask]) -> Iterator[Outcome]:
        """Make one masked area anew per task; see `Generator.inpaint`. A strength of 0 gives the image back."""
        yield from outcomes(tasks, self._inpainted)

    def _inpainted(self, task: InpaintTask) -> Outcome:
        image, mask = inpaint_pngs(task)
        if task.denoising_strength == 0:
            return Generated(task.image, {"denoising_strength": 0})
        return self._made(
            "/sdapi/v1/img2img",
            task.task,
            {
                "init_images": [base64.b64encode(image).decode()],
                "mask": base64.b64encode(mask).decode(),
                "mask_blur": 0,
                "inpainting_fill": 1,  # start from the image itself
                "inpaint_full_res": False,  # the image is a face's crop already
                "inpainting_mask_invert": 0,
                "resize_mode": 0,
                "denoising_strength": task.denoising_strength,
            },
        )

    def _made(self, path: str, task: ImageTask, extra: Mapping[str, Any]) -> Generated:
        state = self._state.get()
        sampler, scheduler = SAMPLERS[task.scheduler]
        for kind, wanted, there in (("sampler", sampler, state.samplers), ("scheduler", scheduler, state.schedulers)):
            if wanted not in there:
                raise BackendError(
                    f"{state.kind} at {self._api.address} has no {kind} {wanted!r}, which {task.scheduler!r} needs.",
                    f"Ask for another scheduler; it has: {', '.join(sorted(there))}.",
                )
        started = time.monotonic()
        task_id = f"task({uuid.uuid4().hex})"
        body = {
            "prompt": task.prompt,
            "negative_prompt": task.negative_prompt,
            "seed": task.seed,
            "subseed_strength": 0,
            "sampler_name": sampler,
            "scheduler": scheduler,
            "steps": task.steps,
            "cfg_scale": task.cfg_scale,
            "width": task.width,
            "height": task.height,
            "batch_size": 1,
            "n_iter": 1,
            "send_images": True,
            "save_images": False,
            # Always, so that a person who picks another one in the UI does not change this image.
            "override_settings": {"sd_model_checkpoint": state.checkpoint.title},
            "force_task_id": task_id,
            **extra,
        }
        answer = self._wait_for(path, body, task_id, task.job_id)
        return self._read(answer, task, state, time.monotonic() - started)

    # ---- waiting for an image

    def _wait_for(self, path: str, body: Mapping[str, Any], task_id: str, job_id: str) -> bytes:
        """Send the request from another thread, tell its progress, and interrupt it when nobody waits any more."""
        answers: queue.SimpleQueue[bytes | BaseException] = queue.SimpleQueue()

        def ask() -> None:
            try:
                limit = self._image_timeout + _LATE_SECONDS
                answers.put(self._api.send("POST", path, seconds=limit, json=body))
            except BaseException as error:  # noqa: BLE001 - raised in the thread that waits
                answers.put(error)

        threading.Thread(target=ask, name=f"forge {job_id}", daemon=True).start()
        try:
            answer = self._first(answers, task_id, job_id)
        except BaseException:  # the stage's own limit, Ctrl-C, a cancelled run
            self._stop(task_id)
            raise
        if answer is None:
            raise TransientError(
                f"{SERVER} at {self._api.address} did not finish the image within {self._image_timeout:g} s. "
                f"{self._stop(task_id)}",
                "Raise FC_IMAGE_TIMEOUT, or ask for a smaller image or fewer steps.",
            )
        if isinstance(answer, ConnectionLostError):
            raise TransientError(f"{answer.what} {self._stop(task_id)}", answer.hint)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def _first(
        self, answers: queue.SimpleQueue[bytes | BaseException], task_id: str, job_id: str
    ) -> bytes | BaseException | None:
        """What comes within the time limit, else None; the progress is told meanwhile."""
        ends = time.monotonic() + self._image_timeout
        watched = True
        while (left := ends - time.monotonic()) > 0:
            try:
                return answers.get(timeout=min(_PROGRESS_SECONDS, left))
            except queue.Empty:
                watched = watched and self._tell_progress(task_id, job_id)
        return None

    def _tell_progress(self, task_id: str, job_id: str) -> bool:
        """Log how far an image is; False when the server does not say."""
        try:
            told = self._progress(task_id)
        except API_ERRORS as error:
            _log.info("Job %s: no progress is known: %s", job_id, error.what)
            return False
        if told.get("active"):
            _log.info("Job %s: %d %%.", job_id, round(100 * (told.get("progress") or 0)))
        elif told.get("queued"):
            _log.info("Job %s: waits for other images on the server.", job_id)
        return True

    def _progress(self, task_id: str) -> dict[str, Any]:
        body = {"id_task": task_id, "live_preview": False}
        told = self._api.post_json("/internal/progress", body, seconds=5)
        return told if isinstance(told, dict) else {}

    def _stop(self, task_id: str) -> str:
        """Interrupt an image that nobody waits for any more; one sentence on what became of it.

        The server interrupts whatever it is at, so only when it says that it is at this image.
        """
        try:
            told = self._progress(task_id)
            if told.get("active"):
                self._api.post_json("/sdapi/v1/interrupt", {}, seconds=5)
                return "It was interrupted there."
        except API_ERRORS as error:
            return f"Whether the server still works on it is not known: {error.what}"
        if told.get("queued"):
            return "It waits there behind other images, and cannot be taken back."
        return "The server is not at work on it."

    # ---- the answer

    def _read(self, answer: bytes, task: ImageTask, state: ServerState, seconds: float) -> Generated:
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
                "seconds": round(seconds, 3),
            },
        )

    # ---- the server

    def _ask_state(self) -> ServerState:
        options = self._api.get_json("/sdapi/v1/options")
        listed = self._api.get_json("/sdapi/v1/sd-models")
        samplers = self._api.get_json("/sdapi/v1/samplers")
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
        try:
            checkpoints = [_checkpoint(entry) for entry in listed]
            return ServerState(
                kind="Forge" if any(name.startswith("forge_") for name in options) else "A1111",
                checkpoint=self._chosen(checkpoints, str(options.get("sd_model_checkpoint") or "")),
                samplers=frozenset(entry["name"] for entry in samplers),
                schedulers=frozenset(entry["label"] for entry in schedulers),
                options={name: _plain(options[name]) for name in _PIXEL_OPTIONS if name in options},
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise BackendError(
                f"The server at {self._api.address} does not describe itself as A1111 does "
                f"({type(error).__name__}: {error}).",
                "Check that FC_FORGE_URL is the address of Forge or A1111.",
            ) from None

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
                raise BackendError(
                    f"FC_FORGE_MODEL={wanted} is the name of {len(found)} checkpoints on the server.",
                    f"Use a whole title: {'; '.join(checkpoint.title for checkpoint in found)}.",
                )
        return self._missing(checkpoints, wanted)

    def _missing(self, checkpoints: Sequence[Checkpoint], wanted: str) -> Checkpoint:
        names = [checkpoint.model_name for checkpoint in checkpoints]
        near = difflib.get_close_matches(_unhashed(wanted), names, n=5, cutoff=0.4) or names[:5]
        said = f"FC_FORGE_MODEL={wanted}" if self._model else f"{wanted}, which it has chosen,"
        raise BackendError(
            f"The server at {self._api.address} has no checkpoint {said}.",
            f"It has, among {len(names)}: {', '.join(near)}." if names else "It has none at all.",
        )


def _checkpoint(entry: Mapping[str, Any]) -> Checkpoint:
    file = re.split(r"[\\/]", str(entry["filename"]))[-1]
    return Checkpoint(
        title=str(entry["title"]),
        model_name=str(entry["model_name"]),
        stem=file.rpartition(".")[0] or file,
        hash=str(entry.get("hash") or ""),
    )


def _unhashed(title: str) -> str:
    """A title without its ` [hash]`."""
    return re.sub(r" \[[0-9a-f]+\]$", "", title)


def _plain(value: Any) -> Any:  # noqa: ANN401 - JSON
    """A setting's value; of files only their names, as the folders of that machine decide nothing."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return re.split(r"[\\/]", value)[-1] if isinstance(value, str) else value
