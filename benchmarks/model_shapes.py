"""Shapes of models for ``make_model.py``: sizes, and which tensors and keys an architecture has beside llama's."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

Dims: TypeAlias = "tuple[int, ...]"


@dataclass(frozen=True)
class Shape:
    """A model of an architecture. ``bpe``: the vocabulary's kind is Llama 3's, else SentencePiece's. Heads are of
    ``head_dim`` numbers (0: of the width over ``heads``).

    With ``experts``, each layer's feed-forward part is a mixture of so many, ``used`` of which see a token, and
    ``feed_forward`` is the width of one. ``value_heads`` are those of delta nets.
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
    value_heads: int = 0

    @property
    def head(self) -> int:
        return self.head_dim or self.width // self.heads


@dataclass(frozen=True)
class Extras:
    """What an architecture has otherwise than llama: tensors of a layer by number, and tensors outside of layers (None:
    llama's of this name is not there; another shape takes its place), and keys."""

    layer: Callable[[Shape, int], Mapping[str, Dims | None]] = lambda shape, i: {}
    keys: Callable[[Shape], Mapping[str, Any]] = lambda shape: {}
    outer: Callable[[Shape], Mapping[str, Dims | None]] = lambda shape: {}


def _gpt_oss(shape: Shape, layer: int) -> dict[str, Dims | None]:
    q, kv = shape.heads * shape.head, shape.kv_heads * shape.head
    each = {"gate": shape.feed_forward, "up": shape.feed_forward, "down": shape.width}
    return {
        "ffn_norm.weight": None,
        "attn_q.bias": (q,), "attn_k.bias": (kv,), "attn_v.bias": (kv,), "attn_output.bias": (shape.width,),
        "attn_sinks.weight": (shape.heads,), "post_attention_norm.weight": (shape.width,),
        "ffn_gate_inp.bias": (shape.experts,),
        **{f"ffn_{name}_exps.bias": (shape.experts, rows) for name, rows in each.items()},
    }  # fmt: skip


def _shared_expert(shape: Shape, layer: int) -> dict[str, Dims | None]:
    rows = (shape.feed_forward, shape.width)
    return {"ffn_gate_shexp.weight": rows, "ffn_up_shexp.weight": rows, "ffn_down_shexp.weight": rows[::-1]}


def _head_norms(shape: Shape, layer: int) -> dict[str, Dims | None]:
    return {"attn_q_norm.weight": (shape.head,), "attn_k_norm.weight": (shape.head,)}


def _post_norms(shape: Shape, layer: int) -> dict[str, Dims | None]:
    return {"post_attention_norm.weight": (shape.width,), "post_ffw_norm.weight": (shape.width,)}


def _no_attention() -> dict[str, Dims | None]:
    return {f"attn_{name}.weight": None for name in ("q", "k", "v", "output")}


KEY_HEADS, KEY_DIM, TAPS, FULL = 16, 128, 4, 4  # delta nets have these; each FULL-th layer has attention


def _qwen35(shape: Shape, layer: int) -> dict[str, Dims | None]:
    norms: dict[str, Dims | None] = {"ffn_norm.weight": None, "post_attention_norm.weight": (shape.width,)}
    if (layer + 1) % FULL == 0:
        return norms | _head_norms(shape, layer) | {"attn_q.weight": (2 * shape.heads * shape.head, shape.width)}
    values = shape.value_heads * KEY_DIM
    mixed = 2 * KEY_HEADS * KEY_DIM + values
    return norms | _no_attention() | {
        "attn_qkv.weight": (mixed, shape.width), "attn_gate.weight": (values, shape.width),
        "ssm_alpha.weight": (shape.value_heads, shape.width), "ssm_beta.weight": (shape.value_heads, shape.width),
        "ssm_a": (shape.value_heads,), "ssm_dt.bias": (shape.value_heads,), "ssm_conv1d.weight": (mixed, TAPS),
        "ssm_norm.weight": (KEY_DIM,), "ssm_out.weight": (shape.width, values),
    }  # fmt: skip


def _qwen35_keys(shape: Shape) -> dict[str, Any]:
    return {
        "rope.dimension_count": shape.head // 4, "rope.dimension_sections": [11, 11, 10, 0],
        "full_attention_interval": FULL, "ssm.conv_kernel": TAPS, "ssm.state_size": KEY_DIM,
        "ssm.group_count": KEY_HEADS, "ssm.time_step_rank": shape.value_heads,
        "ssm.inner_size": shape.value_heads * KEY_DIM,
    }  # fmt: skip


