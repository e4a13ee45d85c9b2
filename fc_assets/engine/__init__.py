"""How every stage works through the jobs of a run: the asset decorator, the loop, time limits.

What one stage does is in `fc_assets.stages`.
"""
