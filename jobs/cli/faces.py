"""`fc faces`: faces, portraits, masks and scores of any picture, without a job."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from imaging.errors import BackendError, InvalidImageError, RejectedError, SettingsError
from imaging.faces.mask_options import MaskKind
from imaging.faces.selection import MOST_FACES, FaceOrder
from jobs.cli.output import FAILED, counted, err, out, print_error, print_json, say, warn
from resources.plugins import choices, is_dotted_path, names
from resources.settings import Settings, load_settings

if TYPE_CHECKING:
    from jobs.cli.faces_analysis import AnalysisOptions
    from jobs.cli.faces_files import Sheet

MOST_PADDING: Final = 3.0  # as FC_FACE_PADDING
HELP: Final = "See `fc faces --help`."


def faces(
    *,
    images: Annotated[
        list[Path], typer.Argument(metavar="IMAGE...", exists=True, help="Pictures, and folders of pictures.")
    ],
    recursive: Annotated[bool, typer.Option("--recursive", "-r", help="Look into the folders of folders too.")] = False,
    detector: Annotated[
        str | None, typer.Option("--detector", help=f"Who finds the faces: {choices('detector')}.")
    ] = None,
    confidence: Annotated[
        float | None, typer.Option("--confidence", help="Faces under this score, over 0 and under 1, are dropped.")
    ] = None,
    order: Annotated[FaceOrder | None, typer.Option("--order", help="Order of faces, portraits and scores.")] = None,
    most: Annotated[
        int | None, typer.Option("--max", min=1, max=MOST_FACES, help="Most faces of a picture, the largest.")
    ] = None,
    min_pixels: Annotated[
        int | None, typer.Option("--min-pixels", min=0, help="Faces whose shorter side has fewer pixels are dropped.")
    ] = None,
    min_share: Annotated[
        float | None, typer.Option("--min-share", help="Faces under this % of the picture are dropped.")
    ] = None,
    max_share: Annotated[
        float | None, typer.Option("--max-share", help="Faces over this % of the picture are dropped.")
    ] = None,
    mask: Annotated[MaskKind | None, typer.Option("--mask", help="What the mask is made of.")] = None,
    padding: Annotated[
        float | None,
        typer.Option("--padding", help="Room around a portrait, as a share of the face's longer side."),
    ] = None,
    reference: Annotated[
        Path | None,
        typer.Option("--reference", exists=True, help="Tell how alike the faces are to that of this picture."),
    ] = None,
    to: Annotated[
        Path | None, typer.Option("--out", help="Write portraits, masks and pictures with boxes into this new folder.")
    ] = None,
    sheet: Annotated[
        Path | None, typer.Option("--sheet", help="Write one contact sheet of all to this new PNG file.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with all numbers and landmarks.")] = False,
) -> None:
    """Find the faces of any picture, and show portraits, masks and scores, without a job.

    What is not given here is as the settings FC_DETECTOR, FC_FACE_, FC_FACES_ and FC_MASK_ say. Exit code 1: a
    picture could not be looked at; the others were. It overwrites no file.
    """
    from jobs.cli.faces_files import Sheet
    from jobs.cli.faces_report import options_json
    from jobs.cli.picture_files import find_pictures, names_for

    settings = _with_options(
        load_settings(),
        detector=detector,
        detector_confidence=confidence,
        faces_order=order,
        max_faces=most,
        faces_min_pixels=min_pixels,
        faces_min_share=min_share,
        faces_max_share=max_share,
        mask_kind=mask,
        face_padding=padding,
    )
    pictures = find_pictures(images, recursive=recursive)
    _check_out(to)
    _check_sheet(sheet, len(pictures))
    options = _analysis_options(settings, reference)
    if not as_json:
        say(f"Faces by {options.why}", style="dim")
    page = Sheet(sheet, f"Faces by {options.why} Mask: {options.mask.kind}.", pictures) if sheet else None
    reporter = _Reporter(options, settings, to, page, as_json)
    reports = []
    with _progress(len(pictures), shown=as_json or not out.is_terminal) as step:
        for picture, name in zip(pictures, names_for(pictures), strict=True):
            reports.append(reporter.report(picture, name))
            step()
    if page:
        page.finish()
    pages = [str(file) for file in page.pages] if page else []
    if as_json:
        print_json("faces", {"how": options_json(options), "pictures": reports, "sheet": pages})
    else:
        _print_end(reports, pages, to)
    if any(one["error"] for one in reports):
        raise typer.Exit(FAILED)


def _print_end(reports: Sequence[dict[str, Any]], pages: Sequence[str], folder: Path | None) -> None:
    failed = sum(one["error"] is not None for one in reports)
    found = sum(len(one.get("faces", ())) for one in reports)
    say(
        f"{counted(len(reports), 'picture')}, {counted(found, 'face')}"
        + (f"; {failed} not looked at." if failed else ".")
    )
    for page in pages:
        say(f"Contact sheet: {page}")
    if any(one.get("files") for one in reports):
        say(f"Files: {folder}")


def _with_options(settings: Settings, **options: Any) -> Settings:  # noqa: ANN401 - of any type
    """The settings with the options that are given.

    Raises:
        RejectedError: one that cannot be.
    """
    given = {name: value for name, value in options.items() if value is not None}
    detector = given.get("detector", "auto")
    if detector not in ("auto", *names("detector")) and not is_dotted_path(detector):
        raise RejectedError(f"--detector: {detector!r} is no detector.", f"Use {choices('detector')}.")
    changed = settings.model_copy(update=given)
    if not 0 <= changed.face_padding <= MOST_PADDING:
        raise RejectedError(f"--padding must be 0 to {MOST_PADDING:g}; got {changed.face_padding}.", HELP)
    try:
        _ = changed.face_options
    except ValueError as error:
        raise RejectedError(str(error), HELP) from None
    return changed


def _check_out(folder: Path | None) -> None:
    """Nothing is overwritten, and no portrait of an earlier run lies among those of this one."""
    if folder is None or not folder.exists():
        return
    if not folder.is_dir():
        raise RejectedError(f"--out: {folder} is no folder.", "Name a new or empty folder.")
    if any(folder.iterdir()):
        raise RejectedError(f"--out: {folder} is not empty.", "Name a new or empty folder: nothing is overwritten.")


def _check_sheet(sheet: Path | None, pictures: int) -> None:
    from jobs.cli.faces_files import ROWS, sheet_page

    if sheet is None:
        return
    if sheet.suffix.lower() != ".png":
        raise RejectedError(f"--sheet: {sheet} does not end in .png.", "A contact sheet is a PNG file.")
    for number in range(1, math.ceil(pictures / ROWS) + 1):
        page = sheet_page(sheet, number)
        if page.exists():
            raise RejectedError(f"--sheet: {page} is there already.", "Name another file: nothing is overwritten.")


def _analysis_options(settings: Settings, reference: Path | None) -> AnalysisOptions:
    from jobs.cli.faces_analysis import AnalysisOptions, person_in
    from resources.choose import make_detector, make_encoder
    from resources.sources.photos import read_picture

    encoder = make_encoder(settings)[0] if reference else None
    if reference and encoder is None:
        raise SettingsError(
            "--reference needs the model that tells whose face it is, and FC_SFACE_MODEL is not set.",
            "Run: fc models pull sface --save",
        )
    detector, why = make_detector(settings)
    options = AnalysisOptions(detector, why, settings.face_options, settings.mask_options, settings.portrait_options)
    if reference is None or encoder is None:
        return options
    person = person_in(read_picture(str(reference), settings), str(reference), options, encoder)
    if person.others:
        warn(f"{reference} has {person.others} more faces; the largest is the one that is compared.")
    return replace(options, person=person)


@dataclass(frozen=True, slots=True)
class _Reporter:
    """Analyzes a picture and reports it, in all the ways that were asked for."""

    options: AnalysisOptions
    settings: Settings
    folder: Path | None
    sheet: Sheet | None
    as_json: bool

    def report(self, picture: Path, name: str) -> dict[str, Any]:
        """The JSON of a picture. For one that cannot be read it says why, and the others go on.

        Raises:
            BackendError: something cannot be written.
        """
        from jobs.cli.faces_analysis import analyze
        from jobs.cli.faces_files import write_files
        from jobs.cli.faces_report import error_json, picture_json, print_table
        from resources.sources.photos import read_picture

        path = str(picture)
        try:
            found = analyze(read_picture(path, self.settings), self.options)
        except (InvalidImageError, BackendError) as error:
            print_error(error)
            if self.sheet:
                self.sheet.add_error(picture, error)
            return error_json(path, error)
        files = write_files(self.folder, name, found) if self.folder else None
        if self.sheet:
            self.sheet.add(picture, found)
        if not self.as_json:
            print_table(path, found, self.options)
        return picture_json(path, found, files)


@contextmanager
def _progress(total: int, *, shown: bool) -> Iterator[Callable[[], None]]:
    """A bar on stderr; none where nobody watches, or where the tables go by on the same terminal."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    # Rich would send what goes to stdout to stderr.
    with Progress(
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=err,
        transient=True,
        redirect_stdout=False,
        disable=not (shown and err.is_terminal),
    ) as bar:
        task = bar.add_task("", total=total)
        yield lambda: bar.advance(task)
