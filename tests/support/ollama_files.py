"""Files with text and encoder in one, as Ollama's converter wrote them: the tiny models that see, whose tensors get the
names that its replacements give to those of Hugging Face."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hf_pictures import files_of, tensors_of, weights_of
from llamaq.convert.images import IMAGES
from llamaq.formats import encode, format_by_name
from llamaq.gguf import GGUFFile, TensorData, write_gguf
from llamaq.gguf.types import ValueType
from vision_cases import ids_of

__all__ = ["MERGED", "merged_file"]

Weights = dict[str, NDArray[np.float32]]
Pairs = list[tuple[str, str]]

_BLOCKS: Pairs = [
    ("input_layernorm", "attn_norm"), ("post_attention_layernorm", "ffn_norm"), ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"), ("self_attn.v_proj", "attn_v"), ("self_attn.o_proj", "attn_output"),
    ("self_attn.out_proj", "attn_output"), ("mlp.gate_proj", "ffn_gate"), ("mlp.down_proj", "ffn_down"),
    ("mlp.up_proj", "ffn_up"),
]  # fmt: skip
_QWEN: Pairs = [*_BLOCKS, ("visual", "v"), ("blocks", "blk")]
REPLACEMENTS: dict[str, Pairs] = {
    "gemma3v": [
        ("vision_tower.embeddings", "v"), ("vision_tower", "v"), ("encoder.layers", "blk"), *_BLOCKS,
        ("input_projection_weight", "input_projection.weight"), ("multi_modal_projector", "mm"),
    ],
    "llama4": [
        ("model.layers", "blk"), *_BLOCKS, ("vision_model", "v"), ("multi_modal_projector", "mm"),
        ("patch_embedding.linear", "patch_embedding"),
    ],
    "mistral3": [
        ("transformer.layers", "blk"), ("vision_tower", "v"), ("ln_pre", "encoder_norm"),
        ("attention.q_proj", "attn_q"), ("attention.k_proj", "attn_k"), ("attention.v_proj", "attn_v"),
        ("attention.o_proj", "attn_output"),
        ("attention_norm", "attn_norm"), ("feed_forward.gate_proj", "ffn_gate"),
        ("feed_forward.down_proj", "ffn_down"), ("feed_forward.up_proj", "ffn_up"), ("multi_modal_projector", "mm"),
    ],
    "qwen25vl": [*_QWEN, ("attn.proj", "attn_out"), ("norm1", "ln1"), ("norm2", "ln2")],
    "qwen3vl": [
        *_QWEN, ("patch_embed.proj", "patch_embed"), ("attn.qkv", "attn_qkv"), ("attn.proj", "attn_out"),
        ("deepstack_merger_list", "deepstack_merger"),
    ],
}  # fmt: skip
REPLACEMENTS["qwen35"] = REPLACEMENTS["qwen3vl"]


def _renamed(name: str, pairs: Pairs) -> str:
    """At each place the first that fits is replaced."""
    return re.sub("|".join(re.escape(old) for old, _ in pairs), lambda found: dict(pairs)[found[0]], name)


def _thirds(weights: Weights, old: str) -> Weights:
    found: Weights = {}
    for name, x in weights.items():
        if old in name:
            found |= {name.replace(old, f"attn_{p}"): part for p, part in zip("qkv", np.split(x, 3), strict=True)}
        else:
            found[name] = x
    return found


def _qwen25(weights: Weights) -> Weights:
    kernel = weights.pop("v.patch_embed.proj.weight")
    frames = {f"v.patch_embd_{i}.weight": kernel[:, :, i] for i in range(2)}
    return {**_thirds(weights, "attn.qkv"), **frames}


def _qwen3(weights: Weights) -> Weights:
    name = "v.patch_embed.weight"
    return {**_thirds(weights, "attn_qkv"), name: weights[name].reshape(-1, *weights[name].shape[2:])}


def _gemma3(weights: Weights) -> Weights:
    return {name: x + 1 if name == "mm.mm_soft_emb_norm.weight" else x for name, x in weights.items()}


def _gemma4(name: str) -> Weights:
    """Its tensors have the names of projector files, but bounds stand in one."""
    tensors = tensors_of(files_of(name)[1])
    bounds = {key: x for key, x in tensors.items() if key.endswith(("_min", "_max"))}
    found = {key: x for key, x in tensors.items() if key not in bounds}
    matrices = ("attn_q", "attn_k", "attn_v", "attn_out", "ffn_gate", "ffn_up", "ffn_down")
    names = [*(f"v.blk.{i}.{matrix}" for i in range(3) for matrix in matrices), "mm.input_projection"]
    ends = ("input_min", "input_max", "output_min", "output_max")
    numbers = [bounds.get(f"{name}.{end}", np.zeros(1)).item() for name in names for end in ends]
    return found | ({"v.clamp_data": np.array(numbers, np.float32)} if bounds else {})


AFTER: dict[str, Callable[[Weights], Weights]] = {
    "gemma3v": _gemma3, "qwen25vl": _qwen25, "qwen3vl": _qwen3, "qwen35": _qwen3,
}  # fmt: skip
ARCHITECTURES = {"qwen25vl": "qwen25vl"}
"""Those that have another name there."""
LEFT_OUT: dict[str, set[str]] = {
    "gemma3v": {"projector.scale_factor", "projection_dim", "image_mean", "image_std"},
    "gemma4e": {"image_size", "projection_dim", "image_mean", "image_std", "image_max_pixels"},
    "llama4": {"projector.scale_factor", "projection_dim", "image_mean", "image_std", "attention.layer_norm_epsilon"},
    "mistral3": {"projection_dim", "spatial_merge_size", "attention.layer_norm_epsilon"},
    "qwen25vl": {"projection_dim", "image_size", "n_wa_pattern", "feed_forward_length"},
    "qwen3vl": {"projection_dim", "image_size", "is_deepstack_layers", "image_min_pixels", "image_max_pixels"},
}
LEFT_OUT |= {"gemma4l": LEFT_OUT["gemma4e"], "qwen35": LEFT_OUT["qwen3vl"]}
_PIXELS = {"vision.shortest_edge": 16 * 16 * 4, "vision.longest_edge": 96 * 96}
ADDED: dict[str, Mapping[str, Any]] = {
    "gemma3v": {"mm.tokens_per_image": 4},
    "llama4": {"vision.layer_norm_epsilon": 1e-5, "vision.pixel_shuffle_ratio": 0.5},
    "mistral3": {"spatial_merge_size": 2},
    "qwen25vl": {"vision.fullatt_block_indexes": [1], "rope.dimension_sections": None, "rope.mrope_section": [3, 3, 2]},
    "qwen3vl": {
        "vision.deepstack_visual_indexes": [0, 2], **_PIXELS, "rope.dimension_sections": None,
        "rope.mrope_section": [8, 4, 4], "n_deepstack_layers": None,
    },
    "qwen35": {"vision.deepstack_visual_indexes": [], **_PIXELS},
    "gemma4e": {"vision.projector.scale_factor": 3},
    "gemma4l": {"vision.projector.scale_factor": 3},
}  # fmt: skip
MERGED = [*LEFT_OUT]


def merged_file(name: str, path: Path, **changes: Any) -> Path:
    """Writes the file; ``changes`` are keys without the architecture before them, None where they are left out."""
    model, projector = files_of(name)
    with GGUFFile.open(projector) as file:
        its = {k.removeprefix("clip.vision."): v for k, v in file.metadata.items() if k.startswith("clip.vision.")}
    with GGUFFile.open(model) as file:
        old = str(file.metadata["general.architecture"])
        architecture = ARCHITECTURES.get(name, old)
        own = {key: value for key, value in its.items() if key not in LEFT_OUT[name] and key != "projector_type"}
        added = {f"vision.{key}": value for key, value in own.items()} | dict(ADDED[name]) | changes
        metadata: dict[str, Any] = {
            key.replace(f"{old}.", f"{architecture}.", 1): value for key, value in file.metadata.items()
        }
        metadata |= {"general.architecture": architecture} | {f"{architecture}.{k}": v for k, v in added.items()}
        if name == "mistral3":
            texts = metadata["tokenizer.ggml.tokens"].tolist()
            texts[ids_of("[IMG_BREAK]")[0]] = "[IMG_BREAK]"
            metadata["tokenizer.ggml.tokens"] = texts
        if name == "gemma3v":  # one for pictures, which has no row in the table
            for key, more in (("tokens", "<image_soft_token>"), ("token_type", 3)):
                metadata[f"tokenizer.ggml.{key}"] = [*metadata[f"tokenizer.ggml.{key}"].tolist(), more]
        types = {k.replace(f"{old}.", f"{architecture}.", 1): kind for k, kind in file.metadata_types.items()}
        types |= {f"{architecture}.{key}": ValueType.INT32 for key, value in added.items() if isinstance(value, list)}
        metadata = {key: value for key, value in metadata.items() if value is not None}
        tensors = [TensorData(n, info.format, info.shape, file.data(n)) for n, info in file.tensors.items()]
        types = {key: kind for key, kind in types.items() if key in metadata}
        write_gguf(path, metadata, [*tensors, *_seeing(name)], types=types)
    return path


def _seeing(name: str) -> list[TensorData]:
    if name.startswith("gemma4"):
        found = _gemma4(name)
    else:
        of_images = {key.removeprefix("model."): x for key, x in weights_of(name).items() if IMAGES.match(key)}
        found = {_renamed(key, REPLACEMENTS[name]): x for key, x in of_images.items()}
        found = AFTER[name](found) if name in AFTER else found
    f32 = format_by_name("F32")
    return [TensorData(key, f32, x.shape, encode(f32, np.ascontiguousarray(x))) for key, x in found.items()]
