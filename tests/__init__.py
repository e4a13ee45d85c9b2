"""The tests; run `pytest` in the folder above."""
