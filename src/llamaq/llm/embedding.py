"""Vectors for texts: what the last layer makes of their tokens, normed, pooled and scaled to length 1."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from llamaq.boundary.arguments import one_of
from llamaq.errors import ModelError, not_numbers
from llamaq.formats import decode
from llamaq.gguf import GGUFFile
from llamaq.models.keys import POOLING_RANK
from llamaq.plan.operands import Norm
from llamaq.plan.ops.norm import normed
from llamaq.plan.plan import Plan
from llamaq.serving.reading import CaptureRequest, PromptRequest
from llamaq.serving.request import Capture

__all__ = ["Embedder", "Pooling", "final_norm", "last_layer"]

Pooling = Literal["mean", "last", "cls"]
_POOLINGS: dict[object, Pooling] = {1: "mean", 2: "cls", 3: "last"}  # numbers of the file's key


class Embedder:
    """Makes requests for texts, and vectors of what they saw.

    Raises ``ValueError`` for an unknown ``pooling``, ``ModelError`` where a decoder does not end in a norm, or where a
    model that ranks is not told how to pool.
    """

    def __init__(self, file: GGUFFile, plan: Plan, pooling: Pooling | None, normalize: bool) -> None:
        own = _pooling_type(file)
        if pooling is not None:
            one_of("pooling", pooling, _POOLINGS.values())
        elif own == POOLING_RANK:
            raise ModelError(
                "the model is made to rank documents; for vectors, choose 'mean', 'last' or 'cls' as pooling"
            )
        self.pooling = pooling or _POOLINGS.get(own, "mean")
        self._normalize = normalize
        self._capture = last_layer(plan)
        self._norm = final_norm(plan)
        self._vectors = {
            weight.name: decode(file.tensors[weight.name].format, file.data(weight.name)).astype(np.float32)
            for weight in (() if self._norm is None else self._norm.reads())
        }

    def request(self, ids: list[int]) -> PromptRequest:
        return CaptureRequest(ids, [self._capture])

    def pooled(self, results: Sequence[list[NDArray[np.float32]]]) -> NDArray[np.float32]:
        """Vectors, float32 (texts, width); sums in float64, so that they do not depend on NumPy's order."""
        out = np.empty((len(results), self._capture[2]), np.float32)
        for row, (_, states) in zip(out, results, strict=True):
            if self.pooling != "mean":
                states = states[:1] if self.pooling == "cls" else states[-1:]
            with np.errstate(all="ignore"):
                row[:] = self._scaled(self._normed(states).astype(np.float64).mean(axis=0))
        return out

    def unpooled(self, result: list[NDArray[np.float32]]) -> NDArray[np.float32]:
        """A vector for each token of a text, float32 (tokens, width)."""
        with np.errstate(all="ignore"):
            return np.array([self._scaled(state) for state in self._normed(result[1]).astype(np.float64)], np.float32)

    def _normed(self, states: NDArray[np.float32]) -> NDArray[np.float32]:
        return states if self._norm is None else normed(self._norm, states, self._vectors.__getitem__)

    def _scaled(self, vector: NDArray[np.float64]) -> NDArray[np.float64]:
        if not np.isfinite(vector).all():
            raise not_numbers("states")
        length = math.sqrt(math.fsum(vector * vector)) if self._normalize else 1.0
        return vector / (length or 1.0)


def last_layer(plan: Plan) -> Capture:
    """Where the rows of all tokens stand before those whose logits are wanted are selected."""
    index, node = next((i, node) for i, node in enumerate(plan.nodes) if node.op.selects)
    return index - 1, node.ins[0], node.cols[0]


def final_norm(plan: Plan) -> Norm | None:
    """The norm before the logits; None for an encoder, whose layers end with theirs."""
    if plan.encodes:
        return None
    for node in plan.nodes[last_layer(plan)[0] + 2 :]:
        if (norm := node.op.norm_first) is not None:
            return norm
    raise ModelError("the model has no norm after its last layer, so it has no embeddings to give")


def _pooling_type(file: GGUFFile) -> object:
    return file.metadata.get(f"{file.metadata.get('general.architecture')}.pooling_type")
