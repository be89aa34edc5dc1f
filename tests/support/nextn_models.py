"""Tiny models with a block that guesses further tokens: those of ``tiny_models``, and a block from a seed."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llamaq.formats import format_by_name
from llamaq.gguf import GGUFFile, TensorData, write_gguf
from tiny_models import tiny_model

__all__ = ["arrays_of", "knowing", "with_block", "written"]

F32 = NDArray[np.float32]
Arrays = dict[str, F32]


def arrays_of(file: GGUFFile) -> Arrays:
    """The tensors of a file in binary32."""
    return {name: file.data(name).view(np.float32).reshape(info.shape) for name, info in file.tensors.items()}


def _tiny(name: str) -> tuple[dict[str, Any], Arrays]:
    with GGUFFile.open(tiny_model(name)[0]) as file:
        return dict(file.metadata), {key: x.copy() for key, x in arrays_of(file).items()}


def _random(rng: np.random.Generator, shape: tuple[int, ...]) -> F32:
    x = rng.normal(1, 0.1, shape) if len(shape) == 1 else rng.normal(0, 0.8 * shape[-1] ** -0.5, shape)
    return x.astype(np.float32)


def with_block(name: str) -> tuple[dict[str, Any], Arrays]:
    """Keys and tensors of a tiny model with a random block that is as its last one; Nemotron's has attention, too, as
    its layer 2."""
    metadata, tensors = _tiny(name)
    architecture = metadata["general.architecture"]
    layers, width = metadata[f"{architecture}.block_count"], metadata[f"{architecture}.embedding_length"]
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    nemotron = architecture == "nemotron_h_moe"
    for like in (layers - 1, 2) if nemotron else (layers - 1,):
        for old in [key for key in tensors if key.startswith(f"blk.{like}.")]:
            tensors[old.replace(f"blk.{like}.", f"blk.{layers}.")] = _random(rng, tensors[old].shape)
    if nemotron:
        tensors[f"blk.{layers}.post_attention_norm.weight"] = _random(rng, (width,))
    shapes = {"eh_proj": (width, 2 * width)} | dict.fromkeys(("enorm", "hnorm", "shared_head_norm"), (width,))
    for part, shape in shapes.items():
        tensors[f"blk.{layers}.nextn.{part}.weight"] = _random(rng, shape)
    more = {f"{architecture}.block_count": layers + 1, f"{architecture}.nextn_predict_layers": 1}
    return {**metadata, **more}, tensors


def knowing(name: str, share: float) -> tuple[dict[str, Any], Arrays]:
    """The same, where a token says what the next one is, all but ``share`` of what layers add, and the block knows it:
    it passes on the embedding."""
    metadata, tensors = with_block(name)
    layers = metadata[f"{metadata['general.architecture']}.block_count"] - 1
    for key, x in tensors.items():
        if key.endswith(("attn_output.weight", "ssm_out.weight")) or ".ffn_down" in key:
            x *= np.float32(0.0 if key.startswith(f"blk.{layers}.") else share)
    b, width = f"blk.{layers}.nextn.", tensors["output_norm.weight"].size
    tensors["output.weight"] *= np.float32(4.0)  # so that the likeliest token is likely
    tensors[b + "eh_proj.weight"] = np.eye(width, 2 * width, dtype=np.float32)
    tensors[b + "enorm.weight"] = np.ones(width, np.float32)
    tensors[b + "shared_head_norm.weight"] = tensors["output_norm.weight"]
    return metadata, tensors


@cache
def _folder() -> TemporaryDirectory[str]:
    return TemporaryDirectory()


def written(metadata: Mapping[str, Any], tensors: Mapping[str, F32]) -> Path:
    """A file of them, which stays as long as the process does."""
    path = Path(_folder().name) / f"{len([*Path(_folder().name).iterdir()])}.gguf"
    f32 = format_by_name("F32")
    write_gguf(path, metadata, [TensorData(name, f32, x.shape, x) for name, x in tensors.items()])
    return path
