"""What Pixtral, Mistral Small 3.1 and Ministral 3 see images with."""

from __future__ import annotations

from typing import Any

from llamaq.convert.added import read_added
from llamaq.convert.checkpoint import Checkpoint
from llamaq.convert.families.seeing import projector_keys
from llamaq.convert.images import Images
from llamaq.convert.keys import expect
from llamaq.convert.rules import turned
from llamaq.convert.section import Section
from llamaq.convert.views import NewTensor, View
from llamaq.errors import ModelError

_BREAK = "[IMG_BREAK]"  # stands between lines of an image
_HEADS = "vision.attention.head_count"
_BLOCK: dict[str, Any] = {
    "attention_norm": "v.blk.*.ln1",
    "ffn_norm": "v.blk.*.ln2",
    **{f"attention.{part}_proj": turned(f"v.blk.*.attn_{part}", _HEADS) for part in "qk"},
    "attention.v_proj": "v.blk.*.attn_v",
    "attention.o_proj": "v.blk.*.attn_out",
    **{f"feed_forward.{part}_proj": f"v.blk.*.ffn_{part}" for part in ("gate", "up", "down")},
}
IMAGES: dict[str, Any] = {
    "vision_tower.patch_conv": "v.patch_embd",
    "vision_tower.ln_pre": "v.pre_ln",
    **{f"vision_tower.transformer.layers.*.{old}": new for old, new in _BLOCK.items()},
    "multi_modal_projector.norm": "mm.input_norm",
    "multi_modal_projector.patch_merger.merging_layer": "mm.patch_merger",
    "multi_modal_projector.linear_1": "mm.1",
    "multi_modal_projector.linear_2": "mm.2",
}
_USUAL = {
    "embedding_length": 1024, "feed_forward_length": 4096, "block_count": 24, "attention.head_count": 16,
    "image_size": 1024, "patch_size": 16,
}  # fmt: skip


def _vision(config: Section, processor: Section) -> dict[str, Any]:
    vision = config.section("vision_config")
    expect(vision, "model_type", "pixtral")
    expect(vision, "hidden_act", "silu")
    for rope in (vision, vision.section("rope_parameters")):
        expect(rope, "rope_theta", 10000.0, 10000)
    expect(config, "projector_hidden_act", "gelu")
    expect(config, "vision_feature_layer", -1)
    keys = projector_keys(config, processor, "pixtral", eps=1e-5, usual=_USUAL)
    expect(vision, "head_dim", keys["vision.embedding_length"] // keys[_HEADS])
    return keys | {"use_silu": True, "vision.spatial_merge_size": config.integer("spatial_merge_size", 1)}


def _row_between(checkpoint: Checkpoint) -> list[NewTensor]:
    """The row of the text's table that stands between lines of an image."""
    added = read_added(*(checkpoint.json(f"{stem}.json") for stem in ("tokenizer", "tokenizer_config", "added_tokens")))
    id = next((id for id, token in added.items() if token.text == _BREAK), None)
    table = next((name for name in checkpoint.shapes if name.endswith("embed_tokens.weight")), None)
    if id is None or table is None or len(checkpoint.shapes[table]) != 2 or id >= checkpoint.shapes[table][0]:
        raise ModelError(f"tokenizer.json: added_tokens: expected {_BREAK!r} with a row in the text's table, got none")
    return [NewTensor("v.token_embd.img_break", (View.whole(table, checkpoint.shapes[table], id),))]


PIXTRAL = Images(_vision, IMAGES, _row_between)
