"""The shape of the graph, what loading it costs, and which way imports point."""

from __future__ import annotations

import ast
import subprocess
import sys

import dagster as dg
import pytest

from fc_assets.definitions import build_defs
from fc_assets.engine.asset import op_name
from jobs.model.request import PLACING, JobRequest
from jobs.runs.pipelines import PIPELINES
from resources.settings import PROJECT_ROOT

SNAPSHOT = {
    "job_request": ("prompt", set(), {"json"}, None),
    "enhanced_prompt": ("prompt", {"job_request"}, {"claude"}, None),
    "generated_image": ("image", {"job_request", "enhanced_prompt"}, {"diffusers", "pytorch"}, "gpu"),
    "portrait": ("faces", {"generated_image"}, {"opencv"}, None),
    "mask": ("faces", {"generated_image", "portrait"}, {"opencv"}, None),
    "changed_face": (
        "faces",
        {"enhanced_prompt", "generated_image", "portrait", "mask"},
        {"diffusers", "pytorch"},
        "gpu",
    ),
    "final_image": ("result", {"generated_image", "portrait", "mask", "changed_face"}, {"png"}, None),
    "description": ("result", {"enhanced_prompt", "generated_image", "portrait", "final_image"}, {"claude"}, None),
}


@pytest.fixture(scope="module")
def defs() -> dg.Definitions:
    return build_defs()


def test_graph_is_as_agreed(defs: dg.Definitions) -> None:
    found = {
        asset.key.path[-1]: (
            asset.group_name,
            {parent.path[-1] for parent in asset.parent_keys},
            asset.kinds,
            (asset.pools and next(iter(asset.pools))) or None,
        )
        for asset in defs.resolve_asset_graph().asset_nodes
    }
    assert found == SNAPSHOT


def test_every_asset_is_one_partition_per_job_and_speaks_for_itself(defs: dg.Definitions) -> None:
    for asset in defs.resolve_asset_graph().asset_nodes:
        assert isinstance(asset.partitions_def, dg.DynamicPartitionsDefinition)
        assert asset.partitions_def.name == "jobs"
        assert asset.backfill_policy == dg.BackfillPolicy.single_run()
        assert asset.owners == ["team:face-changer"]
        assert asset.code_version
        assert len(asset.description or "") > 80, asset.key


def test_jobs_select_the_stages_of_their_type(defs: dg.Definitions) -> None:
    graph = defs.resolve_asset_graph()
    stages = {job.name: {key.path[-1] for key in job.selection.resolve(graph)} for job in PIPELINES}
    assert stages == {
        "pony_flux": set(SNAPSHOT),
        "face_processing": set(SNAPSHOT),
        "sdxl_generation": {"job_request", "enhanced_prompt", "generated_image"},
        "description": {"job_request", "generated_image", "description"},
    }


def test_sensors_are_on_from_the_start(defs: dg.Definitions) -> None:
    sensors = {sensor.name: sensor.default_status for sensor in defs.sensors or []}
    assert sensors == dict.fromkeys(
        ["job_requests", "runs_succeeded", "runs_failed", "runs_cancelled", "retention"], dg.DefaultSensorStatus.RUNNING
    )


def test_launchpad_shows_every_field_of_a_request(defs: dg.Definitions) -> None:
    fields = defs.resolve_job_def("pony_flux").run_config_schema.config_type.fields["ops"].config_type
    config = fields.fields[op_name("job_request")].config_type.fields["config"].config_type.fields
    assert set(config) == set(JobRequest.model_fields) - set(PLACING), "who materializes it starts it now"
    for name in config:
        assert config[name].description == JobRequest.model_fields[name].description
        assert not config[name].is_required, name


def test_loading_the_definitions_imports_nothing_heavy() -> None:
    script = (
        "import sys, fc_assets.definitions;"
        "print([name for name in ('torch', 'diffusers', 'transformers', 'anthropic') if name in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


MAY_IMPORT = {
    "imaging": {"imaging"},
    "resources": {"resources", "imaging"},
    "jobs": {"jobs", "resources", "imaging"},
    "fc_assets": {"fc_assets", "jobs", "resources", "imaging"},
    "sensors": {"sensors", "jobs", "resources", "imaging"},
    "sketch": {"sketch", "resources", "imaging"},
    "web": {"web", "jobs", "resources", "imaging"},
}
COMPOSER = PROJECT_ROOT / "fc_assets/definitions.py"


def test_imports_point_one_way() -> None:
    wrong = []
    for room, allowed in MAY_IMPORT.items():
        for file in (PROJECT_ROOT / room).rglob("*.py"):
            here = allowed | {"sensors"} if file == COMPOSER else allowed
            wrong += [
                f"{file.relative_to(PROJECT_ROOT)} imports {name}"
                for name in _imports(file.read_text())
                if name.split(".")[0] in MAY_IMPORT and name.split(".")[0] not in here
            ]
    assert wrong == []


def test_imaging_knows_no_dagster_and_no_network() -> None:
    banned = {"dagster", "requests", "httpx2", "urllib", "socket", "sqlalchemy", "pydantic_settings", "upath"}
    for file in (PROJECT_ROOT / "imaging").rglob("*.py"):
        assert not banned & {name.split(".")[0] for name in _imports(file.read_text())}, file


def test_every_module_says_what_belongs_there() -> None:
    for room in MAY_IMPORT:
        for file in (PROJECT_ROOT / room).rglob("*.py"):
            if "versions" not in file.parts:
                assert ast.get_docstring(ast.parse(file.read_text())), file


def _imports(source: str) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module)
    return names


def test_definitions_load_as_dagster_loads_them(defs: dg.Definitions) -> None:
    dg.Definitions.validate_loadable(defs)
    defs.get_repository_def().load_all_definitions()
