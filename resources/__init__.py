"""Everything with a connection, a file or a model behind it.

Belongs here: settings, generators, writers, detectors, the image store, the face-changer database.
Does not: decisions about the pipeline.
"""
