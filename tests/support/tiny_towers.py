"""Tiny random projectors beside language models of the shared material; ``tests/data/vision`` has what transformers
makes of the same weights (``tests/vision/record_towers.py``)."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llamaq.formats import format_by_name
from llamaq.gguf import GGUFFile, TensorData, write_gguf
from shared_files import shared_path
from vision_cases import ids_of

__all__ = ["TOWERS", "Tower", "projector_keys", "projector_tensors", "tower"]

WIDTH, FEED_FORWARD, LAYERS, HEADS, COLUMNS, PATCH = 32, 48, 3, 2, 64, 8
Tensors = dict[str, NDArray[np.float32]]


class Weights:
    """Numbers from a seed that keep values at a few units, so that a fault of a formula moves them far."""

    def __init__(self, name: str) -> None:
        self.rng = np.random.default_rng(zlib.crc32(name.encode()))
        self.tensors: Tensors = {}

    def matrix(self, name: str, *shape: int, bias: bool = False) -> None:
        x = self.rng.normal(0, 0.8 * int(np.prod(shape[1:])) ** -0.5, shape)
        self.tensors[f"{name}.weight"] = x.astype(np.float32)
        if bias:
            self.tensors[f"{name}.bias"] = self.rng.normal(0, 0.2, shape[0]).astype(np.float32)

    def norm(self, name: str, length: int = WIDTH, *, bias: bool = False, mean: float = 1.0) -> None:
        self.tensors[f"{name}.weight"] = self.rng.normal(mean, 0.1, length).astype(np.float32)
        if bias:
            self.tensors[f"{name}.bias"] = self.rng.normal(0, 0.2, length).astype(np.float32)

    def numbers(self, name: str, *shape: int, mean: float = 0.0, spread: float = 0.3) -> None:
        self.tensors[name] = self.rng.normal(mean, spread, shape).astype(np.float32)


def gemma4_tensors(w: Weights, *, bounded: bool) -> None:
    w.matrix("v.patch_embd", WIDTH, 3, PATCH, PATCH)
    w.numbers("v.position_embd.weight", 2, 60, WIDTH)
    matrices = {"attn_q": WIDTH, "attn_k": WIDTH, "attn_v": WIDTH, "attn_out": WIDTH, "ffn_gate": FEED_FORWARD,
                "ffn_up": FEED_FORWARD, "ffn_down": WIDTH}  # fmt: skip
    for i in range(LAYERS):
        b = f"v.blk.{i}."
        for norm in ("ln1", "ln2", "attn_post_norm", "ffn_post_norm"):
            w.norm(b + norm)
        for norm in ("attn_q_norm", "attn_k_norm"):
            w.norm(b + norm, WIDTH // HEADS, mean=0.4)
        for name, rows in matrices.items():
            w.matrix(b + name, rows, FEED_FORWARD if name == "ffn_down" else WIDTH)
            # Some matrices read the same, some have no bounds, and some numbers lie outside of the others'.
            for of in ("input", "output") if bounded and (i, name) != (1, "attn_out") else ():
                far = 1.1 if name in ("attn_q", "attn_k") and of == "input" else w.rng.uniform(0.4, 1.5)
                w.tensors[f"{b}{name}.{of}_min"] = np.array([-far], np.float32)
                w.tensors[f"{b}{name}.{of}_max"] = np.array([far * 0.9], np.float32)
    if not bounded:
        w.numbers("v.std_bias", WIDTH, spread=2.0)
        w.numbers("v.std_scale", WIDTH, mean=0.4, spread=0.1)
    w.matrix("mm.input_projection", COLUMNS, WIDTH)


def clip_tensors(w: Weights, norms: tuple[str, ...], feed_forward: int) -> None:
    """Places, a class and blocks, with ``norms`` outside of these."""
    w.matrix("v.patch_embd", WIDTH, 3, PATCH, PATCH)
    w.numbers("v.class_embd", WIDTH)
    w.numbers("v.position_embd.weight", 17, WIDTH)
    for norm in norms:
        w.norm(norm, bias=True)
    blocks(w, feed_forward)


def blocks(w: Weights, feed_forward: int) -> None:
    for i in range(LAYERS):
        b = f"v.blk.{i}."
        for norm in ("ln1", "ln2"):
            w.norm(b + norm, bias=True)
        for name in ("attn_q", "attn_k", "attn_v", "attn_out"):
            w.matrix(b + name, WIDTH, WIDTH, bias=True)
        w.matrix(b + "ffn_up", feed_forward, WIDTH, bias=True)
        w.matrix(b + "ffn_down", WIDTH, feed_forward, bias=True)


def llama4_tensors(w: Weights) -> None:
    clip_tensors(w, ("v.pre_ln", "v.post_ln"), 4 * WIDTH)
    w.matrix("mm.model.mlp.1", 40, 4 * WIDTH)
    w.matrix("mm.model.mlp.2", 40, 40)
    w.matrix("mm.model.fc", COLUMNS, 40)


def llava_tensors(w: Weights) -> None:
    clip_tensors(w, ("v.pre_ln",), FEED_FORWARD)
    w.matrix("mm.0", COLUMNS, WIDTH, bias=True)
    w.matrix("mm.2", COLUMNS, COLUMNS, bias=True)


def llava_next_tensors(w: Weights) -> None:
    llava_tensors(w)
    w.numbers("model.image_newline", COLUMNS)


def siglip_tensors(w: Weights) -> None:
    """Of Granite Vision, which reads the states behind two layers."""
    w.matrix("v.patch_embd", WIDTH, 3, PATCH, PATCH, bias=True)
    w.numbers("v.position_embd.weight", 16, WIDTH)
    blocks(w, FEED_FORWARD)
    w.matrix("mm.0", COLUMNS, 2 * WIDTH, bias=True)
    w.matrix("mm.2", COLUMNS, COLUMNS, bias=True)
    w.numbers("model.image_newline", COLUMNS)


def pixtral_tensors(w: Weights, text: str, *, merged: bool) -> None:
    """Patches are ``merged`` but in Pixtral 12B, whose projector has biases."""
    w.matrix("v.patch_embd", WIDTH, 3, PATCH, PATCH)
    w.norm("v.pre_ln")
    for i in range(LAYERS):
        b = f"v.blk.{i}."
        for norm in ("ln1", "ln2"):
            w.norm(b + norm)
        for name in ("attn_q", "attn_k", "attn_v", "attn_out"):
            w.matrix(b + name, WIDTH, WIDTH)
        for name in ("ffn_gate", "ffn_up"):
            w.matrix(b + name, FEED_FORWARD, WIDTH)
        w.matrix(b + "ffn_down", WIDTH, FEED_FORWARD)
    if merged:
        w.norm("mm.input_norm")
        w.matrix("mm.patch_merger", WIDTH, 4 * WIDTH)
    w.matrix("mm.1", COLUMNS, WIDTH, bias=not merged)
    w.matrix("mm.2", COLUMNS, COLUMNS, bias=not merged)
    with GGUFFile.open(shared_path(f"tiny-models/{text}.gguf")) as file:
        table = file.data("token_embd.weight").view(np.float32)
        w.tensors["v.token_embd.img_break"] = table[ids_of("[IMG_BREAK]")[0]].copy()


@dataclass(frozen=True)
class Tower:
    """``text`` is the name of a tiny model, whose file has some other ``text_keys``; ``keys`` are the projector's."""

    text: str
    kind: str
    make: Callable[[Weights], None]
    keys: Mapping[str, Any]
    text_keys: Mapping[str, Any] = field(default_factory=dict)
    flags: Mapping[str, bool] = field(default_factory=dict)


