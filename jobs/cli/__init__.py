"""The `fc` command: one module per subcommand, and what they share.

Belongs here: reading the command line and printing for people. Does not: what a command does to a job (`jobs.queue`,
`jobs.submit`), or image work; the contact sheet of the demo only arranges finished images.

`jobs.cli.main` assembles the command. So that it starts quickly, a module here imports Dagster, OpenCV, SQLAlchemy and
the like inside the functions that need them.
"""
