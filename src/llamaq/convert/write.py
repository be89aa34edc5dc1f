"""The conversion: configuration, vocabulary and tensors, streamed into a GGUF file."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from llamaq.boundary.arguments import instance, one_of, path_of, text
from llamaq.boundary.progress import Progress
from llamaq.convert.checkpoint import Checkpoint
from llamaq.convert.compare import Comparison, compare
from llamaq.convert.encoded import OUTTYPES, WORKERS, counted, encoded
from llamaq.convert.families import family_of
from llamaq.convert.family import Family, new_tensors
from llamaq.convert.images import image_tensors, processor_of
from llamaq.convert.projector import has_images, projector_beside, projector_of
from llamaq.convert.ranking import head_of
from llamaq.convert.rope import Tensors, check_dims
from llamaq.convert.section import text_config
from llamaq.convert.views import NewTensor
from llamaq.convert.vocabulary import vocabulary
from llamaq.errors import ModelError
from llamaq.formats import format_by_name
from llamaq.gguf import TensorData, write_gguf
from llamaq.models import build_plan, constants, nextn_plan
from llamaq.tokenizer import load_tokenizer

__all__ = ["convert", "convert_projector", "general"]

logger = logging.getLogger("llamaq")

_POOLING = {"pooling_mode_mean_tokens": 1, "pooling_mode_cls_token": 2, "pooling_mode_lasttoken": 3}
"""Numbers of ``pooling_type``."""


def convert(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    outtype: str = "f16",
    *,
    pre: str | None = None,
    metadata: Mapping[str, str | list[str]] | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Writes a GGUF file from a Hugging Face folder (or one safetensors file beside its config.json), and the part
    that sees images, where there is one, as a projector beside it: ``mmproj-`` and the same name.

    Matrices are written as ``outtype`` ("f32", "f16", "bf16", "q8_0"; rows that are no blocks of Q8_0 as F16),
    vectors as F32. ``pre`` names the pre-tokenizer where the tokenizer's rules are not recognized. ``metadata`` are
    further keys ``general.*``, such as ``general.license``. ``progress`` gets weights written and in total. Memory:
    some megabytes. Returns how the written tokenizer compares with the source's own, by the library that it was made
    for, where that is installed. Logs warnings of what GGUF cannot say and most texts do not need, and where the part
    for images is left out, why. Raises ModelError for damaged files and what llamaq could not run, TokenizerError for a
    vocabulary that it does not know or GGUF cannot say, GGUFError where the disk refuses; ``target`` is then as it was.
    """
    one_of("outtype", outtype, OUTTYPES)
    metadata = general(metadata)
    target = path_of("target", target)
    checkpoint = Checkpoint(path_of("source", source))
    family = family_of(checkpoint.config)
    keys, new, made = _of_text(checkpoint, family, outtype, metadata, pre)
    beside = _beside(checkpoint, family)
    with ThreadPoolExecutor(WORKERS) as pool:  # NumPy and safetensors work without the interpreter's lock
        tensors = [encoded(checkpoint, tensor, outtype, pool) for tensor in new]
        tensors += [TensorData(name, format_by_name("F32"), x.shape, [x]) for name, x in made.items()]
        files = [(target, keys, tensors)]
        if beside is not None:
            of_images = [encoded(checkpoint, tensor, outtype, pool) for tensor in beside[1]]
            its_keys = _of_projector(checkpoint, beside[0], outtype, metadata)
            files.insert(0, (projector_beside(target), its_keys, of_images))
        _write(files, progress)
    compared = compare(checkpoint, load_tokenizer(keys))
    return compared if beside is None else replace(compared, projector=projector_beside(target))


def convert_projector(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    outtype: str = "f16",
    *,
    metadata: Mapping[str, str | list[str]] | None = None,
    progress: Progress | None = None,
) -> None:
    """Writes the part of a Hugging Face folder that sees images alone, as a projector; arguments and errors are those
    of ``convert``."""
    one_of("outtype", outtype, OUTTYPES)
    metadata = general(metadata)
    target = path_of("target", target)
    checkpoint = Checkpoint(path_of("source", source))
    found, new = projector_of(checkpoint, family_of(checkpoint.config))
    with ThreadPoolExecutor(WORKERS) as pool:
        tensors = [encoded(checkpoint, tensor, outtype, pool) for tensor in new]
        _write([(target, _of_projector(checkpoint, found, outtype, metadata), tensors)], progress)


