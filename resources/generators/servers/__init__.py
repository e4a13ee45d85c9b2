"""Image servers over HTTP: Forge, A1111 and ComfyUI.

Belongs here: their requests and answers. Does not: models of this process (`resources.generators.diffusion`).
Nothing is re-exported.
"""