LFM2_ATTENTION = (2, 5, 8, 10, 12, 14)


def _lfm2(shape: Shape, layer: int) -> dict[str, Dims | None]:
    if layer in LFM2_ATTENTION:
        return _head_norms(shape, layer)
    return _no_attention() | {
        "shortconv.in_proj.weight": (3 * shape.width, shape.width), "shortconv.conv.weight": (shape.width, 3),
        "shortconv.out_proj.weight": (shape.width, shape.width),
    }  # fmt: skip


SHARED, OWN_INPUT, PERIOD = 20, 256, 5  # layers without keys, columns, and layers of which one sees all


def _sees_all(layer: int) -> bool:
    return (layer + 1) % PERIOD == 0


def _gemma4_length(shape: Shape, layer: int) -> int:
    return shape.feed_forward * (2 if layer >= shape.layers - SHARED else 1)


def _gemma4(shape: Shape, layer: int) -> dict[str, Dims | None]:
    width, head, ff = shape.width, shape.head * (2 if _sees_all(layer) else 1), _gemma4_length(shape, layer)
    q, kv, own = shape.heads * head, shape.kv_heads * head, layer < shape.layers - SHARED
    return {
        "attn_q.weight": (q, width), "attn_k.weight": (kv, width) if own else None,
        "attn_v.weight": (kv, width) if own else None, "attn_output.weight": (width, q),
        "attn_q_norm.weight": (head,), **({"attn_k_norm.weight": (head,)} if own else {}),
        **_post_norms(shape, layer), "post_norm.weight": (width,), "layer_output_scale.weight": (1,),
        "inp_gate.weight": (OWN_INPUT, width), "proj.weight": (width, OWN_INPUT),
        "ffn_gate.weight": (ff, width), "ffn_up.weight": (ff, width), "ffn_down.weight": (width, ff),
    }  # fmt: skip


def _gemma4_keys(shape: Shape) -> dict[str, Any]:
    near, far = shape.head, 2 * shape.head
    return {
        "feed_forward_length": [_gemma4_length(shape, i) for i in range(shape.layers)],
        "attention.key_length": far, "attention.value_length": far, "rope.dimension_count": far,
        "attention.key_length_swa": near, "attention.value_length_swa": near, "rope.dimension_count_swa": near,
        "attention.sliding_window": 512,
        "attention.sliding_window_pattern": [not _sees_all(i) for i in range(shape.layers)],
        "attention.shared_kv_layers": SHARED, "embedding_length_per_layer_input": OWN_INPUT,
        "final_logit_softcapping": 30.0,
    }  # fmt: skip


def _gemma4_outer(shape: Shape) -> dict[str, Dims | None]:
    cols = shape.layers * OWN_INPUT
    return {
        "per_layer_token_embd.weight": (shape.vocab, cols), "per_layer_model_proj.weight": (cols, shape.width),
        "per_layer_proj_norm.weight": (OWN_INPUT,), "rope_freqs.weight": (shape.head,),
    }  # fmt: skip


def _inner(shape: Shape) -> dict[str, Any]:
    return {"expert_feed_forward_length": shape.feed_forward}


