"""Talking to an image server over HTTP: Forge, A1111 and ComfyUI alike.

A request that could not be delivered is sent again. One that the server may have received is only sent again where that
does no harm: a POST that starts an image is not. No error raised here is chained to httpx2's own: those carry the
request with its headers.
"""

from __future__ import annotations

import base64
import json
import logging
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, Generic, TypeVar
from urllib.parse import urlsplit

import httpx2
import numpy as np
import tenacity
from numpy.typing import NDArray
from pydantic import SecretStr

from imaging.errors import BackendError, InvalidImageError, OutOfMemoryError, SettingsError, TransientError
from imaging.files.decode import decode_image
from imaging.files.provenance import encode_png
from resources.addresses import is_plain_url
from resources.generators.base import ImageTask, InpaintTask, Outcome
from resources.retries import Failure, ask_again, retry_after

_log = logging.getLogger(__name__)

T = TypeVar("T")
Task = TypeVar("Task", ImageTask, InpaintTask)

NATIVE_SIZE: Final = 1024  # the side that SDXL was trained at; the servers do not tell their model's
_CONNECT_SECONDS: Final = 5.0
_ANSWER_SECONDS: Final = 30.0  # for everything but an image
_BUSY_STATUS: Final = (429, 502, 503, 504, 529)
_SHORT_MEMORY: Final = ("out of memory", "outofmemoryerror")
_LONGEST_REASON: Final = 400  # characters of a server's own words in a message


class UnreachableError(TransientError):
    """The server is not reached, or answers that it is busy or starting."""


class ConnectionLostError(TransientError):
    """The server was reached and its answer did not come: it may have done what it was asked, or not."""


class HttpStatusError(BackendError):
    """The server refused or failed.

    Attributes:
        status: the HTTP status.
        body: the answer's JSON, or None when it is none.
    """

    status: int = 0
    body: Any = None


API_ERRORS: Final = (UnreachableError, ConnectionLostError, HttpStatusError)
"""What `HttpApi.send` raises. Catch these and not `TransientError`: the stage's own time limit is one as well."""


