"""What the local image servers of the tests share: HTTP over loopback, answers in JSON, connections that break."""

from __future__ import annotations

import io
import json
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
from PIL import Image


class Server(ThreadingHTTPServer):
    daemon_threads = True
    state: Any
    connections = 0

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: clients give up and connections are broken, both on purpose."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def setup(self) -> None:
        super().setup()
        self.server.connections += 1

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("content-length") or 0))

    def give(self, content: Any, status: int = 200, kind: str = "application/json", **headers: str) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"content-type": kind, "content-length": str(len(data)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def reset(self) -> None:
        """Break the connection, as a server that is killed does."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Keep the test output quiet."""


class PlainHandler(Handler):
    """Answers GET as `state.script` says, one manner per request: `answer`, `reset`, `drip`, or an HTTP status."""

    def do_GET(self) -> None:
        manner = self.server.state.script.pop(0)
        self.server.state.connections = self.server.connections
        if manner == "reset":
            self.reset()
        elif manner == "drip":
            self.send_response(200)
            self.send_header("content-length", "1000000")
            self.end_headers()
            while not self.server.state.release.wait(0.02):
                self.wfile.write(b" ")
        else:
            self.give({"detail": "told"}, 200 if manner == "answer" else manner)


@dataclass
class PlainState:
    script: list[Any]
    connections: int = 0
    release: threading.Event = field(default_factory=threading.Event)


@contextmanager
def serving(handler: type[Handler], state: Any) -> Iterator[str]:
    """Serve until the block ends; yields the address."""
    server = Server(("127.0.0.1", 0), handler)
    server.state = state
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        state.release.set()
        server.shutdown()
        server.server_close()
        thread.join()


def closed_port() -> int:
    """A port of this machine on which nobody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def picture_file(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def read_picture(data: bytes, mode: str = "RGB") -> np.ndarray:
    return np.array(Image.open(io.BytesIO(data)).convert(mode))
