"""Pure functions on NumPy arrays and PIL images.

Belongs here: boxes, crops, masks, blending, quality, decoding, provenance.
Does not: Dagster, files, the network, settings.
"""