def _of_text(
    checkpoint: Checkpoint, family: Family, outtype: str, metadata: Mapping[str, str | list[str]], pre: str | None
) -> tuple[dict[str, Any], list[NewTensor], Tensors]:
    """What the text's file has: keys, tensors of the checkpoint, and others. Raises as ``convert``."""
    config = text_config(checkpoint.config)
    found = _pooling(checkpoint) | family.keys(config)
    new = new_tensors(checkpoint.shapes, family, found)
    found |= _with_nextn(found, new)
    keys: dict[str, Any] = {
        "general.architecture": family.architecture,
        "general.type": "model",
        **_general(checkpoint, outtype, metadata),
        **{f"{family.architecture}.{key}": value for key, value in found.items()},
    }
    whole = checkpoint.config.flag("tie_word_embeddings", True)  # what transformers goes by where both say it
    tied = whole and config.flag("tie_word_embeddings", checkpoint.config.flag("tie_word_embeddings", family.tied))
    new = [tensor for tensor in new if not (tied and tensor.name == "output.weight")]
    if family.images is not None and family.inside:
        seen = family.images.keys(checkpoint.config, processor_of(checkpoint))
        keys |= {f"{family.architecture}.{key}": value for key, value in seen.items()}
        new += image_tensors(checkpoint, family.images, seen)
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
    return keys, new, made


def _beside(checkpoint: Checkpoint, family: Family) -> tuple[dict[str, Any], list[NewTensor]] | None:
    """What the projector's file has; None where the folder has no part for images, or one that is left out."""
    if family.inside or not has_images(checkpoint):
        return None
    try:
        return projector_of(checkpoint, family)
    except ModelError as error:
        logger.warning("the part for images is left out; the file is for text: %s", error)
        return None


def _general(checkpoint: Checkpoint, outtype: str, metadata: Mapping[str, str | list[str]]) -> dict[str, Any]:
    return {
        "general.name": checkpoint.folder.resolve().name,
        "general.file_type": OUTTYPES[outtype],
        "general.quantization_version": 2,
        **metadata,
    }


def _of_projector(
    checkpoint: Checkpoint, keys: dict[str, Any], outtype: str, metadata: Mapping[str, str | list[str]]
) -> dict[str, Any]:
    return {**keys, "general.type": "mmproj", **_general(checkpoint, outtype, metadata)}


def _write(files: list[tuple[Path, dict[str, Any], list[TensorData]]], progress: Progress | None) -> None:
    """Writes files one after the other; the weights of all are counted."""
    told = iter(counted([t for _, _, tensors in files for t in tensors], progress or (lambda done, total: None)))
    for path, keys, tensors in files:
        write_gguf(path, keys, [next(told) for _ in tensors])


def general(metadata: Mapping[str, str | list[str]] | None) -> Mapping[str, str | list[str]]:
    """Further keys as an argument gives them. Raises ValueError for any that are not ``general.*``."""
    found = {} if metadata is None else instance("metadata", metadata, Mapping)  # type: ignore[type-abstract]
    strange = next((key for key in found if not text("each key of metadata", key).startswith("general.")), None)
    if strange is not None:
        raise ValueError(
            f"metadata: expected keys that begin with 'general.', got {strange!r}; the rest is the model's"
        )
    return found


def _pooling(checkpoint: Checkpoint) -> dict[str, int]:
    """The key for how rows become one embedding, where the folder says it as sentence-transformers do."""
    said = checkpoint.json("1_Pooling/config.json")
    return next(({"pooling_type": number} for key, number in _POOLING.items() if said.flag(key)), {})


def _with_nextn(keys: Mapping[str, Any], new: list[NewTensor]) -> dict[str, Any]:
    """The keys that change where a block that guesses further tokens comes behind the others."""
    if not any(tensor.name.endswith(".nextn.eh_proj.weight") for tensor in new):
        return {}
    heads = keys["attention.head_count_kv"]
    own = {
        "attention.recurrent_layers": False,
        "attention.head_count_kv": max(heads) if isinstance(heads, list) else heads,
        "feed_forward_length": keys.get("expert_feed_forward_length"),
    }
    lists = {key: [*keys[key], value] for key, value in own.items() if isinstance(keys.get(key), list)}
    return {"block_count": keys["block_count"] + 1, "nextn_predict_layers": 1, **lists}


def _check_heads(keys: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raises ModelError where the length of a head contradicts the tensors, before anything of that length is made."""
    if {"attention.key_length_swa", "full_attention_interval"} & {*keys}:
        return  # the first block is not as most are; that the model can be built is checked in any case
    for name, key in (("attn_q", "head_count"), ("attn_k", "head_count_kv")):
        heads = keys.get(f"attention.{key}", keys["attention.head_count"])
        if isinstance(heads, list):
            heads = heads[0]
        head_dim = keys.get("attention.key_length", 0)
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
        hparams, _ = build_plan(keys, every, vectors={name: x.tolist() for name, x in made.items()})
        nextn_plan(hparams, every)
    except ModelError as error:
        raise ModelError(f"config.json does not fit the tensors (both by their names in GGUF): {error}") from None
