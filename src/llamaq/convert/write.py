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
from llamaq.convert.families import family_of
from llamaq.convert.family import new_tensors
from llamaq.convert.images import image_tensors
from llamaq.convert.mxfp4 import read_blocks
from llamaq.convert.ranking import head_of
from llamaq.convert.rope import Tensors, check_dims, neighbours
from llamaq.convert.section import Section
from llamaq.convert.views import NewTensor, View
from llamaq.convert.vocabulary import vocabulary
from llamaq.errors import ModelError, naming
from llamaq.formats import Format, encode, format_by_name
from llamaq.gguf import TensorData, write_gguf
from llamaq.models import build_plan, constants
from llamaq.quantization.choice import allows_quantization
from llamaq.tokenizer import load_tokenizer

__all__ = ["OUTTYPES", "check_magnitude", "convert", "counted", "general", "text_config"]

OUTTYPES = {"f32": 0, "f16": 1, "bf16": 32, "q8_0": 7}
"""Formats of the matrices, with their numbers in ``general.file_type``."""
_MOST = {"F16": 65504.0, "Q8_0": 65504.0 * 127, "BF16": 2.0**128 - 2.0**120}
"""Magnitudes that a format holds: Q8_0 has scales in binary16 and weights up to 127 of them."""
_POOLING = {"pooling_mode_mean_tokens": 1, "pooling_mode_cls_token": 2, "pooling_mode_lasttoken": 3}
"""Numbers of ``pooling_type``."""
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
    metadata = general(metadata)
    target = path_of("target", target)
    checkpoint = Checkpoint(path_of("source", source))
    family = family_of(checkpoint.config)
    config = text_config(checkpoint.config)
    found = _pooling(checkpoint) | family.keys(config)
    new = new_tensors(checkpoint.shapes, family, found)
    found |= _with_nextn(found, new)
    keys: dict[str, Any] = {
        "general.architecture": family.architecture,
        "general.type": "model",
        "general.name": checkpoint.folder.resolve().name,
        "general.file_type": OUTTYPES[outtype],
        "general.quantization_version": 2,
        **{f"{family.architecture}.{key}": value for key, value in found.items()},
        **metadata,
    }
    whole = checkpoint.config.flag("tie_word_embeddings", True)  # what transformers goes by where both say it
    tied = whole and config.flag("tie_word_embeddings", checkpoint.config.flag("tie_word_embeddings", family.tied))
    new = [tensor for tensor in new if not (tied and tensor.name == "output.weight")]
    if family.images is not None and family.inside:
        keys |= {f"{family.architecture}.{key}": value for key, value in family.images.keys(checkpoint.config).items()}
        new += image_tensors(checkpoint, family.images)
    shapes = {tensor.name: tensor.shape for tensor in new}
    if "token_embd.weight" not in shapes:
        raise ModelError(f"{checkpoint.folder}: expected a model's embedding table, got none; download all files")
    _check_heads(found, shapes)
    check_dims(found)
    made = family.made(config, found)
    _check_runs(keys, shapes, {**made, **_constants(checkpoint, new)})
    keys |= vocabulary(checkpoint, shapes["token_embd.weight"][0], pre=pre, general=keys)
    head, new = head_of(checkpoint, keys, new)
    keys |= head
    with ThreadPoolExecutor(_WORKERS) as pool:  # NumPy and safetensors work without the interpreter's lock
        tensors = [_tensor(checkpoint, tensor, outtype, pool) for tensor in new]
        tensors += [TensorData(name, format_by_name("F32"), x.shape, [x]) for name, x in made.items()]
        write_gguf(target, keys, counted(tensors, progress or (lambda done, total: None)))
    return compare(checkpoint, load_tokenizer(keys))


def general(metadata: Mapping[str, str | list[str]] | None) -> Mapping[str, str | list[str]]:
    """Further keys as an argument gives them. Raises ValueError for any that are not ``general.*``."""
    found = {} if metadata is None else instance("metadata", metadata, Mapping)  # type: ignore[type-abstract]
    strange = next((key for key in found if not text("each key of metadata", key).startswith("general.")), None)
    if strange is not None:
        raise ValueError(
            f"metadata: expected keys that begin with 'general.', got {strange!r}; the rest is the model's"
        )
    return found


def text_config(config: Section) -> Section:
    """The configuration of the model for text; those that see images have it inside of theirs, and ``vision_config``
    beside it, which is kept."""
    inner = config.section("text_config")
    return inner.extended({"vision_config": config.values.get("vision_config")}) if inner else config


def _pooling(checkpoint: Checkpoint) -> dict[str, int]:
    """The key for how rows become one embedding, where the folder says it as sentence-transformers do."""
    said = checkpoint.json("1_Pooling/config.json")
    return next(({"pooling_type": number} for key, number in _POOLING.items() if said.flag(key)), {})


