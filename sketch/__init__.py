"""The procedural portrait painter: words and a seed become a painting, by geometry alone. A back end like any other.

Belongs here: pure drawing on arrays, and the generator over it. Does not: files, models, networks. Nothing of
face-changer imports it; it is found by its entry point.
"""
