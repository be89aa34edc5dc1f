"""For each op its usual fields and the other values that each may have, and weights that fit them."""

from __future__ import annotations

from typing import Any

import numpy as np

from llamaq.plan.graph import HeadNorm, Norm, Temperature
from llamaq.plan.op import Op
from llamaq.plan.operands import Weight
from llamaq.plan.ops.act_experts import ActExperts
from llamaq.plan.ops.act_linear import ActLinear
from llamaq.plan.ops.add_given import AddGiven
from llamaq.plan.ops.attention import Attention
from llamaq.plan.ops.bidirectional_attention import BidirectionalAttention
from llamaq.plan.ops.choose import Choose
from llamaq.plan.ops.clamp import Clamp
from llamaq.plan.ops.concat import Concat
from llamaq.plan.ops.cross_attention import CrossAttention
from llamaq.plan.ops.delta_net import DeltaNet
from llamaq.plan.ops.embed import Embed
from llamaq.plan.ops.experts import Experts
from llamaq.plan.ops.gate import Gate
from llamaq.plan.ops.given import Given
from llamaq.plan.ops.glu_experts import GluExperts
from llamaq.plan.ops.glu_linear import GluLinear
from llamaq.plan.ops.head_linear import HeadLinear
from llamaq.plan.ops.linear import Linear
from llamaq.plan.ops.merge_rows import MergeRows
from llamaq.plan.ops.norm import NormRows
from llamaq.plan.ops.positions import Positions
from llamaq.plan.ops.route import Route
from llamaq.plan.ops.select_rows import SelectRows
from llamaq.plan.ops.short_conv import ShortConv
from llamaq.plan.ops.sigmoid_gate import SigmoidGate
from llamaq.plan.ops.split_heads import SplitHeads
from llamaq.plan.ops.ssm_scan import SsmScan
from llamaq.plan.ops.standardize import Standardize
from llamaq.plan.rope import Rope

__all__ = ["ATTENTION", "BOTH_WAYS", "CASES", "NORMS", "ONE", "ROPES", "TRACED", "WEIGHTS"]

RNG = np.random.default_rng(3)
WEIGHTS = {
    name: RNG.normal(size=shape).astype(np.float32)
    for name, shape in {
        **{f"{name}.weight": (16, 16) for name in ("embd", "embd2", "a", "b", "c", "d", "out")},
        **{f"{name}.weight": (8, 16) for name in ("k", "v")},
        "k2.weight": (4, 16), "v2.weight": (4, 16), "fused.weight": (48, 16), "fused.bias": (48,),
        "n.weight": (16,), "m.weight": (16,), "e.bias": (16,), "f.bias": (16,), "v3.weight": (6, 16),
        **{f"{name}.weight": (8, 16, 16) for name in ("s", "t", "u")}, "fused_s.weight": (8, 48, 16),
        "heads.weight": (2, 5, 6), "heads2.weight": (2, 5, 6), "heads3.weight": (2, 10, 6),
        "s.bias": (8, 16), "t.bias": (8, 16), "fused_s.bias": (8, 48), "router.weight": (8, 16), "p.bias": (8,),
        "q.bias": (8,), "conv.weight": (16, 3), "conv2.weight": (16, 3),
        "one.weight": (1,), "one2.weight": (1,), "dn.weight": (2,), "dn2.weight": (2,), "falls.weight": (4,),
        "steps.weight": (4, 1),
        "h.weight": (4,), "hs.weight": (4, 4), "ks.weight": (2, 4), "sinks.weight": (4,), "sinks2.weight": (4,),
    }.items()
}  # fmt: skip
MATRIX = {name: Weight(f"{name}.weight", "matrix") for name in ("a", "b", "c", "d")}
BIAS = {name: Weight(f"{name}.bias", "vector") for name in ("e", "f")}
STACK = {name: Weight(f"{name}.weight", "stack") for name in ("s", "t", "u")}
BIASES = {name: Weight(f"{name}.bias", "vector") for name in ("s", "t")}
NORMS = [
    *[None, Norm("n.weight", 1e-5), Norm("m.weight", 1e-5), Norm("n.weight", 0.5), Norm(None, 1e-5)],
    *[Norm("n.weight", 1e-5, "layer"), Norm("n.weight", 1e-5, "layer", "e.bias"), Norm(None, 0.5, "layer")],
]
ROPES = [None, Rope((1.0, 0.1)), Rope((1.0, 0.1), 2.0), Rope((1.0, 0.1), 1.0, "neox"), Rope((0.7, 0.1)), Rope((1.0,)),
         *(Rope((1.0, 0.1), axes=axes) for axes in ((0, 1), (1, 2), (2, 1), (1, 1)))]  # fmt: skip
