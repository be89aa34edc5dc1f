"""Records what transformers makes of the tiny models with projectors, and of pictures of many shapes.

    PYTHONPATH=src LLAMAQ_SHARED=SHARED python tests/vision/record_transformers.py

needs torch and transformers, and writes tests/data/vision. Log-probabilities are kept for some ids of each
position, and colours for some pixels of each tile, so that the files stay small.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch
import transformers

sys.path.append(str(Path(__file__).parents[1] / "support"))

from hf_pictures import weights_of
from vision_cases import EMBEDDED, KEPT, PIXELS, SHAPES, SIZE, picture, prompt

OUT = Path(__file__).parents[1] / "data" / "vision"
VISION = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 64,
    "patch_size": 8,
}  # fmt: skip
TEXT = {
    "vocab_size": 2048, "hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4, "num_key_value_heads": 2,
    "max_position_embeddings": 256, "rms_norm_eps": 1e-5, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
    "attn_implementation": "eager",
}  # fmt: skip
IMAGE_TOKEN = 2040


def model_of(name: str) -> Any:
    if name == "gemma3v":
        text = TEXT | {
            "num_hidden_layers": 6, "head_dim": 32, "query_pre_attn_scalar": 32, "sliding_window": 256,
            "layer_types": ["sliding_attention"] * 5 + ["full_attention"],
            "rope_parameters": {
                "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
                "full_attention": {"rope_type": "default", "rope_theta": 1000000.0},
            },
        }  # fmt: skip
        config = transformers.Gemma3Config(
            text_config=text, vision_config=VISION, mm_tokens_per_image=4, image_token_index=IMAGE_TOKEN
        )
        return transformers.Gemma3ForConditionalGeneration(config)
    text = TEXT | {"num_hidden_layers": 4, "head_dim": 16, "model_type": "llama", "rope_theta": 10000.0,
                   "tie_word_embeddings": False}  # fmt: skip
    config = transformers.SmolVLMConfig(
        text_config=text, vision_config=VISION, scale_factor=2, image_token_id=IMAGE_TOKEN, tie_word_embeddings=False
    )
    return transformers.SmolVLMForConditionalGeneration(config)


def load(name: str, model: Any, weights: dict[str, Any]) -> None:
    theirs = model.state_dict()
    found = {key: torch.tensor(x) for key, x in weights.items()}
    result = model.load_state_dict({k: x.reshape(theirs[k].shape) if k in theirs else x for k, x in found.items()},
                                   strict=False)  # fmt: skip
    print(name, "not loaded:", result.missing_keys, "not there:", result.unexpected_keys)


def logits_of(model: Any, ids: list[int], pixels: Any, gemma: bool) -> Any:
    row = torch.tensor([ids])
    more = {"token_type_ids": (row == IMAGE_TOKEN).long()} if gemma else {}
    if pixels is None:
        more = {"token_type_ids": torch.zeros_like(row)} if gemma else {}
        return model(input_ids=row, **more).logits[0]
    return model(input_ids=row, pixel_values=pixels, **more).logits[0]


def record_models() -> None:
    torch.set_grad_enabled(False)
    for name in EMBEDDED:
        model = model_of(name).eval().float()
        load(name, model, weights_of(name))
        np.savez_compressed(OUT / f"{name}.npz", **made_by(name, model))


def made_by(name: str, model: Any) -> dict[str, Any]:
    """What a model makes of the pictures: their rows, and log-probabilities of prompts with them and without."""
    gemma, rows = name == "gemma3v", EMBEDDED[name]
    before, after = prompt()
    found = {}
    for which in range(2):
        x = torch.tensor(picture(64, 64, which).astype(np.float32) / 255 * 2 - 1).permute(2, 0, 1)[None]
        x = x if gemma else x[None]
        ids = [*before, *[IMAGE_TOKEN] * rows, *after]
        logits = torch.log_softmax(logits_of(model, ids, x, gemma).double(), -1).numpy()
        features = model.model.get_image_features(x)
        features = getattr(features, "pooler_output", features)
        features = features[0] if isinstance(features, list | tuple) else features
        found[f"rows{which}"] = features.reshape(rows, 64).float().numpy()
        found[f"logprobs{which}"] = logits[:, KEPT].astype(np.float32)
    text = torch.log_softmax(logits_of(model, [*before, *after], None, gemma).double(), -1).numpy()
    found["text"] = text[:, KEPT].astype(np.float32)
    return found


def record_pictures() -> None:
    """Colours of some pixels of each tile, uint8 (tiles, pixels, 3), by the kind of projector and the shape."""
    as_they_are = {"do_rescale": False, "do_normalize": False, "return_tensors": "np"}
    gemma = transformers.Gemma3ImageProcessorPil(size={"height": SIZE, "width": SIZE})
    smol = transformers.SmolVLMImageProcessorPil(
        size={"longest_edge": 2 * SIZE}, max_image_size={"longest_edge": SIZE}, do_pad=False
    )
    found = {}
    for width, height in SHAPES:
        image = PIL.Image.fromarray(picture(width, height))
        for name, processor in (("gemma3", gemma), ("idefics3", smol)):
            tiles = np.asarray(processor(image, **as_they_are)["pixel_values"])
            tiles = tiles.reshape(-1, 3, SIZE, SIZE).transpose(0, 2, 3, 1)
            assert np.array_equal(tiles, tiles.round())
            found[f"{name} {width}x{height}"] = tiles[:, PIXELS[:, 0], PIXELS[:, 1]].astype(np.uint8)
    np.savez_compressed(OUT / "pictures.npz", **found)


if __name__ == "__main__":
    OUT.mkdir(exist_ok=True)
    record_pictures()
    record_models()
