"""Photos by URL: off by default, from public addresses alone, at every step; over real HTTP and TLS on loopback."""

from __future__ import annotations

import json
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from imaging.errors import InvalidImageError, RejectedError
from jobs.model.request import parse_request
from jobs.queue.job_queue import JobQueue
from jobs.requests.accept import submit
from jobs.requests.inbox import take_inbox
from resources.settings import Settings
from resources.sources.names import without_secrets
from resources.sources.photos import MAX_BYTES, import_source, load_source
from resources.sources.urls import fetch_photo, is_public
from resources.store.image_store import ImageStore
from tests.support.http_server import Handler, Server, closed_port, picture_file, serving

PIXELS = np.random.default_rng(3).integers(0, 256, (70, 90, 3), dtype=np.uint8)
PHOTO = picture_file(PIXELS)
NAME = "photos.test"


@dataclass
class State:
    """What the server does by path, and the `Host` headers that it got."""

    hosts: list[str] = field(default_factory=list)
    redirects: dict[str, str] = field(default_factory=dict)
    release: threading.Event = field(default_factory=threading.Event)


class PhotoHandler(Handler):
    def do_GET(self) -> None:  # noqa: N802 - the base class's name
        state: State = self.server.state
        state.hosts.append(self.headers["host"])
        path = self.path.partition("?")[0]
        if path in state.redirects:
            self.give(b"", 302, location=state.redirects[path])
        elif path == "/photo.png":
            self.give(PHOTO, kind="image/png")
        elif path == "/endless":
            self.send_response(200)
            self.end_headers()
            while not state.release.is_set():
                self.wfile.write(b"x" * 10_000)
        elif path in ("/slow-header", "/slow-body"):
            self.wfile.write(b"HTTP/1.1 200 OK\r\n" + (b"\r\n" if path == "/slow-body" else b"x-slow: "))
            while not state.release.wait(0.01):
                self.wfile.write(b"x")
        elif path in ("/said-to-be-large", "/cut-off"):
            self.send_response(200)
            self.send_header("content-length", "1000" if path == "/cut-off" else str(MAX_BYTES + 1))
            self.end_headers()
            self.wfile.write(b"x")
            self.close_connection = True
        elif path == "/gzip":
            self.give(b"x", **{"content-encoding": "gzip"})
        elif path == "/reset":
            self.reset()
        else:
            self.give({"detail": "none"}, 404)


@pytest.fixture
def state() -> State:
    return State()


