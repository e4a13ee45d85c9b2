"""`fc up` and `fc demo` for real: the webserver, the daemon, the code location, and nothing left at the end."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
from PIL import Image

from jobs.cli.demo_home import MARKER
from jobs.cli.processes import Services
from jobs.cli.up import answers

pytestmark = pytest.mark.slow

PROGRAM = Path(sys.executable).parent / "face-changer"


def processes_of(home: Path) -> list[str]:
    """The commands of the living processes whose Dagster home this is."""
    return [command for command in process_ids_of(home).values() if command]  # one that is not yet collected has none


def process_ids_of(home: Path) -> dict[int, str]:
    found = {}
    for environ in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"DAGSTER_HOME={home}\0".encode() in environ.read_bytes():
                found[int(environ.parent.name)] = (environ.parent / "cmdline").read_text().replace("\0", " ")
        except OSError:
            continue  # it ended meanwhile, or is not ours
    return found


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_up_comes_up_and_goes_down_without_a_trace(tmp_path, number, code):
    home = tmp_path / "home"  # does not exist yet
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = {**os.environ, "DAGSTER_HOME": str(home)}
    with subprocess.Popen(
        [PROGRAM, "up", "--port", str(port)], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as up:
        assert up.stdout is not None
        first = up.stdout.readline()
        assert first == f"face-changer is up: http://127.0.0.1:{port}\n", up.communicate()
        assert answers("127.0.0.1", port)
        status = subprocess.run([PROGRAM, "status", "--json"], env=environment, capture_output=True, check=True)
        assert json.loads(status.stdout)["data"]["daemon_running"]
        second = subprocess.run([PROGRAM, "up", "--port", "65000"], env=environment, capture_output=True, check=False)
        assert (second.returncode, b"already runs" in second.stderr) == (4, True)
        assert len(processes_of(home)) >= 3  # fc itself gives its children the variable it was given
        up.send_signal(number)
        up.communicate(timeout=60)
    assert up.returncode == code
    assert processes_of(home) == []
    assert not answers("127.0.0.1", port)


def test_up_starts_again_at_once_after_it_was_killed(tmp_path):
    home = tmp_path / "home"
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command, environment = [PROGRAM, "up", "--port", str(port)], {**os.environ, "DAGSTER_HOME": str(home)}
    is_up = f"face-changer is up: http://127.0.0.1:{port}\n"
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": environment}
    with subprocess.Popen(command, **pipes) as first:
        assert first.stdout.readline() == is_up, first.communicate()
        before = set(process_ids_of(home))
        assert len(before) >= 5  # itself, the keeper, webserver, daemon, and a code server of each
        first.kill()
    with subprocess.Popen(command, **pipes) as second:
        assert second.stdout.readline() == is_up, second.communicate()
        assert before.isdisjoint(process_ids_of(home))
        second.kill()
    with Services({}, logs=tmp_path / "other") as clock:  # with none after it, they end by themselves
        clock.wait_until(lambda: processes_of(home) == [], seconds=60, what="The end")
    assert not answers("127.0.0.1", port)


def test_demo_finishes_every_job_and_draws_the_sheet(tmp_path):
    home = tmp_path / "demo"
    # Dagster's programs let a .env of their working folder win over the environment: this one must not lead them away.
    (tmp_path / ".env").write_text(f"DAGSTER_HOME={tmp_path / 'elsewhere'}\n", encoding="utf-8")
    done = subprocess.run(
        [PROGRAM, "demo", "--home", str(home)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("completed") == 4
    with Image.open(home / "contact-sheet.png") as sheet:
        assert min(sheet.size) > 1000
    assert (home / MARKER).exists()
    assert len(list((home / "data" / "6-final").glob("*.png"))) == 3
    assert processes_of(home) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == [".env", "demo"]
    (opening,) = re.findall(r"^Its jobs in the web UI: (.+)$", done.stdout, re.MULTILINE)
    assert jobs_in_both_places(opening, tmp_path) == (4, 4)


def jobs_in_both_places(opening: str, folder: Path) -> tuple[int, int]:
    """How many jobs `fc list` and Dagster's UI show, while what the command starts is up."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = f"exec env {opening} --port {port}"
    with subprocess.Popen(command, shell=True, cwd=folder, stdout=subprocess.PIPE, text=True) as up:  # noqa: S602
        try:
            assert "is up" in up.stdout.readline()
            query = '{ assetNodes(assetKeys: [{path: ["job_request"]}]) { partitionKeys } }'
            request = Request(
                f"http://127.0.0.1:{port}/graphql",
                data=json.dumps({"query": query}).encode(),
                headers={"Content-Type": "application/json"},
            )
            with urlopen(request, timeout=60) as answer:
                (node,) = json.load(answer)["data"]["assetNodes"]
            listing = f"env {opening.removesuffix(' up')} list --json"
            listed = subprocess.run(listing, shell=True, cwd=folder, capture_output=True, check=True)  # noqa: S602
        finally:
            up.terminate()
    said = json.loads(listed.stdout)
    return len(said["data"]), len(node["partitionKeys"])


def test_up_says_where_the_demos_jobs_are(tmp_path):
    demo = tmp_path / "demo-home"
    demo.mkdir()
    (demo / MARKER).touch()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = {**os.environ, "DAGSTER_HOME": str(tmp_path / "home")}
    with subprocess.Popen(
        [PROGRAM, "up", "--port", str(port)], cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True
    ) as up:
        said = [up.stdout.readline() for _ in range(3)]
        up.terminate()
    assert f"Those of the demo are in {demo}" in said[2], said
    assert f"DAGSTER_HOME={demo} " in said[2]
