"""The turn of a face, read again on upright cuts: by its irises, or by a detector that leans towards upright."""

import math

import cv2
import numpy as np
import pytest

from imaging.faces.search import Sighting
from imaging.faces.second_look import second_look
from imaging.geometry.align import upright_angle
from imaging.geometry.boxes import Box, Face

USUAL = np.array([(-0.21, -0.14), (0.21, -0.14), (0, 0.04), (-0.17, 0.24), (0.17, 0.24)])
COLORS = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (0, 255, 255))
WIDTH = 120


def turned(angle: float, points: np.ndarray = USUAL * WIDTH) -> np.ndarray:
    turn = math.radians(angle)
    return points @ np.array([(math.cos(turn), math.sin(turn)), (-math.sin(turn), math.cos(turn))])


def picture(*faces: tuple[float, float, float]) -> np.ndarray:
    """Faces of five coloured dots at (x, y, angle)."""
    image = np.zeros((500, 700, 3), np.uint8)
    for x, y, angle in faces:
        for point, color in zip(np.add(turned(angle), (x, y)), COLORS, strict=True):
            cv2.circle(image, tuple(int(side) for side in np.rint(point)), 7, color, -1)
    return image


def found(x: float, y: float, angle: float, score: float = 0.9) -> Face:
    """A face as a detector says it is, turned by `angle`."""
    points = np.add(turned(angle), (x, y))
    box = Box(round(x - 60), round(y - 75), round(x + 60), round(y + 75))
    return Face(box, score, tuple((float(a), float(b)) for a, b in points))


class Leaning:
    """A detector of the dots that reads so much of a turn, and none over 60 degrees."""

    def __init__(self, reads: float, score: float = 0.9):
        self.reads, self.score, self.looks = reads, score, 0

    def __call__(self, image: np.ndarray):
        self.looks += 1
        dots = []
        for color in COLORS:
            rows, columns = np.nonzero((np.abs(image.astype(int) - color) < 100).all(axis=2))
            if not rows.size:
                return
            dots.append((columns.mean() + 0.5, rows.mean() + 0.5))
        dots = np.array(dots)
        # Of a mirrored face the dots are named by their place, as a detector does.
        if dots[0, 0] > dots[1, 0]:
            dots = dots[[1, 0, 2, 4, 3]]
        across = dots[1] - dots[0]
        angle = math.degrees(math.atan2(across[1], across[0]))
        if abs(angle) > 60:
            return
        middle, scale = dots.mean(axis=0), np.linalg.norm(across) / 0.42
        seen = turned(angle * self.reads, USUAL * scale) + middle
        half = scale * 0.6
        corners = (middle[0] - half, middle[1] - half, middle[0] + half, middle[1] + half)
        yield Sighting(corners, self.score, tuple((float(x), float(y)) for x, y in seen))


def no_irises(_grey: np.ndarray) -> None:
    return None


@pytest.mark.parametrize("reads", [0.5, 0.7, 0.9])
@pytest.mark.parametrize("angle", [-30, -12, 0, 8, 35, 100, 180, -90])
def test_a_detector_that_leans_towards_upright_is_asked_until_the_face_is(angle, reads):
    start = 90 * round(angle / 90) + (angle - 90 * round(angle / 90)) * reads
    face = second_look(picture((350, 250, angle)), found(350, 250, start), Leaning(reads), no_irises)
    off = (upright_angle(face) - angle + 180) % 360 - 180
    assert abs(off) < 2.5
    assert face.box == found(350, 250, 0).box
    assert np.abs(np.array(face.landmarks) - (350, 250) - turned(angle)).max() < 10


def test_irises_decide_and_save_the_looks():
    def irises(grey: np.ndarray):
        assert grey.shape == (72, 160)
        return (48.0, 33.0), (112.0, 39.0)

    look = Leaning(0.5)
    face = second_look(picture((350, 250, 10)), found(350, 250, 5), look, irises)
    assert upright_angle(face) == pytest.approx(5 + math.degrees(math.atan2(6, 64)), abs=0.01)
    assert look.looks == 0


