"""Tests of whole systems: daemons, workers, crashes, deployment files."""
