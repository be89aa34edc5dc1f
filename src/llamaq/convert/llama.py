"""LlamaForCausalLM: metadata from its configuration, names and rows of its tensors."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llamaq.convert.section import Section
from llamaq.errors import ModelError

__all__ = ["CLASSES", "check_heads", "heads_to_turn", "hyperparameters", "neighbours", "rope_divisors", "tensor_name"]

logger = logging.getLogger("llamaq")

CLASSES = ("LlamaForCausalLM", "MistralForCausalLM")
"""The classes of config.json's ``architectures`` that are of GGUF's architecture ``llama``."""

_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
}
_IN_BLOCKS = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def _rope_parameters(config: Section) -> Section:
    """``rope_parameters`` (since transformers 5) or ``rope_scaling``."""
    return config.section("rope_parameters") or config.section("rope_scaling")


def _rope_base(config: Section) -> float:
    return _rope_parameters(config).number("rope_theta", config.number("rope_theta", 10000.0))


def tensor_name(name: str) -> str | None:
    """GGUF's name of a tensor; None for one that is not stored. Raises ModelError for an unknown name."""
    stem, _, kind = name.rpartition(".")
    block = re.fullmatch(r"model\.layers\.(0|[1-9][0-9]{0,5})\.(.+)", stem)
    known = _IN_BLOCKS.get(block[2]) if block else _NAMES.get(stem)
    if known is not None and kind in ("weight", "bias"):
        return f"blk.{block[1]}.{known}.{kind}" if block else f"{known}.{kind}"
    if name.endswith(".rotary_emb.inv_freq"):
        return None  # follows from the configuration
    raise ModelError(f"tensor {name!r}: expected the names of {CLASSES[0]}, got one that it does not have")


