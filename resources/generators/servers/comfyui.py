"""The generator `comfyui`: a ComfyUI server that runs the user's own workflows over its HTTP API."""

from __future__ import annotations

import json
import logging
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Final

from pydantic import SecretStr

from imaging.errors import BackendError, SettingsError, TransientError
from resources import samplers
from resources.generators.base import NOTHING_CHOSEN, Generated, ImageTask, InpaintTask, ModelChoice, Outcome
from resources.generators.choice import check_honoured
from resources.generators.servers.comfyui_facts import files_of, sampling_of
from resources.generators.servers.comfyui_progress import ComfyUIProgress
from resources.generators.servers.comfyui_server import SERVER, WRONG_NODES, ComfyUIServer
from resources.generators.servers.comfyui_workflow import (
    CHOSEN_VALUES,
    FACE_NEEDS,
    FACE_VALUES,
    SCENE_NEEDS,
    SCENE_VALUES,
    Pack,
    Workflow,
    read_pack,
    read_workflow,
)
from resources.generators.servers.http_api import (
    API_ERRORS,
    NATIVE_SIZE,
    HttpApi,
    inpaint_pngs,
    outcomes,
    read_png,
)
from resources.settings import Settings

_log = logging.getLogger(__name__)

SAMPLERS: Final = {name: sampler.comfyui for name, sampler in samplers.SAMPLERS.items()}
"""The name in a request -> sampler and scheduler of ComfyUI's KSampler."""


