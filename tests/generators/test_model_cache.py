"""The cache of loaded models: one load each, and the least recently used goes when room is needed."""

from __future__ import annotations

import weakref

import pytest

from resources.generators.diffusion.model_cache import ModelCache


class Weights:
    """Stands for a model's memory; weak references tell when it is freed."""


def test_a_model_is_loaded_once() -> None:
    cache = ModelCache()
    first = cache.get("a", Weights, label="A", needs=10)
    assert cache.get("a", Weights, label="A", needs=10) is first
    assert cache.get("b", Weights, label="B", needs=10**12) is not first
    assert cache.labels() == ["A", "B"]


def test_the_least_recently_used_goes_and_its_memory_is_free_before_the_next_is_loaded() -> None:
    cache = ModelCache()
    alive = {name: weakref.ref(cache.get(name, Weights, label=name, needs=4, budget=10)) for name in "ab"}
    cache.get("a", Weights, label="a", needs=4, budget=10)

    def load() -> Weights:
        assert alive["b"]() is None, "two models in memory that do not fit together"
        return Weights()

    cache.get("c", load, label="c", needs=4, budget=10)
    assert cache.labels() == ["a", "c"]
    assert alive["a"]() is not None


def test_a_model_larger_than_the_budget_stays_alone() -> None:
    cache = ModelCache()
    for name in "abc":
        cache.get(name, Weights, label=name, needs=3, budget=9)
    cache.get("huge", Weights, label="huge", needs=99, budget=9)
    assert cache.labels() == ["huge"]
    cache.get("a", Weights, label="a", needs=3, budget=9)
    assert cache.labels() == ["a"]


def test_a_load_that_fails_leaves_the_cache_usable() -> None:
    cache = ModelCache()
    cache.get("a", Weights, label="a", needs=3)

    def broken() -> Weights:
        raise OSError("no such file")

    with pytest.raises(OSError, match="no such file"):
        cache.get("b", broken, label="b", needs=3)
    assert cache.labels() == ["a"]
    cache.drop("a")
    cache.drop("never there")
    assert cache.labels() == []
    cache.get("b", Weights, label="b", needs=3)
    cache.clear()
    assert cache.labels() == []
