"""Fetching one file over HTTP: whole, checked and under its name, or not at all.

The bytes go into `NAME.part`. Beside it, `NAME.part.json` keeps the address and the server's ETag, so that a later
call goes on where this one stopped, and starts over when the file has changed (RFC 9110, If-Range). Only a file that
is whole and checked gets its name.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final
from urllib.parse import SplitResult, unquote, urlsplit

from imaging.errors import BackendError, RejectedError, SettingsError, TransientError
from resources.models.weights import (
    NO_PICKLES,
    NOT_PICKLED,
    PICKLES,
    Progress,
    is_web_page,
    read_tensors,
    sha256_of,
    silent,
    web_page,
)
from resources.retries import retry_after

if TYPE_CHECKING:
    import httpx2

SUFFIXES: Final = (".safetensors", ".onnx")
SPARE: Final = 256 * 1024**2  # bytes that a download leaves free on the disk

_HUB_HOSTS: Final = ("huggingface.co", "hf.co")
_OWN_MACHINE: Final = ("127.0.0.1", "::1", "localhost")
_LONGEST_WAIT: Final = 60.0
_PASSING: Final = (408, 425, 429, 500, 502, 503, 504)


@dataclass(frozen=True, slots=True)
class Limits:
    """When a download is given up.

    Attributes:
        connect: seconds until the server must have answered the connection.
        silence: seconds that it may send nothing.
        tries: how many in a row may bring nothing new.
        wait: seconds before the second try; doubled for each further one, to a minute at most.
    """

    connect: float = 15.0
    silence: float = 60.0
    tries: int = 5
    wait: float = 1.0


def file_name(url: str) -> str:
    """The name of the file behind an address.

    Raises:
        RejectedError: the address cannot be used, or names no file that may be kept.
    """
    parts = _split(url)
    return check_name(unquote(parts.path.rsplit("/", 1)[-1]), shown(url))


def check_name(name: str, where: str = "") -> str:
    """The name itself, when a file may be kept under it.

    Raises:
        RejectedError: it is empty, leads to another folder, or is that of a pickle or of something else.
    """
    source = f" of {where}" if where else ""
    if name.lower().endswith(PICKLES):
        raise RejectedError(f"{name} is a pickle. {NO_PICKLES}", NOT_PICKLED)
    if not name.lower().endswith(SUFFIXES) or not name.isprintable() or re.search(r"[/\\]|^\.", name):
        raise RejectedError(
            f"{name!r}{source} is not the name of a {' or '.join(SUFFIXES)} file.", "Give one: --name NAME.safetensors."
        )
    return name


def shown(url: str) -> str:
    """An address as it may be printed: without its query, which may hold a key."""
    return url.partition("?")[0].partition("#")[0]


def token_for(url: str, variable: str, environment: Mapping[str, str]) -> str:
    """The token to send to the address's own host; empty for none. It is never printed.

    Args:
        url: where the file is fetched from.
        variable: the environment variable that holds the token; empty: `HF_TOKEN`, for the Hub alone.
        environment: where it is looked up.

    Raises:
        SettingsError: the variable is named and is empty.
        RejectedError: the token would travel in the clear.
    """
    parts = _split(url)
    host = parts.hostname or ""
    if not variable:
        hub = parts.scheme == "https" and host in _HUB_HOSTS
        return environment.get("HF_TOKEN", "") if hub else ""
    if not environment.get(variable):
        raise SettingsError(f"{variable} is empty, and --token-env names it.", f"Set {variable} to the token.")
    if parts.scheme != "https" and host not in _OWN_MACHINE:
        raise RejectedError(f"A token would be sent to {host} in the clear.", "Use an https address.")
    return environment[variable]


def fetch(
    url: str,
    target: Path,
    *,
    sha256: str = "",
    token: str = "",
    progress: Progress = silent,
    limits: Limits | None = None,
) -> str:
    """Fetch a file, or go on with what an earlier call left; a file that is there already is only checked.

    Args:
        url: http or https. Redirects are followed, but not from https to http.
        target: the file to make; its folder is made when it is missing.
        sha256: what the file must have, as 64 hexadecimal digits; empty: anything.
        token: sent as `Authorization: Bearer` to the address's own origin, and to no other.
        progress: told how far it is.
        limits: when to give up.

    Returns:
        The file's SHA-256.

    Raises:
        RejectedError: the address or the SHA-256 cannot be used.
        TransientError: the server was not reached, or broke off too often; what came is kept, and a call goes on.
        BackendError: the server refuses, the file is not what it should be, or the disk is full.
    """
    _split(url)
    if sha256 and not re.fullmatch(r"[0-9a-fA-F]{64}", sha256):
        raise RejectedError(f"{sha256!r} is not a SHA-256.", "Give its 64 hexadecimal digits.")
    try:
        if target.exists():
            return _checked(target, str(target), sha256, progress, "Move it away, and fetch it again.")
        target.parent.mkdir(parents=True, exist_ok=True)
        with _part_file(target) as part:
            _fetch_all(url, part, token, progress, limits or Limits())
            try:
                digest = _checked(part.path, shown(url), sha256, progress, "Fetch it again, or from another address.")
            except BackendError:
                part.discard()
                raise
            os.fsync(part.file.fileno())
            part.path.replace(target)
            part.notes.unlink(missing_ok=True)
    except OSError as error:
        raise BackendError(
            f"{target} cannot be read or written: {error.strerror or error}.",
            "Free some space, or use another folder: --to.",
        ) from error
    return digest


def _checked(path: Path, name: str, sha256: str, progress: Progress, hint: str) -> str:
    """The SHA-256 of a file that is what it should be; errors call it by `name`."""
    with path.open("rb") as file:
        if is_web_page(file.read(512)):
            raise web_page(name)
    digest = sha256_of(path, progress)
    if sha256 and digest != sha256.lower():
        raise BackendError(f"{name} is another file: its SHA-256 is {digest}, not {sha256.lower()}.", hint)
    if ".safetensors" in path.suffixes:
        read_tensors(path, name)
    return digest


class _AgainError(Exception):
    """A fault that may pass. `wait`: seconds for which the server asks."""

    def __init__(self, why: str, wait: float = 0.0) -> None:
        self.wait = wait
        super().__init__(why)


@dataclass(frozen=True, slots=True)
class _Origin:
    """Where the bytes of a part come from: the address, the ETag or date of the file there, and its size."""

    url: str
    validator: str
    total: int | None


@dataclass(frozen=True, slots=True)
class _Part:
    """The unfinished file, open and locked, and the notes on its origin."""

    path: Path
    file: IO[bytes]

    @property
    def notes(self) -> Path:
        return self.path.with_name(self.path.name + ".json")

    def size(self) -> int:
        return os.fstat(self.file.fileno()).st_size

    def origin(self) -> _Origin | None:
        """What the notes say; None when there are none that can be used, and the download starts over."""
        try:
            noted: Any = json.loads(self.notes.read_text(encoding="utf-8"))
            return _Origin(str(noted["url"]), str(noted["validator"]), noted["total"])
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None

    def start_over(self, origin: _Origin | None = None) -> None:
        self.notes.unlink(missing_ok=True)  # first: bytes without notes are never gone on with
        self.file.truncate(0)
        if origin is not None and origin.validator:
            self.notes.write_text(json.dumps(asdict(origin)), encoding="utf-8")

    def discard(self) -> None:
        self.notes.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)


@contextmanager
def _part_file(target: Path) -> Iterator[_Part]:
    path = target.with_name(target.name + ".part")
    with path.open("ab+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            mine = path.stat().st_ino == os.fstat(file.fileno()).st_ino
        except (BlockingIOError, FileNotFoundError):
            mine = False
        if not mine:  # another process holds it, or has just given it its name
            raise BackendError(f"Another process is fetching {target} now.", "Wait until it is done.")
        yield _Part(path, file)


def _fetch_all(url: str, part: _Part, token: str, progress: Progress, limits: Limits) -> None:
    """Fetch until the part is whole, through faults that pass."""
    import httpx2

    timeout = httpx2.Timeout(limits.silence, connect=limits.connect)
    best, failed = part.size(), 0
    with httpx2.Client(timeout=timeout, follow_redirects=True, max_redirects=10) as client:
        while True:
            try:
                return _fetch_rest(client, url, part, token, progress)
            except httpx2.UnsupportedProtocol:
                raise BackendError(f"{shown(url)} leads away from http and https.", "Correct the address.") from None
            except httpx2.TooManyRedirects:
                raise BackendError(f"{shown(url)} leads in a circle of redirects.", "Correct the address.") from None
            except (_AgainError, httpx2.TransportError) as error:
                fault = error
            finally:
                part.file.flush()
            failed = 1 if part.size() > best else failed + 1
            best = max(best, part.size())
            if failed >= limits.tries:
                why = str(fault) or type(fault).__name__
                raise TransientError(
                    f"{shown(url)} could not be fetched in {failed} tries in a row ({why}).",
                    "Run the same again later; it goes on where it stopped.",
                ) from fault
            asked = fault.wait if isinstance(fault, _AgainError) else 0.0
            time.sleep(min(max(asked, limits.wait * 2 ** (failed - 1)), _LONGEST_WAIT))


def _fetch_rest(client: httpx2.Client, url: str, part: _Part, token: str, progress: Progress) -> None:
    """One request: append what is missing, or start over when the server's file is not the one that was begun."""
    what = f"fetch {part.path.stem}"
    origin, have = part.origin(), part.size()
    if origin is None or origin.url != _identity(url) or (origin.total is not None and have > origin.total):
        origin, have = None, 0
    if origin is not None and have == origin.total:
        return
    headers = {"Accept-Encoding": "identity"}  # a range of a compressed answer is of no use
    if token:
        headers["Authorization"] = f"Bearer {token}"
    if have and origin is not None:
        headers |= {"Range": f"bytes={have}-", "If-Range": origin.validator}
    with client.stream("GET", url, headers=headers) as response:
        _check_answer(response, url, has_token=bool(token))
        there = _range(response)
        if response.status_code == 206 and there == (have, origin and origin.total):
            total = there[1]
        elif response.status_code == 200:
            length = response.headers.get("Content-Length", "")
            total, have = int(length) if length.isdigit() else None, 0
            part.start_over(_Origin(_identity(url), _validator(response), total))
        else:
            part.start_over()
            raise _AgainError(f"the server answered {response.status_code} with another range than was asked for")
        check_space(part.path.parent, 0 if total is None else total - have)
        progress(what, have, total)
        for chunk in response.iter_raw():
            part.file.write(chunk)
            have += len(chunk)
            progress(what, have, total)
    if total is not None and have != total:
        raise _AgainError(f"{have} of {total} bytes came")


