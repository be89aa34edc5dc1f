"""Engines on made-up weights, and plans of one attention op."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from llamaq.engine.engine import Engine
from llamaq.engine.kv_cache import KVCache
from llamaq.formats import Format, format_by_name
from llamaq.plan.graph import Graph, Plan
from llamaq.plan.rope import make_rope
from llamaq.plan.step import Step

__all__ = ["VOCABULARY", "Source", "all_logits", "attention_alone", "attention_of", "engine_of", "tokens_of"]

VOCABULARY = 60


class _Info:
    def __init__(self, fmt: Format, shape: tuple[int, ...], nbytes: int) -> None:
        self.format, self.shape, self.nbytes = fmt, shape, nbytes


class Source:
    """Packed arrays in the place of a file."""

    def __init__(self, weights: Any) -> None:
        f32 = format_by_name("F32")
        self._data: dict[str, tuple[Format, NDArray[np.uint8]]] = {
            name: w if isinstance(w, tuple) else (f32, np.ascontiguousarray(w, np.float32).view(np.uint8))
            for name, w in weights.items()
        }
        self.tensors = {}
        for name, (fmt, data) in self._data.items():
            cols = data.shape[-1] // fmt.block_bytes * fmt.block
            self.tensors[name] = _Info(fmt, (*data.shape[:-1], cols), data.nbytes)

    def data(self, name: str) -> NDArray[np.uint8]:
        return self._data[name][1]

    def check(self) -> None:
        """Arrays do not change."""

    mapped = False


def engine_of(plan: Plan, weights: Any, isa: str, monkeypatch: pytest.MonkeyPatch, **kwargs: Any) -> Engine:
    monkeypatch.setenv("LLAMAQ_ISA", isa)
    engine = Engine(plan, Source(weights), **{"threads": 2, **kwargs})
    assert engine.isa == isa
    return engine


def all_logits(engine: Engine, cache: KVCache, tokens: NDArray[Any], sizes: list[int], sequence: int = 0) -> Any:
    parts = []
    for a, b in itertools.pairwise(np.cumsum([0, *sizes]).tolist()):
        parts.append(engine.forward(Step.of(tokens[a:b], start=a, sequence=sequence, wanted="all"), cache))
    return np.concatenate(parts)


def attention_of(engine: Engine, cache: KVCache, step: Step) -> NDArray[np.float32]:
    """What the plan's one attention op makes of the step's rows, (rows, columns)."""
    ((op, node),) = ((i, node) for i, node in enumerate(engine.plan.nodes) if node.op.keeps)
    out = np.empty((len(step), node.cols[0]), np.float32)
    engine.forward(step, cache, captures={(op, node.outs[0]): out})
    return out


def attention_alone(
    seed: int,
    *,
    heads: int,
    kv_heads: int,
    head_dim: int,
    rope: bool = True,
    value_dim: int | None = None,
    value_of_key: bool = False,
    **kwargs: Any,
) -> tuple[Plan, dict[str, NDArray[np.float32]]]:
    """Embedding, projections, one attention op and its outputs; queries large enough for pointed softmaxes. The weights
    have "norm" for a head, "q_norms" and "k_norms" for each head, and "sinks" besides."""
    rng = np.random.default_rng(seed)
    values = head_dim if value_dim is None else value_dim
    shapes: dict[str, tuple[int, ...]] = {
        "embd": (VOCABULARY, 24),
        "q": (heads * head_dim, 24),
        "k": (kv_heads * head_dim, 24),
    }
    shapes |= {"v": (kv_heads * values, 24), "out": (20, heads * values)}
    shapes |= {"norm": (head_dim,), "q_norms": (heads, head_dim), "k_norms": (kv_heads, head_dim), "sinks": (heads,)}
    weights = {f"{name}.weight": rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    g = Graph({name: x.shape for name, x in weights.items()})
    q, k, v = g.linear(g.embed("embd"), "q", "k", "v")
    turned = make_rope((head_dim - kwargs.get("rope_offset", 0)) // 2 * 2, 1e4) if rope else None
    a = g.attention(q, k, None if value_of_key else v, layer=0, heads=heads, kv_heads=kv_heads, head_dim=head_dim,
                    scale=0.1, rope=turned, value_dim=value_dim, **kwargs)  # fmt: skip
    return g.plan(g.linear(g.select_rows(a), "out")), weights


def tokens_of(seed: int, count: int) -> NDArray[np.int64]:
    return np.random.default_rng(seed).integers(0, VOCABULARY, count)
