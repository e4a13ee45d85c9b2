"""Another model for the face pass: which generator it gets, what its errors name, and a run of the real graph."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import numpy as np
import pytest

from imaging.errors import SettingsError
from imaging.files.provenance import read_provenance
from jobs.queue.job_queue import JobQueue
from resources.choose import make_face_generator, make_generator
from resources.generators.diffusion.flux import FluxGenerator
from resources.generators.diffusion.model_cache import MODELS
from resources.generators.diffusion.sdxl import SdxlGenerator
from resources.settings import Settings
from resources.store.image_store import ImageStore
from sketch.generator import SketchGenerator
from tests.support.graph import add_jobs, materialize, pixels
from tests.support.sdxl import inpaint_task
from tests.support.tiny_flux import build_tiny_flux


@pytest.fixture(scope="module")
def tiny_flux(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_flux(tmp_path_factory.mktemp("flux") / "tiny")


def settings_of(**fields: object) -> Settings:
    return Settings(_env_file=None, **fields)  # type: ignore[arg-type]


def test_the_kind_of_model_decides_the_generator(tiny_sdxl: Path, tiny_flux: Path) -> None:
    generator, why = make_face_generator(settings_of(generator="sketch"))
    assert isinstance(generator, SketchGenerator)
    generator, why = make_face_generator(settings_of(generator="sketch", face_model=str(tiny_flux)))
    assert isinstance(generator, FluxGenerator)
    assert why == "flux, as FC_FACE_MODEL is set."
    generator, why = make_face_generator(
        settings_of(sdxl_model="somebody/a-model", sdxl_revision="v2", face_model=str(tiny_sdxl))
    )
    assert isinstance(generator, SdxlGenerator)
    assert (generator.names.checkpoint, generator.names.revision) == (str(tiny_sdxl), "")
    assert isinstance(make_face_generator(settings_of(face_model="somebody/FLUX.1-dev"))[0], FluxGenerator)
    assert isinstance(make_face_generator(settings_of(face_model="somebody/inpainting"))[0], SdxlGenerator)
    assert isinstance(make_generator(settings_of(sdxl_model=str(tiny_flux)))[0], FluxGenerator)


def test_errors_name_the_variable_of_the_face_model(tmp_path: Path) -> None:
    generator, _why = make_face_generator(settings_of(face_model=str(tmp_path)))
    with pytest.raises(SettingsError, match=r"FC_FACE_MODEL: .* has no model_index\.json"):
        generator.describe()
    with pytest.raises(SettingsError, match="FC_FACE_MODEL") as caught:
        next(generator.inpaint([inpaint_task()]))
    assert "FC_SDXL_MODEL" not in str(caught.value)


def test_a_scene_and_its_faces_by_two_models(
    instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore, tiny_flux: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FC_FACE_MODEL", str(tiny_flux))
    monkeypatch.setenv("FC_FACE_SIZE", "32")
    monkeypatch.setenv("FC_SDXL_DEVICE", "cpu")
    add_jobs(queue, store, {"pony_prompt": "portrait of a smiling woman with red hair, forest", "steps": 2})
    result = materialize(instance, "a")
    assert result.success
    assert queue.get("a").status == "completed"
    told = [record.user_message for record in instance.all_logs(result.run_id) if record.dagster_event is None]
    assert "1 images by sketch, as FC_GENERATOR says." in told
    assert "Faces at 32 px by flux, as FC_FACE_MODEL is set." in told
    before, after = pixels(store, "0-generated", "a.png"), pixels(store, "6-final", "a.png")
    mask = pixels(store, "3-masks", "a.png")
    assert np.array_equal(before[mask == 0], after[mask == 0])
    assert np.abs(before[mask == 255].astype(int) - after[mask == 255]).mean() > 3
    found = read_provenance(store.read("6-final", "a.png"))
    face_pass = found["record"]["face_pass"]
    assert face_pass["back_end"]["generator"] == "flux"
    assert face_pass["faces"][0]["not_used"] == ["cfg_scale", "scheduler", "negative_prompt"]
    assert found["record"]["made_by"]["generator"] == "sketch"
    assert "CFG scale: 6" in found["parameters"], "that of the scene"
    MODELS.clear()


def test_a_photo_whose_faces_flux_made_claims_no_sampler_and_no_cfg(
    instance: dg.DagsterInstance,
    queue: JobQueue,
    store: ImageStore,
    tiny_flux: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from PIL import Image
    from skimage import data

    Image.fromarray(data.astronaut()).save(tmp_path / "astronaut.png")
    monkeypatch.setenv("FC_FACE_MODEL", str(tiny_flux))
    monkeypatch.setenv("FC_FACE_SIZE", "32")
    monkeypatch.setenv("FC_SDXL_DEVICE", "cpu")
    photo = str(tmp_path / "astronaut.png")
    add_jobs(queue, store, {"job_type": "face_processing", "source_image": photo, "steps": 2})
    assert materialize(instance, "a").success
    if queue.get("a").error_stage == "changed_face":  # random weights make noise, for most seeds
        queue.approve("a")
        assert materialize(instance, "a", selection=("final_image", "description")).success
    text = read_provenance(store.read("6-final", "a.png"))["parameters"]
    assert "Sampler: FlowMatchEulerDiscreteScheduler" in text
    assert "CFG scale" not in text
    MODELS.clear()
