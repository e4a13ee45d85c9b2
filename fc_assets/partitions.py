"""The partition set: one partition per job.

Belongs here: the set and its name. Does not: how a job gets its id (`jobs.ids`).
"""

import dagster as dg

from jobs.stages import PARTITIONS

JOBS = dg.DynamicPartitionsDefinition(name=PARTITIONS)