class HttpApi:
    """One server. Threads may share it.

    Args:
        url: the server's address, http or https; a path in it is kept.
        variable: the setting that it came from, for messages.
        server: what the server is, for messages.
        auth: `user:password` for Basic authentication, or `Bearer TOKEN`; empty: none.
        auth_variable: the setting that it came from, for messages.

    Raises:
        SettingsError: an address or a sign-in that cannot be one.
    """

    waits: Sequence[float] = (0.3, 1.0)
    """Seconds to wait before each further try."""

    def __init__(
        self, url: str, *, variable: str, server: str, auth: SecretStr | None = None, auth_variable: str = ""
    ) -> None:
        self._url = _checked_url(url, variable)
        self._variable = variable
        self._server = server
        self._secret, self.sign_in = _checked_auth(auth or SecretStr(""), auth_variable)
        self._auth_variable = auth_variable
        self._opening = threading.Lock()
        self._opened: httpx2.Client | None = None

    def __repr__(self) -> str:
        return f"HttpApi({self._url!r})"

    @property
    def address(self) -> str:
        """Host and port, for messages."""
        return urlsplit(self._url).netloc

    @property
    def websocket_url(self) -> str:
        """The server's address for a websocket; whoever opens one signs in with the headers `sign_in`."""
        return f"ws{self._url.removeprefix('http')}"

    def get(self, path: str, *, seconds: float = _ANSWER_SECONDS, **query: str) -> bytes:
        """The body of an answer; see `send`. A request without an answer is sent again."""
        return self.send("GET", path, seconds=seconds, again=True, params=query or None)

    def get_json(self, path: str, *, seconds: float = _ANSWER_SECONDS) -> Any:  # noqa: ANN401 - JSON
        """The JSON of an answer; see `get`."""
        return self.as_json(path, self.get(path, seconds=seconds))

    def post_json(self, path: str, body: Any, *, seconds: float = _ANSWER_SECONDS) -> Any:  # noqa: ANN401 - JSON
        """Send JSON, never twice, and return the JSON of the answer (None: an empty one); see `send`."""
        answer = self.send("POST", path, seconds=seconds, json=body)
        return self.as_json(path, answer) if answer else None

    def as_json(self, path: str, answer: bytes) -> Any:  # noqa: ANN401 - JSON
        """An answer as JSON.

        Raises:
            BackendError: it is none.
        """
        try:
            return json.loads(answer)
        except ValueError:
            raise BackendError(
                f"{self._server} at {self.address} answered {path} with something that is not JSON.",
                f"Check that {self._variable} is the address of {self._server} with its API on.",
            ) from None

    def send(self, method: str, path: str, *, seconds: float, again: bool = False, **content: Any) -> bytes:  # noqa: ANN401
        """Send one request and return the body of its answer.

        Args:
            method: of HTTP.
            path: from the server's address on.
            seconds: until the whole answer must be there.
            again: whether it does no harm to send it twice.
            content: `params`, `json`, `data`, `files`, as httpx2 takes them.

        Raises:
            UnreachableError: the server is not reached, or busy.
            ConnectionLostError: it was reached, and its answer did not come, or not in time.
            HttpStatusError: the server refused or failed.
        """
        return ask_again(
            lambda: self._attempt(method, path, seconds, content, again=again),
            tries=len(self.waits) + 1,
            wait=tenacity.wait_chain(*map(tenacity.wait_fixed, self.waits)),
            notify=_log.info,
        )

    def _attempt(
        self, method: str, path: str, seconds: float, content: dict[str, Any], *, again: bool
    ) -> bytes | Failure:
        try:
            return self._receive(method, path, seconds, content)
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            return Failure(self._unreachable(error), may_pass=True)
        except httpx2.TimeoutException:
            lost = ConnectionLostError(
                f"{self._server} at {self.address} did not answer {path} within {seconds:g} s.",
                "The job is tried again; if this lasts, look at the server.",
            )
            return Failure(lost, may_pass=False)
        except httpx2.RequestError as error:
            lost = ConnectionLostError(
                f"The connection to {self._server} at {self.address} was lost during {path} ({type(error).__name__}).",
                "The job is tried again; if this lasts, look at the server and the network.",
            )
            return Failure(lost, may_pass=again)

    def _receive(self, method: str, path: str, seconds: float, content: dict[str, Any]) -> bytes:
        ends = time.monotonic() + seconds
        limits = httpx2.Timeout(seconds, connect=min(_CONNECT_SECONDS, seconds))
        with self._client().stream(method, path, timeout=limits, **content) as response:
            body = bytearray()
            for chunk in response.iter_bytes():
                body += chunk
                if time.monotonic() > ends:  # httpx2's own limit counts from chunk to chunk
                    raise httpx2.ReadTimeout("too slow")
        if response.status_code >= 300:
            raise self._refusal(path, response.status_code, bytes(body), retry_after(response.headers))
        return bytes(body)

    def _client(self) -> httpx2.Client:
        with self._opening:
            if self._opened is None:
                # Connections are not kept: a server may close an idle one just as a request is sent, and whether it
                # then received the request cannot be known.
                self._opened = httpx2.Client(
                    base_url=self._url, headers=self.sign_in, limits=httpx2.Limits(max_keepalive_connections=0)
                )
            return self._opened

    def _unreachable(self, error: httpx2.RequestError) -> UnreachableError:
        reason = " ".join(str(error).split()) or type(error).__name__
        return UnreachableError(
            f"{self._server} is not reached at {self.address} ({reason}).",
            f"Start the server, or correct {self._variable}.",
        )

    def _refusal(self, path: str, status: int, body: bytes, wait: float | None) -> BackendError:
        said = reason_in(body)
        if self._secret:
            said = said.replace(self._secret, "***")
        what = f"{self._server} at {self.address} answered {path} with HTTP {status}: {said}."
        if status in _BUSY_STATUS:
            return UnreachableError(what, "It is busy or starting; the job is tried again.", retry_after=wait)
        if status in (401, 403) and self._auth_variable:
            hint = f"Set {self._auth_variable} to user:password, or to Bearer and a token, as the server wants it."
        elif status == 404:
            hint = f"Check that {self._variable} is the address of {self._server}, and that its API is on."
        else:
            hint = "Read the server's own log; another size or setting may work."
        error = HttpStatusError(what, hint)
        error.status, error.body = status, _json_or_none(body)
        return error


class Remembered(Generic[T]):
    """Something that a server tells, asked for again when it is some seconds old.

    That it did not answer is remembered as well, so that not every job of a batch waits for a server that is down.
    """

    def __init__(self, ask: Callable[[], T], seconds: float) -> None:
        self._ask = ask
        self._seconds = seconds
        self._until = 0.0
        self._answer: T | UnreachableError | ConnectionLostError | None = None

    def get(self) -> T:
        """The answer.

        Raises:
            BackendError: as it was raised by asking.
        """
        if self._answer is None or time.monotonic() >= self._until:
            try:
                self._answer = self._ask()
            except (UnreachableError, ConnectionLostError) as error:
                self._answer = error
            self._until = time.monotonic() + self._seconds
        if isinstance(self._answer, UnreachableError | ConnectionLostError):
            raise self._answer.prefixed("")
        return self._answer