def _with_nextn(keys: Mapping[str, Any], new: list[NewTensor]) -> dict[str, Any]:
    """The keys that change where a block that guesses further tokens comes behind the others."""
    if not any(tensor.name.endswith(".nextn.eh_proj.weight") for tensor in new):
        return {}
    kinds = {"attention.recurrent_layers": [*keys["attention.recurrent_layers"], False]}
    return {"block_count": keys["block_count"] + 1, "nextn_predict_layers": 1, **kinds}


def _check_heads(keys: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raises ModelError where the length of a head contradicts the tensors, before anything of that length is made."""
    if {"attention.key_length_swa", "full_attention_interval"} & {*keys}:
        return  # the first block is not as most are; that the model can be built is checked in any case
    for name, key in (("attn_q", "head_count"), ("attn_k", "head_count_kv")):
        heads = keys.get(f"attention.{key}", keys["attention.head_count"])
        if isinstance(heads, list):
            heads = heads[0]
        head_dim = keys["attention.key_length"]
        shape = shapes.get(f"blk.0.{name}.weight", (0,))
        if "attention.key_length_mla" in keys:
            head_dim = keys["attention.key_length_mla"]
        if shape[0] not in (0, heads * head_dim):
            raise ModelError(
                f"config.json: head_dim: expected the rows of the first block's {name}, {shape[0]}, divided by the "
                f"{heads} heads, got {head_dim}; the folder mixes two models"
            )


def _constants(checkpoint: Checkpoint, new: list[NewTensor]) -> Tensors:
    """The numbers of tensors that are part of a plan itself."""
    wanted = constants(tensor.name for tensor in new)
    views = {tensor.name: tensor.views[0] for tensor in new if tensor.name in wanted}
    return {name: checkpoint.read(view, range(view.shape[0])) for name, view in views.items()}


def _check_runs(keys: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]], made: Tensors) -> None:
    """Raises ModelError for what would not run."""
    every = {**shapes, **{name: x.shape for name, x in made.items()}}
    try:
        build_plan(keys, every, vectors={name: x.tolist() for name, x in made.items()})
    except ModelError as error:
        raise ModelError(f"config.json does not fit the tensors (both by their names in GGUF): {error}") from None


def counted(tensors: list[TensorData], progress: Progress) -> list[TensorData]:
    """The same tensors; ``progress`` is told of each piece that is written."""
    done, total = 0, sum(math.prod(tensor.shape) for tensor in tensors)

    def pieces(tensor: TensorData) -> Iterator[Any]:
        nonlocal done
        for piece in cast("Iterator[NDArray[Any]]", tensor.data):
            yield piece
            done += piece.nbytes // tensor.format.block_bytes * tensor.format.block
            progress(done, total)

    return [tensor._replace(data=pieces(tensor)) for tensor in tensors]


def check_magnitude(name: str, weights: NDArray[np.float32], format: Format) -> None:
    """Raises ModelError for weights of the tensor ``name`` that a format does not hold."""
    most = np.abs(weights).max()
    if most > _MOST.get(format.name, math.inf):
        message = (
            f"tensor {name!r}: expected values up to {_MOST[format.name]:.0f}, the most that {format.name} "
            f"holds, got {most:.0f}; choose outtype {'f32' if format.name == 'BF16' else 'bf16 or f32'}"
        )
        raise naming(ModelError(message), "outtype")


def _tensor(checkpoint: Checkpoint, new: NewTensor, outtype: str, pool: ThreadPoolExecutor) -> TensorData:
    format = format_by_name("MXFP4") if new.packed else _format(new.name, outtype, new.shape)
    head_rows = new.views[0].shape[0] // new.heads if new.heads else 1

    def encoded(view: View, span: range) -> NDArray[np.uint8]:
        if new.packed:
            return read_blocks(checkpoint, view, span)
        rows = checkpoint.read(view, span)
        check_magnitude(view.name, rows, format)
        rows = neighbours(rows, len(rows) // head_rows) if new.heads else rows
        if new.columns:
            rows = np.concatenate([rows[:, span.start : span.stop] for span in new.columns], axis=1)
        if new.negative_exp:
            rows = (-np.exp(rows.astype(np.float64))).astype(np.float32)
        if new.change is not None:
            rows = new.change(rows)
        return encode(format, rows + np.float32(new.shift) if new.shift else rows)

    def pieces() -> Iterator[NDArray[np.uint8]]:
        waiting: deque[Future[NDArray[np.uint8]]] = deque()
        for view in new.views:
            for span in checkpoint.spans(view, head_rows):
                waiting.append(pool.submit(encoded, view, span))
                if len(waiting) > 2 * _WORKERS:
                    yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    return TensorData(new.name, format, new.shape, pieces())


def _format(name: str, outtype: str, shape: tuple[int, ...]) -> Format:
    if not allows_quantization(name, shape) or (name.startswith("v.") and "position_embd" in name):
        return format_by_name("F32")
    wanted = format_by_name(outtype)
    return wanted if shape[-1] % wanted.block == 0 else format_by_name("F16")
