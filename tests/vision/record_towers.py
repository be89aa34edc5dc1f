"""Records what transformers makes of the tiny models of ``tiny_towers.py``, and of pictures of many shapes for them.

    PYTHONPATH=src LLAMAQ_SHARED=SHARED python tests/vision/record_towers.py [NAME ...]

needs torch, transformers and gguf, and writes tests/data/vision.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import PIL.Image
import torch
import transformers

sys.path.append(str(Path(__file__).parents[1] / "support"))

from record_transformers import IMAGE_TOKEN, OUT, TEXT, TEXT_NAMES  # type: ignore[import-not-found]

from tiny_towers import FEED_FORWARD, HEADS, LAYERS, PATCH, WIDTH, projector_tensors, tower
from vision_cases import KEPT, SEEN, SHAPES, picture, pixel_sample, prompt_with

Recorded = tuple[Any, dict[str, Any]]
"""Rows of a picture, and what the model reads of it."""
VISION: dict[str, Any] = {
    "hidden_size": WIDTH, "intermediate_size": FEED_FORWARD, "num_hidden_layers": LAYERS, "patch_size": PATCH,
    "num_attention_heads": HEADS,
}  # fmt: skip


# Gemma 4


def gemma4(name: str) -> Any:
    small = name == "gemma4e"
    text = TEXT | {
        "num_hidden_layers": 8 if small else 6, "head_dim": 32, "global_head_dim": 64, "sliding_window": 8,
        "num_kv_shared_layers": 2 if small else 0, "layer_types": gemma4_layers(name),
        "hidden_size_per_layer_input": 16 if small else 0,
        "vocab_size_per_layer_input": 2048, "final_logit_softcapping": 30.0, "attention_k_eq_v": False,
        "num_global_key_value_heads": 2, "use_bidirectional_attention": None if small else "vision",
        "rope_parameters": {
            "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
            "full_attention": {"rope_type": "proportional", "rope_theta": 1e6, "partial_rotary_factor": 0.25},
        },
    }  # fmt: skip
    vision = VISION | {
        "head_dim": WIDTH // HEADS, "num_key_value_heads": HEADS, "pooling_kernel_size": 3,
        "position_embedding_size": 60, "use_clipped_linears": small, "standardize": not small,
        "attn_implementation": "eager",
    }  # fmt: skip
    config = transformers.Gemma4Config(
        text_config=text, vision_config=vision, image_token_id=IMAGE_TOKEN, audio_config=None,
        video_token_id=2041, audio_token_id=2042, boi_token_id=2043, eoi_token_id=2044,
    )  # fmt: skip
    return transformers.Gemma4ForConditionalGeneration(config)


def gemma4_layers(name: str) -> list[str]:
    reader = gguf.GGUFReader(tower(name)[0])
    pattern = reader.fields["gemma4.attention.sliding_window_pattern"].contents()
    return ["sliding_attention" if window else "full_attention" for window in pattern]


GEMMA4_TEXT = TEXT_NAMES | {
    "per_layer_token_embd": "embed_tokens_per_layer", "per_layer_model_proj": "per_layer_model_projection",
    "per_layer_proj_norm": "per_layer_projection_norm", "inp_gate": "per_layer_input_gate",
    "proj": "per_layer_projection", "post_norm": "post_per_layer_input_norm",
    "ffn_norm": "pre_feedforward_layernorm", "layer_output_scale": "layer_scalar",
}  # fmt: skip
GEMMA4_VISION = {
    "ln1": "input_layernorm", "ln2": "pre_feedforward_layernorm", "attn_post_norm": "post_attention_layernorm",
    "ffn_post_norm": "post_feedforward_layernorm", "attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm",
    **{f"attn_{part}": f"self_attn.{part}_proj.linear" for part in "qkv"}, "attn_out": "self_attn.o_proj.linear",
    **{f"ffn_{part}": f"mlp.{part}_proj.linear" for part in ("gate", "up", "down")},
}  # fmt: skip


def gemma4_weights(name: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, x in text_tensors(name):
        stem, _, kind = key.rpartition(".")
        parts = stem.split(".")
        if parts[0] == "rope_freqs":
            continue
        block = f"layers.{parts[1]}." if parts[0] == "blk" else ""
        last = GEMMA4_TEXT[parts[-1]]
        found[f"model.language_model.{block}{last}" + ("" if last == "layer_scalar" else f".{kind}")] = x
    found["lm_head.weight"] = found["model.language_model.embed_tokens.weight"]
    for key, x in projector_tensors(name).items():
        parts = key.split(".")
        if key == "v.patch_embd.weight":
            found["model.vision_tower.patch_embedder.input_proj.weight"] = x.transpose(0, 2, 3, 1).reshape(WIDTH, -1)
        elif key == "v.position_embd.weight":
            found["model.vision_tower.patch_embedder.position_embedding_table"] = x
        elif parts[0] == "mm":
            found["model.embed_vision.embedding_projection.weight"] = x
        elif len(parts) == 2:
            found[f"model.vision_tower.{parts[1]}"] = x
        else:
            there = GEMMA4_VISION[parts[3]]
            there = there if parts[4] == "weight" else there.removesuffix(".linear")
            found[f"model.vision_tower.encoder.layers.{parts[2]}.{there}.{parts[4]}"] = x
    return found


def gemma4_processor(rows: int) -> Any:
    module = transformers.models.gemma4.image_processing_pil_gemma4
    module._SUPPORTED_SOFT_TOKENS = (rows,)
    return module.Gemma4ImageProcessorPil(patch_size=PATCH, max_soft_tokens=rows, pooling_kernel_size=3)


def gemma4_read(model: Any, image: Any) -> Recorded:
    read = gemma4_processor(16)([image], return_tensors="pt")
    more = {key: read[key] for key in ("pixel_values", "image_position_ids")}
    return model.model.get_image_features(*more.values()).pooler_output[0], more


def gemma4_pictures(image: Any) -> dict[str, Any]:
    read = gemma4_processor(70)([image], do_rescale=False, return_tensors="np")
    columns, rows = (read["image_position_ids"][0].max(0) + 1).tolist()
    x = read["pixel_values"][0][: rows * columns].reshape(rows, columns, PATCH, PATCH, 3)
    return whole_picture(x.transpose(0, 2, 1, 3, 4).reshape(rows * PATCH, columns * PATCH, 3))


# What all have


def text_tensors(name: str) -> Any:
    return ((tensor.name, np.array(tensor.data, np.float32)) for tensor in gguf.GGUFReader(tower(name)[0]).tensors)


def whole_picture(x: Any) -> dict[str, Any]:
    assert np.array_equal(x, x.round())
    return {"": pixel_sample(x.astype(np.uint8)), " sides": np.array(x.shape[:2])}


def load(name: str, model: Any, weights: dict[str, Any]) -> None:
    theirs = model.state_dict()
    found = {k: torch.tensor(x) for k, x in weights.items()}
    result = model.load_state_dict({k: x.reshape(theirs[k].shape) if k in theirs else x for k, x in found.items()},
                                   strict=False)  # fmt: skip
    print(name, "not loaded:", result.missing_keys, "not there:", result.unexpected_keys)


MODELS: dict[str, tuple[Callable[[str], Any], Callable[[str], Any], Callable[[Any, Any], Recorded]]] = {
    "gemma4e": (gemma4, gemma4_weights, gemma4_read),
    "gemma4l": (gemma4, gemma4_weights, gemma4_read),
}
PICTURES: dict[str, Callable[[Any], dict[str, Any]]] = {"gemma4": gemma4_pictures}


def record_model(name: str) -> None:
    make, weights, read = MODELS[name]
    model = make(name).eval().float()
    load(name, model, weights(name))
    found = {}
    for which, shapes in enumerate(SEEN):
        seen = [read(model, PIL.Image.fromarray(picture(*shape, which))) for shape in shapes]
        for i, (rows, _) in enumerate(seen):
            found[f"rows{which}-{i}"] = rows.float().numpy()
        ids = torch.tensor([prompt_with([[IMAGE_TOKEN] * len(rows) for rows, _ in seen])])
        more = {key: torch.cat([more[key] for _, more in seen]) for key in seen[0][1]}
        if name.startswith("gemma4"):
            more["mm_token_type_ids"] = (ids == IMAGE_TOKEN).int()
        logits = model(input_ids=ids, **more).logits[0]
        found[f"logprobs{which}"] = torch.log_softmax(logits.double(), -1).numpy()[:, KEPT].astype(np.float32)
    np.savez_compressed(OUT / f"{name}.npz", **found)


def record_pictures(name: str) -> None:
    found: dict[str, Any] = {}
    for width, height in SHAPES:
        made = PICTURES[name](PIL.Image.fromarray(picture(width, height)))
        found |= {f"{width}x{height}{key}": value for key, value in made.items()}
    np.savez_compressed(OUT / f"{name}_pictures.npz", **found)


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    for name in sys.argv[1:] or [*PICTURES, *MODELS]:
        (record_pictures if name in PICTURES else record_model)(name)
