"""The generator `forge`: a Forge or A1111 server over its HTTP API.

One request makes one image: the seeds of a batch there are the first one and those that follow it, so images with seeds
of their own cannot share a request.
"""

from __future__ import annotations

import base64
import logging
import queue
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Final

from pydantic import SecretStr

from imaging.errors import BackendError, SettingsError, TransientError
from resources.generators.base import NOTHING_CHOSEN, Generated, ImageTask, InpaintTask, ModelChoice, Outcome
from resources.generators.choice import check_honoured
from resources.generators.servers.forge_progress import ForgeProgress
from resources.generators.servers.forge_server import SAMPLERS, ForgeServer, check_steps
from resources.generators.servers.http_api import (
    API_ERRORS,
    NATIVE_SIZE,
    ConnectionLostError,
    HttpApi,
    inpaint_pngs,
    outcomes,
)
from resources.settings import Settings

_log = logging.getLogger(__name__)

SERVER: Final = "Forge or A1111"
_LATE_SECONDS: Final = (
    30.0  # beyond the time limit, until the request itself is given up: it ends soon when interrupted
)
_PROGRESS_SECONDS: Final = 1.0


class ForgeGenerator:
    """Images by a Forge or A1111 server. One instance may be used by one thread at a time.

    Args:
        url: the server's address.
        auth: `user:password` of `--api-auth`; empty: none.
        model: checkpoint to use, by its title, name or file there; empty: the one that the server has chosen.
        image_timeout: seconds that one image may take, waiting for other images there included.
        face_size: side of the face pass in pixels; 0: 1024, SDXL's own.
        choice: what a job says of VAE, clip skip and LoRAs; and its checkpoint, in place of `model`.
        distilled_cfg: Forge's distilled CFG scale, for Flux; 0: the server's own.

    Raises:
        SettingsError: an address or a sign-in that cannot be one, or LoRAs that are not named as the server does.
    """

    name = "forge"
    HONOURS: ClassVar[frozenset[str]] = frozenset({"checkpoint", "vae", "clip_skip", "loras", "more_loras"})

    def __init__(
        self,
        url: str,
        auth: SecretStr | None = None,
        model: str = "",
        image_timeout: float = 300.0,
        face_size: int = 0,
        choice: ModelChoice = NOTHING_CHOSEN,
        distilled_cfg: float = 0.0,
    ) -> None:
        self._api = HttpApi(url, variable="FC_FORGE_URL", server=SERVER, auth=auth, auth_variable="FC_FORGE_AUTH")
        self._server = ForgeServer(self._api, model, choice)
        self._image_timeout = image_timeout
        self._face_size = face_size
        self._distilled = {"distilled_cfg_scale": distilled_cfg} if distilled_cfg else {}

    @classmethod
    def from_settings(cls, settings: Settings, choice: ModelChoice = NOTHING_CHOSEN) -> ForgeGenerator:
        """The generator that the settings describe, with what a job says in their place. No request is sent.

        Raises:
            SettingsError: names the variable that is missing or wrong, or the field that a job cannot give.
        """
        check_honoured(cls.name, cls.HONOURS, choice)
        if not settings.forge_url:
            raise SettingsError(
                "FC_FORGE_URL is not set, and the generator forge needs the address of a server.",
                "Start Forge or A1111 with --api and set it, for example to http://127.0.0.1:7860.",
            )
        return cls(
            settings.forge_url,
            settings.forge_auth,
            settings.forge_model,
            settings.image_timeout,
            settings.face_size,
            choice,
            settings.forge_distilled_cfg,
        )

    def describe(self) -> dict[str, Any]:
        """The server's kind, its checkpoint and hash, and those of its settings that change pixels; a job's LoRAs.

        Only the server knows them, so it is asked; the answer is kept for 20 seconds. The hash is None until the server
        has loaded the checkpoint once; what was made before that is found again all the same
        (`fc_assets.engine.keys.before_hash`).

        Raises:
            BackendError: the server does not answer (`TransientError`), or has no such checkpoint.
        """
        state = self._server.state()
        return {
            "generator": self.name,
            "server": state.kind,
            "model": state.checkpoint.model_name,
            "model_hash": state.checkpoint.hash or None,
            "options": dict(state.options),
            **({"loras": [lora.tag for lora in self._server.loras]} if self._server.loras else {}),
            **self._distilled,
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
        state = self._server.state()
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
        state = self._server.state()
        sampler, scheduler = SAMPLERS[task.scheduler]
        for kind, wanted, there in (("sampler", sampler, state.samplers), ("scheduler", scheduler, state.schedulers)):
            if wanted not in there:
                raise BackendError(
                    f"{state.kind} at {self._api.address} has no {kind} {wanted!r}, which {task.scheduler!r} needs.",
                    f"Ask for another scheduler; it has: {', '.join(sorted(there))}.",
                )
        check_steps(task, extra.get("denoising_strength"), state.options)
        started = time.monotonic()
        task_id = f"task({uuid.uuid4().hex})"
        body = {
            "prompt": " ".join([task.prompt, *(lora.tag for lora in self._server.loras)]),
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
            "override_settings": {"sd_model_checkpoint": state.checkpoint.title, **state.forced},
            "force_task_id": task_id,
            **self._distilled,
            **extra,
        }
        image = ForgeProgress(self._api, path, task_id)
        answer = self._wait_for(path, body, image, task.job_id)
        if how := image.ended_early():
            raise TransientError(
                f"The image was {how} on {state.kind} at {self._api.address} by somebody else, so it is not whole.",
                "The job is tried again.",
            )
        return self._server.read(answer, task, time.monotonic() - started)

    # ---- waiting for an image

    def _wait_for(self, path: str, body: Mapping[str, Any], image: ForgeProgress, job_id: str) -> bytes:
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
            answer = self._first(answers, image, job_id)
        except BaseException:  # the stage's own limit, Ctrl-C, a cancelled run
            self._stop(image)
            raise
        if answer is None:
            raise TransientError(
                f"{SERVER} at {self._api.address} did not finish the image within {self._image_timeout:g} s. "
                f"{self._stop(image)}",
                "Raise FC_IMAGE_TIMEOUT, or ask for a smaller image or fewer steps.",
            )
        if isinstance(answer, ConnectionLostError):
            raise TransientError(f"{answer.what} {self._stop(image)}", answer.hint)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def _first(
        self, answers: queue.SimpleQueue[bytes | BaseException], image: ForgeProgress, job_id: str
    ) -> bytes | BaseException | None:
        """What comes within the time limit, else None; the progress is told meanwhile."""
        ends = time.monotonic() + self._image_timeout
        watched = True
        while (left := ends - time.monotonic()) > 0:
            try:
                return answers.get(timeout=min(_PROGRESS_SECONDS, left))
            except queue.Empty:
                watched = watched and self._tell_progress(image, job_id)
        return None

    def _tell_progress(self, image: ForgeProgress, job_id: str) -> bool:
        """Log how far an image is; False when the server does not say."""
        try:
            told = image.told()
        except API_ERRORS as error:
            _log.info("Job %s: no progress is known: %s", job_id, error.what)
            return False
        if told.get("active"):
            _log.info("Job %s: %d %%.", job_id, round(100 * (told.get("progress") or 0)))
        elif told.get("queued"):
            _log.info("Job %s: waits for other images on the server.", job_id)
        return True

    def _stop(self, image: ForgeProgress) -> str:
        """Interrupt an image that nobody waits for any more; one sentence on what became of it.

        The server interrupts whatever it is at, so only when it says that it is at this image.
        """
        try:
            told = image.told()
            if told.get("active"):
                self._api.post_json("/sdapi/v1/interrupt", {}, seconds=5)
                return "It was interrupted there."
        except API_ERRORS as error:
            return f"Whether the server still works on it is not known: {error.what}"
        if told.get("queued"):
            return "It waits there behind other images, and cannot be taken back."
        return "The server is not at work on it."
