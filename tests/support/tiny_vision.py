"""Tiny random models that read pictures of any shape: text from the shared material, under the name of its kin that has
a projector; the projector from a seed. ``tests/data/vision`` has what transformers makes of the same weights
(``tests/vision/record_transformers.py``)."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llamaq.formats import encode, format_by_name
from llamaq.gguf import GGUFFile, TensorData, write_gguf
from shared_files import shared_path

__all__ = ["KIN", "SEEING", "copy_of", "projector_keys", "projector_tensors", "seeing", "text_of"]

WIDTH, FEED_FORWARD, LAYERS, HEADS, COLUMNS = 32, 48, 3, 2, 64
DEEP = [True, False, True]
VISION: dict[str, Any] = {
    "block_count": LAYERS, "embedding_length": WIDTH, "feed_forward_length": FEED_FORWARD, "projection_dim": COLUMNS,
    "attention.head_count": HEADS, "attention.layer_norm_epsilon": 1e-6, "patch_size": 8, "image_size": 64,
    "image_mean": [0.5, 0.4, 0.6], "image_std": [0.5, 0.6, 0.4],
}  # fmt: skip
DYNAMIC = {"spatial_merge_size": 2, "image_min_pixels": 16 * 16 * 4, "image_max_pixels": 96 * 96}


@dataclass(frozen=True)
class Seeing:
    """``text`` is the name of a tiny model (``KIN``, or one of the shared material), ``kind`` the projector's."""

    text: str
    kind: str
    keys: Mapping[str, Any] = field(default_factory=dict)


SEEING: dict[str, Seeing] = {
    "qwen25vl": Seeing(
        "qwen2vl", "qwen2.5vl_merger", {"use_silu": True, "vision.n_wa_pattern": 2, "vision.window_size": 32}
    ),
    "qwen3vl": Seeing("qwen3vl", "qwen3vl_merger", {"use_gelu": True, "vision.is_deepstack_layers": DEEP}),
    "qwen35": Seeing("qwen35", "qwen3vl_merger", {"use_gelu": True, "vision.is_deepstack_layers": [False] * LAYERS}),
}
KIN: dict[str, tuple[str, dict[str, Any]]] = {
    "qwen2vl": ("qwen2", {"rope.dimension_sections": [3, 3, 2, 0]}),
    "qwen3vl": ("qwen3", {"rope.dimension_sections": [8, 4, 4, 0], "n_deepstack_layers": 2}),
    "qwen3vlmoe": ("qwen3moe", {"rope.dimension_sections": [8, 4, 4, 0], "n_deepstack_layers": 2}),
}
"""Models with the weights of others: whose, and what their files say besides. For text both compute the same."""


def projector_keys(name: str) -> dict[str, Any]:
    entry = SEEING[name]
    own = {f"vision.{key}": value for key, value in (VISION | DYNAMIC).items()} | dict(entry.keys)
    return {"general.architecture": "clip", "clip.projector_type": entry.kind} | {
        f"clip.{key}": value for key, value in own.items()
    }


def projector_tensors(name: str) -> dict[str, NDArray[np.float32]]:
    """Weights that keep values at a few units, so that a fault of a formula moves them far."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    tensors: dict[str, NDArray[np.float32]] = {}

    def add(tensor: str, *shape: int, bias: bool = True) -> None:
        columns = int(np.prod(shape[1:]))
        x = rng.normal(1, 0.1, shape) if len(shape) == 1 else rng.normal(0, 0.8 * columns**-0.5, shape)
        tensors[f"{tensor}.weight"] = x.astype(np.float32)
        if bias:
            tensors[f"{tensor}.bias"] = rng.normal(0, 0.2, shape[0]).astype(np.float32)

    layers, joined = "qwen3" in SEEING[name].kind, 4 * WIDTH
    add("v.patch_embd", WIDTH, 3, 8, 8, bias=layers)
    tensors["v.patch_embd.weight.1"] = rng.normal(0, 0.05, (WIDTH, 3, 8, 8)).astype(np.float32)
    if layers:
        add("v.position_embd", 25, WIDTH, bias=False)
    for i in range(LAYERS):
        b = f"v.blk.{i}."
        for norm in ("ln1", "ln2"):
            add(b + norm, WIDTH, bias=layers)
        for part in ("attn_qkv",) if layers else ("attn_q", "attn_k", "attn_v"):
            add(b + part, WIDTH * (3 if layers else 1), WIDTH)
        add(b + "attn_out", WIDTH, WIDTH)
        for part in ("ffn_up",) if layers else ("ffn_gate", "ffn_up"):
            add(b + part, FEED_FORWARD, WIDTH)
        add(b + "ffn_down", WIDTH, FEED_FORWARD)
    add("v.post_ln", WIDTH, bias=layers)
    mergers = [("mm.0", "mm.2")]
    for i in (i for i, deep in enumerate(DEEP) if deep and name == "qwen3vl"):
        add(f"v.deepstack.{i}.norm", joined)
        mergers.append((f"v.deepstack.{i}.fc1", f"v.deepstack.{i}.fc2"))
    for first, second in mergers:
        add(first, joined, joined)
        add(second, COLUMNS, joined)
    return tensors


@cache
def _folder() -> TemporaryDirectory[str]:
    return TemporaryDirectory(prefix="llamaq-seeing-")


@cache
def text_of(name: str) -> Path:
    """The file of a language model."""
    if name not in KIN:
        return shared_path(f"tiny-models/{name}.gguf")
    kin, more = KIN[name]
    path = Path(_folder().name) / f"{name}-text.gguf"
    with GGUFFile.open(shared_path(f"tiny-models/{kin}.gguf")) as file:
        metadata = {key.replace(f"{kin}.", f"{name}.", 1): value for key, value in file.metadata.items()}
        metadata |= {"general.architecture": name} | {f"{name}.{key}": value for key, value in more.items()}
        tensors = [TensorData(n, info.format, info.shape, file.data(n)) for n, info in file.tensors.items()]
        types = {key.replace(f"{kin}.", f"{name}.", 1): kind for key, kind in file.metadata_types.items()}
        write_gguf(path, metadata, tensors, types=types)
    return path


@cache
def seeing(name: str) -> tuple[Path, Path]:
    """The files of a language model and its projector."""
    f32 = format_by_name("F32")
    path = Path(_folder().name) / f"{name}-mmproj.gguf"
    write_gguf(path, projector_keys(name), [TensorData(n, f32, x.shape, x) for n, x in projector_tensors(name).items()])
    return text_of(SEEING[name].text), path


def copy_of(source: Path, target: Path, entries: dict[str, Any], *, without: str = "", format: str = "") -> Path:
    """A projector file with other metadata, without a tensor, or with matrices of blocks in another format."""
    with GGUFFile.open(source) as file:
        tensors = []
        for name, info in file.tensors.items():
            kind, data = info.format, file.data(name)
            if format and len(info.shape) == 2 and info.shape[1] % 32 == 0 and "position" not in name:
                numbers = data.view(np.float16 if kind.name == "F16" else np.float32).astype(np.float32)
                kind = format_by_name(format)
                data = encode(kind, numbers)
            if name != without:
                tensors.append(TensorData(name, kind, info.shape, data))
        metadata = {key: value for key, value in {**file.metadata, **entries}.items() if value is not None}
        types = {key: kind for key, kind in file.metadata_types.items() if key in metadata and key not in entries}
        write_gguf(target, metadata, tensors, types=types)
    return target
