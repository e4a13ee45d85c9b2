"""A local server that speaks the HTTP API of Forge and A1111, and paints with the sketch painter.

It follows modules/api/api.py, modules/progress.py and modules/processing.py of A1111 1.10 and Forge 2: an unknown
checkpoint in `override_settings` is left out silently, an interrupted image is answered with 200 as far as it came, an
interrupt stops whatever is being made, and the two servers tell errors in different bodies. A job takes the marks of an
interrupt away when it begins (modules/shared_state.py); a checkpoint has no hash until the first image by it; without
the web UI (`--nowebui`) there is no list of tasks.
"""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sketch.paint import paint_scene
from sketch.repaint import repaint_face
from tests.support.http_server import Handler, picture_file, read_picture, serving

BASE, PONY = "sd_xl_base_1.0.safetensors [31e35c80fc]", "ponies/pony_v6.safetensors [67ab2fd8ec]"


def model(title: str) -> dict[str, Any]:
    file, _, shown = title.partition(" [")
    name = file.replace("/", "_").removesuffix(".safetensors")
    return {
        "title": title,
        "model_name": name,
        "hash": shown.rstrip("]") or None,
        "sha256": None,
        "filename": f"C:\\models\\{file}".replace("/", "\\"),
        "config": None,
    }


@dataclass
class ForgeState:
    """What the server has, what it was asked, and how it answers the next images (the last manner stands)."""

    manners: list[Any] = field(default_factory=lambda: ["paint"])
    models: list[dict[str, Any]] = field(default_factory=lambda: [model(BASE), model(PONY)])
    options: dict[str, Any] = field(
        default_factory=lambda: {
            "sd_model_checkpoint": BASE,
            "samples_format": "png",
            "CLIP_stop_at_last_layers": 2,
            "forge_additional_modules": ["/srv/vae/fix.safetensors"],
        }
    )
    samplers: tuple[str, ...] = ("Euler", "Euler a", "DPM++ 2M", "DPM++ SDE", "Heun", "DDIM", "UniPC")
    vaes: tuple[str, ...] | None = ("sdxl.vae.safetensors", "fix.safetensors")
    modules: tuple[str, ...] = ()
    loras: tuple[tuple[str, str], ...] | None = (("film-grain", "grain"), ("style", "style"))
    schedulers: tuple[str, ...] | None = ("Automatic", "Uniform", "Karras")
    auth: str = ""
    has_progress: bool = True
    has_webui: bool = True
    scripts: dict[str, str] = field(default_factory=dict)
    job: dict[str, Any] = field(
        default_factory=lambda: {"job": "", "job_timestamp": "0", "interrupted": False, "skipped": False}
    )
    jobs: int = 0
    a1111_errors: bool = False
    requests: list[tuple[str, Any]] = field(default_factory=list)
    tasks: dict[str, str] = field(default_factory=dict)
    interrupts: int = 0
    working: threading.Event = field(default_factory=threading.Event)
    release: threading.Event = field(default_factory=threading.Event)

    def bodies(self, path: str) -> list[Any]:
        return [body for asked, body in self.requests if asked == path]

    def begin(self, name: str) -> None:
        self.jobs += 1
        stamp = time.strftime("%Y%m%d%H%M%S")
        self.job.update(job=name, job_timestamp=stamp, interrupted=False, skipped=False)

    @property
    def images(self) -> list[Any]:
        return [body for path, body in self.requests if path.endswith(("txt2img", "img2img"))]


