"""Every decoder beside an independent implementation: tiny random models, the logits of all positions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from engines import engine_of
from features import FEATURES, OWN, as_there, changed, other_layout
from llamaq import _core
from llamaq.engine.engine import Engine
from llamaq.engine.kv_cache import KVCache
from llamaq.engine.loading import plan_of
from llamaq.formats import decode, format_by_name
from llamaq.gguf import GGUFFile
from llamaq.models import ARCHITECTURES
from llamaq.models.registry import UNSUPPORTED
from llamaq.plan.plan import Plan
from llamaq.plan.reference import Reference
from llamaq.plan.step import Step
from tiny_encoders import ENCODERS
from tiny_models import tiny_model

DECODERS = {name: entry for name, entry in ARCHITECTURES.items() if {*entry.tiny}.isdisjoint(ENCODERS)}
TINY = sorted({(name, tiny) for name, entry in DECODERS.items() for tiny in entry.tiny})
BOUND = 1e-5
"""Of log-probabilities: logits are a few units, so their last bit is 5e-7, and they are sums of some hundred products,
a few layers deep, in another order. A fault of a formula moves them ten times as far at least."""
LARGER_BOUNDS = {"qwen3next": 6e-5, "qwen35": 3e-5, "qwen35moe": 3e-5, "gemma4": 5e-5, "gemma4-moe": 3e-5}
"""Of models where the last bit of each weight moves log-probabilities further (``test_bounds_are_those_of_rounding``):
a delta net's state carries every rounding on, and Gemma 4 multiplies rows of length 1 without a scale of scores."""
F32 = NDArray[np.float32]


def bound_of(tiny: str) -> float:
    return LARGER_BOUNDS.get(tiny, BOUND)


@contextmanager
def opened(tiny: str) -> Iterator[tuple[GGUFFile, F32, F32]]:
    """The file, token ids and the logits of an independent implementation."""
    path, reference = tiny_model(tiny)
    with GGUFFile.open(path) as file:
        yield file, reference["ids"], reference["logits"]


def weights_of(file: GGUFFile) -> dict[str, Any]:
    return {name: (info.format, file.data(name)) for name, info in file.tensors.items()}


def log_softmax(logits: F32) -> NDArray[np.float64]:
    wide = logits.astype(np.float64)
    wide -= wide.max(-1, keepdims=True)
    return np.asarray(wide - np.log(np.exp(wide).sum(-1, keepdims=True)))


def off(logits: F32, reference: F32) -> float:
    return float(abs(log_softmax(logits) - log_softmax(reference)).max())


def through(engine: Engine, plan: Plan, ids: F32, sizes: list[int]) -> F32:
    """Logits of all positions, read in pieces."""
    cache, parts, start = KVCache(plan, 64, "f32"), [], 0
    for size in sizes:
        parts.append(engine.forward(Step.of(ids[start : start + size], start=start, wanted="all"), cache))
        start += size
    return np.concatenate(parts)


@pytest.mark.parametrize(("architecture", "tiny"), TINY)
def test_logits_are_those_of_an_independent_implementation(
    architecture: str, tiny: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In NumPy; and the compiled executor has its bits on every level, on any number of threads, however the prompt is
    cut, and beside another sequence."""
    with opened(tiny) as (file, ids, want):
        assert file.metadata["general.architecture"] == architecture
        plan = as_there(architecture, plan_of(file, 64)[1])
        weights = weights_of(file)
        logits = Reference(plan, weights, cache_type="f32").forward(Step.of(ids, wanted="all"))
        assert off(logits, want) < bound_of(tiny)
        for isa in _core.isas():
            engine = engine_of(plan, weights, isa, monkeypatch, threads=2)
            np.testing.assert_array_equal(through(engine, plan, ids, [len(ids)]), logits)
        for threads in (1, 2, 5):
            engine = engine_of(plan, weights, _core.isas()[-1], monkeypatch, threads=threads)
            for sizes in ([7, 1, 16], [1] * len(ids)):
                np.testing.assert_array_equal(through(engine, plan, ids, sizes), logits)
        rows = [Step.of(ids[::-1], sequence=1, wanted="all"), Step.of(ids, wanted="all")]
        together = engine.forward(Step.join(rows), KVCache(plan, 128, "f32"))
        np.testing.assert_array_equal(together[len(ids) :], logits)


@pytest.mark.parametrize("tiny", LARGER_BOUNDS)
def test_bounds_are_those_of_rounding(tiny: str) -> None:
    """A bound is no more than three times what a change of each weight in its last bit makes."""
    rng = np.random.default_rng(5)
    with opened(tiny) as (file, ids, _):
        plan, f32 = plan_of(file, 64)[1], format_by_name("F32")
        weights = {name: decode(*weight) for name, weight in weights_of(file).items()}
        changed = {
            name: x * (1 + rng.uniform(-1, 1, x.shape).astype(np.float32) * np.float32(2**-23))
            for name, x in weights.items()
        }
        assert all(info.format == f32 for info in file.tensors.values())
        step = Step.of(ids, wanted="all")
        found = [Reference(plan, each, cache_type="f32").forward(step) for each in (weights, changed)]
    assert LARGER_BOUNDS[tiny] < 3 * off(*found)


@pytest.mark.parametrize(("architecture", "tiny"), TINY)
def test_without_a_feature_logits_are_others(architecture: str, tiny: str) -> None:
    features = FEATURES[architecture] | FEATURES.get(tiny, {}) | OWN.get(tiny, {})
    with opened(tiny) as (file, ids, want):
        plan = as_there(architecture, plan_of(file, 64)[1])
        if any(getattr(node.op, "rope", None) is not None for node in plan.nodes):
            features = {"other layout of rope": other_layout} | features
        for name, change in features.items():
            other = changed(plan, change)
            assert other.nodes != plan.nodes, name
            logits = through(Engine(other, file, threads=1), other, ids, [len(ids)])
            assert off(logits, want) > 10 * bound_of(tiny), name


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_has_its_module_and_its_tests(name: str) -> None:
    entry = ARCHITECTURES[name]
    module = import_module(f"llamaq.models.{entry.module}")
    assert callable(module.read)
    assert callable(module.trace)
    assert entry.tiny
    assert (name in FEATURES) == (name in DECODERS)  # encoders: test_encoders.py
    assert name not in UNSUPPORTED
