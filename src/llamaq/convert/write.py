"""The conversion: configuration, vocabulary and tensors, streamed into a GGUF file."""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from llamaq.boundary.arguments import instance, one_of, path_of, text
from llamaq.boundary.progress import Progress
from llamaq.convert.checkpoint import Checkpoint
from llamaq.convert.compare import Comparison, compare
from llamaq.convert.llama import (
    CLASSES,
    check_heads,
    heads_to_turn,
    hyperparameters,
    neighbours,
    rope_divisors,
    tensor_name,
)
from llamaq.convert.section import shown
from llamaq.convert.vocabulary import vocabulary
from llamaq.errors import ModelError
from llamaq.formats import Format, encode, format_by_name
from llamaq.gguf import TensorData, write_gguf
from llamaq.models import ROPE_FREQS, build_plan
from llamaq.tokenizer import load_tokenizer

__all__ = ["OUTTYPES", "convert"]

OUTTYPES = {"f32": 0, "f16": 1, "bf16": 32, "q8_0": 7}
"""Formats of the matrices, with their numbers in ``general.file_type``."""
_MOST = {"F16": 65504.0, "Q8_0": 65504.0 * 127, "BF16": 2.0**128 - 2.0**120}
"""Magnitudes that a format holds: Q8_0 has scales in binary16 and weights up to 127 of them."""
_WORKERS = 4  # threads that read and encode while one writes


def convert(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    outtype: str = "f16",
    *,
    pre: str | None = None,
    metadata: Mapping[str, str | list[str]] | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Writes a GGUF file from a Hugging Face folder (or one safetensors file beside its config.json).

    Matrices are written as ``outtype`` ("f32", "f16", "bf16", "q8_0"; rows that are no blocks of Q8_0 as F16),
    vectors as F32. ``pre`` names the pre-tokenizer where the tokenizer's rules are not recognized. ``metadata`` are
    further keys ``general.*``, such as ``general.license``. ``progress`` gets weights written and in total. Memory:
    some megabytes. Returns how the written tokenizer compares with the source's own, by the library that it was made
    for, where that is installed. Logs warnings of what GGUF cannot say and most texts do not need. Raises ModelError
    for damaged files and what llamaq could not run, TokenizerError for a vocabulary that it does not know or GGUF
    cannot say, GGUFError where the disk refuses; ``target`` is then as it was.
    """
    one_of("outtype", outtype, OUTTYPES)
    metadata = {} if metadata is None else instance("metadata", metadata, Mapping)  # type: ignore[type-abstract]
    strange = next((key for key in metadata if not text("each key of metadata", key).startswith("general.")), None)
    if strange is not None:
        raise ValueError(
            f"metadata: expected keys that begin with 'general.', got {strange!r}; the rest is the model's"
        )
    target = path_of("target", target)
    checkpoint = Checkpoint(path_of("source", source))
    kinds = checkpoint.config.texts("architectures") or ["none"]
    if kinds[0] not in CLASSES:
        raise ModelError(f"config.json: architectures: expected one of {', '.join(CLASSES)}, got {shown(kinds[0])}")
    keys: dict[str, Any] = {
        "general.architecture": "llama",
        "general.type": "model",
        "general.name": checkpoint.folder.resolve().name,
        "general.file_type": OUTTYPES[outtype],
        "general.quantization_version": 2,
        **hyperparameters(checkpoint.config),
        **(metadata or {}),
    }
    tied = checkpoint.config.flag("tie_word_embeddings")
    names = {
        name: new for name in checkpoint.shapes if (new := tensor_name(name)) and not (tied and new == "output.weight")
    }
    shapes = {new: checkpoint.shapes[name] for name, new in names.items()}
    check_heads(keys, shapes)
    divisors = rope_divisors(checkpoint.config, keys["llama.attention.key_length"])
    if divisors is not None:
        shapes[ROPE_FREQS] = divisors.shape
    try:  # what would not run
        build_plan(keys, shapes, vectors={} if divisors is None else {ROPE_FREQS: divisors.tolist()})
    except ModelError as error:
        raise ModelError(f"config.json does not fit the tensors (both by their names in GGUF): {error}") from None
    keys |= vocabulary(checkpoint, shapes["token_embd.weight"][0], pre=pre, general=keys)
    with ThreadPoolExecutor(_WORKERS) as pool:  # NumPy and safetensors work without the interpreter's lock
        tensors = [_tensor(checkpoint, name, new, outtype, keys, pool) for name, new in names.items()]
        if divisors is not None:
            tensors.append(TensorData(ROPE_FREQS, format_by_name("F32"), divisors.shape, [divisors]))
        write_gguf(target, keys, _counted(tensors, progress or (lambda done, total: None)))
    return compare(checkpoint, load_tokenizer(keys))


def _counted(tensors: list[TensorData], progress: Progress) -> list[TensorData]:
    """The same tensors; ``progress`` is told of each piece that is written."""
    done, total = 0, sum(math.prod(tensor.shape) for tensor in tensors)

    def pieces(tensor: TensorData) -> Iterator[Any]:
        nonlocal done
        for piece in cast("Iterator[NDArray[Any]]", tensor.data):
            yield piece
            done += piece.nbytes // tensor.format.block_bytes * tensor.format.block
            progress(done, total)

    return [tensor._replace(data=pieces(tensor)) for tensor in tensors]


def _tensor(
    checkpoint: Checkpoint, name: str, new: str, outtype: str, keys: Mapping[str, Any], pool: ThreadPoolExecutor
) -> TensorData:
    shape = checkpoint.shapes[name]
    format = _format(outtype, shape)
    heads = heads_to_turn(new, keys)
    head_rows = shape[0] // heads if heads else 1

    def encoded(span: range) -> NDArray[np.uint8]:
        rows = checkpoint.read(name, span)
        most = np.abs(rows).max()
        if most > _MOST.get(format.name, math.inf):
            raise ModelError(
                f"tensor {name!r}: expected values up to {_MOST[format.name]:.0f}, the most that {format.name} holds, "
                f"got {most:.0f}; choose --outtype {'f32' if format.name == 'BF16' else 'bf16 or f32'}"
            )
        return encode(format, neighbours(rows, len(rows) // head_rows) if heads else rows)

    def pieces() -> Iterator[NDArray[np.uint8]]:
        waiting: deque[Future[NDArray[np.uint8]]] = deque()
        for span in checkpoint.spans(name, head_rows):
            waiting.append(pool.submit(encoded, span))
            if len(waiting) > 2 * _WORKERS:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    return TensorData(new, format, shape, pieces())


def _format(outtype: str, shape: tuple[int, ...]) -> Format:
    if len(shape) == 1:
        return format_by_name("F32")
    wanted = format_by_name(outtype)
    return wanted if shape[-1] % wanted.block == 0 else format_by_name("F16")
