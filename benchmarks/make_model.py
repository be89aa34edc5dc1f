"""Writes a model of a real shape with random weights, for measurements of speed.

    python benchmarks/make_model.py llama-3.2-1b Q4_0 out.gguf

The file loads wherever a trained one does, and says nothing sensible.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice, product
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llamaq.formats import BLOCKS, FORMATS, Format, can_decode, can_encode, decode, encode, format_by_name
from llamaq.gguf import TensorData, write_gguf

STD = 0.02  # the spread of weights: rows of thousands of them keep activations near 1
POOL = 1 << 21  # weights that are really encoded; every tensor is made of pieces of them
RUN = 5  # blocks in a piece: rows have more, so that no two rows are equal
CHUNK = 1 << 23  # bytes written at a time


@dataclass(frozen=True)
class Shape:
    """A model of an architecture. ``bpe``: the vocabulary's kind is Llama 3's, else SentencePiece's. Heads are of
    ``head_dim`` numbers (0: of the width over ``heads``).

    With ``experts``, each layer's feed-forward part is a mixture of so many, ``used`` of which see a token, and
    ``feed_forward`` is the width of one.
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
    used: int = 2
    head_dim: int = 0
    architecture: str = "llama"

    @property
    def head(self) -> int:
        return self.head_dim or self.width // self.heads


@dataclass(frozen=True)
class Extras:
    """What an architecture has beside llama's: tensors of each layer (some in place of those of the same name), and
    keys."""

    tensors: Callable[[Shape], Mapping[str, tuple[int, ...]]]
    keys: Callable[[Shape], Mapping[str, Any]]
    no_ffn_norm: bool = False


def _gpt_oss(shape: Shape) -> dict[str, tuple[int, ...]]:
    q, kv = shape.heads * shape.head, shape.kv_heads * shape.head
    each = {"gate": shape.feed_forward, "up": shape.feed_forward, "down": shape.width}
    return {
        "attn_q.bias": (q,), "attn_k.bias": (kv,), "attn_v.bias": (kv,), "attn_output.bias": (shape.width,),
        "attn_sinks.weight": (shape.heads,), "post_attention_norm.weight": (shape.width,),
        "ffn_gate_inp.bias": (shape.experts,),
        **{f"ffn_{name}_exps.bias": (shape.experts, rows) for name, rows in each.items()},
    }  # fmt: skip


def _shared_expert(shape: Shape) -> dict[str, tuple[int, ...]]:
    rows = (shape.feed_forward, shape.width)
    return {"ffn_gate_shexp.weight": rows, "ffn_up_shexp.weight": rows, "ffn_down_shexp.weight": rows[::-1]}


def _inner(shape: Shape) -> dict[str, Any]:
    return {"expert_feed_forward_length": shape.feed_forward}


EXTRAS = {
    "llama": Extras(lambda _: {}, lambda _: {}),
    "qwen3moe": Extras(
        lambda shape: {"attn_q_norm.weight": (shape.head,), "attn_k_norm.weight": (shape.head,)}, _inner
    ),
    "gpt-oss": Extras(
        _gpt_oss,
        lambda shape: {
            **_inner(shape), "attention.sliding_window": 128, "rope.scaling.type": "yarn",
            "rope.scaling.factor": 32.0, "rope.scaling.original_context_length": 4096,
        },
        no_ffn_norm=True,
    ),
    "llama4": Extras(_shared_expert, lambda shape: {**_inner(shape), "interleave_moe_layer_step": 1}),
}  # fmt: skip

SHAPES = {
    "tiny": Shape(5, 64, 8, 4, 172, 512, 512, tied=True),
    "small": Shape(4, 512, 8, 4, 1536, 2000, 512, rope_base=500000.0),
    "tinyllama-1.1b": Shape(22, 2048, 32, 4, 5632, 32000, 2048),
    "llama-3.2-1b": Shape(16, 2048, 32, 8, 8192, 128256, 131072, tied=True, bpe=True, rope_base=500000.0),
    "llama-2-7b": Shape(32, 4096, 32, 32, 11008, 32000, 4096),
    "llama-3-8b": Shape(32, 4096, 32, 8, 14336, 128256, 8192, bpe=True, rope_base=500000.0),
    "mixtral-tiny": Shape(4, 256, 8, 4, 256, 512, 512, experts=8),
    "mixtral-small": Shape(12, 2048, 32, 8, 3584, 32000, 32768, rope_base=1e6, experts=8),
    # Real models, cut to fewer layers.
    "qwen3-30b-a3b": Shape(
        12,
        2048,
        32,
        4,
        768,
        151936,
        40960,
        bpe=True,
        rope_base=1e6,
        experts=128,
        used=8,
        head_dim=128,
        architecture="qwen3moe",
    ),
    "gpt-oss-20b": Shape(
        8,
        2880,
        64,
        8,
        2880,
        201088,
        131072,
        bpe=True,
        rope_base=150000.0,
        experts=32,
        used=4,
        head_dim=64,
        architecture="gpt-oss",
    ),
    "llama-4-scout": Shape(
        2, 5120, 40, 8, 8192, 202048, 131072, bpe=True, rope_base=500000.0, experts=16, used=1, architecture="llama4"
    ),
}