class ForgeHandler(Handler):
    @property
    def state(self) -> ForgeState:
        return self.server.state

    def do_GET(self) -> None:  # noqa: N802 - the base class's name
        state = self.state
        state.requests.append((self.path, None))
        if not self.signed_in():
            return
        if self.path == "/sdapi/v1/options":
            self.give(state.options)
        elif self.path.startswith("/sdapi/v1/progress?") and state.has_progress:
            self.give({"progress": 0.25 if state.job["job"] else 0.0, "state": state.job, "current_image": None})
        elif self.path == "/sdapi/v1/sd-models":
            self.give(state.models)
        elif self.path == "/sdapi/v1/samplers":
            self.give([{"name": name, "aliases": [], "options": {}} for name in state.samplers])
        elif self.path == "/sdapi/v1/schedulers" and state.schedulers is not None:
            self.give([{"name": label.lower(), "label": label} for label in state.schedulers])
        elif self.path == "/sdapi/v1/sd-vae" and state.vaes is not None:
            self.give([{"model_name": name, "filename": f"/srv/vae/{name}"} for name in state.vaes])
        elif self.path == "/sdapi/v1/sd-modules" and state.vaes is None:
            self.give([{"model_name": name, "filename": f"/srv/vae/{name}"} for name in state.modules])
        elif self.path == "/sdapi/v1/loras" and state.loras is not None:
            self.give([{"name": name, "alias": alias, "path": "", "metadata": {}} for name, alias in state.loras])
        else:
            self.give({"detail": "Not Found"}, 404)

    def do_POST(self) -> None:  # noqa: N802 - the base class's name
        state = self.state
        body = json.loads(self.body())
        state.requests.append((self.path, body))
        if self.path == "/internal/progress":  # not behind --api-auth
            if not (state.has_progress and state.has_webui):
                return self.give({"detail": "Not Found"}, 404)
            where = state.tasks.get(body["id_task"], "")
            return self.give(
                {"active": where == "active", "queued": where == "queued", "completed": where == "done",
                 "progress": 0.5 if where == "active" else None}
            )  # fmt: skip
        if not self.signed_in():
            return None
        if self.path in ("/sdapi/v1/interrupt", "/sdapi/v1/skip"):
            state.interrupts += 1
            state.job["interrupted" if self.path.endswith("interrupt") else "skipped"] = True
            state.release.set()
            return self.give({})
        if self.path not in ("/sdapi/v1/txt2img", "/sdapi/v1/img2img"):
            return self.give({"detail": "Not Found"}, 404)
        manner = state.manners[min(len(state.images), len(state.manners)) - 1]
        return self.image(body, manner)

    def signed_in(self) -> bool:
        wanted = f"Basic {base64.b64encode(self.state.auth.encode()).decode()}"
        if not self.state.auth or self.headers.get("authorization") == wanted:
            return True
        self.fail(401, "Incorrect username or password")
        return False

    def fail(self, status: int, detail: str, error: str = "HTTPException") -> None:
        if self.state.a1111_errors:
            self.give({"error": error, "detail": "", "body": "", "errors": detail}, status)
        else:
            self.give({"detail": detail}, status)

    def image(self, body: dict[str, Any], manner: Any) -> None:
        state, task = self.state, body["force_task_id"]
        state.tasks[task] = "queued" if manner == "queue" else "active"
        if manner != "queue":
            state.begin(f"scripts_{self.path.rpartition('/')[2]}")
        state.working.set()
        if isinstance(manner, tuple):
            state.job["job"] = ""
            return self.fail(*manner)
        if manner in ("hang", "queue"):
            state.release.wait(120)
        elif manner in ("interrupted", "skipped"):
            state.job[manner] = True  # a person, in the web UI
        elif manner == "reset":
            return self.reset()
        size = (body["width"], body["height"])
        if manner == "wrong size":
            size = (size[0] + 8, size[1])
        images = [base64.b64encode(self.paint(body, size, "JPEG" if manner == "jpeg" else "PNG")).decode()]
        info = {
            "all_seeds": [body["seed"] + (manner == "wrong seed")],
            "sampler_name": "Euler" if manner == "other sampler" else body["sampler_name"],
            "index_of_first_image": 0,
            "version": "f2.0.1v1.10.1",
            "extra_generation_params": state.scripts,
            **self.used_model(body),
        }
        info["infotexts"] = [infotext(body, info)]
        if manner == "grid":
            images.insert(0, base64.b64encode(picture_file(np.zeros((64, 64, 3), np.uint8))).decode())
            info["index_of_first_image"] = 1
        elif manner == "none":
            images = []
        elif manner == "broken":
            images = [images[0][: len(images[0]) // 8 * 4]]
        state.tasks[task] = "done"
        state.job["job"] = ""
        return self.give({"images": images, "parameters": body, "info": json.dumps(info)})

    def used_model(self, body: dict[str, Any]) -> dict[str, Any]:
        wanted = body["override_settings"].get("sd_model_checkpoint")
        known = {entry["title"]: entry for entry in self.state.models}
        entry = known.get(wanted) or known[self.state.options["sd_model_checkpoint"]]
        if entry["hash"] is None:
            entry["hash"] = "7ddcd0e682"
            entry["title"] += " [7ddcd0e682]"
            self.state.options["sd_model_checkpoint"] = entry["title"]
        stem = entry["filename"].rpartition("\\")[2].removesuffix(".safetensors")
        return {"sd_model_name": stem, "sd_model_hash": entry["hash"]}

    def paint(self, body: dict[str, Any], size: tuple[int, int], kind: str) -> bytes:
        if "init_images" not in body:
            return picture_file(paint_scene(body["prompt"], body["negative_prompt"], body["seed"], *size), kind)
        image = read_picture(base64.b64decode(body["init_images"][0]))
        mask = read_picture(base64.b64decode(body["mask"]), "L")
        painted = repaint_face(image, mask, body["prompt"], body["seed"], body["denoising_strength"], None)
        return picture_file(painted, kind)


def infotext(body: dict[str, Any], info: dict[str, Any]) -> str:
    """As create_infotext of modules/processing.py writes it."""
    said = {
        "Steps": body["steps"], "Sampler": info["sampler_name"], "Schedule type": body["scheduler"],
        "CFG scale": body["cfg_scale"], "Seed": info["all_seeds"][0], "Size": f"{body['width']}x{body['height']}",
        "Model hash": info["sd_model_hash"], "Model": info["sd_model_name"], "VAE": "fix.safetensors",
        "Denoising strength": body.get("denoising_strength"), "Clip skip": 2, "RNG": "CPU",
        **info["extra_generation_params"], "Version": info["version"], "User": "somebody",
    }  # fmt: skip
    line = ", ".join(
        f"{key}: {json.dumps(value) if set(str(value)) & set(',:') else value}"
        for key, value in said.items()
        if value is not None
    )
    return f"{body['prompt']}\nNegative prompt: {body['negative_prompt']}\n{line}"


@contextmanager
def forge_server(state: ForgeState | None = None) -> Iterator[tuple[str, ForgeState]]:
    state = state or ForgeState()
    with serving(ForgeHandler, state) as url:
        yield url, state
