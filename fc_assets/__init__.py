"""The asset graph: one module per stage, the partition set, and `definitions`, which alone composes everything.

Belongs here: the decisions of the pipeline. Does not: HTTP calls, SQL, model code.
"""
