"""The procedural portrait painter: words and a seed become a painting, by geometry alone.

Belongs here: pure drawing on arrays. Does not: back ends, files, models.
"""
