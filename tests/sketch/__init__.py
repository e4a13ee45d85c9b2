"""Tests of `sketch`."""
