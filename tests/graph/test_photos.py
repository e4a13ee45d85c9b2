"""Photos through a real face_processing run: transparency, EXIF, grey, 16 bits; and how much memory merging takes."""

import io
import tracemalloc

import cv2
import numpy as np
import pytest
from PIL import ExifTags, Image
from PIL.PngImagePlugin import PngInfo
from skimage import data

from fc_assets.stages.final_image import merge_faces
from imaging.faces.mask import draw_mask
from imaging.files.alpha import on_white, resize_rgba
from imaging.files.provenance import Provenance, decode_png_exact, encode_png, read_exif, read_provenance
from imaging.geometry.boxes import Box, Face
from imaging.geometry.crop import portrait_box
from resources.artifacts.images import Patch, PatchesRecord
from resources.artifacts.records import FaceRecord, PortraitRecord
from tests.support.graph import add_jobs, materialize

PHOTO = np.ascontiguousarray(data.astronaut()[:320, 60:380])

LEVELS = np.arange(4, 250, 6)


def see_through() -> np.ndarray:
    """The astronaut, transparent at the left, half so at the right, with colours hidden below."""
    alpha = np.full(PHOTO.shape[:2], 255, np.uint8)
    alpha[:, :40], alpha[:, 280:] = 0, 128
    return np.dstack([PHOTO, alpha])


def finished(instance, queue, store, source, **fields) -> bytes:
    """The final image's file of a face_processing job of a source photo."""
    add_jobs(queue, store, {"job_type": "face_processing", "source_image": str(source), "seed": 7, **fields})
    result = materialize(instance, "a")
    assert result.success
    assert queue.get("a").status == "completed", queue.get("a").error
    return store.read("6-final", "a.png")


def test_transparency_is_carried_through_exactly(tmp_path, instance, queue, store):
    rgba = see_through()
    Image.fromarray(rgba).save(tmp_path / "a.png")
    final = decode_png_exact(finished(instance, queue, store, tmp_path / "a.png"))
    mask = decode_png_exact(store.read("3-masks", "a.png"))
    assert mask.any()
    assert np.array_equal(final[..., 3], rgba[..., 3])
    assert np.array_equal(final[mask == 0], rgba[mask == 0])
    assert (final != rgba).any()
    assert np.array_equal(decode_png_exact(store.read("4-results", "a.png")), final)


def own_mask(tmp_path, pixels) -> str:
    Image.fromarray(pixels).save(tmp_path / "mask.png")
    return str(tmp_path / "mask.png")


@pytest.mark.parametrize("hidden", [255, 0])
def test_strokes_on_a_transparent_layer_are_the_mask(tmp_path, instance, queue, store, hidden):
    Image.fromarray(PHOTO).save(tmp_path / "a.png")
    strokes = cv2.circle(np.zeros(PHOTO.shape[:2], np.uint8), (168, 110), 20, 255, -1)
    colors = np.where(strokes > 0, 255, hidden).astype(np.uint8)
    mask = own_mask(tmp_path, np.dstack([colors, colors, colors, strokes]))
    final = decode_png_exact(finished(instance, queue, store, tmp_path / "a.png", mask=mask))
    assert np.array_equal(decode_png_exact(store.read("3-masks", "a.png")), strokes)
    changed = np.any(final != PHOTO, axis=2)
    assert changed[strokes > 0].mean() > 0.9
    assert not changed[strokes == 0].any()


def test_a_mask_that_is_black_at_every_face_waits_for_a_person(tmp_path, instance, queue, store):
    Image.fromarray(PHOTO).save(tmp_path / "a.png")
    corner = np.zeros(PHOTO.shape[:2], np.uint8)
    corner[300:, :20] = 255
    add_jobs(queue, store, {"job_type": "face_processing", "source_image": str(tmp_path / "a.png"), "seed": 7,
                            "mask": own_mask(tmp_path, corner)})  # fmt: skip
    materialize(instance, "a")
    job = queue.get("a")
    assert (job.status, job.error_stage) == ("needs_review", "mask")
    assert "black at every face" in job.error
    assert "invert" in job.error_hint


A1111 = "a fox in snow\nNegative prompt: blurry\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 5, Size: 320x320"
GRAPH = '{"3": {"class_type": "KSampler"}}'


def made_by_a1111(path):
    info = PngInfo()
    info.add_text("parameters", A1111)
    info.add_text("workflow", GRAPH)
    Image.fromarray(PHOTO).save(path, "PNG", pnginfo=info)


def made_by_forge_as_jpeg(path):
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif)[0x9286] = b"UNICODE\0" + A1111.encode("utf-16-be")
    Image.fromarray(PHOTO).save(path, "JPEG", exif=exif, quality=95)


