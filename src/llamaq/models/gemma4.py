"""Gemma 4: Google (2026). Gemma 3 with heads of two lengths, layers that read the cache of an earlier one, a small
input of each layer's own for every token, and a mixture of experts beside the dense half."""

from __future__ import annotations

import math
from dataclasses import dataclass

from llamaq.errors import ModelError
from llamaq.models.blocks import logits
from llamaq.models.experts import Mixture, mixture_of, routed
from llamaq.models.hparams import (
    MAX_HEAD_DIM,
    HParams,
    block_count,
    check_feed_forward,
    kv_heads_of,
    vocab_size,
    windows_of,
)
from llamaq.models.keys import Keys
from llamaq.models.ropes import local_rope_of, rope_of
from llamaq.plan.graph import Graph, HeadNorm, Norm, Value
from llamaq.plan.rope import Rope

__all__ = ["Gemma4", "read", "trace"]


_PADDING = 0  # the token that stands for what is no text in the table of further inputs


@dataclass(frozen=True)
class Gemma4(HParams):
    """Tuples have an entry for each layer. ``owners`` are the layers whose cache they read: their own, or the last one
    of their kind before those without keys and values. ``own_input`` is the length of what each layer gets for every
    token (0: nothing)."""

    heads: tuple[int, ...]
    kv_heads: tuple[int, ...]
    head_dims: tuple[int, ...]
    ropes: tuple[Rope, ...]
    windows: tuple[int, ...]
    owners: tuple[int, ...]
    eps: float
    own_input: int
    final_softcap: float
    moe: Mixture | None


def read(keys: Keys) -> Gemma4:
    layers, width, context = block_count(keys), keys.integer("embedding_length"), keys.integer("context_length")
    heads = keys.per_layer("attention.head_count", layers)
    check_feed_forward(keys, layers)
    windows = windows_of(keys, layers, period=6)
    far, near = _head_dims(keys)
    rope = rope_of(keys, far, context, layout="neox", base=1e6)
    local = local_rope_of(keys, near, layout="neox", base=10000.0)
    return Gemma4(
        keys.architecture, layers, width, vocab_size(keys, width), context,
        heads=heads,
        kv_heads=kv_heads_of(keys, layers, heads),
        head_dims=tuple(near if window else far for window in windows),
        ropes=tuple(local if window else rope for window in windows),
        windows=windows,
        owners=_owners(keys, windows),
        eps=keys.positive("attention.layer_norm_rms_epsilon"),
        own_input=keys.integer("embedding_length_per_layer_input", 0, low=0),
        final_softcap=keys.non_negative("final_logit_softcapping", 30.0),
        moe=mixture_of(keys) if keys.integer("expert_count", 0, low=0) > 0 else None,
    )  # fmt: skip


def _head_dims(keys: Keys) -> tuple[int, int]:
    """The length of heads that see all, and of those with a window."""
    found: list[int] = []
    for suffix in ("", "_swa"):
        dim = keys.integer(f"attention.key_length{suffix}", *found[:1], high=MAX_HEAD_DIM)
        values = keys.integer(f"attention.value_length{suffix}", dim)
        if values != dim:
            raise keys.error(f"attention.value_length{suffix}", values, f"{dim} as key_length{suffix}")
        found.append(dim)
    return found[0], found[1]


def _owners(keys: Keys, windows: tuple[int, ...]) -> tuple[int, ...]:
    shared = keys.integer("attention.shared_kv_layers", 0, low=0)
    own = len(windows) - shared
    latest = {bool(window): i for i, window in enumerate(windows[: max(0, own)])}
    if any(bool(window) not in latest for window in windows[max(0, own) :]):
        raise keys.error("attention.shared_kv_layers", shared, "layers of both kinds before those that share")
    return tuple(i if i < own else latest[bool(window)] for i, window in enumerate(windows))


