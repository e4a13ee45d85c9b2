"""Hostile input: whatever a stranger sends is used or refused with an error of ours; nothing else comes out."""

from __future__ import annotations

import io
import json
import os
import socket
import struct
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from imaging.errors import FaceChangerError, InvalidImageError, RejectedError
from imaging.files.provenance import decode_png_exact, parse_a1111, read_provenance
from jobs.model.request import JobRequest, parse_request
from jobs.queue.job_queue import JobQueue
from jobs.requests.files import REQUEST_SUFFIXES
from jobs.requests.inbox import take_inbox
from resources.database import Database, open_database
from resources.settings import Settings
from resources.sources.names import without_secrets
from resources.sources.photos import import_source, load_source
from resources.sources.urls import fetch_photo
from resources.store.image_store import ImageStore

# The folders and databases of the fixtures serve all examples of a test; each example makes its own files in them.
shared = partial(settings, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)
fields = st.dictionaries(st.sampled_from([*JobRequest.model_fields, "job_id"]) | st.text(max_size=8), json_values)


# ---- the request


def well_refused(error: FaceChangerError) -> None:
    assert error.what
    assert error.hint
    assert len(str(error)) < 600


@shared(max_examples=200)
@given(fields | json_values)
def test_a_request_of_any_json(value: Any) -> None:
    for given_as in (value, json.dumps(value)):
        try:
            request = parse_request(given_as)
        except RejectedError as error:
            well_refused(error)
        else:
            assert parse_request(request.model_dump(mode="json")) == request


@shared(max_examples=200)
@given(st.text() | st.text(alphabet='{}[]":,0123456789.eE-ntfu\\ ', max_size=60))
@example('{"seed": 1e999}')
@example('{"pony_prompt": "\\ud800"}')
@example('{"tags": {"\\u0000": "x"}, "pony_prompt": "x"}')
def test_a_request_of_any_text(text: str) -> None:
    try:
        parse_request(text)
    except RejectedError as error:
        well_refused(error)


# ---- the photo


def _photos() -> dict[str, bytes]:
    import pillow_heif

    pillow_heif.register_heif_opener()
    pixels = np.random.default_rng(8).integers(0, 256, (72, 88, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    found = {}
    for kind in ("PNG", "JPEG", "WEBP", "HEIF"):
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, kind, exif=exif)
        found[kind] = file.getvalue()
    return found


PHOTOS = _photos()

places = st.floats(0, 1, exclude_max=True)
"""A place in a file, as a part of its length."""


@st.composite
def broken_photos(draw: st.DrawFn) -> bytes:
    """A photo with bytes changed, taken out, doubled, put in, and cut off; the changes gather in the headers."""
    data = bytearray(PHOTOS[draw(st.sampled_from(sorted(PHOTOS)))])
    for _ in range(draw(st.integers(1, 5))):
        if not data:
            break
        at = int(draw(places) * min(len(data), draw(st.sampled_from([40, 400, 1 << 20]))))
        change = draw(st.sampled_from(["set", "set", "set", "remove", "double", "insert", "number"]))
        if change == "set":
            data[at] = draw(st.integers(0, 255))
        elif change == "remove":
            del data[at : at + draw(st.integers(1, 64))]
        elif change == "double":
            data[at:at] = data[at : at + draw(st.integers(1, 64))]
        elif change == "insert":
            data[at:at] = draw(st.binary(min_size=1, max_size=16))
        else:  # the numbers at which sizes overflow
            data[at : at + 4] = struct.pack(">I", draw(st.sampled_from([0, 1, 2**16, 2**31 - 1, 2**31, 2**32 - 1])))
    if draw(st.booleans()):
        del data[int(draw(places) * len(data)) :]
    return bytes(data)


@pytest.fixture
def photo_store(tmp_path: Path) -> ImageStore:
    return ImageStore(str(tmp_path / "store"))


@pytest.mark.filterwarnings("ignore")
@shared(max_examples=300)
@given(data=broken_photos() | st.binary(max_size=200))
def test_any_photo_is_imported_or_refused(tmp_path: Path, photo_store: ImageStore, data: bytes) -> None:
    path = tmp_path / "photo"
    path.write_bytes(data)
    try:
        source = import_source(str(path), settings=Settings(), store=photo_store)
    except InvalidImageError as error:
        well_refused(error)
    else:
        pixels = load_source(source, photo_store).pixels
        assert pixels.shape == (source.height, source.width, 3)
        assert photo_store.read(*source.stored.split("/")) == data


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


@st.composite
def made_up_pngs(draw: st.DrawFn) -> bytes:
    """PNGs whose checksums are right, so that the readers look at what the chunks say."""
    sides = st.sampled_from([0, 1, 64, 65, 7000, 2**31 - 1, 2**32 - 1])
    header = struct.pack(">IIBBBBB", draw(sides), draw(sides), *draw(st.tuples(*[st.integers(0, 8)] * 5)))
    kinds = st.sampled_from([b"IDAT", b"PLTE", b"tRNS", b"iCCP", b"eXIf", b"gAMA", b"acTL", b"fcTL", b"sRGB", b"tEXt"])
    bodies = st.binary(max_size=64) | st.binary(max_size=64).map(lambda data: b"x\0\0" + zlib.compress(data))
    chunks = [_chunk(b"IHDR", header)] if draw(st.integers(0, 9)) else []
    chunks += [_chunk(kind, body) for kind, body in draw(st.lists(st.tuples(kinds, bodies), max_size=6))]
    chunks.append(_chunk(b"IDAT", zlib.compress(bytes(draw(st.integers(0, 20_000))))))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks) + _chunk(b"IEND", b"")


