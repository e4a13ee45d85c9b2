"""Back ends of other packages, found by their entry points: in this process, in `fc`, and in the asset graph."""

from __future__ import annotations

import gc
import os
import shutil
import subprocess
import sys
import textwrap
import weakref
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path

import dagster as dg
import numpy as np
import pytest
from dotenv import dotenv_values
from PIL import Image
from skimage import data

from imaging.errors import SettingsError
from imaging.files.provenance import read_provenance
from jobs import docs_tables
from jobs.queue.job_queue import JobQueue
from resources import backends, choose, plugins
from resources.backends import KINDS, entries
from resources.connections import MOST_BACK_ENDS, DetectorResource, GeneratorResource
from resources.generators.base import ModelChoice
from resources.settings import PROJECT_ROOT, Settings, load_settings
from resources.store.image_store import ImageStore
from sensors.job_requests import gpu_stages
from tests.support.commands import Fc
from tests.support.graph import add_jobs, claim_batch, materialize, pixels

Install = Callable[..., Path]

FAL = """
    from pydantic import Field, SecretStr

    from resources.backends import BackEnd, BackEndSettings, Finding, Inspection, Published
    from sketch.generator import SketchGenerator


    class FalSettings(BackEndSettings):
        fal_key: SecretStr = Field(SecretStr(""), description="Key of fal.ai.")
        fal_tries: int = Field(2, ge=1)


    class Fal(SketchGenerator):
        name = "fal"

        def __init__(self, tries):
            self.tries = tries

        def describe(self):
            return {**super().describe(), "generator": "fal", "tries": self.tries}


    BACK_END = BackEnd(
        kind="generator",
        name="fal",
        about="the servers of fal.ai",
        make=lambda _settings, _choice: Fal(FalSettings.read().fal_tries),
        place="network",
        key="fal_key",
        rank=40,
        own_settings=FalSettings,
        published=lambda: Published("https://models.example/fal.onnx", "0" * 64),
        inspection=Inspection("fal", lambda _settings, used: Finding("OK" if used else "WARN", "fal.ai answers")),
    )
"""

