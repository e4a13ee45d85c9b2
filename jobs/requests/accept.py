"""The one door for requests: whoever brings one, it is read, completed, checked and taken in here, in one order.

The command line, files, the inbox, schedules, retries and the launchpad all come through `accept`, so that none of them
lets pass what another one refuses.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from imaging.errors import BackendError, FaceChangerError, RejectedError, SettingsError
from jobs.model.ids import check_job_id, new_job_id
from jobs.model.job import Job, JobIdTakenError, NewJob, Origin
from jobs.model.job_types import JOB_TYPES
from jobs.model.request import RESULT_OF, JobRequest, parse_request
from jobs.queue.job_queue import JobQueue
from jobs.recipes.recipe import Recipe
from jobs.recipes.values import MAX_SEED, PathMark
from jobs.requests.recipes import recipe_for
from resources.backends import find
from resources.choose import check_choice
from resources.plugins import Kind, is_dotted_path
from resources.settings import Settings
from resources.sources import photos
from resources.sources.names import is_url, without_secrets
from resources.sources.photos import Fetch, import_reference, import_source
from resources.store.image_store import ImageStore
from resources.writers.safety import check_texts

Draft = tuple[str | None, JobRequest | Mapping[str, Any]]
"""A job's id (None: one is made), and its request, read or as it was written."""

_REFERENCE_COPY = "@sha256:"  # in a reference face that is imported already


@dataclass(frozen=True, slots=True)
class Door:
    """Where requests are taken in.

    Attributes:
        store: where photos, reference faces and masks are copied to.
        settings: the limits of pictures, and the defaults of recipes.
        base: the folder that relative paths of the requests start from; None: the current one.
        fetch: fetches pictures from URLs; None: the usual way.
    """

    store: ImageStore
    settings: Settings
    base: Path | None = None
    fetch: Fetch | None = None


@dataclass(frozen=True, slots=True)
class Accepted:
    """A request that may become a job.

    Attributes:
        job_id: the job's.
        asked: the request, with whole paths; nothing of it is imported.
        request: the same as it is kept: with a seed, without its placing, its reference face imported, and no secrets
            of URLs.
        source: the imported photo, a `SourceInfo` as JSON.
        user_mask: the imported mask, likewise.
        recipe: what it gives with the settings of now.
    """

    job_id: str
    asked: JobRequest
    request: JobRequest
    source: dict[str, Any] | None
    user_mask: dict[str, Any] | None
    recipe: Recipe


def accept(drafts: Sequence[Draft], door: Door, *, known: Job | None = None) -> list[Accepted]:
    """Read requests, complete and check them, and take their pictures in. All are good, or it raises.

    First everything is checked that costs nothing, for all; then the pictures are read.

    Args:
        drafts: in the order in which they shall run.
        door: where.
        known: the job whose request is changed to the one draft; pictures that it has already are not read again.

    Raises:
        RejectedError: names the job and the field.
        BackendError, SettingsError: the store failed; the requests may be right.
    """
    read: list[tuple[str, JobRequest, Recipe]] = []
    for given_id, given in drafts:
        job_id = new_job_id() if given_id is None else check_job_id(given_id)
        request = given if isinstance(given, JobRequest) else parse_request(given)
        request = anchored(request, door.base, known.request if known else None)
        with _naming(job_id):
            recipe = _checked_recipe(request, door.settings)
        check_prompts(job_id, request, recipe)
        read.append((job_id, request, recipe))
    return [_taken_in(job_id, request, recipe, door, known) for job_id, request, recipe in read]


def submit(
    requests: Sequence[Draft],
    *,
    queue: JobQueue,
    store: ImageStore,
    settings: Settings,
    origin: Origin,
    hold: bool = False,
    fetch: Fetch | None = None,
    base: Path | None = None,
) -> list[Job]:
    """Accept requests and add their jobs: all or none.

    Args:
        requests: in the order in which they shall run.
        queue: where they go.
        store: where their pictures are copied to.
        settings: the limits of pictures, and the defaults of recipes.
        origin: who submits.
        hold: leave the jobs for a person to start.
        fetch: fetches pictures from URLs; None: the usual way.
        base: the folder that relative paths start from; None: the current one.

    Raises:
        RejectedError: names the job and the field; nothing was added.
        BackendError, SettingsError: the store or the database failed; the requests may be right.
    """
    taken = queue.get_many([job_id for job_id, _ in requests if job_id is not None])
    if taken:
        raise JobIdTakenError(sorted(taken))
    accepted = accept(requests, Door(store, settings, base, fetch))
    new = [
        NewJob(
            one.job_id,
            one.request,
            one.source,
            origin,
            parent_id=one.asked.parent,
            after_id=one.asked.waits_for,
            not_before=one.asked.at,
            hold=hold,
            user_mask=one.user_mask,
        )
        for one in accepted
    ]
    return _add(queue, new, made={one.job_id for one, (given, _) in zip(accepted, requests, strict=True) if not given})