@pytest.mark.parametrize("make", [made_by_a1111, made_by_forge_as_jpeg])
def test_a_picture_that_says_how_it_was_made_is_no_photo(tmp_path, instance, queue, store, make):
    make(tmp_path / "a.png")
    final = finished(instance, queue, store, tmp_path / "a.png", flux_prompt="a calm face")
    first, last = read_provenance(store.read("0-generated", "a.png")), read_provenance(final)
    assert first["parameters"] == first["record"]["source_parameters"] == A1111
    assert (first["record"]["origin"], first["digital_source_type"]) == ("generated", "trainedAlgorithmicMedia")
    assert (last["record"]["origin"], last["digital_source_type"]) == ("generated", "trainedAlgorithmicMedia")
    assert (last["record"]["prompt"], last["record"]["negative_prompt"]) == ("a fox in snow", "blurry")
    assert last["record"]["source_parameters"] == A1111
    assert last["parameters"].startswith("a fox in snow\nNegative prompt: blurry\n")
    assert "a calm face" in last["parameters"]
    for place in ("0-generated", "6-final"):
        with Image.open(io.BytesIO(store.read(place, "a.png"))) as image:
            assert image.info.get("workflow") == (GRAPH if make is made_by_a1111 else None)


def test_the_products_own_picture_keeps_what_it_says_when_it_comes_back_as_a_file(tmp_path, instance, queue, store):
    source = Provenance("", {"origin": "edited photo", "generator": "flux", "seed": 1, "steps": 2, "cfg_scale": 3,
                             "scheduler": "DDIM", "face_prompt": "x", "width": 320, "height": 320,
                             "face_pass": {"prompt": "x", "face_strength": 0.5, "faces": [], "back_end": {}}},
                        "compositeWithTrainedAlgorithmicMedia")  # fmt: skip
    (tmp_path / "a.png").write_bytes(encode_png(PHOTO, provenance=source))
    final = read_provenance(finished(instance, queue, store, tmp_path / "a.png"))
    first = read_provenance(store.read("0-generated", "a.png"))
    assert (first["record"]["origin"], first["record"]["generator"]) == ("edited photo", "flux")
    assert first["digital_source_type"] == final["digital_source_type"] == "compositeWithTrainedAlgorithmicMedia"
    assert final["record"]["origin"] == "edited photo"


@pytest.mark.parametrize(
    "record", [{"origin": "generated", "generator": "flux", "made_by": 3}, {"origin": "generated", "generator": ["a"]}]
)
def test_a_record_that_only_looks_like_ours_stops_nothing(tmp_path, instance, queue, store, record):
    (tmp_path / "a.png").write_bytes(encode_png(PHOTO, provenance=Provenance("", record, "algorithmicMedia")))
    final = read_provenance(finished(instance, queue, store, tmp_path / "a.png"))
    assert (final["record"]["origin"], final["digital_source_type"]) == ("generated", "algorithmicMedia")


@pytest.mark.parametrize(("setting", "kept"), [("clean", False), ("keep", True)])
def test_exif_is_cleaned_or_kept_and_the_photo_turned_once(
    tmp_path, instance, queue, store, monkeypatch, setting, kept
):
    monkeypatch.setenv("FC_EXIF", setting)
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 3, "A maker"
    exif.get_ifd(0x8825).update({1: "N", 2: (48.0, 8.0, 0.0)})
    Image.fromarray(PHOTO[::-1, ::-1]).save(tmp_path / "a.png", exif=exif)
    file = finished(instance, queue, store, tmp_path / "a.png", output_size=200)
    with Image.open(io.BytesIO(file)) as image:
        found = image.getexif()
        assert (image.size, found.get(0x0112), found[0x010F]) == ((200, 200), None, "A maker")
        assert bool(found.get_ifd(0x8825)) == kept
    mask = decode_png_exact(store.read("3-masks", "a.png"))
    merged = decode_png_exact(store.read("4-results", "a.png"))
    assert np.array_equal(merged[mask == 0], PHOTO[mask == 0])


@pytest.mark.parametrize("setting", ["clean", "keep"])
def test_exif_tells_the_size_that_the_picture_has(tmp_path, instance, queue, store, monkeypatch, setting):
    monkeypatch.setenv("FC_EXIF", setting)
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif).update({0xA002: 320, 0xA003: 320, 0xA001: 65_535})
    Image.fromarray(PHOTO).save(tmp_path / "a.png", exif=exif.tobytes())
    file = finished(instance, queue, store, tmp_path / "a.png", output_size=200)
    for stored, side in ((file, 200), (store.read("0-generated", "a.png"), 320)):
        with Image.open(io.BytesIO(stored)) as image:
            assert image.getexif().get_ifd(ExifTags.IFD.Exif) == {0xA001: 1, 0xA002: side, 0xA003: side}