def test_irises_far_off_level_are_looked_at_again_and_believed_when_they_are_level_then():
    seen = iter([((50.0, 26.0), (110.0, 44.0)), ((48.0, 36.0), (112.0, 36.0))])
    face = second_look(picture((350, 250, 20)), found(350, 250, 5), Leaning(0.5), lambda _grey: next(seen))
    assert upright_angle(face) == pytest.approx(5 + math.degrees(math.atan2(18, 60)), abs=0.01)


@pytest.mark.parametrize("eyes", [((20.0, 70.0), (80.0, 70.0)), ((80.0, 5.0), (140.0, 5.0))])
def test_irises_of_another_place_are_not_those_of_the_face(eyes):
    face = second_look(picture((350, 250, 20)), found(350, 250, 10), Leaning(0.5), lambda _grey: eyes)
    assert abs(upright_angle(face) - 20) < 2.5


@pytest.mark.parametrize(
    "look",
    [
        lambda _image: [],
        lambda _image: [Sighting((0, 0, 40, 40), 0.99, ((5, 9), (30, 20), (15, 20), (9, 30), (25, 30)))],  # beside it
        lambda _image: [  # a part of it
            Sighting((100, 100, 130, 130), 0.99, ((105, 105), (125, 110), (115, 115), (109, 124), (121, 124)))
        ],
        Leaning(0.5, score=0.5),  # much less sure than before
        lambda _image: [  # on its head
            Sighting((45, 45, 180, 180), 0.99, ((150, 150), (75, 150), (112, 112), (140, 80), (85, 80)))
        ],
    ],
)
def test_a_face_that_is_not_seen_again_stays_as_it_was(look):
    face = found(350, 250, 10)
    assert second_look(picture((350, 250, 20)), face, look, no_irises) == face


def test_a_face_does_not_turn_further_than_its_landmarks_may_be_wrong():
    class Turning:
        """Reads 40 degrees, and by that more, in each look, and in its mirror image the same the other way round."""

        looks = 0

        def __call__(self, image: np.ndarray):
            self.looks += 1
            side = image.shape[0]
            points = turned(40 if self.looks % 2 else -40, USUAL * side * 0.5) + side / 2
            yield Sighting((side * 0.2, side * 0.2, side * 0.8, side * 0.8), 0.9, tuple(map(tuple, points.tolist())))

    face = found(350, 250, 10)
    assert second_look(picture((350, 250, 20)), face, Turning(), no_irises) == face


def test_a_face_without_landmarks_is_left_alone():
    look = Leaning(0.5)
    bare = Face(Box(290, 175, 410, 325), 0.9)
    assert second_look(picture((350, 250, 20)), bare, look, no_irises) == bare
    assert look.looks == 0


def test_a_chance_hit_that_is_not_seen_again_has_half_its_score():
    """39 pixels of bokeh, which the first look gave 0.62."""
    bokeh = np.full((500, 700, 3), 30, np.uint8)
    for x, y, size in ((350, 250, 22), (380, 262, 18), (330, 280, 25)):
        cv2.circle(bokeh, (x, y), size, (230, 200, 120), -1)
    bokeh = cv2.GaussianBlur(bokeh, (0, 0), 3)
    points = tuple((float(x), float(y)) for x, y in turned(0, USUAL * 39) + np.array([[350, 250]]))
    hit = Face(Box(330, 226, 369, 275), 0.62, points)
    assert second_look(bokeh, hit, lambda _image: [], no_irises).score == 0.31
    # One that is seen again, but not surely, is none either.
    unsure = [Sighting((30, 30, 130, 130), 0.66, tuple(map(tuple, (turned(0, USUAL * 100) + 80).tolist())))]
    assert second_look(bokeh, hit, lambda _image: unsure, no_irises).score == 0.31


def test_a_face_that_is_seen_surely_in_its_own_cut_keeps_its_score():
    face = found(350, 250, 0, score=0.62)
    assert second_look(picture((350, 250, 0)), face, Leaning(0.7), no_irises).score == 0.62


def test_a_smear_is_left_to_the_checks_of_portraits():
    smear = Face(Box(290, 175, 410, 325), 0.7, tuple(map(tuple, (turned(0) + np.array([[350, 250]])).tolist())))
    assert second_look(np.full((500, 700, 3), 90, np.uint8), smear, lambda _image: [], no_irises).score == 0.7
