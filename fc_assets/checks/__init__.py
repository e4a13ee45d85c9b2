"""What is asked of a result before its job goes on: quality gates, and whose the new faces are."""
