"""The partition set: one partition per job."""

import dagster as dg

from jobs.model.stages import PARTITIONS

JOBS = dg.DynamicPartitionsDefinition(name=PARTITIONS)
