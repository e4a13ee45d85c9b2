"""The web server as a process of its own, asked over loopback as foreign pages and as its own page would ask it."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import sys
from collections.abc import Iterator
from contextlib import closing
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlencode

import dagster as dg
import pytest
from pydantic import ValidationError

from jobs.cli.processes import Services
from jobs.cli.up import answers
from resources.settings import PROJECT_ROOT, Settings

MUTATION = "mutation Seen { setNuxSeen }"
QUERY = "query Version { version }"
JSON = {"Content-Type": "application/json"}
EVIL = {"Origin": "http://evil.example"}
HANDSHAKE = {
    "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Protocol": "graphql-ws",
}  # fmt: skip


class Server:
    """Where it listens, and requests to it, header by header."""

    def __init__(self, port: int, prefix: str = "") -> None:
        self.port, self.prefix = port, prefix

    def ask(self, method: str, path: str, headers: dict[str, str] | None = None, body: str = "") -> tuple[int, str]:
        """The status and the text of the answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        with closing(connection):
            connection.request(method, self.prefix + path, body or None, headers or {})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()

    def shake_hands(self, headers: dict[str, str]) -> int:
        """Ask for a websocket; the status, 101 when it is opened."""
        lines = {"Host": f"localhost:{self.port}"} | HANDSHAKE | headers
        with socket.create_connection(("127.0.0.1", self.port), timeout=60) as raw:
            head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
            raw.sendall(f"GET {self.prefix}/graphql HTTP/1.1\r\n{head}\r\n".encode())
            return int(raw.makefile("rb").readline().split()[1])


def by_get(query: str, **more: str) -> str:
    return f"/graphql?{urlencode({'query': query, **more})}"


def started(home: Path, *options: str) -> tuple[Services, int]:
    home.mkdir()
    shutil.copy(PROJECT_ROOT / "dagster.yaml", home)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DAGSTER_HOME", str(home))
        with dg.DagsterInstance.from_config(str(home)) as instance:
            instance.get_runs(limit=1)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "web.server", "--empty-workspace", "--port", str(port), *options]
    environment = {
        "DAGSTER_HOME": str(home), "PYTHONPATH": str(PROJECT_ROOT),
        "FC_ALLOWED_HOSTS": "faces.example.org, *.lan.example.org,ported.example.org:8443",
    }  # fmt: skip
    return Services({"webserver": command}, logs=home / "service-logs", env=os.environ | environment), port


@pytest.fixture(scope="module", params=["", "/faces"], ids=["root", "prefix"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    prefix = request.param
    services, port = started(tmp_path_factory.mktemp("web") / "home", "--path-prefix", prefix)
    found = Server(port, prefix)
    with services:
        services.wait_until(
            lambda: answers("127.0.0.1", port, path=f"{prefix}/server_info"), seconds=120, what="The server"
        )
        yield found


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:{port}", "localhost.evil.example", "127.0.0.1.evil.example", "10.1.2.3", "[fd00::1]",
     "evil@localhost", "localhost:{port}@evil.example", "localhost,evil.example", "", "example.org", "lan.example.org",
     "faces.example.org.evil.example", "evilfaces.example.org", "xlan.example.org", "ported.example.org:80",
     "0.0.0.0", "localhost:notaport", "localhost/"],  # noqa: S104
)  # fmt: skip
def test_a_foreign_host_is_refused_on_every_route(server: Server, host: str) -> None:
    headers = {"Host": host.format(port=server.port)}
    for path in ("/", "/graphql?query={version}", "//graphql?query={version}", "/server_info", "/logs/a/b.out",
                 "/download_debug/run", "/runs", "/favicon.svg", "/notebook"):  # fmt: skip
        status, text = server.ask("GET", path, headers)
        assert status in {400, 403}, path
        assert status == 400 or "FC_ALLOWED_HOSTS" in text
    assert server.ask("POST", "/graphql", headers | JSON, json.dumps({"query": MUTATION}))[0] in {400, 403}
    assert server.ask("POST", "/report_asset_materialization/a", headers | JSON, "{}")[0] in {400, 403}
    assert server.shake_hands(headers) in {400, 403}