MIDDLE = """
    from imaging.geometry.boxes import Box, Face
    from resources.backends import BackEnd, Finding, Inspection


    class Middle:
        name = "middle"

        def __init__(self, confidence):
            self.confidence = confidence

        def describe(self):
            return {"detector": "middle", "confidence": self.confidence}

        def detect(self, image):
            height, width = image.shape[:2]
            return [Face(Box(width // 4, height // 4, width * 3 // 4, height * 3 // 4), 0.9)]


    BACK_END = BackEnd(
        kind="detector",
        name="middle",
        about="a face in the middle of every picture",
        make=lambda settings, _choice: Middle(settings.detector_confidence),
        inspection=Inspection("middle", lambda _settings, used: Finding("OK", f"used: {used}")),
    )
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Installs a package of one module: a folder on `sys.path`, with the metadata that pip would write."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")]))
    modules: list[str] = []

    def put(group: str, name: str, source: str, *, package: str = "", module: str = "") -> Path:
        package, module = package or f"fc-{name}", module or f"fc_test_{name}"
        (site / f"{module}.py").write_text(textwrap.dedent(source), encoding="utf-8")
        info = site / f"{package.replace('-', '_')}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n", encoding="utf-8")
        (info / "entry_points.txt").write_text(
            f"[face_changer.{group}]\n{name} = {module}:BACK_END\n", encoding="utf-8"
        )
        modules.append(module)
        forget()
        return site

    yield put
    for module in modules:
        sys.modules.pop(module, None)
    forget()


def forget() -> None:
    """Read the metadata of the packages again, as a new process does."""
    plugins._installed.cache_clear()
    plugins.own.cache_clear()
    backends._load.cache_clear()


def settings_of(**given: object) -> Settings:
    return Settings(_env_file=None, **given)  # type: ignore[arg-type]


# ---- what this package declares


def test_every_back_end_of_this_package_is_whole() -> None:
    known = [one for kind in KINDS for one in entries(kind)]
    assert {(one.kind, one.name) for one in known} >= {(kind, name) for kind in KINDS for name in plugins.own(kind)}
    named = [name for one in known for name in one.settings]
    assert len(named) == len(set(named)), "a setting belongs to one back end"
    assert set(named) <= set(Settings.model_fields)
    for one in known:
        assert one.about, one.name
        assert not one.about.endswith("."), one.name
        assert not one.key or one.variable, one.name


def test_auto_takes_them_in_this_order() -> None:
    order = {
        kind: [one.name for one in entries(kind) if one.name in plugins.own(kind)] for kind in KINDS if kind != "editor"
    }
    assert order == {
        "generator": ["sdxl", "forge", "comfyui", "sketch"],
        "writer": ["claude", "offline"],
        "detector": ["yunet", "haar"],
        "encoder": ["sface"],
    }


def test_listing_the_back_ends_imports_nothing_heavy() -> None:
    script = (
        "import sys\n"
        "from resources.backends import KINDS, entries\n"
        "assert sum(len(entries(kind)) for kind in KINDS) >= 9\n"
        "heavy = ('torch', 'diffusers', 'transformers', 'anthropic', 'cv2', 'dagster', 'sketch.paint')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", script], cwd=PROJECT_ROOT, capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


def test_metadata_that_are_older_than_the_code_are_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, install: Install
) -> None:
    project = (PROJECT_ROOT / "pyproject.toml").read_text(encoding="utf-8")
    new = project.replace('haar = "', 'retina = "resources.detectors.retina:BACK_END"\nhaar = "')
    assert new != project
    (tmp_path / "pyproject.toml").write_text(new, encoding="utf-8")
    monkeypatch.setattr(plugins, "ROOT", tmp_path)
    forget()
    with pytest.raises(SettingsError, match="installed before it had the detector retina") as caught:
        choose.make_detector(settings_of(detector="haar"))
    assert "pip install --editable" in caught.value.hint
    assert choose.make_writer(settings_of())[0].name == "offline"


def test_the_documents_are_those_that_the_code_writes() -> None:
    for path, text in docs_tables.documents().items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name}: run `make docs-tables`"


def test_a_back_end_of_another_package_is_in_no_document(install: Install) -> None:
    before = docs_tables.documents()
    install("detectors", "middle", MIDDLE)
    install("generators", "fal", FAL)
    assert docs_tables.documents() == before


def test_every_line_of_the_example_may_be_uncommented(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = docs_tables.env_example().splitlines()
    text = "\n".join(line[1:] for line in lines if line[1:].partition("=")[0].replace("_", "").isupper())
    values = {name: value for name, value in dotenv_values(stream=StringIO(text)).items() if value is not None}
    assert len(values) == len(Settings.model_fields) + 1
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    found = load_settings()
    assert (found.gate_image, found.generator, found.inbox) == ("warn 0.4", "auto", Path("/srv/face-changer/inbox"))


# ---- a detector of another package


def test_a_detector_of_another_package_is_one_like_any_other(install: Install, fc: Fc, tmp_path: Path) -> None:
    install("detectors", "middle", MIDDLE)
    assert plugins.choices("detector") == "auto, haar, middle, yunet, or package.module:Class"
    detector, why = choose.make_detector(settings_of(detector="middle", detector_confidence=0.25))
    assert (detector.describe()["confidence"], why) == (0.25, "middle, as FC_DETECTOR says.")
    assert choose.make_detector(settings_of(), name="middle")[1] == "middle, as the job says."
    assert choose.make_detector(settings_of(detector="auto"))[0].name == "haar", (
        "auto takes only what says that it may be taken"
    )
    Image.new("RGB", (64, 64)).save(tmp_path / "picture.png")
    assert "1 picture, 1 face" in fc("faces", str(tmp_path / "picture.png"), "--detector", "middle")[1]


def test_doctor_tells_of_it(install: Install, fc: Fc, monkeypatch: pytest.MonkeyPatch) -> None:
    install("detectors", "middle", MIDDLE)
    assert "OK    middle  used: False" in fc("doctor")[1]
    monkeypatch.setenv("FC_DETECTOR", "middle")
    said = fc("doctor")[1]
    assert "OK    detector  middle, as FC_DETECTOR says." in said
    assert "OK    middle  used: True" in said


def test_a_run_uses_it(
    install: Install, instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("detectors", "middle", MIDDLE)
    monkeypatch.setenv("FC_DETECTOR", "middle")
    add_jobs(queue, store, {"pony_prompt": "portrait of a woman", "width": 256, "height": 256})
    claim_batch(queue, "batch-1")
    materialize(instance, "a", batch="batch-1")
    result = queue.stage_result("a", "portrait")
    assert result is not None
    told = instance.get_latest_materialization_event(dg.AssetKey("portrait"))
    shown = told.asset_materialization.metadata if told else {}
    assert "middle" in str({name: getattr(value, "value", None) for name, value in shown.items()})


# ---- a provider of another package


def test_a_provider_brings_its_own_settings(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    install("generators", "fal", FAL)
    with pytest.raises(SettingsError, match="FC_GENERATOR is fal, but FC_FAL_KEY is not set") as caught:
        choose.make_generator(settings_of(generator="fal"))
    assert caught.value.hint == "Run: fc models pull fal --save"
    assert "FC_FAL_KEY are not set" in choose.make_generator(settings_of())[1]
    monkeypatch.setenv("FC_FAL_KEY", "secret")
    monkeypatch.setenv("FC_FAL_TRIES", "5")
    generator, why = choose.make_generator(settings_of())
    assert (generator.describe()["tries"], why) == (5, "fal, as FC_FAL_KEY is set.")
    monkeypatch.setenv("FC_FAL_TRIES", "0")
    with pytest.raises(SettingsError, match="FC_FAL_TRIES"):
        choose.make_generator(settings_of())


def test_its_settings_change_what_a_long_process_uses(
    install: Install, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("generators", "fal", FAL)
    monkeypatch.setenv("FC_GENERATOR", "fal")
    monkeypatch.setenv("FC_FAL_KEY", "secret")
    first = GeneratorResource().get()[0]
    assert GeneratorResource().get()[0] is first
    monkeypatch.setenv("FC_FAL_TRIES", "3")
    assert GeneratorResource().get()[0].describe()["tries"] == 3


def test_the_faces_may_be_made_by_another_back_end_than_the_scene(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("generators", "fal", FAL)
    monkeypatch.setenv("FC_FAL_KEY", "secret")
    settings = settings_of(generator="sketch")
    assert choose.make_generator(settings)[0].name == "sketch"
    generator, why = choose.make_face_generator(settings, name="fal")
    assert (generator.name, why) == ("fal", "fal, as the job says.")
    assert choose.make_face_generator(settings)[0].name == "sketch"
    with_model = settings_of(generator="sketch", face_model="somebody/inpainting")
    assert choose.make_face_generator(with_model, name="fal")[0].name == "fal"
    assert choose.make_face_generator(with_model, own_model=False)[0].name == "sketch"


def test_a_run_makes_its_faces_with_it(
    install: Install,
    instance: dg.DagsterInstance,
    queue: JobQueue,
    store: ImageStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    install("generators", "fal", FAL)
    monkeypatch.setenv("FC_GENERATOR", "fal")
    monkeypatch.setenv("FC_FAL_KEY", "secret")
    Image.fromarray(data.astronaut()).save(tmp_path / "astronaut.png")
    add_jobs(queue, store, {"job_type": "face_processing", "source_image": str(tmp_path / "astronaut.png")})
    claim_batch(queue, "batch-1")
    assert materialize(instance, "a", batch="batch-1").success
    record = read_provenance(store.read("6-final", "a.png"))["record"]
    assert record["face_pass"]["back_end"] | {"generator": "fal", "tries": 2} == record["face_pass"]["back_end"]
    assert "secret" not in str(record)


def test_the_place_of_the_generators_decides_what_needs_a_gpu(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("generators", "fal", FAL)
    assert gpu_stages(settings_of(generator="fal")) == ()
    assert gpu_stages(settings_of(generator="sketch")) == ()
    assert gpu_stages(settings_of(generator="forge")) == ()
    assert gpu_stages(settings_of(generator="fal", face_model="somebody/inpainting")) == ("changed_face",)
    for both in ("sdxl", "some.module:Generator", "unknown"):
        assert gpu_stages(settings_of(generator=both)) == ("generated_image", "changed_face"), both


def test_what_no_model_was_trained_for_is_told_from_the_rest(install: Install) -> None:
    install("generators", "fal", FAL)
    assert [backends.is_trained(name) for name in ("sketch", "sdxl", "flux", "fal", "")] == [
        False, True, True, True, True,
    ]  # fmt: skip


def test_its_model_file_is_one_that_can_be_fetched(install: Install, fc: Fc) -> None:
    install("generators", "fal", FAL)
    assert set(backends.published()) >= {"fal", "yunet", "sface"}
    assert "neither" not in fc("models", "pull", "fal", "--mirror", "https://127.0.0.1:1/fal.onnx")[2]


# ---- what a job says


def test_a_job_that_chooses_is_told_where_it_is_wrong() -> None:
    settings = settings_of(generator="sketch", writer="offline")
    for make, field in (
        (choose.make_generator, "generator"),
        (choose.make_writer, "writer"),
        (choose.make_detector, "detector"),
    ):
        with pytest.raises(SettingsError, match=f"{field}='nobody' is not a {field}") as caught:
            make(settings, name="nobody")  # type: ignore[operator]
        assert "auto" in caught.value.hint
    with pytest.raises(SettingsError, match="detector is yunet, but FC_YUNET_MODEL is not set") as caught:
        choose.make_detector(settings, name="yunet")
    assert caught.value.hint == "Run: fc models pull yunet --save"
    with pytest.raises(SettingsError, match="encoder='nobody' is not an encoder"):
        choose.make_encoder(settings, name="nobody")
    assert choose.make_generator(settings_of(generator="forge"), name="auto")[0].name == "sketch"


def test_a_model_is_not_chosen_of_a_back_end_without_models() -> None:
    with pytest.raises(SettingsError, match="checkpoint: the generator sketch cannot be given this by a job"):
        choose.make_generator(settings_of(), ModelChoice(checkpoint="a/b", vae="c/d"))


def test_what_jobs_choose_side_by_side_is_made_once_and_the_oldest_is_let_go_of(home: Path) -> None:
    resource = DetectorResource()
    first = resource.get(confidence=0.1)[0]
    assert resource.get(confidence=0.2)[0] is not first
    assert resource.get(confidence=0.1)[0] is first
    assert resource.get("haar", 0.1)[0] is not first, "named by the job, which its reason says"
    old = weakref.ref(first)
    del first
    for number in range(MOST_BACK_ENDS):
        resource.get(confidence=0.3 + number / 100)
    gc.collect()
    assert old() is None


# ---- packages that cannot be used


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("import no_such_module\n", "cannot be loaded .ModuleNotFoundError"),
        ("BACK_END = 3\n", "is no BackEnd of this kind and name"),
        (MIDDLE.replace('name="middle"', 'name="other"'), "is no BackEnd of this kind and name"),
        (MIDDLE.replace('kind="detector"', 'kind="writer"'), "is no BackEnd of this kind and name"),
        (MIDDLE.replace("inspection=", "rank=1, inspection="), "a rank without a key"),
    ],
)
def test_a_package_that_cannot_be_used_is_named(install: Install, fc: Fc, source: str, says: str) -> None:
    install("detectors", "middle", source)
    with pytest.raises(SettingsError, match=says) as caught:
        choose.make_detector(settings_of(detector="auto"))
    assert "The detector middle of the package fc-middle" in caught.value.what
    assert choose.make_detector(settings_of(detector="haar"))[0].name == "haar", "it is not asked about"
    assert "fc-middle" in fc("doctor")[1]


def test_one_name_in_two_packages_is_an_error(install: Install) -> None:
    install("detectors", "haar", MIDDLE, package="fc-mine", module="fc_test_mine")
    with pytest.raises(SettingsError, match=r"Two packages have a detector haar: .*fc-mine") as caught:
        choose.make_detector(settings_of(detector="haar"))
    assert caught.value.hint == "Uninstall one of them."


# ---- the example


@pytest.fixture(scope="module")
def gradient_site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`examples/plugin`, installed by pip into a folder of its own."""
    folder = tmp_path_factory.mktemp("plugin")
    shutil.copytree(PROJECT_ROOT / "examples/plugin", folder / "source")
    options = ["--quiet", "--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check"]
    target = ["--target", str(folder / "site"), str(folder / "source")]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, *target], check=True)
    return folder / "site"


