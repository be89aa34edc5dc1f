"""The conversion: configuration, vocabulary and tensors, streamed into a GGUF file."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llamaq.convert.checkpoint import Checkpoint
from llamaq.convert.llama import CLASSES, heads_to_turn, hyperparameters, neighbours, rope_divisors, tensor_name
from llamaq.convert.vocabulary import vocabulary
from llamaq.errors import ModelError
from llamaq.formats import Format, encode, format_by_name
from llamaq.gguf import TensorData, write_gguf
from llamaq.models import ROPE_FREQS, build_plan

__all__ = ["OUTTYPES", "convert"]

Progress = Callable[[int, int], None]
OUTTYPES = {"f32": 0, "f16": 1, "bf16": 32, "q8_0": 7}
"""Formats of the matrices, with their numbers in ``general.file_type``."""
_F16_MOST = 65504.0


def convert(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    outtype: str = "f16",
    *,
    pre: str | None = None,
    progress: Progress | None = None,
) -> None:
    """Writes a GGUF file from a Hugging Face folder (or one safetensors file beside its config.json).

    Matrices are written as ``outtype`` ("f32", "f16", "bf16", "q8_0"; rows that are no blocks of Q8_0 as F16),
    vectors as F32. ``pre`` names the pre-tokenizer where the tokenizer's rules are not recognized. ``progress`` gets
    weights written and in total. Memory: one matrix of queries, otherwise some megabytes. Raises ModelError for what
    llamaq could not run, TokenizerError for a vocabulary that it does not know, GGUFError where the disk refuses;
    ``target`` is then as it was.
    """
    if outtype not in OUTTYPES:
        raise ValueError(f"outtype: expected one of {', '.join(OUTTYPES)}, got {outtype!r}")
    checkpoint = Checkpoint(Path(source))
    kinds = checkpoint.config.get("architectures") or [None]
    if kinds[0] not in CLASSES:
        raise ModelError(f"config.json: architectures: expected one of {', '.join(CLASSES)}, got {kinds[0]!r}")
    keys: dict[str, Any] = {
        "general.architecture": "llama",
        "general.type": "model",
        "general.name": checkpoint.folder.resolve().name,
        "general.file_type": OUTTYPES[outtype],
        "general.quantization_version": 2,
        **hyperparameters(checkpoint.config),
    }
    tied = bool(checkpoint.config.get("tie_word_embeddings"))
    names = {
        name: new for name in checkpoint.shapes if (new := tensor_name(name)) and not (tied and new == "output.weight")
    }
    shapes = {new: checkpoint.shapes[name] for name, new in names.items()}
    divisors = rope_divisors(checkpoint.config)
    if divisors is not None:
        shapes[ROPE_FREQS] = divisors.shape
    build_plan(keys, shapes, rope_freqs=None if divisors is None else divisors.tolist())  # refuses what would not run
    keys |= vocabulary(checkpoint, shapes["token_embd.weight"][0], pre=pre)
    written = _Count(sum(int(np.prod(shape)) for shape in shapes.values()), progress)
    tensors = [_tensor(checkpoint, name, new, outtype, keys, written) for name, new in names.items()]
    if divisors is not None:
        tensors.append(TensorData(ROPE_FREQS, format_by_name("F32"), divisors.shape, divisors))
    write_gguf(target, keys, tensors)


class _Count:
    """Weights written so far."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self._done, self._total, self._progress = 0, total, progress

    def add(self, weights: int) -> None:
        self._done += weights
        if self._progress is not None:
            self._progress(self._done, self._total)


def _tensor(
    checkpoint: Checkpoint, name: str, new: str, outtype: str, keys: dict[str, Any], written: _Count
) -> TensorData:
    shape = checkpoint.shapes[name]
    format = _format(outtype, shape)
    heads = heads_to_turn(new, keys)

    def pieces() -> Iterator[NDArray[np.uint8]]:
        whole = checkpoint.rows(name) if heads is None else iter([neighbours(checkpoint.tensor(name), heads)])
        for rows in whole:
            if format.name == "F16" and np.abs(rows).max() > _F16_MOST:
                raise ModelError(
                    f"tensor {name!r}: expected values up to {_F16_MOST:.0f}, the most that F16 holds, got "
                    f"{np.abs(rows).max():.0f}; choose --outtype bf16 or f32"
                )
            yield encode(format, rows)
            written.add(rows.size)

    return TensorData(new, format, shape, pieces())


def _format(outtype: str, shape: tuple[int, ...]) -> Format:
    if len(shape) == 1:
        return format_by_name("F32")
    wanted = format_by_name(outtype)
    return wanted if shape[-1] % wanted.block == 0 else format_by_name("F16")
