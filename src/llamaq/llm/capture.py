"""What happens inside: hidden states after each layer, and where attention looks."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from llamaq.boundary.arguments import shown, texts, wholes
from llamaq.llm.tensors import Tensor
from llamaq.plan.arithmetic import round_to_cache
from llamaq.plan.ops.attention import Attention, first_seen
from llamaq.plan.plan import Plan
from llamaq.serving.reading import CaptureRequest
from llamaq.serving.request import Capture

__all__ = ["CaptureKind", "CapturePlan", "Forward"]

CaptureKind = Literal["hidden", "attention"]
F32: TypeAlias = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Forward:
    """What reading a text gave, float32.

    ``logits`` (tokens, vocabulary). ``hidden`` (layers + 1, tokens, width): the embeddings, then what each layer leaves
    for the next, before any norm; the bits that the model computes with. ``attention`` has for each layer that was
    asked for (heads, queries, keys): the probabilities (a sink has the rest), made in float64 from the rotated queries
    and the keys as the cache rounds them. The engine never holds these numbers itself, it sums span by span; so they
    are exact for its queries and keys, not the last bit of its sums. Both are empty where they were not asked for.
    """

    tokens: tuple[int, ...]
    logits: F32
    hidden: F32
    attention: Mapping[int, F32]


class CapturePlan:
    """Makes the request for a text, and a ``Forward`` of what it saw.

    Raises ``ValueError`` for an unknown capture or layer.
    """

    def __init__(
        self,
        plan: Plan,
        tensors: Mapping[str, Tensor],
        cache_type: str,
        capture: Collection[CaptureKind],
        layers: Sequence[int] | None,
    ) -> None:
        attention = {
            node.op.layer: (i, node.op, node.ins) for i, node in enumerate(plan.nodes) if isinstance(node.op, Attention)
        }
        layers = None if layers is None else wholes("layers", layers, "numbers of layers")
        unknown = {*texts("capture", capture)} - {"hidden", "attention"} or {*(layers or ())} - {*attention}
        if unknown or isinstance(capture, str):
            raise ValueError(
                f"capture takes a list of 'hidden' and 'attention', layers 0 to {len(attention) - 1}; "
                f"got {shown(capture)} and {shown(layers)}"
            )
        wanted = attention if layers is None else layers
        self._tensors, self._cache_type = tensors, cache_type
        ends = plan.layer_ends if "hidden" in capture else ()
        self._hidden = [(i, plan.nodes[i].outs[0], plan.nodes[i].cols[0]) for i in ends]
        self._attention: list[tuple[Attention, Capture, Capture]] = []
        if "attention" in capture:
            for index, op, (q, k, _) in (attention[layer] for layer in wanted):
                keys = (index, k, op.kv_heads * op.head_dim)
                self._attention.append((op, (index, q, op.heads * op.head_dim), keys))

    def request(self, ids: list[int]) -> CaptureRequest:
        pairs = [capture for _, q, k in self._attention for capture in (q, k)]
        return CaptureRequest(ids, [*self._hidden, *pairs], logits=True)

    def forward(self, ids: Sequence[int], result: list[F32]) -> Forward:
        """Puts together what the request saw."""
        logits, *seen = result
        hidden, pairs = seen[: len(self._hidden)], seen[len(self._hidden) :]
        attention = {
            op.layer: _probabilities(op, q, k, self._cache_type, self._sinks(op))
            for (op, _, _), q, k in zip(self._attention, pairs[::2], pairs[1::2], strict=True)
        }
        states = np.stack(hidden) if hidden else np.empty((0, len(ids), 0), np.float32)
        return Forward(tuple(ids), logits, states, attention)

    def _sinks(self, op: Attention) -> NDArray[np.float64]:
        """The score of each head's sink, float64 (heads,)."""
        if op.sinks is None:
            return np.full(op.heads, -np.inf)
        return self._tensors[op.sinks.name].numbers().astype(np.float64)


def _probabilities(op: Attention, q: F32, k: F32, cache_type: str, sinks: NDArray[np.float64]) -> F32:
    """Softmax of queries (tokens, heads * dim) on keys (tokens, KV heads * dim): (heads, tokens, tokens)."""
    n, dim = len(q), op.head_dim
    keys = round_to_cache(k.reshape(n, -1, dim), cache_type).astype(np.float64)
    positions = np.arange(n, dtype=np.int32)
    seen = positions <= positions[:, None]
    seen &= positions >= first_seen(positions, op.window, op.chunk)[:, None]
    out = np.empty((op.heads, n, n), np.float32)
    group = op.heads // op.kv_heads
    for head, queries in enumerate(q.reshape(n, -1, dim).astype(np.float64).swapaxes(0, 1)):
        scores = queries @ keys[:, head // group].T * op.scale
        if op.softcap:
            scores = op.softcap * np.tanh(scores / op.softcap)
        scores = np.where(seen, scores, -np.inf)
        top = np.maximum(scores.max(axis=1, keepdims=True), sinks[head])
        weights = np.exp(scores - top)
        out[head] = weights / (weights.sum(axis=1, keepdims=True) + np.exp(sinks[head] - top))
    return out
