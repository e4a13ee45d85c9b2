"""What a job is: its request, types, stages, statuses, faults and times. Nothing here reads or changes a database."""
