"""Hugging Face folders for tests: a tiny random Llama with its logits in NumPy, and vocabularies in HF's own files."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from llamaq.gguf import GGUFFile

Arrays = dict[str, NDArray[Any]]

LLAMA_3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
LLAMA_3["original_max_position_embeddings"] = 16


def tiny(seed: int = 0, *, biases: bool = False, **config: Any) -> tuple[dict[str, Any], Arrays]:
    """Configuration and float32 tensors, with the names of LlamaForCausalLM."""
    rng = np.random.default_rng(seed)
    values: dict[str, Any] = {
        "architectures": ["LlamaForCausalLM"],
        "hidden_act": "silu",
        "vocab_size": 50,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 128,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
    } | config
    width, inner, heads = values["hidden_size"], values["intermediate_size"], values["num_attention_heads"]
    head_dim = values.get("head_dim", width // heads)
    kv = values["num_key_value_heads"] * head_dim
    tensors: Arrays = {}

    def add(name: str, *shape: int) -> None:
        if len(shape) == 1:
            tensors[f"{name}.weight"] = rng.normal(1.0, 0.1, shape).astype(np.float32)
            return
        tensors[f"{name}.weight"] = (rng.normal(size=shape) * shape[1] ** -0.5).astype(np.float32)
        if biases and "layers" in name:
            tensors[f"{name}.bias"] = rng.normal(0.0, 0.1, shape[0]).astype(np.float32)

    add("model.embed_tokens", values["vocab_size"], width)
    for i in range(values["num_hidden_layers"]):
        b = f"model.layers.{i}."
        for name, rows, cols in (("q", heads * head_dim, width), ("k", kv, width), ("v", kv, width)):
            add(f"{b}self_attn.{name}_proj", rows, cols)
        add(b + "self_attn.o_proj", width, heads * head_dim)
        for name, rows, cols in (("gate", inner, width), ("up", inner, width), ("down", width, inner)):
            add(f"{b}mlp.{name}_proj", rows, cols)
        add(b + "input_layernorm", width)
        add(b + "post_attention_layernorm", width)
    add("model.norm", width)
    if not values["tie_word_embeddings"]:
        add("lm_head", values["vocab_size"], width)
    return values, tensors


def save(folder: Path, config: dict[str, Any], tensors: Arrays, *, shards: int = 1, **files: Any) -> Path:
    """Writes the folder; ``files`` are further JSON files by stem."""
    folder.mkdir(exist_ok=True)
    for stem, content in {"config": config, **files}.items():
        (folder / f"{stem}.json").write_text(json.dumps(content), encoding="utf-8")
    names = list(tensors)
    if shards == 1:
        save_file(tensors, folder / "model.safetensors")
        return folder
    places = {name: f"model-{1 + i % shards:05}-of-{shards:05}.safetensors" for i, name in enumerate(names)}
    for file in set(places.values()):
        save_file({name: tensors[name] for name in names if places[name] == file}, folder / file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    return folder


def logits(config: dict[str, Any], tensors: Arrays, ids: NDArray[np.int64]) -> NDArray[np.float64]:
    """A forward pass in float64, as transformers does it: RoPE turns the pairs (i, i + dims / 2)."""
    t = {name: x.astype(np.float64) for name, x in tensors.items()}
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    dims = config.get("head_dim", config["hidden_size"] // heads)
    angles = np.arange(len(ids))[:, None] * np.tile(_frequencies(config, dims), 2)
    cos, sin = np.cos(angles)[:, None], np.sin(angles)[:, None]

    def norm(x: Any, name: str) -> Any:
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + config["rms_norm_eps"]) * t[f"{name}.weight"]

    def linear(x: Any, name: str) -> Any:
        return x @ t[f"{name}.weight"].T + t.get(f"{name}.bias", 0.0)

    def turned(x: Any, count: int) -> Any:
        x = x.reshape(len(ids), count, dims)
        return x * cos + np.concatenate((-x[..., dims // 2 :], x[..., : dims // 2]), -1) * sin

    x = t["model.embed_tokens.weight"][ids]
    seen = np.tril(np.ones((len(ids), len(ids)), bool))
    for i in range(config["num_hidden_layers"]):
        b = f"model.layers.{i}."
        h = norm(x, b + "input_layernorm")
        q, k = turned(linear(h, b + "self_attn.q_proj"), heads), turned(linear(h, b + "self_attn.k_proj"), kv_heads)
        v = linear(h, b + "self_attn.v_proj").reshape(len(ids), kv_heads, dims)
        k, v = (np.repeat(a, heads // kv_heads, axis=1) for a in (k, v))
        scores = np.where(seen, np.einsum("qhd,khd->hqk", q, k) / math.sqrt(dims), -np.inf)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        x = x + linear(np.einsum("hqk,khd->qhd", weights, v).reshape(len(ids), -1), b + "self_attn.o_proj")
        h = norm(x, b + "post_attention_layernorm")
        gate = linear(h, b + "mlp.gate_proj")
        x = x + linear(gate / (1 + np.exp(-gate)) * linear(h, b + "mlp.up_proj"), b + "mlp.down_proj")
    output = "lm_head" if "lm_head.weight" in t else "model.embed_tokens"
    result: NDArray[np.float64] = linear(norm(x, "model.norm"), output)
    return result


def _frequencies(config: dict[str, Any], dims: int) -> NDArray[np.float64]:
    """Frequencies of default, linear and Llama 3.1's RoPE."""
    rope = config.get("rope_scaling") or config.get("rope_parameters") or {}
    plain = float(rope.get("rope_theta") or config["rope_theta"]) ** (-np.arange(0, dims, 2) / dims)
    if rope.get("rope_type", rope.get("type")) == "linear":
        return np.asarray(plain / rope["factor"])
    if rope.get("rope_type") != "llama3":
        return np.asarray(plain)
    low, high, old = rope["low_freq_factor"], rope["high_freq_factor"], rope["original_max_position_embeddings"]
    found = []
    for frequency in plain:
        length = 2 * math.pi / frequency
        smooth = (old / length - low) / (high - low)
        blended = (1 - smooth) * frequency / rope["factor"] + smooth * frequency
        found.append(
            frequency if length < old / high else frequency / rope["factor"] if length > old / low else blended
        )
    return np.array(found)


