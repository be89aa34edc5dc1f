"""Records what transformers makes of the tiny models of ``tiny_towers.py``, and of pictures of many shapes for them.

    PYTHONPATH=src LLAMAQ_SHARED=SHARED python tests/vision/record_towers.py [NAME ...]

needs torch and transformers, and writes tests/data/vision.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import PIL.Image
import torch
import transformers

sys.path.append(str(Path(__file__).parents[1] / "support"))

from record_transformers import IMAGE_TOKEN, OUT, TEXT, load  # type: ignore[import-not-found]

from hf_pictures import weights_of
from llamaq.gguf import GGUFFile
from tiny_towers import CANVASES, COLUMNS, FEED_FORWARD, HEADS, LAYERS, PATCH, TOWERS, WIDTH, tower
from vision_cases import KEPT, PIXELS, SEEN, SHAPES, SIZE, ids_of, picture, pixel_sample, prompt_with

Recorded = tuple[Any, dict[str, Any], str]
"""Rows of a picture, what the model reads of it, and what stands in its place, with a zero byte for each row."""
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
    with GGUFFile.open(tower(name)[0]) as file:
        pattern: Any = file.metadata["gemma4.attention.sliding_window_pattern"]
    return ["sliding_attention" if window else "full_attention" for window in pattern]


def gemma4_processor(rows: int) -> Any:
    module = transformers.models.gemma4.image_processing_pil_gemma4
    module._SUPPORTED_SOFT_TOKENS = (rows,)
    return module.Gemma4ImageProcessorPil(patch_size=PATCH, max_soft_tokens=rows, pooling_kernel_size=3)


def gemma4_read(model: Any, image: Any) -> Recorded:
    read = gemma4_processor(16)([image], return_tensors="pt")
    more = {key: read[key] for key in ("pixel_values", "image_position_ids")}
    rows = model.model.get_image_features(*more.values()).pooler_output[0]
    return rows, more, f"<|image>{chr(0) * len(rows)}<image|>"


def gemma4_pictures(image: Any) -> dict[str, Any]:
    read = gemma4_processor(70)([image], do_rescale=False, return_tensors="np")
    columns, rows = (read["image_position_ids"][0].max(0) + 1).tolist()
    x = read["pixel_values"][0][: rows * columns].reshape(rows, columns, PATCH, PATCH, 3)
    return whole_picture(x.transpose(0, 2, 1, 3, 4).reshape(rows * PATCH, columns * PATCH, 3))


# Llama 4


def llama4(name: str) -> Any:
    text = TEXT | {
        "num_hidden_layers": 4, "head_dim": 16, "intermediate_size": 80, "intermediate_size_mlp": 96,
        "num_local_experts": 16, "num_experts_per_tok": 1, "interleave_moe_layer_step": 2, "tie_word_embeddings": False,
        "use_qk_norm": True, "rope_parameters": {"rope_type": "default", "rope_theta": 500000.0},
    }  # fmt: skip
    vision = VISION | {
        "image_size": 32, "intermediate_size": 4 * WIDTH, "projector_input_dim": 40,
        "projector_output_dim": 40, "vision_output_dim": 40,
        "attn_implementation": "eager", "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
    }  # fmt: skip
    # transformers 5.24 asks its language model's result for this.
    modeling = transformers.models.llama4.modeling_llama4
    modeling.MoeCausalLMOutputWithPast.image_outputs = None
    config = transformers.Llama4Config(text_config=text, vision_config=vision, image_token_index=IMAGE_TOKEN)
    return transformers.Llama4ForConditionalGeneration(config)


def llama4_read(model: Any, image: Any) -> Recorded:
    processor = transformers.Llama4ImageProcessor(size={"height": 32, "width": 32})
    read = processor([image], do_rescale=False, do_normalize=False, return_tensors="pt")
    colours = read["pixel_values"].float()
    if len(colours) > 1:  # torchvision scales within a grey level of Pillow, which moves rows by 3e-4
        colours[-1] = torch.tensor(np.asarray(image.resize((32, 32), 2), np.float32)).permute(2, 0, 1)
    # The processor rounds to bfloat16 what it makes of colours.
    pixels = (colours / 255 - 0.5) / 0.5
    features = model.get_image_features(pixels, return_dict=True).last_hidden_state
    rows = model.multi_modal_projector(features.reshape(-1, features.shape[-1]))
    processing = transformers.models.llama4.processing_llama4.Llama4Processor
    text = processing._prompt_split_image(None, read["aspect_ratios"][0].tolist(), 4)
    return rows, {"pixel_values": pixels}, text.replace("<|patch|>", "\0")


def llama4_pictures(image: Any) -> dict[str, Any]:
    processor = transformers.Llama4ImageProcessor(size={"height": SIZE, "width": SIZE})
    read = processor([image], do_rescale=False, do_normalize=False, return_tensors="np")
    tiles = np.asarray(read["pixel_values"]).transpose(0, 2, 3, 1)
    assert np.array_equal(tiles, tiles.round())
    processing = transformers.models.llama4.processing_llama4.Llama4Processor
    text = processing._prompt_split_image(None, np.asarray(read["aspect_ratios"])[0].tolist(), 1)
    colours = tiles[:, PIXELS[:, 0], PIXELS[:, 1]].astype(np.uint8)
    return {"": colours, " text": np.array(text.replace("<|patch|>", "#"))}


# LLaVA 1.5


def llava(name: str) -> Any:
    rope = {"rope_type": "default", "rope_theta": 10000.0}
    text = TEXT | {"num_hidden_layers": 4, "head_dim": 16, "rope_parameters": rope, "tie_word_embeddings": False}
    vision = VISION | {
        "model_type": "clip_vision_model", "image_size": 32, "num_hidden_layers": LAYERS + 1, "projection_dim": 24,
        "attn_implementation": "eager",
    }  # fmt: skip
    config = transformers.LlavaConfig(
        text_config=text, vision_config=vision, image_token_index=IMAGE_TOKEN, image_seq_length=16,
        tie_word_embeddings=False,
    )  # fmt: skip
    return transformers.LlavaForConditionalGeneration(config)


def llava_processor(size: int, *, pad: bool) -> Any:
    return transformers.LlavaImageProcessorPil(
        size={"shortest_edge": size}, crop_size={"height": size, "width": size}, do_pad=pad
    )


def llava_read(model: Any, image: Any) -> Recorded:
    pixels = llava_processor(32, pad=True)([image], return_tensors="pt")["pixel_values"]
    found = model.model.get_image_features(pixels, vision_feature_layer=-2, vision_feature_select_strategy="default")
    rows = found.pooler_output[0]
    return rows, {"pixel_values": pixels}, chr(0) * len(rows)


def llava_pictures(image: Any) -> dict[str, Any]:
    found = {}
    for way, pad in (("", True), (" cropped", False)):
        processor = llava_processor(SIZE, pad=pad)
        read = processor([image], do_rescale=False, do_normalize=False, return_tensors="np")
        found[way] = whole_picture(np.asarray(read["pixel_values"])[0].transpose(1, 2, 0))[""]
    return found


# LLaVA 1.6, and Granite Vision


def llava_next(name: str) -> Any:
    text = TEXT | {"num_hidden_layers": 4, "head_dim": 16, "tie_word_embeddings": False,
                   "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}}  # fmt: skip
    vision = VISION | {
        "model_type": "clip_vision_model", "image_size": 32, "num_hidden_layers": LAYERS + 1, "projection_dim": 24,
        "attn_implementation": "eager",
    }  # fmt: skip
    more: dict[str, Any] = {"vision_feature_layer": -2, "vision_feature_select_strategy": "default"}
    if name == "granitev":
        text |= granite_text(name)
        vision = VISION | {"model_type": "siglip_vision_model", "image_size": 36, "vision_use_head": False,
                           "attn_implementation": "eager"}  # fmt: skip
        more = {"vision_feature_layer": [1, -1], "vision_feature_select_strategy": "full"}
    config = transformers.LlavaNextConfig(
        text_config=text, vision_config=vision, image_token_index=IMAGE_TOKEN, tie_word_embeddings=False,
        image_grid_pinpoints=canvases_of(name), **more,
    )  # fmt: skip
    return transformers.LlavaNextForConditionalGeneration(config)


def granite_text(name: str) -> dict[str, Any]:
    with GGUFFile.open(tower(name)[0]) as file:
        keys: dict[str, Any] = {key.removeprefix("granite."): value for key, value in file.metadata.items()}
    names = {"attention_multiplier": "attention.scale", "embedding_multiplier": "embedding_scale",
             "residual_multiplier": "residual_scale", "logits_scaling": "logit_scale",
             "num_hidden_layers": "block_count"}  # fmt: skip
    return {"model_type": "granite", **{there: keys[ours] for there, ours in names.items()}}


def canvases_of(name: str) -> list[list[int]]:
    flat = TOWERS[name].keys["image_grid_pinpoints"]
    return [list(pair) for pair in zip(flat[::2], flat[1::2], strict=True)]


def llava_next_processor(size: int, canvases: list[list[int]], **more: Any) -> Any:
    return transformers.LlavaNextImageProcessorPil(
        size={"shortest_edge": size}, crop_size={"height": size, "width": size}, image_grid_pinpoints=canvases, **more
    )


def processor_of(name: str) -> Any:
    keys = TOWERS[name].keys
    return llava_next_processor(
        keys["image_size"], canvases_of(name), image_mean=keys["image_mean"], image_std=keys["image_std"]
    )


def llava_next_read(name: str) -> Callable[[Any, Any], Recorded]:
    def read(model: Any, image: Any) -> Recorded:
        found = processor_of(name)([image], return_tensors="pt")
        more = {"pixel_values": found["pixel_values"], "image_sizes": torch.tensor(np.asarray(found["image_sizes"]))}
        rows = model.model.get_image_features(**more).pooler_output[0]
        return rows, more, chr(0) * len(rows)

    return read


def llava_next_pictures(image: Any) -> dict[str, Any]:
    """Colours of tiles, the whole picture's before them, and in which order their rows stand (-1: a line's end)."""
    canvases = [[SIZE * n for n in each] for each in CANVASES]
    processor = llava_next_processor(SIZE, canvases)
    read = processor([image], do_rescale=False, do_normalize=False, return_tensors="np")
    tiles = np.asarray(read["pixel_values"])[0].transpose(0, 2, 3, 1)
    assert np.array_equal(tiles, tiles.round())
    vision = SimpleNamespace(image_size=SIZE, patch_size=PATCH)
    model = SimpleNamespace(config=SimpleNamespace(vision_config=vision, image_grid_pinpoints=canvases))
    rows = torch.arange(len(tiles) * 64).reshape(len(tiles), 64, 1)
    (order,), _ = transformers.LlavaNextModel.pack_image_features(
        model, [rows], torch.tensor(np.asarray(read["image_sizes"])), "default", image_newline=torch.tensor([-1])
    )
    colours = tiles[:, PIXELS[:, 0], PIXELS[:, 1]].astype(np.uint8)
    return {"": colours, " order": order[:, 0].numpy().astype(np.int16)}


# Ministral 3 and Pixtral 12B


PIXTRAL = VISION | {
    "model_type": "pixtral", "image_size": 96, "hidden_act": "silu", "attn_implementation": "eager",
}  # fmt: skip


def mistral3(name: str) -> Any:
    rope = {
        "rope_type": "yarn", "rope_theta": 1e6, "factor": 4.0, "original_max_position_embeddings": 64,
        "beta_fast": 32.0, "beta_slow": 1.0, "mscale_all_dim": 1.0, "mscale": 1.0, "llama_4_scaling_beta": 0.1,
        "max_position_embeddings": 256,
    }  # fmt: skip
    text = TEXT | {"model_type": "ministral3", "num_hidden_layers": 4, "head_dim": 32, "rope_parameters": rope,
                   "tie_word_embeddings": False}  # fmt: skip
    config = transformers.Mistral3Config(
        text_config=text, vision_config=PIXTRAL, image_token_index=IMAGE_TOKEN, spatial_merge_size=2,
        projector_hidden_act="gelu", multimodal_projector_bias=False, tie_word_embeddings=False,
    )  # fmt: skip
    return transformers.Mistral3ForConditionalGeneration(config)


def pixtral(name: str) -> Any:
    text = TEXT | {"model_type": "mistral", "num_hidden_layers": 4, "head_dim": 16, "sliding_window": None,
                   "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
                   "tie_word_embeddings": False}  # fmt: skip
    config = transformers.LlavaConfig(
        text_config=text, vision_config=PIXTRAL, image_token_index=IMAGE_TOKEN, vision_feature_layer=-1,
        vision_feature_select_strategy="full", tie_word_embeddings=False,
    )  # fmt: skip
    return transformers.LlavaForConditionalGeneration(config)


def pixtral_processor(side: int) -> Any:
    """Of so many pixels along the side of a row's patches."""
    return transformers.PixtralImageProcessorPil(
        size={"longest_edge": 96}, patch_size={"height": side, "width": side}, image_mean=[0.5, 0.4, 0.6],
        image_std=[0.5, 0.6, 0.4],
    )  # fmt: skip