def test_a_grey_photo_of_sixteen_bits_stays_grey(tmp_path, instance, queue, store):
    values = cv2.cvtColor(PHOTO, cv2.COLOR_RGB2GRAY).astype(np.uint16) * 256 + 200
    cv2.imwrite(str(tmp_path / "a.png"), values)
    final = decode_png_exact(finished(instance, queue, store, tmp_path / "a.png"))
    mask = decode_png_exact(store.read("3-masks", "a.png"))
    assert (final[..., :1] == final).all()
    assert np.array_equal(final[mask == 0][:, 0], np.rint(values / 257)[mask == 0])
    assert (final[mask > 0][:, 0] != np.rint(values / 257)[mask > 0]).any()


def sepia(photo):
    matrix = np.array([[0.393, 0.769, 0.189], [0.349, 0.686, 0.168], [0.272, 0.534, 0.131]])
    return np.clip(photo @ matrix.T, 0, 255).astype(np.uint8)


def grey(photo):
    return np.repeat(cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)


def grainy(photo):
    return np.clip(photo + np.random.default_rng(0).integers(-1, 2, photo.shape), 0, 255).astype(np.uint8)


def stamped(photo):
    return np.where(np.mgrid[:320, :320].min(axis=0)[..., None] > 300, np.array((255, 120, 20), np.uint8), photo)


@pytest.mark.parametrize(
    ("photo", "ending"),
    [
        (sepia(PHOTO), "png"),
        (sepia(PHOTO), "jpg"),
        (grey(PHOTO), "webp"),
        (grainy(grey(PHOTO)), "png"),
        (stamped(grey(PHOTO)), "png"),
    ],
    ids=["sepia", "sepia JPEG", "grey WebP", "grey scan", "grey with a stamp"],
)
def test_a_toned_photo_keeps_its_tone_in_the_new_face(tmp_path, instance, queue, store, photo, ending):
    Image.fromarray(photo).save(tmp_path / f"a.{ending}", quality=80)
    final = decode_png_exact(finished(instance, queue, store, tmp_path / f"a.{ending}", face_strength=1.0))
    before = decode_png_exact(store.read("0-generated", "a.png"))
    inside = decode_png_exact(store.read("3-masks", "a.png")) > 200
    assert np.abs(final.astype(int) - before)[inside].max() > 20, "it is a new face"
    tone = np.array([np.median(photo[np.abs(grey(photo)[..., 0].astype(int) - level) < 3], axis=0) for level in LEVELS])
    curve = np.stack([np.interp(grey(final)[..., 0], LEVELS, channel) for channel in tone.T], axis=2)
    off = np.abs(final - curve).max(axis=2)[inside]
    assert off.mean() < 1.5
    assert np.quantile(off, 0.9) < 2


def test_on_white_by_hand():
    rgba = np.array([[[10, 20, 30, 255], [10, 20, 30, 0], [0, 100, 255, 128]]], np.uint8)
    assert on_white(rgba).tolist() == [[[10, 20, 30], [255, 255, 255], [127, 177, 255]]]


def test_what_is_hidden_does_not_bleed_into_a_resized_picture():
    rgba = np.zeros((40, 40, 4), np.uint8)
    rgba[:, :21] = (200, 100, 50, 255)
    rgba[:, 21:, 1] = 255  # green, but transparent
    small = resize_rgba(rgba, (20, 20))
    assert small[:, :10].tolist() == [[[200, 100, 50, 255]] * 10] * 20
    assert np.abs(small[:, 10].astype(int) - (200, 100, 50, 128)).max() <= 1
    assert small[:, 11:].tolist() == [[[0, 255, 0, 0]] * 9] * 20


def test_a_png_keeps_transparency_and_exif():
    exif = Image.Exif()
    exif[0x010F] = "A maker"
    file = encode_png(see_through(), exif=exif.tobytes())
    assert np.array_equal(decode_png_exact(file), see_through())
    assert read_exif(file) == exif.tobytes()
    assert read_exif(encode_png(PHOTO)) == b""


def test_merging_four_faces_holds_few_copies_of_the_picture():
    size = 1200
    image = np.random.default_rng(1).integers(0, 256, (size, size, 3), dtype=np.uint8)
    faces = [Face(Box(x, y, x + 150, y + 190), 0.9) for x in (200, 800) for y in (200, 800)]
    boxes = [portrait_box(face.box, (size, size), 0.6) for face in faces]
    records = [
        FaceRecord(box=face.box.as_tuple(), crop=box.as_tuple(), score=0.9, passed=True)
        for face, box in zip(faces, boxes, strict=True)
    ]
    record = PortraitRecord(detector="known", width=size, height=size, faces=tuple(records))
    patches = [Patch(box.as_tuple(), np.full((box.height, box.width, 3), 128, np.uint8)) for box in boxes]
    mask = draw_mask(faces, (size, size))
    tracemalloc.start()
    merged = merge_faces(image, mask, record, PatchesRecord(tuple(patches), {}))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert np.array_equal(merged[mask == 0], image[mask == 0])
    assert peak < 2 * image.nbytes  # beside the original: its copy, and windows of it