def hyperparameters(config: Section) -> dict[str, str | int | float]:
    """The keys ``llama.*``. Raises ModelError for what llamaq could not run."""
    if config.text("hidden_act", "silu") not in ("silu", "swish"):
        raise config.error("hidden_act", "'silu'")
    window, context = config.integer("sliding_window", -1, low=-1), config.integer("max_position_embeddings")
    if 0 < window < context:
        logger.warning("the model attends to the last %d tokens; llamaq and llama.cpp let it see all", window)
    heads, width = config.integer("num_attention_heads"), config.integer("hidden_size")
    head_dim = config.integer("head_dim", width // heads)
    keys: dict[str, str | int | float] = {
        "vocab_size": config.integer("vocab_size"),
        "context_length": context,
        "embedding_length": width,
        "block_count": config.integer("num_hidden_layers"),
        "feed_forward_length": config.integer("intermediate_size"),
        "attention.head_count": heads,
        "attention.head_count_kv": config.integer("num_key_value_heads", heads),
        "attention.key_length": head_dim,
        "attention.value_length": head_dim,
        "attention.layer_norm_rms_epsilon": config.number("rms_norm_eps", 1e-6),
        "rope.dimension_count": head_dim,
        "rope.freq_base": _rope_base(config),
    }
    return {f"llama.{key}": value for key, value in (keys | _scaling(config)).items()}


def check_heads(keys: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raises ModelError where the length of a head contradicts the tensors, before anything of that length is made.

    ``keys`` are those of `hyperparameters`, ``shapes`` has GGUF's names.
    """
    for name, key in (("attn_q", "head_count"), ("attn_k", "head_count_kv")):
        heads, head_dim = keys[f"llama.attention.{key}"], keys["llama.attention.key_length"]
        shape = shapes.get(f"blk.0.{name}.weight", (0,))
        if shape[0] != heads * head_dim:
            raise ModelError(
                f"config.json: head_dim: expected the rows of the first block's {name}, {shape[0]}, divided by the "
                f"{heads} heads, got {head_dim}; the folder mixes two models"
            )


def _kind(rope: Section) -> str:
    kind = rope.text("rope_type") or rope.text("type") or "default"
    if kind not in ("default", "linear", "yarn", "llama3", "dynamic"):
        raise ModelError(
            f"config.json: rope type: expected default, linear, yarn, llama3 or dynamic, got {kind[:40]!r}"
        )
    return kind


def _scaling(config: Section) -> dict[str, str | int | float]:
    rope = _rope_parameters(config)
    if rope.number("partial_rotary_factor", 1.0) != 1.0:
        raise rope.error("partial_rotary_factor", "1, as a Llama has it")
    kind = _kind(rope)
    if kind == "dynamic":
        logger.warning("dynamic RoPE scaling begins beyond the model's context; it is left out")
    if kind not in ("linear", "yarn"):
        return {}
    factor = rope.number("factor")
    keys: dict[str, str | int | float] = {"rope.scaling.type": kind, "rope.scaling.factor": factor}
    if kind == "yarn":
        if not rope.flag("truncate", True):
            raise rope.error("truncate", "true")
        # The file's factor multiplies the one that YaRN computes from how far positions are stretched.
        usual = _magnitude(factor)
        wanted = rope.number("attention_factor", _yarn_attention(rope, factor))
        keys |= {
            "rope.scaling.original_context_length": rope.integer(
                "original_max_position_embeddings", config.integer("max_position_embeddings")
            ),
            "rope.scaling.yarn_beta_fast": rope.number("beta_fast", 32.0),
            "rope.scaling.yarn_beta_slow": rope.number("beta_slow", 1.0),
        }
        if not math.isclose(wanted, usual):
            keys["rope.scaling.attn_factor"] = wanted / usual
    return keys


def _yarn_attention(rope: Section, factor: float) -> float:
    """What cos and sin are multiplied with where the configuration does not say (transformers' default)."""
    if rope.values.get("mscale") and rope.values.get("mscale_all_dim"):
        return _magnitude(factor, rope.number("mscale")) / _magnitude(factor, rope.number("mscale_all_dim"))
    return _magnitude(factor)


def _magnitude(factor: float, scale: float = 1.0) -> float:
    return 1.0 if factor <= 1 else 0.1 * scale * math.log(factor) + 1.0


def rope_divisors(config: Section, head_dim: int) -> NDArray[np.float32] | None:
    """By what Llama 3.1 divides the frequency of each pair, float32 (pairs,); None where it does not.

    Pairs that turn often within the original context stay, those that turn seldom are slowed by ``factor``, and
    between the two frequencies are blended.
    """
    rope = _rope_parameters(config)
    if _kind(rope) != "llama3":
        return None
    base = _rope_base(config)
    factor, low, high = (rope.number(key) for key in ("factor", "low_freq_factor", "high_freq_factor"))
    if high <= low:
        raise rope.error("high_freq_factor", f"more than low_freq_factor, {low:g}")
    context = rope.number("original_max_position_embeddings")
    with np.errstate(all="ignore"):  # the plan refuses what is not finite
        turns = context / (2 * math.pi * base ** (np.arange(0, head_dim, 2) / head_dim))
        kept = np.clip((turns - low) / (high - low), 0.0, 1.0)
        return (1 / ((1 - kept) / factor + kept)).astype(np.float32)


def heads_to_turn(name: str, keys: Mapping[str, Any]) -> int | None:
    """Heads of a tensor whose rows RoPE turns, by GGUF's name; None for all others."""
    if re.fullmatch(r"blk\.\d+\.attn_q\.(weight|bias)", name):
        return int(keys["llama.attention.head_count"])
    if re.fullmatch(r"blk\.\d+\.attn_k\.(weight|bias)", name):
        return int(keys["llama.attention.head_count_kv"])
    return None


def neighbours(rows: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """Rows of each head reordered: transformers turns the pairs (i, i + dims / 2), GGUF's llama (2i, 2i + 1)."""
    halves = rows.reshape(heads, 2, len(rows) // heads // 2, *rows.shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(rows.shape)
