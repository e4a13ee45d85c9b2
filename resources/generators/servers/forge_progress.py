"""How far a Forge or A1111 server is with an image, and whether somebody there ended it early."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any

from resources.generators.servers.http_api import HttpApi, HttpStatusError

_log = logging.getLogger(__name__)


class ForgeProgress:
    """One image on its way. Create it just before the image is asked for.

    A server begins each job with its marks `interrupted` and `skipped` taken away, and tells them until the next one
    begins. Jobs are told apart by `job_timestamp`, which is in whole seconds of the server's clock.

    Args:
        api: how the server is reached.
        path: where the image is asked for, `/sdapi/v1/txt2img` or `/sdapi/v1/img2img`.
        task_id: the task that the image is there.

    Raises:
        BackendError: the server is not reached (`TransientError`), or turns the sign-in down.
    """

    def __init__(self, api: HttpApi, path: str, task_id: str) -> None:
        self._api = api
        self._job = f"scripts_{path.rpartition('/')[2]}"
        self._task_id = task_id
        self._before = self._state()[1]
        self._asked = time.strftime("%Y%m%d%H%M%S")
        self._ended = ""

    def told(self) -> Mapping[str, Any]:
        """Whether the server is at work on it (`active`) or makes others before (`queued`), and `progress`, 0 to 1.

        A server without its web UI (`--nowebui`) has no list of tasks; its state tells then: a job of this kind that
        began after the image was asked for is taken for it.

        Raises:
            BackendError: the server does not say.
        """
        body = {"id_task": self._task_id, "live_preview": False}
        try:
            told = self._api.post_json("/internal/progress", body, seconds=5)
        except HttpStatusError as error:
            if error.status != 404:
                raise
            return self._told_by_state(error)
        told = told if isinstance(told, dict) else {}
        if told.get("active"):
            self._note(self._state()[1])
        return told

    def ended_early(self) -> str:
        """`interrupted` or `skipped` if somebody ended the image before it was whole; empty: nobody did, it seems.

        To be asked right after the image came: the next job on the server takes the marks away.

        Raises:
            TransientError: the server does not answer.
        """
        self._note(self._state()[1])
        return self._ended

    def _told_by_state(self, error: HttpStatusError) -> Mapping[str, Any]:
        progress, state = self._state()
        if not state:
            raise error
        began = state.get("job_timestamp") != self._before.get("job_timestamp") or not self._before.get("job")
        active = state.get("job") == self._job and began
        if active:
            self._note(state)
        return {"active": active, "queued": bool(state.get("job")) and not active, "progress": progress}

    def _note(self, state: Mapping[str, Any]) -> None:
        """Keep how the image was ended, if the marks belong to it and not to a job before."""
        began = state.get("job_timestamp") != self._before.get("job_timestamp")
        new = began or not _mark(self._before) or str(state.get("job_timestamp")) >= self._asked
        self._ended = self._ended or (_mark(state) if new else "")

    def _state(self) -> tuple[float, Mapping[str, Any]]:
        """Progress and state of the server as a whole; nothing where it does not tell."""
        try:
            told = self._api.get_json("/sdapi/v1/progress?skip_current_image=true", seconds=5)
        except HttpStatusError as error:
            if error.status in (401, 403):
                raise
            _log.info("The server's state is not known: %s", error.what)
            return 0.0, {}
        state = told.get("state") if isinstance(told, dict) else None
        return (float(told.get("progress") or 0), state) if isinstance(state, dict) else (0.0, {})


def _mark(state: Mapping[str, Any]) -> str:
    return next((name for name in ("interrupted", "skipped") if state.get(name)), "")
