"""Writes a model of a real shape with random weights, for measurements of speed.

    python benchmarks/make_model.py llama-3.2-1b Q4_0 out.gguf

The file loads wherever a trained one does, and says nothing sensible.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import chain, islice, product
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llamaq.formats import BLOCKS, FORMATS, Format, can_decode, can_encode, decode, encode, format_by_name
from llamaq.gguf import TensorData, write_gguf
from model_shapes import EXTRAS, SHAPES, Shape, tensors

STD = 0.02  # the spread of weights: rows of thousands of them keep activations near 1
POOL = 1 << 21  # weights that are really encoded; every tensor is made of pieces of them
RUN = 5  # blocks in a piece: rows have more, so that no two rows are equal
CHUNK = 1 << 23  # bytes written at a time

# Vectors that are neither weights of norms (1) nor small numbers (0.1): the past of a delta net decays, a layer keeps
# its scale, a rope its frequencies.
VECTORS = {"ssm_a": -1.0, "layer_output_scale.weight": 1.0, "rope_freqs.weight": 1.0}

# Matrices that are never quantized, and what published files have them in.
KEPT = {"ffn_gate_inp": "F32", "ssm_conv1d": "F32", "shortconv.conv": "F32", "per_layer_model_proj": "BF16"}

# A mixture has one format for most matrices, and another for attn_v and ffn_down in the layers that matter more.
MIXES = {"Q4_K_M": ("Q4_K", "Q6_K"), "Q5_K_M": ("Q5_K", "Q6_K")}

# gpt-oss files have MXFP4 for experts alone.
BESIDE_MXFP4 = "Q8_0"

# A mixture of eight experts has attn_output in Q5_K for these, and attn_k and attn_v in Q8_0 whatever the format.
SMALL = ("Q2_K", "Q3_K", "Q4_K", "IQ3_XXS", "IQ3_S", "IQ4_NL", "IQ4_XS")

VALUES = (".attn_v", ".attn_qkv")

# llama.cpp's quantizer takes these for rows that are not whole blocks of 256; the others become IQ4_NL.
NARROW = {"Q2_K": "Q4_0", "Q3_K": "Q4_0", "Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0"}


def choose_format(name: str, shape: Shape, tensor: str, cols: int) -> Format:
    """The format of a matrix, by the rules of llama.cpp's quantizer (``llama_tensor_get_type``)."""
    base, better = MIXES.get(name, (name, name))
    fmt = format_by_name(base)
    bits = 8 * fmt.block_bytes / fmt.block
    kept = next((kept for part, kept in KEPT.items() if tensor.endswith(part)), None)
    if kept is not None:
        return format_by_name(kept)
    if name == "MXFP4" and not tensor.endswith("_exps"):
        return format_by_name(BESIDE_MXFP4)
    if tensor in (("token_embd", "per_layer_token_embd") if shape.tied else ("output",)):
        if bits < 6.5:
            fmt = format_by_name("Q6_K")
    elif shape.experts == 8 and bits < 8.5 and tensor.endswith((".attn_k", ".attn_v")):
        fmt = format_by_name("Q8_0")
    elif shape.experts == 8 and base in SMALL and tensor.endswith(".attn_output"):
        fmt = format_by_name("Q5_K")
    elif _matters(shape, tensor):
        fmt = format_by_name(better)
    if cols % fmt.block and fmt.block == 256:
        fmt = format_by_name(NARROW.get(fmt.name, "IQ4_NL"))
    return format_by_name("F16") if cols % fmt.block else fmt


@cache
def _with_values(shape: Shape) -> list[str]:
    """The matrices that make values, in order of layers: not every layer has one."""
    names = (name.removesuffix(".weight") for name, _ in tensors(shape))
    return [name for name in names if name.endswith(VALUES)]


def _matters(shape: Shape, tensor: str) -> bool:
    """Whether it is of the first or the last eighth of its kind, or each third one between."""
    if tensor.endswith(VALUES):
        of_its_kind = _with_values(shape)
        at, count = of_its_kind.index(tensor), len(of_its_kind)
    elif tensor.endswith((".ffn_down", ".ffn_down_exps")):
        at, count = int(tensor.split(".")[1]), shape.layers
    else:
        return False
    eighth = count // 8
    return at < eighth or at >= 7 * count // 8 or (at - eighth) % 3 == 2


