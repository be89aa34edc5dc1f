"""What the parts for images of most families share: keys of projectors, names of encoders."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llamaq.convert.keys import expect
from llamaq.convert.section import Section, text_config

__all__ = ["clip_names", "projector_keys"]

_SIZES = {
    "image_size": "image_size", "patch_size": "patch_size", "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size", "block_count": "num_hidden_layers",
    "attention.head_count": "num_attention_heads",
}  # fmt: skip


def projector_keys(
    config: Section, processor: Section, kind: str, *, eps: float, usual: Mapping[str, int] | None = None,
    names: Mapping[str, str] | None = None, colours: bool = True,
) -> dict[str, Any]:  # fmt: skip
    """Keys that all projectors have. ``usual`` are sizes that transformers takes where the configuration says none, and
    ``names`` those that it has under another name. ``colours``: the processor's mean and deviation count."""
    vision = config.section("vision_config")
    expect(vision, "num_channels", 3)
    found: dict[str, Any] = {
        "projector_type": kind,
        "vision.projection_dim": text_config(config).integer("hidden_size"),
        "vision.attention.layer_norm_epsilon": eps,
    }
    for key, name in {**_SIZES, **(names or {})}.items():
        found[f"vision.{key}"] = vision.integer(name, (usual or {}).get(key))
    if colours:
        expect(processor, "do_normalize", True)
        found |= {f"vision.image_{name}": processor.numbers(f"image_{name}", 3) for name in ("mean", "std")}
    return found


def clip_names(place: str) -> dict[str, Any]:
    """Tensors of CLIP and SigLIP, whose names begin with ``place``; SigLIP's head for classes is left out."""
    block = {
        "layer_norm1": "ln1", "layer_norm2": "ln2", "self_attn.out_proj": "attn_out", "mlp.fc1": "ffn_up",
        "mlp.fc2": "ffn_down", **{f"self_attn.{part}_proj": f"attn_{part}" for part in "qkv"},
    }  # fmt: skip
    head = ("probe", "attention.in_proj_weight", "attention.in_proj_bias", "attention.out_proj", "layernorm", "mlp.fc1",
            "mlp.fc2")  # fmt: skip
    return {
        f"{place}.embeddings.patch_embedding": "v.patch_embd",
        f"{place}.embeddings.position_embedding": "v.position_embd",
        f"{place}.post_layernorm": "v.post_ln",
        **{f"{place}.encoder.layers.*.{old}": f"v.blk.*.{new}" for old, new in block.items()},
        **dict.fromkeys(f"{place}.head.{part}" for part in head),
    }
