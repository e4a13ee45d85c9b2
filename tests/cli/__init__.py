"""Tests of the `fc` command."""
