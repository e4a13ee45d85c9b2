"""The queue over the database: every change of a job's row, each in one guarded transaction.

Requests are checked before, in `jobs.requests`.
"""
