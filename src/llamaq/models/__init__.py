"""Architectures, a file each: which keys it reads, and which operations it traces in which order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from typing import Any, Protocol, cast

from llamaq.errors import ModelError
from llamaq.models.hparams import MAX_HEAD_DIM, HParams
from llamaq.models.keys import Keys
from llamaq.models.mllama import GATES
from llamaq.models.nextn import check_tokens, has_block
from llamaq.models.registry import ARCHITECTURES, OLD_NAMES, Architecture, family_of, what_runs
from llamaq.models.ropes import ROPE_FREQS, ROPE_TENSORS
from llamaq.plan.graph import Graph, Plan, Value

__all__ = [
    "ARCHITECTURES",
    "MAX_HEAD_DIM",
    "ROPE_FREQS",
    "ROPE_TENSORS",
    "Architecture",
    "HParams",
    "Keys",
    "build_plan",
    "constants",
    "family_of",
    "nextn_plan",
]


class _Model(Protocol):
    """What a module of this package offers."""

    def read(self, keys: Keys) -> HParams: ...
    def trace(self, g: Graph, hp: HParams) -> Value: ...


def constants(tensors: Iterable[str]) -> list[str]:
    """Those of the tensors whose numbers are part of the plan itself: of ropes, and gates of layers."""
    return [name for name in tensors if name in ROPE_TENSORS or name.removesuffix(".weight").endswith(GATES)]


def build_plan(
    metadata: Mapping[str, Any],
    shapes: Mapping[str, tuple[int, ...]],
    *,
    vectors: Mapping[str, Sequence[float]] | None = None,
    n_ctx: int | None = None,
) -> tuple[HParams, Plan]:
    """Hyperparameters and plan of the architecture that ``general.architecture`` names.

    ``shapes`` maps full tensor names to shapes, rows first. ``vectors`` has the content of those that are
    ``constants``. ``n_ctx`` is the context that the model will run with (None: its own), which some ropes depend
    on. Raises ``ModelError`` for an unknown architecture, and for hyperparameters or tensors that are missing or do not
    fit together.
    """
    name = metadata.get("general.architecture")
    known = OLD_NAMES.get(name, name) if isinstance(name, str) else ""
    if not isinstance(name, str) or known not in ARCHITECTURES:
        raise ModelError(what_runs(name))
    vectors = vectors or {}
    if {*vectors} != {*constants(shapes)}:
        wanted, got = ", ".join(constants(shapes)) or "no tensor", ", ".join(vectors) or "none"
        raise ValueError(f"vectors must have the content of {wanted}, got that of {got}")
    module = import_module(f"llamaq.models.{ARCHITECTURES[known].module}")
    model = cast("_Model", module)
    if name != known and hasattr(module, "of_ollama"):
        metadata = module.of_ollama(metadata)
    keys = Keys(metadata, shapes, name, vectors, n_ctx, getattr(module, "OLD_KEYS", None))
    hp = model.read(keys)
    graph = Graph(shapes)
    plan = graph.plan(model.trace(graph, hp))
    if not plan.encodes and not keys.flag("attention.causal", True):  # EmbeddingGemma, as ollama's converter has it
        raise keys.error("attention.causal", False, "true: decoders whose tokens see later ones are not supported yet")
    _refuse_scales({*shapes} - {*plan.tensors})
    return hp, plan


def nextn_plan(hp: HParams, shapes: Mapping[str, tuple[int, ...]]) -> Plan | None:
    """The plan of the block behind the last layer that guesses further tokens (``models.nextn``). None where the file
    has none, or the architecture none that llamaq knows. Raises ``ModelError`` for tensors that do not fit."""
    name = OLD_NAMES.get(hp.architecture, hp.architecture)
    module = import_module(f"llamaq.models.{ARCHITECTURES[name].module}")
    if not has_block(shapes, hp.layers) or not hasattr(module, "trace_nextn"):
        return None
    graph = Graph(shapes)
    plan = graph.plan(module.trace_nextn(graph, hp))
    check_tokens(hp, shapes, plan.out_cols)
    return plan


def _refuse_scales(unread: Iterable[str]) -> None:
    """NVFP4 files may have a factor for a whole tensor beside it; without it the model would talk nonsense."""
    found = next((name for name in sorted(unread) if name.endswith((".scale", ".input_scale"))), None)
    if found is not None:
        raise ModelError(f"tensor {found!r}: scales of whole tensors (NVFP4) are not supported yet")