@pytest.mark.filterwarnings("ignore")
@shared(max_examples=300)
@given(data=made_up_pngs())
def test_any_png_of_sound_chunks_is_imported_or_refused(tmp_path: Path, photo_store: ImageStore, data: bytes) -> None:
    path = tmp_path / "photo"
    path.write_bytes(data)
    for read in (
        lambda: import_source(str(path), settings=Settings(), store=photo_store),
        lambda: read_provenance(data),
        lambda: decode_png_exact(data),
    ):
        with suppress(InvalidImageError):
            read()


# ---- the address of a photo


@pytest.fixture
def _no_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """No name is known, so nothing is connected to."""

    def unknown(host: Any, *_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)


@pytest.mark.usefixtures("_no_names")
@shared(max_examples=300)
@given(
    source=st.text(max_size=60)
    | st.text(alphabet="htpsf:/@.%[]0123456789aéß☃\\?# \n", max_size=40).map("http://".__add__)
    | st.text(max_size=20).map("HTTPS://user:password@host/".__add__)
)
@example(source="http://a:99999/")
@example(source="http://[::1")
@example(source="http://" + "a" * 300)
@example(source="http://\ud800/")
def test_any_source_is_refused(photo_store: ImageStore, source: str) -> None:
    try:
        import_source(source, settings=Settings(source_urls=True), store=photo_store)
    except InvalidImageError as error:
        well_refused(error)
    assert "password" not in without_secrets(source)


@pytest.fixture
def answering() -> Iterator[tuple[str, list[bytes]]]:
    """A server that sends the last of a list of answers, whatever it is asked, and hangs up."""
    answers = [b""]
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                with client, suppress(OSError):
                    client.recv(65536)
                    client.sendall(answers[-1])

    thread = threading.Thread(target=serve)
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}/", answers
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()


header_lines = st.tuples(
    st.sampled_from([b"Content-Length", b"Location", b"Content-Encoding", b"Transfer-Encoding", b"Connection"])
    | st.binary(max_size=8),
    st.sampled_from([b"-1", b"1e9", b"7", b"chunked", b"gzip", b"/", b"http://[", b"\xff", b"99999999999999999999"])
    | st.binary(max_size=12),
).map(b": ".join)