def _add(queue: JobQueue, new: Sequence[NewJob], made: Collection[str]) -> list[Job]:
    """Add jobs; an id that was made, and that another process made too, is made once more."""
    try:
        return queue.add(new)
    except JobIdTakenError as error:
        if not set(error.ids) <= set(made):
            raise
        others = {job_id: new_job_id() for job_id in error.ids}
    renamed = [replace(one, job_id=others.get(one.job_id, one.job_id)) for one in new]
    return _add(queue, renamed, {others.get(job_id, job_id) for job_id in made})


def variants(group_id: str, fields: Mapping[str, Any], number: int) -> list[tuple[str | None, JobRequest]]:
    """A group, and so many jobs of one request in it, each with a seed of its own: `seed`, `seed + 1`, and so on.

    Raises:
        RejectedError: names the field that is wrong.
    """
    first = parse_request({**fields, "parent": group_id}).with_seed().seed or 0
    seeds = [(first + index) % (MAX_SEED + 1) for index in range(number)]
    return grouped(group_id, fields, [{"seed": seed} for seed in seeds])


def grouped(
    group_id: str, fields: Mapping[str, Any], own: Sequence[Mapping[str, Any]]
) -> list[tuple[str | None, JobRequest]]:
    """A group, and in it a job of one request for each of the fields in `own`: `GROUP-1`, `GROUP-2`, and so on.

    Raises:
        RejectedError: names the field that is wrong.
    """
    group = parse_request(
        {name: value for name, value in fields.items() if name in _OF_THE_GROUP} | {"job_type": "group"}
    )
    children = [parse_request({**fields, "parent": group_id, **one}) for one in own]
    return [(group_id, group), *((f"{group_id}-{index}", child) for index, child in enumerate(children, start=1))]


_OF_THE_GROUP = ("pony_prompt", "flux_prompt", "negative_prompt", "priority", "tags", "parent")


# ---- completing


def anchored(request: JobRequest, base: Path | None, known: JobRequest | None = None) -> JobRequest:
    """The request with every path whole, whichever field it stands in; URLs and other jobs' pictures as they are.

    Args:
        request: as it was written.
        base: the folder that relative paths start from; None: the current one.
        known: the request before a change; what is the same in it was written elsewhere, and stays.
    """
    changed = {}
    for name in PATH_FIELDS:
        value = getattr(request, name)
        if not value or (known is not None and value == getattr(known, name)):
            continue
        whole = [_whole(one, base) for one in value] if isinstance(value, list) else _whole(value, base)
        if whole != value:
            changed[name] = whole
    return request.model_copy(update=changed) if changed else request


def _names_a_file(info: Any) -> bool:  # noqa: ANN401 - pydantic's FieldInfo
    return any(isinstance(mark, PathMark) for mark in _marks(info))


def _marks(info: Any) -> list[object]:  # noqa: ANN401 - pydantic's FieldInfo
    """The marks of a field's type, at any depth of it."""
    found = list(info.metadata)
    pending = [info.annotation]
    while pending:
        kind = pending.pop()
        found += getattr(kind, "__metadata__", ())
        pending += getattr(kind, "__args__", ())
    return found


PATH_FIELDS: Final = tuple(name for name, info in JobRequest.model_fields.items() if _names_a_file(info))
"""The fields of a request that name files."""


def _whole(path: str, base: Path | None) -> str:
    if is_url(path) or path.startswith(RESULT_OF) or _REFERENCE_COPY in path:
        return path
    return str((base or Path.cwd()).resolve() / Path(path).expanduser()) if not path.startswith("~") else path


def for_storage(request: JobRequest) -> JobRequest:
    """The request as it is kept and shown: the URL of a photo without its query, which may hold a key.

    Its placing is left out: that is a matter of the job's row.
    """
    request = request.without_placing()
    if request.source_image is None:
        return request
    return request.model_copy(update={"source_image": without_secrets(request.source_image)})


# ---- checking


def _checked_recipe(request: JobRequest, settings: Settings) -> Recipe:
    """The request's recipe, if this installation can make what it asks for."""
    recipe = recipe_for(request, settings)
    _check_back_ends(request, recipe, settings)
    if recipe.checks.identity is not None and settings.sface_model is None:
        raise RejectedError(
            "identity: faces are compared by SFace, and FC_SFACE_MODEL is not set.",
            "Run: fc models pull sface --save; or leave identity out.",
        )
    return recipe


def _check_back_ends(request: JobRequest, recipe: Recipe, settings: Settings) -> None:
    """The back ends that the request names are there, and its generator can do what it says of the model."""
    kinds: tuple[Kind, ...] = ("generator", "writer", "detector")
    for kind in kinds:
        name = recipe.own(kind)
        if name is not None and is_dotted_path(name):
            raise RejectedError(
                f"{kind}: {name!r} is code, which a request cannot name.",
                f"Name a back end; one of your own is set by {Settings.named(kind)}, or by an entry point.",
            )
        if name is not None and name != "auto":
            with _as_rejection():
                find(kind, name, kind)
    choices = [recipe.model(), *([] if recipe.has_face_model else [recipe.face_model()])]
    if JOB_TYPES[request.job_type].uses_generator and any(choice.given() for choice in choices):
        with _as_rejection():
            for choice in choices:
                check_choice(settings, choice, recipe.own("generator"))