TRACED: dict[str, Any] = {
    "layer": 0, "heads": 4, "kv_heads": 2, "head_dim": 4, "scale": 0.4, "rope": ROPES[1], "window": 0, "chunk": 0,
}  # fmt: skip
ONE = {"weights": (MATRIX["a"],), "biases": (None,), "norm": None}
ATTENTION: dict[str, Any] = {
    **TRACED, "value_dim": 4, "value_of_key": False, "rope_offset": 0, "q_norm": None, "k_norm": None,
    "temperature": None, "softcap": 0.0, "sinks": None, "v_norm": None, "shared": False,
    "ahead": True,
}  # fmt: skip
BOTH_WAYS = {name: ATTENTION[name] for name in ("heads", "kv_heads", "head_dim", "scale", "rope")} | {"by_time": False}


def head_norms(own: str) -> list[Any]:
    """All kinds of norms of heads; ``own`` has a vector for each head."""
    h, each = "h.weight", f"{own}.weight"
    return [HeadNorm(1e-5), HeadNorm(0.5), HeadNorm(1e-5, h), HeadNorm(1e-5, each), HeadNorm(1e-5, h, "layer"),
            HeadNorm(1e-5, None, "layer"), HeadNorm(1e-5, each, "layer"), HeadNorm(1e-5, h, "rms", True),
            HeadNorm(1e-5, each, "layer", True)]  # fmt: skip


