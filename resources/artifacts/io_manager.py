"""The IO manager: values of stages from the image store, one file set per job partition."""

from __future__ import annotations

from typing import Any

import dagster as dg

from resources.artifacts.records import ARTIFACTS
from resources.store.image_store import ImageStore


class StageIOManager(dg.IOManager):
    """Reads a dict of job id to value, for one partition and for a range alike.

    The stages store each job's value as soon as it is finished, so that a crash loses only the job in hand.
    """

    def __init__(self, store: ImageStore) -> None:
        self._store = store

    def handle_output(self, context: dg.OutputContext, obj: object) -> None:
        """Nothing: what a stage hands over is stored."""

    def load_input(self, context: dg.InputContext) -> dict[str, Any]:
        """The values of every job of the run, by job id; a job without one is left out when the input allows it.

        Raises:
            FileNotFoundError: names the file, when a value is missing and the input needs it.
        """
        artifact = ARTIFACTS[context.asset_key.path[-1]]
        loaded = {}
        missing = []
        for job_id in context.asset_partition_keys:
            try:
                loaded[job_id] = artifact.load(self._store, job_id)
            except FileNotFoundError:
                if not (context.definition_metadata or {}).get("allow_missing_partitions"):
                    raise
                missing.append(job_id)
        if missing:  # one line for all: Dagster stores each line in its database, which takes longer than a small image
            context.log.info(f"No {artifact.stage} of {', '.join(missing)}.")
        return loaded