@pytest.mark.parametrize(
    "host",
    ["localhost", "localhost:{port}", "LocalHost.:8080", "127.0.0.1:{port}", "127.8.9.10", "[::1]:{port}",
     "faces.example.org", "faces.example.org:8443", "a.lan.example.org", "a.b.lan.example.org:1",
     "ported.example.org:8443"],
)  # fmt: skip
def test_its_own_names_and_those_that_are_allowed_are_answered(server: Server, host: str) -> None:
    headers = {"Host": host.format(port=server.port)}
    assert server.ask("GET", "/server_info", headers)[0] == 200
    assert server.shake_hands(headers) == 101


def test_what_a_proxy_says_of_the_host_is_not_believed(server: Server) -> None:
    told = {"X-Forwarded-Host": "localhost", "Forwarded": "host=localhost", "X-Forwarded-Proto": "https"}
    assert server.ask("GET", "/server_info", told | {"Host": "evil.example"})[0] == 403
    told = {"X-Forwarded-Host": "evil.example", "Forwarded": "host=evil.example"}
    assert server.ask("POST", "/graphql", told | JSON | EVIL, json.dumps({"query": QUERY}))[0] == 403


@pytest.mark.parametrize(
    "origin",
    ["http://evil.example", "https://evil.example:{port}", "null", "http://localhost", "http://localhost:1",
     "http://127.0.0.1:{port}", "http://localhost.evil.example:{port}", "http://localhost:{port}.evil.example",
     "chrome-extension://abc", "http://evil.example@localhost:{port}", "", "http://faces.example.org",
     "http://localhost:{port} http://evil.example"],
)  # fmt: skip
def test_a_foreign_origin_is_refused(server: Server, origin: str) -> None:
    headers = {"Host": f"localhost:{server.port}", "Origin": origin.format(port=server.port)}
    for path in ("/graphql", "//graphql", "/graphql/", "/report_asset_materialization/a", "/report_asset_check/a"):
        status, text = server.ask("POST", path, headers | JSON, json.dumps({"query": MUTATION}))
        assert (status, "comes from a page of" in text) == (403, True)
    assert server.ask("GET", by_get(QUERY), headers)[0] == 403
    assert server.ask("OPTIONS", "/graphql", headers | {"Access-Control-Request-Method": "POST"})[0] == 403
    assert server.shake_hands(headers) == 403


