"""Tests of the asset graph and its sensors."""
