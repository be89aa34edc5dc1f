"""Mamba-2 (Dao and Gu 2024): a recurrence with a state in the place of attention, behind a short convolution. Models
of nothing else have no keys and values to keep."""

from __future__ import annotations

from dataclasses import dataclass

from llamaq.models.blocks import logits
from llamaq.models.hparams import HParams, block_count, vocab_size
from llamaq.models.keys import Keys
from llamaq.plan.graph import Graph, Norm, Value

__all__ = ["Mixer", "mamba2", "mixer_of", "read", "trace"]


@dataclass(frozen=True)
class Mixer:
    """``heads`` of ``head_dim`` numbers; ``groups`` of them share what is put into states of ``state_dim`` rows and
    read from there. The convolution has ``taps``."""

    heads: int
    head_dim: int
    groups: int
    state_dim: int
    taps: int

    @property
    def inner(self) -> int:
        return self.heads * self.head_dim


@dataclass(frozen=True)
class _HParams(HParams):
    mixer: Mixer
    eps: float


def read(keys: Keys) -> _HParams:
    layers, width = block_count(keys), keys.integer("embedding_length")
    return _HParams(
        keys.architecture, layers, width, vocab_size(keys, width), keys.integer("context_length"), mixer_of(keys),
        keys.positive("attention.layer_norm_rms_epsilon"),
    )  # fmt: skip


def trace(g: Graph, hp: _HParams) -> Value:
    """Logits of the wanted rows."""
    x = g.embed("token_embd")
    for i in g.layers(hp.layers):
        x = mamba2(g, hp.mixer, i, x, Norm(f"blk.{i}.attn_norm", hp.eps))
    return logits(g, x, Norm("output_norm", hp.eps))


def mixer_of(keys: Keys) -> Mixer:
    """Raises ``ModelError`` for keys that are missing, out of range or contradict one another."""
    heads, groups = keys.integer("ssm.time_step_rank"), keys.integer("ssm.group_count", 1)
    if heads % groups:
        raise keys.error("ssm.group_count", groups, f"a divisor of ssm.time_step_rank ({heads})")
    inner = keys.integer("ssm.inner_size")
    if inner % heads:
        raise keys.error("ssm.inner_size", inner, f"a multiple of ssm.time_step_rank ({heads})")
    state_dim = keys.integer("ssm.state_size", high=1 << 16)
    return Mixer(heads, inner // heads, groups, state_dim, keys.integer("ssm.conv_kernel", low=2, high=1 << 10))


def mamba2(g: Graph, m: Mixer, layer: int, x: Value, norm: Norm, *, scale: float = 1.0) -> Value:
    """``x`` plus what the layer makes of it, times ``scale``."""
    b = f"blk.{layer}."
    mixed = m.inner + 2 * m.groups * m.state_dim
    z, u, steps = g.linear(x, *g.split(b + "ssm_in", [m.inner, mixed, m.heads]), norm=norm)
    u = g.short_conv(u, b + "ssm_conv1d", layer=layer, taps=m.taps, gated=False)
    y = g.ssm_scan(
        u, steps, decay=b + "ssm_a", bias=b + "ssm_dt.bias", skip=b + "ssm_d", layer=layer, heads=m.heads,
        groups=m.groups, state_dim=m.state_dim, head_dim=m.head_dim,
    )  # fmt: skip
    y = g.norm(g.gate(y, z, act="silu"), Norm(b + "ssm_norm", norm.eps), heads=m.groups, own=True)
    return g.linear(y, b + "ssm_out", add=x, scale=scale)
