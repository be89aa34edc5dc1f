"""Adapters from a seed: factors for matrices of a plan, and files of them and of control vectors."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llamaq.formats import format_by_name
from llamaq.gguf import TensorData, write_gguf
from llamaq.plan.adapter import Factors
from llamaq.plan.plan import Plan

__all__ = ["factors_of", "random_factors", "write_adapter", "write_vector"]

F32 = NDArray[np.float32]


def random_factors(name: str, rows: int, cols: int, rank: int, seed: int = 0) -> tuple[F32, F32]:
    """A (rank, cols) and B (rows, rank), which change a product by about as much as it has."""
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    a = rng.normal(0, cols**-0.5, (rank, cols)).astype(np.float32)
    return a, rng.normal(0, rank**-0.5, (rows, rank)).astype(np.float32)


def factors_of(
    plan: Plan, shapes: Mapping[str, tuple[int, ...]], rank: int, *, seed: int = 0, format: str = "F32",
    scale: float = 1.0, only: str = "",
) -> dict[Any, Factors]:  # fmt: skip
    """Factors of all matrices, stacks and tables that a plan reads, or of those with ``only`` in their name."""
    found = {}
    for weight in plan.weights:
        if weight.role != "vector" and only in weight.name:
            *matrices, rows, cols = shapes[weight.name]
            pairs = [random_factors(f"{weight.name}{i or ''}", rows, cols, rank, seed) for i in range(*matrices or [1])]
            a, b = (np.stack(each) if matrices else each[0] for each in zip(*pairs, strict=True))
            if weight.role == "table":
                a, b = b, a.T
            b = b if weight.rows is None else b[..., slice(*weight.rows), :]
            (a_format, a_data), (b_format, b_data) = _packed(a, format), _packed(b, format)
            found[weight] = Factors(a_format, a_data, b_format, b_data, scale)
    return found


def _packed(x: F32, format: str) -> Any:
    if format == "BF16":
        bits = np.ascontiguousarray(x).view(np.uint32)
        return format_by_name("BF16"), (bits >> 16).astype(np.uint16).view(np.uint8)
    x = np.ascontiguousarray(x, np.float16 if format == "F16" else np.float32)
    return format_by_name(format), x.view(np.uint8)


def write_adapter(
    path: Path, factors: Mapping[str, tuple[F32, F32]], *, architecture: str = "llama", alpha: float = 8.0,
    metadata: Mapping[str, Any] | None = None, skip: Iterable[str] = (),
) -> Path:  # fmt: skip
    """A file of factors by the names of the model's tensors; ``metadata`` over its keys (None: without the key)."""
    keys = {
        "general.architecture": architecture, "general.type": "adapter", "adapter.type": "lora",
        "adapter.lora.alpha": alpha, **(metadata or {}),
    }  # fmt: skip
    f32 = format_by_name("F32")
    tensors = [
        TensorData(f"{name}.lora_{which}", f32, x.shape, np.ascontiguousarray(x, np.float32))
        for name, pair in factors.items()
        for which, x in zip("ab", pair, strict=True)
        if f"{name}.lora_{which}" not in skip
    ]
    write_gguf(path, {key: value for key, value in keys.items() if value is not None}, tensors)
    return path


def write_vector(path: Path, vectors: Mapping[str, F32]) -> Path:
    """A file of a control vector, by the names of its tensors."""
    f32 = format_by_name("F32")
    tensors = [TensorData(name, f32, x.shape, x) for name, x in vectors.items()]
    write_gguf(path, {"general.architecture": "controlvector", "controlvector.model_hint": "llama"}, tensors)
    return path