EXTRAS = {
    "llama": Extras(),
    "qwen3": Extras(_head_norms),
    "qwen3moe": Extras(_head_norms, _inner),
    "qwen35": Extras(_qwen35, _qwen35_keys),
    "gemma3": Extras(
        lambda shape, i: {**_head_norms(shape, i), **_post_norms(shape, i)},
        lambda _: {"attention.sliding_window": 512},
    ),
    "gemma4": Extras(_gemma4, _gemma4_keys, _gemma4_outer),
    "lfm2": Extras(
        _lfm2,
        lambda shape: {
            "attention.head_count_kv": [shape.kv_heads if i in LFM2_ATTENTION else 0 for i in range(shape.layers)],
            "shortconv.l_cache": 3,
        },
        lambda shape: {"output_norm.weight": None, "token_embd_norm.weight": (shape.width,)},
    ),
    "gpt-oss": Extras(
        _gpt_oss,
        lambda shape: {
            **_inner(shape), "attention.sliding_window": 128, "rope.scaling.type": "yarn",
            "rope.scaling.factor": 32.0, "rope.scaling.original_context_length": 4096,
        },
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
    "qwen3-0.6b": Shape(28, 1024, 16, 8, 3072, 151936, 40960, tied=True, bpe=True, rope_base=1e6, head_dim=128,
                        architecture="qwen3"),
    "qwen3-1.7b": Shape(28, 2048, 16, 8, 6144, 151936, 40960, tied=True, bpe=True, rope_base=1e6, head_dim=128,
                        architecture="qwen3"),
    "qwen3.5-0.8b": Shape(24, 1024, 8, 2, 3584, 248320, 262144, tied=True, bpe=True, rope_base=1e7, head_dim=256,
                          architecture="qwen35", value_heads=16),
    "qwen3.5-4b": Shape(32, 2560, 16, 4, 9216, 248320, 262144, tied=True, bpe=True, rope_base=1e7, head_dim=256,
                        architecture="qwen35", value_heads=32),
    "gemma-3-1b": Shape(26, 1152, 4, 1, 6912, 262144, 32768, tied=True, rope_base=1e6, head_dim=256,
                        architecture="gemma3"),
    "gemma-4-e2b": Shape(35, 1536, 8, 1, 6144, 262144, 131072, tied=True, rope_base=1e6, head_dim=256,
                         architecture="gemma4"),
    "lfm2-1.2b": Shape(16, 2048, 32, 8, 8192, 65536, 128000, tied=True, bpe=True, rope_base=1e6, architecture="lfm2"),
    "mixtral-tiny": Shape(4, 256, 8, 4, 256, 512, 512, experts=8),
    "mixtral-small": Shape(12, 2048, 32, 8, 3584, 32000, 32768, rope_base=1e6, experts=8),
    # Real models, cut to fewer layers.
    "qwen3-30b-a3b": Shape(12, 2048, 32, 4, 768, 151936, 40960, bpe=True, rope_base=1e6, experts=128, used=8,
                           head_dim=128, architecture="qwen3moe"),
    "gpt-oss-20b": Shape(8, 2880, 64, 8, 2880, 201088, 131072, bpe=True, rope_base=150000.0, experts=32, used=4,
                         head_dim=64, architecture="gpt-oss"),
    "llama-4-scout": Shape(4, 5120, 40, 8, 8192, 202048, 131072, bpe=True, rope_base=500000.0, experts=16, used=1,
                           architecture="llama4"),
}  # fmt: skip


def tensors(shape: Shape) -> Iterator[tuple[str, Dims]]:
    """Name and shape of every tensor."""
    extras = EXTRAS[shape.architecture]
    last: dict[str, Dims] = {"output_norm.weight": (shape.width,)}
    if not shape.tied:
        last["output.weight"] = (shape.vocab, shape.width)
    yield "token_embd.weight", (shape.vocab, shape.width)
    for i in range(shape.layers):
        yield from ((f"blk.{i}.{name}", dims) for name, dims in _merged(_block(shape), extras.layer(shape, i)))
    yield from _merged(last, extras.outer(shape))


def _block(shape: Shape) -> dict[str, Dims]:
    """Tensors of a layer of llama."""
    width, ff = shape.width, shape.feed_forward
    q_width, kv_width = shape.head * shape.heads, shape.head * shape.kv_heads
    experts, suffix = ((shape.experts,), "_exps") if shape.experts else ((), "")
    return {
        "attn_norm.weight": (width,), "attn_q.weight": (q_width, width), "attn_k.weight": (kv_width, width),
        "attn_v.weight": (kv_width, width), "attn_output.weight": (width, q_width), "ffn_norm.weight": (width,),
        **({"ffn_gate_inp.weight": (shape.experts, width)} if experts else {}),
        f"ffn_gate{suffix}.weight": (*experts, ff, width), f"ffn_up{suffix}.weight": (*experts, ff, width),
        f"ffn_down{suffix}.weight": (*experts, width, ff),
    }  # fmt: skip


def _merged(usual: Mapping[str, Dims], own: Mapping[str, Dims | None]) -> Iterator[tuple[str, Dims]]:
    return ((name, dims) for name, dims in {**usual, **own}.items() if dims is not None)
