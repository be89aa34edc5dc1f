"""Llama 3.2 Vision: text and images in one file, as Ollama's converter writes them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from llamaq.convert.families.common import ATTENTION, MLP, OUTER
from llamaq.convert.families.llama import TURNED
from llamaq.convert.family import Family
from llamaq.convert.image_rules import changed, each
from llamaq.convert.images import Images
from llamaq.convert.keys import expect, standard
from llamaq.convert.section import Section

_CROSS = {
    **{f"cross_attn.{part}": f"cross_attn_{part}" for part in ("q_proj", "k_proj", "v_proj", "o_proj")},
    **{f"cross_attn.{part}": f"cross_attn_{part}" for part in ("q_norm", "k_norm")},
    "cross_attn_attn_gate": "cross_attn_attn_gate",
    "cross_attn_mlp_gate": "cross_attn_mlp_gate",
}


def _tanh(x: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.tanh(x.astype(np.float64)).astype(np.float32)


def _rest(x: NDArray[np.float32]) -> NDArray[np.float32]:
    return (1 - np.tanh(x.astype(np.float64))).astype(np.float32)


def _layers(there: str, here: str, gated: bool) -> dict[str, Any]:
    names = {
        **{f"self_attn.{part}_proj": f"attn_{part}" for part in "qkv"}, "self_attn.o_proj": "attn_output",
        "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "mlp.fc1": "ffn_up",
        "mlp.fc2": "ffn_down",
    }  # fmt: skip
    found: dict[str, Any] = {f"{there}.layers.*.{old}": f"{here}.*.{new}" for old, new in names.items()}
    gates = {"gate_attn": "attn_gate", "gate_ffn": "ffn_gate"} if gated else {}
    return found | {f"{there}.layers.*.{old}": changed(f"{here}.*.{new}", _tanh) for old, new in gates.items()}


def _tiles(there: str, here: str) -> dict[str, Any]:
    return {
        f"vision_model.{there}.embedding": f"v.{here}",
        f"vision_model.{there}.gate": changed(f"v.{here}.gate", _tanh),
    }


_PLACES = "vision_model.gated_positional_embedding"
_IMAGES: dict[str, Any] = {
    "vision_model.class_embedding": "v.class_embd",
    "vision_model.patch_embedding": "v.patch_embd",
    "vision_model.layernorm_pre": "v.pre_ln",
    "vision_model.layernorm_post": "v.post_ln",
    f"{_PLACES}.embedding": "v.position_embd.weight",
    f"{_PLACES}.gate": each(changed("v.position_embd.gate", _rest), changed("v.tile_position_embd.gate", _tanh)),
    f"{_PLACES}.tile_embedding": "v.tile_position_embd",
    **_tiles("pre_tile_positional_embedding", "pre_tile_position_embd"),
    **_tiles("post_tile_positional_embedding", "post_tile_position_embd"),
    **_layers("vision_model.transformer", "v.blk", False),
    **_layers("vision_model.global_transformer", "v.global.blk", True),
    "multi_modal_projector": "mm.0",
}


def _text(config: Section) -> dict[str, Any]:
    return standard(config) | {"attention.cross_attention_layers": config.integers("cross_attention_layers")}


def _vision(config: Section, processor: Section) -> dict[str, Any]:
    vision = config.section("vision_config")
    expect(vision, "hidden_act", "gelu")
    expect(vision, "num_channels", 3)
    return {
        "vision.block_count": vision.integer("num_hidden_layers"),
        "vision.global.block_count": vision.integer("num_global_layers"),
        "vision.intermediate_layers_indices": vision.integers("intermediate_layers_indices"),
        "vision.embedding_length": vision.integer("hidden_size"),
        "vision.feed_forward_length": vision.integer("intermediate_size"),
        "vision.attention.head_count": vision.integer("attention_heads"),
        "vision.attention.layer_norm_epsilon": vision.number("norm_eps", 1e-5),
        "vision.image_size": vision.integer("image_size"),
        "vision.patch_size": vision.integer("patch_size"),
        "vision.max_num_tiles": vision.integer("max_num_tiles"),
        "vision.num_channels": 3,
    }


FAMILIES = (
    Family(
        "mllama", ("MllamaForConditionalGeneration",), _text, ATTENTION | TURNED | MLP | _CROSS, OUTER,
        images=Images(_vision, _IMAGES), inside=True,
    ),
)  # fmt: skip