def outcomes(tasks: Sequence[Task], make: Callable[[Task], Outcome]) -> Iterator[Outcome]:
    """One outcome per task, in order; a `BackendError` of one becomes its outcome, with the job named.

    A server that says that its memory is too short, in whatever answer, becomes an `OutOfMemoryError`.
    """
    for task in tasks:
        try:
            yield make(task)
        except BackendError as error:
            job_id = task.task.job_id if isinstance(task, InpaintTask) else task.job_id
            named = error.prefixed(f"Job {job_id}: ")
            short = any(words in error.what.lower() for words in _SHORT_MEMORY)
            yield OutOfMemoryError(named.what, named.hint) if short else named


def read_png(data: bytes, size: tuple[int, int], server: str) -> NDArray[np.uint8]:
    """A picture that a server sent, as RGB, uint8, (height, width, 3).

    Args:
        data: the file.
        size: (width, height) that was asked for.
        server: what the server is, for messages.

    Raises:
        BackendError: it is no whole PNG, or has another size.
    """
    try:
        picture = decode_image(data, name="the picture")
    except InvalidImageError as error:
        raise BackendError(f"{server} sent no usable picture: {error.what}", "Read the server's own log.") from error
    if picture.format != "PNG":
        raise BackendError(
            f"{server} sent a {picture.format}, and a PNG is needed, which loses nothing.",
            "Set the server's file format for images to png.",
        )
    height, width = picture.pixels.shape[:2]
    if (width, height) != size:
        raise BackendError(
            f"{server} sent {width}x{height} pixels where {size[0]}x{size[1]} were asked for.",
            "Look for a setting, script or workflow there that changes the size.",
        )
    return picture.pixels


def inpaint_pngs(task: InpaintTask) -> tuple[bytes, bytes]:
    """Image and mask of a task as PNG files.

    Every pixel over 0 in the mask is made anew (255), so that the caller's soft edge blends from new pixels only.

    Raises:
        BackendError: they do not have the task's size.
    """
    size = (task.task.height, task.task.width)
    if task.image.shape != (*size, 3) or task.mask.shape != size:
        raise BackendError(
            f"image {task.image.shape} and mask {task.mask.shape} do not have the task's size {size}.",
            "This is a fault of the caller.",
        )
    return encode_png(task.image), encode_png(np.where(task.mask > 0, 255, 0).astype(np.uint8))


def reason_in(body: bytes) -> str:
    """What a server says went wrong, in one line.

    It knows A1111's `{error, detail, body, errors}`, FastAPI's `{detail}` with its list of fields, ComfyUI's
    `{error: {message, details}}`, and plain text.
    """
    said = _json_or_none(body)
    parts: list[str] = []
    if isinstance(said, dict):
        for name in ("error", "detail", "errors"):
            value = said.get(name)
            if isinstance(value, dict):
                parts += [str(value[key]) for key in ("message", "details") if value.get(key)]
            elif isinstance(value, list):
                parts += [_field_problem(item) for item in value]
            elif value:
                parts.append(str(value))
    text = ": ".join(dict.fromkeys(parts)) or body.decode("utf-8", "replace")
    text = " ".join(text.split()).rstrip(".")
    return (text if len(text) <= _LONGEST_REASON else text[:_LONGEST_REASON] + "…") or "no message"


def _field_problem(item: Any) -> str:  # noqa: ANN401 - JSON
    if not isinstance(item, dict):
        return str(item)
    return f"{'.'.join(map(str, item.get('loc', ())))} {item.get('msg', '')}".strip()


def _json_or_none(body: bytes) -> Any:  # noqa: ANN401 - JSON
    try:
        return json.loads(body)
    except ValueError:
        return None


def _checked_url(url: str, variable: str) -> str:
    if not is_plain_url(url):
        raise SettingsError(
            f"{variable} is not an address of the form http://host:port, without a user name or password.",
            "Correct it, or leave it out.",
        )
    return url.rstrip("/")


def _checked_auth(auth: SecretStr, variable: str) -> tuple[str, dict[str, str]]:
    """The secret part of a sign-in, and the header that signs in (RFC 7617, RFC 6750); both empty for none."""
    text = auth.get_secret_value().strip()
    if not text:
        return "", {}
    if bearer := re.fullmatch(r"(?i:bearer) +([\x21-\x7e]+)", text):
        return bearer[1], {"authorization": f"Bearer {bearer[1]}"}
    user, colon, password = text.partition(":")
    if not (user and colon and password):
        raise SettingsError(
            f"{variable} is neither of the form user:password nor Bearer TOKEN.", "Write it as the server was given it."
        )
    return password, {"authorization": f"Basic {base64.b64encode(text.encode()).decode()}"}
