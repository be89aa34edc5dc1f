"""Folders of Hugging Face's kind with the weights of the tiny models that see: their tensors under the names, and in
the order, that transformers has (``vision/record_folders.py`` records that it saves the same).

A model is that of a GGUF file and its projector (``tiny_towers.py``, ``tiny_vision.py``, the shared material).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from hf_llama import LETTERS
from llamaq.formats import decode
from llamaq.gguf import GGUFFile
from shared_files import shared_path
from tiny_towers import HEADS, LAYERS, TOWERS, tower
from tiny_vision import DEEP, SEEING, seeing
from vision_cases import DATA, EMBEDDED, ids_of

__all__ = [
    "NAMES", "SAVED", "files_of", "folder_of", "recorded_folders", "saved_weights", "tensors_of", "tokenizer_of",
    "weights_of",
]  # fmt: skip

Weights = dict[str, NDArray[np.float32]]
NAMES = [*EMBEDDED, *SEEING, *TOWERS]


def recorded_folders() -> dict[str, dict[str, Any]]:
    """By name: config.json, the processor's file, and the CRC-32 of each tensor as transformers saves them."""
    found: dict[str, dict[str, Any]] = json.loads((DATA / "folders.json").read_text(encoding="utf-8"))
    return found


def files_of(name: str) -> tuple[Path, Path]:
    """The files of a language model and its projector."""
    if name in EMBEDDED:
        return shared_path(f"tiny-models/{name}.gguf"), shared_path(f"tiny-models/{name}-mmproj.gguf")
    return tower(name) if name in TOWERS else seeing(name)


def tensors_of(path: Path) -> Weights:
    """All tensors of a file as floats."""
    with GGUFFile.open(path) as file:
        return {n: decode(t.format, file.data(n)).reshape(t.shape).copy() for n, t in file.tensors.items()}


def folder_of(name: str, folder: Path, **changes: Any) -> Path:
    """Makes the folder; ``changes`` are entries of config.json."""
    folder.mkdir(exist_ok=True)
    entry = recorded_folders()[name]
    files = {
        "config": entry["config"] | changes,
        "preprocessor_config": entry["processor"],
        "tokenizer": tokenizer_of(name),
    }
    for stem, content in files.items():
        (folder / f"{stem}.json").write_text(json.dumps(content), encoding="utf-8")
    save_file(saved_weights(name), folder / "model.safetensors")
    return folder


def tokenizer_of(name: str) -> dict[str, Any]:
    """tokenizer.json: a vocabulary of letters, with the token that is to be found there."""
    added = []
    if TOWERS.get(name) and TOWERS[name].kind == "pixtral":
        added = [{"id": ids_of("[IMG_BREAK]")[0], "content": "[IMG_BREAK]", "special": True}]
    return LETTERS | {"added_tokens": added}


SAVED = {
    "gemma3v": {"model.vision_tower.": "vision_tower.", "model.multi_modal": "multi_modal",
                "model.language_model.": "language_model.model."},
    "qwen25vl": {"model.visual.": "visual.", "model.language_model.": "model."},
    "mistral3": {"model.vision_tower.": "vision_tower.", "model.multi_modal": "multi_modal",
                 "model.language_model.": "language_model.model.", "lm_head.": "language_model.lm_head."},
}  # fmt: skip
SAVED["llava"] = SAVED["pixtral12"] = SAVED["mistral3"]
SAVED["llavanext"] = SAVED["granitev"] = {**SAVED["llava"], "model.image_newline": "image_newline"}
"""How names begin in folders, of models whose modules have had other names since they were published."""


def saved_weights(name: str) -> Weights:
    """The tensors of a model by the names in folders."""
    begins = SAVED.get(name, {})

    def saved(key: str) -> str:
        return next((there + key[len(ours) :] for ours, there in begins.items() if key.startswith(ours)), key)

    return {saved(key): x for key, x in weights_of(name).items()}


