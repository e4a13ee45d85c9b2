"""Source photos by address: one GET over HTTP, to public machines only.

A request may come from a stranger, and this machine may reach what strangers may not: itself, the local network, a
cloud's metadata server. So the connection itself decides: the name is resolved once, every address must be public, and
it is one of these very addresses that is connected to. A redirect is a new connection, and a name that answers
otherwise the next time (DNS rebinding) is not asked a next time. The `Host` header and the name in the TLS certificate
stay those of the URL. Proxies of the environment are not used: behind one, no address could be checked.
"""

from __future__ import annotations

import ipaddress
import socket
import ssl
import time
from collections.abc import Callable, Iterable
from typing import Any, Final

import httpcore2
import httpx2

from imaging.errors import InvalidImageError
from resources.sources.names import without_secrets

SECONDS: Final = 30.0
MAX_REDIRECTS: Final = 5
_SILENCE: Final = 10.0  # seconds that the server may take to connect, or send nothing
_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")  # RFC 6052: the last 32 bits are an IPv4 address
_REDIRECTS: Final = (301, 302, 303, 307, 308)
_TRY_LATER: Final = "Submit it again later, or download the photo and give its path."

Allowed = Callable[[str], bool]


def is_public(address: str) -> bool:
    """Whether an IP address belongs to the public internet.

    Private, loopback, link-local, shared, multicast and reserved ones do not, nor an IPv6 address that stands for an
    IPv4 address of these kinds.
    """
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        nat64 = ipaddress.IPv4Address(found.packed[-4:]) if found in _NAT64 else None
        inner = found.ipv4_mapped or found.sixtofour or nat64
        if inner is not None:
            return is_public(str(inner))
        if found.is_site_local:
            return False
    return found.is_global and not found.is_multicast and not found.is_reserved


def fetch_photo(url: str, *, max_bytes: int, seconds: float = SECONDS, allowed: Allowed = is_public) -> bytes:
    """Fetch a file from a public address. It is asked for once: whoever gave the address can give it again.

    Args:
        url: http or https, any port, without user and password. At most `MAX_REDIRECTS` redirects are followed, none
            from https to http.
        max_bytes: largest file.
        seconds: for the whole; only looking up a name takes as long as the machine's resolver allows.
        allowed: tells whether an IP address may be connected to.

    Raises:
        InvalidImageError: the address is not allowed, does not answer with a file, or takes too long. No message holds
            the query of an address, which may be a key.
    """
    here = _parsed(url, without_secrets(url))
    network = _Network(allowed, time.monotonic() + seconds)
    with httpcore2.ConnectionPool(ssl_context=httpx2.create_ssl_context(), network_backend=network) as pool:
        for _ in range(MAX_REDIRECTS + 1):
            name = without_secrets(str(here))
            try:
                found = _get(pool, here, name, max_bytes)
            except httpcore2.TimeoutException:
                raise InvalidImageError(f"{name} did not answer in time.", _TRY_LATER) from None
            except (httpcore2.NetworkError, httpcore2.ProtocolError) as error:
                reason = " ".join(str(error).split())[:200] or type(error).__name__
                raise InvalidImageError(f"{name} cannot be fetched: {reason}.", _TRY_LATER) from None
            if isinstance(found, bytes):
                return found
            here = _redirected(here, found, name)
    raise InvalidImageError(
        f"{without_secrets(url)} leads through more than {MAX_REDIRECTS} redirects.", "Correct the address."
    )


def _parsed(url: str, name: str) -> httpx2.URL:
    try:
        parsed = httpx2.URL(url)
    except (httpx2.InvalidURL, ValueError) as error:  # ValueError: a host that IDNA cannot encode
        raise InvalidImageError(f"{name!r} is not an address: {error}.", "Correct the address.") from None
    if parsed.userinfo:
        raise InvalidImageError(
            f"The address at {parsed.host} holds a user or password, which would be kept with the job.",
            "Download the photo, and give its path.",
        )
    if parsed.scheme not in ("http", "https") or not parsed.host or not 0 < (parsed.port or 80) < 65536:
        raise InvalidImageError(f"{name!r} is not an http or https address.", "Give one that begins with https://.")
    return parsed


