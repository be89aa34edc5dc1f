"""What SmolVLM and Idefics 3 see images with."""

from __future__ import annotations

from typing import Any

from llamaq.convert.families.seeing import clip_names, projector_keys
from llamaq.convert.images import Images
from llamaq.convert.keys import expect
from llamaq.convert.section import Section

IMAGES: dict[str, Any] = {**clip_names("vision_model"), "connector.modality_projection.proj": "mm.model.fc"}
_USUAL = {
    "embedding_length": 1152, "feed_forward_length": 3072, "block_count": 12, "attention.head_count": 16,
    "image_size": 224, "patch_size": 32,
}  # fmt: skip


def _vision(config: Section, processor: Section) -> dict[str, Any]:
    vision = config.section("vision_config")
    expect(vision, "hidden_act", "gelu_pytorch_tanh")
    eps = vision.number("layer_norm_eps", 1e-6)
    keys = projector_keys(config, processor, "idefics3", eps=eps, usual=_USUAL)
    expect(processor.section("max_image_size"), "longest_edge", keys["vision.image_size"])
    longest = processor.section("size").integer("longest_edge", keys["vision.image_size"])
    return keys | {
        "use_gelu": True,
        "vision.projector.scale_factor": config.integer("scale_factor", 2),
        "vision.preproc_image_size": longest,
    }


SMOLVLM = Images(_vision, IMAGES)
