"""Cancelling and the web UI for real: daemon, code servers, run workers and webserver as processes of their own."""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import dagster as dg
import numpy as np
import pytest

from fc_assets.engine.asset import op_name
from jobs.cli.processes import Services
from jobs.cli.up import answers, daemon_command, webserver_command
from jobs.model.request import parse_request
from jobs.model.stages import STAGES
from jobs.model.transitions import FINAL
from jobs.queue.job_queue import JobQueue
from jobs.requests.accept import submit
from resources.database import open_database
from resources.settings import PROJECT_ROOT, load_settings
from resources.store.image_store import ImageStore
from tests.support.commands import Fc
from tests.support.graph import pixels

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SECONDS = 240.0
"""The longest wait for anything; a wait that ends at this is a failure."""

LAUNCH = """
mutation Launch($params: ExecutionParams!) {
  launchPipelineExecution(executionParams: $params) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on PythonError { message }
    ... on RunConfigValidationInvalid { errors { message } }
  }
}
"""


@dataclass(frozen=True)
class Live:
    """What runs: the processes, where they look, and the web address."""

    services: Services
    home: Path
    port: int

    @property
    def gate(self) -> Path:
        """Where the generator tells that it is at work, and is let go on."""
        return self.home / "gate"

    def wait_until(self, ready: Callable[[], bool], what: str) -> None:
        self.services.wait_until(ready, seconds=SECONDS, what=what)

    def launch(self, key: str, *stages: str, config: dict[str, Any] | None = None) -> str:
        """Materialize assets of one partition with what the UI sends; the run's id."""
        body = json.dumps({"query": LAUNCH, "variables": {"params": self.params(key, *stages, config=config)}}).encode()
        request = Request(
            f"http://127.0.0.1:{self.port}/graphql", data=body, headers={"Content-Type": "application/json"}
        )
        with urlopen(request, timeout=SECONDS) as answer:
            said = json.load(answer)
        assert said["data"]["launchPipelineExecution"]["__typename"] == "LaunchRunSuccess", said
        return str(said["data"]["launchPipelineExecution"]["run"]["runId"])

    def params(self, key: str, *stages: str, config: dict[str, Any] | None = None) -> dict[str, Any]:
        """The variables of the mutation with which the UI materializes assets of one partition."""
        return {
            "mode": "default",
            "executionMetadata": {"tags": [{"key": "dagster/partition", "value": key}]},
            "runConfigData": json.dumps({"ops": {op_name("job_request"): {"config": config}}} if config else {}),
            "selector": {
                "repositoryLocationName": "face-changer",
                "repositoryName": "__repository__",
                "pipelineName": "__ASSET_JOB",
                "assetSelection": [{"path": [stage]} for stage in stages],
                "assetCheckSelection": [],
            },
        }


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    home = tmp_path_factory.mktemp("live") / "home"
    (home / "gate").mkdir(parents=True)
    shutil.copy(PROJECT_ROOT / "dagster.yaml", home)
    return {
        "DAGSTER_HOME": str(home), "FC_GENERATOR": "tests.support.faulty:HeldUp", "FC_WRITER": "offline",
        "FC_DETECTOR": "haar", "FC_TEST_GATE": str(home / "gate"), "PYTHONPATH": str(PROJECT_ROOT),
    }  # fmt: skip


@pytest.fixture(scope="module")
def processes(environment: dict[str, str]) -> Iterator[Live]:
    """The daemon and the webserver, up for all tests of this file."""
    home = Path(environment["DAGSTER_HOME"])
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    commands = {"daemon": daemon_command(), "webserver": webserver_command("127.0.0.1", port)}
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("FC_", "ANTHROPIC_"))}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DAGSTER_HOME", str(home))  # its dagster.yaml reads it
        with dg.DagsterInstance.from_config(str(home)):  # two processes must not both set the storage up
            pass
    with Services(commands, logs=home / "service-logs", env=clean | environment) as services:
        services.wait_until(lambda: answers("127.0.0.1", port), seconds=SECONDS, what="the webserver")
        yield Live(services, home, port)


@pytest.fixture
def live(processes: Live, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, _clean_settings: None) -> Live:
    for name in set(environment) - {"PYTHONPATH"}:
        monkeypatch.setenv(name, environment[name])
    return processes


@pytest.fixture
def home(live: Live) -> Path:
    """In place of a fresh home: that of the processes; `queue`, `store`, `instance` and `fc` are on it too."""
    return live.home


@pytest.fixture
def queue(live: Live) -> Iterator[JobQueue]:
    database = open_database(load_settings().resolved_database_url)
    yield JobQueue(database)
    database.dispose()


def add(queue: JobQueue, store: ImageStore, **jobs: dict[str, Any]) -> None:
    """Submit small requests, all at once, so that they share a run."""
    pairs = [(job_id, parse_request({"width": 256, "height": 256, "seed": 7, **jobs[job_id]})) for job_id in jobs]
    submit(pairs, queue=queue, store=store, settings=load_settings(), origin="cli")


def leftovers(store: ImageStore) -> list[Path]:
    return list(Path(store.root).rglob("*.tmp"))


