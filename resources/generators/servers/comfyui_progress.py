"""How far ComfyUI is with an image, in percent, as its websocket tells; without it only the percent is missing."""

from __future__ import annotations

import json
import logging
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Final, Self

from websockets.exceptions import WebSocketException
from websockets.sync.client import ClientConnection, connect

from resources.generators.servers.http_api import HttpApi

_log = logging.getLogger(__name__)

_LOST: Final = (OSError, WebSocketException, ImportError)  # ImportError: a SOCKS proxy, whose package is not there
_OPEN_SECONDS: Final = 5.0


class ComfyUIProgress:
    """The websocket of one client, open while its image is made. Nothing that happens to it is an error.

    Args:
        api: how the server is reached.
        client_id: by which the images are asked for.
    """

    def __init__(self, api: HttpApi, client_id: str) -> None:
        self._api = api
        self._client_id = client_id
        self._socket: ClientConnection | None = None
        self._open = ExitStack()
        self._told: tuple[str, int] | None = None
        self.works = True

    def __enter__(self) -> Self:
        """Open it, unless it could not be opened before."""
        if self.works:
            try:
                opening = connect(
                    f"{self._api.websocket_url}/ws?clientId={self._client_id}",
                    additional_headers=self._api.sign_in,
                    open_timeout=_OPEN_SECONDS,
                    close_timeout=1,
                    max_size=2**26,  # previews come too
                    max_queue=None,  # the server waits for those who do not read
                )
                self._socket = self._open.enter_context(opening)
            except _LOST as error:
                self.works = False
                _log.info("ComfyUI at %s tells no percent: %s", self._api.address, error)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self._drop()

    def percent(self, prompt_id: str) -> int | None:
        """Percent of the node that is at work on an image, by the newest that was told; None: nothing new was."""
        told = None
        while self._socket is not None:
            try:
                message = self._socket.recv(timeout=0)
            except TimeoutError:
                break
            except _LOST as error:
                _log.info("ComfyUI at %s tells no percent any more: %s", self._api.address, error)
                self._drop()
                break
            told = _percent(message, prompt_id, told)
        new = None if told is None or self._told == (prompt_id, told) else told
        if new is not None:
            self._told = (prompt_id, new)
        return new

    def _drop(self) -> None:
        self._socket = None
        try:
            self._open.close()
        except _LOST as error:
            _log.debug("Closing the websocket: %s", error)


def _percent(message: str | bytes, prompt_id: str, before: int | None) -> int | None:
    """What a message says: `{"type": "progress", "data": {"value", "max", "prompt_id"}}`; others say nothing."""
    if isinstance(message, bytes):  # a preview
        return before
    try:
        told = json.loads(message)
        data: Any = told["data"]
        if told["type"] == "progress" and data.get("prompt_id", prompt_id) == prompt_id:
            return max(0, min(100, round(100 * float(data["value"]) / float(data["max"]))))
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError) as error:
        _log.debug("A message of ComfyUI is not understood: %s", error)
    return before
