"""Writes a model of a real shape with random weights, for measurements of speed.

    python benchmarks/make_model.py llama-3.2-1b Q4_0 out.gguf

The file loads wherever a trained one does, and says nothing sensible.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice, product
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llamaq.formats import BLOCKS, FORMATS, Format, can_decode, can_encode, decode, encode, format_by_name
from llamaq.gguf import TensorData, write_gguf

STD = 0.02  # of the weights: rows of thousands of them keep activations near 1
POOL = 1 << 21  # weights that are really encoded; every tensor is made of pieces of them
RUN = 5  # blocks in a piece: rows have more, so that no two rows are equal
CHUNK = 1 << 23  # bytes written at a time


@dataclass(frozen=True)
class Shape:
    """A model of architecture llama. ``bpe``: the vocabulary's kind is Llama 3's, else SentencePiece's.

    With ``experts``, each layer's feed-forward part is a mixture of so many, two of which see a token.
    """

    layers: int
    width: int
    heads: int
    kv_heads: int
    feed_forward: int
    vocab: int
    context: int
    tied: bool = False
    bpe: bool = False
    rope_base: float = 10000.0
    experts: int = 0


SHAPES = {
    "tiny": Shape(5, 64, 8, 4, 172, 512, 512, tied=True),
    "small": Shape(4, 512, 8, 4, 1536, 2000, 512, rope_base=500000.0),
    "tinyllama-1.1b": Shape(22, 2048, 32, 4, 5632, 32000, 2048),
    "llama-3.2-1b": Shape(16, 2048, 32, 8, 8192, 128256, 131072, tied=True, bpe=True, rope_base=500000.0),
    "llama-2-7b": Shape(32, 4096, 32, 32, 11008, 32000, 4096),
    "llama-3-8b": Shape(32, 4096, 32, 8, 14336, 128256, 8192, bpe=True, rope_base=500000.0),
    "mixtral-tiny": Shape(4, 256, 8, 4, 256, 512, 512, experts=8),
    "mixtral-small": Shape(12, 2048, 32, 8, 3584, 32000, 32768, rope_base=1e6, experts=8),
}

# Formats that are mixed: of most matrices, and of attn_v and ffn_down in the layers that matter more.
MIXES = {"Q4_K_M": ("Q4_K", "Q6_K"), "Q5_K_M": ("Q5_K", "Q6_K")}

# Where a mixture of eight experts has attn_output in Q5_K; attn_k and attn_v are then in Q8_0 whatever the format.
SMALL = ("Q2_K", "Q3_K", "Q4_K", "IQ3_XXS", "IQ3_S", "IQ4_NL", "IQ4_XS")

# What llama.cpp's quantizer takes for rows that are not whole blocks of 256; the others become IQ4_NL.
NARROW = {"Q2_K": "Q4_0", "Q3_K": "Q4_0", "Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0"}


def choose_format(name: str, shape: Shape, tensor: str, cols: int) -> Format:
    """The format of a matrix, by the rules of llama.cpp's quantizer (``llama_tensor_get_type``)."""
    base, better = MIXES.get(name, (name, name))
    fmt = format_by_name(base)
    bits = 8 * fmt.block_bytes / fmt.block
    if tensor.endswith(".ffn_gate_inp"):
        return format_by_name("F32")
    if tensor == ("token_embd" if shape.tied else "output"):
        if bits < 6.5:
            fmt = format_by_name("Q6_K")
    elif shape.experts == 8 and bits < 8.5 and tensor.endswith((".attn_k", ".attn_v")):
        fmt = format_by_name("Q8_0")
    elif shape.experts == 8 and base in SMALL and tensor.endswith(".attn_output"):
        fmt = format_by_name("Q5_K")
    elif tensor.endswith((".attn_v", ".ffn_down", ".ffn_down_exps")) and _matters(
        int(tensor.split(".")[1]), shape.layers
    ):
        fmt = format_by_name(better)
    if cols % fmt.block and fmt.block == 256:
        fmt = format_by_name(NARROW.get(fmt.name, "IQ4_NL"))
    return format_by_name("F16") if cols % fmt.block else fmt


def _matters(layer: int, layers: int) -> bool:
    eighth = layers // 8
    return layer < eighth or layer >= 7 * layers // 8 or (layer - eighth) % 3 == 2


def tensors(shape: Shape) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Name (without ".weight") and shape of every tensor."""
    width, kv_width, ff = shape.width, shape.width // shape.heads * shape.kv_heads, shape.feed_forward
    experts, suffix = ((shape.experts,), "_exps") if shape.experts else ((), "")
    yield "token_embd", (shape.vocab, width)
    for i in range(shape.layers):
        b = f"blk.{i}."
        yield b + "attn_norm", (width,)
        yield b + "attn_q", (width, width)
        yield b + "attn_k", (kv_width, width)
        yield b + "attn_v", (kv_width, width)
        yield b + "attn_output", (width, width)
        yield b + "ffn_norm", (width,)
        if experts:
            yield b + "ffn_gate_inp", (shape.experts, width)
        yield b + "ffn_gate" + suffix, (*experts, ff, width)
        yield b + "ffn_up" + suffix, (*experts, ff, width)
        yield b + "ffn_down" + suffix, (*experts, width, ff)
    yield "output_norm", (width,)
    if not shape.tied:
        yield "output", (shape.vocab, width)


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
    keys = {
        "general.architecture": "llama",
        "general.name": f"{name} {format_name}, random weights",
        "general.quantization_version": 2,
        "llama.context_length": shape.context,
        "llama.embedding_length": shape.width,
        "llama.block_count": shape.layers,
        "llama.feed_forward_length": shape.feed_forward,
        "llama.attention.head_count": shape.heads,
        "llama.attention.head_count_kv": shape.kv_heads,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "llama.rope.dimension_count": shape.width // shape.heads,
        "llama.rope.freq_base": shape.rope_base,
        "llama.vocab_size": shape.vocab,
    }
    if shape.experts:
        keys |= {"llama.expert_count": shape.experts, "llama.expert_used_count": 2}
    return keys | (byte_level_vocabulary if shape.bpe else sentencepiece_vocabulary)(shape.vocab)


def make_model(name: str, format_name: str, path: str, seed: int = 0) -> None:
    """Writes the shape called ``name`` (``SHAPES``) in a format or a mix of them (``MIXES``)."""
    shape, weights = SHAPES[name], Weights(seed)
    format_name = format_name.upper()
    data = []
    for tensor, dims in tensors(shape):
        cols = dims[-1]
        if len(dims) == 1:
            data.append(TensorData(f"{tensor}.weight", format_by_name("F32"), dims, np.ones(cols, np.float32)))
        else:
            fmt = choose_format(format_name, shape, tensor, cols)
            data.append(TensorData(f"{tensor}.weight", fmt, dims, weights.stream(fmt, prod(dims[:-1]), cols)))
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
