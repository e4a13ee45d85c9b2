"""`fc demo`: a fresh home, a few jobs of every kind, and a contact sheet of what came out."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from PIL import Image

from imaging.errors import SettingsError
from jobs.cli.dagster_side import open_instance, sensors_work, service_logs
from jobs.cli.demo_home import DEFAULT_HOME, command_that_opens, demo_environment, prepare
from jobs.cli.opening import opened_queue
from jobs.cli.output import FAILED, INTERRUPTED, err, out, reason, say, short, where
from jobs.cli.processes import Services, StopRequested, stoppable
from jobs.model.request import JobRequest
from resources.settings import environment, load_settings

if TYPE_CHECKING:
    from jobs.cli.contact_sheet import Row
    from jobs.model.job import Job

START_SECONDS: Final = 120.0
MOST_SECONDS: Final = 900.0
STAGES_SHOWN: Final = {"before": "generated_image", "mask": "mask", "after": "final_image"}
CLOSE_UPS: Final = ("close-up before", "close-up after")
CLOSE_UP_MARGIN: Final = 0.25  # around the mask, as a share of its longer side
ABOUT: Final = {
    "sketch": "sketch: procedural painter, no model",
    "offline": "offline: rules and measurements, no model",
}


def demo(
    *,
    home: Annotated[Path, typer.Option("--home", metavar="DIR", help="The demo's own Dagster home.")] = DEFAULT_HOME,
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep what an earlier demo left in DIR; else it is wiped first.")
    ] = False,
) -> None:
    """Run four jobs from request to finished image in a home of their own, and draw a contact sheet of them.

    It uses the embedded painter and writer, unless FC_GENERATOR or FC_WRITER say otherwise. Exit code 0 only if every
    job completed.
    """
    home = home.expanduser().resolve()
    prepare(home, keep=keep)
    photo = _save_photo(home)
    try:
        with _environment(demo_environment(home)):
            jobs = _run(home, _requests(photo))
            sheet = _draw(home, jobs)
    except KeyboardInterrupt:
        say(f"Stopped; what was finished lies in {home}.", console=err)
        raise typer.Exit(INTERRUPTED) from None
    except StopRequested as signalled:
        say(f"Stopped by {signalled}; what was finished lies in {home}.", console=err)
        raise typer.Exit(FAILED) from None
    from jobs.cli.waiting import result_table

    out.print(result_table(jobs))
    say(f"Contact sheet: {sheet}", style="bold")
    say(f"Its jobs in the web UI: {command_that_opens(home)}")
    bad = [job for job in jobs if job.status != "completed"]
    for job in bad:
        say(f"{job.id}: {where(job)}: {reason(job)}", style="bold red", console=err)
    if bad:
        say(f"Logs: {service_logs(home)}", console=err)
        raise typer.Exit(FAILED)


def _save_photo(home: Path) -> Path:
    """A photo of a real face, in the public domain: NASA's portrait of Eileen Collins."""
    try:
        from skimage import data
    except ImportError:
        raise SettingsError(
            "The demo's photo comes from scikit-image, which is not installed.",
            "Install it: pip install 'face-changer[demo]'.",
        ) from None
    path = home / "astronaut.png"
    Image.fromarray(data.astronaut()).save(path)  # type: ignore[no-untyped-call]
    return path


def _requests(photo: Path) -> list[JobRequest]:
    return [
        JobRequest(
            job_type="face_processing",
            source_image=str(photo),
            flux_prompt="a woman with green eyes and freckles",
            face_strength=0.8,
            seed=11,
        ),
        JobRequest(
            pony_prompt="portrait of a young man with curly red hair and a short beard, blue shirt, soft window light",
            seed=22,
        ),
        JobRequest(
            pony_prompt="two people, a woman with black hair and a man with brown hair, side by side, evening light",
            width=1024,
            height=768,
            seed=33,
        ),
        JobRequest(job_type="description", source_image=str(photo), seed=44),
    ]


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    """Inside, this process and its children have these variables."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _run(home: Path, requests: Sequence[JobRequest]) -> list[Job]:
    from jobs.cli.up import daemon_command, print_trouble
    from jobs.cli.waiting import wait_until_over
    from jobs.requests.accept import submit
    from resources.store.image_store import ImageStore

    settings = load_settings()
    store = ImageStore(settings.resolved_data_dir)
    with stoppable(), opened_queue() as queue:
        added = submit(
            [(None, request) for request in requests], queue=queue, store=store, settings=settings, origin="cli"
        )
        instance, start = open_instance(), time.time()
        with Services(
            {"daemon": daemon_command()}, logs=service_logs(home), env=environment(), on_trouble=print_trouble
        ) as services:
            say(f"Starting the daemon on {home} ...", console=err)
            services.wait_until(
                lambda: sensors_work(instance, start),
                seconds=START_SECONDS,
                what="A first look of every sensor, without error,",
            )
            return wait_until_over(queue, added, check=services.check, most_seconds=MOST_SECONDS)


def _draw(home: Path, jobs: Sequence[Job]) -> Path:
    from jobs.cli.contact_sheet import write_contact_sheet

    settings = load_settings()
    sheet = home / "contact-sheet.png"
    write_contact_sheet(
        sheet,
        [_row(home, Path(settings.resolved_data_dir), job) for job in jobs],
        columns=[*STAGES_SHOWN, *CLOSE_UPS],
        title="face-changer demo",
        note=f"Images: {ABOUT.get(settings.generator, settings.generator)}. "
        f"Words: {ABOUT.get(settings.writer, settings.writer)}.",
    )
    return sheet


def _row(home: Path, data: Path, job: Job) -> Row:
    from jobs.cli.contact_sheet import Row
    from resources.artifacts.records import ARTIFACTS

    files = [data.joinpath(*ARTIFACTS[stage].place(job.id)) for stage in STAGES_SHOWN.values()]
    before, mask, after = (file if file.is_file() else None for file in files)
    close_ups = [
        _close_up(image, mask, home / f"{job.id}.{name.replace(' ', '-')}.png") if image and mask else None
        for name, image in zip(CLOSE_UPS, (before, after), strict=True)
    ]
    asked = job.request.pony_prompt or job.request.flux_prompt or "Describe the photo."
    caption = f"{short(asked, 160)}\n{where(job)}"
    text = _description(data, job) if job.job_type == "description" else ""
    return Row(job.job_type, caption, (before, mask, after, *close_ups), text)


def _close_up(image: Path, mask: Path, path: Path) -> Path | None:
    """The part of an image that its mask covers, with a little around it, as a file of its own."""
    with Image.open(image) as whole, Image.open(mask) as where_changed:
        box = where_changed.convert("L").getbbox()
        if box is None:
            return None
        left, top, right, bottom = box
        around = round(max(right - left, bottom - top) * CLOSE_UP_MARGIN)
        inside = (max(0, left - around), max(0, top - around), right + around, bottom + around)
        whole.crop((*inside[:2], min(whole.width, inside[2]), min(whole.height, inside[3]))).save(path)
    return path


def _description(data: Path, job: Job) -> str:
    from resources.artifacts.records import ARTIFACTS

    path = data.joinpath(*ARTIFACTS["description"].place(job.id))
    if not path.is_file():
        return ""
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return str(record["answer"]["text"])