@pytest.fixture
def server(state: State) -> Iterator[str]:
    with serving(PhotoHandler, state) as url:
        yield url


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Names of the tests, each with a list of answers: the addresses at the first look-up, at the second, ..."""
    known: dict[str, Any] = {}
    real = socket.getaddrinfo

    def look_up(host: Any, port: Any, *rest: Any, **more: Any) -> Any:
        if host not in known:
            assert host[0].isdigit(), f"an unexpected look-up of {host}"
            return real(host, port, *rest, **more)
        answers = known[host]
        addresses = answers.pop(0) if len(answers) > 1 else answers[0]
        if not addresses:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return known


loopback = partial(fetch_photo, max_bytes=MAX_BYTES, allowed="127.0.0.1".__eq__)


def refusal(url: str, fetch: Callable[[str], bytes] = loopback) -> str:
    with pytest.raises(InvalidImageError) as caught:
        fetch(url)
    assert caught.value.hint
    assert "KEY" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.215.14", True),
        ("2606:2800:21f:cb07:6820:80da:af6b:8b2c", True),
        ("::ffff:93.184.215.14", True),
        ("64:ff9b::5db8:d70e", True),
        ("0.0.0.0", False),  # noqa: S104
        ("10.1.2.3", False),
        ("100.64.0.1", False),
        ("127.0.0.1", False),
        ("127.255.255.254", False),
        ("169.254.169.254", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("192.0.2.1", False),
        ("198.18.0.1", False),
        ("224.0.0.1", False),
        ("240.0.0.1", False),
        ("255.255.255.255", False),
        ("::", False),
        ("::1", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:a9fe:a9fe", False),
        ("::127.0.0.1", False),
        ("64:ff9b::7f00:1", False),
        ("64:ff9b:1::1", False),
        ("2002:7f00:1::", False),
        ("2001:0:7f00:1::", False),
        ("2001:db8::1", False),
        ("fc00::1", False),
        ("fd00:ec2::254", False),
        ("fe80::1", False),
        ("fe80::1%eth0", False),
        ("fec0::1", False),
        ("ff02::1", False),
    ],
)
def test_which_addresses_are_public(address: str, public: bool) -> None:
    assert is_public(address) is public


def test_a_photo_comes_over_the_checked_address(server: str, state: State, names: dict[str, Any]) -> None:
    """One look-up: the second answer of the name, another machine, is never asked for."""
    port = server.rpartition(":")[2]
    names[NAME] = [["127.0.0.1"], ["10.0.0.1"]]
    assert loopback(f"http://{NAME}:{port}/photo.png?token=KEY") == PHOTO
    assert names[NAME] == [["10.0.0.1"]]
    assert state.hosts == [f"{NAME}:{port}"]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]"])
def test_this_machine_is_refused(server: str, state: State, host: str) -> None:
    url = server.replace("127.0.0.1", host) + "/photo.png?token=KEY"
    assert "not a machine of the public internet" in refusal(url, partial(fetch_photo, max_bytes=MAX_BYTES))
    assert state.hosts == []


def test_one_private_address_among_others_is_refused(server: str, state: State, names: dict[str, Any]) -> None:
    names[NAME] = [["127.0.0.1", "10.0.0.1"]]
    assert "not a machine of the public internet" in refusal(server.replace("127.0.0.1", NAME) + "/photo.png")
    assert state.hosts == []


def test_the_next_address_is_tried(server: str, names: dict[str, Any]) -> None:
    port = server.rpartition(":")[2]
    names[NAME] = [["127.0.0.99", "127.0.0.1"]]  # nobody listens on the first
    either = partial(fetch_photo, max_bytes=MAX_BYTES, allowed=lambda address: address.startswith("127."))
    assert either(f"http://{NAME}:{port}/photo.png") == PHOTO


def test_redirects_are_followed_to_an_end(server: str, state: State) -> None:
    state.redirects = {f"/{number}": f"/{number + 1}" for number in range(1, 6)} | {"/5": f"{server}/photo.png"}
    assert loopback(f"{server}/1") == PHOTO
    state.redirects["/0"] = "/1"
    assert "more than 5 redirects" in refusal(f"{server}/0")


@pytest.mark.parametrize(
    ("there", "words"),
    [
        ("http://127.0.0.2/photo.png?token=KEY", "not a machine of the public internet"),
        ("//10.0.0.1/", "not a machine of the public internet"),
        ("http://169.254.169.254/latest/meta-data", "not a machine of the public internet"),
        ("file:///etc/passwd", "is not an http or https address"),
        ("gopher://127.0.0.1/", "is not an http or https address"),
        ("http://user:KEY@127.0.0.1/", "holds a user or password"),
        ("http://127.0.0.1:x/", "no address"),
    ],
)
def test_a_redirect_is_checked_as_the_address_itself(server: str, state: State, there: str, words: str) -> None:
    state.redirects["/1"] = there
    assert words in refusal(f"{server}/1")
    assert len(state.hosts) == 1


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("ftp://photos.test/a.png?KEY", "is not an http or https address"),
        ("http:///a.png?KEY", "is not an http or https address"),
        ("http://user:KEY@photos.test/a.png", "holds a user or password"),
        ("http://user:KEY@photos test:x/a.png", "is not an address"),
        ("http://photos.test:99999/a.png?KEY", "is not an http or https address"),
        ("http://nowhere.test/a.png?KEY", "not known"),
    ],
)
def test_addresses_that_cannot_be_used(names: dict[str, Any], url: str, words: str) -> None:
    names["nowhere.test"] = [[]]
    assert words in refusal(url)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/none", "the server answered 404"),
        ("/said-to-be-large", "more than the 50 MB"),
        ("/cut-off", "cannot be fetched"),
        ("/gzip", "comes compressed"),
        ("/reset", "cannot be fetched"),
    ],
)
def test_answers_that_are_no_photo(server: str, path: str, words: str) -> None:
    assert words in refusal(f"{server}{path}?token=KEY")


def test_nobody_listens() -> None:
    assert "cannot be fetched" in refusal(f"http://127.0.0.1:{closed_port()}/photo.png?token=KEY")


def test_an_endless_file_is_left(server: str) -> None:
    assert "more than the 1 MB" in refusal(f"{server}/endless", partial(loopback, max_bytes=1_000_000))


@pytest.mark.parametrize("path", ["/slow-header", "/slow-body"])
def test_a_server_that_drips_is_left(server: str, path: str) -> None:
    """Each byte comes in time; the whole does not. Without the limit on the whole, this test does not end."""
    assert "did not answer in time" in refusal(f"{server}{path}", partial(loopback, seconds=0.2))


@pytest.fixture
def tls_server(tmp_path: Path, state: State) -> Iterator[tuple[str, Path]]:
    """An https server for `NAME`: its address, and the certificate that makes it trusted."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed, which makes the certificate of this test")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", f"/CN={NAME}", "-addext", f"subjectAltName=DNS:{NAME}", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = Server(("127.0.0.1", 0), PhotoHandler)
    server.state = state
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"https://{NAME}:{server.server_address[1]}", certificate
    server.shutdown()
    server.server_close()
    thread.join()