class Weights:
    """Random weights in any format, as pieces of a pool that is encoded once for each format."""

    def __init__(self, seed: int = 0) -> None:
        self._rng = np.random.default_rng(seed)
        self._pools: dict[Format, NDArray[Any]] = {}

    def stream(self, fmt: Format, rows: int, cols: int) -> Iterator[NDArray[np.uint8]]:
        """The bytes of a matrix."""
        pool = self._pool(fmt)
        left = rows * fmt.row_bytes(cols)
        while left > 0:
            count = -(-min(left, CHUNK) // pool.itemsize)
            piece = pool[self._rng.integers(len(pool), size=count)].view(np.uint8)[:left]
            left -= piece.nbytes
            yield piece

    def _pool(self, fmt: Format) -> NDArray[Any]:
        """Every run of ``RUN`` blocks of the pool, overlapping: an item of the array is a run's bytes."""
        if fmt not in self._pools:
            data = self._encoded(fmt).ravel()
            run = RUN * (256 // fmt.block) if fmt.block < 32 else RUN  # a block of F32 is one weight
            runs = data.size // fmt.block_bytes - run + 1
            dtype = np.dtype(f"V{run * fmt.block_bytes}")
            self._pools[fmt] = np.ndarray((runs,), dtype, data, strides=(fmt.block_bytes,))
        return self._pools[fmt]

    def _encoded(self, fmt: Format) -> NDArray[np.uint8]:
        if can_encode(fmt):
            return encode(fmt, STD * self._rng.standard_normal(POOL, np.float32))
        blocks = self._rng.integers(256, size=POOL // fmt.block * fmt.block_bytes, dtype=np.uint8)
        fields = blocks.view(BLOCKS[fmt.name])
        names: Mapping[str, Any] = fields.dtype.fields or {}
        if not can_decode(fmt) or "d" not in names or names["d"][0] != np.float16:
            raise ValueError(f"{fmt.name}: llamaq can neither encode it nor set its scale; take another format")
        fields["d"] = 1.0  # the codebooks' formats: any bytes will do, scaled to the right spread
        fields["d"] = STD / decode(fmt, blocks).std()
        return blocks


ALPHABET = "etaoinshrdlucmfwypvbgkjqxzETAOINSHRDLUCMFWYPVBGKJQXZ0123456789.,;:'\"!?-()"


def words(space: str) -> Iterator[tuple[str, ...]]:
    """Pairs, then triples of characters, as (left part, right part) of the merge that makes them."""
    letters = space + ALPHABET
    triples = ((a + b, c) for a, b, c in product(letters, repeat=3))
    return chain(product(letters, repeat=2), triples)


def sentencepiece_vocabulary(size: int) -> dict[str, Any]:
    """Metadata of a tokenizer of type "llama": the specials, the bytes, then characters and their pairs."""
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *("▁" + ALPHABET)]
    kinds = [2, 3, 3, *[6] * 256]
    tokens += ["".join(word) for word in islice(words("▁"), size - len(tokens))]
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.scores": -np.maximum(np.arange(size, dtype=np.float32) - 258, 0),
        "tokenizer.ggml.token_type": np.array(kinds + [1] * (size - len(kinds)), np.int32),
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0,
    }


def byte_level_vocabulary(size: int) -> dict[str, Any]:
    """Metadata of a tokenizer of type "gpt2" with Llama 3's pre-tokenizer and 256 specials at the end."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]  # bytes that GPT-2 writes as themselves
    others = [byte for byte in range(256) if byte not in shown]
    specials = [f"<|reserved_special_token_{i}|>" for i in range(256)]
    specials[0], specials[1], specials[9] = "<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"
    merged = list(islice(words("Ġ"), size - 512))
    tokens = [*map(chr, shown), *(chr(256 + i) for i in range(len(others)))]
    tokens += ["".join(word) for word in merged] + specials
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "llama-bpe",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.merges": [" ".join(word) for word in merged],
        "tokenizer.ggml.token_type": np.array([1] * (size - 256) + [3] * 256, np.int32),
        "tokenizer.ggml.bos_token_id": size - 256,
        "tokenizer.ggml.eos_token_id": size - 255,
        "tokenizer.ggml.add_bos_token": True,
    }


def metadata(name: str, shape: Shape, format_name: str) -> dict[str, Any]:
    """The file's metadata."""
    own: dict[str, Any] = {
        "context_length": shape.context,
        "embedding_length": shape.width,
        "block_count": shape.layers,
        "feed_forward_length": shape.feed_forward,
        "attention.head_count": shape.heads,
        "attention.head_count_kv": shape.kv_heads,
        "attention.layer_norm_rms_epsilon": 1e-5,
        "rope.dimension_count": shape.head,
        "rope.freq_base": shape.rope_base,
        "vocab_size": shape.vocab,
    }
    if shape.experts:
        own |= {"expert_count": shape.experts, "expert_used_count": shape.used}
    if shape.head_dim:
        own |= {"attention.key_length": shape.head_dim, "attention.value_length": shape.head_dim}
    own |= EXTRAS[shape.architecture].keys(shape)
    keys = {
        "general.architecture": shape.architecture,
        "general.name": f"{name} {format_name}, random weights",
        "general.quantization_version": 2,
        **{f"{shape.architecture}.{key}": value for key, value in own.items()},
    }
    return keys | (byte_level_vocabulary if shape.bpe else sentencepiece_vocabulary)(shape.vocab)


def _number(vector: str) -> float:
    """What a vector is full of."""
    name = vector.split(".", 2)[-1] if vector.startswith("blk.") else vector
    return VECTORS.get(name, 1.0 if vector.endswith("norm.weight") else 0.1)


def make_model(name: str, format_name: str, path: str, seed: int = 0) -> None:
    """Writes the shape called ``name`` (``SHAPES``) in a format or a mix of them (``MIXES``)."""
    shape, weights = SHAPES[name], Weights(seed)
    format_name = format_name.upper()
    data = []
    for tensor, dims in tensors(shape):
        if len(dims) == 1 or tensor.endswith(".bias"):
            numbers = np.full(dims, _number(tensor), np.float32)
            data.append(TensorData(tensor, format_by_name("F32"), dims, numbers))
        else:
            fmt = choose_format(format_name, shape, tensor.removesuffix(".weight"), dims[-1])
            data.append(TensorData(tensor, fmt, dims, weights.stream(fmt, prod(dims[:-1]), dims[-1])))
    write_gguf(path, metadata(name, shape, format_name), data)


def main() -> None:
    parser = argparse.ArgumentParser(description="Write a model of a real shape with random weights.")
    parser.add_argument("shape", choices=SHAPES)
    formats = ", ".join([*MIXES, *(fmt.name for fmt in FORMATS.values())])
    parser.add_argument("format", help=f"one of {formats}")
    parser.add_argument("path")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    try:
        make_model(args.shape, args.format, args.path, args.seed)
    except ValueError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