def _redirected(here: httpx2.URL, location: str, name: str) -> httpx2.URL:
    try:
        there = here.join(location)
    except (httpx2.InvalidURL, ValueError):
        raise InvalidImageError(f"{name} leads to what is no address.", "Correct the address.") from None
    if here.scheme == "https" and there.scheme == "http":
        raise InvalidImageError(f"{name} leads from https to plain http.", "Use another address.")
    return _parsed(str(there), without_secrets(str(there)))


def _get(pool: httpcore2.ConnectionPool, url: httpx2.URL, name: str, max_bytes: int) -> bytes | str:
    """The file, or where a redirect leads to."""
    target = httpcore2.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
    headers: dict[bytes | str, bytes | str] = {
        "Host": url.netloc.decode("ascii"),
        "Accept": "image/*",
        "Accept-Encoding": "identity",
    }
    timeout = dict.fromkeys(("connect", "read", "write", "pool"), _SILENCE)
    with pool.stream("GET", target, headers=headers, extensions={"timeout": timeout}) as response:
        answer = httpx2.Headers(response.headers)
        if response.status in _REDIRECTS and "Location" in answer:
            return answer["Location"]
        if response.status != 200:
            raise InvalidImageError(f"{name}: the server answered {response.status}.", "Correct the address.")
        if answer.get("Content-Encoding", "identity").lower() != "identity":
            raise InvalidImageError(f"{name} comes compressed, unasked.", "Download the photo, and give its path.")
        length = answer.get("Content-Length", "")
        parts, size = [], int(length) if length.isdecimal() else 0
        if size <= max_bytes:
            size = 0
            for part in response.iter_stream():
                parts.append(part)
                size += len(part)
                if size > max_bytes:
                    break
        if size > max_bytes:
            raise InvalidImageError(
                f"{name} has more than the {max_bytes / 1e6:.0f} MB that are accepted.", "Use a smaller file."
            )
        return b"".join(parts)


class _Network(httpcore2.NetworkBackend):
    """Connects to allowed addresses only, and lets nothing go on after the deadline (of `time.monotonic`)."""

    def __init__(self, allowed: Allowed, deadline: float) -> None:
        self._allowed = allowed
        self._deadline = deadline
        self._plain = httpcore2.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.NetworkStream:
        """Connect to the first address of the host that takes the connection; all of them must be allowed."""
        addresses = self._resolve(host, port)
        for address in addresses:
            try:
                stream = self._plain.connect_tcp(address, port, self.left(timeout), local_address, socket_options)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout):
                if address == addresses[-1]:
                    raise
            else:
                return _Stream(stream, self)
        raise httpcore2.ConnectError(f"{host} has no address")

    def _resolve(self, host: str, port: int) -> list[str]:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise httpcore2.ConnectError(f"the name {host} is not known ({error})") from None
        addresses = list(dict.fromkeys(str(place[0]) for *_, place in found))
        if not all(map(self._allowed, addresses)):
            raise InvalidImageError(
                f"{host} is not a machine of the public internet, so nothing is fetched from it.",
                "Download the photo, and give its path.",
            )
        return addresses

    def left(self, timeout: float | None) -> float:
        """The seconds that one step may take."""
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise httpcore2.ReadTimeout("the time is over")
        return left if timeout is None else min(timeout, left)


class _Stream(httpcore2.NetworkStream):
    """A connection whose every step ends by the deadline: a server that sends one byte at a time gains nothing."""

    def __init__(self, stream: httpcore2.NetworkStream, network: _Network) -> None:
        self._stream = stream
        self._network = network

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._network.left(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, self._network.left(timeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.NetworkStream:
        left = self._network.left(timeout)
        return _Stream(self._stream.start_tls(ssl_context, server_hostname, left), self._network)

    def get_extra_info(self, info: str) -> Any:  # noqa: ANN401 - as the base class has it
        return self._stream.get_extra_info(info)
