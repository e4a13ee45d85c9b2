"""The files of `deploy/`: they can be read, and what they name exists. No Docker engine and no cluster is needed."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import dagster as dg
import pytest
import yaml
from pydantic import BaseModel, ConfigDict, Field
from typer.main import get_command

from jobs.cli.main import app
from resources.settings import PROJECT_ROOT, Settings
from tests.support.postgres import run_sql

pytest_plugins = ["tests.support.databases"]

DEPLOY = PROJECT_ROOT / "deploy"
VARIABLES = {str(field.validation_alias or f"FC_{name.upper()}") for name, field in Settings.model_fields.items()} | {
    "FC_DAGSTER_POSTGRES_URL",  # read by dagster.yaml, and by Dagster alone
    "DAGSTER_HOME",
    "DAGSTER_PG_PASSWORD",  # of Dagster's Helm chart
}
PROGRAMS = {"dagster", "dagster-daemon", "fc"}


def read(name: str) -> Any:
    return yaml.safe_load((DEPLOY / name).read_text(encoding="utf-8"))


def strings(value: object) -> Iterator[str]:
    """Every string in a document, keys included."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from strings(key)
            yield from strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from strings(inner)
    elif isinstance(value, str):
        yield value


def check_command(command: list[str]) -> None:
    """The program is ours or Dagster's, and `fc` takes these arguments."""
    if command[:2] == ["python", "-m"]:
        assert find_spec(command[2])
        return
    assert command[0] in PROGRAMS
    assert (Path(sys.executable).parent / command[0]).exists()
    if command[0] == "fc":
        subcommand = get_command(app).commands[command[1]]  # type: ignore[attr-defined]
        context = subcommand.make_context(command[1], list(command[2:]), resilient_parsing=False)
        from resources.launcher import QUEUES

        assert set(context.params["queue"]) <= set(QUEUES)


# ---- the Dagster instances


@pytest.mark.parametrize("name", ["dagster.celery.yaml", "dagster.postgres.yaml"])
def test_dagster_reads_its_file_and_opens_its_storage(
    name: str, tmp_path: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FC_DAGSTER_POSTGRES_URL", postgres_url)
    monkeypatch.setenv("FC_REDIS_URL", "redis://127.0.0.1:1/0")
    shutil.copy(DEPLOY / name, tmp_path / "dagster.yaml")
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        assert instance.run_monitoring_enabled
        assert instance.run_monitoring_max_resume_run_attempts == 0
        kind = "WorkerRunLauncher" if name == "dagster.celery.yaml" else "DefaultRunLauncher"
        assert type(instance.run_launcher).__name__ == kind
        assert list(instance.get_runs(limit=1)) == []
    assert run_sql(postgres_url, "SELECT count(*) FROM runs") == [[(0,)]]


def test_the_instances_differ_only_in_what_they_must() -> None:
    celery, postgres = read("dagster.celery.yaml"), read("dagster.postgres.yaml")
    assert celery.pop("run_launcher")
    assert {key for key in celery if celery[key] != postgres[key]} == {"concurrency", "run_monitoring"}


# ---- compose: the rules of the Compose Specification that this file touches; any other key is a fault


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Build(Strict):
    context: str
    dockerfile: str
    target: str


class Healthcheck(Strict):
    test: list[str] = Field(min_length=2)
    interval: str = Field(pattern=r"^\d+(s|m)$")
    timeout: str = Field(pattern=r"^\d+(s|m)$")
    retries: int


class Dependency(Strict):
    condition: Literal["service_started", "service_healthy", "service_completed_successfully"]


class Device(Strict):
    driver: str
    count: int | Literal["all"]
    capabilities: list[str]


class Reservations(Strict):
    devices: list[Device]


class Resources(Strict):
    reservations: Reservations


class Deploy(Strict):
    resources: Resources


class Service(Strict):
    image: str = Field(pattern=r"^[a-z0-9./-]+:[\w.-]+$")
    build: Build | None = None
    init: bool = False
    restart: Literal["no", "always", "on-failure", "unless-stopped"]
    environment: dict[str, str] = Field(default_factory=dict)
    command: list[str] = Field(default_factory=list)
    volumes: list[str] = Field(default_factory=list)
    ports: list[str] = Field(default_factory=list)
    depends_on: dict[str, Dependency] = Field(default_factory=dict)
    healthcheck: Healthcheck | None = None
    stop_grace_period: str = Field("10s", pattern=r"^\d+(s|m)$")
    deploy: Deploy | None = None


class Compose(Strict):
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")
    services: dict[str, Service]
    volumes: dict[str, None]


@pytest.fixture(scope="module")
def compose() -> Compose:
    document = read("docker-compose.yaml")
    return Compose.model_validate({key: value for key, value in document.items() if not key.startswith("x-")})


def test_compose_names_only_what_exists(compose: Compose) -> None:
    for name, service in compose.services.items():
        for other, dependency in service.depends_on.items():
            assert other != name
            needed = compose.services[other]
            assert dependency.condition != "service_healthy" or needed.healthcheck, f"{name} waits for {other} for ever"
            assert dependency.condition != "service_completed_successfully" or needed.restart == "no"
        for volume in service.volumes:
            source, target = volume.split(":")[:2]
            assert target.startswith("/")
            assert (DEPLOY / source).is_file() if source.startswith(".") else source in compose.volumes
        if service.build is not None:
            assert (DEPLOY / service.build.context).resolve() == PROJECT_ROOT
            assert (PROJECT_ROOT / service.build.dockerfile).is_file()
            assert service.image == f"face-changer:{service.build.target}"
            assert set(service.environment) <= VARIABLES
            check_command(service.command)


def test_compose_opens_no_port_to_other_machines(compose: Compose) -> None:
    ports = [port for service in compose.services.values() for port in service.ports]
    assert ports
    assert all(re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port) for port in ports)


