"""Where a model runs and what it computes in."""

from __future__ import annotations

from imaging.errors import SettingsError


def pick_device(device: str) -> str:
    """`cuda`, `mps` or `cpu`; of `auto` the first of them that is there.

    Raises:
        SettingsError: the device is not there.
    """
    import torch

    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device == "auto":
        return next(name for name, found in there.items() if found)
    if not there[device]:
        raise SettingsError(
            f"FC_SDXL_DEVICE={device}, and torch {torch.__version__} finds no such device here.",
            f"Set it to auto or cpu, or install the driver and a torch build for {device}.",
        )
    return device


def pick_dtype(dtype: str, device: str) -> str:
    """`bfloat16`, `float16` or `float32`; `auto` is bfloat16 on cuda and float32 elsewhere."""
    if dtype != "auto":
        return dtype
    return "bfloat16" if device == "cuda" else "float32"


def gpu_name(device: str) -> str | None:
    """The name of the graphics card on cuda, else None."""
    import torch

    return torch.cuda.get_device_name() if device == "cuda" else None
