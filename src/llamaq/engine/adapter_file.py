"""A GGUF file of a LoRA adapter: what it says it is, and its factors, checked against a model's tensors."""

from __future__ import annotations

import math
from dataclasses import dataclass

from llamaq.errors import ModelError
from llamaq.gguf import GGUFFile, TensorInfo

__all__ = ["HEAD", "OTHERS", "TABLE", "Pair", "alpha_of", "is_adapter", "pairs_of"]

OTHERS = "convert the adapter again without it, or merge it into the model with the software that trained it"
_FORMATS = ("F32", "F16", "BF16", "Q8_0")
HEAD, TABLE = "output.weight", "token_embd.weight"


@dataclass(frozen=True)
class Pair:
    """Factors of a tensor: what ``name`` says, of the tensor ``of`` in the model's file, gets ``B @ A * scale`` added.

    A is (rank, columns) and B (rows, rank), of a stack each with its number of matrices before. Of a ``table`` of
    embeddings, whose rows are looked up, A is (rows, rank) and B (columns, rank): it gets ``A @ B.T * scale``.
    """

    name: str
    of: str
    a: TensorInfo
    b: TensorInfo
    scale: float
    table: bool

    @property
    def rank(self) -> int:
        return self.b.shape[-1]


def is_adapter(file: GGUFFile) -> bool:
    """Whether a file says that it is an adapter and no model."""
    return file.metadata.get("general.type") == "adapter"


def alpha_of(file: GGUFFile) -> float:
    """What divided by the rank is the scale; 0: the scale is 1. Raises ``ModelError`` for what is no number."""
    alpha = file.metadata.get("adapter.lora.alpha", 0.0)
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not math.isfinite(alpha):
        raise ModelError(
            f"key 'adapter.lora.alpha': expected a number, got {str(alpha)[:80]!r}; convert the adapter again"
        )
    return float(alpha)


def pairs_of(file: GGUFFile, model: GGUFFile) -> list[Pair]:
    """The factors of a file. Raises ``ModelError`` for one that is no adapter of the model, with the name of what does
    not fit. The head of a model whose embeddings serve both ends has a name of its own in adapters."""
    _check_kind(file, model)
    alpha = alpha_of(file)
    found = []
    for name in _names(file):
        of = TABLE if name == HEAD and name not in model.tensors else name
        if of not in model.tensors:
            raise ModelError(f"tensor {name!r}: the model has no tensor of that name; the adapter is of another model")
        a, b = (file.tensors[f"{name}.lora_{which}"] for which in "ab")
        shape, table = model.tensors[of].shape, name.endswith(TABLE)
        if len(shape) not in (2, 3):
            raise ModelError(f"tensor {name!r}: it is no matrix; {OTHERS}")
        *outer, rows, cols = shape
        rank = a.shape[-1 if table else -2] if len(a.shape) == len(shape) else 0
        _check(a, (rows, rank) if table else (*outer, rank, cols))
        _check(b, (cols, rank) if table else (*outer, rows, rank))
        found.append(Pair(name, of, a, b, alpha / rank if alpha else 1.0, table))
    return found


def _check(info: TensorInfo, shape: tuple[int, ...]) -> None:
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


def _names(file: GGUFFile) -> list[str]:
    """The tensors that the file has both factors of."""
    pairs: dict[str, set[str]] = {}
    for tensor in file.tensors:
        name, _, which = tensor.rpartition(".lora_")
        if which not in ("a", "b"):
            raise ModelError(f"tensor {tensor!r}: expected a name that ends in .lora_a or .lora_b; {OTHERS}")
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