def weights_of(name: str) -> Weights:
    """The tensors of a model by the names of transformers' modules."""
    text, seen = OF[name]
    model, projector = (tensors_of(path) for path in files_of(name))
    found = {**text(model), **seen(projector)}
    if name == "gemma4e":  # these have no bounds
        place = "model.vision_tower.encoder.layers.1.self_attn.o_proj."
        found |= {f"{place}{of}_{end}": np.array(x, np.float32) for of in ("input", "output")
                  for end, x in (("min", -np.inf), ("max", np.inf))}  # fmt: skip
    if name == "gemma4l":  # the file of the text has further inputs of layers, which are not read
        found = {key: x for key, x in found.items() if "per_layer" not in key}
    return {key: x.copy(order="C") for key, x in found.items()}


# Texts

TEXT_NAMES = {
    "token_embd": "embed_tokens", "output_norm": "norm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj", "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm", "attn_norm": "input_layernorm", "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj", "ffn_norm": "post_attention_layernorm",
    "post_attention_norm": "post_attention_layernorm", "post_ffw_norm": "post_feedforward_layernorm",
}  # fmt: skip
GEMMA_TEXT = TEXT_NAMES | {
    "ffn_norm": "pre_feedforward_layernorm", "per_layer_token_embd": "embed_tokens_per_layer",
    "per_layer_model_proj": "per_layer_model_projection", "per_layer_proj_norm": "per_layer_projection_norm",
    "inp_gate": "per_layer_input_gate", "proj": "per_layer_projection", "post_norm": "post_per_layer_input_norm",
    "layer_output_scale": "layer_scalar",
}  # fmt: skip
LLAMA4_TEXT = TEXT_NAMES | {
    **{f"ffn_{part}": f"feed_forward.{part}_proj" for part in ("gate", "up", "down")},
    **{f"ffn_{part}_shexp": f"feed_forward.shared_expert.{part}_proj" for part in ("gate", "up", "down")},
    "ffn_gate_inp": "feed_forward.router",
}  # fmt: skip


