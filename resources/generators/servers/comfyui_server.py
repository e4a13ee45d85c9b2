"""What a ComfyUI server says of itself, whether it has what workflows need, and the files that go there and back."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from imaging.errors import BackendError, InvalidImageError
from imaging.files.provenance import back_end_texts
from resources.generators.servers.comfyui_workflow import Pack, Workflow
from resources.generators.servers.http_api import ConnectionLostError, HttpApi, HttpStatusError, Remembered

_log = logging.getLogger(__name__)

SERVER: Final = "ComfyUI"
WRONG_NODES: Final = "Correct these nodes in ComfyUI, and export the workflow again."
_REMEMBER_SECONDS: Final = 60.0
_UPLOAD_FOLDER: Final = "face-changer"


@dataclass(frozen=True, slots=True)
class ServerState:
    """What the server says of itself: its version, its classes of nodes, and what the pack asks for and it lacks."""

    version: str
    nodes: frozenset[str]
    lacks: tuple[str, ...]


class ComfyUIServer:
    """A server, and the pack of models and nodes that it must have."""

    def __init__(self, api: HttpApi, pack: Pack) -> None:
        self._api = api
        self._pack = pack
        self._state = Remembered(self._ask, _REMEMBER_SECONDS)

    def version(self) -> str:
        """ComfyUI's version; the answer is kept for 60 seconds.

        Raises:
            TransientError: the server does not answer.
        """
        return self._state.get().version

    def _ask(self) -> ServerState:
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

    def ready(self, *workflows: Workflow) -> ServerState:
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

    def upload(self, data: bytes) -> str:
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

    def queue(self, workflow: Workflow, graph: Mapping[str, Any], prompt_id: str, client_id: str) -> tuple[str, str]:
        """Ask for one run of a filled workflow, never twice.

        Returns:
            The id of the run there, and what is wrong if the server leaves out the output, running only the rest.

        Raises:
            BackendError: the server is not reached (`TransientError`), or refuses the workflow; names each node.
        """
        # Without a client_id, what ComfyUI takes from its cache is missing in the history (Comfy-Org/ComfyUI #14939).
        body = {"prompt": graph, "client_id": client_id, "prompt_id": prompt_id}
        try:
            answer = self._api.post_json("/prompt", body)
        except ConnectionLostError:
            # Not sent again: it may be at work. If it is not, waiting for it says so.
            _log.info("The answer to a request for an image was lost; looking whether the server has it.")
            return prompt_id, ""
        except HttpStatusError as error:
            problems = _node_problems(workflow, error.body)
            if not problems:
                raise
            what = f"{SERVER} at {self._api.address} refuses the workflow {workflow.name}: {'; '.join(problems)}."
            raise BackendError(what, WRONG_NODES) from None
        prompt_id = str(answer.get("prompt_id", prompt_id)) if isinstance(answer, dict) else prompt_id
        problems = _node_problems(workflow, answer, workflow.output)
        left_out = f"{SERVER} at {self._api.address} leaves out the output of {workflow.name}: {'; '.join(problems)}."
        return prompt_id, left_out if problems else ""

    def check_run(self, workflow: Workflow, entry: Mapping[str, Any]) -> None:
        """Nothing when a run went well.

        Raises:
            BackendError: it failed, with the node and ComfyUI's own words, or somebody interrupted it.
        """
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

    def texts(self, data: bytes) -> dict[str, str]:
        """What the server wrote into a PNG of how it was made; nothing if it writes none, or what cannot be read."""
        try:
            return back_end_texts(data)
        except InvalidImageError as error:
            _log.info("The texts of a picture by %s are not kept: %s", SERVER, error.what)
            return {}

    def picture(self, workflow: Workflow, entry: Mapping[str, Any]) -> bytes:
        """The file of the one image that a run made.

        Raises:
            BackendError: it made none, or several, or the server no longer has it.
        """
        images = (entry.get("outputs") or {}).get(workflow.output, {}).get("images", [])
        if len(images) != 1:
            hint = "Make one image per run: set the batch size to 1."
            if not images:
                hint = (
                    "Take the image from a Save Image or Preview Image node, titled `fc: output` if there are several."
                )
            raise BackendError(
                f"Node {workflow.title(workflow.output)} of {workflow.name} gave {len(images)} images, and one is "
                "needed.",
                hint,
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


def _node_problems(workflow: Workflow, body: Any, output: str = "") -> list[str]:  # noqa: ANN401 - JSON
    """What is wrong with which input of which node, of an answer to `/prompt`; with `output`, what that depends on."""
    by_node = body.get("node_errors") if isinstance(body, dict) else None
    problems = []
    for node_id, found in by_node.items() if isinstance(by_node, dict) else ():
        if output and output not in found.get("dependent_outputs", ()):
            continue
        for error in found.get("errors", ()):
            name = (error.get("extra_info") or {}).get("input_name")
            said = ", ".join(str(error[key]) for key in ("message", "details") if error.get(key))
            where = f"input {name} of {workflow.title(node_id)}" if name else workflow.title(node_id)
            problems.append(f"{where}: {said}")
    return problems
