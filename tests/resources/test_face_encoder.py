"""SFace through OpenCV, with a small model of the same inputs and outputs in its place."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from skimage import data

from imaging.errors import BackendError, SettingsError
from imaging.faces.identity import similarity
from imaging.geometry.boxes import Box, Face
from resources.choose import make_encoder
from resources.detectors.yunet import YuNetDetector
from resources.encoders import sface
from resources.encoders.base import FaceEncoder
from resources.encoders.sface import SFaceEncoder
from resources.settings import Settings
from tests.support.tiny_onnx import sface_like

FACE = Face(  # skimage's astronaut, as YuNet finds her
    Box(179, 62, 269, 175), 0.9, ((203.0, 105.0), (245.0, 105.0), (223.0, 130.0), (207.0, 150.0), (240.0, 150.0))
)


def known(path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that passes for SFace."""
    path.write_bytes(content)
    monkeypatch.setattr(sface, "MODEL_SHA256", hashlib.sha256(content).hexdigest())
    return path


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return known(tmp_path / "sface.onnx", sface_like(), monkeypatch)


@pytest.fixture
def encoder(model: Path) -> FaceEncoder:
    return SFaceEncoder(model)


def turned(quarters: int) -> tuple[np.ndarray, Face]:
    """The picture and its face, turned counter-clockwise."""
    box, points = FACE.box, FACE.landmarks
    for _ in range(quarters):
        box = Box(box.top, 512 - box.right, box.bottom, 512 - box.left)
        points = tuple((y, 512 - x) for x, y in points)
    return np.rot90(data.astronaut(), quarters), Face(box, FACE.score, points)


def test_an_embedding_is_a_unit_vector_and_the_same_each_time(encoder):
    first = encoder.embed(data.astronaut(), FACE)
    assert (first.shape, first.dtype) == ((128,), np.float32)
    assert np.linalg.norm(first) == pytest.approx(1, abs=1e-5)
    kept = first.copy()
    other = encoder.embed(255 - data.astronaut(), FACE)
    assert np.array_equal(first, kept)  # not overwritten by the next call
    assert np.array_equal(first, encoder.embed(data.astronaut(), FACE))
    assert similarity(first, other) < 0.99


def test_the_face_is_brought_upright_before_it_is_embedded(encoder):
    upright = encoder.embed(data.astronaut(), FACE)
    for quarters in (1, 2, 3):
        assert similarity(encoder.embed(*turned(quarters)), upright) > 0.995
        image, _ = turned(quarters)
        assert similarity(encoder.embed(image, FACE), upright) < 0.99  # the landmarks lie elsewhere


def test_the_model_sees_red_as_red(model, monkeypatch, tmp_path):
    """OpenCV turns BGR into the RGB that the model wants, so what it sees must be BGR."""
    encoder = SFaceEncoder(model)
    picture = np.zeros((512, 512, 3), np.uint8)
    picture[:, :, 0] = 200
    weights = np.random.default_rng(0).normal(0, 0.01, (2, 3, 14, 14)).astype(np.float32)
    expected = np.repeat(weights[:, 0].sum(axis=(1, 2)), 64)
    expected /= np.linalg.norm(expected)
    assert np.abs(encoder.embed(picture, FACE) - expected).max() < 1e-4


def test_yunet_finds_what_is_embedded(encoder, yunet_model):
    (face,) = YuNetDetector(yunet_model).detect(data.astronaut())
    assert similarity(encoder.embed(data.astronaut(), face), encoder.embed(data.astronaut(), FACE)) > 0.9


def test_a_face_without_landmarks_cannot_be_told(encoder):
    with pytest.raises(BackendError, match=r"\(179, 62, 269, 175\) has no landmarks") as caught:
        encoder.embed(data.astronaut(), Face(FACE.box, 0.9))
    assert "FC_DETECTOR=yunet" in caught.value.hint


def test_no_embedding_is_an_error(encoder):
    with pytest.raises(BackendError, match="gave no embedding"):
        encoder.embed(np.zeros((512, 512, 3), np.uint8), FACE)


def test_what_opencv_cannot_do_is_told(encoder):
    with pytest.raises(BackendError, match="SFace failed on the face at"):
        encoder.embed(np.zeros((0, 0, 3), np.uint8), FACE)


def test_a_wrong_file_is_refused_with_its_hash(tmp_path):
    wrong = tmp_path / "model.onnx"
    wrong.write_bytes(sface_like())
    with pytest.raises(SettingsError, match=r"FC_SFACE_MODEL.*another file: its SHA-256"):
        SFaceEncoder(wrong)
    with pytest.raises(SettingsError, match="FC_SFACE_MODEL: there is no file") as caught:
        SFaceEncoder(tmp_path / "none.onnx")
    assert caught.value.hint == "Run: fc models pull sface --save"


def test_the_encoder_is_what_the_settings_name(model, tmp_path):
    assert make_encoder(Settings(_env_file=None))[0] is None
    assert "FC_SFACE_MODEL is not set" in make_encoder(Settings(_env_file=None))[1]
    encoder, why = make_encoder(Settings(_env_file=None, sface_model=model))
    assert (encoder.name, why) == ("sface", "sface, as FC_SFACE_MODEL is set.")
    assert json.loads(json.dumps(encoder.describe()))["model_sha256"] == sface.MODEL_SHA256
    with pytest.raises(SettingsError, match="there is no file"):
        make_encoder(Settings(_env_file=None, sface_model=tmp_path / "none.onnx"))


def test_the_published_hash_is_whole():
    assert len(bytes.fromhex(sface.MODEL_SHA256)) == 32
