"""The way of a request into the queue: files, the inbox, schedules, retries.

Rows are changed by `jobs.queue` alone.
"""
