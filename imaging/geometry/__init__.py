"""Boxes, squares and turns: where things lie in a picture, and the way there and back.

It knows no face rules and no files.
"""