def _check_answer(response: httpx2.Response, url: str, *, has_token: bool) -> None:
    """Raise for an answer that brings no file."""
    schemes = [answer.url.scheme for answer in (*response.history, response)]
    if "https" in schemes and "http" in schemes[schemes.index("https") :]:
        raise BackendError(
            f"{shown(url)} leads from https to plain http, which is not followed.", "Use another address."
        )
    status = response.status_code
    if status in _PASSING:
        raise _AgainError(f"the server answered {status}", retry_after(response.headers) or 0.0)
    if status in (401, 403):
        raise BackendError(
            f"{shown(url)} needs a login: the server answered {status}"
            + (", and does not take the token." if has_token else ", and no token was sent."),
            "Accept the model's terms on its page, and name the variable that holds your token: --token-env NAME "
            "(on huggingface.co: HF_TOKEN).",
        )
    if status == 416:
        return  # the caller starts over
    if status not in (200, 206):
        raise BackendError(f"{shown(url)}: the server answered {status}.", "Correct the address.")
    if response.headers.get("Content-Type", "").lower().startswith(("text/html", "application/xhtml")):
        raise web_page(shown(url))
    if response.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise BackendError(f"{shown(url)}: the server sends it compressed, unasked.", "Use another address.")


def _range(response: httpx2.Response) -> tuple[int, int | None] | None:
    """The first byte of a partial answer, and the size of the whole."""
    found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
    return found and (int(found[1]), None if found[2] == "*" else int(found[2]))


