"""Pictures as files and for people: decoding, EXIF, PNG provenance, thumbnails, overview pictures.

It knows no store and no job.
"""
