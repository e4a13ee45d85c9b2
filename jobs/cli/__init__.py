"""The `fc` command: one module per subcommand, and what they share.

Reading the command line and printing for people; what a command does to a job is in the other rooms of `jobs`.
"""
