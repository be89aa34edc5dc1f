"""Tiny random models of every architecture, with logits of transformers for all positions.

Most lie in the shared test material. Those that it lacks are made here from a seed; ``tests/data/tiny`` has the logits
that transformers gave for the same weights (``tests/models/test_tiny_transformers.py`` computes them again).
"""

from __future__ import annotations

import math
import zlib
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llamaq.formats import format_by_name
from llamaq.gguf import TensorData, write_gguf
from shared_files import ROOT, shared_path
from tiny_converted import CONVERTED, converted
from tiny_vision import KIN, text_of

__all__ = ["IDS", "LONGROPE", "MADE", "RECORDED", "made_tensors", "tiny_model"]

WIDTH, HEADS, KV_HEADS, HEAD_DIM, FEED_FORWARD, LAYERS, VOCABULARY, WINDOW, EXPERTS = 64, 4, 2, 16, 96, 4, 64, 8, 6
IDS = np.random.default_rng(24).integers(0, VOCABULARY, 24).astype(np.int32)
RECORDED = ROOT / "tests" / "data" / "tiny"
LONGROPE = {"long": [1.0, 1.3, 2.0, 3.5, 6.0, 9.0], "short": [1.0, 1.1, 1.2, 1.4, 1.7, 2.0]}
SHAPE: dict[str, Any] = {
    "block_count": LAYERS,
    "context_length": 64,
    "embedding_length": WIDTH,
    "feed_forward_length": FEED_FORWARD,
    "attention.head_count": HEADS,
    "attention.head_count_kv": KV_HEADS,
}
RMS = {"attention.layer_norm_rms_epsilon": 1e-5}
MADE: dict[str, tuple[str, dict[str, Any]]] = {
    "cohere2": (
        "cohere2",
        {"attention.layer_norm_epsilon": 1e-5, "attention.sliding_window": WINDOW, "logit_scale": 0.25},
    ),
    "granitemoe": (
        "granitemoe",
        {
            **RMS,
            "expert_count": EXPERTS,
            "expert_used_count": 2,
            "embedding_scale": 1.5,
            "residual_scale": 0.7,
            "attention.scale": 0.3,
            "logit_scale": 1.3,
        },
    ),
    "olmo3": (
        "olmo2",
        {
            **RMS,
            "attention.sliding_window": WINDOW,
            "rope.freq_base": 500000.0,
            "attention.sliding_window_pattern": [True, True, True, False],
            "rope.scaling.type": "yarn",
            "rope.scaling.factor": 4.0,
            "rope.scaling.original_context_length": 16,
        },
    ),
    "phi3-long": (
        "phi3",
        {
            **RMS,
            "rope.dimension_count": 2 * len(LONGROPE["long"]),
            "rope.scaling.type": "longrope",
            "rope.scaling.original_context_length": 16,
            "rope.scaling.attn_factor": math.sqrt(1 + math.log(64 / 16) / math.log(16)),
        },
    ),
}
"""Architecture and keys of the models that are made here."""


def made_tensors(name: str) -> dict[str, NDArray[np.float32]]:
    """Weights that keep logits of a few units, so that a fault of a formula moves them far."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    tensors: dict[str, NDArray[np.float32]] = {}

    def add(tensor: str, *shape: int) -> None:
        x = rng.normal(1, 0.1, shape) if len(shape) == 1 else rng.normal(0, 0.8 * shape[-1] ** -0.5, shape)
        tensors[f"{tensor}.weight"] = x.astype(np.float32)

    architecture = MADE[name][0]
    q, kv = HEADS * HEAD_DIM, KV_HEADS * HEAD_DIM
    add("token_embd", VOCABULARY, WIDTH)
    tensors["token_embd.weight"] *= np.float32(WIDTH**0.5)
    for i in range(LAYERS):
        b = f"blk.{i}."
        if architecture == "phi3":
            add(b + "attn_qkv", q + 2 * kv, WIDTH)
            add(b + "ffn_up", 2 * FEED_FORWARD, WIDTH)
        else:
            for part, rows in (("q", q), ("k", kv), ("v", kv)):
                add(f"{b}attn_{part}", rows, WIDTH)
            stack, last = ((EXPERTS,), "_exps") if architecture == "granitemoe" else ((), "")
            add(f"{b}ffn_gate{last}", *stack, FEED_FORWARD, WIDTH)
            add(f"{b}ffn_up{last}", *stack, FEED_FORWARD, WIDTH)
        add(b + "attn_output", WIDTH, q)
        if architecture == "granitemoe":
            add(b + "ffn_gate_inp", EXPERTS, WIDTH)
            add(b + "ffn_down_exps", EXPERTS, WIDTH, FEED_FORWARD)
        else:
            add(b + "ffn_down", WIDTH, FEED_FORWARD)
        if architecture == "olmo2":
            norms = {"attn_q_norm": q, "attn_k_norm": kv, "post_attention_norm": WIDTH, "post_ffw_norm": WIDTH}
        else:
            norms = {"attn_norm": WIDTH} | ({"ffn_norm": WIDTH} if architecture in ("phi3", "granitemoe") else {})
        for norm, n in norms.items():
            add(b + norm, n)
    add("output_norm", WIDTH)
    if architecture != "cohere2":
        add("output", VOCABULARY, WIDTH)
    if name == "phi3-long":
        for kind, divisors in LONGROPE.items():
            tensors[f"rope_factors_{kind}.weight"] = np.array(divisors, np.float32)
    return tensors


@cache
def _folder() -> TemporaryDirectory[str]:
    return TemporaryDirectory(prefix="llamaq-tiny-")


@cache
def _made(name: str) -> Path:
    if name in CONVERTED:
        return converted(name, Path(_folder().name))
    architecture, keys = MADE[name]
    metadata = {f"{architecture}.{key}": value for key, value in (SHAPE | keys).items()}
    f32 = format_by_name("F32")
    path = Path(_folder().name) / f"{name}.gguf"
    tensors = [TensorData(n, f32, x.shape, x) for n, x in made_tensors(name).items()]
    write_gguf(path, {"general.architecture": architecture, **metadata}, tensors)
    return path


def tiny_model(name: str) -> tuple[Path, Any]:
    """A file, and the arrays ``ids`` (tokens,) and ``logits`` (tokens, vocabulary) that go with it; skips where a
    user's clone has none."""
    if name in MADE or name in CONVERTED:
        return _made(name), {"ids": IDS, "logits": np.load(RECORDED / f"{name}.npy")}
    kin = KIN[name][0] if name in KIN else name
    with np.load(shared_path(f"tiny-models/{kin}.ref.npz")) as file:
        return text_of(name), dict(file)
