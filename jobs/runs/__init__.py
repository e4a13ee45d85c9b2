"""Where jobs meet Dagster's runs: what an ended run means for its jobs, retention, repair after a crash."""