def trace(g: Graph, hp: Gemma4) -> Value:
    """Logits of the wanted rows."""
    x = g.embed("token_embd", scale=math.sqrt(hp.width))
    own = _own_inputs(g, hp, x) if hp.own_input else None
    for i in g.layers(hp.layers):
        b = f"blk.{i}."
        scale = b + "layer_output_scale" if g.has(b + "layer_output_scale") else None
        x = g.norm(_attention(g, hp, i, x), Norm(b + "post_attention_norm", hp.eps), add=x)
        h = g.glu_linear(x, b + "ffn_gate", b + "ffn_up", act="gelu", norm=Norm(b + "ffn_norm", hp.eps))
        h = g.linear(h, b + "ffn_down")
        if hp.moe is not None:
            h = _with_experts(g, hp, hp.moe, i, x, g.norm(h, Norm(b + "post_ffw_norm_1", hp.eps)))
        x = g.norm(h, Norm(b + "post_ffw_norm", hp.eps), add=x, factor=None if hp.own_input else scale)
        if own is not None:
            h = g.gate(own, g.linear(x, b + "inp_gate"), act="gelu", first=i * hp.own_input)
            x = g.norm(g.linear(h, b + "proj"), Norm(b + "post_norm", hp.eps), add=x, factor=scale)
    return logits(g, x, Norm("output_norm", hp.eps), softcap=hp.final_softcap)


def _own_inputs(g: Graph, hp: Gemma4, x: Value) -> Value:
    """What each layer gets beside the row of the one before, side by side: of a table, and of the embedding."""
    rows = g.embed("per_layer_token_embd", scale=math.sqrt(hp.own_input), given_as=_PADDING)
    if rows.cols != hp.layers * hp.own_input:
        raise ModelError(
            f"tensor 'per_layer_token_embd.weight': expected {hp.layers * hp.own_input} columns, got {rows.cols}"
        )
    made = g.linear(x, "per_layer_model_proj", scale=1 / math.sqrt(hp.width))
    return g.norm(made, Norm("per_layer_proj_norm", hp.eps), add=rows, heads=hp.layers, scale=math.sqrt(0.5))


def _attention(g: Graph, hp: Gemma4, layer: int, x: Value) -> Value:
    b, norm = f"blk.{layer}.", Norm(f"blk.{layer}.attn_norm", hp.eps)
    owner = hp.owners[layer]
    k = v = None
    if owner != layer:
        q = g.linear(x, b + "attn_q", norm=norm)
    else:
        # Where there are no values of their own, they are the keys before their norm.
        values = b + "attn_v" if g.has(b + "attn_v") else b + "attn_k"
        q, k, v = g.linear(x, b + "attn_q", b + "attn_k", values, norm=norm)
    a = g.attention(
        q, k, v, layer=owner, heads=hp.heads[layer], kv_heads=hp.kv_heads[owner], head_dim=hp.head_dims[layer],
        scale=1.0, rope=hp.ropes[layer], window=hp.windows[layer], q_norm=HeadNorm(hp.eps, b + "attn_q_norm"),
        k_norm=None if k is None else HeadNorm(hp.eps, b + "attn_k_norm"),
        v_norm=None if k is None else HeadNorm(hp.eps), ahead=bool(hp.windows[layer]),
    )  # fmt: skip
    return g.linear(a, b + "attn_output")


def _with_experts(g: Graph, hp: Gemma4, moe: Mixture, layer: int, x: Value, dense: Value) -> Value:
    """``dense`` plus what the experts make of x. The router reads it with a norm of its own."""
    b = f"blk.{layer}."
    seen = Norm(b + "ffn_gate_inp.scale", hp.eps)
    r = g.linear(x, b + "ffn_gate_inp", norm=seen, scale=1 / math.sqrt(hp.width))
    n = g.norm(x, Norm(b + "pre_ffw_norm_2", hp.eps))
    h = routed(g, n, r, layer, moe, act="gelu")
    return g.norm(h, Norm(b + "post_ffw_norm_2", hp.eps), add=dense)