VISION: dict[str, Any] = {
    "block_count": LAYERS, "embedding_length": WIDTH, "feed_forward_length": FEED_FORWARD, "projection_dim": COLUMNS,
    "attention.head_count": HEADS, "attention.layer_norm_epsilon": 1e-6, "patch_size": PATCH,
}  # fmt: skip
GEMMA4 = {"image_size": 224, "image_mean": [0.0] * 3, "image_std": [1.0] * 3, "image_max_pixels": 16 * 24 * 24}
LLAMA4 = {"image_size": 32, "image_mean": [0.5] * 3, "image_std": [0.5] * 3, "projector.scale_factor": 2,
          "attention.layer_norm_epsilon": 1e-5}  # fmt: skip
LLAVA = {"image_size": 32, "image_mean": [0.48145466, 0.4578275, 0.40821073],
         "image_std": [0.26862954, 0.26130258, 0.27577711], "attention.layer_norm_epsilon": 1e-5}  # fmt: skip
CANVASES = [[1, 2], [2, 1], [2, 2], [3, 1], [1, 3]]
"""Tiles of the canvases of LLaVA 1.6, by rows and columns."""
LLAVA_NEXT = {**LLAVA, "image_grid_pinpoints": [32 * n for each in CANVASES for n in each],
              "mm_patch_merge_type": "spatial_unpad"}  # fmt: skip
