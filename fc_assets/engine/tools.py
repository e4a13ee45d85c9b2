"""What a stage works with: the store, the queue, the settings, and the back ends as a job's recipe asks for them."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from jobs.queue.job_queue import JobQueue
from jobs.recipes.recipe import Recipe
from resources.detectors.base import Detector
from resources.encoders.base import FaceEncoder
from resources.generators.base import Generator
from resources.settings import Settings
from resources.store.image_store import ImageStore
from resources.writers.base import Writer

T = TypeVar("T")


@dataclass(frozen=True)
class Tools:
    """What a stage works with, in one step of one run.

    Each back end comes with one sentence on why it is this one. A stage can use those that it declares (`uses`).

    Attributes:
        store: the image store.
        queue: where each job's life is recorded.
        settings: those of this machine; what decides a job's pictures is in its recipe.
        run_id: the Dagster run.
        log: puts a line into the run's log.
        resources: the step's Dagster resources, by name.
    """

    store: ImageStore
    queue: JobQueue
    settings: Settings
    run_id: str
    log: Callable[[str], None]
    resources: Any
    _made: dict[Hashable, Any] = field(default_factory=dict)

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """What was made under this key in this step; made now when it is the first time."""
        if key not in self._made:
            self._made[key] = make()
        found: T = self._made[key]
        return found

    def log_once(self, text: str) -> None:
        """Put a line into the run's log, unless this step has done so: a line per job would cost more than the job."""
        self.once(("line", text), lambda: self.log(text))

    def generator(self, recipe: Recipe) -> tuple[Generator, str]:
        """Who makes the scene."""
        found: tuple[Generator, str] = self.resources.generator.get(recipe.own("generator"), recipe.model())
        return found

    def face_generator(self, recipe: Recipe) -> tuple[Generator, str]:
        """Who makes the faces anew."""
        found: tuple[Generator, str] = self.resources.generator.for_faces(
            recipe.own("generator"),
            recipe.face_model(),
            own_model=None if recipe.own("face_model") is None else recipe.has_face_model,
            over=face_settings(recipe),
        )
        return found

    def writer(self, recipe: Recipe) -> tuple[Writer, str]:
        """Who improves prompts and describes pictures."""
        found: tuple[Writer, str] = self.resources.writer.get(recipe.own("writer"))
        return found

    def detector(self, recipe: Recipe) -> tuple[Detector, str]:
        """Who finds faces."""
        found: tuple[Detector, str] = self.resources.detector.get(
            recipe.own("detector"), recipe.own("detector_confidence")
        )
        return found

    def encoder(self) -> tuple[FaceEncoder | None, str]:
        """Who tells whether two faces are one person's; None when nobody does."""
        found: tuple[FaceEncoder | None, str] = self.resources.encoder.get()
        return found


def face_settings(recipe: Recipe) -> dict[str, Any]:
    """What the job itself says of the face pass that a generator otherwise reads from its settings."""
    own = recipe.over_settings()
    return {field: own[field] for field in ("face_size", "face_soft_inpaint") if field in own}
