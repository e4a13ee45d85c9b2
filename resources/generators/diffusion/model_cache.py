"""The models that this process holds on its device, within a memory budget."""

from __future__ import annotations

import gc
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, TypeVar

_log = logging.getLogger(__name__)

Model = TypeVar("Model")


@dataclass(frozen=True, slots=True)
class _Entry:
    model: Any
    version: Hashable
    label: str
    needs: int


class ModelCache:
    """Loaded models, the least recently used first to go.

    A model that was given out stays in memory as long as its user holds it; the cache lets go of its own hold only.
    """

    def __init__(self) -> None:
        self._entries: OrderedDict[Hashable, _Entry] = OrderedDict()
        self._lock = threading.RLock()

    def get(
        self,
        key: Hashable,
        load: Callable[[], Model],
        *,
        label: str,
        needs: int,
        version: Hashable = None,
        budget: int | None = None,
    ) -> Model:
        """The model of this key, loaded when it is not here.

        Args:
            key: which model it is: its place, device, dtype.
            version: its files' fingerprint. A model of the same key and another version goes before the load.
            load: loads it. Called with the cache locked, so that no two models are loaded at once.
            label: its name in the log.
            needs: bytes that it takes on the device.
            budget: bytes that all models together may take; others are let go of until the new one fits, and one that
                is larger than the budget stays alone. None: no limit.
        """
        with self._lock:
            if key in self._entries and self._entries[key].version != version:
                self.drop(key)
            if key not in self._entries:
                if budget is not None:
                    self._make_room(budget - needs)
                self._entries[key] = _Entry(load(), version, label, needs)
            self._entries.move_to_end(key)
            model: Model = self._entries[key].model
            return model

    def labels(self) -> list[str]:
        """What is held, the least recently used first."""
        with self._lock:
            return [entry.label for entry in self._entries.values()]

    def drop(self, key: Hashable) -> None:
        """Let go of one model, if it is here."""
        with self._lock:
            if self._entries.pop(key, None) is not None:
                free_memory()

    def keep_only(self, model: object) -> list[str]:
        """Let go of all models but this one; the labels of those that went."""
        with self._lock:
            others = [key for key, entry in self._entries.items() if entry.model is not model]
            labels = [self._entries.pop(key).label for key in others]
            if labels:
                free_memory()
            return labels

    def clear(self) -> None:
        """Let go of all."""
        with self._lock:
            self._entries.clear()
            free_memory()

    def _make_room(self, most: int) -> None:
        """Let go of the least recently used until the rest takes at most so many bytes."""
        gone = False
        while self._entries and sum(entry.needs for entry in self._entries.values()) > most:
            _key, entry = self._entries.popitem(last=False)
            _log.info("Let go of %s, to make room on the device.", entry.label)
            gone = True
            del entry
        if gone:
            free_memory()


MODELS = ModelCache()
"""This process's own."""


def memory_budget(device: str) -> int | None:
    """Bytes that models may take where no setting says so: nine tenths of a GPU's memory; None: no limit is known."""
    import torch

    if device != "cuda":
        return None
    return int(torch.cuda.get_device_properties(device).total_memory * 0.9)


def free_memory() -> None:
    """Give memory that nothing uses any more back to the device."""
    gc.collect()
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()
