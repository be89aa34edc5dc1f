"""The hyperparameters that most families have, by GGUF's names (without the architecture before them)."""

from __future__ import annotations

import logging
from typing import Any

from llamaq.convert.rope import rope_base, rope_of, rope_scaling
from llamaq.convert.section import Section

__all__ = ["every", "expect", "experts", "left_out_window", "standard", "windows"]

logger = logging.getLogger("llamaq")


def standard(
    config: Section,
    *,
    activations: tuple[str, ...] = ("silu", "swish"),
    activation: str = "hidden_act",
    eps: tuple[str, str] = ("attention.layer_norm_rms_epsilon", "rms_norm_eps"),
    partial: float | None = None,
    log_multiplier: float = 0.0,
) -> dict[str, Any]:
    """Sizes, heads, norms and RoPE. Raises ModelError for what a reader would not know.

    ``eps`` is the key of the norms and its name in the configuration; ``partial`` the part of a head that RoPE turns
    where the configuration does not say, None where it must be all.
    """
    if config.text(activation, activations[0]) not in activations:
        raise config.error(activation, f"'{activations[0]}'")
    heads, width = config.integer("num_attention_heads"), config.integer("hidden_size")
    head_dim = config.integer("head_dim", width // heads)
    keys: dict[str, Any] = {
        "context_length": config.integer("max_position_embeddings"),
        "embedding_length": width,
        "block_count": config.integer("num_hidden_layers"),
        "feed_forward_length": config.integer("intermediate_size"),
        "attention.head_count": heads,
        "attention.head_count_kv": config.integer("num_key_value_heads", heads),
        "attention.key_length": head_dim,
        "attention.value_length": head_dim,
        eps[0]: config.number(eps[1], 1e-6),
        "rope.dimension_count": _turned_dims(config, head_dim, partial),
        "rope.freq_base": rope_base(config),
    }
    if "vocab_size" in config:
        keys["vocab_size"] = config.integer("vocab_size")
    return keys | rope_scaling(config, log_multiplier)


def _turned_dims(config: Section, head_dim: int, partial: float | None) -> int:
    rope, usual = rope_of(config), 1.0 if partial is None else partial
    part = rope.number("partial_rotary_factor", config.number("partial_rotary_factor", usual))
    if part > 1.0 or (partial is None and part != 1.0):
        raise rope.error("partial_rotary_factor", "1" if partial is None else "up to 1")
    return int(head_dim * part)


def experts(config: Section, count: str, *, length: str = "", shared_length: str = "") -> dict[str, Any]:
    """Keys of a mixture: how many experts (``count`` is the name in the configuration), how many a token uses, and
    their lengths where ``length`` and ``shared_length`` name them."""
    name = count if count in config else next((n for n in _EXPERT_COUNTS if n in config), count)
    used = "num_experts_per_tok" if "num_experts_per_tok" in config else "experts_per_token"
    keys = {"expert_count": config.integer(name), "expert_used_count": config.integer(used)}
    for key, given in (("expert_feed_forward_length", length), ("expert_shared_feed_forward_length", shared_length)):
        if given and given in config:
            keys[key] = config.integer(given)
    return keys


_EXPERT_COUNTS = ("num_local_experts", "num_experts", "n_routed_experts")  # transformers has changed its names


def expect(config: Section, key: str, *allowed: Any) -> None:
    """Raises ModelError where the configuration has another value than those that a file's readers take for granted."""
    if config.values.get(key) is not None and config.values[key] not in allowed:
        raise config.error(key, f"{allowed[0]!r}, as readers of the file take it to be")


def windows(config: Section, layers: int) -> list[bool] | None:
    """Which layers see a window alone, by ``layer_types``; None where it is absent."""
    kinds = config.texts("layer_types")
    if kinds and len(kinds) != layers:
        raise config.error("layer_types", f"{layers}, one for each layer")
    return [kind != "full_attention" for kind in kinds] or None


def every(count: int, layers: int, *, last: bool) -> list[bool]:
    """Flags of layers: the last of every ``count`` is ``last``, the others are not."""
    return [(i % count == count - 1) is last for i in range(layers)]


def left_out_window(config: Section, context: int) -> None:
    """Warns of a sliding window that readers of the file do not have."""
    used = config.flag("use_sliding_window", True)
    window = config.integer("sliding_window", -1, low=-1)
    if used and 0 < window < context:
        logger.warning("the model attends to the last %d tokens; llamaq and llama.cpp let it see all", window)
