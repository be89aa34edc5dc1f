"""Tiny random encoders, made from a seed. ``tests/data/tiny`` has the states of all positions that transformers gave
for the same weights, or of a model that ranks its score (``tests/models/test_tiny_transformers.py`` computes them)."""

from __future__ import annotations

import string
import zlib
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llamaq.formats import format_by_name
from llamaq.gguf import TensorData, write_gguf
from tiny_models import FEED_FORWARD, HEADS, IDS, LAYERS, RECORDED, VOCABULARY, WIDTH

__all__ = ["ENCODERS", "POSITIONS", "encoder_tensors", "ids_of", "tiny_encoder", "write_encoder"]

POSITIONS = 48
ENCODERS: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("bert", {"pooling_type": 1}),
    "bert-rank": ("bert", {"pooling_type": 4}),
    "nomic-bert": ("nomic-bert", {"pooling_type": 1, "rope.freq_base": 1000.0}),
}
"""Architecture and keys."""
SHAPE: dict[str, Any] = {
    "block_count": LAYERS,
    "context_length": POSITIONS,
    "embedding_length": WIDTH,
    "feed_forward_length": FEED_FORWARD,
    "attention.head_count": HEADS,
    "attention.layer_norm_epsilon": 1e-12,
    "attention.causal": False,
}
TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *("▁" + c for c in string.ascii_lowercase + ".,!?"),
          *string.ascii_lowercase, "▁the", "▁dog", "og"]  # fmt: skip
TOKENIZER: dict[str, Any] = {
    "tokenizer.ggml.model": "bert",
    "tokenizer.ggml.tokens": TOKENS,
    "tokenizer.ggml.token_type": [3] * 5 + [1] * (len(TOKENS) - 5),
    "tokenizer.ggml.padding_token_id": 0,
    "tokenizer.ggml.unknown_token_id": 1,
    "tokenizer.ggml.cls_token_id": 2,
    "tokenizer.ggml.seperator_token_id": 3,
    "tokenizer.ggml.mask_token_id": 4,
}


def encoder_tensors(name: str) -> dict[str, NDArray[np.float32]]:
    """Weights that keep states of a few units, so that a fault of a formula moves them far."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    tensors: dict[str, NDArray[np.float32]] = {}

    def add(tensor: str, *shape: int, bias: bool = False) -> None:
        x = rng.normal(1, 0.1, shape) if len(shape) == 1 else rng.normal(0, 0.8 * shape[1] ** -0.5, shape)
        tensors[f"{tensor}.weight"] = x.astype(np.float32)
        if bias:
            tensors[f"{tensor}.bias"] = rng.normal(0, 0.2, shape[0]).astype(np.float32)

    nomic = name == "nomic-bert"
    tables = {"token_embd": VOCABULARY, "token_types": 2} | ({} if nomic else {"position_embd": POSITIONS})
    for table, rows in tables.items():
        add(table, rows, WIDTH)
    add("token_embd_norm", WIDTH, bias=True)
    for i in range(LAYERS):
        b = f"blk.{i}."
        for part in ("attn_q", "attn_k", "attn_v", "attn_output"):
            add(b + part, WIDTH, WIDTH, bias=not nomic)
        for part in ("ffn_gate", "ffn_up") if nomic else ("ffn_up",):
            add(b + part, FEED_FORWARD, WIDTH, bias=not nomic)
        add(b + "ffn_down", WIDTH, FEED_FORWARD, bias=not nomic)
        for norm in ("attn_output_norm", "layer_output_norm"):
            add(b + norm, WIDTH, bias=True)
    if name == "bert-rank":
        add("cls", WIDTH, WIDTH, bias=True)
        add("cls.output", 1, WIDTH, bias=True)
    return tensors


def ids_of(name: str) -> NDArray[np.int32]:
    """Token ids; for a model that ranks, those of two texts with a separator (3) behind each."""
    ids = np.where(IDS == 3, 5, IDS)
    ids[[9, -1]] = 3
    return ids.astype(np.int32) if name == "bert-rank" else IDS


def write_encoder(path: Path, name: str, tensors: dict[str, NDArray[np.float32]] | None = None, **keys: Any) -> Path:
    """A file of it; ``keys`` (two underscores for a dot) change those of its architecture, None takes one away."""
    architecture, own = ENCODERS[name]
    own = SHAPE | own | {key.replace("__", "."): value for key, value in keys.items()}
    metadata = {f"{architecture}.{key}": value for key, value in own.items() if value is not None}
    f32 = format_by_name("F32")
    data = [TensorData(n, f32, x.shape, x) for n, x in (tensors or encoder_tensors(name)).items()]
    write_gguf(path, {"general.architecture": architecture, **metadata, **TOKENIZER}, data)
    return path


@cache
def _folder() -> TemporaryDirectory[str]:
    return TemporaryDirectory(prefix="llamaq-tiny-")


@cache
def _made(name: str) -> Path:
    return write_encoder(Path(_folder().name) / f"{name}.gguf", name)


def tiny_encoder(name: str) -> tuple[Path, NDArray[np.int32], NDArray[np.float32]]:
    """A file, token ids, and the states (tokens, width) that go with them; or the score, (1, 1)."""
    return _made(name), ids_of(name), np.load(RECORDED / f"{name}.npy")
