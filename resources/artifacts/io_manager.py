"""The IO manager: values of stages to and from the image store, one file set per job partition."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dagster as dg
from upath import UPath

from resources.artifacts import stage_files
from resources.store.image_store import ImageStore, StoredFile


class StageIOManager(dg.UPathIOManager):
    """Reads and writes a dict of job id to value, for one partition and for a range alike.

    The stages store each job's value as soon as it is finished, so that a crash loses only the job in hand; what they
    hand over is then a `StoredFile`, and there is nothing left to write. Any other value is written here.
    """

    def __init__(self, store: ImageStore) -> None:
        self._store = store
        super().__init__(base_path=UPath(store.root))

    def get_path_for_partition(
        self,
        context: dg.InputContext | dg.OutputContext,
        path: UPath,  # noqa: ARG002 - the folder follows from the stage, not from the asset's default path
        partition: str,
    ) -> UPath:
        """Where the main file of a job's value lies."""
        return self._store.path(*stage_files.main_file(_stage(context), partition))

    def dump_to_path(self, context: dg.OutputContext, obj: Any, path: UPath) -> None:  # noqa: ANN401
        """Write one job's value."""
        stage_files.save(self._store, _stage(context), path.stem, obj)

    def load_from_path(self, context: dg.InputContext, path: UPath) -> Any:  # noqa: ANN401
        """Read one job's value."""
        return stage_files.load(self._store, _stage(context), path.stem)

    def handle_output(self, context: dg.OutputContext, obj: Mapping[str, Any]) -> None:
        """Write each value that its stage has not already stored."""
        for job_id, value in obj.items():
            if not isinstance(value, StoredFile):
                path = self._store.path(*stage_files.main_file(_stage(context), job_id))
                self.dump_to_path(context, value, path)

    def load_input(self, context: dg.InputContext) -> dict[str, Any]:
        """The values of every job of the run, by job id; a job without one is left out when the input allows it.

        Raises:
            FileNotFoundError: names the file, when a value is missing and the input needs it.
        """
        loaded = {}
        missing = []
        for job_id in context.asset_partition_keys:
            try:
                loaded[job_id] = stage_files.load(self._store, _stage(context), job_id)
            except FileNotFoundError:
                if not (context.definition_metadata or {}).get("allow_missing_partitions"):
                    raise
                missing.append(job_id)
        if missing:  # one line for all: Dagster stores each line in its database, which takes longer than a small image
            context.log.info(f"No {_stage(context)} of {', '.join(missing)}.")
        return loaded


def _stage(context: dg.InputContext | dg.OutputContext) -> str:
    return context.asset_key.path[-1]
