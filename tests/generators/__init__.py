"""Tests of `resources.generators`."""
