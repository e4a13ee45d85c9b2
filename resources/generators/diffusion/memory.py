"""What a model does when the device's memory is too short for a call, and what it has learned from that."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from resources.generators.base import ImageTask
from resources.generators.diffusion.model_cache import MODELS

_SMALLEST_TILE: Final = 8  # latents


@dataclass(slots=True)
class Memory:
    """How one model gets along with the memory of its device.

    Attributes:
        device: `cuda`, `mps` or `cpu`.
        offloaded: whether the parts wait in main memory and go to the device one by one.
        most_pixels: most pixels of one call, images together; learned when more did not fit. None: no limit.
        tiled_from: pixels of an image from which the VAE works in tiles; learned likewise. None: never.
    """

    device: str
    offloaded: bool = False
    most_pixels: int | None = None
    tiled_from: int | None = None

    def fits(self, task: ImageTask) -> int | None:
        """How many images like this one fit into one call, as far as is known; at least 1; None: no limit is known."""
        return None if self.most_pixels is None else max(1, self.most_pixels // (task.width * task.height))

    def save(self, model: object, images: int, task: ImageTask) -> str | None:
        """After a call did not fit: what is done about it from now on, or None when nothing is left to do.

        First other models go, then the batch is halved, then the VAE works in tiles, then (on cuda) the parts wait in
        main memory and go to the device one by one.

        Args:
            model: the one in need, which stays.
            images: how many images the call had.
            task: one of them.
        """
        pixels = task.width * task.height
        others = MODELS.keep_only(model)
        if others:
            return f"without {', '.join(others)}"
        if images > 1:
            self.most_pixels = images // 2 * pixels
            return f"{images // 2} of {images} images at once"
        if self.tiled_from is None or pixels < self.tiled_from:
            self.tiled_from = pixels
            return "with the VAE in tiles"
        if self.device == "cuda" and not self.offloaded:
            self.offloaded = True
            return "with the model's parts in main memory"
        return None

    def savings(self, task: ImageTask) -> list[str]:
        """What is done about short memory for an image like this one: some of `small batch`, `tiled VAE`, `offload`."""
        tiled = self.tiled_from is not None and task.width * task.height >= self.tiled_from
        known = {"small batch": self.most_pixels is not None, "tiled VAE": tiled, "offload": self.offloaded}
        return [name for name, done in known.items() if done]

    @contextmanager
    def in_tiles(self, vae: Any, task: ImageTask) -> Iterator[None]:  # noqa: ANN401 - an AutoencoderKL
        """Inside, the VAE works in tiles of half the image, if an image of this size needs that."""
        if self.tiled_from is None or task.width * task.height < self.tiled_from:
            yield
            return
        scale = 2 ** (len(vae.config.block_out_channels) - 1)
        before = vae.tile_sample_min_size, vae.tile_latent_min_size
        vae.tile_latent_min_size = max(_SMALLEST_TILE, max(task.width, task.height) // scale // 2)
        vae.tile_sample_min_size = vae.tile_latent_min_size * scale
        vae.enable_tiling()
        try:
            yield
        finally:
            vae.disable_tiling()
            vae.tile_sample_min_size, vae.tile_latent_min_size = before


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error says that memory was too short; torch's own class does not tell all of them."""
    return any(words in str(error).lower() for words in ("out of memory", "can't allocate memory"))
