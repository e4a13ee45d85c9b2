"""The asset `description`: the finished picture in words and as data."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fc_assets.engine.asset import stage
from fc_assets.engine.outcome import Done, Item
from fc_assets.engine.tools import Tools
from imaging.errors import RejectedError
from imaging.geometry.boxes import Face
from jobs.model.job_types import JOB_TYPES
from resources.artifacts.images import StoredImage
from resources.artifacts.records import DescriptionRecord, PortraitRecord, PromptRecord
from resources.detectors.base import largest_first, sure_faces
from resources.writers.base import DescriptionAnswer, Picture
from resources.writers.safety import check_texts


def _decides(item: Item, tools: Tools) -> Mapping[str, Any]:
    return {
        "writer": tools.writer(item.recipe)[0].describe(),
        "detector": tools.detector(item.recipe)[0].describe(),
    }


@stage(
    code_version="2",
    group="result",
    kinds={"claude"},
    reads=("enhanced_prompt", "generated_image", "portrait", "final_image"),
    uses=("detector", "writer"),
    decides=_decides,
)
def description(item: Item, tools: Tools) -> Done:
    """What the finished picture shows: a paragraph, a title, tags and measured facts.

    The writer (Claude, or measurements without a model) looks at `final_image`; for a `description` job at the imported
    photo. The faces are those that `portrait` found; in a picture without portraits they are looked for. The text lies
    beside the data, as `descriptions/JOB.txt`.
    """
    writer, why = tools.writer(item.recipe)
    tools.log_once(f"Descriptions by {why}")
    delivered = JOB_TYPES[item.job.job_type].delivers
    described = delivered if delivered and delivered in item.inputs else "generated_image"
    image: StoredImage = item.needs(described)
    pixels = image.pixels
    answer = writer.describe_image(_picture(item, image, pixels, tools))
    _check(item.job.id, answer)
    return Done(
        DescriptionRecord(writer=writer.name, image=described, answer=answer),
        {
            "writer": writer.name,
            "title": answer.title,
            "text": answer.text,
            "tags": answer.tags,
            "people": answer.people,
            "data": answer.data,
            **answer.usage.model_dump(mode="json", exclude={"seconds"}),
        },
        picture=pixels,
    )


def _check(job_id: str, answer: DescriptionAnswer) -> None:
    """A picture whose description is of what is not made here goes no further."""
    facts = [value for value in answer.data.values() if isinstance(value, str)]
    texts = {"title": answer.title, "text": answer.text, "tags": ", ".join(answer.tags), "data": "\n".join(facts)}
    try:
        check_texts(texts)
    except RejectedError as error:
        raise RejectedError(f"Job {job_id}: its description: {error.what}", "Look at the picture.") from error


def _picture(item: Item, image: StoredImage, pixels: NDArray[np.uint8], tools: Tools) -> Picture:
    """The picture as the writer gets it, with its prompts, but without the fixed words, which show nothing."""
    made = image.details
    prompts: PromptRecord | None = item.inputs.get("enhanced_prompt")
    asked = prompts.enhanced if prompts else None
    return Picture(
        job_id=item.job.id,
        pixels=pixels,
        faces=_faces_in(item, pixels, tools),
        prompt=asked.pony_prompt if asked and made.get("prompt") else "",
        face_prompt=asked.flux_prompt or asked.pony_prompt if asked and made.get("face_prompt") else "",
        origin=made.get("origin", "generated"),
        generator=made.get("generator", ""),
    )


def _faces_in(item: Item, pixels: NDArray[np.uint8], tools: Tools) -> list[Face]:
    """The faces that `portrait` found; in a picture without portraits they are looked for."""
    confidence = item.recipe.faces.detector_confidence
    record: PortraitRecord | None = item.inputs.get("portrait")
    if record is None:
        return sure_faces(tools.detector(item.recipe)[0], pixels, confidence)
    return largest_first(record.seen_in((pixels.shape[1], pixels.shape[0]), confidence))
