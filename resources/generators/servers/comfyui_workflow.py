"""A ComfyUI workflow with marked inputs, and the pack of models and nodes that it needs, as files.

The marks are titles of nodes, as people set them in ComfyUI's editor (right click, Title), and as File > Export (API)
writes them into `_meta.title`. A title that holds `fc:` marks the node; behind it stand inputs of that node, each with
the value that it takes: `fc: text=prompt`, or `Sampler fc: seed, steps, cfg=cfg_scale`. A value alone stands for the
input of the same name. `fc: output` marks the node whose image is taken, where several save or show one.
"""

from __future__ import annotations

import copy
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from imaging.errors import SettingsError

CHOSEN_VALUES: Final = ("checkpoint", "vae", "clip_skip")
"""What a job may say of the model, in every workflow; an input marked for it keeps its own value where none is said."""

SCENE_VALUES: Final = (
    "prompt",
    "negative_prompt",
    "seed",
    "width",
    "height",
    "steps",
    "cfg_scale",
    "sampler_name",
    "scheduler",
)
FACE_VALUES: Final = (*SCENE_VALUES, "denoising_strength", "image", "mask")
SCENE_NEEDS: Final = ("prompt", "seed")
FACE_NEEDS: Final = ("prompt", "seed", "image", "mask")

