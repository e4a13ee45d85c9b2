"""A local server that speaks ComfyUI's HTTP API, runs small workflows, and paints with the sketch painter.

It follows server.py and execution.py of ComfyUI: a wrong graph is refused with 400 and `node_errors`, a finished or
failed run appears in the history, a run that an interrupt ended as well, and a restart forgets queue and history. A
graph that it ran before is not run again; without a client_id, its outputs are then missing (ComfyUI #14939). An output
that is not valid is left out with 200 and `node_errors` when another one is; its PNGs hold the graph as `prompt`;
progress goes over `/ws` to the client that asked.
"""

from __future__ import annotations

import base64
import email
import email.policy
import hashlib
import itertools
import json
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

from imaging.files.provenance import Provenance, encode_png
from sketch.paint import paint_scene
from sketch.repaint import repaint_face
from tests.support.http_server import Handler, read_picture, serving

OUTPUT_NODES = ("SaveImage", "PreviewImage", "SaveImageWebsocket")
CHECKPOINT = "sd_xl_base_1.0.safetensors"
NODES = (
    "CheckpointLoaderSimple", "CLIPTextEncode", "EmptyLatentImage", "KSampler", "VAEDecode", "SaveImage",
    "PreviewImage", "LoadImage", "LoadImageMask", "VAEEncode", "SetLatentNoiseMask",
)  # fmt: skip


def behind(graph: dict[str, Any], node_id: str) -> set[str]:
    links = [value[0] for value in graph[node_id]["inputs"].values() if isinstance(value, list)]
    return {node_id}.union(*(behind(graph, link) for link in links if link in graph))


def node(kind: str, title: str = "", **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs, "_meta": {"title": title or kind}}


def scene_graph() -> dict[str, Any]:
    """ComfyUI's first example, its inputs marked, as File > Export (API) writes it."""
    return {
        "3": node(
            "KSampler", "fc: seed, steps, cfg=cfg_scale, sampler_name, scheduler",
            seed=1, steps=20, cfg=8.0, sampler_name="euler", scheduler="normal", denoise=1.0,
            model=["4", 0], positive=["6", 0], negative=["7", 0], latent_image=["5", 0],
        ),
        "4": node("CheckpointLoaderSimple", ckpt_name=CHECKPOINT),
        "5": node("EmptyLatentImage", "Size fc: width, height", width=512, height=512, batch_size=1),
        "6": node("CLIPTextEncode", "Positive fc: text = prompt", text="", clip=["4", 1]),
        "7": node("CLIPTextEncode", "fc: text=negative_prompt", text="", clip=["4", 1]),
        "8": node("VAEDecode", samples=["3", 0], vae=["4", 2]),
        "9": node("SaveImage", filename_prefix="face", images=["8", 0]),
    }  # fmt: skip


def face_graph() -> dict[str, Any]:
    graph = scene_graph()
    graph["3"]["_meta"]["title"] += ", denoise=denoising_strength"
    graph["3"]["inputs"]["latent_image"] = ["12", 0]
    del graph["5"]
    graph["10"] = node("LoadImage", "fc: image", image="example.png")
    graph["11"] = node("LoadImageMask", "fc: image=mask", image="example.png", channel="red")
    graph["12"] = node("SetLatentNoiseMask", samples=["13", 0], mask=["11", 0])
    graph["13"] = node("VAEEncode", pixels=["10", 0], vae=["4", 2])
    return graph


