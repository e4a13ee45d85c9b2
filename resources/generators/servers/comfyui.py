"""The generator `comfyui`: a ComfyUI server that runs the user's own workflows over its HTTP API."""

from __future__ import annotations

import hashlib
import logging
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from imaging.errors import BackendError, SettingsError, TransientError
from resources.generators.base import NOTHING_CHOSEN, Generated, ImageTask, InpaintTask, ModelChoice, Outcome
from resources.generators.servers.comfyui_workflow import (
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

SERVER: Final = "ComfyUI"
_REMEMBER_SECONDS: Final = 60.0
_UPLOAD_FOLDER: Final = "face-changer"

# The name in a request -> sampler and scheduler of ComfyUI's KSampler.
SAMPLERS: Final[Mapping[str, tuple[str, str]]] = {
    "Euler": ("euler", "normal"),
    "Euler a": ("euler_ancestral", "normal"),
    "DDIM": ("ddim", "ddim_uniform"),
    "DPM++ 2M": ("dpmpp_2m", "normal"),
    "DPM++ 2M Karras": ("dpmpp_2m", "karras"),
    "DPM++ SDE Karras": ("dpmpp_sde", "karras"),
    "Heun": ("heun", "normal"),
    "UniPC": ("uni_pc", "normal"),
    "Euler SGM Uniform": ("euler", "sgm_uniform"),
    "DDPM": ("ddpm", "normal"),
    "DPM++ 2M SDE": ("dpmpp_2m_sde", "normal"),
    "DPM++ 2M SDE Karras": ("dpmpp_2m_sde", "karras"),
    "DPM++ 3M SDE": ("dpmpp_3m_sde", "normal"),
    "DPM++ 3M SDE Karras": ("dpmpp_3m_sde", "karras"),
    "DPM++ SDE": ("dpmpp_sde", "normal"),
    "DPM2": ("dpm_2", "normal"),
    "DPM2 a": ("dpm_2_ancestral", "normal"),
    "LCM": ("lcm", "sgm_uniform"),
}


@dataclass(frozen=True, slots=True)
class ServerState:
    """What the server says of itself: its version, its classes of nodes, and what the pack asks for and it lacks."""

    version: str
    nodes: frozenset[str]
    lacks: tuple[str, ...]


class ComfyUIGenerator:
    """Images by workflows on a ComfyUI server. One instance may be used by one thread at a time.

    Args:
        url: the server's address.
        scene: the workflow of the scene; None: scenes cannot be made.
        face: the workflow of the face pass; None: faces cannot be made.
        pack: the models and nodes that must be there.
        image_timeout: seconds that one image may take, waiting for other images there included.
        face_size: side of the face pass in pixels; 0: 1024, SDXL's own.

    Raises:
        SettingsError: an address that cannot be one.
    """

    name = "comfyui"
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
    ) -> None:
        self._api = HttpApi(url, variable="FC_COMFYUI_URL", server=SERVER)
        self._scene = scene
        self._face = face
        self._pack = pack or Pack()
        self._image_timeout = image_timeout
        self._face_size = face_size
        self._client_id = uuid.uuid4().hex
        self._state = Remembered(self._ask_state, _REMEMBER_SECONDS)

    @classmethod
    def from_settings(cls, settings: Settings, choice: ModelChoice = NOTHING_CHOSEN) -> ComfyUIGenerator:  # noqa: ARG003
        """The generator that the settings describe. The files are read; no request is sent.

        Raises:
            SettingsError: names the variable, the file and the node that is missing or wrong.
        """
        if not settings.comfyui_url:
            raise SettingsError(
                "FC_COMFYUI_URL is not set, and the generator comfyui needs the address of a server.",
                "Start ComfyUI and set it, for example to http://127.0.0.1:8188.",
            )
        if settings.comfyui_workflow is None and settings.comfyui_face_workflow is None:
            raise SettingsError(
                "Neither FC_COMFYUI_WORKFLOW nor FC_COMFYUI_FACE_WORKFLOW is set.",
                "Mark a workflow's inputs as the README says, export it with File > Export (API), and set its path.",
            )
        scene, face, pack = settings.comfyui_workflow, settings.comfyui_face_workflow, settings.comfyui_pack
        return cls(
            settings.comfyui_url,
            None if scene is None else read_workflow(scene, "FC_COMFYUI_WORKFLOW", SCENE_VALUES, SCENE_NEEDS),
            None if face is None else read_workflow(face, "FC_COMFYUI_FACE_WORKFLOW", FACE_VALUES, FACE_NEEDS),
            None if pack is None else read_pack(pack, "FC_COMFYUI_PACK"),
            settings.image_timeout,
            settings.face_size,
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
            "server": f"{SERVER} {self._state.get().version}",
        }

    def native_size(self) -> int:
        """`FC_FACE_SIZE`, or 1024."""
        return self._face_size or NATIVE_SIZE

    def check_server(self) -> str:
        """One sentence on the server.

        Raises:
            BackendError: it does not answer (`TransientError`), or lacks nodes or models of the workflows or the pack.
        """
        version = self._ready(*(workflow for workflow in (self._scene, self._face) if workflow)).version
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
        self._ready(workflow)
        return self._made(
            workflow,
            task.task,
            {
                "denoising_strength": task.denoising_strength,
                "image": self._upload(image),
                "mask": self._upload(mask),
            },
        )

    def _made(self, workflow: Workflow, task: ImageTask, extra: Mapping[str, Any]) -> Generated:
        state = self._ready(workflow)
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
        entry = self._run(workflow, workflow.filled(values), task.job_id)
        data = self._picture(workflow, entry)
        return Generated(
            read_png(data, (task.width, task.height), SERVER),
            {
                "model": workflow.name,
                "version": state.version,
                "sampler": [sampler, scheduler] if workflow.takes("sampler_name") else None,
                "unused": [name for name in values if not workflow.takes(name)],
                "seconds": round(time.monotonic() - started, 3),
            },
        )

    # ---- one run of a workflow

    def _upload(self, data: bytes) -> str:
        """Put a PNG into the server's input folder; returns the name by which a node finds it.

        The name is made from the content, so that sending it twice leaves one file.
        """
        name = f"{hashlib.sha256(data).hexdigest()[:32]}.png"
        answer = self._api.send(
            "POST",
            "/upload/image",
            seconds=60,
            again=True,
            files={"image": (name, data, "image/png")},
            data={"type": "input", "subfolder": _UPLOAD_FOLDER, "overwrite": "true"},
        )
        stored = self._api.as_json("/upload/image", answer)
        try:
            return f"{stored['subfolder']}/{stored['name']}" if stored.get("subfolder") else str(stored["name"])
        except (AttributeError, KeyError, TypeError):
            raise BackendError(f"{SERVER} did not say where it put an image.", "Read the server's own log.") from None

    def _run(self, workflow: Workflow, graph: Mapping[str, Any], job_id: str) -> Mapping[str, Any]:
        """Queue a filled workflow and wait until it is finished; returns its entry in the server's history."""
        ends = time.monotonic() + self._image_timeout
        prompt_id = str(uuid.uuid4())
        try:
            prompt_id = self._queue(workflow, graph, prompt_id)
            entry = self._wait_for(prompt_id, ends, job_id)
        except BaseException as error:  # also the stage's own limit, Ctrl-C, a cancelled run
            if isinstance(error, TransientError) or not isinstance(error, BackendError):
                self._stop(prompt_id)
            raise
        if entry is None:
            raise TransientError(
                f"{SERVER} at {self._api.address} did not finish the image within {self._image_timeout:g} s. "
                f"{self._stop(prompt_id)}",
                "Raise FC_IMAGE_TIMEOUT, or ask for a smaller image or fewer steps.",
            )
        self._check_run(workflow, entry)
        return entry

    def _queue(self, workflow: Workflow, graph: Mapping[str, Any], prompt_id: str) -> str:
        # Without a client_id, what ComfyUI takes from its cache is missing in the history (Comfy-Org/ComfyUI #14939).
        body = {"prompt": graph, "client_id": self._client_id, "prompt_id": prompt_id}
        try:
            answer = self._api.post_json("/prompt", body)
        except ConnectionLostError:
            # Not sent again: it may be at work. If it is not, waiting for it says so.
            _log.info("The answer to a request for an image was lost; looking whether the server has it.")
            return prompt_id
        except HttpStatusError as error:
            problems = _node_problems(workflow, error.body)
            if not problems:
                raise
            raise BackendError(
                f"{SERVER} at {self._api.address} refuses the workflow {workflow.name}: {'; '.join(problems)}.",
                "Correct these nodes in ComfyUI, and export the workflow again.",
            ) from None
        return str(answer.get("prompt_id", prompt_id)) if isinstance(answer, dict) else prompt_id

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

    def _check_run(self, workflow: Workflow, entry: Mapping[str, Any]) -> None:
        status = entry.get("status") or {}
        if status.get("status_str", "success") == "success":
            return
        events = {event[0]: event[1] for event in status.get("messages", ())}
        failed = events.get("execution_error")
        if failed is None:
            raise BackendError(
                f"The image was interrupted on {SERVER} at {self._api.address}.", "Retry the job when you want it."
            )
        said = " ".join(f"{failed.get('exception_type')}: {failed.get('exception_message')}".split())
        raise BackendError(
            f"{SERVER} failed in node {workflow.title(str(failed.get('node_id')))} of {workflow.name}: {said[:400]}.",
            "Read the server's own log; run the workflow in ComfyUI.",
        )

    def _picture(self, workflow: Workflow, entry: Mapping[str, Any]) -> bytes:
        images = (entry.get("outputs") or {}).get(workflow.output, {}).get("images", [])
        if len(images) != 1:
            raise BackendError(
                f"Node {workflow.title(workflow.output)} of {workflow.name} gave {len(images)} images, and one is "
                "needed.",
                "Make one image per run: set the batch size to 1.",
            )
        found = {name: str(images[0].get(name, "")) for name in ("filename", "subfolder", "type")}
        try:
            return self._api.get("/view", seconds=60, **found)
        except HttpStatusError as error:
            if error.status != 404:
                raise
            raise BackendError(
                f"{SERVER} at {self._api.address} made {found['filename']} and no longer has it.",
                "Somebody removed it, and ComfyUI takes it as made while the same request is in its cache: press "
                "Free model and node cache there, or restart it.",
            ) from None

    # ---- the server

    def _ask_state(self) -> ServerState:
        told = self._api.get_json("/system_stats")
        nodes = self._api.get_json("/object_info")
        try:
            version = str(told["system"].get("comfyui_version") or "of unknown version")
            lacks = [f"node {name}" for name in self._pack.nodes if name not in nodes]
        except (AttributeError, KeyError, TypeError):
            raise BackendError(
                f"The server at {self._api.address} does not describe itself as ComfyUI does.",
                "Check that FC_COMFYUI_URL is the address of ComfyUI.",
            ) from None
        for folder, files in self._pack.models.items():
            there = self._files(folder)
            lacks += [f"{folder}/{file}" for file in files if file.replace("\\", "/") not in there]
        return ServerState(version, frozenset(nodes), tuple(lacks))

    def _files(self, folder: str) -> set[str]:
        try:
            return {str(file).replace("\\", "/") for file in self._api.get_json(f"/models/{folder}")}
        except HttpStatusError as error:
            if error.status != 404:
                raise
            return set()

    def _ready(self, *workflows: Workflow) -> ServerState:
        """The server's state, if it has what is needed.

        Raises:
            BackendError: names what is missing.
        """
        state = self._state.get()
        lacks = [*state.lacks]
        for workflow in workflows:
            lacks += [f"node {name} (in {workflow.name})" for name in sorted(workflow.node_types - state.nodes)]
        if lacks:
            about = f" ({self._pack.about})" if self._pack.about else ""
            raise BackendError(
                f"{SERVER} at {self._api.address} lacks: {', '.join(lacks)}.",
                f"Install them there, and restart it{about}; `fc doctor` checks it.",
            )
        return state


def _set(workflow: Workflow | None, variable: str) -> Workflow:
    if workflow is None:
        raise BackendError(f"{variable} is not set, so ComfyUI cannot make this image.", "Set it; the README says how.")
    return workflow


def _node_problems(workflow: Workflow, body: Any) -> list[str]:  # noqa: ANN401 - JSON
    """What is wrong with which input of which node, of a 400 answer to `/prompt`."""
    by_node = body.get("node_errors") if isinstance(body, dict) else None
    problems = []
    for node_id, found in by_node.items() if isinstance(by_node, dict) else ():
        for error in found.get("errors", ()):
            name = (error.get("extra_info") or {}).get("input_name")
            said = ", ".join(str(error[key]) for key in ("message", "details") if error.get(key))
            where = f"input {name} of {workflow.title(node_id)}" if name else workflow.title(node_id)
            problems.append(f"{where}: {said}")
    return problems
