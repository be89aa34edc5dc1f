"""Architectures: one short function each, which traces a plan."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from llamaq.errors import ModelError
from llamaq.models.hparams import MAX_HEAD_DIM, ROPE_FREQS, HParams, read_hparams
from llamaq.models.llama import llama
from llamaq.plan.graph import Graph, Plan, Value
from llamaq.plan.rope import Rope, YaRN, make_rope

__all__ = [
    "ARCHITECTURES",
    "MAX_HEAD_DIM",
    "ROPE_FREQS",
    "HParams",
    "Rope",
    "YaRN",
    "build_plan",
    "make_rope",
    "read_hparams",
]

ARCHITECTURES: Mapping[str, Callable[[Graph, HParams], Value]] = {"llama": llama}


def build_plan(
    metadata: Mapping[str, Any],
    shapes: Mapping[str, tuple[int, ...]],
    *,
    rope_freqs: Sequence[float] | None = None,
) -> tuple[HParams, Plan]:
    """Hyperparameters and plan of the architecture that ``general.architecture`` names.

    ``shapes`` maps full tensor names to shapes, rows first. A file with the tensor ``rope_freqs.weight``
    needs its content in ``rope_freqs``. Raises ``ModelError`` for an unknown architecture, and for
    hyperparameters or tensors that are missing or do not fit together.
    """
    name = metadata.get("general.architecture")
    if not isinstance(name, str) or name not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise ModelError(f"general.architecture is {name!r}; llamaq runs {known}")
    if (ROPE_FREQS in shapes) != (rope_freqs is not None):
        raise ValueError(f"rope_freqs must be the content of {ROPE_FREQS!r}, given if and only if the file has it")
    hp = read_hparams(metadata, shapes, architecture=name, rope_freqs=rope_freqs)
    graph = Graph(shapes)
    return hp, graph.plan(ARCHITECTURES[name](graph, hp))
