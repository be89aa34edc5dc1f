"""What an architecture is traced with: a method for each operation."""

from __future__ import annotations

from llamaq.plan.operands import HeadNorm, Norm, Temperature, Value
from llamaq.plan.ops.act_experts import TracesActExperts
from llamaq.plan.ops.act_linear import TracesActLinear
from llamaq.plan.ops.add_given import TracesAddGiven
from llamaq.plan.ops.attention import TracesAttention
from llamaq.plan.ops.bidirectional_attention import TracesBidirectionalAttention
from llamaq.plan.ops.choose import TracesChoose
from llamaq.plan.ops.clamp import TracesClamp
from llamaq.plan.ops.concat import TracesConcat
from llamaq.plan.ops.cross_attention import TracesCrossAttention
from llamaq.plan.ops.delta_net import TracesDeltaNet
from llamaq.plan.ops.embed import TracesEmbed
from llamaq.plan.ops.experts import TracesExperts
from llamaq.plan.ops.gate import TracesGate
from llamaq.plan.ops.given import TracesGiven
from llamaq.plan.ops.glu_experts import TracesGluExperts
from llamaq.plan.ops.glu_linear import TracesGluLinear
from llamaq.plan.ops.head_linear import TracesHeadLinear
from llamaq.plan.ops.linear import TracesLinear
from llamaq.plan.ops.merge_rows import TracesMergeRows
from llamaq.plan.ops.norm import TracesNorm
from llamaq.plan.ops.positions import TracesPositions
from llamaq.plan.ops.route import TracesRoute
from llamaq.plan.ops.select_rows import TracesSelectRows
from llamaq.plan.ops.short_conv import TracesShortConv
from llamaq.plan.ops.sigmoid_gate import TracesSigmoidGate
from llamaq.plan.ops.split_heads import TracesSplitHeads
from llamaq.plan.ops.ssm_scan import TracesSsmScan
from llamaq.plan.ops.standardize import TracesStandardize
from llamaq.plan.plan import Plan, make_plan

__all__ = ["Graph", "HeadNorm", "Norm", "Plan", "Temperature", "Value"]


class Graph(
    TracesActExperts,
    TracesActLinear,
    TracesAddGiven,
    TracesAttention,
    TracesBidirectionalAttention,
    TracesChoose,
    TracesClamp,
    TracesConcat,
    TracesCrossAttention,
    TracesDeltaNet,
    TracesEmbed,
    TracesExperts,
    TracesGate,
    TracesGiven,
    TracesGluExperts,
    TracesGluLinear,
    TracesHeadLinear,
    TracesLinear,
    TracesMergeRows,
    TracesNorm,
    TracesPositions,
    TracesRoute,
    TracesSelectRows,
    TracesShortConv,
    TracesSigmoidGate,
    TracesSplitHeads,
    TracesSsmScan,
    TracesStandardize,
):
    """Records the ops that an architecture function calls, and checks every shape on the way.

    It is made from ``shapes``: full tensor names to (rows, cols) or (n,), as in ``TensorInfo.shape``. Weights are
    named without ".weight"; the bias of a linear weight is added where the file has ``name.bias``.
    Every method raises ``ModelError`` for a tensor that is missing or does not fit.
    """

    def plan(self, out: Value) -> Plan:
        """The plan that ends with ``out``."""
        return make_plan(self.traced, out)
