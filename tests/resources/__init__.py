"""Tests of the other rooms of `resources`."""
