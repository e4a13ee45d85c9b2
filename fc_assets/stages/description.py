"""The asset `description`: the finished picture in words and as data."""

from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg
import numpy as np
from numpy.typing import NDArray

from fc_assets.engine.asset import stage_asset
from fc_assets.engine.stage import Done, Item, Stage, StageOutput, one_by_one
from imaging.geometry.boxes import Face
from jobs.model.job import Job
from jobs.queue.job_queue import JobQueue
from resources.artifacts.records import DescriptionRecord, PortraitRecord, PromptRecord, StoredImage
from resources.connections import DatabaseResource, DetectorResource, StoreResource, WriterResource
from resources.detectors.base import largest_first, sure_faces
from resources.writers.base import Picture


@stage_asset(
    code_version="2",
    group="result",
    kinds={"claude"},
    ins=("enhanced_prompt", "generated_image", "portrait", "final_image"),
)
def description(
    context: dg.AssetExecutionContext,
    enhanced_prompt: dict[str, PromptRecord],
    generated_image: dict[str, StoredImage],
    portrait: dict[str, PortraitRecord],
    final_image: dict[str, StoredImage],
    store: StoreResource,
    database: DatabaseResource,
    detector: DetectorResource,
    writer: WriterResource,
) -> Iterator[StageOutput]:
    """What the finished picture shows: a paragraph, a title, tags and measured facts.

    The writer (Claude, or measurements without a model) looks at `final_image`; for a `description` job at the imported
    photo. The faces are those that `portrait` found; in a picture without portraits they are looked for. The text lies
    beside the data, as `descriptions/JOB.txt`.
    """
    inputs: dict[str, Mapping[str, Any]] = {
        "enhanced_prompt": enhanced_prompt,
        "generated_image": generated_image,
        "portrait": portrait,
        "final_image": final_image,
    }
    stage = Stage(context, store.get(), JobQueue(database.get()), inputs)

    def decides(_job: Job) -> Mapping[str, Any]:
        return {"writer": writer.get()[0].describe(), "detector": detector.get()[0].describe()}

    def faces_in(item: Item, pixels: NDArray[np.uint8]) -> list[Face]:
        confidence = stage.settings.detector_confidence
        if "portrait" not in item.inputs:
            return sure_faces(detector.get()[0], pixels, confidence)
        record: PortraitRecord = item.inputs["portrait"]
        return largest_first(record.seen_in((pixels.shape[1], pixels.shape[0]), confidence))

    def describe(item: Item) -> Done:
        tool, why = writer.get()
        stage.tell_once(f"Descriptions by {why}")
        changed = "final_image" in item.inputs and item.job.job_type != "description"
        image: StoredImage = item.needs("final_image" if changed else "generated_image")
        pixels = image.pixels
        made = image.details
        words: PromptRecord | None = item.inputs.get("enhanced_prompt")  # without the fixed words, which show nothing
        asked = words.enhanced if words else None
        answer = tool.describe_image(
            Picture(
                job_id=item.job.id,
                pixels=pixels,
                faces=faces_in(item, pixels),
                prompt=asked.pony_prompt if asked and made.get("prompt") else "",
                face_prompt=asked.flux_prompt or asked.pony_prompt if asked and made.get("face_prompt") else "",
                origin=made.get("origin", "generated"),
                generator=made.get("generator", ""),
            )
        )
        return Done(
            DescriptionRecord(writer=tool.name, image="final_image" if changed else "generated_image", answer=answer),
            {
                "writer": tool.name,
                "title": answer.title,
                "text": answer.text,
                "tags": answer.tags,
                "people": answer.people,
                "data": answer.data,
                **answer.usage.model_dump(mode="json", exclude={"seconds"}),
            },
            picture=pixels,
        )

    yield from stage.run(one_by_one(describe), decides)
