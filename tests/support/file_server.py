"""A real HTTP server over loopback that serves bytes, with ranges and ETags, and misbehaves on demand."""

from __future__ import annotations

import hashlib
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

Fault = Callable[["Handler", bytes], None]
"""Answers one request instead of the file; given the handler and the file's bytes."""


@dataclass
class FileServer:
    """What is served. `faults` are used up, one per request of a path, before the file itself is served."""

    port: int = 0
    files: dict[str, bytes] = field(default_factory=dict)
    faults: dict[str, list[Fault]] = field(default_factory=dict)
    headers: dict[str, dict[str, str | None]] = field(default_factory=dict)
    seen: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    halfway: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def ranges(self) -> list[str | None]:
        """The `Range` of every GET so far."""
        return [headers.get("range") for method, _path, headers in self.seen if method == "GET"]


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    state: ClassVar[FileServer]

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = self.path
        self.state.seen.append((self.command, path, {name.lower(): value for name, value in self.headers.items()}))
        content = self.state.files.get(path)
        faults = self.state.faults.get(path, [])
        if faults:
            faults.pop(0)(self, content or b"")
        elif content is None:
            self.send(404, b"")
        else:
            self.serve(content)

    def serve(self, content: bytes) -> None:
        """The file, or the range of it that is asked for, as RFC 9110 says."""
        headers: dict[str, str | None] = {"ETag": etag(content)} | self.state.headers.get(self.path, {})
        asked, valid = self.headers.get("Range"), self.headers.get("If-Range")
        if asked and valid in (None, headers["ETag"], headers.get("Last-Modified")):
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            if start >= len(content):
                self.send(416, b"", {"Content-Range": f"bytes */{len(content)}"})
                return
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            self.send(206, content[start:], headers)
        else:
            self.send(200, content, headers)

    def send(
        self, status: int, body: bytes, headers: dict[str, str | None] | None = None, *, length: int | None = None
    ) -> None:
        """An answer; `length` is what Content-Length says, when it lies. A header of None is left out."""
        self.send_response(status)
        for name, value in (headers or {}).items():
            if value is not None:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        if length is not None:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Nothing: pytest's output is for failures."""


def etag(content: bytes) -> str:
    return f'"{hashlib.sha256(content).hexdigest()}"'


def cut(handler: Handler, content: bytes) -> None:
    """Promise what is asked for, send half of it, and hang up."""
    start = int((handler.headers.get("Range") or "bytes=0-").removeprefix("bytes=").rstrip("-"))
    rest = content[start:]
    headers: dict[str, str | None] = {"ETag": etag(content)} | handler.state.headers.get(handler.path, {})
    if start:
        headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
    handler.send(206 if start else 200, rest[: len(rest) // 2], headers, length=len(rest))
    handler.close_connection = True


def hold(handler: Handler, content: bytes) -> None:
    """Send half, and then nothing more until the test is over."""
    cut(handler, content)
    handler.wfile.flush()
    handler.state.halfway.set()
    handler.state.released.wait(60)


def answer(status: int, body: bytes = b"", **headers: str) -> Fault:
    """Always this answer; `_` in a header's name stands for `-`."""
    return lambda handler, _content: handler.send(
        status, body, {name.replace("_", "-"): value for name, value in headers.items()}
    )


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address) -> None:
        """A client that hangs up is part of the tests; all else is shown."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


@contextmanager
def serving() -> Iterator[FileServer]:
    """A server on a free port of the loopback interface."""
    state = FileServer()
    server = _Server(("127.0.0.1", 0), type("Own", (Handler,), {"state": state}))
    state.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield state
    finally:
        state.released.set()
        server.shutdown()
        thread.join()
        server.server_close()
