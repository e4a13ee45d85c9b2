"""`fc models`: the model files that the settings name, and how fast the generator is."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from imaging.errors import FaceChangerError, SettingsError
from jobs.cli.models_pull import progress_bars, pull
from jobs.cli.output import FAILED, err, out, print_json, say, table
from resources.settings import Settings, load_settings

if TYPE_CHECKING:
    from resources.generators.base import Generator, Outcome
    from resources.models.model_files import CheckedFile, NamedModel

NONE_NAMED = (
    "The settings name no model, so the embedded back ends are used. `fc models pull yunet --save` fetches a better "
    "detector; FC_SDXL_MODEL names an SDXL checkpoint."
)
LARGEST_PROOF = 256  # pixels; of the image that `check --load` makes

models = typer.Typer(
    help="Model files: what is there, whether it is whole, fetching, speed.", no_args_is_help=True, add_completion=False
)
models.command("pull")(pull)

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@models.command("list")
def list_models(*, as_json: Json = False) -> None:
    """List every model that the settings name: what it is for, where it lies, its size, whether it is there."""
    from resources.models.model_files import named_models

    found = named_models(load_settings())
    if as_json:
        print_json("models", [_as_json(model) for model in found])
    elif not found:
        say(NONE_NAMED)
    else:
        rows = [
            (model.setting, model.purpose, model.value, gigabytes(model.size()), _state(model.problem))
            for model in found
        ]
        out.print(table(("setting", "for", "model", "size", "state"), rows))
        for model in found:
            _say_problem(model.problem)


@models.command("check")
def check(
    *,
    load: Annotated[
        bool,
        typer.Option("--load", help="Also load the models as the generators do; make an image with each."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Read every model file whole: SHA-256, headers, length. Exit code 1 if one cannot be used."""
    from resources.models.model_files import check_files, named_models

    settings = load_settings()
    found = named_models(settings)
    results: list[dict[str, Any]] = []
    with progress_bars() as progress:
        for model in found:
            files = list(check_files(model, progress))
            results.append(_as_json(model) | {"files": [_file_json(file) for file in files]})
            results[-1]["ok"] = model.problem is None and not any(file.problem for file in files)
            if not as_json:
                _say_checked(model, files)
    ok = all(result["ok"] for result in results)
    proofs = _prove(settings) if load and ok else None
    ok = ok and all(proof["ok"] for proof in proofs or ())
    if as_json:
        print_json("model_checks", {"ok": ok, "models": results, "load": proofs})
    elif not found:
        say(NONE_NAMED)
    elif load and proofs is None:
        say("Not loaded, as not every file is well.", style="yellow")
    for proof in () if as_json else proofs or ():
        _say_proof(proof)
    if not ok:
        raise typer.Exit(FAILED)


@models.command("bench")
def bench(
    *,
    images: Annotated[int, typer.Option("--images", "-n", min=1, help="Images at least, per batch size.")] = 8,
    batch: Annotated[
        list[int] | None,
        typer.Option("--batch", "-b", min=1, max=64, help="Images per call; repeatable. Default: FC_SDXL_BATCH_SIZE."),
    ] = None,
    size: Annotated[
        int | None, typer.Option("--size", min=64, max=2048, help="Side in pixels. Default: the model's own.")
    ] = None,
    steps: Annotated[int, typer.Option("--steps", min=1, max=150, help="Denoising steps.")] = 20,
    as_json: Json = False,
) -> None:
    """Measure how many images per second the configured generator makes."""
    from resources.choose import make_generator
    from resources.speed import made, measure, task

    settings = load_settings()
    generator, why = make_generator(settings)
    side = size or generator.native_size()
    if side % 8:
        raise typer.BadParameter(f"{side} is not a multiple of 8.", param_hint="--size")
    if not as_json:
        say(f"Generator: {why} {side}x{side} pixels, {steps} steps.", console=err)
    begin = time.perf_counter()
    details = dict(made(generator, [task(0, side, 1)]).details)
    loaded = round(time.perf_counter() - begin, 3)
    for own in ("seconds", "batch_size", "batch_index", "denoising_steps"):
        details.pop(own, None)
    speeds = []
    for speed in measure(settings, batches=batch or [settings.sdxl_batch_size], images=images, size=side, steps=steps):
        speeds.append(speed)
        if not as_json:
            say(f"batch {speed.batch}: {speed.images_per_second:g} images/s", console=err)
    told = {"generator": generator.describe(), "details": details, "first_image_seconds": loaded}
    if as_json:
        print_json("model_speeds", told | {"size": side, "steps": steps, "speeds": [asdict(speed) for speed in speeds]})
        return
    rows = [
        (str(speed.batch), str(speed.images), f"{speed.warmup_seconds:.2f} s", f"{speed.seconds:.2f} s",
         f"{speed.images_per_second:.3f}", f"{speed.seconds / speed.images:.3f} s",
         "-" if speed.gpu_gib is None else f"{speed.gpu_gib:.2f} GiB")
        for speed in speeds
    ]  # fmt: skip
    out.print(table(("batch", "images", "warm-up", "time", "images/s", "per image", "on the GPU"), rows))
    say(f"First image, with loading: {loaded:.2f} s.")
    say(", ".join(f"{name} {value}" for name, value in details.items() if isinstance(value, str | int | float)))