def test_tls_is_checked_against_the_name(
    tls_server: tuple[str, Path], names: dict[str, Any], state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, certificate = tls_server
    names[NAME] = names["other.test"] = [["127.0.0.1"]]
    assert "CERTIFICATE_VERIFY_FAILED" in refusal(f"{url}/photo.png")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    assert loopback(f"{url}/photo.png") == PHOTO
    assert "not valid for 'other.test'" in refusal(f"{url.replace(NAME, 'other.test')}/photo.png")
    state.redirects["/1"] = "http://127.0.0.1/photo.png"
    assert "from https to plain http" in refusal(f"{url}/1")


# ---- as a source image


@pytest.fixture
def tools(queue: JobQueue, store: ImageStore) -> dict[str, Any]:
    return {"queue": queue, "store": store, "settings": Settings(source_urls=True)}


def test_urls_are_off_by_default(server: str, state: State, store: ImageStore) -> None:
    with pytest.raises(InvalidImageError, match=r"not fetched from URLs here.*FC_SOURCE_URLS=true") as caught:
        import_source(f"{server}/photo.png?token=KEY", settings=Settings(), store=store, fetch=loopback)
    assert "KEY" not in str(caught.value)
    assert state.hosts == []


def test_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FC_SOURCE_URLS", "true")
    assert Settings().source_urls is True


def test_a_fetched_photo_is_a_source_like_any_other(server: str, tools: dict[str, Any]) -> None:
    request = parse_request({"job_type": "description", "source_image": f"{server}/photo.png?token=KEY#part"})
    [job] = submit([(None, request)], **tools, origin="cli", fetch=loopback)
    assert job.source is not None
    assert job.source["path"] == job.request.source_image == f"{server}/photo.png"
    source = import_source(f"{server}/photo.png", settings=tools["settings"], store=tools["store"], fetch=loopback)
    assert np.array_equal(load_source(source, tools["store"]).pixels, PIXELS)


def test_what_is_fetched_is_checked_as_a_file_is(server: str, state: State, tools: dict[str, Any]) -> None:
    request = parse_request({"job_type": "description", "source_image": f"{server}/none"})
    with pytest.raises(RejectedError, match=r"Job a: source_image: .*answered 404"):
        submit([("a", request)], **tools, origin="cli", fetch=loopback)
    with pytest.raises(InvalidImageError, match="not an image that is known here"):
        import_source(server, settings=tools["settings"], store=tools["store"], fetch=lambda _url: b"<html>")
    assert tools["queue"].find() == []


def test_the_inbox_refuses_this_machine_and_goes_on(
    server: str, state: State, tools: dict[str, Any], home: Path
) -> None:
    inbox = home / "inbox"
    inbox.mkdir()
    url = f"{server}/photo.png"
    (inbox / "a.json").write_text(json.dumps({"job_type": "description", "source_image": url}))
    (inbox / "b.json").write_text(json.dumps({"pony_prompt": "a lighthouse keeper"}))
    report = take_inbox(inbox, **tools)
    assert "not a machine of the public internet" in report.rejected["a.json"]
    assert list(report.accepted) == ["b.json"]
    assert state.hosts == []


def test_the_inbox_knows_a_job_by_url_again(
    server: str, tools: dict[str, Any], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crash between submitting and moving: the next look only moves the file, though the kept URL is shorter."""
    monkeypatch.setattr("jobs.requests.inbox.fetcher", lambda _seconds: loopback)
    inbox = home / "inbox"
    inbox.mkdir()
    dropped = {"job_type": "description", "source_image": f"{server}/photo.png?token=KEY", "job_id": "a"}
    (inbox / "a.json").write_text(json.dumps(dropped))

    def crash(*_: Any, **__: Any) -> bool:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("jobs.requests.inbox._move", crash)
        with pytest.raises(KeyboardInterrupt):
            take_inbox(inbox, **tools)
    assert take_inbox(inbox, **tools).accepted == {"a.json": ["a"]}
    assert len(tools["queue"].find()) == 1


def test_what_is_kept_of_a_source() -> None:
    assert without_secrets("https://user:KEY@host/a.png?KEY#KEY") == "https://host/a.png"
    assert without_secrets("/photos/a?b#c@d.png") == "/photos/a?b#c@d.png"