# A mixture has one format for most matrices, and another for attn_v and ffn_down in the layers that matter more.
MIXES = {"Q4_K_M": ("Q4_K", "Q6_K"), "Q5_K_M": ("Q5_K", "Q6_K")}

# gpt-oss files have MXFP4 for experts alone.
BESIDE_MXFP4 = "Q8_0"

# A mixture of eight experts has attn_output in Q5_K for these, and attn_k and attn_v in Q8_0 whatever the format.
SMALL = ("Q2_K", "Q3_K", "Q4_K", "IQ3_XXS", "IQ3_S", "IQ4_NL", "IQ4_XS")

# llama.cpp's quantizer takes these for rows that are not whole blocks of 256; the others become IQ4_NL.
NARROW = {"Q2_K": "Q4_0", "Q3_K": "Q4_0", "Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0"}


def choose_format(name: str, shape: Shape, tensor: str, cols: int) -> Format:
    """The format of a matrix, by the rules of llama.cpp's quantizer (``llama_tensor_get_type``)."""
    base, better = MIXES.get(name, (name, name))
    fmt = format_by_name(base)
    bits = 8 * fmt.block_bytes / fmt.block
    if tensor.endswith(".ffn_gate_inp"):
        return format_by_name("F32")
    if name == "MXFP4" and not tensor.endswith("_exps"):
        return format_by_name(BESIDE_MXFP4)
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
    width, ff = shape.width, shape.feed_forward
    q_width, kv_width = shape.head * shape.heads, shape.head * shape.kv_heads
    extras = EXTRAS[shape.architecture]
    experts, suffix = ((shape.experts,), "_exps") if shape.experts else ((), "")
    yield "token_embd", (shape.vocab, width)
    for i in range(shape.layers):
        b = f"blk.{i}."
        yield b + "attn_norm", (width,)
        yield b + "attn_q", (q_width, width)
        yield b + "attn_k", (kv_width, width)
        yield b + "attn_v", (kv_width, width)
        yield b + "attn_output", (width, q_width)
        if not extras.no_ffn_norm:
            yield b + "ffn_norm", (width,)
        for name, dims in extras.tensors(shape).items():
            yield b + name.removesuffix(".weight"), dims
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
    own = {
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
        **EXTRAS[shape.architecture].keys(shape),
    }
    if shape.experts:
        own |= {"expert_count": shape.experts, "expert_used_count": shape.used}
    if shape.head_dim:
        own |= {"attention.key_length": shape.head_dim, "attention.value_length": shape.head_dim}
    keys = {
        "general.architecture": shape.architecture,
        "general.name": f"{name} {format_name}, random weights",
        "general.quantization_version": 2,
        **{f"{shape.architecture}.{key}": value for key, value in own.items()},
    }
    return keys | (byte_level_vocabulary if shape.bpe else sentencepiece_vocabulary)(shape.vocab)


def make_model(name: str, format_name: str, path: str, seed: int = 0) -> None:
    """Writes the shape called ``name`` (``SHAPES``) in a format or a mix of them (``MIXES``)."""
    shape, weights = SHAPES[name], Weights(seed)
    format_name = format_name.upper()
    data = []
    for tensor, dims in tensors(shape):
        full, f32 = tensor if tensor.endswith(".bias") else f"{tensor}.weight", format_by_name("F32")
        if len(dims) == 1 or full.endswith(".bias"):
            norm = full.endswith("norm.weight")
            data.append(TensorData(full, f32, dims, np.full(dims, 1.0 if norm else 0.1, np.float32)))
        else:
            fmt = choose_format(format_name, shape, tensor, dims[-1])
            data.append(TensorData(full, fmt, dims, weights.stream(fmt, prod(dims[:-1]), dims[-1])))
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
