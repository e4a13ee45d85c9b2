"""The job request, the queue over the database, the Dagster jobs, and the `fc` command.

Belongs here: what a request may say, which job is due next, how a job ends.
Does not: image work.
"""
