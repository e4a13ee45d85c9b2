"""Which requests a browser could have been made to send by a foreign page, and are refused.

Dagster's web server has no log-in, so all that keeps other pages of the user's browser out is what a browser says about
its requests: `Host` (against DNS rebinding), `Origin` and `Sec-Fetch-Site` (against cross-site requests). What a proxy
adds, such as `X-Forwarded-Host`, is not looked at: a page can say anything there.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection
from typing import Final, NamedTuple

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

SAFE_METHODS: Final = ("GET", "HEAD")
FORM_TYPES: Final = ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data")
"""The media types that a page may send to any address without asking that address first."""

_ADDRESS: Final = re.compile(r"(?P<name>\[[0-9a-f:.]+\]|[a-z0-9_.-]+?)\.?(?::(?P<port>\d{1,5}))?")
_ORIGIN: Final = re.compile(r"(?P<scheme>https?)://(?P<address>.+)")
_DEFAULT_PORTS: Final = {"http": "80", "https": "443"}


class Address(NamedTuple):
    """A name or IP address as it stands in a URL, in lower case, and the port if one is told."""

    name: str
    port: str | None


class Refusal(NamedTuple):
    """Why a request is refused: the HTTP status, what is wrong, and how to allow it."""

    status: int
    what: str
    hint: str

    @property
    def text(self) -> str:
        """What is answered."""
        return f"Refused: {self.what}\nFix: {self.hint}\n"


class Guard:
    """ASGI middleware that answers requests of foreign pages itself, HTTP and websockets, whatever their path.

    Args:
        app: what is guarded.
        hosts: names that clients may use besides this machine's loopback names and the address that their connection
            came in at: `name`, `name:port`, or `*.domain` for the names below it.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str]) -> None:
        self._app = app
        self._hosts = frozenset(host.lower() for host in hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or hand on."""
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
        elif refusal := self._refusal(scope):
            answer = PlainTextResponse(refusal.text, refusal.status, {"X-Content-Type-Options": "nosniff"})
            await answer(scope, receive, send)
        else:
            await self._app(scope, receive, _not_in_foreign_frames(send))

    def _refusal(self, scope: Scope) -> Refusal | None:
        headers = Headers(scope=scope)
        method = scope.get("method", "GET")  # a websocket's handshake is a GET
        named = headers.getlist("host")
        host = address(named[0]) if len(named) == 1 else None
        if host is None or not self._is_allowed(host, scope):
            return Refusal(
                403,
                f"the host {_shown(named)} is not one of this server's.",
                "add its name to FC_ALLOWED_HOSTS and start the server again, or use the address that it listens on.",
            )
        origins = headers.getlist("origin")
        if not all(_is_same(origin, host) for origin in origins):
            return Refusal(
                403,
                f"the request comes from a page of {_shown(origins)}, which is not {_shown(named)}.",
                "open this server's own address. A proxy before it must pass on `Host` as the browser sent it.",
            )
        sites = headers.getlist("sec-fetch-site")
        if not set(sites) <= {"same-origin", "none"} and not (method in SAFE_METHODS and _is_navigation(headers)):
            return Refusal(
                403,
                f"a page of another site sent the request (Sec-Fetch-Site: {', '.join(sites)[:40]}).",
                "open this server's own address. Other sites may link to it, and nothing more.",
            )
        if method not in SAFE_METHODS and not origins and media_type(headers) in FORM_TYPES:
            return Refusal(
                415,
                f"{method} with Content-Type {media_type(headers)}, as foreign forms send it, and without Origin.",
                "send application/json.",
            )
        return None

    def _is_allowed(self, host: Address, scope: Scope) -> bool:
        name, port = host
        names = {name, *(f"*{name[place:]}" for place, letter in enumerate(name) if letter == "." and place)}
        if name == "localhost" or not self._hosts.isdisjoint(names | {f"{one}:{port}" for one in names}):
            return True
        server, ip = (scope.get("server") or ("",))[0], _ip(name.strip("[]"))
        return ip is not None and (ip.is_loopback or ip == _ip(server))


def address(text: str) -> Address | None:
    """What stands in `Host`; None when it is no name or IP address with or without a port."""
    found = _ADDRESS.fullmatch(text.strip().lower())
    return Address(found["name"], found["port"]) if found else None


def media_type(headers: Headers) -> str:
    """The media type of `Content-Type`, without its parameters; empty when there is none."""
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def _is_same(origin: str, host: Address) -> bool:
    """Whether a page's origin is what the browser took for this server: name and port.

    The scheme is not compared, for a proxy may speak TLS for this server; it only tells which port is meant by none.
    """
    found = _ORIGIN.fullmatch(origin.strip().lower())
    page = address(found["address"]) if found else None
    if found is None or page is None:
        return False  # "null" and the pages of browser extensions, too
    default = _DEFAULT_PORTS[found["scheme"]]
    return page.name == host.name and (page.port or default) == (host.port or default)


def _is_navigation(headers: Headers) -> bool:
    """Whether a person opens an address in a tab, not in a frame."""
    return headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"


def _ip(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found


def _shown(values: Collection[str]) -> str:
    return ", ".join(repr(value[:100]) for value in values) or "(none)"


def _not_in_foreign_frames(send: Send) -> Send:
    """Browsers do not show answers inside another site's page, where clicks could be stolen."""

    async def send_with_header(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message)["X-Frame-Options"] = "SAMEORIGIN"
        await send(message)

    return send_with_header