TWO = {"weights": (MATRIX["a"], MATRIX["b"]), "biases": (None, None), "norm": None}
CASES: dict[type[Op], tuple[dict[str, Any], dict[str, list[Any]]]] = {
    Embed: (
        {"table": Weight("embd.weight", "table"), "scale": 1.0, "types": Weight("embd.weight", "table")},
        {
            "table": [Weight("embd2.weight", "table")],
            "scale": [2.0, 0.5],
            "types": [None, Weight("embd2.weight", "table")],
            "second_after": [1, 5],
            "positions": [Weight("embd2.weight", "table")],
            "given_cols": [],  # see the tests of rows that are given
            "given_as": [],
        },
    ),
    NormRows: (
        {"norm": NORMS[1], "cols": 16},
        {
            "norm": NORMS[2:],
            "cols": [],
            "heads": [],  # weights are as long as a head: see the test of heads that are normed apart
            "own": [],
            "scale": [0.5, -3.0],
            "factor": [Weight("one.weight", "vector"), Weight("one2.weight", "vector")],
        },
    ),
    ActLinear: (
        {**ONE, "act": "silu"},
        {
            "weights": [(MATRIX["b"],)],
            "biases": [(BIAS["e"],)],
            "norm": NORMS[1:],
            "act": ["gelu", "gelu_erf", "relu2", "gelu_quick"],
        },
    ),
    SelectRows: ({"cols": 16}, {"cols": []}),
    MergeRows: ({"mode": "mean", "count": 2, "cols": 16}, {"mode": ["join"], "count": [1, 3], "cols": []}),
    Given: ({"cols": 16, "first": 0, "width": 16}, {"cols": [], "first": [], "width": []}),  # see test_given_columns
    AddGiven: ({"begin": 16, "cols": 16, "width": 48}, {"begin": [0, 32], "cols": [], "width": []}),
    Choose: ({"cols": 16}, {"cols": []}),
    Clamp: ({"low": -0.5, "high": 0.5, "cols": 16}, {"low": [-0.1, -9.0], "high": [0.1, 9.0], "cols": []}),
    Standardize: (
        {"scale": 2.0, "less": BIAS["e"], "factor": BIAS["f"], "cols": 16},
        {"scale": [0.5], "less": [BIAS["f"]], "factor": [BIAS["e"]], "cols": []},
    ),
    CrossAttention: (
        {"layer": 0, "heads": 4, "kv_heads": 2, "head_dim": 4, "scale": 0.4},
        {"layer": [1], "heads": [2], "kv_heads": [], "head_dim": [], "scale": [0.1]},  # pictures fix the others
    ),
    Positions: ({"table": Weight("embd.weight", "table")}, {"table": [Weight("embd2.weight", "table")]}),
    Linear: (
        ONE,
        {
            "weights": [(MATRIX["b"],), *[(Weight("fused.weight", "matrix", (i, i + 16)),) for i in (0, 16, 32)]],
            "biases": [(BIAS["e"],), (BIAS["f"],), (Weight("fused.bias", "vector", (16, 32)),)],
            "norm": NORMS[1:],
            "scale": [0.5, -3.0],
            "softcap": [0.7, 30.0],
        },
    ),
    GluLinear: (
        TWO,
        {
            "weights": [(MATRIX["b"], MATRIX["a"]), (MATRIX["a"], MATRIX["c"])],
            "biases": [(BIAS["e"], None), (None, BIAS["e"]), (BIAS["f"], BIAS["e"])],
            "norm": NORMS[1:],
            "act": ["gelu", "gelu_erf", "clamped", "relu2", "gelu_quick"],
        },
    ),
    Attention: (
        ATTENTION,
        {
            "layer": [],  # it is a name: see the next test
            "heads": [2],
            "kv_heads": [1],
            "head_dim": [],  # it follows from the inputs' width and the heads
            "scale": [0.1],
            "rope": [None, *ROPES[2:]],
            "window": [1, 3],
            "chunk": [2, 5],
            "value_dim": [3],
            "value_of_key": [True],
            "rope_offset": [],  # it needs a rope of half a head: see below
            "q_norm": head_norms("hs"),
            "k_norm": head_norms("ks"),
            "temperature": [Temperature(0.5, 2), Temperature(0.3, 2), Temperature(0.5, 3), Temperature(0.5, 2, 1)],
            "softcap": [0.5, 2.0],
            "sinks": [Weight("sinks.weight", "vector"), Weight("sinks2.weight", "vector")],
            "v_norm": head_norms("ks")[:-2],
            "ahead": [],  # see test_rows_of_a_span_see_each_other_where_they_look_ahead
            "shared": [],  # it has one input: see test_a_layer_that_reads_the_cache_of_another
        },
    ),
    Route: (
        {
            "experts": 8,
            "used": 2,
            "gating": "softmax",
            "normalize": True,
            "scale": 1.0,
            "selection": None,
            "groups": 1,
            "groups_used": 1,
        },
        {
            "experts": [],  # it follows from the input's width
            "used": [1, 3],
            "gating": ["sigmoid", "softmax_of_chosen"],
            "normalize": [False],
            "scale": [2.0],
            "selection": [Weight("p.bias", "vector"), Weight("q.bias", "vector")],
            "groups": [2, 4],
            "groups_used": [],  # it needs several groups: see the next test
            "factors": [Weight("p.bias", "vector"), Weight("q.bias", "vector")],
        },
    ),
    GluExperts: (
        {
            "weights": (STACK["s"], STACK["t"]),
            "biases": (None, None),
            "used": 2,
            "act": "silu",
            "weighted_input": False,
        },
        {
            "weights": [
                (STACK["t"], STACK["s"]),
                (STACK["s"], STACK["u"]),
                tuple(Weight("fused_s.weight", "stack", (i, i + 16)) for i in (0, 16)),
            ],
            "biases": [
                (BIASES["s"], None),
                (None, BIASES["s"]),
                (BIASES["t"], BIASES["s"]),
                (Weight("fused_s.bias", "vector", (16, 32)), None),
            ],
            "used": [],  # it follows from the routing's width
            "act": ["gelu", "gelu_erf", "clamped", "relu2", "gelu_quick"],
            "weighted_input": [True],
        },
    ),
    ActExperts: (
        {"weights": (STACK["s"],), "biases": (None,), "used": 2, "act": "silu"},
        {
            "weights": [(STACK["t"],), (Weight("fused_s.weight", "stack", (16, 32)),)],
            "biases": [(BIASES["s"],), (BIASES["t"],)],
            "used": [],
            "act": ["gelu", "gelu_erf", "relu2", "gelu_quick"],
        },
    ),
    Experts: (
        {"weights": (STACK["s"],), "biases": (None,), "used": 2, "weighted": True},
        {
            "weights": [(STACK["t"],), (Weight("fused_s.weight", "stack", (32, 48)),)],
            "biases": [(BIASES["s"],), (BIASES["t"],)],
            "used": [],
            "weighted": [False],
        },
    ),
    HeadLinear: (
        {"weight": Weight("heads.weight", "stack"), "heads": 2, "head_dim": 8, "cols": 6},
        {
            "weight": [Weight("heads2.weight", "stack"), Weight("heads3.weight", "stack", (5, 10))],
            "heads": [],
            "head_dim": [],
            "cols": [],
        },  # the weight's shape
    ),
    Concat: ({"cols": (16, 16)}, {"cols": []}),
    SigmoidGate: (
        {"weight": Weight("n.weight", "vector"), "cols": 16},
        {"weight": [Weight("m.weight", "vector")], "cols": []},
    ),
    ShortConv: (
        {"weight": Weight("conv.weight", "vector"), "layer": 0, "width": 16, "taps": 3, "gated": False},
        {
            "weight": [Weight("conv2.weight", "vector")],
            "layer": [],
            "width": [],
            "taps": [],
            "gated": [True],
            "bias": [BIAS["e"], BIAS["f"]],
        },
    ),  # width and taps are the weight's shape
    DeltaNet: (
        {
            "decay": Weight("falls.weight", "vector"),
            "step": Weight("h.weight", "vector"),
            "norm": Weight("dn.weight", "vector"),
            "eps": 1e-5,
            "layer": 0,
            "heads": 4,
            "key_heads": 2,
            "key_dim": 2,
            "value_dim": 2,
            "grouped": False,
        },
        {
            "decay": [Weight("sinks.weight", "vector")],
            "step": [Weight("sinks2.weight", "vector")],
            "norm": [Weight("dn2.weight", "vector")],
            "eps": [0.5],
            "layer": [],
            "heads": [],  # this and what follows is told by the width of the input
            "key_heads": [],
            "key_dim": [],
            "value_dim": [],
            "grouped": [True],
        },
    ),
    SsmScan: (
        {
            "decay": Weight("falls.weight", "vector"),
            "bias": Weight("h.weight", "vector"),
            "skip": Weight("steps.weight", "vector"),
            "layer": 0,
            "heads": 4,
            "groups": 2,
            "state_dim": 2,
            "head_dim": 2,
        },
        {
            "decay": [Weight("sinks.weight", "vector")],
            "bias": [Weight("sinks2.weight", "vector")],
            "skip": [Weight("sinks2.weight", "vector")],
            "layer": [],
            "heads": [],  # this and what follows is told by the width of the input
            "groups": [],
            "state_dim": [],
            "head_dim": [],
        },
    ),
    Gate: (
        {"act": "silu", "cols": 48, "first": 0, "width": 16},
        {
            "act": ["gelu", "gelu_erf", "sigmoid", "clamped", "relu2", "gelu_quick"],
            "cols": [],
            "first": [1, 32],
            "width": [],
        },
    ),
    SplitHeads: ({"heads": 4, "head_dim": 2}, {"heads": [], "head_dim": []}),  # see the test of halves
    BidirectionalAttention: (
        BOTH_WAYS,
        {
            "heads": [2],
            "kv_heads": [1],
            "head_dim": [],
            "scale": [0.1],
            "rope": [None, *ROPES[2:]],
            "by_time": [True],
        },
    ),
}
"""The usual fields of each op, and for each field the other values that it may have."""