def test_cancelling_a_job_in_a_long_generation_ends_its_run(
    live: Live, queue: JobQueue, store: ImageStore, instance: dg.DagsterInstance, fc: Fc
) -> None:
    add(queue, store, alone={"pony_prompt": "slow-scene, a man", "job_type": "sdxl_generation"})
    live.wait_until((live.gate / "alone.begun").exists, "the generation")
    (run_id,) = queue.get("alone").run_ids
    code, out, _ = fc("cancel", "alone")
    assert (code, f"Run {run_id} had no other job and is being stopped" in out) == (0, True)
    assert queue.get("alone").status == "cancelled"

    def is_over() -> bool:
        run = instance.get_run_by_id(run_id)
        return run is not None and run.status == dg.DagsterRunStatus.CANCELED

    live.wait_until(is_over, "the end of the cancelled run")  # the gate was never opened: the run was stopped in it
    job = queue.get("alone")
    assert (job.status, job.stages_completed) == ("cancelled", ("job_request", "enhanced_prompt"))
    assert queue.attempts("alone")[-1].verdict == "cancelled"
    assert not list(Path(str(store.path("0-generated"))).glob("alone*"))
    assert leftovers(store) == []


def test_the_neighbours_of_a_cancelled_job_go_on_in_the_same_run(
    live: Live, queue: JobQueue, store: ImageStore, fc: Fc
) -> None:
    scene = {"job_type": "sdxl_generation"}
    add(queue, store, slow=scene | {"pony_prompt": "slow-scene, a man"}, neighbour=scene | {"pony_prompt": "a woman"})
    live.wait_until((live.gate / "slow.begun").exists, "the generation")
    code, out, _ = fc("cancel", "slow")
    assert (code, "is being stopped" in out) == (0, False)
    (live.gate / "slow.go").touch()
    live.wait_until(lambda: queue.get("neighbour").status in FINAL, "the neighbour")
    cancelled, neighbour = queue.get("slow"), queue.get("neighbour")
    assert (cancelled.status, neighbour.status, neighbour.attempts) == ("cancelled", "completed", 0)
    assert cancelled.run_ids == neighbour.run_ids, "one run had both"
    names = [path.name for path in Path(str(store.path("0-generated"))).iterdir()]
    assert [name for name in names if name.startswith(("slow", "neighbour"))] == ["neighbour.png"]
    assert leftovers(store) == []


def test_materializing_from_the_ui_ends_where_a_retry_does(
    live: Live, queue: JobQueue, store: ImageStore, instance: dg.DagsterInstance, fc: Fc
) -> None:
    """Job `ui` is changed with what the UI sends, its twin `twin` by `fc retry`: both end alike at each step."""
    request = {"pony_prompt": "portrait of a smiling woman with red hair, forest"}
    add(queue, store, ui=request, twin=request)

    def both_end() -> None:
        live.wait_until(lambda: all(queue.get(job_id).status in FINAL for job_id in ("ui", "twin")), "both jobs")
        first, second = queue.get("ui"), queue.get("twin")
        assert (first.status, second.status) == ("completed", "completed")
        assert first.request == second.request
        assert first.stages_completed == second.stages_completed == STAGES
        assert runs("ui") == runs("twin")
        assert np.array_equal(pixels(store, "6-final", "ui.png"), pixels(store, "6-final", "twin.png"))

    def runs(job_id: str) -> dict[str, int]:
        return {one.stage: one.runs for one in queue.stage_results(job_id)}

    def ends_well(run_id: str) -> None:
        def is_over() -> bool:
            run = instance.get_run_by_id(run_id)
            return run is not None and run.is_finished

        live.wait_until(is_over, "the run that the UI launched")
        run = instance.get_run_by_id(run_id)
        assert run is not None
        assert run.status == dg.DagsterRunStatus.SUCCESS

    both_end()
    once, final = runs("ui"), store.read("6-final", "ui.png")
    for stages in (["mask"], list(STAGES)):  # nothing changed, so nothing is computed
        ends_well(live.launch("ui", *stages))
        assert (queue.get("ui").status, runs("ui")) == ("completed", once)
        assert store.read("6-final", "ui.png") == final

    assert fc("retry", "twin", "--set", "face_strength=0.9")[0] == 0
    ends_well(live.launch("ui", *STAGES, config={"face_strength": 0.9}))
    both_end()
    assert {stage for stage, number in runs("ui").items() if number == 2} == {
        "job_request", "changed_face", "final_image", "description",
    }  # fmt: skip

    # A retry from a stage, and then the UI: the same results are found, and made no third time.
    for job_id in ("ui", "twin"):
        assert fc("retry", job_id, "--from", "mask")[0] == 0
    both_end()
    again = runs("ui")
    ends_well(live.launch("ui", "mask", "changed_face"))
    assert (queue.get("ui").status, runs("ui")) == ("completed", again)

    # The request alone: the queue goes on with the rest, as it does after a retry.
    assert fc("retry", "twin", "--seed", "8")[0] == 0
    ends_well(live.launch("ui", "job_request", config={"seed": 8}))
    both_end()
    assert queue.get("ui").request.seed == 8


def test_a_foreign_page_launches_no_run(live: Live, instance: dg.DagsterInstance) -> None:
    variables = json.dumps({"params": live.params("foreign", *STAGES)})
    address = f"http://127.0.0.1:{live.port}/graphql"
    by_get = f"{address}?{urlencode({'query': LAUNCH, 'variables': variables})}"
    body = json.dumps({"query": LAUNCH, "variables": json.loads(variables)}).encode()
    as_json = {"Content-Type": "application/json"}
    before = instance.get_runs_count()
    for request, status in (
        (Request(by_get), 405),
        (Request(by_get, headers={"Host": "evil.example", "Origin": "http://evil.example"}), 403),
        (Request(address, body, as_json | {"Origin": "http://evil.example"}), 403),
        (Request(address, body, as_json | {"Host": "evil.example"}), 403),
        (Request(address, body, as_json | {"Sec-Fetch-Site": "cross-site"}), 403),
        (Request(address, body, {"Content-Type": "text/plain;application/json"}), 415),
    ):
        with pytest.raises(HTTPError) as caught:
            urlopen(request, timeout=SECONDS)
        assert caught.value.code == status
    assert instance.get_runs_count() == before
