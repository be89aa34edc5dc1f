"""Architectures, a file each: which keys it reads, and which operations it traces in which order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol, cast

from llamaq.errors import ModelError
from llamaq.models.hparams import MAX_HEAD_DIM, ROPE_FREQS, HParams
from llamaq.models.keys import Keys
from llamaq.plan.graph import Graph, Plan, Value

__all__ = ["ARCHITECTURES", "MAX_HEAD_DIM", "ROPE_FREQS", "Architecture", "HParams", "Keys", "build_plan"]


@dataclass(frozen=True)
class Architecture:
    """``module`` in this package has its ``read`` and ``trace``; ``tiny`` are random models that test it, with the
    logits of an independent implementation (``tests/models/test_tiny.py``)."""

    module: str
    tiny: tuple[str, ...]


class _Model(Protocol):
    """What a module of this package offers."""

    def read(self, keys: Keys) -> HParams: ...
    def trace(self, g: Graph, hp: HParams) -> Value: ...


ARCHITECTURES: Mapping[str, Architecture] = {"llama": Architecture("llama", ("llama", "mistral", "mixtral"))}
"""By the name that files give in ``general.architecture``; a module is imported once a file asks for it."""


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
    model = cast("_Model", import_module(f"llamaq.models.{ARCHITECTURES[name].module}"))
    hp = model.read(Keys(metadata, shapes, name, rope_freqs))
    graph = Graph(shapes)
    return hp, graph.plan(model.trace(graph, hp))
