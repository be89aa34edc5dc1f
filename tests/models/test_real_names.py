"""Names of tensors in real files (``quant-types``): the plan of a model of their size reads every one."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llamaq.models import build_plan

REAL = {
    "meta-llama-3.1-70b-instruct": ("llama", 128, ()),
    "qwen3-0.6b": ("qwen3", 128, ("attn_q_norm", "attn_k_norm")),
    "qwen3-14b": ("qwen3", 128, ("attn_q_norm", "attn_k_norm")),
    "gemma-3-4b-it": ("gemma3", 256, ("attn_q_norm", "attn_k_norm", "post_attention_norm", "post_ffw_norm")),
}
"""Architecture, length of a head, and the norms beside those of every block."""


@pytest.mark.parametrize("name", REAL)
def test_every_tensor_of_a_real_file_is_read(name: str, shared: Callable[[str], Path]) -> None:
    text = (shared("quant-types") / f"{name}.schema").read_text(encoding="utf-8")
    size = {key: int(value) for key, value in re.findall(r"(n_\w+)=(\d+)", text)}
    names = set(re.findall(r"^([\w.]+\.(?:weight|bias)) ", text, re.MULTILINE))
    architecture, head_dim, norms = REAL[name]
    width, inner, rows = size["n_embd"], size["n_ff"], size["n_vocab"]
    shapes: dict[str, tuple[int, ...]] = {"token_embd.weight": (rows, width), "output_norm.weight": (width,)}
    if "output.weight" in names:
        shapes["output.weight"] = (rows, width)
    q, kv = size["n_head"] * head_dim, size["n_head_kv"] * head_dim
    block = {"attn_q": (q, width), "attn_k": (kv, width), "attn_v": (kv, width), "attn_output": (width, q),
             "ffn_gate": (inner, width), "ffn_up": (inner, width), "ffn_down": (width, inner),
             "attn_norm": (width,), "ffn_norm": (width,)}  # fmt: skip
    block |= {norm: (head_dim if norm.endswith(("q_norm", "k_norm")) else width,) for norm in norms}
    for i in range(size["n_layer"]):
        shapes |= {f"blk.{i}.{tensor}.weight": shape for tensor, shape in block.items()}
    keys: dict[str, Any] = {
        "block_count": size["n_layer"],
        "context_length": 4096,
        "embedding_length": width,
        "feed_forward_length": inner,
        "attention.head_count": size["n_head"],
        "attention.head_count_kv": size["n_head_kv"],
        "attention.key_length": head_dim,
        "attention.layer_norm_rms_epsilon": 1e-5,
    }
    metadata = {"general.architecture": architecture} | {f"{architecture}.{k}": v for k, v in keys.items()}
    _, plan = build_plan(metadata, shapes)
    assert names
    assert names <= {*plan.tensors}
    assert {*plan.tensors} == {*shapes}


def test_every_tensor_of_gpt_oss_is_read(shared: Callable[[str], Path]) -> None:
    text = (shared("quant-types") / "gpt-oss-120b.schema").read_text(encoding="utf-8")
    names = set(re.findall(r"^([\w.]+\.(?:weight|bias)) ", text, re.MULTILINE))
    width, experts, layers, q, kv = 2880, 128, 36, 64 * 64, 8 * 64
    shapes: dict[str, tuple[int, ...]] = {"token_embd.weight": (100, width), "output.weight": (100, width)}
    shapes["output_norm.weight"] = (width,)
    block: dict[str, tuple[int, ...]] = {
        "attn_norm": (width,), "post_attention_norm": (width,), "attn_sinks": (64,), "attn_q": (q, width),
        "attn_k": (kv, width), "attn_v": (kv, width), "attn_output": (width, q), "ffn_gate_inp": (experts, width),
        **{f"ffn_{n}_exps": (experts, width, width) for n in ("gate", "up", "down")},
    }  # fmt: skip
    for i in range(layers):
        for tensor, shape in block.items():
            shapes[f"blk.{i}.{tensor}.weight"] = shape
            if len(shape) > 1:
                shapes[f"blk.{i}.{tensor}.bias"] = shape[:-1]
    keys = {
        "block_count": layers, "context_length": 131072, "embedding_length": width, "attention.head_count": 64,
        "attention.head_count_kv": 8, "attention.key_length": 64, "attention.layer_norm_rms_epsilon": 1e-5,
        "expert_count": experts, "expert_used_count": 4, "attention.sliding_window": 128,
    }  # fmt: skip
    metadata = {"general.architecture": "gpt-oss"} | {f"gpt-oss.{k}": v for k, v in keys.items()}
    _, plan = build_plan(metadata, shapes)
    assert names
    assert names <= {*plan.tensors}
    assert {*plan.tensors} == {*shapes}
