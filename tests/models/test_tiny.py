"""Every decoder beside an independent implementation: tiny random models, the logits of all positions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from engines import engine_of
from llamaq import _core
from llamaq.engine.engine import Engine
from llamaq.engine.kv_cache import KVCache
from llamaq.engine.loading import plan_of
from llamaq.formats import decode, format_by_name
from llamaq.gguf import GGUFFile
from llamaq.models import ARCHITECTURES
from llamaq.models.registry import UNSUPPORTED
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
from llamaq.plan.reference import Reference
from llamaq.plan.rope import make_rope
from llamaq.plan.step import Step
from tiny_encoders import ENCODERS
from tiny_models import tiny_model

DECODERS = {name: entry for name, entry in ARCHITECTURES.items() if {*entry.tiny}.isdisjoint(ENCODERS)}
TINY = sorted({(name, tiny) for name, entry in DECODERS.items() for tiny in entry.tiny})
BOUND = 1e-5
"""Of log-probabilities: logits are a few units, so their last bit is 5e-7, and they are sums of some hundred products,
a few layers deep, in another order. A fault of a formula moves them ten times as far at least."""
LARGER_BOUNDS = {"qwen3next": 6e-5, "qwen35": 3e-5, "qwen35moe": 3e-5, "gemma4": 5e-5, "gemma4-moe": 3e-5}
"""Of models where the last bit of each weight moves log-probabilities further (``test_bounds_are_those_of_rounding``):
a delta net's state carries every rounding on, and Gemma 4 multiplies rows of length 1 without a scale of scores."""
F32 = NDArray[np.float32]


def bound_of(tiny: str) -> float:
    return LARGER_BOUNDS.get(tiny, BOUND)


@contextmanager
def opened(tiny: str) -> Iterator[tuple[GGUFFile, F32, F32]]:
    """The file, token ids and the logits of an independent implementation."""
    path, reference = tiny_model(tiny)
    with GGUFFile.open(path) as file:
        yield file, reference["ids"], reference["logits"]


def weights_of(file: GGUFFile) -> dict[str, Any]:
    return {name: (info.format, file.data(name)) for name, info in file.tensors.items()}


def log_softmax(logits: F32) -> NDArray[np.float64]:
    wide = logits.astype(np.float64)
    wide -= wide.max(-1, keepdims=True)
    return np.asarray(wide - np.log(np.exp(wide).sum(-1, keepdims=True)))


def off(logits: F32, reference: F32) -> float:
    return float(abs(log_softmax(logits) - log_softmax(reference)).max())


def through(engine: Engine, plan: Plan, ids: F32, sizes: list[int]) -> F32:
    """Logits of all positions, read in pieces."""
    cache, parts, start = KVCache(plan, 64, "f32"), [], 0
    for size in sizes:
        parts.append(engine.forward(Step.of(ids[start : start + size], start=start, wanted="all"), cache))
        start += size
    return np.concatenate(parts)


@pytest.mark.parametrize(("architecture", "tiny"), TINY)
def test_logits_are_those_of_an_independent_implementation(
    architecture: str, tiny: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In NumPy; and the compiled executor has its bits on every level, on any number of threads, however the prompt is
    cut, and beside another sequence."""
    with opened(tiny) as (file, ids, want):
        assert file.metadata["general.architecture"] == architecture
        plan = as_there(architecture, plan_of(file, 64)[1])
        weights = weights_of(file)
        logits = Reference(plan, weights, cache_type="f32").forward(Step.of(ids, wanted="all"))
        assert off(logits, want) < bound_of(tiny)
        for isa in _core.isas():
            engine = engine_of(plan, weights, isa, monkeypatch, threads=2)
            np.testing.assert_array_equal(through(engine, plan, ids, [len(ids)]), logits)
        for threads in (1, 2, 5):
            engine = engine_of(plan, weights, _core.isas()[-1], monkeypatch, threads=threads)
            for sizes in ([7, 1, 16], [1] * len(ids)):
                np.testing.assert_array_equal(through(engine, plan, ids, sizes), logits)
        rows = [Step.of(ids[::-1], sequence=1, wanted="all"), Step.of(ids, wanted="all")]
        together = engine.forward(Step.join(rows), KVCache(plan, 128, "f32"))
        np.testing.assert_array_equal(together[len(ids) :], logits)


@pytest.mark.parametrize("tiny", LARGER_BOUNDS)
def test_bounds_are_those_of_rounding(tiny: str) -> None:
    """A bound is no more than three times what a change of each weight in its last bit makes."""
    rng = np.random.default_rng(5)
    with opened(tiny) as (file, ids, _):
        plan, f32 = plan_of(file, 64)[1], format_by_name("F32")
        weights = {name: decode(*weight) for name, weight in weights_of(file).items()}
        changed = {
            name: x * (1 + rng.uniform(-1, 1, x.shape).astype(np.float32) * np.float32(2**-23))
            for name, x in weights.items()
        }
        assert all(info.format == f32 for info in file.tensors.values())
        step = Step.of(ids, wanted="all")
        found = [Reference(plan, each, cache_type="f32").forward(step) for each in (weights, changed)]
    assert LARGER_BOUNDS[tiny] < 3 * off(*found)


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
    "mistral3": {"temperature": of(Attention, temperature=Temperature(1.0, 8))},
    "qwen2": {"biases": no_biases},
    "qwen2vl": {"biases": no_biases},
    "qwen3vl": NO_HEAD_NORMS,
    "qwen3vlmoe": ROUTING | NO_HEAD_NORMS,
    "qwen2moe": ROUTING | {"gate of the shared expert": of(SigmoidGate, weight=Weight("output_norm.weight", "vector"))},
    "qwen3moe": ROUTING | NO_HEAD_NORMS,
    "gpt-oss": WINDOWS | {
        "gating": of(Route, gating="softmax"),
        "sinks": of(Attention, sinks=None),
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
    "smollm3": {"layers without rope": rope_everywhere},
    "granite": NO_SCALES,
    "olmo2": POST_NORMS,
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


@pytest.mark.parametrize(("architecture", "tiny"), TINY)
def test_without_a_feature_logits_are_others(architecture: str, tiny: str) -> None:
    features = FEATURES[architecture] | FEATURES.get(tiny, {}) | OWN.get(tiny, {})
    with opened(tiny) as (file, ids, want):
        plan = as_there(architecture, plan_of(file, 64)[1])
        if any(getattr(node.op, "rope", None) is not None for node in plan.nodes):
            features = {"other layout of rope": other_layout} | features
        for name, change in features.items():
            other = changed(plan, change)
            assert other.nodes != plan.nodes, name
            logits = through(Engine(other, file, threads=1), other, ids, [len(ids)])
            assert off(logits, want) > 10 * bound_of(tiny), name


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_has_its_module_and_its_tests(name: str) -> None:
    entry = ARCHITECTURES[name]
    module = import_module(f"llamaq.models.{entry.module}")
    assert callable(module.read)
    assert callable(module.trace)
    assert entry.tiny
    assert (name in FEATURES) == (name in DECODERS)  # encoders: test_encoders.py
    assert name not in UNSUPPORTED
