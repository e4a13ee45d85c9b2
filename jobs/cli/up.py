"""`fc up`: the webserver and the daemon, started together and stopped together."""

from __future__ import annotations

import http.client
import ipaddress
import json
import socket
import sys
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Annotated, Final

import typer

from imaging.errors import SettingsError
from jobs.cli.by_hand import warn_if_paused
from jobs.cli.dagster_side import DEFAULT_PORT, heartbeat_ages, open_instance, prepare_home, program, service_logs
from jobs.cli.demo_home import DEFAULT_HOME, MARKER, command_that_opens
from jobs.cli.opening import opened_queue
from jobs.cli.output import INTERRUPTED, err, say, warn
from jobs.cli.processes import Services, StopRequested, stoppable, take_over
from resources.settings import PROJECT_ROOT, dagster_home, environment

START_SECONDS: Final = 120.0
CHECK_SECONDS: Final = 0.5


def daemon_command() -> list[str]:
    """The command that runs the Dagster daemon on this project."""
    return [program("dagster-daemon"), "run", "-w", str(PROJECT_ROOT / "workspace.yaml")]


def webserver_command(host: str, port: int) -> list[str]:
    """The command that runs the Dagster webserver on this project, guarded from foreign pages."""
    workspace = str(PROJECT_ROOT / "workspace.yaml")
    return [sys.executable, "-m", "web.server", "-w", workspace, "--host", host, "--port", str(port)]


def daemon_has_started() -> Callable[[], bool]:
    """A question to repeat: has the sensor daemon given a sign of life since now?

    Ask for it before the processes start: it opens the Dagster storage and so sets up a new one, which two processes
    must not do at once.
    """
    instance = open_instance()
    start = time.time()

    def has_started() -> bool:
        age = heartbeat_ages(instance).get("sensor")
        return age is not None and time.time() - age > start

    return has_started


def up(
    *,
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Port of the web UI.")] = DEFAULT_PORT,
    host: Annotated[str, typer.Option("--host", help="Address the web UI listens on.")] = "127.0.0.1",
) -> None:
    """Start the Dagster web UI and the daemon; Ctrl-C stops both and all that they run.

    Exit code 130 after Ctrl-C, 0 after SIGTERM, 1 when one of them died.
    """
    home = dagster_home()
    prepare_home(home)
    if left := take_over(service_logs(home)):
        say(f"Stopped what an `fc up` that was killed had left (processes {', '.join(map(str, left))}).", console=err)
    check_port_free(host, port)
    demo = _hint_at_demo(home)
    if not _is_loopback(host):
        warn(f"--host {host}: Dagster's web UI has no log-in; whoever reaches it can run jobs and read the images.")
    commands = {"webserver": webserver_command(host, port), "daemon": daemon_command()}
    started = daemon_has_started()
    try:
        with (
            stoppable(),
            Services(
                commands,
                logs=service_logs(home),
                env=environment() | {"DAGSTER_HOME": str(home)},
                on_trouble=print_trouble,
            ) as services,
        ):
            say(f"Starting the webserver and the daemon on {home} ...", console=err)
            services.wait_until(lambda: answers(host, port), seconds=START_SECONDS, what="The webserver's first answer")
            services.wait_until(started, seconds=START_SECONDS, what="The daemon's first heartbeat")
            say(f"face-changer is up: http://{_reachable(host)}:{port}", style="bold green")
            say(f"Logs: {services.logs}. Ctrl-C stops everything.")
            with opened_queue() as queue:
                warn_if_paused(queue)
            if demo:
                say(demo)
            while True:
                services.check()
                time.sleep(CHECK_SECONDS)
    except KeyboardInterrupt:
        say("Stopped.", console=err)
        raise typer.Exit(INTERRUPTED) from None
    except StopRequested as signalled:
        say(f"Stopped by {signalled}.", console=err)


def _hint_at_demo(home: Path) -> str:
    """How to see the demo's jobs, for who looks for them in a home that has none; empty for others."""
    demo = DEFAULT_HOME.resolve()
    if home == demo or not (demo / MARKER).is_file():
        return ""
    with opened_queue() as queue:
        if any(queue.counts().values()):
            return ""
    return f"There are no jobs in {home} yet. Those of the demo are in {demo}; to open them: {command_that_opens(demo)}"


def print_trouble(name: str, line: str) -> None:
    """Show a line of a child's log that looks like an error."""
    say(f"[{name}] {line}", style="red", console=err)


def answers(host: str, port: int, *, path: str = "/server_info") -> bool:
    """Whether a Dagster webserver answers there."""
    connection = http.client.HTTPConnection(_reachable(host).strip("[]"), port, timeout=2)
    with closing(connection), suppress(OSError, http.client.HTTPException, ValueError):
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status == 200 and "dagster_version" in json.loads(response.read())
    return False


def check_port_free(host: str, port: int) -> None:
    """Make sure that a server can listen there.

    Raises:
        SettingsError: it cannot; says why.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        raise SettingsError(
            f"--host {host} --port {port}: cannot be listened on: {error.strerror}.",
            "Stop the program that has the port, or give another --port.",
        ) from None


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _reachable(host: str) -> str:
    """The host as it stands in a URL on this machine."""
    everywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - looked up, not listened on
    found = everywhere.get(host, host)
    return f"[{found}]" if ":" in found else found
