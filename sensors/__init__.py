"""Requests in, outcomes out.

Belongs here: what the Dagster daemon looks at every few seconds. Does not: image work.
"""