@contextmanager
def _as_rejection() -> Iterator[None]:
    """What is wrong with a value that the request itself names is no fault of the settings."""
    try:
        yield
    except SettingsError as error:
        raise RejectedError(error.what, error.hint) from error


def check_prompts(job_id: str, request: JobRequest, recipe: Recipe | None = None) -> None:
    """Check all words that a picture would be made from, together: what one says may change what another means.

    Args:
        job_id: whose prompts they are.
        request: the request.
        recipe: what holds for it; None: what the request itself says.

    Raises:
        RejectedError: they ask for sexual content; names the job, the fields and the words.
    """
    given = request if recipe is None else recipe.words
    rules = request.rules() if recipe is None else recipe.face_pass.rules()
    texts = {name: getattr(request, name) for name in ("pony_prompt", "flux_prompt")}
    texts |= {name: getattr(given, name, None) or "" for name in _FIXED_WORDS}
    texts["face_rules"] = "\n".join(rule.prompt for rule in rules if rule.prompt)
    negative = {"negative_prompt": request.negative_prompt}
    negative["negative_prompt_suffix"] = getattr(given, "negative_prompt_suffix", None) or ""
    negative["face_rules"] = "\n".join(rule.negative_prompt for rule in rules if rule.negative_prompt)
    with _naming(job_id):
        check_texts(texts, negative)


_FIXED_WORDS: Final = ("prompt_prefix", "prompt_suffix", "face_prompt_prefix", "face_prompt_suffix")


# ---- pictures


def _taken_in(job_id: str, asked: JobRequest, recipe: Recipe, door: Door, known: Job | None) -> Accepted:
    before = known.request if known else None
    kept = for_storage(asked.with_seed())
    if asked.reference_face is not None:
        with _naming(job_id, "reference_face"):
            reference = import_reference(
                asked.reference_face, settings=door.settings, store=door.store, fetch=door.fetch
            )
        kept = kept.model_copy(update={"reference_face": reference})
    if known is not None and before is not None and kept.source_image == before.source_image:
        source = known.source
    else:
        source = _photo(job_id, asked, door)
    if known is not None and before is not None and kept.mask == before.mask:
        user_mask = known.user_mask
    else:
        user_mask = _own_mask(job_id, asked, source, recipe, door)
    return Accepted(job_id, asked, kept, source, user_mask, recipe)


def _own_mask(
    job_id: str, request: JobRequest, source: Mapping[str, Any] | None, recipe: Recipe, door: Door
) -> dict[str, Any] | None:
    if request.mask is None:
        return None
    size = (source["width"], source["height"]) if source else (recipe.scene.width, recipe.scene.height)
    return import_mask(job_id, "mask", request.mask, None if request.result_of else size, door)


def _photo(job_id: str, request: JobRequest, door: Door) -> dict[str, Any] | None:
    """The request's photo in the store; None when it has none.

    None also for the picture of another job, which need not be there yet: the asset `job_request` takes it.
    """
    if request.source_image is None or request.result_of is not None:
        return None
    with _naming(job_id, "source_image"):
        source = import_source(request.source_image, settings=door.settings, store=door.store, fetch=door.fetch)
    return source.model_dump(mode="json")


def import_mask(job_id: str, field: str, path: str, size: tuple[int, int] | None, door: Door) -> dict[str, Any]:
    """Copy a user's mask into the store; the `SourceInfo` as JSON.

    Args:
        job_id: whose mask it is.
        field: what named it, for errors: `mask`, or the option of a command.
        path: a grey image, white where the picture is made anew, or strokes on a transparent layer.
        size: (width, height) of the picture; None while nobody knows it.
        door: where.

    Raises:
        RejectedError: it cannot be used; names the job and the field.
    """
    with _naming(job_id, field):
        info = photos.import_mask(path, settings=door.settings, store=door.store, fetch=door.fetch)
        if size is not None and (info.width, info.height) != size:
            raise RejectedError(
                f"{path} is {info.width}x{info.height}, but the generated image is {size[0]}x{size[1]}.",
                "Draw it on that image.",
            )
    return info.model_dump(mode="json")


@contextmanager
def _naming(job_id: str, field: str = "") -> Iterator[None]:
    """Turn what is wrong with a value or a picture into what is wrong with a request."""
    try:
        yield
    except (BackendError, SettingsError):
        raise
    except FaceChangerError as error:
        raise RejectedError(f"Job {job_id}: {field}{': ' if field else ''}{error.what}", error.hint) from error