def _validator(response: httpx2.Response) -> str:
    """What `If-Range` may say of this file: a strong ETag, else its date, else nothing, and it is not gone on with."""
    etag: str = response.headers.get("ETag", "")
    return etag if etag.startswith('"') else response.headers.get("Last-Modified", "")


def check_space(folder: Path, needed: int) -> None:
    """Check that a download of so many bytes leaves room on the folder's disk; the folder may not exist yet.

    Raises:
        BackendError: it does not.
    """
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free = shutil.disk_usage(there).free
    if needed + SPARE > free:
        raise BackendError(
            f"{there} has {free / 1024**3:.1f} GiB free, and the download needs {needed / 1024**3:.1f} GiB more.",
            "Free some space, or use another folder: --to.",
        )


def _identity(url: str) -> str:
    """What tells addresses apart in the notes, without the query itself, which may hold a key."""
    return f"{shown(url)} {hashlib.sha256(url.encode()).hexdigest()[:16]}"


def _split(url: str) -> SplitResult:
    """The parts of an address that may be fetched.

    Raises:
        RejectedError: it is not one.
    """
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0 and url.isprintable()
    except ValueError:  # brackets that do not match, or a port that is no number
        parts, usable = None, False
    if parts is not None and "@" in parts.netloc:
        raise RejectedError(
            f"The address at {parts.hostname} holds a password.", "Put it into a variable, and use --token-env NAME."
        )
    if parts is None or not usable:
        raise RejectedError(f"{shown(url)!r} is not an address to fetch from.", "Give one that begins with https://.")
    return parts
