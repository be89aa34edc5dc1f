"""How positions turn queries and keys: Hugging Face's ``rope_parameters`` (older: ``rope_scaling``) as GGUF's keys."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llamaq.convert.section import Section
from llamaq.errors import ModelError
from llamaq.models import MAX_HEAD_DIM, ROPE_FREQS

__all__ = [
    "Tensors",
    "longrope_keys",
    "longrope_tensors",
    "neighbours",
    "rope_divisors",
    "rope_of",
    "rope_scaling",
    "rope_sections",
]

logger = logging.getLogger("llamaq")

Tensors = dict[str, NDArray[np.float32]]


_KINDS = ("default", "mrope", "linear", "yarn", "llama3", "dynamic")


def rope_of(config: Section) -> Section:
    """The parameters; where kinds of layers have their own, those of layers that see everything."""
    found = config.section("rope_parameters") or config.section("rope_scaling")
    return found.section("full_attention") or found


def rope_base(config: Section) -> float:
    """The base of the frequencies."""
    return rope_of(config).number("rope_theta", config.number("rope_theta", 10000.0))


def rope_kind(config: Section, known: tuple[str, ...] = _KINDS) -> str:
    """The kind of scaling; "mrope" is none. Raises ModelError for one that is not ``known``."""
    rope = rope_of(config)
    kind = rope.text("rope_type") or rope.text("type") or "default"
    if kind not in known:
        raise ModelError(f"config.json: rope type: expected {', '.join(known[:-1])} or {known[-1]}, got {kind[:40]!r}")
    return kind


def rope_sections(config: Section, usual: list[int] | None = None) -> dict[str, Any]:
    """The key for how many pairs turn by time, rows and columns of pictures; ``usual`` where the configuration does not
    say, None where it must."""
    if rope_of(config).values.get("mrope_section") is None and usual:
        return {"rope.dimension_sections": [*usual, 0]}
    sections = rope_of(config).integers("mrope_section")
    if len(sections) != 3 or not all(0 <= n <= MAX_HEAD_DIM for n in sections):
        raise rope_of(config).error("mrope_section", "three numbers of pairs")
    return {"rope.dimension_sections": [*sections, 0]}


def rope_scaling(config: Section, log_multiplier: float = 0.0) -> dict[str, Any]:
    """The keys ``rope.scaling.*``; ``log_multiplier`` is what of YaRN's own factor the file takes back."""
    rope, kind = rope_of(config), rope_kind(config)
    if kind == "dynamic":
        logger.warning("dynamic RoPE scaling begins beyond the model's context; it is left out")
    if kind not in ("linear", "yarn"):
        return {}
    factor = rope.number("factor")
    keys: dict[str, Any] = {"rope.scaling.type": kind, "rope.scaling.factor": factor}
    if kind == "yarn":
        if not rope.flag("truncate", True):
            logger.warning(
                "rope_parameters.truncate: GGUF cannot say false: YaRN's ramp begins and ends at whole pairs, as in "
                "llama.cpp; results differ slightly from transformers"
            )
        # The file's factor multiplies the one that YaRN computes from how far positions are stretched.
        usual = _magnitude(factor) / (_magnitude(factor, log_multiplier) if log_multiplier else 1.0)
        wanted = rope.number("attention_factor", _yarn_attention(rope, factor))
        keys |= {
            "rope.scaling.original_context_length": rope.integer(
                "original_max_position_embeddings", config.integer("max_position_embeddings")
            ),
            "rope.scaling.yarn_beta_fast": rope.number("beta_fast", 32.0),
            "rope.scaling.yarn_beta_slow": rope.number("beta_slow", 1.0),
        }
        if log_multiplier:
            keys["rope.scaling.yarn_log_multiplier"] = log_multiplier
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


def rope_divisors(config: Section, keys: Mapping[str, Any]) -> Tensors:
    """The tensor by which Llama 3.1 divides the frequency of each pair; none where it does not.

    Pairs that turn often within the original context stay, those that turn seldom are slowed by ``factor``, and
    between the two frequencies are blended.
    """
    rope = rope_of(config)
    if rope_kind(config) != "llama3":
        return {}
    base, dims = rope_base(config), keys["rope.dimension_count"]
    factor, low, high = (rope.number(key) for key in ("factor", "low_freq_factor", "high_freq_factor"))
    if high <= low:
        raise rope.error("high_freq_factor", f"more than low_freq_factor, {low:g}")
    context = rope.number("original_max_position_embeddings")
    with np.errstate(all="ignore"):  # the plan refuses what is not finite
        turns = context / (2 * math.pi * base ** (np.arange(0, dims, 2) / dims))
        kept = np.clip((turns - low) / (high - low), 0.0, 1.0)
        return {ROPE_FREQS: (1 / ((1 - kept) / factor + kept)).astype(np.float32)}


def longrope_keys(config: Section, original: int) -> dict[str, Any]:
    """The key for the magnitude of cos and sin; none where no factors stretch positions."""
    if rope_kind(config, ("default", "longrope", "su")) == "default":
        return {}
    scale = config.integer("max_position_embeddings") / original
    usual = math.sqrt(1 + math.log(scale) / math.log(original)) if scale > 1.0 and original > 1 else 1.0
    return {"rope.scaling.attn_factor": rope_of(config).number("attention_factor", usual)}


def longrope_tensors(config: Section, keys: Mapping[str, Any]) -> Tensors:
    """The divisors of each pair's frequency, within the original context and in a longer one."""
    rope = rope_of(config)
    if "rope.scaling.attn_factor" not in keys:
        return {}
    return {
        f"rope_factors_{name}.weight": np.array(
            rope.numbers(f"{name}_factor", keys["rope.dimension_count"] // 2), np.float32
        )
        for name in ("long", "short")
    }


def check_dims(keys: Mapping[str, Any]) -> None:
    """Raises ModelError for heads longer than any model's, before anything of that length is made."""
    dims = keys.get("rope.dimension_count", 0)
    if dims > MAX_HEAD_DIM:
        raise ModelError(f"config.json: expected up to {MAX_HEAD_DIM} dimensions of a head, got {dims}")


def neighbours(rows: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """Rows of each head reordered: transformers turns the pairs (i, i + dims / 2), GGUF's llama (2i, 2i + 1)."""
    halves = rows.reshape(heads, 2, len(rows) // heads // 2, *rows.shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(rows.shape)
