"""What is done with faces in a picture: searching, choosing, checking, masking, putting back.

Detectors and models live in `resources`.
"""
