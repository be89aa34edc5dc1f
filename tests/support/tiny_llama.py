"""A tiny random model of architecture llama, for tests that need a plan but no file."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from llamaq.formats import Format, encode, format_by_name
from llamaq.models import build_plan
from llamaq.models.hparams import Decoder
from llamaq.plan.graph import Plan

Arrays = dict[str, NDArray[np.float32]]
Packed = dict[str, tuple[Format, NDArray[np.uint8]]]


def tiny_llama(
    seed: int = 0,
    *,
    layers: int = 2,
    width: int = 64,
    heads: int = 4,
    kv_heads: int = 2,
    head_dim: int = 16,
    feed_forward: int = 96,
    vocab: int = 50,
    tied: bool = False,
    biases: bool = False,
    **keys: Any,
) -> tuple[dict[str, Any], Arrays]:
    """Metadata and float32 tensors. ``keys`` add or replace "llama." keys, with "__" for the dots."""
    rng = np.random.default_rng(seed)
    metadata: dict[str, Any] = {
        "general.architecture": "llama",
        "llama.block_count": layers,
        "llama.embedding_length": width,
        "llama.feed_forward_length": feed_forward,
        "llama.context_length": 2048,
        "llama.attention.head_count": heads,
        "llama.attention.head_count_kv": kv_heads,
        "llama.attention.key_length": head_dim,
        "llama.attention.value_length": head_dim,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "llama.rope.dimension_count": head_dim,
    }
    metadata |= {f"llama.{key.replace('__', '.')}": value for key, value in keys.items()}
    tensors: Arrays = {}

    def add(name: str, *shape: int) -> None:
        if len(shape) == 1:
            tensors[f"{name}.weight"] = rng.normal(1.0, 0.1, shape).astype(np.float32)
            return
        tensors[f"{name}.weight"] = (rng.normal(size=shape) * shape[1] ** -0.5).astype(np.float32)
        if biases and name.startswith("blk"):
            tensors[f"{name}.bias"] = rng.normal(0.0, 0.1, shape[0]).astype(np.float32)

    add("token_embd", vocab, width)
    for i in range(layers):
        b = f"blk.{i}."
        add(b + "attn_norm", width)
        add(b + "attn_q", heads * head_dim, width)
        add(b + "attn_k", kv_heads * head_dim, width)
        add(b + "attn_v", kv_heads * head_dim, width)
        add(b + "attn_output", width, heads * head_dim)
        add(b + "ffn_norm", width)
        add(b + "ffn_gate", feed_forward, width)
        add(b + "ffn_up", feed_forward, width)
        add(b + "ffn_down", width, feed_forward)
    add("output_norm", width)
    if not tied:
        add("output", vocab, width)
    return metadata, tensors


def plan_of(metadata: dict[str, Any], tensors: Arrays) -> tuple[Decoder, Plan]:
    """Hyperparameters and plan of ``tiny_llama``'s result."""
    hp, plan = build_plan(metadata, {name: x.shape for name, x in tensors.items()})
    assert isinstance(hp, Decoder)
    return hp, plan


def pack(tensors: Arrays, name: str) -> Packed:
    """Matrices in the format called ``name`` where their rows fit it (else F16), vectors in F32."""
    wanted, f16, f32 = (format_by_name(n) for n in (name, "F16", "F32"))
    packed: Packed = {}
    for key, x in tensors.items():
        fmt = f32 if x.ndim == 1 else wanted if x.shape[1] % wanted.block == 0 else f16
        packed[key] = fmt, encode(fmt, x)
    return packed