def halves(x: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """Rows of heads whose pairs stand side by side in files, as transformers has them."""
    return x.reshape(heads, -1, 2, x.shape[-1]).swapaxes(1, 2).reshape(x.shape)


def plain_text(
    place: str, names: dict[str, str] = TEXT_NAMES, change: Callable[[str, Any], Any] = lambda last, x: x
) -> Callable[[Weights], Weights]:
    """Tensors whose names begin with ``place``, changed by what they are."""

    def there(key: str) -> str:
        stem, _, kind = key.rpartition(".")
        parts = stem.split(".")
        if parts[-1] == "output":
            return "lm_head.weight"
        block = f"layers.{parts[1]}." if parts[0] == "blk" else ""
        last = names[parts[-1]]
        return f"{place}{block}{last}" + ("" if last == "layer_scalar" else f".{kind}")

    return lambda tensors: {
        there(key): change(key.split(".")[-2], x) for key, x in tensors.items() if not key.startswith("rope_freqs")
    }


def less_one(last: str, x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Files of Gemma 3 and Qwen 3.5 have weights of norms plus one."""
    return x - 1 if last.endswith("norm") else x


def llama4_text(tensors: Weights) -> Weights:
    found: Weights = {}
    for key, x in tensors.items():
        parts = key.split(".")
        if parts[-2] == "ffn_gate_exps":
            both = np.concatenate([x, tensors[key.replace("gate", "up")]], 1)
            name, x = "experts.gate_up_proj", both.transpose(0, 2, 1)
        elif parts[-2] == "ffn_down_exps":
            name, x = "experts.down_proj", x.transpose(0, 2, 1)
        elif parts[-2] == "ffn_up_exps":
            continue
        else:
            found |= plain_text("language_model.model.", LLAMA4_TEXT)({key: x})
            continue
        found[f"language_model.model.layers.{parts[1]}.feed_forward.{name}"] = x
    return {("language_model." * (key == "lm_head.weight")) + key: x for key, x in found.items()}


GROUPED = [0, 2, 1, 3]
"""Where transformers has each head of values of a delta net: those of a key head together."""
DELTA_NAMES = {
    "attn_qkv": "in_proj_qkv.weight", "attn_gate": "in_proj_z.weight", "ssm_beta": "in_proj_b.weight",
    "ssm_alpha": "in_proj_a.weight", "ssm_conv1d": "conv1d.weight", "ssm_dt": "dt_bias", "ssm_a": "A_log",
    "ssm_norm": "norm.weight", "ssm_out": "out_proj.weight",
}  # fmt: skip


def regrouped(x: NDArray[np.float32], last: str) -> NDArray[np.float32]:
    """A tensor of a delta net as transformers has it."""
    if last == "ssm_norm":
        return x
    if last == "ssm_out":
        return x.reshape(len(x), 4, -1)[:, GROUPED].reshape(x.shape)
    keys, values = (x[:64], x[64:]) if last in ("attn_qkv", "ssm_conv1d") else (x[:0], x)
    values = values.reshape(4, len(values) // 4, *values.shape[1:])[GROUPED].reshape(values.shape)
    whole = np.concatenate([keys, values])
    whole = np.log(-whole) if last == "ssm_a" else whole
    return whole[:, None] if last == "ssm_conv1d" else whole


def hybrid_text(tensors: Weights) -> Weights:
    """The text of Qwen 3.5, whose file has heads of values in another order."""
    place = "model.language_model."
    found: Weights = {}
    for key, x in tensors.items():
        parts = key.split(".")
        if parts[0] == "blk" and parts[2] in DELTA_NAMES:
            found[f"{place}layers.{parts[1]}.linear_attn.{DELTA_NAMES[parts[2]]}"] = regrouped(x, parts[2])
        else:
            found |= plain_text(place, change=less_one)({key: x})
    return found


# Encoders

CLIP = {
    "patch_embd": "embeddings.patch_embedding", "position_embd": "embeddings.position_embedding",
    "post_ln": "post_layernorm", "ln1": "layer_norm1", "ln2": "layer_norm2", "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_out": "self_attn.out_proj", "ffn_up": "mlp.fc1",
    "ffn_down": "mlp.fc2",
}  # fmt: skip
GEMMA4 = {
    "ln1": "input_layernorm", "ln2": "pre_feedforward_layernorm", "attn_post_norm": "post_attention_layernorm",
    "ffn_post_norm": "post_feedforward_layernorm", "attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm",
    **{f"attn_{part}": f"self_attn.{part}_proj.linear" for part in "qkv"}, "attn_out": "self_attn.o_proj.linear",
    **{f"ffn_{part}": f"mlp.{part}_proj.linear" for part in ("gate", "up", "down")},
}  # fmt: skip
LLAMA4 = {
    "ln1": "input_layernorm", "ln2": "post_attention_layernorm", "ffn_up": "mlp.fc1", "ffn_down": "mlp.fc2",
    **{f"attn_{part}": f"self_attn.{part}_proj" for part in "qkv"}, "attn_out": "self_attn.o_proj",
}  # fmt: skip
LLAMA4_OUTER = {
    "v.patch_embd.weight": "vision_model.patch_embedding.linear.weight", "v.class_embd": "vision_model.class_embedding",
    "v.position_embd.weight": "vision_model.positional_embedding_vlm",
    **{f"v.{part}_ln.{kind}": f"vision_model.layernorm_{part}.{kind}" for part in ("pre", "post")
       for kind in ("weight", "bias")},
    "mm.model.mlp.1.weight": "vision_model.vision_adapter.mlp.fc1.weight",
    "mm.model.mlp.2.weight": "vision_model.vision_adapter.mlp.fc2.weight",
    "mm.model.fc.weight": "multi_modal_projector.linear_1.weight",
}  # fmt: skip
PIXTRAL = {
    "ln1": "attention_norm", "ln2": "ffn_norm", **{f"attn_{part}": f"attention.{part}_proj" for part in "qkv"},
    "attn_out": "attention.o_proj", **{f"ffn_{part}": f"feed_forward.{part}_proj" for part in ("gate", "up", "down")},
}  # fmt: skip
PIXTRAL_OUTER = {
    "v.patch_embd": "vision_tower.patch_conv", "v.pre_ln": "vision_tower.ln_pre",
    "mm.input_norm": "multi_modal_projector.norm", "mm.1": "multi_modal_projector.linear_1",
    "mm.patch_merger": "multi_modal_projector.patch_merger.merging_layer", "mm.2": "multi_modal_projector.linear_2",
}  # fmt: skip


def siglip(place: str, outer: dict[str, str]) -> Callable[[Weights], Weights]:
    def there(key: str) -> str:
        stem, kind = key.rsplit(".", 1)
        parts = stem.split(".")
        layer = f"encoder.layers.{parts[2]}." if parts[1] == "blk" else ""
        return f"{place}{layer}{CLIP[parts[-1]]}.{kind}"

    return lambda tensors: {
        outer.get(key) or there(key): x - 1 if key == "mm.soft_emb_norm.weight" else x for key, x in tensors.items()
    }


LLAVA_OUTER = {
    "model.image_newline": "model.image_newline",
    "v.class_embd": "model.vision_tower.embeddings.class_embedding",
    **{f"v.pre_ln.{kind}": f"model.vision_tower.pre_layrnorm.{kind}" for kind in ("weight", "bias")},
    **{f"mm.{number}.{kind}": f"model.multi_modal_projector.linear_{1 + number // 2}.{kind}" for number in (0, 2)
       for kind in ("weight", "bias")},
}  # fmt: skip


def llava(tensors: Weights) -> Weights:
    """With a further layer and a norm behind it, which nothing reads."""
    found = siglip("model.vision_tower.", LLAVA_OUTER)(tensors)
    for key, x in [*found.items()]:
        found[key.replace("layers.0.", f"layers.{LAYERS}.").replace("pre_layrnorm", "post_layernorm")] = x
    return found


def siglip_alone(tensors: Weights) -> Weights:
    """With a norm behind the last layer, which nothing reads."""
    found = siglip("model.vision_tower.", LLAVA_OUTER)(tensors)
    for key, x in [*found.items()]:
        if "layers.0.layer_norm1" in key:
            found[key.replace("encoder.layers.0.layer_norm1", "post_layernorm")] = x
    return found


def gemma4(tensors: Weights) -> Weights:
    found = {}
    for key, x in tensors.items():
        parts = key.split(".")
        if key == "v.patch_embd.weight":
            found["model.vision_tower.patch_embedder.input_proj.weight"] = x.transpose(0, 2, 3, 1).reshape(len(x), -1)
        elif key == "v.position_embd.weight":
            found["model.vision_tower.patch_embedder.position_embedding_table"] = x
        elif parts[0] == "mm":
            found["model.embed_vision.embedding_projection.weight"] = x
        elif len(parts) == 2:
            found[f"model.vision_tower.{parts[1]}"] = x
        else:
            there = GEMMA4[parts[3]]
            there = there if parts[4] == "weight" else there.removesuffix(".linear")
            alone = parts[4] != "weight"
            found[f"model.vision_tower.encoder.layers.{parts[2]}.{there}.{parts[4]}"] = x.reshape(()) if alone else x
    return found


def llama4(tensors: Weights) -> Weights:
    found = {}
    for key, x in tensors.items():
        parts = key.split(".")
        there = LLAMA4_OUTER.get(key) or f"vision_model.model.layers.{parts[2]}.{LLAMA4[parts[3]]}.{parts[4]}"
        found[there] = x.reshape(len(x), -1) if key == "v.patch_embd.weight" else x
    return found


def pixtral(tensors: Weights) -> Weights:
    found = {}
    for key, x in tensors.items():
        stem, _, kind = key.rpartition(".")
        parts = stem.split(".")
        if kind == "img_break":
            continue
        x = halves(x, HEADS) if parts[-1] in ("attn_q", "attn_k") else x
        inner = f"vision_tower.transformer.layers.{parts[2]}.{PIXTRAL[parts[3]]}" if len(parts) == 4 else ""
        found[f"model.{inner or PIXTRAL_OUTER[stem]}.{kind}"] = x
    return found


def qwen(*, older: bool) -> Callable[[Weights], Weights]:
    """Of Qwen 2.5-VL (``older``), or of 3-VL and 3.5."""
    fixed = {"v.patch_embd": "patch_embed.proj", "v.position_embd": "pos_embed",
             "v.post_ln": "merger.ln_q" if older else "merger.norm",
             "mm.0": "merger.mlp.0" if older else "merger.linear_fc1",
             "mm.2": "merger.mlp.2" if older else "merger.linear_fc2"}  # fmt: skip
    blocks = {"ln1": "norm1", "ln2": "norm2", "attn_qkv": "attn.qkv", "attn_out": "attn.proj",
              "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj" if older else "mlp.linear_fc1",
              "ffn_down": "mlp.down_proj" if older else "mlp.linear_fc2"}  # fmt: skip

    def made(tensors: Weights) -> Weights:
        found: Weights = {}
        for key, x in tensors.items():
            stem, kind = key.rsplit(".", 1)
            parts = stem.split(".")
            if key == "v.patch_embd.weight":
                found["patch_embed.proj.weight"] = np.stack([x, tensors[f"{key}.1"]], 2)
            elif stem in fixed:
                found[f"{fixed[stem]}.{kind}"] = x
            elif parts[1] == "deepstack":
                there = {"norm": "norm", "fc1": "linear_fc1", "fc2": "linear_fc2"}[parts[3]]
                number = [i for i, deep in enumerate(DEEP) if deep].index(int(parts[2]))
                found[f"deepstack_merger_list.{number}.{there}.{kind}"] = x
            elif parts[-1] == "attn_q":
                whole = [tensors[f"{stem[:-1]}{part}.{kind}"] for part in "qkv"]
                found[f"blocks.{parts[2]}.attn.qkv.{kind}"] = np.concatenate(whole)
            elif parts[-1] not in ("attn_k", "attn_v", "weight"):
                found[f"blocks.{parts[2]}.{blocks[parts[3]]}.{kind}"] = x
        return {f"model.visual.{key}": x for key, x in found.items()}

    return made


def llama_pairs(length: int) -> Callable[[str, Any], Any]:
    """Heads of so many rows as transformers has them."""
    return lambda last, x: halves(x, len(x) // length) if last in ("attn_q", "attn_k") else x


GEMMA3_OUTER = {
    "mm.input_projection.weight": "model.multi_modal_projector.mm_input_projection_weight",
    "mm.soft_emb_norm.weight": "model.multi_modal_projector.mm_soft_emb_norm.weight",
}
SMOLVLM_OUTER = {"mm.model.fc.weight": "model.connector.modality_projection.proj.weight"}
TEXT = "model.language_model."
OF: dict[str, tuple[Callable[[Weights], Weights], Callable[[Weights], Weights]]] = {
    "gemma3v": (plain_text(TEXT, GEMMA_TEXT, less_one), siglip("model.vision_tower.", GEMMA3_OUTER)),
    "smolvlm": (plain_text("model.text_model.", change=llama_pairs(16)), siglip("model.vision_model.", SMOLVLM_OUTER)),
    "qwen25vl": (plain_text(TEXT), qwen(older=True)),
    "qwen3vl": (plain_text(TEXT), qwen(older=False)),
    "qwen35": (hybrid_text, qwen(older=False)),
    "gemma4e": (plain_text(TEXT, GEMMA_TEXT), gemma4),
    "gemma4l": (plain_text(TEXT, GEMMA_TEXT), gemma4),
    "llama4": (llama4_text, llama4),
    "llava": (plain_text(TEXT, change=llama_pairs(16)), llava),
    "llavanext": (plain_text(TEXT, change=llama_pairs(16)), llava),
    "granitev": (plain_text(TEXT, change=llama_pairs(16)), siglip_alone),
    "mistral3": (plain_text(TEXT, change=llama_pairs(32)), pixtral),
    "pixtral12": (plain_text(TEXT, change=llama_pairs(16)), pixtral),
}
