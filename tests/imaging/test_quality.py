"""Checks of generated images, and the quality score."""

import io
import itertools

import cv2
import numpy as np
import pytest
from PIL import Image
from skimage import data

from imaging.geometry.crop import resize
from imaging.quality.score import Verdict, measure_quality, quality_score, rate_quality, verify_face, verify_output

PHOTOS = {"astronaut": data.astronaut, "coffee": data.coffee, "chelsea": data.chelsea}


def size_of(pixels: np.ndarray) -> tuple[int, int]:
    return (pixels.shape[1], pixels.shape[0])


def noise(shape: tuple[int, int, int]) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, shape, dtype=np.uint8)


def painting() -> np.ndarray:
    """Nothing but a slow change of colour."""
    ramp = np.linspace(60, 200, 256)
    return np.stack([np.tile(ramp, (256, 1)), np.tile(ramp[:, None], (1, 256)), np.full((256, 256), 90)], 2).astype(
        np.uint8
    )


# Output


@pytest.mark.parametrize("name", PHOTOS)
def test_photos_pass(name):
    photo = PHOTOS[name]()
    verdict = verify_output(photo, size_of(photo))
    assert verdict.passed
    assert verdict.reasons == ()
    assert verdict.scores["neighbour_correlation"] > 0.9


def test_a_smooth_painting_passes():
    assert verify_output(painting(), (256, 256)).passed


