"""Model files: finding, fetching, checking and identifying them, without torch.

Loading is in `resources.generators`.
"""
