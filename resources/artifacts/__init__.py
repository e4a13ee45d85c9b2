"""What each stage leaves behind, as records and as files, and Dagster's way to them."""
