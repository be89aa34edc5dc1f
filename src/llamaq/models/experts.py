"""Mixtures of experts as files describe them, in the place of a block's second half."""

from __future__ import annotations

from dataclasses import dataclass

from llamaq.errors import ModelError
from llamaq.models.keys import Keys
from llamaq.plan.activations import Activation
from llamaq.plan.graph import Graph, Norm, Value
from llamaq.plan.ops.route import Gating
from llamaq.plan.shapes import WeightName

__all__ = ["Mixture", "feed_forward", "mixture", "mixture_of", "routed", "shared_expert"]

_GATINGS: dict[int, Gating] = {1: "softmax", 2: "sigmoid", 3: "softmax_of_chosen"}


@dataclass(frozen=True)
class Mixture:
    """``count`` experts in ``groups``, of which each token goes to ``used``; see ``Graph.route``."""

    count: int
    used: int
    gating: Gating
    normalize: bool
    scale: float
    groups: int
    groups_used: int


def mixture_of(keys: Keys, *, gating: Gating = "softmax", normalize: bool = True) -> Mixture:
    """``gating`` and ``normalize`` are the architecture's, where the file does not say.

    Raises ``ModelError`` for a key that is missing or out of range, and for files with a tensor for each expert.
    """
    count = keys.integer("expert_count")
    if "blk.0.ffn_gate.0.weight" in keys.shapes:
        raise ModelError(
            "tensor 'blk.0.ffn_gate.0.weight': expected one tensor for all experts of a layer; the file was made "
            "before April 2024, so download a newer one, or convert the model again"
        )
    if keys.has("expert_gating_func"):
        number = keys.integer("expert_gating_func", low=0)
        if number not in _GATINGS:
            raise keys.error("expert_gating_func", number, "1 (softmax), 2 (sigmoid) or 3 (softmax of the chosen)")
        gating = _GATINGS[number]
    groups = keys.integer("expert_group_count", 1, low=0) or 1
    if count % groups:
        raise keys.error("expert_group_count", groups, f"a divisor of the {count} experts (expert_count)")
    groups_used = keys.integer("expert_group_used_count", groups, low=0, high=groups) or groups
    return Mixture(
        count,
        keys.integer("expert_used_count", high=count // groups * groups_used),
        gating,
        keys.flag("expert_weights_norm", normalize),
        keys.non_negative("expert_weights_scale", 0.0) or 1.0,
        groups,
        groups_used,
    )


def mixture(
    g: Graph, x: Value, layer: int, moe: Mixture, *, add: Value, act: Activation = "silu", weighted_input: bool = False
) -> Value:
    """``add`` plus what the layer's experts make of ``x``, which is normed."""
    r = g.linear(x, f"blk.{layer}.ffn_gate_inp")
    return routed(g, x, r, layer, moe, add=add, act=act, weighted_input=weighted_input)


def routed(
    g: Graph, x: Value, logits: Value, layer: int, moe: Mixture, *, add: Value | None = None, act: Activation = "silu",
    weighted_input: bool = False, gated: bool = True,
) -> Value:  # fmt: skip
    """What the layer's experts make of ``x`` (plus ``add``), chosen by ``logits`` for all of them; not ``gated`` they
    have two matrices each."""
    b = f"blk.{layer}."
    names = b + "exp_probs_b.bias", b + "ffn_down_exps.scale", b + "ffn_gate_inp.per_expert_scale"
    selection, factors, ollamas = (name if name in g.shapes else None for name in names)
    r = g.route(
        logits, used=moe.used, gating=moe.gating, normalize=moe.normalize, scale=moe.scale, selection=selection,
        groups=moe.groups, groups_used=moe.groups_used, factors=factors or ollamas,
    )  # fmt: skip
    if gated:
        h = g.glu_experts(x, r, *_gate_up(g, b), act=act, weighted_input=weighted_input)
    else:
        h = g.act_experts(x, r, b + "ffn_up_exps", act=act)
    return g.experts(h, r, b + "ffn_down_exps", add=add, weighted=not weighted_input)


def _gate_up(g: Graph, b: str) -> tuple[WeightName, WeightName]:
    """Both stacks, or the halves of one, the gate's rows first."""
    fused = b + "ffn_gate_up_exps"
    if not g.has(fused):
        return b + "ffn_gate_exps", b + "ffn_up_exps"
    rows = g.shapes.of(f"{fused}.weight", 3)[1]
    if rows % 2:
        raise ModelError(f"tensor '{fused}.weight': expected the rows of two matrices, got {rows}")
    return g.rows(fused, 0, rows // 2), g.rows(fused, rows // 2, rows)


def shared_expert(g: Graph, x: Value, layer: int, *, add: Value, scale: float = 1.0) -> Value:
    """``add`` plus what the expert that every token goes to makes of ``x`` (normed), behind a gate where it has one,
    times ``scale``."""
    b = f"blk.{layer}."
    h = g.glu_linear(x, b + "ffn_gate_shexp", b + "ffn_up_shexp")
    if g.has(b + "ffn_gate_inp_shexp"):
        h = g.sigmoid_gate(h, x, b + "ffn_gate_inp_shexp")
    return g.linear(h, b + "ffn_down_shexp", add=add, scale=scale)


def feed_forward(g: Graph, x: Value, norm: Norm, layer: int, moe: Mixture | None) -> Value:
    """``x`` plus what a block's second half makes of it: experts beside one that every token goes to, or without
    ``moe`` a gate and its two matrices."""
    b = f"blk.{layer}."
    if moe is None:
        return g.linear(g.glu_linear(x, b + "ffn_gate", b + "ffn_up", norm=norm), b + "ffn_down", add=x)
    n = g.norm(x, norm)
    return shared_expert(g, n, layer, add=mixture(g, n, layer, moe, add=x))
