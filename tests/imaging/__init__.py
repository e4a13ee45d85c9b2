"""Tests of `imaging`."""
