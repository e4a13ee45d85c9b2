"""Models that run in this process, through diffusers: SDXL and Flux.

Belongs here: files, loading, calls, memory. Does not: servers (`resources.generators.servers`). Nothing is re-exported.
"""
