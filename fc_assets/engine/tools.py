"""What a stage works with: the store, the queue, the settings, and the back ends as a job's recipe asks for them."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from jobs.queue.job_queue import JobQueue
from jobs.recipes.recipe import Recipe
from resources.detectors.base import Detector
from resources.encoders.base import FaceEncoder
from resources.generators.base import Generator, ModelChoice
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
        own = _given(name=recipe.own("generator"), choice=_said(recipe.model()))
        found: tuple[Generator, str] = self.resources.generator.get(**own)
        return found

    def face_generator(self, recipe: Recipe) -> tuple[Generator, str]:
        """Who makes the faces anew."""
        own = _given(name=recipe.own("generator"), choice=_said(recipe.face_model()))
        found: tuple[Generator, str] = self.resources.generator.for_faces(**own)
        return found

    def writer(self, recipe: Recipe) -> tuple[Writer, str]:
        """Who improves prompts and describes pictures."""
        found: tuple[Writer, str] = self.resources.writer.get(**_given(name=recipe.own("writer")))
        return found

    def detector(self, recipe: Recipe) -> tuple[Detector, str]:
        """Who finds faces."""
        own = _given(name=recipe.own("detector"), confidence=recipe.own("detector_confidence"))
        found: tuple[Detector, str] = self.resources.detector.get(**own)
        return found

    def encoder(self) -> tuple[FaceEncoder | None, str]:
        """Who tells whether two faces are one person's; None when nobody does."""
        found: tuple[FaceEncoder | None, str] = self.resources.encoder.get()
        return found


def _given(**own: Any) -> dict[str, Any]:  # noqa: ANN401 - of any type
    """What the job itself says; the rest is as the settings of this machine."""
    return {name: value for name, value in own.items() if value is not None}


def _said(choice: ModelChoice) -> ModelChoice | None:
    return choice if choice.given() else None