@pytest.mark.parametrize("site", ["cross-site", "same-site", "", "anything"])
def test_what_a_page_of_another_site_loads_is_refused(server: Server, site: str) -> None:
    headers = {"Sec-Fetch-Site": site}
    image = headers | {"Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}
    frame = headers | {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"}
    link = headers | {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    for path in ("/", "/favicon.svg", "/logs/a/b.out", "/download_debug/run", by_get(QUERY)):
        assert [server.ask("GET", path, one)[0] for one in (headers, image, frame)] == [403, 403, 403]
    assert server.ask("GET", "/runs", link)[0] == 200
    assert server.ask("GET", by_get(MUTATION), link)[0] == 405
    assert server.ask("POST", "/graphql", link | JSON, json.dumps({"query": MUTATION}))[0] == 403
    assert server.shake_hands(headers) == 403


@pytest.mark.parametrize(
    "path",
    [
        by_get(MUTATION),
        by_get("mutation { setNuxSeen }"),
        by_get(f"{QUERY} {MUTATION}", operationName="Seen"),
        by_get(f"{QUERY} {MUTATION}", operationName="Version"),
        by_get(f"{QUERY} {MUTATION}"),
        by_get(f"# {QUERY}\n ,, {MUTATION}"),
        by_get(QUERY) + "&" + urlencode({"query": MUTATION}),
        by_get(MUTATION).replace("/graphql", "/%67raphql"),
        by_get("subscription { locationStateChangeEvents { event { message } } }"),
    ],
)
def test_nothing_changes_by_get(server: Server, path: str) -> None:
    status, text = server.ask("GET", path)
    assert (status, "by POST" in text) == (405, True)
    assert json.loads(server.ask("GET", by_get("{ shouldShowNux version }"))[1])["data"]["version"]


@pytest.mark.parametrize("path", ["//graphql", "/graphql/", "/graphql/x", "/./graphql", "/GRAPHQL"])
def test_other_ways_to_write_the_path_lead_to_no_mutation(server: Server, path: str) -> None:
    status, text = server.ask("GET", f"{path}?{urlencode({'query': MUTATION})}")
    assert "setNuxSeen" not in text
    assert status in {200, 404, 405, 307}


def test_queries_by_get_and_malformed_ones_are_dagsters_business(server: Server) -> None:
    assert server.ask("GET", by_get(QUERY))[0] == 200
    status, text = server.ask("GET", by_get("mutation {"))
    assert (status, "Syntax Error" in text) == (400, True)


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "",
             "text/plain; charset=application/json", "TEXT/PLAIN;application/json"],
)  # fmt: skip
def test_what_a_form_sends_is_refused(server: Server, kind: str) -> None:
    headers = {"Content-Type": kind}
    assert server.ask("POST", "/graphql", headers, json.dumps({"query": MUTATION}))[0] == 415
    assert server.ask("POST", by_get(MUTATION), headers)[0] == 415
    own = headers | {"Host": f"localhost:{server.port}", "Origin": f"http://localhost:{server.port}"}
    assert server.ask("POST", "/graphql", own, json.dumps({"query": MUTATION}))[0] == 415
    if kind:
        assert server.ask("POST", "/report_asset_materialization/a", headers, "{}")[0] == 415


@pytest.mark.parametrize(
    ("host", "origin"),
    [("localhost:{port}", "http://localhost:{port}"), ("127.0.0.1:{port}", "http://127.0.0.1:{port}"),
     ("faces.example.org", "https://faces.example.org"), ("faces.example.org", "http://faces.example.org:80"),
     ("a.lan.example.org:8443", "https://a.lan.example.org:8443"), ("[::1]:{port}", "http://[::1]:{port}")],
)  # fmt: skip
def test_its_own_page_does_all_that_it_does(server: Server, host: str, origin: str) -> None:
    headers = {
        "Host": host.format(port=server.port), "Origin": origin.format(port=server.port),
        "Sec-Fetch-Site": "same-origin",
    }  # fmt: skip
    status, text = server.ask("POST", "/graphql", headers | JSON, json.dumps({"query": MUTATION}))
    assert (status, json.loads(text)["data"]) == (200, {"setNuxSeen": True})
    status, page = server.ask("GET", "/", headers | {"Accept": "text/html"})
    assert (status, 'id="root"' in page) == (200, True)
    script = page.partition('src="')[2].partition('"')[0].removeprefix(server.prefix)
    assert script.startswith("/")
    assert server.ask("GET", script, headers)[0] == 200
    assert server.shake_hands(headers) == 101


def test_programs_that_are_no_browser_need_no_origin(server: Server) -> None:
    status, text = server.ask("POST", "/graphql", JSON, json.dumps({"query": MUTATION}))
    assert (status, json.loads(text)["data"]) == (200, {"setNuxSeen": True})


def test_answers_cannot_be_shown_in_a_foreign_frame(server: Server) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    with closing(connection):
        connection.request("GET", f"{server.prefix}/graphql", headers={"Accept": "text/html"})
        answer = connection.getresponse()
        assert (answer.status, answer.getheader("X-Frame-Options")) == (HTTPStatus.OK, "SAMEORIGIN")


def test_a_server_that_listens_everywhere_answers_to_the_machines_name_and_addresses(tmp_path: Path) -> None:
    services, port = started(tmp_path / "home", "--host", "0.0.0.0")  # noqa: S104
    server = Server(port)
    with services:
        services.wait_until(lambda: answers("127.0.0.1", port), seconds=120, what="The server")
        assert server.ask("GET", "/server_info", {"Host": f"{socket.gethostname()}:{port}"})[0] == 200
        assert server.ask("GET", "/server_info", {"Host": "evil.example"})[0] == 403
        assert server.ask("GET", "/server_info", {"Host": "192.0.2.1"})[0] == 403


@pytest.mark.parametrize(
    "hosts", ["*", "*.", "a b", "http://faces.example.org", "faces.*.org", "a/b", "faces.org:port"]
)
def test_a_list_of_hosts_that_is_none_is_named(hosts: str) -> None:
    with pytest.raises(ValidationError, match="is no host"):
        Settings(allowed_hosts=hosts)