@shared(max_examples=150)
@given(
    answer=st.binary(max_size=80)
    | st.builds(
        lambda status, lines, body: b"\r\n".join([b"HTTP/1.1 %d x" % status, *lines, b"", body]),
        st.sampled_from([100, 200, 206, 301, 302, 404, 999]),
        st.lists(header_lines, max_size=4),
        st.binary(max_size=40),
    )
)
def test_any_answer_of_a_server(answering: tuple[str, list[bytes]], answer: bytes) -> None:
    url, answers = answering
    answers.append(answer)
    try:
        fetch_photo(url, max_bytes=1000, seconds=5, allowed="127.0.0.1".__eq__)
    except InvalidImageError as error:
        well_refused(error)


# ---- the inbox


@pytest.fixture(scope="module")
def inbox_database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    database = open_database(f"sqlite:///{tmp_path_factory.mktemp('inbox') / 'a.sqlite'}")
    yield database
    database.dispose()


file_names = st.builds(
    bytes.__add__,
    st.binary(min_size=1, max_size=40).map(lambda name: name.replace(b"/", b"_").replace(b"\0", b"_")),
    st.sampled_from([suffix.encode() for suffix in REQUEST_SUFFIXES] + [b".JSON", b"", b".part"]),
).filter(lambda name: name not in (b".", b".."))
file_contents = (
    st.binary(max_size=200)
    | fields.map(lambda value: json.dumps(value).encode())
    | st.lists(fields, max_size=2).map(lambda value: json.dumps(value).encode())
    | fields.map(lambda value: json.dumps({"pony_prompt": "a lighthouse keeper", **value}).encode())
)


@shared(max_examples=60)
@given(files=st.dictionaries(file_names, file_contents, max_size=3))
def test_any_files_in_the_inbox(
    tmp_path_factory: pytest.TempPathFactory, inbox_database: Database, files: dict[bytes, bytes]
) -> None:
    """Whatever is dropped, nothing is lost: each request file is put aside whole, and the others are left alone."""
    folder = tmp_path_factory.mktemp("inbox")
    for name, content in files.items():
        path = os.path.join(os.fsencode(folder), name)  # noqa: PTH118 - pathlib takes no bytes
        with open(path, "wb") as file:  # noqa: PTH123
            file.write(content)
        os.utime(path, (time.time() - 60,) * 2)
    queue = JobQueue(inbox_database)
    before = len(queue.find())
    report = take_inbox(folder, queue=queue, store=ImageStore(str(folder / "store")), settings=Settings())
    assert len(queue.find()) - before == sum(map(len, report.accepted.values()))
    assert not report.waiting
    kept = sorted(
        path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.suffixes[-2:] != [".error", ".txt"]
    )
    assert kept == sorted(files.values())


# ---- the record in a PNG


@st.composite
def texts_in_a_png(draw: st.DrawFn) -> bytes:
    keywords = st.sampled_from([b"parameters", b"face-changer", b"XML:com.adobe.xmp", b""]) | st.binary(max_size=12)
    texts = st.binary(max_size=60) | json_values.map(lambda value: json.dumps(value).encode())
    chunks = []
    for kind, keyword, text in draw(
        st.lists(st.tuples(st.sampled_from([b"tEXt", b"zTXt", b"iTXt"]), keywords, texts), max_size=5)
    ):
        body = {
            b"tEXt": keyword + b"\0" + text,
            b"zTXt": keyword + b"\0\0" + zlib.compress(text),
            b"iTXt": keyword + b"\0" + draw(st.sampled_from([b"\0\0\0\0", b"\1\0\0\0", b""])) + text,
        }[kind]
        chunks.append(_chunk(kind, body))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks) + draw(st.sampled_from([_chunk(b"IEND", b""), b""]))


@shared(max_examples=300)
@given(texts_in_a_png())
def test_any_text_in_a_png(data: bytes) -> None:
    try:
        found = read_provenance(data)
    except InvalidImageError as error:
        well_refused(error)
    else:
        if found is not None and found["parameters"] is not None:
            assert set(parse_a1111(found["parameters"])) == {"prompt", "negative_prompt", "settings"}
