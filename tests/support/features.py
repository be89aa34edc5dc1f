"""The features that make each architecture another than Llama, as changes of a plan that take them away."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from llamaq.plan.op import Op
from llamaq.plan.operands import Norm, Temperature, Weight
from llamaq.plan.ops.act_experts import ActExperts
from llamaq.plan.ops.act_linear import ActLinear
from llamaq.plan.ops.attention import Attention
from llamaq.plan.ops.delta_net import DeltaNet
from llamaq.plan.ops.embed import Embed
from llamaq.plan.ops.experts import Experts
from llamaq.plan.ops.gate import Gate
from llamaq.plan.ops.glu_experts import GluExperts
from llamaq.plan.ops.glu_linear import GluLinear
from llamaq.plan.ops.linear import Linear
from llamaq.plan.ops.norm import NormRows
from llamaq.plan.ops.route import Route
from llamaq.plan.ops.short_conv import ShortConv
from llamaq.plan.ops.sigmoid_gate import SigmoidGate
from llamaq.plan.ops.ssm_scan import SsmScan
from llamaq.plan.plan import Plan
from llamaq.plan.rope import make_rope

__all__ = ["FEATURES", "OWN", "as_there", "changed", "other_layout"]

Change = Callable[[Op], Op]


def of(kind: type[Op], **fields: Any) -> Change:
    """Ops of a kind with other fields, where they have them otherwise."""
    return lambda op: with_fields(op, **fields) if isinstance(op, kind) else op


def with_fields(op: Any, **fields: Any) -> Op:
    changed: Op = replace(op, **fields)
    return changed


def changed(plan: Plan, change: Change) -> Plan:
    return replace(plan, nodes=tuple(replace(node, op=change(node.op)) for node in plan.nodes))


def as_there(architecture: str, plan: Plan) -> Plan:
    """Where transformers computes with other numbers than its configuration, and so the file, says: norms of compressed
    rows have an epsilon of 1e-6, which real models have everywhere."""
    if architecture != "deepseek2":
        return plan
    weights = ("attn_q_a_norm.weight", "attn_kv_a_norm.weight")
    return changed(plan, lambda op: norms(eps=1e-6)(op) if str(getattr(op, "norm", "")).endswith(weights) else op)


def windows(tokens: int) -> Change:
    return lambda op: replace(op, window=tokens) if isinstance(op, Attention) and op.window else op


def no_local_rope(op: Op) -> Op:
    """Layers with windows turn as a base of 1000 says."""
    if not isinstance(op, Attention) or not op.window or op.rope is None:
        return op
    return replace(op, rope=replace(op.rope, frequencies=tuple(f**0.75 for f in op.rope.frequencies)))


def plain_rope(base: float) -> Change:
    """Ropes without YaRN, divisors and a factor of their own."""

    def change(op: Op) -> Op:
        if not isinstance(op, Attention) or op.rope is None:
            return op
        return replace(op, rope=make_rope(op.rope.dims, base, layout=op.rope.layout))

    return change


def other_layout(op: Op) -> Op:
    if not isinstance(op, Attention) or op.rope is None:
        return op
    return replace(op, rope=replace(op.rope, layout="norm" if op.rope.layout == "neox" else "neox"))


def rope_everywhere(op: Op) -> Op:
    if not isinstance(op, Attention) or op.rope is not None:
        return op
    return replace(op, rope=make_rope(op.head_dim, 10000.0))


def no_biases(op: Op) -> Op:
    kinds = Linear | GluLinear | ActLinear | ActExperts | GluExperts | Experts
    return with_fields(op, biases=(None,) * len(op.biases)) if isinstance(op, kinds) else op


def norms(**fields: Any) -> Change:
    """Norms of rows, wherever they stand, with other fields."""

    def change(op: Op) -> Op:
        norm = getattr(op, "norm", None)
        return with_fields(op, norm=replace(norm, **fields)) if isinstance(norm, Norm) else op

    return change


def swapped_gate(op: Op) -> Op:
    return replace(op, weights=op.weights[::-1]) if isinstance(op, GluLinear) else op


def other_taps(op: Op) -> Op:
    if not isinstance(op, ShortConv):
        return op
    _, number, rest = op.weight.name.split(".", 2)
    return replace(op, weight=Weight(f"blk.0.{rest}", "vector")) if number != "0" else op


def no_own_input(op: Op) -> Op:
    """Every layer gets what is the first one's."""
    return replace(op, first=0) if isinstance(op, Gate) else op


