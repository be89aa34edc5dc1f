"""Records what transformers makes of the tiny models that read pictures of any shape (``tiny_vision.py``), and of
pictures of many shapes.

    PYTHONPATH=src LLAMAQ_SHARED=SHARED python tests/vision/record_dynamic.py [NAME ...]

needs torch and transformers, and writes tests/data/vision.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch
import transformers

sys.path.append(str(Path(__file__).parents[1] / "support"))

from record_transformers import IMAGE_TOKEN, OUT, TEXT, load  # type: ignore[import-not-found]

from hf_pictures import weights_of
from tiny_vision import DEEP, FEED_FORWARD, HEADS, LAYERS, WIDTH, projector_keys
from vision_cases import KEPT, SEEN, SHAPES, picture, pixel_sample, prompt_with

KEYS = projector_keys("qwen3vl")
LIMITS = {"shortest_edge": KEYS["clip.vision.image_min_pixels"], "longest_edge": KEYS["clip.vision.image_max_pixels"]}
ROPE: dict[str, Any] = {"rope_type": "default", "rope_theta": 10000.0}
TOKENS = {"image_token_id": IMAGE_TOKEN, "vision_start_token_id": 2041, "vision_end_token_id": 2042,
          "video_token_id": 2043, "tie_word_embeddings": False}  # fmt: skip
QWEN_VISION = {
    "depth": LAYERS, "hidden_size": WIDTH, "intermediate_size": FEED_FORWARD, "num_heads": HEADS, "patch_size": 8,
    "temporal_patch_size": 2, "spatial_merge_size": 2, "out_hidden_size": 64,
}  # fmt: skip


def qwen_processor(name: str) -> Any:
    mean, std = (KEYS[f"clip.vision.image_{key}"] for key in ("mean", "std"))
    return transformers.Qwen2VLImageProcessorPil(
        size=dict(LIMITS), patch_size=8, merge_size=2, image_mean=mean, image_std=std
    )


def qwen25vl() -> Any:
    text = TEXT | {"num_hidden_layers": 4, "rope_parameters": ROPE | {"mrope_section": [3, 3, 2]}}
    vision = QWEN_VISION | {"window_size": 32, "fullatt_block_indexes": [1]}
    config = transformers.Qwen2_5_VLConfig(
        text_config=text, vision_config=vision, **TOKENS | {"tie_word_embeddings": True}
    )
    return transformers.Qwen2_5_VLForConditionalGeneration(config)


def qwen3vl() -> Any:
    rope = ROPE | {"mrope_section": [8, 4, 4], "mrope_interleaved": True}
    text = TEXT | {"num_hidden_layers": 4, "head_dim": 32, "rope_parameters": rope}
    vision = QWEN_VISION | {"num_position_embeddings": 25,
                            "deepstack_visual_indexes": [i for i, deep in enumerate(DEEP) if deep]}  # fmt: skip
    config = transformers.Qwen3VLConfig(text_config=text, vision_config=vision, **TOKENS)
    return transformers.Qwen3VLForConditionalGeneration(config)


def qwen35() -> Any:
    rope = ROPE | {"mrope_section": [11, 11, 10], "mrope_interleaved": True, "partial_rotary_factor": 0.25}
    text = TEXT | {
        "num_hidden_layers": 4, "head_dim": 32, "rope_parameters": rope, "linear_conv_kernel_dim": 4,
        "linear_key_head_dim": 16, "linear_value_head_dim": 16, "linear_num_key_heads": 2, "linear_num_value_heads": 4,
        "layer_types": ["linear_attention"] * 3 + ["full_attention"],
    }  # fmt: skip
    vision = QWEN_VISION | {"num_position_embeddings": 25}
    config = transformers.Qwen3_5Config(text_config=text, vision_config=vision, **TOKENS)
    return transformers.Qwen3_5ForConditionalGeneration(config)


MODELS: dict[str, tuple[Callable[[], Any], Callable[[str], Any]]] = {
    "qwen25vl": (qwen25vl, qwen_processor),
    "qwen3vl": (qwen3vl, qwen_processor),
    "qwen35": (qwen35, qwen_processor),
}


def features_of(model: Any, pixels: Any, grid: Any) -> Any:
    found = model.model.get_image_features(pixels, grid)
    rows = torch.cat(list(found.pooler_output))
    deep = getattr(found, "deepstack_features", None) or []
    return torch.cat([rows, *(torch.cat(list(each)) if isinstance(each, tuple | list) else each for each in deep)], -1)


def record_model(name: str) -> None:
    model = MODELS[name][0]().eval().float()
    load(name, model, weights_of(name))
    np.savez_compressed(OUT / f"{name}.npz", **made_by(name, model))


def made_by(name: str, model: Any) -> dict[str, Any]:
    """What a model makes of the pictures: their rows, and log-probabilities of prompts with them."""
    processor = MODELS[name][1](name)
    found = {}
    for which, shapes in enumerate(SEEN):
        pictures = [PIL.Image.fromarray(picture(*shape, which)) for shape in shapes]
        read = [processor([image], return_tensors="pt") for image in pictures]
        rows = [features_of(model, each["pixel_values"], each["image_grid_thw"]) for each in read]
        for i, each in enumerate(rows):
            found[f"rows{which}-{i}"] = each.float().numpy()
        ids = prompt_with([[IMAGE_TOKEN] * len(each) for each in rows])
        row = torch.tensor([ids])
        more = {
            "pixel_values": torch.cat([each["pixel_values"] for each in read]),
            "image_grid_thw": torch.cat([each["image_grid_thw"] for each in read]),
            "mm_token_type_ids": (row == IMAGE_TOKEN).int(),
        }
        logits = model(input_ids=row, **more).logits[0]
        found[f"logprobs{which}"] = torch.log_softmax(logits.double(), -1).numpy()[:, KEPT].astype(np.float32)
    return found


def record_pictures() -> None:
    """Sides, and colours of some pixels, by the shape."""
    processor = qwen_processor("qwen3vl")
    found = {}
    for width, height in SHAPES:
        if max(width, height) > 200 * min(width, height):
            continue
        image = PIL.Image.fromarray(picture(width, height))
        read = processor([image], do_rescale=False, do_normalize=False, return_tensors="np")
        _, rows, columns = read["image_grid_thw"][0].tolist()
        x = read["pixel_values"].reshape(rows // 2, columns // 2, 2, 2, 3, 2, 8, 8)[..., 0, :, :]
        whole = x.transpose(0, 2, 5, 1, 3, 6, 4).reshape(rows * 8, columns * 8, 3)
        assert np.array_equal(whole, whole.round())
        found[f"qwen {width}x{height}"] = pixel_sample(whole.astype(np.uint8))
        found[f"qwen {width}x{height} sides"] = np.array(whole.shape[:2])
    np.savez_compressed(OUT / "dynamic_pictures.npz", **found)


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    record_pictures()
    for name in sys.argv[1:] or MODELS:
        record_model(name)