def pixtral_read(side: int) -> Callable[[Any, Any], Recorded]:
    def read(model: Any, image: Any) -> Recorded:
        found = pixtral_processor(side)([image], return_tensors="pt")
        more = {"pixel_values": found["pixel_values"], "image_sizes": torch.tensor(np.asarray(found["image_sizes"]))}
        features = model.model.get_image_features(**more, vision_feature_layer=-1).pooler_output[0]
        height, width = (int(pixels) // side for pixels in more["image_sizes"][0])
        divides = model.get_input_embeddings().weight[ids_of("[IMG_BREAK]")].expand(height, 1, -1)
        rows = torch.cat([features.reshape(height, width, -1), divides], 1).reshape(-1, COLUMNS)[:-1]
        return rows, more, "[IMG_BREAK]".join([chr(0) * width] * height) + "[IMG_END]"

    return read


def pixtral_pictures(image: Any) -> dict[str, Any]:
    if max(image.size) > 96 * min(image.size):
        return {}
    read = pixtral_processor(16)([image], do_rescale=False, do_normalize=False, return_tensors="np")
    return whole_picture(np.asarray(read["pixel_values"])[0].transpose(1, 2, 0))


# What all have


def whole_picture(x: Any) -> dict[str, Any]:
    assert np.array_equal(x, x.round())
    return {"": pixel_sample(x.astype(np.uint8)), " sides": np.array(x.shape[:2])}


MODELS: dict[str, tuple[Callable[[str], Any], Callable[[Any, Any], Recorded]]] = {
    "gemma4e": (gemma4, gemma4_read),
    "gemma4l": (gemma4, gemma4_read),
    "llama4": (llama4, llama4_read),
    "llava": (llava, llava_read),
    "llavanext": (llava_next, llava_next_read("llavanext")),
    "granitev": (llava_next, llava_next_read("granitev")),
    "mistral3": (mistral3, pixtral_read(16)),
    "pixtral12": (pixtral, pixtral_read(8)),
}
PICTURES: dict[str, Callable[[Any], dict[str, Any]]] = {
    "gemma4": gemma4_pictures,
    "llama4p": llama4_pictures,
    "llavap": llava_pictures,
    "llavanextp": llava_next_pictures,
    "pixtral": pixtral_pictures,
}


def record_model(name: str) -> None:
    model = MODELS[name][0](name).eval().float()
    load(name, model, weights_of(name))
    np.savez_compressed(OUT / f"{name}.npz", **made_by(name, model))


def made_by(name: str, model: Any) -> dict[str, Any]:
    """What a model makes of the pictures: their rows, and log-probabilities of prompts with them."""
    _, read = MODELS[name]
    found = {}
    for which, shapes in enumerate(SEEN):
        seen = [read(model, PIL.Image.fromarray(picture(*shape, which))) for shape in shapes]
        for i, (rows, _, _) in enumerate(seen):
            found[f"rows{which}-{i}"] = rows.float().numpy()
        ids = torch.tensor([prompt_with([tokens_of(text) for _, _, text in seen])])
        more = {key: joined([more[key] for _, more, _ in seen]) for key in seen[0][1]}
        if name.startswith("gemma4"):
            more["mm_token_type_ids"] = (ids == IMAGE_TOKEN).int()
        # transformers 5.24 leaves out what Granite divides logits by, where another class than its own has the head.
        divisor = getattr(model.config.text_config, "logits_scaling", 1.0)
        logits = model(input_ids=ids, **more).logits[0] / divisor
        found[f"logprobs{which}"] = torch.log_softmax(logits.double(), -1).numpy()[:, KEPT].astype(np.float32)
    return found


def joined(several: list[Any]) -> Any:
    """What the model reads of several pictures, with nothing where others are larger."""
    sides = [max(x.shape[i] for x in several) for i in range(1, several[0].ndim)]
    filled = [
        [n for side, had in zip(sides[::-1], x.shape[:0:-1], strict=True) for n in (0, side - had)] for x in several
    ]
    return torch.cat([torch.nn.functional.pad(x, more) for x, more in zip(several, filled, strict=True)])


def tokens_of(text: str) -> list[int]:
    """Ids of what stands in a picture's place."""
    parts = re.split("(\0+)", text)
    return [id for part in parts if part for id in ([IMAGE_TOKEN] * len(part) if part[0] == "\0" else ids_of(part))]


def record_pictures(name: str) -> None:
    found: dict[str, Any] = {}
    for width, height in SHAPES:
        made = PICTURES[name](PIL.Image.fromarray(picture(width, height)))
        found |= {f"{width}x{height}{key}": value for key, value in made.items()}
    np.savez_compressed(OUT / f"{name.removesuffix('p')}_pictures.npz", **found)


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    for name in sys.argv[1:] or [*PICTURES, *MODELS]:
        (record_pictures if name in PICTURES else record_model)(name)