GRANITE = {
    "image_size": 36, "image_mean": [0.5, 0.4, 0.6], "image_std": [0.5, 0.6, 0.4], "feature_layer": [1, 3],
    "image_grid_pinpoints": [36 * n for each in [[1, 1], *CANVASES] for n in each],
    "mm_patch_merge_type": "spatial_unpad",
}  # fmt: skip
PIXTRAL = {"image_size": 96, "image_mean": [0.5, 0.4, 0.6], "image_std": [0.5, 0.6, 0.4], "spatial_merge_size": 2,
           "attention.layer_norm_epsilon": 1e-5}  # fmt: skip
TOWERS: dict[str, Tower] = {
    "gemma4e": Tower("gemma4", "gemma4v", lambda w: gemma4_tensors(w, bounded=True), GEMMA4),
    "gemma4l": Tower(
        "gemma4", "gemma4v", lambda w: gemma4_tensors(w, bounded=False), GEMMA4,
        {"gemma4.embedding_length_per_layer_input": 0, "gemma4.attention.shared_kv_layers": 0, "gemma4.block_count": 6,
         "gemma4.attention.sliding_window_pattern": [True, True, False] * 2},
    ),
    "llama4": Tower("llama4", "llama4", llama4_tensors, LLAMA4),
    "llava": Tower("smolvlm", "mlp", llava_tensors, LLAVA),
    "llavanext": Tower("smolvlm", "mlp", llava_next_tensors, LLAVA_NEXT),
    "granitev": Tower("granite", "mlp", siglip_tensors, GRANITE, flags={"use_gelu": True}),
    "mistral3": Tower(
        "ministral3", "pixtral", lambda w: pixtral_tensors(w, "ministral3", merged=True), PIXTRAL,
        flags={"use_silu": True},
    ),
    "pixtral12": Tower(
        "smolvlm", "pixtral", lambda w: pixtral_tensors(w, "smolvlm", merged=False),
        {**PIXTRAL, "spatial_merge_size": 1}, flags={"use_silu": True},
    ),
}  # fmt: skip


def projector_keys(name: str) -> dict[str, Any]:
    entry = TOWERS[name]
    own = {f"clip.vision.{key}": value for key, value in (VISION | dict(entry.keys)).items()}
    return (
        {"general.architecture": "clip", "clip.vision.projector_type": entry.kind}
        | own
        | {f"clip.{key}": value for key, value in entry.flags.items()}
    )


@cache
def projector_tensors(name: str) -> Tensors:
    weights = Weights(name)
    TOWERS[name].make(weights)
    return weights.tensors


@cache
def _folder() -> TemporaryDirectory[str]:
    return TemporaryDirectory(prefix="llamaq-towers-")


@cache
def tower(name: str) -> tuple[Path, Path]:
    """The files of a language model and its projector."""
    entry, f32 = TOWERS[name], format_by_name("F32")
    model, path = (Path(_folder().name) / f"{name}-{which}.gguf" for which in ("text", "mmproj"))
    write_gguf(path, projector_keys(name), [TensorData(n, f32, x.shape, x) for n, x in projector_tensors(name).items()])
    with GGUFFile.open(shared_path(f"tiny-models/{entry.text}.gguf")) as file:
        tensors = [TensorData(n, info.format, info.shape, file.data(n)) for n, info in file.tensors.items()]
        metadata = {**file.metadata, **entry.text_keys}
        blocks = metadata[f"{metadata['general.architecture']}.block_count"]
        kept = [t for t in tensors if not t.name.startswith("blk.") or int(t.name.split(".")[1]) < blocks]
        write_gguf(model, metadata, kept, types=file.metadata_types)
    return model, path