@dataclass
class ComfyUIState:
    """What the server has, what it was asked, and how it runs the next workflows (the last manner stands)."""

    manners: list[str] = field(default_factory=lambda: ["run"])
    nodes: tuple[str, ...] = NODES
    models: dict[str, list[str]] = field(
        default_factory=lambda: {"checkpoints": [CHECKPOINT], "loras": ["a\\b.safetensors"]}
    )
    samplers: tuple[str, ...] = ("euler", "euler_ancestral", "dpmpp_2m")
    keeps_prompt_id: bool = True
    sign_in: str = ""
    has_websocket: bool = True
    writes_metadata: bool = True
    sockets: dict[str, Any] = field(default_factory=dict)
    prompts: list[dict[str, Any]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    uploads: dict[str, bytes] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    history: dict[str, Any] = field(default_factory=dict)
    running: list[str] = field(default_factory=list)
    pending: list[str] = field(default_factory=list)
    interrupts: list[Any] = field(default_factory=list)
    cache: dict[str, Any] = field(default_factory=dict)
    release: threading.Event = field(default_factory=threading.Event)
    numbers: Iterator[int] = field(default_factory=itertools.count)

    @property
    def graphs(self) -> list[dict[str, Any]]:
        return [body["prompt"] for body in self.prompts]


class ComfyUIHandler(Handler):
    @property
    def state(self) -> ComfyUIState:
        return self.server.state

    def do_GET(self) -> None:  # noqa: N802 - the base class's name
        state, parts = self.state, urlsplit(self.path)
        if not self.signed_in():
            return
        if parts.path == "/ws" and state.has_websocket:
            self.websocket(parse_qs(parts.query)["clientId"][0])
            return
        state.asked.append(parts.path)
        words = parts.path.strip("/").split("/")
        if words == ["system_stats"]:
            self.give({"system": {"comfyui_version": "0.3.75"}, "devices": []})
        elif words == ["object_info"]:
            self.give({name: {"input": {}, "name": name} for name in state.nodes})
        elif words[0] == "models" and len(words) == 2:
            self.give(state.models.get(words[1], b""), 200 if words[1] in state.models else 404)
        elif words == ["queue"]:
            queued = [[number, name, {}, {}, []] for number, name in enumerate(state.pending)]
            self.give(
                {"queue_running": [[0, name, {}, {}, []] for name in state.running], "queue_pending": queued[::-1]}
            )
        elif words[0] == "history":
            self.give({words[1]: state.history[words[1]]} if words[1] in state.history else {})
        elif words == ["view"]:
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            data = state.files.get(f"{query['type']}/{query.get('subfolder', '')}/{query['filename']}")
            self.give(data or b"", 200 if data else 404, "image/png")
        else:
            self.give(b"", 404)

    def do_POST(self) -> None:  # noqa: N802 - the base class's name
        state, data = self.state, self.body()
        if not self.signed_in():
            return None
        state.asked.append(self.path)
        if self.path == "/upload/image":
            return self.upload(data)
        body = json.loads(data)
        if self.path == "/prompt":
            return self.prompt(body)
        if self.path == "/queue":
            state.pending = [name for name in state.pending if name not in body["delete"]]
        elif self.path == "/interrupt":
            state.interrupts.append(body.get("prompt_id"))
            for name in state.running:
                state.history[name] = entry("error", ["execution_interrupted", {"prompt_id": name, "node_id": "3"}])
            state.running = []
        return self.give(b"")

    def signed_in(self) -> bool:
        """As a proxy before ComfyUI asks for it, which has no log-in of its own."""
        if not self.state.sign_in or self.headers.get("authorization") == self.state.sign_in:
            return True
        self.give({"detail": "Unauthorized"}, 401)
        return False

    def websocket(self, client_id: str) -> None:
        """The handshake of RFC 6455; then whoever runs a workflow of this client sends, until it goes."""
        magic = f"{self.headers['sec-websocket-key']}258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        accept = base64.b64encode(hashlib.sha1(magic.encode(), usedforsecurity=False).digest()).decode()
        head = f"HTTP/1.1 101 Switching\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-accept: {accept}"
        self.wfile.write(f"{head}\r\n\r\n".encode())
        self.state.sockets[client_id] = self.wfile
        self.tell(client_id, "status", {"sid": client_id})
        self.rfile.read(1)
        self.close_connection = True

    def tell(self, client_id: str, kind: str, data: dict[str, Any]) -> None:
        text = json.dumps({"type": kind, "data": data}).encode()
        if client_id in self.state.sockets:
            self.state.sockets[client_id].write(
                b"\x82\x03\0\0\1" + bytes([0x81, 126]) + struct.pack(">H", len(text)) + text
            )

    def upload(self, data: bytes) -> None:
        head = f"content-type: {self.headers['content-type']}\r\n\r\n".encode()
        parts = {
            part.get_param("name", header="content-disposition"): part
            for part in email.message_from_bytes(head + data, policy=email.policy.HTTP).iter_parts()
        }
        name, folder = parts["image"].get_filename(), parts["subfolder"].get_content().strip()
        assert (parts["type"].get_content().strip(), parts["overwrite"].get_content().strip()) == ("input", "true")
        self.state.uploads[f"{folder}/{name}"] = parts["image"].get_payload(decode=True)
        self.give({"name": name, "subfolder": folder, "type": "input"})

    def prompt(self, body: dict[str, Any]) -> None:
        state = self.state
        manner = state.manners[min(len(state.prompts), len(state.manners) - 1)]
        state.prompts.append(body)
        if manner == "lost request":
            return self.reset()
        errors = self.node_errors(body["prompt"])
        valid = set(self.outputs(body["prompt"])) - {
            one for found in errors.values() for one in found["dependent_outputs"]
        }
        if errors and not valid:
            error = {"type": "prompt_outputs_failed_validation", "message": "Prompt outputs failed validation"}
            return self.give({"error": error, "node_errors": errors}, 400)
        name = body["prompt_id"] if state.keeps_prompt_id else f"own-{next(state.numbers)}"
        if manner == "hang":
            state.running.append(name)
            for told in ({"value": 9, "max": 9, "prompt_id": "x"}, {"value": 1, "max": 2, "prompt_id": name}):
                self.tell(body["client_id"], "progress", told)
        elif manner == "breaks off":
            state.running.append(name)
            state.sockets[body["client_id"]].write(b"\x81")
            state.sockets[body["client_id"]].close()
        elif manner == "queue":
            state.pending += ["somebody-elses", name]
        elif manner != "restart":
            state.history[name] = self.run_or_take(body, manner)
        if manner == "lost answer":
            return self.reset()
        return self.give({"prompt_id": name, "number": 1, "node_errors": errors})

    def node_errors(self, graph: dict[str, Any]) -> dict[str, Any]:
        found = {}
        for node_id, one in graph.items():
            for name, allowed in (
                ("ckpt_name", self.state.models["checkpoints"]),
                ("sampler_name", self.state.samplers),
            ):
                value = one["inputs"].get(name)
                if value is not None and value not in allowed:
                    error = {
                        "type": "value_not_in_list", "message": "Value not in list",
                        "details": f"{name}: '{value}' not in {list(allowed)}", "extra_info": {"input_name": name},
                    }  # fmt: skip
                    outputs = [output for output in self.outputs(graph) if node_id in behind(graph, output)]
                    found[node_id] = {"errors": [error], "dependent_outputs": outputs, "class_type": one["class_type"]}
        return found

    def outputs(self, graph: dict[str, Any]) -> list[str]:
        return [node_id for node_id, one in graph.items() if one["class_type"] in OUTPUT_NODES]

    def run_or_take(self, body: dict[str, Any], manner: str) -> dict[str, Any]:
        key, cache = json.dumps([body["prompt"], manner], sort_keys=True), self.state.cache
        if key in cache:
            return cache[key] if "client_id" in body else cache[key] | {"outputs": {}}
        cache[key] = self.run(body["prompt"], manner)
        return cache[key]

    def run(self, graph: dict[str, Any], manner: str) -> dict[str, Any]:
        if manner == "fail":
            told = {
                "node_id": "3", "node_type": "KSampler", "exception_type": "torch.OutOfMemoryError",
                "exception_message": "Allocation on device 0\nwould exceed memory", "traceback": [],
            }  # fmt: skip
            return entry("error", ["execution_start", {}], ["execution_error", told])
        texts = {"prompt": json.dumps(graph)} if self.state.writes_metadata else {}
        data = encode_png(
            self.paint(graph, wider=8 * (manner == "wrong size")), provenance=Provenance("", {}, None, texts=texts)
        )
        images = []
        for _ in range(2 if manner == "two images" else 1):
            name = f"face_{next(self.state.numbers):05}_.png"
            self.state.files[f"output/sub/{name}"] = data
            images.append({"filename": name, "subfolder": "sub", "type": "output"})
        done = entry("success", ["execution_start", {}], ["execution_success", {}])
        outputs = [node_id for node_id, one in graph.items() if one["class_type"] in ("SaveImage", "PreviewImage")]
        return done | {"outputs": {node_id: {"images": images} for node_id in outputs}}

    def paint(self, graph: dict[str, Any], wider: int) -> Any:
        sampler = next(one["inputs"] for one in graph.values() if one["class_type"] == "KSampler")
        words, avoid = (graph[sampler[name][0]]["inputs"]["text"] for name in ("positive", "negative"))
        latent = graph[sampler["latent_image"][0]]["inputs"]
        if "mask" not in latent:
            return paint_scene(words, avoid, sampler["seed"], latent["width"] + wider, latent["height"])
        pixels = graph[graph[latent["samples"][0]]["inputs"]["pixels"][0]]["inputs"]["image"]
        mask = graph[latent["mask"][0]]["inputs"]["image"]
        image = read_picture(self.state.uploads[pixels])
        return repaint_face(
            image, read_picture(self.state.uploads[mask], "L"), words, sampler["seed"], sampler["denoise"], None
        )


def entry(status: str, *messages: list[Any]) -> dict[str, Any]:
    told = {"status_str": status, "completed": status == "success", "messages": list(messages)}
    return {"prompt": [], "outputs": {}, "status": told, "meta": {}}


@contextmanager
def comfyui_server(state: ComfyUIState | None = None) -> Iterator[tuple[str, ComfyUIState]]:
    state = state or ComfyUIState()
    with serving(ComfyUIHandler, state) as url:
        yield url, state
