"""What decides a job's pictures: every value, whole, in sections, and where each came from.

A preset, a character, a style, a retry and a request are all partial recipes. Who asks is in `jobs.requests`.
"""
