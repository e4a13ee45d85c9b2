"""What the product serves over HTTP: Dagster's web server behind a guard.

Belongs here: who may ask, and how it is answered. Does not: rules of jobs, which are in `jobs`. It is started as
`python -m web.server`; nothing imports it.
"""
