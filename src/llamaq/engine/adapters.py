"""Adapters in GGUF files: checked against a model, and made ready to run beside it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

from llamaq.engine.engine import Engine
from llamaq.engine.memory import available_memory
from llamaq.errors import InsufficientMemoryError, ModelError
from llamaq.gguf import GGUFFile, TensorInfo
from llamaq.plan.adapter import Factors, LowRank
from llamaq.plan.operands import Weight
from llamaq.plan.plan import Plan

__all__ = ["Adapter", "is_adapter", "load_adapter", "low_rank"]

_FORMATS = ("F32", "F16", "BF16", "Q8_0")
_ROLES = {
    "stack": "it is a stack of experts, to which llamaq cannot add",
    "table": "it is a table of embeddings, to which llamaq cannot add",
    "vector": "it is no matrix",
}
_OTHERS = "convert the adapter again without it, or merge it into the model with the software that trained it"


@dataclass(frozen=True, eq=False)
class Adapter:
    """A LoRA adapter that an ``LLM`` has loaded: its ``name``, the ``path`` of its file and the SHA-256 of that in hex
    (``digest``), its greatest ``rank`` and its ``alpha`` (0: the file has none), the names of the ``tensors`` that it
    adds to."""

    name: str
    path: Path
    digest: str
    rank: int
    alpha: float
    tensors: tuple[str, ...] = field(repr=False)
    handle: object = field(repr=False)
    """What steps name it by."""


def is_adapter(file: GGUFFile) -> bool:
    """Whether a file says that it is an adapter and no model."""
    return file.metadata.get("general.type") == "adapter"


def load_adapter(path: Path, name: str, engine: Engine, model: GGUFFile) -> Adapter:
    """Raises ``GGUFError``, ``ModelError`` for what does not fit the model, ``InsufficientMemoryError``."""
    with GGUFFile.open(path) as file:
        try:
            factors = low_rank(file, engine.plan, model)
        except ModelError as error:
            error.args = (f"{path}: {error}",)
            raise
        size = sum(_bytes(found) for found in factors.values())
        available = available_memory()
        if available is not None and size > available:
            message = f"{path}: the adapter needs {size} bytes, but {available} are available; free memory"
            raise InsufficientMemoryError(message, needed=size, available=available)
        return Adapter(
            name, path, file.sha256(), max(found.rank for found in factors.values()), _alpha(file),
            tuple(dict.fromkeys(weight.name for weight in factors)), engine.attach(factors),
        )  # fmt: skip


def _bytes(factors: Factors) -> int:
    """What they take once they are packed: Q8_0 becomes F32."""
    sizes = ((factors.a_format, factors.a.nbytes), (factors.b_format, factors.b.nbytes))
    return sum(size * (4 if format.name == "Q8_0" else 1) for format, size in sizes)


def low_rank(file: GGUFFile, plan: Plan, model: GGUFFile) -> LowRank:
    """The factors of a file for the matrices that a plan reads of a model. Raises ``ModelError`` for a file that is no
    adapter of it, with the name of what does not fit."""
    _check_kind(file, model)
    alpha = _alpha(file)
    found: dict[Weight, Factors] = {}
    for name in _names(file):
        weights = _weights(name, plan, model)
        a, b = (file.tensors[f"{name}.lora_{which}"] for which in "ab")
        rows, cols = model.tensors[weights[0].name].shape
        rank = a.shape[0]
        _check(a, (rank, cols))
        _check(b, (rows, rank))
        for weight in weights:
            part = slice(None) if weight.rows is None else slice(*weight.rows)
            scale = alpha / rank if alpha else 1.0
            found[weight] = Factors(a.format, file.data(a.name), b.format, file.data(b.name)[part], scale)
    return found


def _weights(name: str, plan: Plan, model: GGUFFile) -> list[Weight]:
    """What the plan reads of a tensor, in products alone. The head of a model whose embeddings serve both ends has a
    name of its own in adapters."""
    read = "token_embd.weight" if name == "output.weight" and name not in model.tensors else name
    if read not in model.tensors:
        raise ModelError(f"tensor {name!r}: the model has no tensor of that name; the adapter is of another model")
    roles = {weight.role for weight in plan.weights if weight.name == read}
    if "matrix" not in roles or (name == read and "table" in roles):
        why = next((text for role, text in _ROLES.items() if role in roles), "the model does not read it")
        raise ModelError(f"tensor {name!r}: {why}; {_OTHERS}")
    return [weight for weight in plan.weights if weight.name == read and weight.role == "matrix"]


def _check(info: TensorInfo, shape: tuple[int, int]) -> None:
    if info.shape != shape:
        raise ModelError(
            f"tensor {info.name!r}: expected shape {shape}, got {info.shape}; the adapter is of another model"
        )
    if info.format.name not in _FORMATS:
        raise ModelError(
            f"tensor {info.name!r}: expected {', '.join(_FORMATS)}, got {info.format.name}; convert the adapter again"
        )


def _check_kind(file: GGUFFile, model: GGUFFile) -> None:
    if not is_adapter(file):
        raise ModelError("expected an adapter (general.type = 'adapter'), got another file; it may be a model")
    if (kind := file.metadata.get("adapter.type")) != "lora":
        raise ModelError(
            f"expected an adapter of type 'lora' (adapter.type), got {str(kind)[:80]!r}; llamaq runs no other"
        )
    if "adapter.alora.invocation_tokens" in file.metadata:
        raise ModelError("the adapter begins at tokens of its own (aLoRA), which llamaq cannot do; use a plain LoRA")
    ours, theirs = (f.metadata.get("general.architecture") for f in (model, file))
    if ours != theirs:
        raise ModelError(f"expected an adapter of {ours!r} (general.architecture), got {str(theirs)[:80]!r}")


def _alpha(file: GGUFFile) -> float:
    alpha = file.metadata.get("adapter.lora.alpha", 0.0)
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not math.isfinite(alpha):
        raise ModelError(
            f"key 'adapter.lora.alpha': expected a number, got {str(alpha)[:80]!r}; convert the adapter again"
        )
    return float(alpha)


def _names(file: GGUFFile) -> list[str]:
    """The tensors that the file has both factors of."""
    pairs: dict[str, set[str]] = {}
    for tensor, info in file.tensors.items():
        name, _, which = tensor.rpartition(".lora_")
        if which not in ("a", "b"):
            raise ModelError(f"tensor {tensor!r}: expected a name that ends in .lora_a or .lora_b; {_OTHERS}")
        if len(info.shape) != 2:
            raise ModelError(
                f"tensor {tensor!r}: expected two dimensions, got {info.shape}; llamaq cannot add to a stack of experts"
            )
        pairs.setdefault(name, set()).add(which)
    for name, found in pairs.items():
        if len(found) == 1:
            missing = "b" if "a" in found else "a"
            raise ModelError(
                f"tensor '{name}.lora_{missing}': expected beside '.lora_{found.pop()}', but it is missing"
            )
    if not pairs:
        raise ModelError("the file has no tensors; the adapter would change nothing")
    return [*pairs]