def test_compose_gives_each_its_own_database(compose: Compose) -> None:
    environment = compose.services["daemon"].environment
    ours, dagsters = (environment[name].rpartition("/")[2] for name in ("FC_DATABASE_URL", "FC_DAGSTER_POSTGRES_URL"))
    assert ours == compose.services["postgres"].environment["POSTGRES_DB"]
    assert f"CREATE DATABASE {dagsters};" in (DEPLOY / "postgres-init.sql").read_text()
    served = {
        command[-1] for service in compose.services.values() if (command := service.command)[:2] == ["fc", "worker"]
    }
    assert served == {"gpu", "cpu"}, "every queue has a worker"


@pytest.mark.slow
def test_the_command_of_the_storage_service_makes_dagsters_tables(
    compose: Compose, tmp_path: Path, postgres_url: str
) -> None:
    shutil.copy(DEPLOY / "dagster.celery.yaml", tmp_path / "dagster.yaml")
    program, *arguments = compose.services["storage"].command
    env = {
        **os.environ,
        "DAGSTER_HOME": str(tmp_path),
        "FC_DAGSTER_POSTGRES_URL": postgres_url,
        "FC_REDIS_URL": "redis://127.0.0.1:1/0",
    }
    for _ in range(2):
        subprocess.run([Path(sys.executable).parent / program, *arguments], env=env, check=True, cwd=tmp_path)
    assert run_sql(postgres_url, "SELECT count(*) FROM runs") == [[(0,)]]


# ---- images


def test_dockerfile_copies_what_exists_and_starts_what_exists(compose: Compose) -> None:
    lines = (DEPLOY / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    allowed = (PROJECT_ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    targets = [line.split()[-1] for line in lines if line.startswith("FROM")]
    assert set(targets) == {service.build.target for service in compose.services.values() if service.build}
    copied: set[str] = set()
    for line in lines:
        word, _, rest = line.partition(" ")
        if word == "COPY":
            *sources, _target = [part for part in rest.split() if not part.startswith("--")]
            for source in sources:
                assert (PROJECT_ROOT / source).exists(), source
                assert f"!{source}" in allowed, f"{source} does not get through .dockerignore"
            copied |= set(sources)
        elif word == "CMD":
            check_command(yaml.safe_load(rest))
        elif word == "ENV":
            named = {part.partition("=")[0] for part in shlex.split(rest)}
            assert {name for name in named if name.startswith("FC_")} <= VARIABLES
        else:
            assert word in {"", "#", "FROM", "WORKDIR", "RUN", "USER"}, line
    packages = {path.parent.name for path in PROJECT_ROOT.glob("*/__init__.py")} - {"tests"}
    assert packages <= copied, "every package is in the image"
    assert [line for line in lines if line.startswith("USER")][-1] == "USER face-changer", "not root"


def test_extras_of_the_image_are_declared() -> None:
    from importlib.metadata import metadata

    declared = set(re.findall(r"^(\w+) = \[", (PROJECT_ROOT / "pyproject.toml").read_text(), re.MULTILINE))
    wanted = re.findall(r"'\.\[([\w,]+)\]'", (DEPLOY / "Dockerfile").read_text())
    assert wanted
    assert {extra for group in wanted for extra in group.split(",")} <= declared
    assert metadata("face-changer")


# ---- Kubernetes


def test_helm_values_name_a_launcher_and_settings_that_exist() -> None:
    values = read("helm-values.yaml")
    launcher = values["runLauncher"]["config"]["customRunLauncher"]
    assert hasattr(import_module(launcher["module"]), launcher["class"])
    celery = read("dagster.celery.yaml")
    assert launcher["config"] == celery["run_launcher"]["config"]
    named = {text for text in strings(values) if re.fullmatch(r"FC_[A-Z_]+", text)}
    assert named
    assert named <= VARIABLES
    monitoring = values["dagsterDaemon"]["runMonitoring"]
    snake = {re.sub(r"[A-Z]", lambda found: f"_{found[0].lower()}", key): value for key, value in monitoring.items()}
    assert snake == celery["run_monitoring"]
    assert values["additionalInstanceConfig"]["concurrency"] == celery["concurrency"]


def test_kubernetes_workers_are_whole() -> None:
    documents = list(yaml.safe_load_all((DEPLOY / "kubernetes-workers.yaml").read_text(encoding="utf-8")))
    queues = set()
    for document in documents:
        assert (document["apiVersion"], document["kind"]) == ("apps/v1", "Deployment")
        spec = document["spec"]
        assert spec["selector"]["matchLabels"] == spec["template"]["metadata"]["labels"]
        pod = spec["template"]["spec"]
        (container,) = pod["containers"]
        check_command(container["args"])
        queues.add(container["args"][-1])
        assert {one["name"] for one in container["env"]} <= VARIABLES
        assert {one["name"] for one in container["volumeMounts"]} == {one["name"] for one in pod["volumes"]}
    assert queues == {"gpu", "cpu"}