def own_cache(op: Op) -> Op:
    """A layer without keys reads the cache of the first layer of its kind, rather than of the last."""
    if not isinstance(op, Attention) or not op.shared:
        return op
    return replace(op, layer={4: 0, 5: 2}[op.layer])


NO_SCALES: dict[str, Change] = {
    "embedding scale": of(Embed, scale=1.0),
    "other scales": of(Linear, scale=1.0),
    "attention scale": of(Attention, scale=0.25),
}
NO_HEAD_NORMS: dict[str, Change] = {"q norm": of(Attention, q_norm=None), "k norm": of(Attention, k_norm=None)}
POST_NORMS: dict[str, Change] = {"post norms": of(NormRows, norm=Norm(None, 1e-5))}
WINDOWS: dict[str, Change] = {"window": windows(0), "shorter window": windows(7)}
FUSED: dict[str, Change] = {"order of gate and up": swapped_gate}
GELU: dict[str, Change] = {"silu": of(GluLinear, act="silu"), "erf": of(GluLinear, act="gelu_erf")}
ROUTING: dict[str, Change] = {
    "gating": of(Route, gating="sigmoid"),
    "normalizing": lambda op: replace(op, normalize=not op.normalize) if isinstance(op, Route) else op,
}
DELTA: dict[str, Change] = NO_HEAD_NORMS | {
    "weights of the taps": other_taps,
    "order of heads": lambda op: replace(op, grouped=not op.grouped) if isinstance(op, DeltaNet) else op,
    "decay": lambda op: replace(op, decay=op.step) if isinstance(op, DeltaNet) else op,
    "steps": lambda op: replace(op, step=op.decay) if isinstance(op, DeltaNet) else op,
    "gate of attention": lambda op: replace(op, act="silu") if isinstance(op, Gate) and op.act == "sigmoid" else op,
    "gate of delta nets": lambda op: replace(op, act="sigmoid") if isinstance(op, Gate) and op.act == "silu" else op,
}
MAMBA: dict[str, Change] = {
    "weights of the taps": other_taps,
    "biases of the taps": of(ShortConv, bias=None),
    "decay": lambda op: replace(op, decay=op.bias) if isinstance(op, SsmScan) else op,
    "biases of steps": lambda op: replace(op, bias=op.skip) if isinstance(op, SsmScan) else op,
    "what goes past the state": lambda op: replace(op, skip=op.bias) if isinstance(op, SsmScan) else op,
    "gate of scans": of(Gate, act="sigmoid"),
}
GROUPS: dict[str, Change] = {
    "norms of groups": lambda op: replace(op, heads=1) if isinstance(op, NormRows) and op.heads > 1 else op,
}
FEATURES: dict[str, dict[str, Change]] = {
    "llama": {},
    "mllama": {},  # what pictures change: tests/vision/test_mllama.py
    "mixtral": ROUTING,
    "mistral3": {"temperature": of(Attention, temperature=Temperature(1.0, 8)), "YaRN": plain_rope(1e6)},
    "qwen2": {"biases": no_biases},
    "qwen2vl": {"biases": no_biases},
    "qwen3vl": NO_HEAD_NORMS,
    "qwen3vlmoe": ROUTING | NO_HEAD_NORMS,
    "qwen2moe": ROUTING | {"gate of the shared expert": of(SigmoidGate, weight=Weight("output_norm.weight", "vector"))},
    "qwen3moe": ROUTING | NO_HEAD_NORMS,
    "gpt-oss": WINDOWS | {
        "gating": of(Route, gating="softmax"),
        "sinks": of(Attention, sinks=None),
        "YaRN": plain_rope(150000.0),
        "biases": no_biases,
        "silu": of(GluExperts, act="silu"),
    },
    "deepseek2": {
        "rope": lambda op: replace(op, rope_offset=0) if isinstance(op, Attention) else op,
        "gating": of(Route, gating="softmax_of_chosen"),
        "normalizing": ROUTING["normalizing"],
        "scale of experts": lambda op: replace(op, scale=2 * op.scale) if isinstance(op, Route) else op,
        "norms of compressed rows": lambda op: norms(eps=1.0)(op) if isinstance(op, NormRows) else op,
        "scale of scores": of(Attention, scale=40**-0.5),
    },
    "deepseek3": {
        "sigmoid": of(Route, gating="softmax"),
        "groups": of(Route, groups=1, groups_used=1),
    },
    "granitemoe": NO_SCALES | {
        "gating": ROUTING["gating"],
        "normalizing": ROUTING["normalizing"],
        "scale of experts": of(Route, scale=1.0),
    },
    "granitehybrid": NO_SCALES | MAMBA | {"layers without rope": rope_everywhere},
    "granitehybrid-moe": ROUTING | GROUPS | {"scale of experts": of(Route, scale=1.0)},
    "mamba2": MAMBA,
    "nemotron_h": MAMBA | GROUPS | {
        "layers without rope": rope_everywhere,
        "silu": of(ActLinear, act="silu"),
    },
    "nemotron_h_moe": GROUPS | {
        "gating": of(Route, gating="softmax"),
        "normalizing": ROUTING["normalizing"],
        "scale of experts": of(Route, scale=1.0),
        "selection": of(Route, selection=None),
        "silu of experts": of(ActExperts, act="silu"),
        "silu": of(ActLinear, act="silu"),
        "layers without rope": rope_everywhere,
    },
    "nemotron-h-latent": {"groups": of(Route, groups=1, groups_used=1)},
    "llama4": NO_HEAD_NORMS | {
        "layers without rope": rope_everywhere,
        "gating": of(Route, gating="softmax"),
        "weights of inputs": of(GluExperts, weighted_input=False),
        "chunk": lambda op: replace(op, chunk=8) if isinstance(op, Attention) and op.chunk else op,
        "temperature": lambda op: replace(op, temperature=Temperature(0.1, 8, 1))
        if isinstance(op, Attention) and op.temperature else op,
    },
    "qwen3": NO_HEAD_NORMS,
    "gemma": GELU | {"embedding scale": of(Embed, scale=1.0)},
    "gemma2": GELU | WINDOWS | POST_NORMS | {
        "embedding scale": of(Embed, scale=1.0),
        "cap of scores": of(Attention, softcap=0.0),
        "cap of logits": of(Linear, softcap=0.0),
    },
    "gemma3": GELU | WINDOWS | POST_NORMS | NO_HEAD_NORMS | {
        "embedding scale": of(Embed, scale=1.0),
        "local rope": no_local_rope,
    },
    "phi3": FUSED,
    "phi3-long": {"divisors": plain_rope(1e4)},
    "smollm3": {"layers without rope": rope_everywhere},
    "granite": NO_SCALES,
    "olmo2": POST_NORMS,
    "olmo3": WINDOWS | {"local rope": no_local_rope, "YaRN": plain_rope(5e5)},
    "command-r": {"layer norm": norms(kind="rms"), "logit scale": of(Linear, scale=1.0)},
    "cohere2": WINDOWS | {"layers without rope": rope_everywhere, "logit scale": of(Linear, scale=1.0)},
    "glm4": POST_NORMS | FUSED,
    "glm4moe": {
        "biases": no_biases,
        "part of a head": of(Attention, rope=make_rope(24, 1e6, layout="neox")),
        "gating": of(Route, gating="softmax"),
        "normalizing": ROUTING["normalizing"],
        "scale of experts": lambda op: replace(op, scale=2 * op.scale) if isinstance(op, Route) else op,
        "selection": of(Route, selection=None),
        "silu": of(GluLinear, act="gelu"),
        "silu of experts": of(GluExperts, act="gelu"),
    },
    "glm4moe-normed": NO_HEAD_NORMS,
    "lfm2moe": NO_HEAD_NORMS | ROUTING | {
        "weights of the taps": other_taps,
        "gating": of(Route, gating="softmax"),
        "selection": of(Route, selection=None),
    },
    "qwen35": DELTA,
    "qwen35moe": DELTA | ROUTING,
    "qwen3next": DELTA | ROUTING,
    "gemma4": GELU | WINDOWS | POST_NORMS | NO_HEAD_NORMS | {
        "v norm": of(Attention, v_norm=None),
        "scale of scores": of(Attention, scale=0.5),
        "cap of logits": of(Linear, softcap=0.0),
    },
    "gemma4-moe": ROUTING | {
        "factors of experts": of(Route, factors=None),
        "scale of layers": of(NormRows, factor=None),
        "silu of experts": of(GluExperts, act="silu"),
    },
    "lfm2": NO_HEAD_NORMS | {"weights of the taps": other_taps},
    "starcoder2": {
        "biases": no_biases,
        "layer norm": norms(kind="rms", bias=None),
        "biases of norms": norms(bias=None),
        "silu": of(ActLinear, act="silu"),
    },
}  # fmt: skip
"""The features that make each architecture another than Llama, and the ops without them."""
OWN: dict[str, dict[str, Change]] = {
    "gemma4": {"inputs of layers": no_own_input, "owner of the cache": own_cache},
}
"""Features that not all models of an architecture have."""