def _prove(settings: Settings) -> list[dict[str, Any]]:
    """Load each model as the generators do, and make one image of one step with it."""
    from resources.choose import make_face_generator, make_generator
    from resources.speed import face_task, task

    if not settings.sdxl_model and not settings.face_model:
        raise SettingsError(
            "Neither FC_SDXL_MODEL nor FC_FACE_MODEL is set, so there is nothing to load.",
            "Set one, or leave out --load.",
        )
    proofs = []
    if settings.sdxl_model:
        proofs.append(
            _proof(
                "FC_SDXL_MODEL",
                lambda: make_generator(settings, name="sdxl"),
                lambda one, side: one.generate([task(0, side, 1)]),
            )
        )
    if settings.face_model:
        proofs.append(
            _proof(
                "FC_FACE_MODEL",
                lambda: make_face_generator(settings),
                lambda one, side: one.inpaint([face_task(side)]),
            )
        )
    return proofs


def _proof(
    setting: str, make: Callable[[], tuple[Generator, str]], images: Callable[[Generator, int], Iterator[Outcome]]
) -> dict[str, Any]:
    from resources.speed import last

    start = time.perf_counter()
    try:
        generator, _why = make()
        side = min(LARGEST_PROOF, generator.native_size())
        image = last(images(generator, side))
    except FaceChangerError as error:
        return {"setting": setting, "ok": False, "what": error.what, "hint": error.hint}
    seconds = round(time.perf_counter() - start, 3)
    return {"setting": setting, "ok": True, "seconds": seconds, "size": side, "details": dict(image.details)}


def _as_json(model: NamedModel) -> dict[str, Any]:
    return {
        "setting": model.setting,
        "purpose": model.purpose,
        "value": model.value,
        "path": None if model.path is None else str(model.path),
        "bytes": model.size(),
        "there": model.problem is None,
    } | _problem_json(model.problem)


def _file_json(file: CheckedFile) -> dict[str, Any]:
    told = {"path": str(file.path), "bytes": file.size, "sha256": file.sha256 or None, "tensors": file.tensors}
    return told | _problem_json(file.problem)


def _problem_json(problem: FaceChangerError | None) -> dict[str, str | None]:
    return {"problem": problem.what if problem else None, "hint": problem.hint if problem else None}


def _state(problem: FaceChangerError | None) -> Text:
    return Text("no", style="bold red") if problem else Text("there", style="green")


def _say_problem(problem: FaceChangerError | None) -> None:
    if problem is not None:
        say(problem.what, style="bold red")
        say(f"Fix: {problem.hint}")


def _say_checked(model: NamedModel, files: list[CheckedFile]) -> None:
    well = model.problem is None and not any(file.problem for file in files)
    say(f"{'OK' if well else 'FAIL':4}  {model.setting}  {model.value}", style="green" if well else "bold red")
    _say_problem(model.problem)
    for file in files:
        if file.sha256:
            tensors = "" if file.tensors is None else f", {file.tensors} tensors"
            say(f"      {file.sha256}  {file.path}  {gigabytes(file.size)}{tensors}")
        _say_problem(file.problem)


def _say_proof(proof: dict[str, Any]) -> None:
    if proof["ok"]:
        where = f"{proof['details']['dtype']} on {proof['details']['device']}"
        what = f"loaded, and made an image of {proof['size']} pixels in {proof['seconds']:.1f} s ({where})"
        say(f"OK    {proof['setting']}: {what}", style="green")
    else:
        say(f"FAIL  {proof['setting']}: {proof['what']}", style="bold red")
        say(f"Fix: {proof['hint']}")


def gigabytes(size: int) -> str:
    """Bytes for people, in one unit of 1000."""
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size = size / 1000  # type: ignore[assignment]
    return f"{size:.2f} GB"
