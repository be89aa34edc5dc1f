"""Qwen 3.5 and Qwen3-Next: Qwen team (2025, 2026). Three of four layers are gated delta nets in the place of attention;
attention has a gate of its own."""

from __future__ import annotations

from dataclasses import dataclass, replace

from llamaq.models import nextn
from llamaq.models.blocks import attend, logits
from llamaq.models.experts import Mixture, feed_forward, mixture_of
from llamaq.models.hparams import Decoder, read_decoder
from llamaq.models.keys import Keys
from llamaq.plan.graph import Graph, HeadNorm, Norm, Value

__all__ = ["Qwen35", "read", "trace", "trace_nextn"]


@dataclass(frozen=True)
class Qwen35(Decoder):
    """``recurrent`` layers are delta nets: ``value_heads`` of ``value_dim`` numbers, of which ``key_heads`` of
    ``key_dim`` serve several each, behind convolutions of ``taps``, in an order that may be ``grouped``
    (``Graph.delta_net``)."""

    recurrent: tuple[bool, ...]
    value_heads: int
    value_dim: int
    key_heads: int
    key_dim: int
    taps: int
    grouped: bool
    moe: Mixture | None


def read(keys: Keys) -> Qwen35:
    hp = read_decoder(keys, layout="neox", sections="interleaved", least_kv_heads=0)
    recurrent = _recurrent(keys, hp)
    hp = replace(hp, kv_heads=(max(hp.kv_heads),) * hp.layers)
    value_heads, key_heads = keys.integer("ssm.time_step_rank"), keys.integer("ssm.group_count")
    if value_heads % key_heads:
        raise keys.error("ssm.group_count", key_heads, f"a divisor of ssm.time_step_rank ({value_heads})")
    inner = keys.integer("ssm.inner_size")
    if inner % value_heads:
        raise keys.error("ssm.inner_size", inner, f"a multiple of ssm.time_step_rank ({value_heads})")
    return Qwen35(
        **vars(hp),
        recurrent=recurrent,
        value_heads=value_heads,
        value_dim=inner // value_heads,
        key_heads=key_heads,
        key_dim=keys.integer("ssm.state_size"),
        taps=keys.integer("ssm.conv_kernel", low=2, high=1 << 10),
        grouped=keys.architecture == "qwen3next",
        moe=mixture_of(keys) if keys.integer("expert_count", 0, low=0) > 0 else None,
    )


def _recurrent(keys: Keys, hp: Decoder) -> tuple[bool, ...]:
    """Which layers are delta nets. In files of ollama's converter those are without KV heads."""
    if not all(hp.kv_heads):
        if not any(hp.kv_heads):
            raise keys.error("attention.head_count_kv", 0, "a number of KV heads for the layers with attention")
        return tuple(count == 0 for count in hp.kv_heads)
    every = keys.integer("full_attention_interval", 4)
    found = keys.flags("attention.recurrent_layers", hp.layers)
    return found if isinstance(found, tuple) else tuple((i + 1) % every != 0 for i in range(hp.layers))


def trace(g: Graph, hp: Qwen35) -> Value:
    """Logits of the wanted rows."""
    x = g.embed("token_embd")
    for i in g.layers(hp.layers):
        x = _delta_net(g, hp, i, x) if hp.recurrent[i] else _attention(g, hp, i, x)
        x = _feed_forward(g, hp, i, x)
    return logits(g, x, Norm("output_norm", hp.eps))


def trace_nextn(g: Graph, hp: Qwen35) -> Value:
    """The same of the block that guesses further tokens, which has attention."""
    x = _attention(g, nextn.with_block(hp), hp.layers, nextn.joined(g, hp))
    return nextn.logits(g, hp, _feed_forward(g, hp, hp.layers, x))


def _feed_forward(g: Graph, hp: Qwen35, layer: int, x: Value) -> Value:
    return feed_forward(g, x, Norm(f"blk.{layer}.post_attention_norm", hp.eps), layer, hp.moe)


def _delta_net(g: Graph, hp: Qwen35, layer: int, x: Value) -> Value:
    b = f"blk.{layer}."
    norm = Norm(b + "attn_norm", hp.eps)
    if hp.grouped:
        mixed, z, gates = g.linear(x, b + "attn_qkv", b + "attn_gate", b + "ssm_ba", norm=norm)
    else:
        mixed, z, beta, alpha = g.linear(x, b + "attn_qkv", b + "attn_gate", b + "ssm_beta", b + "ssm_alpha", norm=norm)
        gates = g.concat(beta, alpha)
    mixed = g.short_conv(mixed, b + "ssm_conv1d", layer=layer, taps=hp.taps, gated=False)
    step = b + ("ssm_dt" if b + "ssm_dt" in g.shapes else "ssm_dt.bias")  # the former is ollama's
    y = g.delta_net(
        mixed, gates, decay=b + "ssm_a", step=step, norm=b + "ssm_norm.weight", eps=hp.eps, layer=layer,
        heads=hp.value_heads, key_heads=hp.key_heads, key_dim=hp.key_dim, value_dim=hp.value_dim, grouped=hp.grouped,
    )  # fmt: skip
    return g.linear(g.gate(y, z, act="silu"), b + "ssm_out", add=x)


def _attention(g: Graph, hp: Qwen35, layer: int, x: Value) -> Value:
    b = f"blk.{layer}."
    both, k, v = g.linear(x, b + "attn_q", b + "attn_k", b + "attn_v", norm=Norm(b + "attn_norm", hp.eps))
    q, gate = g.split_heads(both, heads=hp.heads[layer], head_dim=hp.head_dim)
    a = attend(g, hp, layer, q, k, v, q_norm=HeadNorm(hp.eps, b + "attn_q_norm"),
               k_norm=HeadNorm(hp.eps, b + "attn_k_norm"))  # fmt: skip
    return g.linear(g.gate(a, gate, act="sigmoid"), b + "attn_output", add=x)