def tokenizer_json(file: GGUFFile, pre_tokenizer: Any = None) -> dict[str, Any]:
    """tokenizer.json of a GGUF vocabulary: BPE over bytes, or (of scheme ``llama``) over characters."""
    keys = {key.removeprefix("tokenizer.ggml."): value for key, value in file.metadata.items()}
    texts, types = keys["tokens"].tolist(), keys["token_type"].tolist()  # type: ignore[union-attr]
    added = [
        {"id": i, "content": texts[i], "special": types[i] == 3} for i in range(len(texts)) if types[i] in (2, 3, 4)
    ]
    vocab = {text: i for i, text in enumerate(texts) if types[i] in (1, 2, 6)}
    if keys["model"] == "gpt2":
        model = {"type": "BPE", "vocab": vocab, "merges": keys["merges"].tolist()}  # type: ignore[union-attr]
        model["ignore_merges"] = keys["pre"] == "llama-bpe"
        return {"model": model, "added_tokens": added, "pre_tokenizer": pre_tokenizer}
    scores = dict(zip(texts, keys["scores"].tolist(), strict=True))  # type: ignore[union-attr]
    made = sorted((text for text in vocab if types[vocab[text]] == 1 and len(text) > 1), key=lambda text: -scores[text])
    halves = ([text[:k], text[k:]] for text in made for k in range(1, len(text)))
    merges = [pair for pair in halves if pair[0] in vocab and pair[1] in vocab]
    prepend = {"type": "Prepend", "prepend": "▁"}
    spaces = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    return {
        "model": {"type": "BPE", "vocab": vocab, "merges": merges, "byte_fallback": True, "unk_token": "<unk>"},
        "added_tokens": added,
        "normalizer": {"type": "Sequence", "normalizers": [prepend, spaces]},
        "post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>"}}, {"Sequence": {}}]},
    }


def tokenizer_model(file: GGUFFile) -> bytes:
    """tokenizer.model (SentencePiece's protocol buffer) of a GGUF vocabulary of scheme ``llama``."""

    def field(number: int, content: bytes) -> bytes:
        length, size = len(content), b""
        while length > 127:
            size, length = size + bytes([length & 127 | 128]), length >> 7
        return bytes([number << 3 | 2]) + size + bytes([length]) + content

    columns = (file.metadata[f"tokenizer.ggml.{key}"].tolist() for key in ("tokens", "scores", "token_type"))  # type: ignore[union-attr]
    pieces = b"".join(
        field(1, field(1, text.encode()) + b"\x15" + struct.pack("<f", score) + bytes([3 << 3, type]))
        for text, score, type in zip(*columns, strict=True)
    )
    trainer = bytes([3 << 3, 2, 35 << 3 & 127 | 128, 2, 1])  # model_type BPE, byte_fallback
    return pieces + field(2, trainer) + field(3, bytes([4 << 3, 0]))  # this keeps spaces


LLAMA_3_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
BYTES = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True, "trim_offsets": True}
LETTERS = {"model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]}, "pre_tokenizer": BYTES}
"""A tokenizer.json of three letters."""


def nmse(found: NDArray[Any], expected: NDArray[Any]) -> float:
    return float(((found - expected) ** 2).sum() / (expected**2).sum())