@pytest.mark.parametrize(
    ("pixels", "said"),
    [
        (np.zeros((64, 64, 3), np.uint8), "blank"),
        (np.full((64, 64, 3), (200, 30, 90), np.uint8), "blank"),
        (noise((64, 64, 3)) // 100, "blank"),  # nearly black
        (noise((64, 64, 3)), "noise"),
        (np.repeat(noise((64, 1, 3)), 64, axis=1), "noise"),  # every row of one random colour
        (np.repeat(noise((1, 64, 3)), 64, axis=0), "noise"),
    ],
)
def test_blank_and_noise_are_turned_down_with_their_number(pixels, said):
    verdict = verify_output(pixels, (64, 64))
    assert not verdict.passed
    assert len(verdict.reasons) == 1
    assert said in verdict.reasons[0]
    assert any(letter.isdigit() for letter in verdict.reasons[0])


def test_a_grainy_photo_is_not_noise():
    photo = data.astronaut()
    grain = np.random.default_rng(1).normal(0, 20, photo.shape)
    assert verify_output(np.clip(photo + grain, 0, 255).astype(np.uint8), (512, 512)).passed


FACE = np.s_[40:200, 144:304]  # the astronaut's


def oval(side: int = 160) -> np.ndarray:
    mask = np.zeros((side, side), np.uint8)
    cv2.ellipse(mask, (side // 2, side // 2), (side * 3 // 10, side * 2 // 5), 0, 0, 360, 255, -1)
    return cv2.GaussianBlur(mask, (0, 0), side / 40)


def pasted(new: np.ndarray, old: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """New pixels in the mask, and a bit of the old ones next to its edge, as a back end's latents mix them."""
    weight = cv2.erode(mask, np.ones((5, 5), np.uint8))[..., None] / 255
    return np.rint(old * (1 - weight) + new * weight).astype(np.uint8)


@pytest.mark.parametrize("light", [0.1, 0.4, 1.0])
@pytest.mark.parametrize("blur", [0, 4])
def test_a_face_dark_or_soft_passes_and_a_blank_or_noisy_one_in_its_place_does_not(light, blur):
    old = (data.astronaut()[FACE] * light).astype(np.uint8)
    old = cv2.GaussianBlur(old, (0, 0), blur) if blur else old
    mask = oval()
    assert verify_face(old, old, mask).passed
    assert verify_face((old * 0.8 + 20).astype(np.uint8), old, mask).passed
    coarse = cv2.resize(noise((64, 64, 3)), (160, 160), interpolation=cv2.INTER_CUBIC)
    flat = [np.full_like(old, level) for level in (0, 128, 255)]
    for new, said in [*((one, "blank") for one in flat), (noise(old.shape), "noise"), (coarse, "noise")]:
        verdict = verify_face(pasted(new, old, mask), old, mask)
        assert [said in reason for reason in verdict.reasons] == [True]


def test_a_mask_on_plain_skin_asks_for_no_more_than_was_there():
    old, mask = data.astronaut()[FACE], np.zeros((160, 160), np.uint8)
    mask[80:92, 60:70] = 255  # a cheek
    new = (cv2.GaussianBlur(old, (0, 0), 1) * 0.9).astype(np.uint8)
    assert verify_face(new, old, mask).passed
    assert not verify_face(np.zeros_like(old), old, mask).passed


@pytest.mark.parametrize("level", [0, 1, 200])
def test_a_mask_that_is_nowhere_full_is_looked_at_where_it_is(level):
    old = data.astronaut()[FACE]
    assert verify_face(old, old, np.full((160, 160), level, np.uint8)).passed
    assert not verify_face(old * 0, old, np.full((160, 160), level, np.uint8)).passed


def test_a_new_face_of_another_size_is_turned_down():
    old = data.astronaut()[FACE]
    assert verify_face(old[::2, ::2], old, oval()).reasons == ("it is 80x80, not 160x160",)


def test_the_wrong_size_is_turned_down():
    verdict = verify_output(painting(), (512, 256))
    assert verdict.reasons == ("it is 256x256, not 512x256",)
    assert not verdict.passed


# Score


def as_jpeg(pixels: np.ndarray, quality: int) -> np.ndarray:
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "JPEG", quality=quality)
    return np.asarray(Image.open(data))


def grainy(pixels: np.ndarray, deviation: float) -> np.ndarray:
    grain = np.random.default_rng(1).normal(0, deviation, pixels.shape)
    return np.clip(pixels + grain, 0, 255).astype(np.uint8)


DAMAGES = {
    "blur": [lambda p, s=s: cv2.GaussianBlur(p, (0, 0), s) for s in (0.7, 1, 2, 4)],
    "jpeg": [lambda p, q=q: as_jpeg(p, q) for q in (50, 20, 10, 5)],
    "noise": [lambda p, n=n: grainy(p, n) for n in (6, 12, 25, 50)],
    "wash-out": [lambda p, w=w: (p * w + 150 * (1 - w)).astype(np.uint8) for w in (0.6, 0.4, 0.2, 0.1)],
    "clipping": [lambda p, c=c: np.clip((p - 128.0) * c + 158, 0, 255).astype(np.uint8) for c in (1.5, 2, 4, 20)],
    "size": [lambda p, n=n: resize(p, (n, n)) for n in (256, 128, 64, 32)],
}


@pytest.mark.parametrize("side", [512, 1024])
@pytest.mark.parametrize("damage", DAMAGES)
def test_the_more_damage_the_lower_the_score(damage, side):
    photo = resize(data.astronaut(), (side, side))
    scores = [quality_score(photo)[0], *(quality_score(harm(photo))[0] for harm in DAMAGES[damage])]
    assert scores[0] > 0.9
    steps = [before - after for before, after in itertools.pairwise(scores)]
    assert all(step > 0 for step in steps), scores
    assert scores[-1] < scores[0] - 0.15, scores


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["coffee", "chelsea"])
def test_heavy_damage_lowers_the_score_of_any_photo(name, damage):
    photo = PHOTOS[name]()
    clean = quality_score(photo)[0]
    assert clean > 0.8
    assert quality_score(DAMAGES[damage][-1](photo))[0] < clean - 0.05


@pytest.mark.parametrize("size", [(1, 1), (2, 5), (23, 64), (64, 64), (4000, 30)])
def test_any_size_is_scored(size):
    score, parts = quality_score(np.full((size[1], size[0], 3), 90, np.uint8))
    assert 0 <= score < 0.3
    assert parts["contrast"] == 0


def test_each_part_falls_with_what_it_measures():
    photo = data.astronaut()
    _, good = quality_score(photo)
    worse = {
        "sharpness": cv2.GaussianBlur(photo, (0, 0), 5),
        "artefacts": as_jpeg(photo, 10),
        "contrast": (photo * 0.2 + 100).astype(np.uint8),
        "exposure": np.where(photo > 90, 255, 0).astype(np.uint8),
        "saturation": np.repeat(cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY)[:, :, None], 3, axis=2),
        "resolution": resize(photo, (128, 128)),
    }
    assert worse.keys() == good.keys()
    for part, pixels in worse.items():
        assert quality_score(pixels)[1][part] < good[part], part


NUMBERS = {
    "sharpness": 50.0, "blockiness": 1.1, "noise": 12.5, "contrast": 30.0, "clipped": 0.5, "saturation": 0.15,
    "megapixels": 0.25,
}  # fmt: skip


def test_the_score_is_the_weighted_geometric_mean_of_its_parts():
    score, parts = rate_quality(NUMBERS)
    assert parts == {
        "sharpness": 0.5, "artefacts": 0.25, "contrast": 0.5, "exposure": 0.5, "saturation": 0.5, "resolution": 0.5,
    }  # fmt: skip
    assert score == pytest.approx(0.5**0.75 * 0.25**0.25, abs=0.001)
    best = {"sharpness": 9999, "blockiness": 0, "noise": 0, "contrast": 99, "clipped": 0, "saturation": 1}
    assert rate_quality(best | {"megapixels": 8}) == (1.0, dict.fromkeys(parts, 1.0))
    worst = {"sharpness": 0, "blockiness": 1e9, "noise": 255, "contrast": 0, "clipped": 1, "saturation": 0}
    assert rate_quality(worst | {"megapixels": 0.0001})[0] == 0.05


def test_the_noise_of_a_blurred_photo_is_not_taken_for_sharpness():
    blurred = cv2.GaussianBlur(data.astronaut(), (0, 0), 3)
    noisy = grainy(blurred, 12)
    assert cv2.Laplacian(noisy[:, :, 1], cv2.CV_32F).var() > 1000
    assert measure_quality(noisy)["sharpness"] < 100


def test_only_the_middle_of_a_large_image_is_looked_at_for_blocks_and_noise():
    large = np.full((3000, 4000, 3), 90, np.uint8)
    large[:, :1000] = noise((3000, 1000, 3))
    assert measure_quality(large)["noise"] == 0.0
    large[1000:2000, 1500:2500] = noise((1000, 1000, 3))
    assert measure_quality(large)["noise"] > 40


def test_a_verdict_cannot_be_changed():
    with pytest.raises(AttributeError):
        Verdict(passed=True, scores={}).passed = False