class ComfyUIGenerator:
    """Images by workflows on a ComfyUI server. One instance may be used by one thread at a time.

    Args:
        url: the server's address.
        scene: the workflow of the scene; None: scenes cannot be made.
        face: the workflow of the face pass; None: faces cannot be made.
        pack: the models and nodes that must be there.
        image_timeout: seconds that one image may take, waiting for other images there included.
        face_size: side of the face pass in pixels; 0: 1024, SDXL's own.
        choice: what a job says of the model.
        auth: `user:password` or `Bearer TOKEN` of a log-in before the server; empty: none.

    Raises:
        SettingsError: an address or a sign-in that cannot be one, or no workflow takes what the job says.
    """

    name = "comfyui"
    HONOURS: ClassVar[frozenset[str]] = frozenset(CHOSEN_VALUES)
    """What a job can say if an input of the workflow is marked for it."""
    poll_seconds: float = 0.5
    """Seconds between two looks at whether an image is finished."""

    def __init__(
        self,
        url: str,
        scene: Workflow | None,
        face: Workflow | None,
        pack: Pack | None = None,
        image_timeout: float = 300.0,
        face_size: int = 0,
        choice: ModelChoice = NOTHING_CHOSEN,
        auth: SecretStr | None = None,
    ) -> None:
        check_honoured(self.name, self.HONOURS, choice)
        self._chosen = _chosen_values(choice)
        for name in self._chosen:
            if not any(workflow.takes(name) for workflow in (scene, face) if workflow):
                raise SettingsError(f"{name}: no ComfyUI workflow here has an input marked for it.", _mark_hint(name))
        self._api = HttpApi(url, variable="FC_COMFYUI_URL", server=SERVER, auth=auth, auth_variable="FC_COMFYUI_AUTH")
        self._scene = scene and scene.with_values(self._chosen)
        self._face = face and face.with_values(self._chosen)
        self._pack = pack or Pack()
        self._image_timeout = image_timeout
        self._face_size = face_size
        self._client_id = uuid.uuid4().hex
        self._server = ComfyUIServer(self._api, self._pack)
        self._progress = ComfyUIProgress(self._api, self._client_id)

    @classmethod
    def from_settings(cls, settings: Settings, choice: ModelChoice = NOTHING_CHOSEN) -> ComfyUIGenerator:
        """The generator that the settings describe, with what a job says in its workflows. No request is sent.

        Raises:
            SettingsError: names the variable, the file and the node that is missing or wrong, or the job's field that
                no workflow takes.
        """
        if not settings.comfyui_url:
            raise SettingsError(
                "FC_COMFYUI_URL is not set, and the generator comfyui needs the address of a server.",
                "Start ComfyUI and set it, for example to http://127.0.0.1:8188.",
            )
        if settings.comfyui_workflow is None and settings.comfyui_face_workflow is None:
            raise SettingsError(
                "Neither FC_COMFYUI_WORKFLOW nor FC_COMFYUI_FACE_WORKFLOW is set.",
                "Mark a workflow's inputs as docs/models.md says, use File > Export (API), and set its path.",
            )
        scene, face, pack = settings.comfyui_workflow, settings.comfyui_face_workflow, settings.comfyui_pack
        return cls(
            settings.comfyui_url,
            None if scene is None else read_workflow(scene, "FC_COMFYUI_WORKFLOW", SCENE_VALUES, SCENE_NEEDS),
            None if face is None else read_workflow(face, "FC_COMFYUI_FACE_WORKFLOW", FACE_VALUES, FACE_NEEDS),
            None if pack is None else read_pack(pack, "FC_COMFYUI_PACK"),
            settings.image_timeout,
            settings.face_size,
            choice,
            settings.comfyui_auth,
        )

    def describe(self) -> dict[str, Any]:
        """The workflows and the pack by their SHA-256, and the server's version.

        Only the server knows its version, so it is asked; the answer is kept for 60 seconds. Models are known by the
        names that the workflows hold: ComfyUI tells no hashes.

        Raises:
            TransientError: the server does not answer.
        """
        return {
            "generator": self.name,
            "model": ", ".join(workflow.name for workflow in (self._scene, self._face) if workflow),
            "workflow": self._scene and self._scene.sha256,
            "face_workflow": self._face and self._face.sha256,
            "pack": self._pack.sha256,
            "server": f"{SERVER} {self._server.version()}",
        }

    def native_size(self) -> int:
        """`FC_FACE_SIZE`, or 1024."""
        return self._face_size or NATIVE_SIZE

    def check_server(self) -> str:
        """One sentence on the server.

        Raises:
            BackendError: it does not answer (`TransientError`), or lacks nodes or models of the workflows or the pack.
        """
        version = self._server.ready(*(workflow for workflow in (self._scene, self._face) if workflow)).version
        return f"{SERVER} {version} answers at {self._api.address}; it has what the workflows and the pack need"

    def generate(self, tasks: Sequence[ImageTask]) -> Iterator[Outcome]:
        """Make one image per task; see `Generator.generate`."""
        yield from outcomes(tasks, lambda task: self._made(_set(self._scene, "FC_COMFYUI_WORKFLOW"), task, {}))

    def inpaint(self, tasks: Sequence[InpaintTask]) -> Iterator[Outcome]:
        """Make one masked area anew per task; see `Generator.inpaint`. A strength of 0 gives the image back."""
        yield from outcomes(tasks, self._inpainted)

    def _inpainted(self, task: InpaintTask) -> Outcome:
        workflow = _set(self._face, "FC_COMFYUI_FACE_WORKFLOW")
        image, mask = inpaint_pngs(task)
        if task.denoising_strength == 0:
            return Generated(task.image, {"denoising_strength": 0})
        self._server.ready(workflow)
        return self._made(
            workflow,
            task.task,
            {
                "denoising_strength": task.denoising_strength,
                "image": self._server.upload(image),
                "mask": self._server.upload(mask),
            },
        )

    def _made(self, workflow: Workflow, task: ImageTask, extra: Mapping[str, Any]) -> Generated:
        for name in self._chosen:
            if not workflow.takes(name):
                raise BackendError(f"{name}: {workflow.name} has no input marked for it.", _mark_hint(name))
        state = self._server.ready(workflow)
        sampler, scheduler = SAMPLERS[task.scheduler]
        values = {
            "prompt": task.prompt,
            "negative_prompt": task.negative_prompt,
            "seed": task.seed,
            "width": task.width,
            "height": task.height,
            "steps": task.steps,
            "cfg_scale": task.cfg_scale,
            "sampler_name": sampler,
            "scheduler": scheduler,
            **extra,
        }
        started = time.monotonic()
        graph = workflow.filled(values)
        with self._progress:
            entry = self._run(workflow, graph, task.job_id)
        data = self._server.picture(workflow, entry)
        return Generated(
            read_png(data, (task.width, task.height), SERVER),
            {
                "model": workflow.name,
                "version": state.version,
                "sampler": [sampler, scheduler] if workflow.takes("sampler_name") else None,
                "unused": [name for name in values if not workflow.takes(name)],
                **files_of(graph, workflow.output),
                "in_workflow": sampling_of(graph, workflow.output),
                "seconds": round(time.monotonic() - started, 3),
            },
            {"prompt": json.dumps(graph), **self._server.texts(data)},
        )

    # ---- one run of a workflow

    def _run(self, workflow: Workflow, graph: Mapping[str, Any], job_id: str) -> Mapping[str, Any]:
        """Queue a filled workflow and wait until it is finished; returns its entry in the server's history."""
        ends = time.monotonic() + self._image_timeout
        prompt_id = str(uuid.uuid4())
        try:
            prompt_id, left_out = self._server.queue(workflow, graph, prompt_id, self._client_id)
            entry = None if left_out else self._wait_for(prompt_id, ends, job_id)
        except BaseException as error:  # also the stage's own limit, Ctrl-C, a cancelled run
            if isinstance(error, TransientError) or not isinstance(error, BackendError):
                self._stop(prompt_id)
            raise
        if left_out:  # it runs the rest, which nobody asked for
            raise BackendError(f"{left_out} {self._stop(prompt_id)}", WRONG_NODES)
        if entry is None:
            raise TransientError(
                f"{SERVER} at {self._api.address} did not finish the image within {self._image_timeout:g} s. "
                f"{self._stop(prompt_id)}",
                "Raise FC_IMAGE_TIMEOUT, or ask for a smaller image or fewer steps.",
            )
        self._server.check_run(workflow, entry)
        return entry

    def _wait_for(self, prompt_id: str, ends: float, job_id: str) -> Mapping[str, Any] | None:
        """The entry in the history once it is there; None at the end of the time."""
        place = ""
        while time.monotonic() < ends:
            entry = self._history(prompt_id)
            if entry is not None:
                return entry
            before, place = place, self._place(prompt_id)
            if not place:
                entry = self._history(prompt_id)  # it may have been finished between the two looks
                if entry is not None:
                    return entry
                raise TransientError(
                    f"{SERVER} at {self._api.address} no longer knows the image: it was restarted, or its queue was "
                    "cleared.",
                    "The job is tried again.",
                )
            if place != before:
                _log.info("Job %s: %s.", job_id, place)
            if (percent := self._progress.percent(prompt_id)) is not None:
                _log.info("Job %s: %d %%.", job_id, percent)
            time.sleep(self.poll_seconds)
        return None

    def _history(self, prompt_id: str) -> Mapping[str, Any] | None:
        told = self._api.get_json(f"/history/{prompt_id}")
        entry = told.get(prompt_id) if isinstance(told, dict) else None
        return entry if isinstance(entry, dict) else None

    def _place(self, prompt_id: str) -> str:
        """Where a queued image is, in words; empty when the server does not have it."""
        told = self._api.get_json("/queue")
        if any(item[1] == prompt_id for item in told.get("queue_running", ())):
            return "ComfyUI is at work on the image"
        waiting = [item[1] for item in sorted(told.get("queue_pending", ()), key=lambda item: item[0])]
        if prompt_id in waiting:
            return f"the image waits at place {waiting.index(prompt_id) + 1} of ComfyUI's queue"
        return ""

    def _stop(self, prompt_id: str) -> str:
        """Take back an image that nobody waits for any more; one sentence on what became of it."""
        try:
            self._api.post_json("/queue", {"delete": [prompt_id]}, seconds=5)
            if not self._place(prompt_id):
                return "It was taken back there."
            self._api.post_json("/interrupt", {"prompt_id": prompt_id}, seconds=5)  # older servers: whatever runs
        except API_ERRORS as error:
            return f"Whether the server still works on it is not known: {error.what}"
        return "It was interrupted there."


def _set(workflow: Workflow | None, variable: str) -> Workflow:
    if workflow is None:
        raise BackendError(
            f"{variable} is not set, so ComfyUI cannot make this image.", "Set it; docs/models.md says how."
        )
    return workflow


def _chosen_values(choice: ModelChoice) -> dict[str, Any]:
    """What a job says of the model, as ComfyUI's nodes take it: it counts a clip skip of 2 as -2."""
    values = {name: getattr(choice, name) for name in CHOSEN_VALUES}
    if choice.clip_skip is not None:
        values["clip_skip"] = -choice.clip_skip
    return {name: value for name, value in values.items() if value is not None}


def _mark_hint(name: str) -> str:
    return f"Leave it out, or title the node `fc: INPUT={name}` in ComfyUI, and export it with File > Export (API)."