_OUTPUT: Final = "output"
_IMAGE_NODES: Final = ("SaveImage", "PreviewImage")
_WEBSOCKET_NODE: Final = "SaveImageWebsocket"
_MARK: Final = re.compile(r"\bfc:(.*)$", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Workflow:
    """A workflow in API format.

    Attributes:
        name: the file's name.
        graph: node id -> `{class_type, inputs, _meta}`.
        marks: (node id, input, value) for each marked input.
        output: id of the node whose image is taken.
    """

    name: str
    graph: Mapping[str, Any]
    marks: tuple[tuple[str, str, str], ...]
    output: str

    @property
    def sha256(self) -> str:
        """SHA-256 of the graph, however the file is laid out."""
        text = json.dumps(self.graph, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def node_types(self) -> set[str]:
        """The class of every node."""
        return {str(node["class_type"]) for node in self.graph.values()}

    def title(self, node_id: str) -> str:
        """What people know a node by: its title, or its class, with its id."""
        node = self.graph.get(node_id, {})
        return f"{_title(node) or node.get('class_type', 'node')} (#{node_id})"

    def takes(self, value: str) -> bool:
        """Whether an input is marked for this value."""
        return any(mark[2] == value for mark in self.marks)

    def filled(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The graph with the values in the inputs marked for them; a marked input that was linked is no longer."""
        graph = copy.deepcopy(dict(self.graph))
        for node_id, name, value in self.marks:
            if value in values:
                graph[node_id]["inputs"][name] = values[value]
        return graph

    def with_values(self, values: Mapping[str, Any]) -> Workflow:
        """The same workflow with the values in it."""
        return replace(self, graph=self.filled(values))


def read_workflow(path: Path, variable: str, values: tuple[str, ...], needs: tuple[str, ...]) -> Workflow:
    """A workflow file.

    Args:
        path: the file.
        variable: the setting that names it, for messages.
        values: the values that its inputs may be marked for, beside `CHOSEN_VALUES`.
        needs: those that must be marked.

    Raises:
        SettingsError: it cannot be read, is not in API format, or a mark is missing or wrong.
    """
    graph = _read_json(path, variable)
    if isinstance(graph, dict) and "nodes" in graph and "links" in graph:
        raise SettingsError(
            f"{variable}: {path} is in the format of ComfyUI's editor.", "Export it again with File > Export (API)."
        )
    whole = isinstance(graph, dict) and all(
        isinstance(node, dict) and "class_type" in node and isinstance(node.get("inputs"), dict)
        for node in graph.values()
    )
    if not whole or not graph:
        raise SettingsError(
            f"{variable}: {path} is no ComfyUI workflow in API format.", "Export it with File > Export (API)."
        )
    marks, outputs = [], []
    for node_id, node in graph.items():
        for name, value in _marked(node):
            where = f"{variable}: {path.name}: node {node_id} is titled {_title(node)!r}"
            if (name, value) == (_OUTPUT, _OUTPUT):
                outputs.append(node_id)
            elif value not in (*values, *CHOSEN_VALUES):
                usable = ", ".join((*values, *CHOSEN_VALUES))
                raise SettingsError(f"{where}, and {value!r} is no value.", f"Use {usable} or output.")
            elif name not in node["inputs"]:
                there = ", ".join(node["inputs"]) or "none"
                raise SettingsError(
                    f"{where}, and has no input {name!r}.", f"Its inputs: {there}. Write INPUT={value}."
                )
            else:
                marks.append((node_id, name, value))
    absent = [value for value in needs if value not in {mark[2] for mark in marks}]
    if absent:
        raise SettingsError(
            f"{variable}: {path.name} has no input marked for: {', '.join(absent)}.",
            f"In ComfyUI, title the node `fc: INPUT={absent[0]}`, and export it again with File > Export (API).",
        )
    return Workflow(path.name, graph, tuple(marks), _output(graph, outputs, f"{variable}: {path.name}"))


def _output(graph: Mapping[str, Any], marked: list[str], what: str) -> str:
    found = marked or [node_id for node_id, node in graph.items() if node["class_type"] in _IMAGE_NODES]
    over_socket = [node_id for node_id, node in graph.items() if node["class_type"] == _WEBSOCKET_NODE]
    if over_socket and set(found) <= set(over_socket):
        raise SettingsError(
            f"{what}: node {over_socket[0]} is a {_WEBSOCKET_NODE}, which keeps no image that could be fetched.",
            "Put a Preview Image (or Save Image) in its place.",
        )
    if len(found) != 1:
        kind = "marked as output" if marked else "that save or show an image"
        raise SettingsError(
            f"{what} has {len(found)} nodes {kind}, and one is needed.", "Title that one node `fc: output`."
        )
    return found[0]


def _title(node: Mapping[str, Any]) -> str:
    meta = node.get("_meta")
    return str(meta.get("title", "")) if isinstance(meta, dict) else ""


def _marked(node: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(input, value) of each mark in the node's title."""
    found = _MARK.search(_title(node))
    words = re.split(r"[,\s]+", re.sub(r"\s*=\s*", "=", found[1])) if found else []
    pairs = [word.partition("=") for word in words if word]
    return [(name, value if equals else name) for name, equals, value in pairs]


class Pack(BaseModel):
    """What must be installed on the server.

    Attributes:
        models: folder in ComfyUI's `models` -> files that must be in it.
        nodes: classes of nodes that must be there.
        about: in words, what it is and where it comes from.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    models: dict[
        Annotated[str, Field(pattern=r"^[\w-]+$")], list[Annotated[str, Field(min_length=1, max_length=1024)]]
    ] = Field(default_factory=dict)
    nodes: list[Annotated[str, Field(min_length=1, max_length=256)]] = Field(default_factory=list)
    about: str = ""

    @property
    def sha256(self) -> str:
        """SHA-256 of what it lists."""
        return hashlib.sha256(json.dumps([self.models, self.nodes], sort_keys=True).encode()).hexdigest()


def read_pack(path: Path, variable: str) -> Pack:
    """A pack file.

    Raises:
        SettingsError: it cannot be read, or a field is wrong.
    """
    content = _read_json(path, variable)
    try:
        return Pack.model_validate(content)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, problem["loc"])) or "the file"
        raise SettingsError(
            f"{variable}: {path.name}: {where}: {problem['msg']}.",
            'Write {"models": {"checkpoints": ["NAME.safetensors"]}, "nodes": ["CLASS"], "about": "..."}.',
        ) from None


def _read_json(path: Path, variable: str) -> Any:  # noqa: ANN401 - JSON
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{variable}: {path} cannot be read: {error.strerror}.", "Correct the path.") from None
    except ValueError as error:
        raise SettingsError(f"{variable}: {path} is not JSON: {error}.", "Export or write it again.") from None