@pytest.fixture
def gradient(gradient_site: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(gradient_site))
    forget()
    yield
    sys.modules.pop("face_changer_gradient", None)
    forget()


@pytest.mark.usefixtures("gradient")
def test_the_example_makes_a_scene_and_faces(
    instance: dg.DagsterInstance,
    queue: JobQueue,
    store: ImageStore,
    fc: Fc,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FC_GENERATOR", "gradient")
    monkeypatch.setenv("FC_GRADIENT_BRIGHTNESS", "255")
    assert "OK    generator  gradient, as FC_GENERATOR says." in fc("doctor")[1]
    Image.fromarray(data.astronaut()).save(tmp_path / "astronaut.png")
    add_jobs(
        queue,
        store,
        {"job_type": "sdxl_generation", "pony_prompt": "a sunset", "width": 128, "height": 128},
        {"job_type": "face_processing", "source_image": str(tmp_path / "astronaut.png")},
    )
    claim_batch(queue, "batch-1")
    assert materialize(instance, "a", "b", batch="batch-1").success
    assert [queue.get(job_id).status for job_id in "ab"] == ["completed", "completed"]
    assert (pixels(store, "6-final", "b.png") != data.astronaut()).any()
    assert pixels(store, "0-generated", "a.png").shape == (128, 128, 3)
    record = read_provenance(store.read("0-generated", "a.png"))
    assert record["record"]["made_by"]["brightness"] == 255
    assert record["digital_source_type"].endswith("algorithmicMedia"), "no model was trained for it"


@pytest.mark.usefixtures("gradient")
def test_the_example_works_beside_the_painter(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from resources.generators.base import ImageTask, InpaintTask

    resource = GeneratorResource()
    assert resource.get()[0].name == "sketch"
    generator, why = resource.for_faces("gradient")
    assert (generator.name, why) == ("gradient", "gradient, as the job says.")
    task = ImageTask("a", "a face", "", 7, 64, 64, 1, 1.0, "Euler")
    image, mask = np.zeros((64, 64, 3), np.uint8), np.zeros((64, 64), np.uint8)
    mask[16:48, 16:48] = 255
    (made,) = generator.inpaint([InpaintTask(task, image, mask, 1.0)])
    assert not isinstance(made, Exception)
    assert made.pixels[mask == 0].max() == 0
    assert made.pixels[mask == 255].max() > 0
    monkeypatch.setenv("FC_GRADIENT_BRIGHTNESS", "0")
    with pytest.raises(SettingsError, match="FC_GRADIENT_BRIGHTNESS"):
        resource.for_faces("gradient")
