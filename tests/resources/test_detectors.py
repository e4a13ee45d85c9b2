"""The two detectors on photographs, and the choice between them."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from skimage import data

from imaging.errors import SettingsError
from imaging.geometry.align import cut, frame_around, upright_angle
from resources.choose import make_detector
from resources.detectors.haar import HaarDetector
from resources.detectors.yunet import YuNetDetector
from resources.plugins import load_plugin
from resources.settings import PROJECT_ROOT, Settings

MODEL = Path(
    os.environ.get("FC_YUNET_MODEL") or PROJECT_ROOT.parent / "shared/models/face_detection_yunet_2023mar.onnx"
)


class OwnDetector:
    """A plugin, for the tests of dotted paths."""

    name = "own"
    not_callable = 3

    def __init__(self, settings):
        self.settings = settings


def settings(monkeypatch, **fields):
    for name in ("FC_DETECTOR", "FC_YUNET_MODEL"):
        monkeypatch.delenv(name, raising=False)
    return Settings(_env_file=None, **fields)


@pytest.fixture(params=["haar", "yunet"], scope="module")
def detector(request):
    if request.param == "haar":
        return HaarDetector()
    if not MODEL.is_file():
        pytest.skip("the YuNet model is not here: set FC_YUNET_MODEL")
    return YuNetDetector(MODEL)


@pytest.fixture(scope="module")
def yunet():
    if not MODEL.is_file():
        pytest.skip("the YuNet model is not here: set FC_YUNET_MODEL")
    return YuNetDetector(MODEL)


def inside(face, image):
    box = face.box
    return 0 <= box.left < box.right <= image.shape[1] and 0 <= box.top < box.bottom <= image.shape[0]


def test_one_face_in_the_portrait_and_none_in_cat_and_coffee(detector):
    # One instance sees images of three sizes in turn, and again.
    for _ in range(2):
        (face,) = detector.detect(data.astronaut())
        x, y = face.box.center
        assert abs(x - 224) < 12
        assert abs(y - 115) < 12
        assert 0.6 <= face.score <= 1.0
        assert inside(face, data.astronaut())
        assert detector.detect(data.chelsea()) == []
        assert detector.detect(data.coffee()) == []


def test_two_portraits_side_by_side_are_two_faces(detector):
    pair = np.hstack([data.astronaut(), data.astronaut()])
    assert len(detector.detect(pair)) == 2


@pytest.mark.parametrize("shape", [(64, 64), (64, 512), (700, 65), (8, 8)])
def test_blank_images_of_any_size_hold_no_face(detector, shape):
    for _ in range(12):  # an answer out of uninitialised memory would differ now and then
        assert detector.detect(np.full((*shape, 3), 128, np.uint8)) == []


def test_a_view_that_is_not_contiguous_is_read(detector):
    mirrored = data.astronaut()[:, ::-1]
    (face,) = detector.detect(mirrored)
    assert abs(face.box.center[0] - (512 - 224)) < 12


def test_yunet_landmarks_are_in_order(yunet):
    (face,) = yunet.detect(data.astronaut())
    left_eye, right_eye, nose, left_mouth, right_mouth = face.landmarks
    assert left_eye[0] < nose[0] < right_eye[0]
    assert left_mouth[0] < right_mouth[0]
    assert left_eye[1] < nose[1] < left_mouth[1]
    assert abs(face.roll) < 5


@pytest.mark.parametrize(("turns", "roll"), [(1, -90), (2, 180), (3, 90)])
def test_yunet_finds_turned_faces_and_says_how_they_are_turned(yunet, turns, roll):
    image = np.rot90(data.astronaut(), turns)
    (face,) = yunet.detect(image)
    assert inside(face, image)
    assert abs((face.roll - roll + 180) % 360 - 180) < 5


OWN_ROLL = 3.0  # of the astronaut, by her irises: (202.8, 101.3) and (246.5, 103.5)
TURNS = (-40, -32, -24, -16, -8, -4, 0, 4, 8, 16, 24, 32, 40)


def rolls_off(yunet, photo, size):
    """By how many degrees each turned face is read wrongly."""
    off = []
    for angle in TURNS:
        turned = cv2.warpAffine(photo, cv2.getRotationMatrix2D((224, 118), -angle, size / 90), (600, 600))
        turned = np.roll(turned, (190, 90), axis=(0, 1))
        (face,) = yunet.detect(turned)
        off.append(abs(upright_angle(face) - angle - OWN_ROLL))
    return off


@pytest.mark.parametrize("size", [36, 60, 90, 150])
def test_yunet_reads_how_a_face_is_turned_to_a_degree(yunet, size):
    assert max(rolls_off(yunet, data.astronaut(), size)) < 1


@pytest.mark.parametrize("size", [60, 90, 150])
def test_a_face_in_sunglasses_is_read_to_a_few_degrees(yunet, size):
    photo = data.astronaut()
    for x, y in ((203, 101), (246, 103)):
        cv2.ellipse(photo, (x, y), (14, 10), 3, 0, 360, (20, 20, 25), -1)
    cv2.line(photo, (203, 99), (246, 101), (20, 20, 25), 2)
    off = rolls_off(yunet, photo, size)
    assert np.mean(off) < 3
    assert max(off) < 8


def beside(angle):
    """The astronaut, upright, and beside her once more, turned by `angle` degrees clockwise."""
    turned = cv2.warpAffine(
        data.astronaut(), cv2.getRotationMatrix2D((224, 118), -angle, 1), (512, 512), borderValue=(128, 128, 128)
    )
    turned = np.roll(turned, (140, 30), axis=(0, 1)) if angle else turned
    return np.hstack([data.astronaut(), turned])


@pytest.mark.parametrize("angle", [45, 90, 135, 180, 225, 270, 315])
def test_a_turned_face_beside_an_upright_one_is_turned_for_itself(detector, angle):
    left, right = sorted(detector.detect(beside(angle)), key=lambda face: face.box.left)
    assert abs(upright_angle(left) - OWN_ROLL) < 2
    assert abs((upright_angle(right) - OWN_ROLL - angle + 180) % 360 - 180) < 2
    assert min(left.score, right.score) >= 0.6
    cut_upright = cut(beside(angle), frame_around(right, (1024, 512), 0.3), 128)
    reference = cut(beside(angle), frame_around(left, (1024, 512), 0.3), 128)
    assert np.corrcoef(cut_upright.ravel(), reference.ravel())[0, 1] > 0.4


def test_a_crowd_of_which_each_looks_another_way(detector):
    rows = [np.hstack([np.rot90(data.astronaut()[:256, 96:352], (across + down) % 4) for across in range(4)])
            for down in range(3)]  # fmt: skip
    faces = [face for face in detector.detect(np.vstack(rows)) if face.score >= 0.6]
    assert len(faces) == 12
    for face in faces:
        turns = (int(face.box.center[0] // 256) + int(face.box.center[1] // 256)) % 4
        assert abs((upright_angle(face) - OWN_ROLL + 90 * turns + 180) % 360 - 180) < 3


def test_yunet_clamps_a_face_at_the_border(yunet):
    image = data.astronaut()[90:, 190:]
    for face in yunet.detect(image):
        assert inside(face, image)


def test_haar_landmarks_are_five_in_the_right_places_or_none():
    detector = HaarDetector()
    from sketch.paint import paint_scene

    for seed in range(4):
        for face in detector.detect(paint_scene("portrait of a woman", "glasses", seed, 512, 512)):
            if face.landmarks is not None:
                assert len(face.landmarks) == 5
                assert all(
                    face.box.left <= x <= face.box.right and face.box.top <= y <= face.box.bottom * 1.05
                    for x, y in face.landmarks
                )


def test_haar_finds_the_irises_and_not_only_the_eyes():
    (face,) = HaarDetector().detect(data.astronaut())
    for (x, y), (true_x, true_y) in zip(face.landmarks[:2], [(203.4, 101.4), (245.3, 101.7)], strict=True):
        assert abs(x - true_x) < 2.5  # of 42 between the eyes
        assert abs(y - true_y) < 2.5


def test_a_wrong_model_file_is_refused_with_its_hash(tmp_path):
    wrong = tmp_path / "model.onnx"
    wrong.write_bytes(b"not a model")
    with pytest.raises(SettingsError, match=r"FC_YUNET_MODEL.*SHA-256"):
        YuNetDetector(wrong)
    with pytest.raises(SettingsError, match="FC_YUNET_MODEL: there is no file") as caught:
        YuNetDetector(tmp_path / "missing.onnx")
    assert "face_detection_yunet_2023mar.onnx" in caught.value.hint


def test_descriptions_are_json_and_equal_between_instances():
    import json

    assert json.dumps(HaarDetector().describe()) == json.dumps(HaarDetector().describe())
    assert HaarDetector(0.5).describe() != HaarDetector(0.6).describe()


def test_auto_takes_haar_without_a_model_and_yunet_with_one(monkeypatch, tmp_path):
    detector, why = make_detector(settings(monkeypatch))
    assert detector.name == "haar"
    assert "FC_YUNET_MODEL is not set" in why
    with pytest.raises(SettingsError, match="there is no file"):
        make_detector(settings(monkeypatch, yunet_model=tmp_path / "missing.onnx"))
    with pytest.raises(SettingsError, match="FC_YUNET_MODEL is not set"):
        make_detector(settings(monkeypatch, detector="yunet"))
    if MODEL.is_file():
        detector, why = make_detector(settings(monkeypatch, yunet_model=MODEL))
        assert detector.name == "yunet"
        assert "FC_YUNET_MODEL is set" in why
        assert make_detector(settings(monkeypatch, yunet_model=MODEL, detector="haar"))[0].name == "haar"


def test_a_dotted_path_is_called_with_the_settings(monkeypatch):
    spec = f"{__name__}:OwnDetector"
    chosen = settings(monkeypatch, detector=spec)
    detector, why = make_detector(chosen)
    assert detector.settings is chosen
    assert spec in why


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("no.such.module:Thing", "cannot be imported"),
        (f"{__name__}:Missing", "has no Missing"),
        (f"{__name__}:OwnDetector.not_callable", "cannot be called"),
        ("a b:c", "not a dotted path"),
        ("module:", "not a dotted path"),
        (":Class", "not a dotted path"),
    ],
)
def test_a_wrong_dotted_path_names_the_setting(spec, says):
    with pytest.raises(SettingsError, match=says) as caught:
        load_plugin(spec, "FC_DETECTOR")
    assert "FC_DETECTOR" in caught.value.what
    assert caught.value.hint


def test_an_unknown_name_is_an_error(monkeypatch):
    with pytest.raises(SettingsError, match="is not a detector"):
        make_detector(settings(monkeypatch, detector="mtcnn"))
