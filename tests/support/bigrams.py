"""A model file that one can write by hand: each token is followed by others with chosen probabilities."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from llamaq.formats import encode, format_by_name
from llamaq.gguf import TensorData, write_gguf
from tiny_llama import tiny_llama

USER_DEFINED, CONTROL, UNKNOWN, BYTE = 4, 3, 2, 6


def bigram_file(path: Path, tokens: Sequence[str], follow: Mapping[str, Mapping[str, float]], **metadata: Any) -> Path:
    """Writes a model of ``tokens`` besides ``<unk>``, ``<s>``, ``</s>`` and the bytes; those in ``<|...|>`` are control
    tokens, the others found in any text. After a token come those that ``follow`` gives it, with these probabilities;
    after all others the end. ``metadata`` has "__" for dots.
    """
    names = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *tokens]
    ids = {name: id for id, name in enumerate(names)}
    kinds = [UNKNOWN, CONTROL, CONTROL, *[BYTE] * 256]
    kinds += [CONTROL if token.startswith("<|") else USER_DEFINED for token in tokens]
    width = -(-len(names) // 32) * 32
    keys, tensors = tiny_llama(layers=1, width=width, vocab=len(names))
    for name, values in tensors.items():
        if name.startswith("blk."):
            values[:] = 1 if values.ndim == 1 else 0
    tensors["output_norm.weight"][:] = 1
    tensors["token_embd.weight"][:] = np.eye(len(names), width)
    logits = np.full((len(names), width), -50.0)
    for before in names:
        for after, probability in follow.get(before, {"</s>": 1.0}).items():
            logits[ids[after], ids[before]] = math.log(probability)
    tensors["output.weight"][:] = logits / math.sqrt(width)
    f32 = format_by_name("F32")
    keys |= {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": names,
        "tokenizer.ggml.scores": [0.0] * len(names),
        "tokenizer.ggml.token_type": kinds,
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.add_space_prefix": False,
        **{name.replace("__", "."): value for name, value in metadata.items()},
    }
    write_gguf(path, keys, [TensorData(name, f32, x.shape, encode(f32, x)) for name, x in tensors.items()])
    return path
