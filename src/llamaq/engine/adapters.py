"""Adapters in GGUF files: checked against a model, and made ready to run beside it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from llamaq.boundary.arguments import items
from llamaq.engine.adapter_file import OTHERS, Pair, alpha_of, pairs_of
from llamaq.engine.control_vector import directions_of, is_control_vector
from llamaq.engine.engine import Engine
from llamaq.engine.memory import available_memory
from llamaq.errors import InsufficientMemoryError, ModelError
from llamaq.gguf import GGUFFile
from llamaq.plan.adapter import Factors, LowRank
from llamaq.plan.operands import Weight
from llamaq.plan.plan import Plan

__all__ = ["Adapter", "AdapterFile", "PathsOfAdapters", "adapter_files", "load_adapter", "low_rank"]

_ROLES = {"table": "it is a table of embeddings, whose rows are looked up", "vector": "it is no matrix"}


@dataclass(frozen=True, eq=False)
class Adapter:
    """A LoRA adapter that an ``LLM`` has loaded: its ``name``, the ``path`` of its file and the SHA-256 of that in hex
    (``digest``), its greatest ``rank`` and its ``alpha`` (0: the file has none), the names of the ``tensors`` that it
    adds to. Or a control vector, of rank 0, with its own ``tensors``; if only some layers were asked for, ``digest`` is
    that of the file's and their numbers."""

    name: str
    path: Path
    digest: str
    rank: int
    alpha: float
    tensors: tuple[str, ...] = field(repr=False)
    handle: object = field(repr=False)
    """What steps name it by."""


@dataclass(frozen=True)
class AdapterFile:
    """What ``LLM.load`` takes for an adapter: the ``path`` of a LoRA adapter or a control vector, its ``scale`` and its
    ``name`` (None: that of the file without its ending), and of a control vector the first and the last of the
    ``layers`` that it is added to, counted from 0 (None: all that the file has)."""

    path: str | os.PathLike[str]
    scale: float = 1.0
    name: str | None = None
    layers: tuple[int, int] | None = None


PathsOfAdapters: TypeAlias = (
    "str | os.PathLike[str] | AdapterFile | Sequence[str | os.PathLike[str] | AdapterFile]"
    " | Mapping[str | os.PathLike[str], float]"
)
"""A file, several, or files with their scales."""


def adapter_files(paths: PathsOfAdapters) -> list[AdapterFile]:
    """The files that these mean. Raises ``TypeError``, ``ValueError``."""
    if isinstance(paths, Mapping):
        return [AdapterFile(path, scale) for path, scale in paths.items()]
    several = [paths] if isinstance(paths, str | os.PathLike | AdapterFile) else items("adapters", paths, "paths")
    return [each if isinstance(each, AdapterFile) else AdapterFile(each) for each in several]


def load_adapter(
    path: Path, name: str, engine: Engine, model: GGUFFile, layers: tuple[int, int] | None = None
) -> Adapter:
    """``layers``: of a control vector the first to the last of these alone. Raises ``GGUFError``, ``ModelError`` for
    what does not fit the model, ``InsufficientMemoryError``."""
    with GGUFFile.open(path) as file:
        try:
            if is_control_vector(file):
                return _control_vector(file, path, name, engine, layers)
            if layers is not None:
                raise ModelError("layers can be chosen of a control vector, and the file is none")
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
            name, path, file.sha256(), max(found.rank for found in factors.values()), alpha_of(file),
            tuple(dict.fromkeys(weight.name for weight in factors)), engine.attach(factors),
        )  # fmt: skip


def _control_vector(file: GGUFFile, path: Path, name: str, engine: Engine, layers: tuple[int, int] | None) -> Adapter:
    tensors, directions = directions_of(file, engine.plan, layers)
    digest = file.sha256()
    if layers is not None:
        digest = hashlib.sha256(f"{digest} {layers[0]} {layers[1]}".encode()).hexdigest()
    return Adapter(name, path, digest, 0, 0.0, tensors, engine.attach({}, directions))


def _bytes(factors: Factors) -> int:
    """What they take once they are packed: Q8_0 becomes F32."""
    sizes = ((factors.a_format, factors.a.nbytes), (factors.b_format, factors.b.nbytes))
    return sum(size * (4 if format.name == "Q8_0" else 1) for format, size in sizes)


def low_rank(file: GGUFFile, plan: Plan, model: GGUFFile) -> LowRank:
    """The factors of a file for what a plan reads of a model. Raises ``ModelError`` for one that is no adapter of it,
    with the name of what does not fit."""
    found: dict[Weight, Factors] = {}
    for pair in pairs_of(file, model):
        a, b = file.data(pair.a.name), file.data(pair.b.name)
        for weight in _weights(pair, plan):
            part = slice(None) if weight.rows is None else slice(*weight.rows)
            found[weight] = Factors(pair.a.format, a, pair.b.format, b[..., part, :], pair.scale)
    return found


def _weights(pair: Pair, plan: Plan) -> list[Weight]:
    """What the plan reads of a tensor, in products alone, or of a table in look-ups alone."""
    wanted = ("table",) if pair.table else ("matrix", "stack")
    reads = [weight for weight in plan.weights if weight.name == pair.of]
    found = [weight for weight in reads if weight.role in wanted]
    if not found:
        roles = {weight.role for weight in reads}
        why = next((text for role, text in _ROLES.items() if role in roles), "the model does not read it")
        raise ModelError(f"tensor {pair.name!r}: {why}; {OTHERS}")
    return found
